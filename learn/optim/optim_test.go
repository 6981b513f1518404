package optim_test

import (
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
	"hasten/learn/optim"
	"hasten/learn/optim/ref"
)

// row is one optimiser under test, with the learning rates at which it solves
// the problems below. A new optimiser is one more row.
type row struct {
	part    string
	options map[string]string // over the defaults; weight decay is set to 0 besides
	floats  int               // of state for each parameter
	twin    func(optim.Optimizer) ref.Optimizer

	quadratic, rosenbrock, net float64 // learning rates
}

var rows = []row{
	{part: "adamw", twin: twinOf(ref.AdamW), floats: 2, quadratic: 0.2, rosenbrock: 0.05, net: 0.05},
	{part: "adan", twin: twinOf(ref.Adan), floats: 4, quadratic: 0.4, rosenbrock: 0.05, net: 0.05},
	{part: "adan", twin: twinOf(ref.Adan), options: map[string]string{"decoupled": "true", "restart": "40"}, floats: 4, quadratic: 0.2, rosenbrock: 0.05, net: 0.05},
	{part: "adan", twin: twinOf(ref.Adan), options: map[string]string{"plain": "true", "beta1": "0.9", "beta2": "0.9"}, floats: 4, quadratic: 0.2, rosenbrock: 5e-3, net: 0.5},
	{part: "sgd", twin: twinOf(ref.SGD), floats: 1, quadratic: 0.02, rosenbrock: 5e-4, net: 0.05},
	{part: "sgd", twin: twinOf(ref.SGD), options: map[string]string{"nesterov": "true"}, floats: 1, quadratic: 0.02, rosenbrock: 5e-4, net: 0.05},
	{part: "sgd", twin: twinOf(ref.SGD), options: map[string]string{"momentum": "0"}, floats: 0, quadratic: 0.1, rosenbrock: 1.8e-3, net: 0.15},
}

// twinOf makes a row's field of the twin of one type of optimiser.
func twinOf[O optim.Optimizer](twin func(O) ref.Optimizer) func(optim.Optimizer) ref.Optimizer {
	return func(o optim.Optimizer) ref.Optimizer { return twin(o.(O)) }
}

// name tells the row in the output of tests.
func (r row) name() string {
	name := r.part
	for _, k := range slices.Sorted(maps.Keys(r.options)) {
		name += "," + k + "=" + r.options[k]
	}
	return name
}

