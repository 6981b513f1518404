package grad

import (
	"fmt"

	"hasten/engine/par"
	"hasten/engine/simd"
)

// unary is a function of one variable and its backward: dx = dy·f'(x).
type unary struct {
	forward  func(dst, x []float32)
	backward func(dx, x, dy []float32)
}

// The activations an operation can name; Node.Ints[0] holds the index.
var unaries = [...]unary{
	{simd.ReLU, simd.ReLUBackward},
	{simd.SiLU, simd.SiLUBackward},
	{simd.GELUTanh, simd.GELUTanhBackward},
	{simd.GELUErf, simd.GELUErfBackward},
	{simd.Tanh, tanhBackward},
	{simd.Sigmoid, sigmoidBackward},
	{simd.Exp, expBackward},
}

const (
	relu = iota
	silu
	geluTanh
	geluErf
	tanh
	sigmoid
	exp
)

// ReLU computes max(x, 0).
func ReLU(t *Tape, x *Var) *Var { return apply(t, x, relu) }

// SiLU computes x·σ(x).
func SiLU(t *Tape, x *Var) *Var { return apply(t, x, silu) }

// GELUTanh computes the tanh form of GELU, the one of GPT-2.
func GELUTanh(t *Tape, x *Var) *Var { return apply(t, x, geluTanh) }

// GELU computes x·Φ(x), with the error function.
func GELU(t *Tape, x *Var) *Var { return apply(t, x, geluErf) }

// Tanh computes the hyperbolic tangent.
func Tanh(t *Tape, x *Var) *Var { return apply(t, x, tanh) }

// Sigmoid computes 1/(1+e⁻ˣ).
func Sigmoid(t *Tape, x *Var) *Var { return apply(t, x, sigmoid) }

// Exp computes eˣ.
func Exp(t *Tape, x *Var) *Var { return apply(t, x, exp) }

// The three below get f(x) again from x: values are cheaper to compute than to
// keep.

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

type unaryArgs struct {
	f            unary
	y, x, dy, dx []float32
	fresh        bool
}

var unaryLoop par.Loop[unaryArgs]

func apply(t *Tape, x *Var, f int) *Var {
	y := t.New(x.Shape)
	unaryLoop.Run(par.Pieces(x.Len(), flatGrain), unaryArgs{f: unaries[f], y: y.Data, x: x.Data}, func(a *unaryArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(a.x))
		a.f.forward(a.y[lo:hi], a.x[lo:hi])
	})
	if n := t.Record(y, applyBack, x); n != nil {
		n.Ints[0] = f
	}
	return y
}

func applyBack(n *Node) {
	x := n.In[0]
	dx, fresh := n.GradInto(0)
	unaryLoop.Run(par.Pieces(x.Len(), unaryGrain), unaryArgs{f: unaries[n.Ints[0]], x: x.Data, dy: n.Out.Grad, dx: dx, fresh: fresh},
		func(a *unaryArgs, i int) {
			lo, hi := par.Bounds(i, unaryGrain, len(a.x))
			if a.fresh {
				a.f.backward(a.dx[lo:hi], a.x[lo:hi], a.dy[lo:hi])
				return
			}
			var d [unaryGrain]float32
			part := d[:hi-lo]
			a.f.backward(part, a.x[lo:hi], a.dy[lo:hi])
			simd.AddTo(a.dx[lo:hi], part)
		})
}

// unaryGrain is small enough for a piece's gradient to live on the stack.
const unaryGrain = 2048

type swigluArgs struct {
	y, x, dy, dx []float32
	rows, hidden int
	fresh        bool
}

var swigluLoop par.Loop[swigluArgs]

// SwiGLU computes silu(gate)·up. x: [..., 2H], each row the H gates, then the
// H ups; y: [..., H]. Source: Shazeer, "GLU Variants Improve Transformer", 2020.
func SwiGLU(t *Tape, x *Var) *Var {
	if x.Cols()%2 != 0 {
		panic(fmt.Sprintf("grad: SwiGLU of %v: the last dimension is odd", x.Shape))
	}
	h := x.Cols() / 2
	y := t.New(x.Shape.WithLast(h))
	swigluLoop.Run(par.Pieces(x.Rows(), rowGrain), swigluArgs{y: y.Data, x: x.Data, rows: x.Rows(), hidden: h}, func(a *swigluArgs, i int) {
		lo, hi := par.Bounds(i, rowGrain, a.rows)
		for r := lo; r < hi; r++ {
			x := a.x[2*r*a.hidden : 2*(r+1)*a.hidden]
			simd.SwiGLU(a.y[r*a.hidden:(r+1)*a.hidden], x[:a.hidden], x[a.hidden:])
		}
	})
	t.Record(y, swigluBack, x)
	return y
}

