package grad

import (
	"fmt"

	"hasten/engine/matmul"
	"hasten/engine/par"
	"hasten/engine/precision"
	"hasten/engine/simd"
)

// Linear computes y = x·Wᵀ + b. x: [..., in], w: [out, in], b: [out] or nil;
// y: [..., out].
func Linear(t *Tape, x, w, b *Var) *Var { return LinearAdd(t, x, w, b, nil) }

// LinearAdd computes y = x·Wᵀ + b + r, the end of a residual branch.
// r: shape of y, or nil.
func LinearAdd(t *Tape, x, w, b, r *Var) *Var {
	in, out := w.Cols(), w.Rows()
	if x.Cols() != in || b != nil && b.Len() != out || r != nil && r.Shape != x.Shape.WithLast(out) {
		panic(fmt.Sprintf("grad: Linear of %v by %v (bias %v, residual %v)", x.Shape, w.Shape, shapeOf(b), shapeOf(r)))
	}
	y := t.New(x.Shape.WithLast(out))
	t.Record(y, linearBack, x, w, b, r).Tangent(linearTangent).PerSample(1, 2).Squares(linearSquares)
	a := matmul.Args{M: x.Rows(), N: out, K: in, A: x.Data, B: w.Data, TransB: true, C: y.Data}
	if b != nil {
		a.Bias = b.Data
	}
	if r != nil {
		a.Residual = r.Data
	}
	t.Policy.Mul(precision.Forward, a)
	return y
}

func linearBack(n *Node) {
	x, w, dy := n.In[0], n.In[1], n.Out.Grad
	rows, in, out := x.Rows(), w.Cols(), w.Rows()
	policy := n.Tape.Policy
	if dw, fresh := n.GradInto(1); dw != nil {
		policy.Mul(precision.GradWeight, matmul.Args{M: out, N: in, K: rows, A: dy, TransA: true, B: x.Data, C: dw, Beta: keep(fresh)})
	}
	if db, fresh := n.GradInto(2); db != nil {
		sumRows(n.Tape, db, dy, nil, fresh)
	}
	if dx, fresh := n.GradInto(0); dx != nil {
		policy.Mul(precision.GradInput, matmul.Args{M: rows, N: in, K: out, A: dy, B: w.Data, C: dx, Beta: keep(fresh)})
	}
	if n.In[3] != nil {
		n.PassGrad(3)
	}
}

func linearTangent(n *Node) *Var {
	t, x, w := n.Tape, n.In[0], n.In[1]
	y := n.Tan(3)
	if dx := n.Tan(0); dx != nil {
		y = LinearAdd(t, dx, w, nil, y)
	}
	if dw := n.Tan(1); dw != nil {
		y = LinearAdd(t, x, dw, nil, y)
	}
	return plusRow(t, n.Out.Shape, y, n.Tan(2))
}

// MatMul computes a·b. a: [M, K], b: [K, N].
func MatMul(t *Tape, a, b *Var) *Var {
	if a.Rank() != 2 || b.Rank() != 2 || a.Cols() != b.Rows() {
		panic(fmt.Sprintf("grad: MatMul of %v by %v", a.Shape, b.Shape))
	}
	y := t.New(a.Shape.WithLast(b.Cols()))
	t.Record(y, matmulBack, a, b).Tangent(matmulTangent).PerSample(1)
	t.Policy.Mul(precision.Forward, matmul.Args{M: a.Rows(), N: b.Cols(), K: a.Cols(), A: a.Data, B: b.Data, C: y.Data})
	return y
}

func matmulBack(n *Node) {
	a, b, dy := n.In[0], n.In[1], n.Out.Grad
	m, k, cols := a.Rows(), a.Cols(), b.Cols()
	if da, fresh := n.GradInto(0); da != nil {
		n.Tape.Policy.Mul(precision.GradInput, matmul.Args{M: m, N: k, K: cols, A: dy, B: b.Data, TransB: true, C: da, Beta: keep(fresh)})
	}
	if db, fresh := n.GradInto(1); db != nil {
		n.Tape.Policy.Mul(precision.GradWeight, matmul.Args{M: k, N: cols, K: m, A: a.Data, TransA: true, B: dy, C: db, Beta: keep(fresh)})
	}
}

func matmulTangent(n *Node) *Var {
	t := n.Tape
	var y *Var
	if da := n.Tan(0); da != nil {
		y = MatMul(t, da, n.In[1])
	}
	if db := n.Tan(1); db != nil {
		y = plus(t, y, MatMul(t, n.In[0], db))
	}
	return y
}

// keep is the factor of what a gradient buffer holds already.
func keep(fresh bool) float32 {
	if fresh {
		return 0
	}
	return 1
}

func shapeOf(v *Var) any {
	if v == nil {
		return "none"
	}
	return v.Shape
}

// rowGrain is the number of rows in one piece of a row-wise loop.
const rowGrain = 32

// partials is the largest number of partial sums that a reduction over rows is
// cut into. It depends on nothing but the size, so results do not depend on
// the number of threads.
const partials = 32

// partialGrain is the number of rows that go into one partial sum.
func partialGrain(rows int) int { return max(rowGrain, par.Pieces(rows, partials)) }

type sumArgs struct {
	sums, x, by       []float32
	rows, cols, grain int
}

var sumLoop par.Loop[sumArgs]

// sumRows sets (fresh) or adds to dst the sum of the rows of x, multiplied
// element by element with those of by if it is not nil.
func sumRows(t *Tape, dst, x, by []float32, fresh bool) {
	cols := len(dst)
	rows := len(x) / max(cols, 1)
	grain := partialGrain(rows)
	n := par.Pieces(rows, grain)
	sums := t.scratch(n * cols)
	sumLoop.Run(n, sumArgs{sums, x, by, rows, cols, grain}, func(a *sumArgs, i int) {
		s := a.sums[i*a.cols : (i+1)*a.cols]
		clear(s)
		lo, hi := par.Bounds(i, a.grain, a.rows)
		for r := lo * a.cols; r < hi*a.cols; r += a.cols {
			if a.by == nil {
				simd.AddTo(s, a.x[r:r+a.cols])
			} else {
				simd.MulAddTo(s, a.x[r:r+a.cols], a.by[r:r+a.cols])
			}
		}
	})
	fold(dst, sums, fresh)
	t.drop(sums)
}

// fold sets (fresh) or adds to dst the sum of the rows of partial sums.
func fold(dst, sums []float32, fresh bool) {
	if fresh {
		clear(dst)
	}
	for i := 0; i < len(sums); i += len(dst) {
		simd.AddTo(dst, sums[i:i+len(dst)])
	}
}