// build makes the row's optimiser, ready to update params.
func (r row) build(t *testing.T, a *memory.Arena, params []*grad.Param) optim.Optimizer {
	t.Helper()
	options := map[string]string{"decay": "0"}
	maps.Copy(options, r.options)
	o, err := optim.Parts.Build(r.part, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Init(a, params); err != nil {
		t.Fatal(err)
	}
	return o
}

// each runs a test over all rows, and fails if a part has none.
func each(t *testing.T, test func(t *testing.T, r row)) {
	seen := map[string]bool{}
	for _, r := range rows {
		seen[r.part] = true
		t.Run(r.name(), func(t *testing.T) { test(t, r) })
	}
	for _, name := range optim.Parts.Names() {
		if !seen[name] {
			t.Errorf("optim=%s is not in the table of this test", name)
		}
	}
}

// shapes are parameters of several kinds; one is longer than a chunk of work.
var shapes = [][]int{{7, 5}, {3}, {16384 + 37}, {1, 1}}

func newParams(a *memory.Arena, shapes [][]int, seed uint64) []*grad.Param {
	var params []*grad.Param
	for i, dims := range shapes {
		p := grad.NewParam(a, fmt.Sprintf("p%d", i), dims...)
		s := rng.New(seed, uint64(i))
		s.FillNormal(p.Data, 0, 1)
		params = append(params, p)
	}
	return params
}

// setGrads gives every parameter the gradient f(param, element).
func setGrads(params []*grad.Param, f func(p, i int) float64) {
	for k, p := range params {
		p.ZeroGrad()
		p.SettleGrad()
		for i := range p.Grad {
			p.Grad[i] = float32(f(k, i))
		}
	}
}

// randomGrads gives the parameters the gradients of step n of a run.
func randomGrads(params []*grad.Param, n int) {
	for i, p := range params {
		p.ZeroGrad()
		p.SettleGrad()
		s := rng.New(77, uint64(i)).Split(uint64(n))
		s.FillNormal(p.Grad, 0, 0.1)
	}
}

// copies are the values of all parameters, now.
func copies(params []*grad.Param) [][]float32 {
	var all [][]float32
	for _, p := range params {
		all = append(all, slices.Clone(p.Data))
	}
	return all
}

func same(t *testing.T, what string, got, want [][]float32) {
	t.Helper()
	for k := range want {
		for i := range want[k] {
			if math.Float32bits(got[k][i]) != math.Float32bits(want[k][i]) {
				t.Fatalf("%s: element %d of parameter %d is %v, want %v to the bit", what, i, k, got[k][i], want[k][i])
			}
		}
	}
}

// TestQuadratic minimises Σ aᵢ(xᵢ-bᵢ)²/2 with a from 1 to 10.
func TestQuadratic(t *testing.T) {
	each(t, func(t *testing.T, r row) {
		a := new(memory.Arena)
		params, goal := newParams(a, shapes, 1), newParams(a, shapes, 2)
		o := r.build(t, a, params)
		curvature := func(i int) float64 { return 1 + float64(i%10) }
		value := func() (f float64) {
			for k, p := range params {
				for i, x := range p.Data {
					d := float64(x) - float64(goal[k].Data[i])
					f += curvature(i) * d * d / 2
				}
			}
			return f
		}
		first := value()
		const steps = 200
		for n := 1; n <= steps; n++ {
			setGrads(params, func(p, i int) float64 {
				return curvature(i) * (float64(params[p].Data[i]) - float64(goal[p].Data[i]))
			})
			o.Step(optim.Step{N: n, LR: r.quadratic * (1 - float64(n-1)/steps), GradScale: 1})
		}
		if last := value(); !(last < 1e-4*first) {
			t.Errorf("from %.4g only to %.4g in %d steps", first, last, steps)
		}
	})
}

// TestRosenbrock goes down the curved valley (1-x)² + 100(y-x²)² to (1, 1).
func TestRosenbrock(t *testing.T) {
	each(t, func(t *testing.T, r row) {
		a := new(memory.Arena)
		p := grad.NewParam(a, "xy", 2)
		p.Data[0], p.Data[1] = -1.2, 1
		o := r.build(t, a, []*grad.Param{p})
		at := func() (x, y float64) { return float64(p.Data[0]), float64(p.Data[1]) }
		const steps = 10_000
		for n := 1; n <= steps; n++ {
			x, y := at()
			setGrads([]*grad.Param{p}, func(_, i int) float64 {
				return [2]float64{-2*(1-x) - 400*x*(y-x*x), 200 * (y - x*x)}[i]
			})
			o.Step(optim.Step{N: n, LR: r.rosenbrock * (1 - float64(n-1)/steps), GradScale: 1})
		}
		x, y := at()
		if f := (1-x)*(1-x) + 100*(y-x*x)*(y-x*x); !(f < 1e-3) {
			t.Errorf("after %d steps at (%.4f, %.4f), where the value is %.3g", steps, x, y, f)
		}
	})
}

// TestNet learns exclusive or with two layers on a tape.
func TestNet(t *testing.T) {
	x := tensor.From([]float32{0, 0, 0, 1, 1, 0, 1, 1}, 4, 2)
	y := tensor.From([]float32{0, 1, 1, 0}, 4, 1)
	each(t, func(t *testing.T, r row) {
		a := new(memory.Arena)
		params := newParams(a, [][]int{{8, 2}, {8}, {1, 8}, {1}}, 5)
		o := r.build(t, a, params)
		tape := grad.NewTape(a)
		var loss float64
		const steps = 1500
		for n := 1; n <= steps; n++ {
			for _, p := range params {
				p.ZeroGrad()
			}
			h := grad.Tanh(tape, grad.Linear(tape, tape.Input(x), params[0].Var, params[1].Var))
			l := grad.MSE(tape, grad.Linear(tape, h, params[2].Var, params[3].Var), tape.Input(y))
			loss = float64(l.Data[0])
			tape.Backward(l)
			tape.Reset()
			o.Step(optim.Step{N: n, LR: r.net * (1 - float64(n-1)/steps), GradScale: 1})
		}
		if !(loss < 0.01) {
			t.Errorf("loss %.4f after %d steps", loss, steps)
		}
	})
}

// TestZeroGradients holds that weights stay where no gradient ever was: under
// no gradient at all, also where none was computed since ZeroGrad, and in the
// rows of a matrix that no token touched.
func TestZeroGradients(t *testing.T) {
	each(t, func(t *testing.T, r row) {
		a := new(memory.Arena)
		params := newParams(a, [][]int{{100, 4}, {9}}, 3)
		before := copies(params)
		o := r.build(t, a, params)
		for n := 1; n <= 5; n++ {
			for _, p := range params {
				for i := range p.Grad {
					p.Grad[i] = 1e3 // left from a pass that ZeroGrad has ended
				}
				p.ZeroGrad()
			}
			o.Step(optim.Step{N: n, LR: 0.1, GradScale: 1})
		}
		same(t, "no gradient", copies(params), before)

		for n := 6; n <= 10; n++ {
			setGrads(params, func(p, i int) float64 {
				if p == 0 && i/4%10 == 0 {
					return 0.5
				}
				return 0
			})
			o.Step(optim.Step{N: n, LR: 0.1, GradScale: 1})
		}
		for i, x := range params[0].Data {
			touched := i/4%10 == 0
			if moved := x != before[0][i]; moved != touched {
				t.Fatalf("row %d: moved %v, has a gradient %v", i/4, moved, touched)
			}
			if math.IsNaN(float64(x)) {
				t.Fatalf("row %d is NaN", i/4)
			}
		}
	})
}

// TestResume goes on from weights and State alone, and must end where the
// unbroken run ends, to the bit.
func TestResume(t *testing.T) {
	each(t, func(t *testing.T, r row) {
		run := func(o optim.Optimizer, params []*grad.Param, from, to int) {
			for n := from; n <= to; n++ {
				randomGrads(params, n)
				o.Step(optim.Step{N: n, LR: 0.05, GradScale: 0.7})
			}
		}
		a := new(memory.Arena)
		params := newParams(a, shapes, 1)
		o := r.build(t, a, params)
		run(o, params, 1, 5)

		again := newParams(a, shapes, 9)
		p := r.build(t, a, again)
		for i := range params {
			copy(again[i].Data, params[i].Data)
		}
		names := map[string]bool{}
		for i, b := range o.State() {
			if names[b.Name] || p.State()[i].Name != b.Name {
				t.Errorf("buffer %q comes twice, or has another name the next time", b.Name)
			}
			names[b.Name] = true
			copy(p.State()[i].Data, b.Data)
		}
		run(o, params, 6, 10)
		run(p, again, 6, 10)
		same(t, "resumed", copies(again), copies(params))
	})
}

// TestThreads holds that the number of threads changes no bit.
func TestThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	each(t, func(t *testing.T, r row) {
		var want [][]float32
		for _, threads := range []int{1, 2, 3, 5} {
			runtime.GOMAXPROCS(threads)
			a := new(memory.Arena)
			params := newParams(a, shapes, 1)
			o := r.build(t, a, params)
			norms := optim.NewNorms(params)
			for n := 1; n <= 3; n++ {
				randomGrads(params, n)
				o.Step(optim.Step{N: n, LR: 0.05, GradScale: 1 / norms.Global()})
			}
			if want == nil {
				want = copies(params)
			}
			same(t, fmt.Sprintf("%d threads", threads), copies(params), want)
		}
	})
}

