// Package gradtest proves operations of package grad against a plain float64
// function. The reference is differenced, not the operation: its gradient is
// then known far better than float32 can hold, and what is left is the
// operation's own rounding. Start with Check:
//
//	gradtest.Check(t, gradtest.Case{
//		Name:   "square",
//		Shapes: [][]int{{5, 7}},
//		Op:     func(t *grad.Tape, in []*grad.Var) *grad.Var { return square(t, in[0]) },
//		Ref:    func(in [][]float64) []float64 { … },
//	})
package gradtest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

// Case is an operation and its reference.
type Case struct {
	Name   string
	Shapes [][]int // of the inputs
	Op     func(t *grad.Tape, in []*grad.Var) *grad.Var
	Ref    func(in [][]float64) []float64 // the same in float64, on flat slices

	Low, High float64 // inputs are drawn from this interval; both 0: [-2, 2)
	Tol       float64 // error allowed, relative to the largest value; 0: 3e-6

	InPlace  bool // the operation may take over its input, which then cannot be read again
	NoSecond bool // the operation has no rule for second derivatives
}

// Check holds against the reference: the value; the gradient of every input,
// into fresh and into used buffers, of leaves and of values on the tape, all
// together and each alone; the tangent, and the product of the Hessian with a
// vector. It checks as well that Reset leaves no buffer behind.
func Check(t *testing.T, c Case) {
	t.Run(c.Name, func(t *testing.T) {
		k := newChecker(c)
		k.value(t)
		k.leaves(t)
		k.inner(t)
		k.alone(t)
		if !c.NoSecond {
			k.tangent(t)
			k.hessian(t)
		}
		if live := k.tape.Arena.Usage().LiveTotal; live != 0 {
			t.Errorf("%d bytes live after Reset", live)
		}
	})
}

type checker struct {
	Case
	in   [][]float64 // inputs; each is a float32
	want []float64   // value there
	cot  []float64   // the loss is Σ cot·y
	grad [][]float64 // of the loss
	tape *grad.Tape
}

func newChecker(c Case) *checker {
	if c.Low == 0 && c.High == 0 {
		c.Low, c.High = -2, 2
	}
	if c.Tol == 0 {
		c.Tol = 3e-6
	}
	k := &checker{Case: c, tape: grad.NewTape(new(memory.Arena))}
	for i, s := range c.Shapes {
		k.in = append(k.in, random(uint64(i), tensor.Of(s...).Len(), c.Low, c.High))
	}
	k.want = c.Ref(k.in)
	k.cot = random(100, len(k.want), -1, 1)
	k.grad = gradient(k.loss, k.in)
	return k
}

// random draws float64 values that are float32 values.
func random(id uint64, n int, lo, hi float64) []float64 {
	s := rng.New(1, id)
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(float32(lo + (hi-lo)*s.Float64()))
	}
	return x
}

func (k *checker) loss(in [][]float64) float64 { return dot(k.cot, k.Ref(in)) }

// bent is a loss that is curved in the operation's output too.
func (k *checker) bent(in [][]float64) float64 {
	y := k.Ref(in)
	return dot(k.cot, y) + dot(y, y)/2
}

func dot(x, y []float64) float64 {
	s := 0.0
	for i := range x {
		s += x[i] * y[i]
	}
	return s
}

