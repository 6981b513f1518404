package average_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"hasten/engine/atomicfile"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
	"hasten/learn/average"
	"hasten/learn/loop"
	"hasten/learn/optim"
	"hasten/model/format"
	"hasten/model/format/safetensors"
)

// fit is a small task: to fit y = x·Wᵀ + b on batches drawn from their number,
// epoch of them to an epoch.
type fit struct {
	params []*grad.Param
	next   int
	ended  int
	x, y   tensor.Tensor
}

const epoch = 3

// newLoop is a run of so many steps of the task, evaluated after each by the
// sum of its weights.
func newLoop(steps int) (*loop.Loop, *fit) {
	a := new(memory.Arena)
	f := &fit{
		params: []*grad.Param{grad.NewParam(a, "w", 16, 10), grad.NewParam(a, "b", 32)},
		x:      tensor.New(4, 10), y: tensor.New(4, 16),
	}
	for i, p := range f.params {
		s := rng.New(1, uint64(i))
		s.FillNormal(p.Data, 0, 1)
	}
	l := &loop.Loop{Task: f, Optimizer: &optim.SGD{LR: 0.3, Momentum: 0.5}, Arena: a, Seed: 7, Budget: loop.Budget{Steps: steps}, EvaluateEvery: 1}
	l.Evaluate = func(*loop.State) (float64, error) { return f.sum(), nil }
	return l, f
}

func (f *fit) sum() float64 {
	sum := 0.0
	for _, p := range f.params {
		for _, x := range p.Data {
			sum += float64(x)
		}
	}
	return sum
}

func (f *fit) weights() []float32 { return slices.Concat(f.params[0].Data, f.params[1].Data) }

func (f *fit) Params() []*grad.Param { return f.params }
func (f *fit) EpochItems() int64     { return 4 * epoch }

func (f *fit) Next() (int, error) {
	if f.next/epoch > f.ended {
		f.ended++
		return 0, io.EOF
	}
	s := rng.New(2, uint64(f.next))
	s.FillNormal(f.x.Data, 0, 1)
	s.FillNormal(f.y.Data, 0, 1)
	f.next++
	return 4, nil
}

func (f *fit) Loss(t *grad.Tape) (*grad.Var, []float32, error) {
	h := grad.Linear(t, t.Input(f.x), f.params[0].Var, nil)
	b := grad.Mean(t, grad.Square(t, f.params[1].Var))
	return grad.Add(t, grad.MSE(t, h, t.Input(f.y)), b), nil, nil
}

func (f *fit) Position() (json.RawMessage, error) { return json.Marshal([]int{f.next, f.ended}) }

func (f *fit) Seek(p json.RawMessage) error {
	var at [2]int
	err := json.Unmarshal(p, &at)
	f.next, f.ended = at[0], at[1]
	return err
}

