package grad_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

func (m *model) randoms(id uint64) [][]float32 {
	s := rng.New(77, id)
	var all [][]float32
	for _, p := range m.params {
		v := make([]float32, p.Len())
		s.FillNormal(v, 0, 1)
		all = append(all, v)
	}
	return all
}

func inner(a, b [][]float32) float64 {
	s := 0.0
	for i := range a {
		for j := range a[i] {
			s += float64(a[i][j]) * float64(b[i][j])
		}
	}
	return s
}

func (m *model) hvp(v [][]float32) [][]float32 {
	t := grad.NewTape(m.arena)
	t.Rand = rng.New(3, 3)
	return grad.HVP(t, m.loss, m.params, v)
}

func TestHessianProductOfAModel(t *testing.T) {
	m := newModel(3)
	m.dropout = 0.2
	m.step(grad.NewTape(m.arena))
	before := m.grads()
	live := m.arena.Usage().Live
	u, v := m.randoms(1), m.randoms(2)
	hu, hv := m.hvp(u), m.hvp(v)
	if a, b := inner(u, hv), inner(v, hu); math.Abs(a-b) > 1e-4*math.Sqrt(inner(u, u)*inner(hv, hv)) {
		t.Errorf("u·Hv = %v, v·Hu = %v", a, b)
	}
	sameBits(t, "gradients after HVP", m.grads(), before)
	if after := m.arena.Usage().Live; after != live {
		t.Errorf("live %v, before %v", after, live)
	}

	m.wrap = func(t *tape, x *val, s grad.Segment) *val { return t.Checkpoint(x, s) }
	sameBits(t, "with checkpoints", m.hvp(v), hv)
	m.wrap = func(t *tape, x *val, s grad.Segment) *val { return s(t, x) }

	// A part of the parameters: the same rows and columns of the Hessian.
	all, some := m.params, m.params[2:4]
	for i := range v {
		if i != 2 && i != 3 {
			clear(v[i])
		}
	}
	want := m.hvp(v)
	m.params = some
	got := m.hvp(v[2:4])
	m.params = all
	for i := range got {
		closeTo(t, "block of the Hessian", got[i], want[2+i])
	}
	sameBits(t, "gradients after HVP of a part", m.grads(), before)

	// Against differences of gradients: as good as float32 allows.
	v = m.randoms(2)
	shifted := func(h float32) [][]float32 {
		for i, p := range m.params {
			for j := range p.Data {
				p.Data[j] += h * v[i][j]
			}
		}
		m.step(grad.NewTape(m.arena))
		for i, p := range m.params {
			for j := range p.Data {
				p.Data[j] -= h * v[i][j]
			}
		}
		return m.grads()
	}
	const h = 1e-3
	up, down := shifted(h), shifted(-h)
	var diff float64
	for i := range hv {
		for j := range hv[i] {
			d := float64(up[i][j]-down[i][j])/(2*h) - float64(hv[i][j])
			diff += d * d
		}
	}
	if e := math.Sqrt(diff / inner(hv, hv)); e > 2e-3 {
		t.Errorf("relative distance from differences %.1e", e)
	}
}

func TestHessianOfAQuadratic(t *testing.T) {
	// loss = ½·xᵀAx with A = BᵀB: the Hessian is A.
	s := rng.New(4, 4)
	const n = 6
	b := tensor.New(n, n)
	s.FillNormal(b.Data, 0, 1)
	tp := grad.NewTape(new(memory.Arena))
	x := grad.NewParam(tp.Arena, "x", 1, n)
	s.FillNormal(x.Data, 0, 1)
	loss := func(t *tape) *val {
		return grad.Scale(t, grad.Sum(t, grad.Square(t, grad.Linear(t, x.Var, grad.Const(b), nil))), 0.5)
	}
	for i := range n {
		e := make([]float32, n)
		e[i] = 1
		hv := grad.HVP(tp, loss, []*grad.Param{x}, [][]float32{e})[0]
		for j := range n {
			want := 0.0
			for k := range n {
				want += float64(b.Row(k)[i]) * float64(b.Row(k)[j])
			}
			if math.Abs(float64(hv[j])-want) > 1e-5 {
				t.Errorf("H[%d,%d] = %v, want %v", i, j, hv[j], want)
			}
		}
	}
}