// TestStateBytes reads from the arena what the state takes.
func TestStateBytes(t *testing.T) {
	each(t, func(t *testing.T, r row) {
		a := new(memory.Arena)
		params := newParams(a, [][]int{{64, 48}, {16}}, 1)
		o := r.build(t, a, params)
		const floats = 64*48 + 16
		if got, want := a.Usage().Live[memory.Optimizer], int64(4*r.floats*floats); got != want {
			t.Errorf("%d bytes of state for %d parameters, want %d", got, floats, want)
		}
		listed := 0
		for _, b := range o.State() {
			listed += len(b.Data)
		}
		if listed != r.floats*floats {
			t.Errorf("State lists %d floats, want %d", listed, r.floats*floats)
		}
	})
}

// TestStepAllocatesNothing counts allocations of a step and of its norm.
func TestStepAllocatesNothing(t *testing.T) {
	each(t, func(t *testing.T, r row) {
		a := new(memory.Arena)
		params := newParams(a, shapes, 1)
		o := r.build(t, a, params)
		norms := optim.NewNorms(params)
		randomGrads(params, 1)
		n := 0
		step := func() {
			n++
			o.Step(optim.Step{N: n, LR: 1e-3, GradScale: 1 / norms.Global()})
		}
		step()
		if got := testing.AllocsPerRun(20, step); got != 0 {
			t.Errorf("%v allocations a step", got)
		}
	})
}