func run(t *testing.T, l *loop.Loop) {
	t.Helper()
	if err := l.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func attach(t *testing.T, l *loop.Loop, a average.Average) *average.Weights {
	t.Helper()
	w, err := average.Attach(l, a)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// row is one average under test, with the floats of memory it takes for each
// weight and the naive mean it promises: of the weights after each step.
type row struct {
	part    string
	options map[string]string
	floats  float64
	rel     float64 // rounding of what is stored
	naive   func(after [][]float32) []float64
}

var rows = []row{
	{part: "none", naive: func(after [][]float32) []float64 { return latest(after, 1, 1) }},
	{part: "lawa", floats: 6, naive: func(after [][]float32) []float64 { return latest(after, 6, epoch) }},
	{part: "lawa", options: map[string]string{"k": "4", "every": "2"}, floats: 4, naive: func(after [][]float32) []float64 { return latest(after, 4, 2) }},
	{part: "lawa", options: map[string]string{"k": "4", "every": "1", "store": "bf16"}, floats: 2, rel: 1. / 256, naive: func(after [][]float32) []float64 { return latest(after, 4, 1) }},
	{part: "ema", options: map[string]string{"decay": "0.9"}, floats: 1, naive: exponential},
}

// latest is the mean of the last k of every nth weights.
func latest(after [][]float32, k, every int) []float64 {
	var taken [][]float32
	for i := every; i <= len(after); i += every {
		taken = append(taken, after[i-1])
	}
	if len(taken) == 0 {
		taken = after[len(after)-1:]
	}
	taken = taken[max(0, len(taken)-k):]
	mean := make([]float64, len(after[0]))
	for _, x := range taken {
		for i := range mean {
			mean[i] += float64(x[i]) / float64(len(taken))
		}
	}
	return mean
}

func exponential(after [][]float32) []float64 {
	mean := make([]float64, len(after[0]))
	for t, x := range after {
		keep := min(0.9, (1+float64(t))/(10+float64(t)))
		if t == 0 {
			keep = 0
		}
		for i := range mean {
			mean[i] = keep*mean[i] + (1-keep)*float64(x[i])
		}
	}
	return mean
}

func (r row) build(t *testing.T) average.Average {
	t.Helper()
	a, err := average.Parts.Build(r.part, r.options)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func each(t *testing.T, test func(t *testing.T, r row)) {
	seen := map[string]bool{}
	for _, r := range rows {
		seen[r.part] = true
		t.Run(fmt.Sprint(r.part, r.options), func(t *testing.T) { test(t, r) })
	}
	for _, name := range average.Parts.Names() {
		if !seen[name] {
			t.Errorf("average=%s is not in the table of this test", name)
		}
	}
}

// TestMean compares with the naive mean after every one of 100 snapshots and
// more, and holds that the raw weights take the way they take without it.
func TestMean(t *testing.T) {
	const steps = 310
	plain, f := newLoop(steps)
	var after [][]float32
	plain.On(loop.AfterStep, func(*loop.State) error { after = append(after, f.weights()); return nil })
	run(t, plain)
	each(t, func(t *testing.T, r row) {
		l, f := newLoop(steps)
		w := attach(t, l, r.build(t))
		l.On(loop.AfterEvaluate, func(s *loop.State) error {
			if !slices.Equal(f.weights(), after[s.Step-1]) {
				t.Fatalf("step %d: the raw weights are others than without an average", s.Step)
			}
			naive := r.naive(after[:s.Step])
			sum := 0.0
			err := w.With(func() error {
				for i, x := range f.weights() {
					sum += float64(x)
					if d := math.Abs(float64(x) - naive[i]); !(d <= 1e-6+r.rel*math.Abs(naive[i])+r.rel*0.1) {
						t.Fatalf("step %d: mean weight %d is %v, want %v", s.Step, i, x, naive[i])
					}
				}
				return nil
			})
			if math.Abs(s.ValLoss-sum) > 1e-9 {
				t.Errorf("step %d: the evaluation saw the sum %v, the mean has %v", s.Step, s.ValLoss, sum)
			}
			return err
		})
		run(t, l)
	})
}

// TestResume stops after every step and goes on from a checkpoint: the mean
// must be that of the unbroken run, to the bit.
func TestResume(t *testing.T) {
	const steps = 8
	each(t, func(t *testing.T, r row) {
		mean := func(l *loop.Loop, f *fit, w *average.Weights) (x []float32) {
			run(t, l)
			w.With(func() error { x = f.weights(); return nil })
			return x
		}
		l, f := newLoop(steps)
		want := mean(l, f, attach(t, l, r.build(t)))
		for stop := range steps {
			first, _ := newLoop(stop)
			attach(t, first, r.build(t))
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			if stop > 0 {
				run(t, first)
			}
			dir := filepath.Join(t.TempDir(), "saved")
			if err := atomicfile.WriteDir(dir, first.Save); err != nil {
				t.Fatal(err)
			}
			l, f := newLoop(steps)
			w := attach(t, l, r.build(t))
			if err := l.Start(); err != nil {
				t.Fatal(err)
			}
			if err := l.Restore(dir); err != nil {
				t.Fatal(err)
			}
			if got := mean(l, f, w); !slices.Equal(got, want) {
				t.Errorf("stopped after step %d: another mean", stop)
			}
		}
	})
}

// TestMemory reads from the arena what an average takes.
func TestMemory(t *testing.T) {
	each(t, func(t *testing.T, r row) {
		l, f := newLoop(1)
		before := l.Arena.Usage().Live[memory.Weights]
		attach(t, l, r.build(t))
		if got, want := l.Arena.Usage().Live[memory.Weights]-before, int64(4*r.floats*float64(len(f.weights()))); got != want {
			t.Errorf("%d bytes for %d weights, want %d", got, len(f.weights()), want)
		}
	})
}

// TestObserveAllocatesNothing counts allocations of a step, and of an
// evaluation's exchange of weights.
func TestObserveAllocatesNothing(t *testing.T) {
	each(t, func(t *testing.T, r row) {
		l, _ := newLoop(4)
		a := r.build(t)
		w := attach(t, l, a)
		run(t, l)
		s := l.State
		nothing := func() error { return nil }
		if n := testing.AllocsPerRun(20, func() {
			s.Step++
			s.Epochs++
			a.Observe(&s)
			w.With(nothing)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// unsized is a task that does not tell how long an epoch is.
type unsized struct{ loop.Task }

// TestEpochsMustBeKnown refuses snapshots at moments that cannot be told.
func TestEpochsMustBeKnown(t *testing.T) {
	for every, wrong := range map[int]bool{0: true, 5: false} {
		l, f := newLoop(1)
		l.Task = unsized{f}
		if _, err := average.Attach(l, &average.LAWA{K: 2, Every: every, Store: "f32"}); (err != nil) != wrong {
			t.Errorf("every %d steps, epochs of unknown length: %v", every, err)
		}
	}
}

// TestFiles averages files of several formats, and refuses files that do not
// belong together.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, seed uint64, dtype safetensors.DType, shapes map[string][]int) string {
		var entries []safetensors.Entry
		for n, shape := range shapes {
			x := make([]float32, shape[0]*shape[1])
			s := rng.New(seed, uint64(len(n)))
			s.FillNormal(x, 0, 1)
			entries = append(entries, safetensors.Entry{Name: n, DType: dtype, Shape: shape, Values: format.Of(x)})
		}
		path := filepath.Join(dir, name)
		if err := atomicfile.WriteFile(path, func(w io.Writer) error { return safetensors.Write(w, nil, entries) }); err != nil {
			t.Fatal(err)
		}
		return path
	}
	shapes := map[string][]int{"a": {300, 200}, "bb": {3, 1}}
	paths := []string{
		write("1", 1, safetensors.F32, shapes), write("2", 2, safetensors.BF16, shapes), write("3", 3, safetensors.F32, shapes),
	}
	out := filepath.Join(dir, "mean.safetensors")
	if err := average.Files(out, paths...); err != nil {
		t.Fatal(err)
	}
	read := func(path, name string) []float32 {
		r, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		x := make([]float32, shapes[name][0]*shapes[name][1])
		if err := r.ReadFloats(name, 0, x); err != nil {
			t.Fatal(err)
		}
		return x
	}
	for name := range shapes {
		got := read(out, name)
		x, y, z := read(paths[0], name), read(paths[1], name), read(paths[2], name)
		for i := range got {
			if want := (float64(x[i]) + float64(y[i]) + float64(z[i])) / 3; math.Abs(float64(got[i])-want) > 1e-6 {
				t.Fatalf("%s[%d] is %v, want %v", name, i, got[i], want)
			}
		}
	}
	for what, other := range map[string]string{
		"another shape":  write("4", 1, safetensors.F32, map[string][]int{"a": {200, 300}, "bb": {3, 1}}),
		"another tensor": write("5", 1, safetensors.F32, map[string][]int{"a": {300, 200}, "c": {3, 1}}),
		"no file":        filepath.Join(dir, "absent"),
	} {
		if err := average.Files(out, paths[0], other); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if err := average.Files(out); err == nil {
		t.Error("the mean of nothing")
	}
}
