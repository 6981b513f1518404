package grad

import (
	"fmt"
	"math"

	"hasten/engine/par"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

var scalar = tensor.Of()

// Add computes a + b for values of one shape.
func Add(t *Tape, a, b *Var) *Var {
	y := binary(t, "Add", a, b, func(s *binaryArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(s.y))
		simd.Add(s.y[lo:hi], s.a[lo:hi], s.b[lo:hi])
	})
	t.Record(y, addBack, a, b).Tangent(addTangent)
	return y
}

func addBack(n *Node) {
	n.Tape.SetGrad(n.In[1], n.Out.Grad)
	n.PassGrad(0)
}

func addTangent(n *Node) *Var { return plus(n.Tape, n.Tan(0), n.Tan(1)) }

// Sub computes a - b for values of one shape.
func Sub(t *Tape, a, b *Var) *Var {
	y := binary(t, "Sub", a, b, func(s *binaryArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(s.y))
		simd.Sub(s.y[lo:hi], s.a[lo:hi], s.b[lo:hi])
	})
	t.Record(y, subBack, a, b).Tangent(subTangent)
	return y
}

func subBack(n *Node) {
	if g := n.GradOf(1); g != nil {
		axpy(g, n.Out.Grad, -1)
	}
	n.PassGrad(0)
}

func subTangent(n *Node) *Var {
	t, a, b := n.Tape, n.Tan(0), n.Tan(1)
	switch {
	case b == nil:
		return a
	case a == nil:
		return Scale(t, b, -1)
	}
	return Sub(t, a, b)
}

// Mul computes a·b, element by element, for values of one shape.
func Mul(t *Tape, a, b *Var) *Var {
	y := binary(t, "Mul", a, b, func(s *binaryArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(s.y))
		simd.Mul(s.y[lo:hi], s.a[lo:hi], s.b[lo:hi])
	})
	t.Record(y, mulBack, a, b).Tangent(mulTangent)
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

func mulTangent(n *Node) *Var {
	t := n.Tape
	return plus(t, times(t, n.Tan(0), n.In[1]), times(t, n.In[0], n.Tan(1)))
}

// Div computes a/b, element by element, for values of one shape.
func Div(t *Tape, a, b *Var) *Var {
	y := binary(t, "Div", a, b, func(s *binaryArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(s.y))
		for j := lo; j < hi; j++ {
			s.y[j] = s.a[j] / s.b[j]
		}
	})
	t.Record(y, divBack, a, b).Tangent(divTangent)
	return y
}

func divBack(n *Node) {
	a, b := n.In[0].Data, n.In[1].Data
	da, db := n.GradOf(0), n.GradOf(1)
	for i, d := range n.Out.Grad {
		d /= b[i]
		if da != nil {
			da[i] += d
		}
		if db != nil {
			db[i] -= d * (a[i] / b[i])
		}
	}
}

func divTangent(n *Node) *Var {
	t, a, b, da, db := n.Tape, n.In[0], n.In[1], n.Tan(0), n.Tan(1)
	if db == nil {
		return Div(t, da, b)
	}
	d := Scale(t, Mul(t, Div(t, a, b), db), -1)
	return Div(t, plus(t, da, d), b)
}

// Scale computes a·x.
func Scale(t *Tape, x *Var, a float32) *Var { return Affine(t, x, a, 0) }

// AddScalar computes x + c.
func AddScalar(t *Tape, x *Var, c float32) *Var { return Affine(t, x, 1, c) }

// Affine computes a·x + c.
func Affine(t *Tape, x *Var, a, c float32) *Var {
	y := t.New(x.Shape)
	affine(y.Data, x.Data, a, c)
	if n := t.Record(y, affineBack, x).Tangent(affineTangent); n != nil {
		n.Floats[0] = a
	}
	return y
}

func affineBack(n *Node) {
	if n.Floats[0] == 1 {
		n.PassGrad(0)
		return
	}
	if g, fresh := n.GradInto(0); fresh {
		affine(g, n.Out.Grad, n.Floats[0], 0)
	} else {
		axpy(g, n.Out.Grad, n.Floats[0])
	}
}