func TestHigherDerivatives(t *testing.T) {
	product := func(t *tape, x *val) *val {
		return grad.Mul(t, grad.Log(t, grad.AddScalar(t, grad.Square(t, x), 2)), grad.Tanh(t, x))
	}
	for _, c := range []struct {
		name string
		op   func(t *tape, x *val) *val
		f    func(float64) float64
	}{
		{"log(2+x²)·tanh x", product, func(x float64) float64 { return math.Log(2+x*x) * math.Tanh(x) }},
		{"SiLU", grad.SiLU, refSiLU},
		{"GELU", grad.GELU, refGELU},
		{"GELUTanh", grad.GELUTanh, refGELUTanh},
		{"Sigmoid", grad.Sigmoid, refSigmoid},
		{"Exp", grad.Exp, math.Exp},
		{"Pow", func(t *tape, x *val) *val { return grad.Pow(t, x, 5) }, func(x float64) float64 { return math.Pow(x, 5) }},
		{"1/(2+x)", func(t *tape, x *val) *val { return grad.Div(t, x, grad.AddScalar(t, x, 2)) },
			func(x float64) float64 { return x / (x + 2) }},
	} {
		tp := grad.NewTape(new(memory.Arena))
		x := grad.Leaf(tensor.From([]float32{-1.25, 0.25, 0.75}, 3))
		one := tp.Input(tensor.From([]float32{1, 1, 1}, 3))
		d := c.op(tp, x)
		for order := 1; order <= 4; order++ {
			x.Grad = make([]float32, 3)
			if order < 4 {
				d = grad.JVP(tp, d, []*val{x}, []*val{one})
			} else {
				tp.Backward(grad.Sum(tp, d))
			}
			for i, at := range x.Data {
				want := nthDerivative(c.f, float64(at), order)
				got := x.Grad[i]
				if order < 4 {
					got = d.Data[i]
				}
				if math.Abs(float64(got)-want) > 2e-5*max(1, math.Abs(want)) {
					t.Errorf("%s: derivative %d at %v is %v, want %v", c.name, order, at, got, want)
				}
			}
		}
		tp.Reset()
	}
}

// nthDerivative takes central differences of order 8, one after the other.
func nthDerivative(f func(float64) float64, x float64, n int) float64 {
	if n == 0 {
		return f(x)
	}
	const h = 0.03
	d := func(k float64) float64 { return nthDerivative(f, x+k*h, n-1) - nthDerivative(f, x-k*h, n-1) }
	return (4./5*d(1) - 1./5*d(2) + 4./105*d(3) - 1./280*d(4)) / h
}

func TestTangentOfInnerValues(t *testing.T) {
	// z and x move by themselves, though z was computed from x.
	tp := grad.NewTape(new(memory.Arena))
	x := grad.Leaf(tensor.From([]float32{0.5}, 1))
	z := grad.Square(tp, x)
	y := grad.Add(tp, grad.Exp(tp, z), x)
	in := func(v float32) *val { return tp.Input(tensor.From([]float32{v}, 1)) }
	d := grad.JVP(tp, y, []*val{x, z}, []*val{in(10), in(2)})
	if want := 2*math.Exp(0.25) + 10; math.Abs(float64(d.Data[0])-want) > 1e-5 {
		t.Errorf("tangent %v, want %v", d.Data[0], want)
	}
	if d := grad.JVP(tp, y, []*val{in(1)}, []*val{in(1)}); d.Data[0] != 0 {
		t.Errorf("tangent along a value that y does not depend on: %v", d.Data[0])
	}
}

