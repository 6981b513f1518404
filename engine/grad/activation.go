package grad

import (
	"fmt"
	"math"

	"hasten/engine/par"
	"hasten/engine/simd"
)

// unary is a function of one variable and its backward: dx = dy·f'(x).
type unary struct {
	forward  func(dst, x []float32)
	backward func(dx, x, dy []float32)
}

// The functions an operation can name; Node.Ints[0] holds the index.
var unaries = [...]unary{
	relu:      {simd.ReLU, simd.ReLUBackward},
	silu:      {simd.SiLU, simd.SiLUBackward},
	geluTanh:  {simd.GELUTanh, simd.GELUTanhBackward},
	geluErf:   {simd.GELUErf, simd.GELUErfBackward},
	tanh:      {simd.Tanh, tanhBackward},
	sigmoid:   {simd.Sigmoid, sigmoidBackward},
	exp:       {simd.Exp, expBackward},
	log:       {simd.Log, logBackward},
	normalCDF: {normalCDFForward, normalCDFBackward},
}

const (
	relu = iota
	silu
	geluTanh
	geluErf
	tanh
	sigmoid
	exp
	log
	normalCDF
)

// ReLU computes max(x, 0).
func ReLU(t *Tape, x *Var) *Var { return apply(t, x, relu, reluTangent) }

// SiLU computes x·σ(x).
func SiLU(t *Tape, x *Var) *Var { return apply(t, x, silu, siluTangent) }

// GELUTanh computes the tanh form of GELU, the one of GPT-2.
func GELUTanh(t *Tape, x *Var) *Var { return apply(t, x, geluTanh, geluTanhTangent) }

// GELU computes x·Φ(x), with the error function.
func GELU(t *Tape, x *Var) *Var { return apply(t, x, geluErf, geluTangent) }

// Tanh computes the hyperbolic tangent.
func Tanh(t *Tape, x *Var) *Var { return apply(t, x, tanh, tanhTangent) }

// Sigmoid computes 1/(1+e⁻ˣ).
func Sigmoid(t *Tape, x *Var) *Var { return apply(t, x, sigmoid, sigmoidTangent) }

// Exp computes eˣ.
func Exp(t *Tape, x *Var) *Var { return apply(t, x, exp, expTangent) }

// Log computes the natural logarithm of x > 0.
func Log(t *Tape, x *Var) *Var { return apply(t, x, log, logTangent) }

// phi computes Φ(x), the normal distribution function.
func phi(t *Tape, x *Var) *Var { return apply(t, x, normalCDF, phiTangent) }

// The backward functions below get f(x) again from x: values are cheaper to
// compute than to keep.

func tanhBackward(dx, x, dy []float32) {
	simd.Tanh(dx, x)
	for i, y := range dx {
		dx[i] = dy[i] * (1 - y*y)
	}
}

func sigmoidBackward(dx, x, dy []float32) {
	simd.Sigmoid(dx, x)
	for i, y := range dx {
		dx[i] = dy[i] * y * (1 - y)
	}
}

func expBackward(dx, x, dy []float32) {
	simd.Exp(dx, x)
	simd.Mul(dx, dx, dy)
}

func logBackward(dx, x, dy []float32) {
	for i := range dx {
		dx[i] = dy[i] / x[i]
	}
}

func normalCDFForward(dst, x []float32) {
	for i := range dst {
		dst[i] = float32(0.5 * math.Erfc(-float64(x[i])/math.Sqrt2))
	}
}

func normalCDFBackward(dx, x, dy []float32) {
	for i := range dx {
		z := float64(x[i])
		dx[i] = dy[i] * float32(math.Exp(-z*z/2)/math.Sqrt(2*math.Pi))
	}
}

// The tangents are f'(x)·ẋ, written in operations.

func reluTangent(n *Node) *Var {
	step := n.Tape.New(n.In[0].Shape)
	for i, x := range n.In[0].Data {
		step.Data[i] = 0
		if x > 0 {
			step.Data[i] = 1
		}
	}
	return Mul(n.Tape, step, n.Tan(0))
}

// sigmoidSlope is d(x·σ(z))/dx = s + x·s·(1-s)·z' for s = σ(z).
func sigmoidSlope(t *Tape, x, s, dz *Var) *Var {
	slope := Mul(t, x, Mul(t, s, Affine(t, s, -1, 1)))
	if dz != nil {
		slope = Mul(t, slope, dz)
	}
	return Add(t, s, slope)
}

func siluTangent(n *Node) *Var {
	t, x := n.Tape, n.In[0]
	return Mul(t, sigmoidSlope(t, x, Sigmoid(t, x), nil), n.Tan(0))
}

// geluTanhTangent uses that GELU's tanh form is x·σ(z) with z = a·x + b·x³.
func geluTanhTangent(n *Node) *Var {
	const a = 2 * 0.7978845608028654 // 2·√(2/π)
	const b = a * 0.044715
	t, x := n.Tape, n.In[0]
	xx := Square(t, x)
	z := Mul(t, x, Affine(t, xx, b, a))
	dz := Affine(t, xx, 3*b, a)
	return Mul(t, sigmoidSlope(t, x, Sigmoid(t, z), dz), n.Tan(0))
}

func geluTangent(n *Node) *Var {
	t, x := n.Tape, n.In[0]
	return Mul(t, Add(t, phi(t, x), Mul(t, x, density(t, x))), n.Tan(0))
}