func affineTangent(n *Node) *Var { return Scale(n.Tape, n.Tan(0), n.Floats[0]) }

// Square computes x².
func Square(t *Tape, x *Var) *Var { return Mul(t, x, x) }

// Sqrt computes the square root of x > 0.
func Sqrt(t *Tape, x *Var) *Var { return Pow(t, x, 0.5) }

// Pow computes xᵖ for x > 0, or any x where p is a whole number.
func Pow(t *Tape, x *Var, p float64) *Var {
	y := t.New(x.Shape)
	for i, v := range x.Data {
		y.Data[i] = float32(math.Pow(float64(v), p))
	}
	if n := t.Record(y, powBack, x).Tangent(powTangent); n != nil {
		n.Ints[0] = int(math.Float64bits(p))
	}
	return y
}

func powBack(n *Node) {
	g, p := n.GradOf(0), math.Float64frombits(uint64(n.Ints[0]))
	for i, v := range n.In[0].Data {
		g[i] += n.Out.Grad[i] * float32(p*math.Pow(float64(v), p-1))
	}
}

func powTangent(n *Node) *Var {
	t, p := n.Tape, math.Float64frombits(uint64(n.Ints[0]))
	return Scale(t, Mul(t, Pow(t, n.In[0], p-1), n.Tan(0)), float32(p))
}

// Mean computes the mean of all elements, a scalar.
func Mean(t *Tape, x *Var) *Var { return Scale(t, Sum(t, x), 1/float32(x.Len())) }

// Sum computes the sum of all elements, a scalar.
func Sum(t *Tape, x *Var) *Var {
	y := t.New(scalar)
	y.Data[0] = simd.Sum(x.Data)
	t.Record(y, sumBack, x).Tangent(sumTangent)
	return y
}

func sumBack(n *Node) {
	d := n.Out.Grad[0]
	g, fresh := n.GradInto(0)
	for i := range g {
		if fresh {
			g[i] = d
		} else {
			g[i] += d
		}
	}
}

func sumTangent(n *Node) *Var { return Sum(n.Tape, n.Tan(0)) }

// MSE computes the mean of (a-b)² over all elements, a scalar.
func MSE(t *Tape, a, b *Var) *Var { return Mean(t, Square(t, Sub(t, a, b))) }

type binaryArgs struct{ y, a, b []float32 }

var binaryLoop par.Loop[binaryArgs]

func binary(t *Tape, op string, a, b *Var, body func(*binaryArgs, int)) *Var {
	if a.Shape != b.Shape {
		panic(fmt.Sprintf("grad: %s of %v and %v", op, a.Shape, b.Shape))
	}
	y := t.New(a.Shape)
	binaryLoop.Run(par.Pieces(y.Len(), flatGrain), binaryArgs{y.Data, a.Data, b.Data}, body)
	return y
}

type scaleArgs struct {
	dst, x []float32
	a, c   float32
}

var scaleLoop par.Loop[scaleArgs]

// flatGrain is the number of floats in one piece of an element-wise loop.
const flatGrain = 16384

// affine sets dst = a·x + c.
func affine(dst, x []float32, a, c float32) {
	scaleLoop.Run(par.Pieces(len(x), flatGrain), scaleArgs{dst, x, a, c}, func(s *scaleArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(s.x))
		dst, a, c := s.dst[lo:hi], s.a, s.c
		for i, v := range s.x[lo:hi] {
			dst[i] = a*v + c
		}
	})
}

// axpy sets dst += a·x.
func axpy(dst, x []float32, a float32) {
	scaleLoop.Run(par.Pieces(len(x), flatGrain), scaleArgs{dst: dst, x: x, a: a}, func(s *scaleArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(s.x))
		simd.Axpy(s.a, s.x[lo:hi], s.dst[lo:hi])
	})
}

// addTo sets dst += x.
func addTo(dst, x []float32) {
	scaleLoop.Run(par.Pieces(len(x), flatGrain), scaleArgs{dst: dst, x: x}, func(a *scaleArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(a.x))
		simd.AddTo(a.dst[lo:hi], a.x[lo:hi])
	})
}