// gradient differences f in every input, to fourth order.
func gradient(f func([][]float64) float64, in [][]float64) [][]float64 {
	const h = 1e-3
	g := make([][]float64, len(in))
	for i, x := range in {
		g[i] = make([]float64, len(x))
		for j, old := range x {
			at := func(d float64) float64 { x[j] = old + d; return f(in) }
			g[i][j] = (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
			x[j] = old
		}
	}
	return g
}

// along is the derivative of a vector function in direction v, to fourth order.
func along(f func([][]float64) []float64, in, v [][]float64) []float64 {
	const h = 1e-3
	at := func(d float64) []float64 {
		moved := make([][]float64, len(in))
		for i := range in {
			moved[i] = slices.Clone(in[i])
			for j := range moved[i] {
				moved[i][j] += d * v[i][j]
			}
		}
		return slices.Clone(f(moved))
	}
	a, b, c, d := at(h), at(-h), at(2*h), at(-2*h)
	for i := range a {
		a[i] = (8*(a[i]-b[i]) - (c[i] - d[i])) / (12 * h)
	}
	return a
}

func (k *checker) start() {
	k.tape.Reset()
	k.tape.Rand = rng.New(9, 9)
}

func to32(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

func (k *checker) leafs() []*grad.Var {
	vars := make([]*grad.Var, len(k.in))
	for i, x := range k.in {
		vars[i] = grad.Leaf(tensor.From(to32(x), k.Shapes[i]...))
	}
	return vars
}

// near compares values with their reference.
func (k *checker) near(t *testing.T, what string, got []float32, want []float64, times float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	size := 1e-3
	for _, w := range want {
		size = max(size, math.Abs(w))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= times*k.Tol*size) {
			t.Errorf("%s: element %d is %v, want %v (off by %.1e of %.3g)", what, i, got[i], w, d/size, size)
			return
		}
	}
}

func (k *checker) value(t *testing.T) {
	t.Helper()
	k.start()
	defer k.tape.Reset()
	vars := k.leafs()
	k.tape.NoGrad(func() {
		y := k.Op(k.tape, vars)
		k.near(t, "value", y.Data, k.want, 1)
		if y.Wanted() {
			t.Error("recorded under NoGrad")
		}
	})
	for i, v := range vars {
		if !slices.Equal(v.Data, to32(k.in[i])) {
			t.Errorf("input %d was changed", i)
		}
	}
}

// leaves runs the backward pass into fresh gradients, then onto them.
func (k *checker) leaves(t *testing.T) {
	t.Helper()
	vars := k.leafs()
	for pass := 1; pass <= 2; pass++ {
		k.start()
		k.tape.SetGrad(k.Op(k.tape, vars), to32(k.cot))
		k.tape.BackwardFrom()
		for i, v := range vars {
			want := slices.Clone(k.grad[i])
			for j := range want {
				want[j] *= float64(pass)
			}
			k.near(t, fmt.Sprintf("pass %d: gradient of input %d", pass, i), v.Grad, want, 1)
		}
		k.tape.Reset()
	}
}

// inner takes inputs that are values on the tape: read by the operation alone,
// and then also by one recorded after it, so that their gradients exist when
// the operation adds to them.
func (k *checker) inner(t *testing.T) {
	t.Helper()
	for _, again := range []bool{false, true} {
		if again && k.InPlace {
			continue
		}
		k.start()
		vars := k.leafs()
		on := make([]*grad.Var, len(vars))
		for i, v := range vars {
			on[i] = grad.Scale(k.tape, v, 1)
		}
		y := k.Op(k.tape, on)
		want := make([][]float64, len(vars))
		for i := range vars {
			want[i] = slices.Clone(k.grad[i])
			if again {
				extra := random(200+uint64(i), len(k.in[i]), -1, 1)
				k.tape.SetGrad(grad.Scale(k.tape, on[i], 2), to32(extra))
				for j := range extra {
					want[i][j] += 2 * extra[j]
				}
			}
		}
		k.tape.SetGrad(y, to32(k.cot))
		k.tape.BackwardFrom()
		for i, v := range vars {
			k.near(t, fmt.Sprintf("used again %v: gradient of inner input %d", again, i), v.Grad, want[i], 1)
		}
		k.tape.Reset()
	}
}

// alone asks for the gradient of one input at a time.
func (k *checker) alone(t *testing.T) {
	t.Helper()
	for i := range k.in {
		k.start()
		vars := k.leafs()
		for j := range vars {
			if j != i {
				vars[j] = grad.Const(vars[j].Tensor)
			}
		}
		k.tape.SetGrad(k.Op(k.tape, vars), to32(k.cot))
		k.tape.BackwardFrom()
		k.near(t, fmt.Sprintf("gradient of input %d alone", i), vars[i].Grad, k.grad[i], 1)
		k.tape.Reset()
	}
}

func (k *checker) direction(id uint64) [][]float64 {
	v := make([][]float64, len(k.in))
	for i, x := range k.in {
		v[i] = random(id+uint64(i), len(x), -1, 1)
	}
	return v
}

// tangent moves all inputs, then each alone.
func (k *checker) tangent(t *testing.T) {
	t.Helper()
	for one := -1; one < len(k.in); one++ {
		k.start()
		v := k.direction(300)
		vars := k.leafs()
		at, dirs := []*grad.Var{}, []*grad.Var{}
		for i := range v {
			if one >= 0 && i != one {
				clear(v[i])
				continue
			}
			at = append(at, vars[i])
			dirs = append(dirs, k.tape.Input(tensor.From(to32(v[i]), k.Shapes[i]...)))
		}
		d := grad.JVP(k.tape, k.Op(k.tape, vars), at, dirs)
		k.near(t, fmt.Sprintf("tangent (%d)", one), d.Data, along(k.Ref, k.in, v), 4)
		k.tape.Reset()
	}
}

// hessian checks H·v for the loss Σ cot·y + y²/2.
func (k *checker) hessian(t *testing.T) {
	t.Helper()
	k.start()
	v := k.direction(400)
	params, v32 := []*grad.Param{}, [][]float32{}
	for i, x := range k.leafs() {
		params = append(params, &grad.Param{Var: x, Name: fmt.Sprint(i)})
		v32 = append(v32, to32(v[i]))
	}
	hv := grad.HVP(k.tape, func(t *grad.Tape) *grad.Var {
		in := make([]*grad.Var, len(params))
		for i, p := range params {
			in[i] = p.Var
		}
		y := k.Op(t, in)
		c := t.Input(tensor.From(to32(k.cot), y.Dims()...))
		return grad.Sum(t, grad.Mul(t, y, grad.Add(t, c, grad.Scale(t, y, 0.5))))
	}, params, v32)

	flat := func(in [][]float64) []float64 { return slices.Concat(gradient(k.bent, in)...) }
	want := along(flat, k.in, v)
	for i := range hv {
		k.near(t, fmt.Sprintf("Hessian product of input %d", i), hv[i], want[:len(hv[i])], 8)
		want = want[len(hv[i]):]
	}
}