func swigluBack(n *Node) {
	x, h := n.In[0], n.Out.Cols()
	dx, fresh := n.GradInto(0)
	if !fresh { // the kernel overwrites: compute apart, then add
		sum := dx
		dx = n.Tape.scratch(x.Len())
		defer func() {
			addTo(sum, dx)
			n.Tape.drop(dx)
		}()
	}
	swigluLoop.Run(par.Pieces(x.Rows(), rowGrain), swigluArgs{x: x.Data, dy: n.Out.Grad, dx: dx, rows: x.Rows(), hidden: h},
		func(a *swigluArgs, i int) {
			lo, hi := par.Bounds(i, rowGrain, a.rows)
			for r := lo; r < hi; r++ {
				x, dx := a.x[2*r*a.hidden:2*(r+1)*a.hidden], a.dx[2*r*a.hidden:2*(r+1)*a.hidden]
				simd.SwiGLUBackward(dx[:a.hidden], dx[a.hidden:], x[:a.hidden], x[a.hidden:], a.dy[r*a.hidden:(r+1)*a.hidden])
			}
		})
}

// Add computes a + b for values of one shape.
func Add(t *Tape, a, b *Var) *Var {
	sameShape("Add", a, b)
	y := t.New(a.Shape)
	binaryLoop.Run(par.Pieces(y.Len(), flatGrain), binaryArgs{y.Data, a.Data, b.Data}, func(s *binaryArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(s.y))
		simd.Add(s.y[lo:hi], s.a[lo:hi], s.b[lo:hi])
	})
	t.Record(y, addBack, a, b)
	return y
}

func addBack(n *Node) {
	if g, fresh := n.GradInto(1); fresh {
		copy(g, n.Out.Grad)
	} else if g != nil {
		addTo(g, n.Out.Grad)
	}
	n.PassGrad(0)
}

// Mul computes a·b, element by element, for values of one shape.
func Mul(t *Tape, a, b *Var) *Var {
	sameShape("Mul", a, b)
	y := t.New(a.Shape)
	binaryLoop.Run(par.Pieces(y.Len(), flatGrain), binaryArgs{y.Data, a.Data, b.Data}, func(s *binaryArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(s.y))
		simd.Mul(s.y[lo:hi], s.a[lo:hi], s.b[lo:hi])
	})
	t.Record(y, mulBack, a, b)
	return y
}

func mulBack(n *Node) {
	for i := range 2 {
		if g := n.GradOf(i); g != nil {
			binaryLoop.Run(par.Pieces(len(g), flatGrain), binaryArgs{g, n.In[1-i].Data, n.Out.Grad}, func(s *binaryArgs, i int) {
				lo, hi := par.Bounds(i, flatGrain, len(s.y))
				simd.MulAddTo(s.y[lo:hi], s.a[lo:hi], s.b[lo:hi])
			})
		}
	}
}

type binaryArgs struct{ y, a, b []float32 }

var binaryLoop par.Loop[binaryArgs]

// Scale computes c·x.
func Scale(t *Tape, x *Var, c float32) *Var {
	y := t.New(x.Shape)
	copy(y.Data, x.Data)
	simd.Scale(y.Data, c)
	if n := t.Record(y, scaleBack, x); n != nil {
		n.Floats[0] = c
	}
	return y
}

func scaleBack(n *Node) { simd.Axpy(n.Floats[0], n.Out.Grad, n.GradOf(0)) }

// Reshape returns x with another shape of the same length.
func Reshape(t *Tape, x *Var, dims ...int) *Var {
	y := t.New(x.Shape)
	y.Shape = shapeFor(x, dims)
	copy(y.Data, x.Data)
	t.Record(y, func(n *Node) { n.PassGrad(0) }, x)
	return y
}

// Mean computes the mean of all elements, a scalar.
func Mean(t *Tape, x *Var) *Var {
	y := t.New(scalar)
	y.Data[0] = simd.Sum(x.Data) / float32(x.Len())
	t.Record(y, meanBack, x)
	return y
}

func meanBack(n *Node) {
	d := n.Out.Grad[0] / float32(n.In[0].Len())
	g := n.GradOf(0)
	for i := range g {
		g[i] += d
	}
}

// Sum computes the sum of all elements, a scalar.
func Sum(t *Tape, x *Var) *Var {
	y := t.New(scalar)
	y.Data[0] = simd.Sum(x.Data)
	t.Record(y, sumBack, x)
	return y
}

func sumBack(n *Node) {
	g := n.GradOf(0)
	for i := range g {
		g[i] += n.Out.Grad[0]
	}
}

func sameShape(op string, a, b *Var) {
	if a.Shape != b.Shape {
		panic(fmt.Sprintf("grad: %s of %v and %v", op, a.Shape, b.Shape))
	}
}
