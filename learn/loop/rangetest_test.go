package loop_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"hasten/learn/loop"
	"hasten/learn/optim"
)

// TestRangeTest rises from almost nothing to a rate at which plain descent
// diverges; the curve has its points where they were asked for.
func TestRangeTest(t *testing.T) {
	l, _ := newLoop(3)
	l.Optimizer = &optim.SGD{LR: 0.5}
	l.Evaluate = func(*loop.State) (float64, error) { return 0, errors.New("not wanted") }
	c, err := loop.RangeTest{Top: 1e3, Steps: 200, Points: 40}.Run(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Rates) != 40 || len(c.Scores) != 40 {
		t.Fatalf("%d rates, %d scores", len(c.Rates), len(c.Scores))
	}
	for i, rate := range c.Rates {
		if want := 1e3 * float64(i+1) / 40; math.Abs(rate-want) > 1e-9 {
			t.Errorf("point %d is at %v, want %v", i, rate, want)
		}
	}
	if !math.IsNaN(c.Scores[39]) || math.IsNaN(c.Scores[0]) || c.Scores[0] > 0 {
		t.Errorf("scores %v", c.Scores)
	}
}

// TestRangeTestScore asks for the score at each point, and passes its error on.
func TestRangeTestScore(t *testing.T) {
	l, _ := newLoop(0)
	var at []int
	score := func(s *loop.State) (float64, error) { at = append(at, s.Step); return float64(s.Step), nil }
	c, err := loop.RangeTest{Top: 0.01, Steps: 50, Points: 12, Score: score}.Run(context.Background(), l)
	if err != nil || len(c.Scores) != 12 || at[11] != 50 {
		t.Fatalf("%v, scored at %v", err, at)
	}
	for i, step := range at {
		if c.Scores[i] != float64(step) {
			t.Errorf("score %d is %v, want %v", i, c.Scores[i], step)
		}
	}
	bad := errors.New("something is wrong")
	l, _ = newLoop(0)
	if _, err := (loop.RangeTest{Top: 1, Steps: 20, Points: 20, Score: func(*loop.State) (float64, error) { return 0, bad }}).Run(context.Background(), l); err != bad {
		t.Errorf("error %v", err)
	}
	l, _ = newLoop(0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (loop.RangeTest{Top: 1, Steps: 20, Points: 20}).Run(ctx, l); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

// TestRangeTestSearch goes higher until the score turns, and says what that took.
func TestRangeTestSearch(t *testing.T) {
	tests := 0
	fresh := func(r *loop.RangeTest) (*loop.Loop, error) {
		l, _ := newLoop(0)
		tests++
		r.Score = func(s *loop.State) (float64, error) { return min(s.LR, 1.0) - max(0, 5*(s.LR-1.5)), nil }
		return l, nil
	}
	b, c, steps, err := loop.RangeTest{Top: 0.5, Steps: 40, Points: 40}.Search(context.Background(), 5, fresh)
	if err != nil || tests != 3 || steps != 40+80+160 || math.Abs(b.Hi-1.5) > 0.05+1e-9 || c.Rates[39] != 2 {
		t.Errorf("%+v after %d tests of %d steps: %v", b, tests, steps, err)
	}
	if _, _, _, err := (loop.RangeTest{Top: 0.5, Steps: 40, Points: 40}).Search(context.Background(), 2, fresh); err == nil {
		t.Error("two tests are said to be enough")
	}
}
