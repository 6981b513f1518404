package loop_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
	"hasten/learn/loop"
	"hasten/learn/optim"
	"hasten/learn/schedule"
)

// fit is a small task: to fit y = x·Wᵀ + b through a dropout, on batches of 4
// whose numbers are drawn from the batch's number, three to an epoch.
type fit struct {
	w, b   *grad.Param
	params []*grad.Param
	next   int // number of the next batch
	within int // batches of the epoch given out
	x, y   tensor.Tensor
	rows   []float32
	err    error // what Next returns at batch failAt
	failAt int
}

const (
	fitIn, fitOut = 6, 3
	epoch         = 3
)

func newFit(a *memory.Arena) *fit {
	f := &fit{
		w: grad.NewParam(a, "w", fitOut, fitIn), b: grad.NewParam(a, "b", fitOut),
		x: tensor.New(4, fitIn), y: tensor.New(4, fitOut), rows: make([]float32, 4), failAt: -1,
	}
	f.params = []*grad.Param{f.w, f.b}
	s := rng.New(1, 1)
	s.FillNormal(f.w.Data, 0, 1)
	return f
}

func (f *fit) Params() []*grad.Param { return f.params }

func (f *fit) EpochItems() int64 { return 4 * epoch }

func (f *fit) Next() (int, error) {
	if f.next == f.failAt {
		return 0, f.err
	}
	if f.within == epoch {
		f.within = 0
		return 0, io.EOF
	}
	s := rng.New(2, uint64(f.next))
	s.FillNormal(f.x.Data, 0, 1)
	s.FillNormal(f.y.Data, 0, 1)
	f.next++
	f.within++
	return 4, nil
}

func (f *fit) Loss(t *grad.Tape) (*grad.Var, []float32, error) {
	h := grad.Linear(t, grad.Dropout(t, t.Input(f.x), 0.25), f.w.Var, f.b.Var)
	d := grad.Square(t, grad.Sub(t, h, t.Input(f.y)))
	for r := range f.rows {
		f.rows[r] = 0
		for _, x := range d.Row(r) {
			f.rows[r] += x
		}
	}
	return grad.Mean(t, d), f.rows, nil
}

func (f *fit) Position() (json.RawMessage, error) { return json.Marshal([]int{f.next, f.within}) }

func (f *fit) Seek(p json.RawMessage) error {
	var at [2]int
	if err := json.Unmarshal(p, &at); err != nil {
		return err
	}
	f.next, f.within = at[0], at[1]
	return nil
}

// newLoop is a run of so many steps.
func newLoop(steps int) (*loop.Loop, *fit) {
	a := new(memory.Arena)
	f := newFit(a)
	return &loop.Loop{
		Task: f, Optimizer: optim.NewAdamW(), Schedule: &schedule.Cosine{},
		Arena: a, Seed: 7, Budget: loop.Budget{Steps: steps},
	}, f
}