func TestTangentsAreNotOverwritten(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	angles := grad.NewRotary(1, 2, 10)
	x := grad.Leaf(tensor.From([]float32{1, 2}, 1, 2))
	y := grad.Add(tp, grad.RoPE(tp, x, angles, 1, 1), grad.Scale(tp, x, 2))
	v := grad.Scale(tp, grad.Leaf(tensor.From([]float32{3, 4}, 1, 2)), 1)                    // the tape's own
	if d := grad.JVP(tp, y, []*val{x}, []*val{v}); !slices.Equal(d.Data, []float32{9, 12}) { // position 0: no turn
		t.Errorf("tangent %v", d.Data)
	}
}

// A gradient penalty (‖∇ₓD(x)‖-1)² by two passes: the first finds ∇ₓD, the
// second the derivative in the weights of D's tangent along the penalty's
// gradient.
func TestGradientPenalty(t *testing.T) {
	s := rng.New(6, 6)
	tp := grad.NewTape(new(memory.Arena))
	w := grad.NewParam(tp.Arena, "w", 5, 4)
	s.FillNormal(w.Data, 0, 0.5)
	x := tensor.New(1, 4)
	s.FillNormal(x.Data, 0, 1)
	d := func(x *val) *val { return grad.Sum(tp, grad.SiLU(tp, grad.Linear(tp, x, w.Var, nil))) }

	leaf := grad.Leaf(x)
	tp.Backward(d(leaf))
	tp.Reset()
	norm := 0.0
	for _, g := range leaf.Grad {
		norm += float64(g) * float64(g)
	}
	norm = math.Sqrt(norm)
	v := tensor.New(1, 4) // 2·(‖g‖-1)·g/‖g‖
	for i, g := range leaf.Grad {
		v.Data[i] = float32(2 * (norm - 1) / norm * float64(g))
	}
	w.ZeroGrad()
	leaf = grad.Leaf(x)
	tp.Backward(grad.JVP(tp, d(leaf), []*val{leaf}, []*val{tp.Input(v)}))
	tp.Reset()

	penalty := func(w []float64) float64 {
		sq := 0.0
		for j := range 4 {
			g := 0.0
			for i := range 5 {
				z := 0.0
				for k := range 4 {
					z += w[4*i+k] * float64(x.Data[k])
				}
				sg := refSigmoid(z)
				g += (sg + z*sg*(1-sg)) * w[4*i+j]
			}
			sq += g * g
		}
		return (math.Sqrt(sq) - 1) * (math.Sqrt(sq) - 1)
	}
	at := make([]float64, 20)
	for i, v := range w.Data {
		at[i] = float64(v)
	}
	for i := range at {
		old := at[i]
		at[i] = old + 1e-5
		up := penalty(at)
		at[i] = old - 1e-5
		want := (up - penalty(at)) / 2e-5
		at[i] = old
		if math.Abs(float64(w.Grad[i])-want) > 1e-5 {
			t.Errorf("derivative in weight %d is %v, want %v", i, w.Grad[i], want)
		}
	}
}

func TestOperationsWithoutARuleAreNamed(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	p := grad.NewParam(tp.Arena, "p", 2)
	loss := func(t *tape) *val {
		y := t.New(p.Shape)
		copy(y.Data, p.Data)
		t.Record(y, ruleless, p.Var)
		return grad.Sum(t, y)
	}
	got := panics(func() { grad.HVP(tp, loss, []*grad.Param{p}, [][]float32{{1, 1}}) })
	if want := "grad_test.ruleless has no rule for second derivatives"; !strings.Contains(got, want) {
		t.Errorf("panic %q, want %q", got, want)
	}
}

func ruleless(n *grad.Node) { n.PassGrad(0) }

func ExampleHVP() {
	// The loss Σ x⁴/12 has the Hessian diag(x²).
	tape := grad.NewTape(new(memory.Arena))
	x := grad.NewParam(tape.Arena, "x", 3)
	copy(x.Data, []float32{1, 2, 3})
	hv := grad.HVP(tape, func(t *grad.Tape) *grad.Var {
		return grad.Scale(t, grad.Sum(t, grad.Pow(t, x.Var, 4)), 1./12)
	}, []*grad.Param{x}, [][]float32{{1, 1, 1}})
	fmt.Println(slices.Concat(hv...))
	// Output: [1 4 9]
}