func phiTangent(n *Node) *Var { return Mul(n.Tape, density(n.Tape, n.In[0]), n.Tan(0)) }

// density computes the normal density e^(-x²/2)/√(2π).
func density(t *Tape, x *Var) *Var {
	return Scale(t, Exp(t, Scale(t, Square(t, x), -0.5)), float32(1/math.Sqrt(2*math.Pi)))
}

func tanhTangent(n *Node) *Var {
	t := n.Tape
	return Mul(t, Affine(t, Square(t, Tanh(t, n.In[0])), -1, 1), n.Tan(0))
}

func sigmoidTangent(n *Node) *Var {
	t := n.Tape
	s := Sigmoid(t, n.In[0])
	return Mul(t, Mul(t, s, Affine(t, s, -1, 1)), n.Tan(0))
}

func expTangent(n *Node) *Var { return Mul(n.Tape, Exp(n.Tape, n.In[0]), n.Tan(0)) }

func logTangent(n *Node) *Var { return Div(n.Tape, n.Tan(0), n.In[0]) }

type unaryArgs struct {
	f            unary
	y, x, dy, dx []float32
}

var unaryLoop par.Loop[unaryArgs]

func apply(t *Tape, x *Var, f int, tangent func(*Node) *Var) *Var {
	y := t.New(x.Shape)
	unaryForward(y, x, f)
	if n := t.Record(y, applyBack, x).Tangent(tangent).Again(applyAgain); n != nil {
		n.Ints[0] = f
	}
	return y
}

func applyAgain(n *Node) { unaryForward(n.Out, n.In[0], n.Ints[0]) }

func unaryForward(y, x *Var, f int) {
	unaryLoop.Run(par.Pieces(x.Len(), flatGrain), unaryArgs{f: unaries[f], y: y.Data, x: x.Data}, func(a *unaryArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(a.x))
		a.f.forward(a.y[lo:hi], a.x[lo:hi])
	})
}

func applyBack(n *Node) {
	x := n.In[0]
	dx, done := n.overwrite(0)
	unaryLoop.Run(par.Pieces(x.Len(), flatGrain), unaryArgs{f: unaries[n.Ints[0]], x: x.Data, dy: n.Out.Grad, dx: dx},
		func(a *unaryArgs, i int) {
			lo, hi := par.Bounds(i, flatGrain, len(a.x))
			a.f.backward(a.dx[lo:hi], a.x[lo:hi], a.dy[lo:hi])
		})
	done.add()
}

type swigluArgs struct {
	y, x, dy, dx []float32
	rows, hidden int
}

var swigluLoop par.Loop[swigluArgs]

// SwiGLU computes silu(gate)·up. x: [..., 2H], each row the H gates, then the
// H ups; y: [..., H]. Source: Shazeer, "GLU Variants Improve Transformer", 2020.
func SwiGLU(t *Tape, x *Var) *Var {
	if x.Cols()%2 != 0 {
		panic(fmt.Sprintf("grad: SwiGLU of %v: the last dimension is odd", x.Shape))
	}
	y := t.New(x.Shape.WithLast(x.Cols() / 2))
	swiglu(y, x)
	t.Record(y, swigluBack, x).Tangent(swigluTangent).Again(swigluAgain)
	return y
}

func swigluAgain(n *Node) { swiglu(n.Out, n.In[0]) }

func swiglu(y, x *Var) {
	swigluLoop.Run(par.Pieces(x.Rows(), rowGrain), swigluArgs{y: y.Data, x: x.Data, rows: x.Rows(), hidden: y.Cols()}, func(a *swigluArgs, i int) {
		lo, hi := par.Bounds(i, rowGrain, a.rows)
		for r := lo; r < hi; r++ {
			x := a.x[2*r*a.hidden : 2*(r+1)*a.hidden]
			simd.SwiGLU(a.y[r*a.hidden:(r+1)*a.hidden], x[:a.hidden], x[a.hidden:])
		}
	})
}

func swigluBack(n *Node) {
	x, h := n.In[0], n.Out.Cols()
	dx, done := n.overwrite(0)
	swigluLoop.Run(par.Pieces(x.Rows(), rowGrain), swigluArgs{x: x.Data, dy: n.Out.Grad, dx: dx, rows: x.Rows(), hidden: h},
		func(a *swigluArgs, i int) {
			lo, hi := par.Bounds(i, rowGrain, a.rows)
			for r := lo; r < hi; r++ {
				x, dx := a.x[2*r*a.hidden:2*(r+1)*a.hidden], a.dx[2*r*a.hidden:2*(r+1)*a.hidden]
				simd.SwiGLUBackward(dx[:a.hidden], dx[a.hidden:], x[:a.hidden], x[a.hidden:], a.dy[r*a.hidden:(r+1)*a.hidden])
			}
		})
	done.add()
}

func swigluTangent(n *Node) *Var {
	t, h := n.Tape, n.Out.Cols()
	gate, up := Slice(t, n.In[0], 0, h), Slice(t, n.In[0], h, 2*h)
	dgate, dup := Slice(t, n.Tan(0), 0, h), Slice(t, n.Tan(0), h, 2*h)
	slope := sigmoidSlope(t, gate, Sigmoid(t, gate), nil)
	return Add(t, Mul(t, Mul(t, slope, dgate), up), Mul(t, SiLU(t, gate), dup))
}
