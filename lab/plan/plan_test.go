package plan

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hasten/engine/rng"
	"hasten/scale/law"
	"hasten/task/lm"
	"hasten/task/recipe"
)

func TestShapes(t *testing.T) {
	last := 0.0
	for n := 8e3; n < 1e9; n *= 1.1 {
		s := ShapeOf(n)
		if off := s.Weights() / n; off < 0.65 || off > 1.55 {
			t.Errorf("%v for %v weights has %v", s, n, s.Weights())
		}
		if s.Weights() < last {
			t.Errorf("%v weights: fewer than for less", n)
		}
		last = s.Weights()
		if s.Dim%s.Heads != 0 || s.Dim/s.Heads%2 != 0 || s.Dim/s.Heads < 16 || s.Dim/s.Heads > 64 {
			t.Errorf("%+v: the heads", s)
		}
		if s.Layers > 2 && (s.Dim < 24*s.Layers || s.Dim > 48*s.Layers) {
			t.Errorf("%+v: too deep or too wide", s)
		}
	}
}

// text is data for a ladder: lines of a few made-up words.
func text(t *testing.T) string {
	s := rng.New(5, 5)
	words := strings.Fields("when the gradient grows less than noise would larger batches help and smaller ones waste")
	var b strings.Builder
	for range 6000 {
		b.WriteString(words[s.IntN(len(words))])
		b.WriteString(" \n"[s.IntN(2):][:1])
	}
	name := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(name, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

func options(t *testing.T) Options {
	return Options{
		Recipe: "lm-xs", Settings: []string{"data=" + text(t), "tokenizer=bytes", "model.ctx=16", "batch=4", "evaluate.windows=8"},
		Shapes: []Shape{NewShape(2, 16), NewShape(2, 32), NewShape(2, 48)}, Steps: 48, Seed: 1,
	}
}

// TestLadder holds that N is what it says, that rates differ by size, and that
// plans come from what was measured.
func TestLadder(t *testing.T) {
	o := options(t)
	l, err := Climb(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Rungs) != 3 || l.Windows != 4 || l.Batch != 64 || len(l.Timings) != 5 || len(l.Noise) != Evaluations {
		t.Fatalf("%+v", l)
	}
	for _, r := range l.Rungs {
		if r.N != r.Weights() {
			t.Errorf("%v has %v weights outside the embeddings, by its shape %v", r.Shape, r.N, r.Weights())
		}
		if len(r.Points) != Evaluations || r.Points[Evaluations-1].S != float64(o.StepsOf(r.Shape)) || r.Points[Evaluations-1].Loss != r.Loss {
			t.Errorf("%+v", r.Points)
		}
		if r.Rate != l.Rates.At(r.N) {
			t.Errorf("a rate of %v", r.Rate)
		}
	}
	if a, b, c := o.StepsOf(o.Shapes[0]), o.StepsOf(o.Shapes[1]), o.StepsOf(o.Shapes[2]); a <= b || b <= c || c != 48 {
		t.Errorf("%d, %d and %d steps", a, b, c)
	}
	if n := len(l.Points()); n != 3*Evaluations-1 {
		t.Errorf("%d points without the warm-up's", n)
	}
	m, err := Fit(l)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Time(2)
	if err != nil {
		t.Fatal(err)
	}
	if c.Seconds > 2 || c.Seconds < 1 || c.Interval.Lo > c.Interval.Hi || c.Rate <= 0 {
		t.Errorf("%+v", c)
	}
	if !c.Overfits && c.Batch*c.Steps > l.Tokens {
		t.Errorf("%v tokens of %v seen, and no warning", c.Batch*c.Steps, l.Tokens)
	}
	report := Report{Budget: 3, Model: m, Choice: c, Train: c.train(o)}
	var b strings.Builder
	if err := report.Write(&b); err != nil || !strings.Contains(b.String(), "L(N,S) =") || !strings.Contains(b.String(), report.Train) {
		t.Error(b.String(), err)
	}
	// The command's settings make the model that was chosen.
	r, err := recipe.Open("gpt")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Split(report.Train, " --set ")[1:] {
		if err := r.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(report.Train, "--set batch="); n != 1 {
		t.Errorf("%s: the batch is set %d times", report.Train, n)
	}
	if s, err := lm.Resolve(r); err != nil || s.Model.Dim != c.Dim || s.Model.Layers != c.Layers || s.Model.Hidden != c.Hidden || s.Batch != c.Windows {
		t.Errorf("%s: %+v, %v", report.Train, s, err)
	}
}

// planted is a ladder whose losses and times follow laws.
func planted() (*Ladder, law.Laws, Throughput) {
	laws := law.Laws{Size: law.SizeSteps{Nc: 1e7, AlphaN: 0.15, Sc: 300, AlphaS: 0.6}, Batch: law.Batch{Star: 2e5, AlphaB: 0.25}}
	speed := Throughput{Step: 1e-3, Token: 2e-6, Weight: 3e-11}
	l := &Ladder{Steps: 800, Batch: 2048, Windows: 16, Tokens: 1e9, Rates: Rates{A: -5}}
	for n := 25e3; n < 5e5; n *= 2 {
		s := ShapeOf(n)
		r := Rung{Shape: s, N: s.Weights(), Step: speed.Seconds(s.Weights(), 2048)}
		for steps := 100.0; steps <= 800; steps += 100 {
			loss := laws.Loss(r.N, steps, 2048)
			r.Points = append(r.Points, law.Point{N: r.N, S: steps, Loss: loss})
			l.Noise = append(l.Noise, Noise{loss, laws.Batch.Critical(loss)})
		}
		l.Rungs = append(l.Rungs, r)
		for _, batch := range []float64{512, 2048, 8192} {
			l.Timings = append(l.Timings, Timing{r.N, batch, speed.Seconds(r.N, batch)})
		}
	}
	return l, laws, speed
}

// TestPlanted recovers laws and throughput, and plans as one who knows them.
func TestPlanted(t *testing.T) {
	l, laws, speed := planted()
	m, err := Fit(l)
	if err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want, share float64) {
		t.Helper()
		if !(math.Abs(got/want-1) <= share) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("αN", m.Laws.Size.AlphaN, 0.15, 0.02)
	near("αS", m.Laws.Size.AlphaS, 0.6, 0.02)
	near("αB", m.Laws.Batch.AlphaB, 0.25, 0.02)
	near("seconds of a step", m.Throughput.Step, speed.Step, 1e-6)
	near("seconds of a token", m.Throughput.Token, speed.Token, 1e-6)
	near("seconds of a weight", m.Throughput.Weight, speed.Weight, 1e-6)

	c, err := m.Time(300)
	if err != nil {
		t.Fatal(err)
	}
	near("the loss", c.Loss, laws.Loss(c.N, c.Steps, c.Batch), 0.002)
	near("the time", c.Seconds, 300, 0.01)
	for _, batch := range []float64{512, 1024, 2048, 4096, 8192} {
		for n := 5e4; n < 4e6; n *= 1.2 {
			if other := laws.Loss(n, 300/speed.Seconds(n, batch), batch); other < c.Loss*0.998 {
				t.Errorf("%v weights, batch %v: %v, planned %v weights, batch %v: %v", n, batch, other, c.N, c.Batch, c.Loss)
			}
		}
	}
	if c.Overfits {
		t.Error("with a thousand million tokens")
	}
	if size, _ := m.stretch(&Choice{Choice: law.Choice{N: 2 * l.Rungs[4].N, Steps: 1, Batch: 1, Loss: 1}}); math.Abs(size-2) > 1e-9 {
		t.Errorf("twice the largest size is stretched %v times", size)
	}
	last := l.Rungs[0].Points[7] // the highest loss after so many steps, so the largest Smin
	if _, steps := m.stretch(&Choice{Choice: law.Choice{N: 1, Steps: 3 * last.S, Batch: l.Batch, Loss: last.Loss}}); math.Abs(steps-3) > 1e-9 {
		t.Errorf("three times the steps are stretched %v times", steps)
	}
	near("the early stop", c.Stop, 1.1*c.Converged, 1e-12)

	const flops = 2e13
	if c, err = m.Compute(flops); err != nil {
		t.Fatal(err)
	}
	near("arithmetic of two products backward for one forward", 6*c.N*c.Batch*c.Steps, flops, 0.001)
	l.Tokens = 1e5
	if c, err = m.Compute(flops); err != nil || !c.Overfits {
		t.Errorf("%v tokens for %v weights: %v, %v", l.Tokens, c.N, c.Overfits, err)
	}
	if _, err := m.Compute(1); err == nil {
		t.Error("a budget of one operation")
	}
}

// TestRates has rates that fall with size.
func TestRates(t *testing.T) {
	r := Rates{A: math.Log(0.1), B: -0.25}
	if got := r.At(1e4); math.Abs(got-0.01) > 1e-12 {
		t.Errorf("%v, want 0.01", got)
	}
}

func TestVertex(t *testing.T) {
	f := func(x float64) float64 { return 2 + 0.3*(x-1.2)*(x-1.2) }
	if v := vertex(map[int]float64{0: f(0), 1: f(1), 2: f(2)}, 1); math.Abs(v-0.2) > 1e-12 {
		t.Errorf("%v, want 0.2", v)
	}
	if v := vertex(map[int]float64{1: 2, 2: math.Inf(1), 0: 3}, 1); v != 0 {
		t.Errorf("beside a run that diverged: %v", v)
	}
}

func TestRefusals(t *testing.T) {
	ctx := context.Background()
	for setting, want := range map[string]string{
		"model=gpt2": "model=llama", "mixer=flash": "mixer=attention", "data.fraction=0": "validation data",
	} {
		o := options(t)
		o.Settings = append(o.Settings, setting)
		if _, err := Climb(ctx, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", setting, err)
		}
	}
	o := options(t)
	o.Shapes = o.Shapes[:2]
	if _, err := Climb(ctx, o); err == nil {
		t.Error("two rungs")
	}
	o = options(t)
	o.Shapes = nil
	if _, err := Make(ctx, time.Millisecond, 0.2, o); !errors.Is(err, ErrBudget) {
		t.Errorf("a millisecond: %v", err)
	}
}