func run(t *testing.T, l *loop.Loop) {
	t.Helper()
	if err := l.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestEvents holds the order in which hooks are called.
func TestEvents(t *testing.T) {
	l, _ := newLoop(3)
	l.Accumulate, l.EvaluateEvery, l.CheckpointEvery = 2, 2, 2
	l.Evaluate = func(*loop.State) (float64, error) { return 1, nil }
	var got []string
	for e, name := range []string{"epoch", "batch", "forward", "loss", "backward", "step", "stepped", "evaluated", "save"} {
		l.On(loop.Event(e), func(s *loop.State) error {
			switch loop.Event(e) {
			case loop.EpochStart:
				name = fmt.Sprint("epoch", s.Epoch)
			case loop.AfterStep, loop.AfterEvaluate, loop.SaveCheckpoint:
				name = fmt.Sprint(strings.TrimRight(name, "0123456789"), s.Step)
			}
			got = append(got, name)
			return nil
		})
	}
	l.On(loop.AfterStep, func(*loop.State) error { got = append(got, "second"); return nil })
	run(t, l)
	const batch = " batch forward loss backward"
	want := "epoch1" + batch + batch + " step stepped1 second" +
		batch + " epoch2" + batch + " step stepped2 second evaluated2 save2" +
		batch + batch + " step stepped3 second evaluated3"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

// TestState holds what hooks can read at each event.
func TestState(t *testing.T) {
	l, f := newLoop(4)
	l.Accumulate, l.Clip = 2, 0.01
	var batches []float64
	l.On(loop.BatchReady, func(s *loop.State) error {
		if s.Items != 4 || s.Progress != float64(s.Step)/4 {
			t.Errorf("step %d: %d items, progress %v", s.Step, s.Items, s.Progress)
		}
		return nil
	})
	l.On(loop.AfterLoss, func(s *loop.State) error {
		sum := 0.0
		for _, x := range s.PerSample {
			sum += float64(x)
		}
		if mean := sum / 4 / fitOut; math.Abs(mean-s.BatchLoss) > 1e-6 || s.LossWeight != 0.5 || s.Tape == nil {
			t.Errorf("samples' mean %v, batch loss %v, weight %v", mean, s.BatchLoss, s.LossWeight)
		}
		batches = append(batches, s.BatchLoss)
		return nil
	})
	l.On(loop.BeforeStep, func(s *loop.State) error {
		want := optim.NewAdamW().LR * (&schedule.Cosine{}).Factor(schedule.Progress{Step: s.Step, Done: float64(s.Step) / 4})
		if s.LR != want || s.GradScale != 0.01/s.GradNorm || s.GradScale >= 1 {
			t.Errorf("step %d: rate %v, want %v; norm %v, scale %v", s.Step, s.LR, want, s.GradNorm, s.GradScale)
		}
		return nil
	})
	l.On(loop.AfterStep, func(s *loop.State) error {
		n := len(batches)
		if s.Step != n/2 || s.Seen != int64(8*s.Step) || s.Loss != (batches[n-1]+batches[n-2])/2 || s.Progress != float64(s.Step)/4 {
			t.Errorf("after step %d: %+v", s.Step, *s)
		}
		if s.StepTime <= 0 || s.Trained < s.StepTime {
			t.Errorf("step %d took %v of %v", s.Step, s.StepTime, s.Trained)
		}
		return nil
	})
	run(t, l)
	if f.next != 8 || l.State.Step != 4 || l.State.Epoch != 3 {
		t.Errorf("%d batches, %d steps, %d epochs", f.next, l.State.Step, l.State.Epoch)
	}
}

// TestRandomNumbers holds that the numbers drawn on the tape are others in every
// step, go on through its batches, and depend on the seed.
func TestRandomNumbers(t *testing.T) {
	seen := map[rng.Stream]bool{}
	for _, seed := range []uint64{7, 8} {
		l, _ := newLoop(3)
		l.Accumulate, l.Seed = 2, seed
		l.On(loop.BeforeForward, func(s *loop.State) error {
			if seen[s.Tape.Rand] {
				t.Errorf("seed %d, step %d: numbers come again", seed, s.Step)
			}
			seen[s.Tape.Rand] = true
			return nil
		})
		run(t, l)
	}
	if len(seen) != 12 {
		t.Errorf("%d places in random streams, want 12", len(seen))
	}
}

// TestHooksChangeTheStep weighs batches, replaces the rate and the scale, and
// compares with the arithmetic of plain gradient descent.
func TestHooksChangeTheStep(t *testing.T) {
	l, f := newLoop(1)
	l.Optimizer, l.Schedule, l.Accumulate = &optim.SGD{LR: 1}, nil, 2
	before := slices.Clone(f.w.Data)
	weights := []float64{0.25, -3}
	var grads [][]float32 // of both batches, as added
	l.On(loop.AfterLoss, func(s *loop.State) error {
		s.LossWeight = weights[len(grads)]
		return nil
	})
	l.On(loop.AfterBackward, func(*loop.State) error {
		grads = append(grads, slices.Clone(f.w.Grad))
		return nil
	})
	l.On(loop.BeforeStep, func(s *loop.State) error {
		if s.LR != 1 || s.GradScale != 1 {
			t.Errorf("rate %v, scale %v", s.LR, s.GradScale)
		}
		s.LR, s.GradScale = 0.5, 0.1
		return nil
	})
	run(t, l)

	single := func(batch int) []float32 { // the gradient of one batch alone, of weight 1
		k, g := newLoop(1)
		k.Optimizer, k.Accumulate = &optim.SGD{}, 2
		var out []float32
		k.On(loop.AfterLoss, func(s *loop.State) error {
			s.LossWeight = 0
			if g.next == batch+1 {
				s.LossWeight = 1
			}
			return nil
		})
		k.On(loop.BeforeStep, func(*loop.State) error { out = slices.Clone(g.w.Grad); return nil })
		run(t, k)
		return out
	}
	one, two := single(0), single(1)
	for i := range before {
		g := weights[0]*float64(one[i]) + weights[1]*float64(two[i])
		if math.Abs(float64(grads[1][i])-g) > 1e-5 {
			t.Fatalf("gradient %d is %v, want %v", i, grads[1][i], g)
		}
		if want := float64(before[i]) - 0.5*0.1*g; math.Abs(float64(f.w.Data[i])-want) > 1e-6 {
			t.Fatalf("weight %d is %v, want %v", i, f.w.Data[i], want)
		}
	}
}

// TestBudget ends runs by each of the limits.
func TestBudget(t *testing.T) {
	never := func(*loop.State) (float64, error) { return 5, nil }
	for _, c := range []struct {
		name  string
		b     loop.Budget
		set   func(l *loop.Loop)
		steps int
	}{
		{"steps", loop.Budget{Steps: 5}, func(*loop.Loop) {}, 5},
		{"steps taken before count", loop.Budget{Steps: 5}, func(l *loop.Loop) { l.State.Step = 3 }, 2},
		{"time is up", loop.Budget{Time: time.Minute}, func(l *loop.Loop) { l.State.Trained = time.Minute }, 0},
		{"time is up before the steps", loop.Budget{Steps: 5, Time: time.Minute}, func(l *loop.Loop) { l.State.Trained = time.Hour }, 0},
		{"time comes to an end", loop.Budget{Time: time.Minute}, func(l *loop.Loop) {
			l.On(loop.AfterStep, func(s *loop.State) error { s.Trained += 25 * time.Second; return nil })
		}, 3},
		{"steps come before the time", loop.Budget{Steps: 2, Time: time.Hour}, func(l *loop.Loop) { l.Evaluate = never }, 2},
		{"target", loop.Budget{Target: 1}, func(l *loop.Loop) {
			l.EvaluateEvery = 2
			l.Evaluate = func(s *loop.State) (float64, error) { return 7 - float64(s.Step), nil }
		}, 6},
		{"target not reached", loop.Budget{Steps: 4, Target: 1}, func(l *loop.Loop) { l.EvaluateEvery, l.Evaluate = 1, never }, 4},
		{"stop", loop.Budget{}, func(l *loop.Loop) {
			l.On(loop.AfterLoss, func(s *loop.State) error {
				if s.Step == 2 {
					return fmt.Errorf("enough: %w", loop.ErrStop)
				}
				return nil
			})
		}, 3}, // the third step is finished
	} {
		t.Run(c.name, func(t *testing.T) {
			l, f := newLoop(0)
			l.Budget = c.b
			c.set(l)
			run(t, l)
			if f.next != c.steps {
				t.Errorf("%d steps, want %d", f.next, c.steps)
			}
			if stop := c.b == (loop.Budget{}); l.Finished() == stop {
				t.Errorf("finished: %v", l.Finished())
			}
		})
	}
}

// asked is a schedule that notes what it is asked.
type asked struct{ p []schedule.Progress }

func (a *asked) Factor(p schedule.Progress) float64 { a.p = append(a.p, p); return 1 }

// TestProgress holds what schedules are told: under a budget of steps the
// share before each step, under one of time the share of the time, and under
// both the larger.
func TestProgress(t *testing.T) {
	for _, c := range []struct {
		b    loop.Budget
		want []float64
	}{
		{loop.Budget{Steps: 4}, []float64{0, 0.25, 0.5, 0.75}},
		{loop.Budget{Time: 4 * time.Hour}, []float64{0, 0.25, 0.5, 0.75}},
		{loop.Budget{Steps: 3, Time: 8 * time.Hour}, []float64{0, 1. / 3, 2. / 3}},
		{loop.Budget{Steps: 100, Time: 2 * time.Hour}, []float64{0, 0.5}},
	} {
		l, _ := newLoop(0)
		var a asked
		l.Schedule, l.Budget = &a, c.b
		l.On(loop.BeforeStep, func(s *loop.State) error { s.Trained += time.Hour; return nil })
		run(t, l)
		if len(a.p) != len(c.want) {
			t.Fatalf("%+v: %d steps, want %d", c.b, len(a.p), len(c.want))
		}
		for i, p := range a.p {
			if p.Epochs != float64(i)/epoch {
				t.Errorf("step %d begins after %v epochs", i, p.Epochs)
			}
			if p.Step != i || math.Abs(p.Done-c.want[i]) > 1e-4 { // the steps' own time counts too
				t.Errorf("%+v: step %d begins at %+v, want %v", c.b, i, p, c.want[i])
			}
		}
	}
}

// unsized is a task that does not tell how long an epoch is.
type unsized struct{ loop.Task }

// TestEpochsMustBeKnown refuses a schedule that counts what cannot be counted.
func TestEpochsMustBeKnown(t *testing.T) {
	for half, wrong := range map[float64]bool{0: false, 2: true} {
		l, f := newLoop(2)
		s := schedule.NewCLR()
		s.Half = half
		l.Task, l.Schedule = unsized{f}, s
		if err := l.Run(context.Background()); (err != nil) != wrong {
			t.Errorf("half a cycle of %v epochs, of unknown length: %v", half, err)
		}
	}
}

// TestBoundsMustBeKnown refuses a schedule that waits for a range test.
func TestBoundsMustBeKnown(t *testing.T) {
	l, _ := newLoop(2)
	s := schedule.NewCLR()
	s.Auto = true
	l.Schedule = s
	if err := l.Run(context.Background()); err == nil || l.State.Step != 0 {
		t.Errorf("%v after %d steps", err, l.State.Step)
	}
	s.SetBounds(schedule.Bounds{Lo: 0.1, Hi: 1}, l.Optimizer.Rate())
	l, _ = newLoop(2)
	l.Schedule = s
	run(t, l)
}

// TestCheckpointTime asks for a checkpoint whenever two hours of training have
// gone by.
func TestCheckpointTime(t *testing.T) {
	l, _ := newLoop(7)
	l.CheckpointTime = 2 * time.Hour
	var at []int
	l.On(loop.BeforeStep, func(s *loop.State) error { s.Trained += 50 * time.Minute; return nil })
	l.On(loop.SaveCheckpoint, func(s *loop.State) error { at = append(at, s.Step); return nil })
	run(t, l)
	if want := []int{3, 6}; !slices.Equal(at, want) {
		t.Errorf("saved after steps %v, want %v", at, want)
	}
}

// TestCancel ends between steps, and Run goes on from there.
func TestCancel(t *testing.T) {
	l, f := newLoop(6)
	ctx, cancel := context.WithCancel(context.Background())
	l.On(loop.BeforeForward, func(s *loop.State) error {
		if s.Step == 3 {
			cancel()
		}
		return nil
	})
	if err := l.Run(ctx); err != nil || l.State.Step != 4 || l.Finished() {
		t.Fatalf("%v, %d steps, finished %v", err, l.State.Step, l.Finished())
	}
	run(t, l)
	whole, g := newLoop(6)
	run(t, whole)
	if !slices.Equal(f.w.Data, g.w.Data) {
		t.Error("weights differ from those of the unbroken run")
	}
}

// TestErrors ends the run with the error that a hook, the data or the task
// gives, before the weights move.
func TestErrors(t *testing.T) {
	bad := errors.New("something is wrong")
	fail := func(*loop.State) error { return bad }
	for _, e := range []loop.Event{loop.EpochStart, loop.BatchReady, loop.BeforeForward, loop.AfterLoss, loop.AfterBackward, loop.BeforeStep} {
		l, f := newLoop(3)
		before := slices.Clone(f.w.Data)
		l.On(e, fail)
		if err := l.Run(context.Background()); err != bad || l.State.Step != 0 || !slices.Equal(f.w.Data, before) {
			t.Errorf("event %d: %v after %d steps", e, err, l.State.Step)
		}
	}
	l, f := newLoop(9)
	f.failAt, f.err = 2, bad
	if err := l.Run(context.Background()); err != bad || l.State.Step != 2 {
		t.Errorf("data: %v after %d steps", err, l.State.Step)
	}
	l, f = newLoop(9)
	f.failAt, f.err = 0, io.EOF
	if err := l.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "no batch") {
		t.Errorf("empty data: %v", err)
	}
	l, _ = newLoop(1)
	l.Evaluate = func(*loop.State) (float64, error) { return 0, bad }
	if err := l.Run(context.Background()); err != bad {
		t.Errorf("evaluation: %v", err)
	}
}

// TestDiverged puts bad numbers everywhere, and reads what the error says.
func TestDiverged(t *testing.T) {
	nan := float32(math.NaN())
	at := func(l *loop.Loop, e loop.Event, step int, do func()) {
		l.On(e, func(s *loop.State) error {
			if s.Step == step {
				do()
			}
			return nil
		})
	}
	for _, c := range []struct {
		name string
		set  func(l *loop.Loop, f *fit)
		want loop.Diverged
		text string
	}{
		{"loss", func(l *loop.Loop, f *fit) {
			at(l, loop.BatchReady, 2, func() { f.y.Data[0] = nan; f.w.Data[5] = -1e6 })
		}, loop.Diverged{Step: 3, What: "loss", Param: "w", Max: 1e6}, "step 3: the loss (the largest weight is 1e+06, in w) is not a finite number; "},
		{"infinite loss", func(l *loop.Loop, f *fit) {
			at(l, loop.BatchReady, 0, func() { f.b.Data[1] = 1e25 })
		}, loop.Diverged{Step: 1, What: "loss", Param: "b", Max: float64(float32(1e25))}, "in b)"},
		{"weight", func(l *loop.Loop, f *fit) {
			at(l, loop.BatchReady, 1, func() { f.b.Data[1] = nan })
		}, loop.Diverged{Step: 2, What: "loss", Param: "b"}, "(nor are the weights of b)"},
		{"gradient", func(l *loop.Loop, f *fit) {
			at(l, loop.AfterBackward, 1, func() { f.b.Grad[2] = nan })
		}, loop.Diverged{Step: 2, What: "gradient", Param: "b"}, "step 2: the gradient of b is not a finite number; go on from the last checkpoint"},
		{"infinite gradient", func(l *loop.Loop, f *fit) {
			at(l, loop.AfterBackward, 0, func() { f.w.Grad[2] = float32(math.Inf(-1)) })
		}, loop.Diverged{Step: 1, What: "gradient", Param: "w"}, "learning rate (now 0.001)"},
		{"evaluation", func(l *loop.Loop, f *fit) {
			l.Evaluate = func(*loop.State) (float64, error) { return math.NaN(), nil }
			l.EvaluateEvery = 2
		}, loop.Diverged{Step: 2, What: "validation loss", Param: "w"}, "step 2: the validation loss (the largest weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, f := newLoop(9)
			l.Schedule = nil
			c.set(l, f)
			err := l.Run(context.Background())
			var d *loop.Diverged
			if !errors.As(err, &d) {
				t.Fatalf("error %v", err)
			}
			c.want.LR = 1e-3
			if c.name == "evaluation" {
				c.want.Max = d.Max
			}
			if *d != c.want {
				t.Errorf("got  %+v\nwant %+v", *d, c.want)
			}
			if text := err.Error(); !strings.Contains(text, c.text) || strings.Contains(text, "\n") {
				t.Errorf("%q does not say %q", text, c.text)
			}
			if d.What == "gradient" && !slices.ContainsFunc(f.w.Data, func(x float32) bool { return x != 0 }) {
				t.Error("weights were lost")
			}
		})
	}
}