// TestExact holds every optimiser against its twin in float64, over steps with
// a changing rate, clipped gradients, and one parameter that decays (a matrix)
// beside one that does not (a vector). The weights are as large as those of a
// network, so that rounding stays far below the tolerance.
func TestExact(t *testing.T) {
	each(t, func(t *testing.T, r row) {
		a := new(memory.Arena)
		params := newParams(a, [][]int{{5, 7}, {19}}, 1)
		for _, p := range params {
			for i := range p.Data {
				p.Data[i] *= 0.1
			}
		}
		r.options = maps.Clone(r.options)
		if r.options == nil {
			r.options = map[string]string{}
		}
		r.options["decay"] = "0.3"
		o := r.build(t, a, params)
		twin, want := r.twin(o), ref.Tensors(params)
		start := copies(params)
		for n := 1; n <= 200; n++ {
			s := optim.Step{N: n, LR: 0.01 / math.Sqrt(float64(n)), GradScale: 0.25 * float64(n%4+1)}
			randomGrads(params, n)
			ref.Gradients(want, params)
			o.Step(s)
			twin.Step(want, s)
		}
		if d := ref.Difference(params, want); !(d <= 1e-6) {
			t.Errorf("after 200 steps a weight differs by %.2g", d)
		}
		for k, p := range params {
			if slices.Equal(p.Data, start[k]) {
				t.Errorf("parameter %d did not move", k)
			}
		}
	})
}

// TestNorms compares the norm with a float64 sum, and names a bad gradient.
func TestNorms(t *testing.T) {
	params := newParams(new(memory.Arena), shapes, 1)
	norms := optim.NewNorms(params)
	randomGrads(params, 1)
	var sum float64
	for _, p := range params {
		for _, g := range p.Grad {
			sum += float64(g) * float64(g)
		}
	}
	if got, want := norms.Global(), math.Sqrt(sum); math.Abs(got-want) > 1e-9*want {
		t.Errorf("norm %v, want %v", got, want)
	}
	if bad := norms.FirstBad(); bad != "" {
		t.Errorf("%s is said to be bad", bad)
	}
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		randomGrads(params, 1)
		params[2].Grad[16390] = float32(x)
		if norm := norms.Global(); !math.IsNaN(norm) && !math.IsInf(norm, 0) {
			t.Errorf("norm %v with a gradient of %v", norm, x)
		}
		if bad := norms.FirstBad(); bad != "p2" {
			t.Errorf("a gradient of %v in p2 is found in %q", x, bad)
		}
	}
}
