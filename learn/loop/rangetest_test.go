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