// TestNothingFromTheHeap counts what steps allocate after the first ones, and
// reads from the arena what a run takes. It has one thread: with more, steps as
// short as these are over before the other threads have heard of them, and the
// pool keeps a record of each until they have.
func TestNothingFromTheHeap(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l, _ := newLoop(60)
	l.Accumulate, l.Clip = 2, 1
	var before, after runtime.MemStats
	l.On(loop.AfterStep, func(s *loop.State) error {
		switch s.Step {
		case 10:
			runtime.ReadMemStats(&before)
		case 60:
			runtime.ReadMemStats(&after)
		}
		return nil
	})
	run(t, l)
	if n := after.Mallocs - before.Mallocs; n > 2 { // the runtime's own, now and then
		t.Errorf("%d allocations in 50 steps", n)
	}
	use := l.Arena.Usage()
	const floats = 32 + 16 // w and b, in whole cache lines
	for k, want := range map[memory.Kind]int64{memory.Weights: 4 * floats, memory.Gradients: 4 * floats, memory.Optimizer: 8 * floats, memory.Activations: 0, memory.Workspace: 0} {
		if use.Live[k] != want {
			t.Errorf("%v: %d bytes live after the run, want %d", k, use.Live[k], want)
		}
	}
	if use.Peak[memory.Activations] == 0 || use.PeakTotal < use.LiveTotal {
		t.Errorf("peaks %+v", use)
	}
}

// TestZeroLoop has only what must be set.
func TestZeroLoop(t *testing.T) {
	f := newFit(new(memory.Arena))
	l := &loop.Loop{Task: f, Optimizer: &optim.SGD{LR: 0.1}, Budget: loop.Budget{Steps: 2}}
	run(t, l)
	if l.State.LR != 0.1 || l.Arena != memory.Default {
		t.Errorf("rate %v", l.State.LR)
	}
}
