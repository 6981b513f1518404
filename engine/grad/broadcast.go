package grad

import (
	"fmt"

	"hasten/engine/par"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

// The operations here combine a matrix x of N rows and C columns (all but the
// last dimension together are its rows) with a row of C or a column of N
// values, or sum it up to one.

type rowArgs struct {
	row        func(a *rowArgs, r int, y, x []float32)
	y, x, v    []float32
	rows, cols int
}

var rowLoop par.Loop[rowArgs]

// eachRow calls row for every row r of y and x, which have a.cols columns; one
// of them may be nil.
func eachRow(a rowArgs) {
	rowLoop.Run(par.Pieces(a.rows, rowGrain), a, func(a *rowArgs, i int) {
		lo, hi := par.Bounds(i, rowGrain, a.rows)
		for r := lo; r < hi; r++ {
			var y, x []float32
			if a.y != nil {
				y = a.y[r*a.cols : (r+1)*a.cols]
			}
			if a.x != nil {
				x = a.x[r*a.cols : (r+1)*a.cols]
			}
			a.row(a, r, y, x)
		}
	})
}

// AddRow adds the row b: [C] to every row of x.
func AddRow(t *Tape, x, b *Var) *Var {
	checkLen("AddRow", x, b, x.Cols())
	y := t.New(x.Shape)
	t.Record(y, addRowBack, x, b).Tangent(addRowTangent).PerSample(1)
	eachRow(rowArgs{y: y.Data, x: x.Data, v: b.Data, rows: x.Rows(), cols: x.Cols(),
		row: func(a *rowArgs, _ int, y, x []float32) { simd.Add(y, x, a.v) }})
	return y
}

func addRowBack(n *Node) {
	if g, fresh := n.GradInto(1); g != nil {
		sumRows(n.Tape, g, n.Out.Grad, nil, fresh)
	}
	n.PassGrad(0)
}

func addRowTangent(n *Node) *Var { return plusRow(n.Tape, n.Out.Shape, n.Tan(0), n.Tan(1)) }

// MulRow multiplies every row of x by the row w: [C], element by element.
func MulRow(t *Tape, x, w *Var) *Var {
	checkLen("MulRow", x, w, x.Cols())
	y := t.New(x.Shape)
	t.Record(y, mulRowBack, x, w).Tangent(mulRowTangent).PerSample(1)
	eachRow(rowArgs{y: y.Data, x: x.Data, v: w.Data, rows: x.Rows(), cols: x.Cols(),
		row: func(a *rowArgs, _ int, y, x []float32) { simd.Mul(y, x, a.v) }})
	return y
}

func mulRowBack(n *Node) {
	x, w, dy := n.In[0], n.In[1], n.Out.Grad
	if g := n.GradOf(0); g != nil {
		eachRow(rowArgs{y: g, x: dy, v: w.Data, rows: x.Rows(), cols: x.Cols(),
			row: func(a *rowArgs, _ int, dx, dy []float32) { simd.MulAddTo(dx, dy, a.v) }})
	}
	if g, fresh := n.GradInto(1); g != nil {
		sumRows(n.Tape, g, dy, x.Data, fresh)
	}
}

func mulRowTangent(n *Node) *Var {
	t := n.Tape
	var y *Var
	if dx := n.Tan(0); dx != nil {
		y = MulRow(t, dx, n.In[1])
	}
	if dw := n.Tan(1); dw != nil {
		y = plus(t, y, MulRow(t, n.In[0], dw))
	}
	return y
}

// AddCol adds element r of the column c: [N] to all of row r of x.
func AddCol(t *Tape, x, c *Var) *Var {
	checkLen("AddCol", x, c, x.Rows())
	y := t.New(x.Shape)
	eachRow(rowArgs{y: y.Data, x: x.Data, v: c.Data, rows: x.Rows(), cols: x.Cols(),
		row: func(a *rowArgs, r int, y, x []float32) {
			for i, v := range x {
				y[i] = v + a.v[r]
			}
		}})
	t.Record(y, addColBack, x, c).Tangent(addColTangent)
	return y
}

func addColBack(n *Node) {
	if g := n.GradOf(1); g != nil {
		eachRow(rowArgs{x: n.Out.Grad, v: g, rows: n.Out.Rows(), cols: n.Out.Cols(),
			row: func(a *rowArgs, r int, _, dy []float32) { a.v[r] += simd.Sum(dy) }})
	}
	n.PassGrad(0)
}

func addColTangent(n *Node) *Var {
	t, y := n.Tape, n.Tan(0)
	if n.Tan(1) == nil {
		return y
	}
	if y == nil {
		y = zeros(t, n.Out.Shape)
	}
	return AddCol(t, y, n.Tan(1))
}

// MulCol multiplies row r of x by element r of the column c: [N].
func MulCol(t *Tape, x, c *Var) *Var {
	checkLen("MulCol", x, c, x.Rows())
	y := t.New(x.Shape)
	eachRow(rowArgs{y: y.Data, x: x.Data, v: c.Data, rows: x.Rows(), cols: x.Cols(),
		row: func(a *rowArgs, r int, y, x []float32) {
			copy(y, x)
			simd.Scale(y, a.v[r])
		}})
	t.Record(y, mulColBack, x, c).Tangent(mulColTangent)
	return y
}

func mulColBack(n *Node) {
	x, c, dy := n.In[0], n.In[1], n.Out.Grad
	if g := n.GradOf(0); g != nil {
		eachRow(rowArgs{y: g, x: dy, v: c.Data, rows: x.Rows(), cols: x.Cols(),
			row: func(a *rowArgs, r int, dx, dy []float32) { simd.Axpy(a.v[r], dy, dx) }})
	}
	if g := n.GradOf(1); g != nil {
		eachRow(rowArgs{y: dy, x: x.Data, v: g, rows: x.Rows(), cols: x.Cols(),
			row: func(a *rowArgs, r int, dy, x []float32) { a.v[r] += simd.Dot(dy, x) }})
	}
}

func mulColTangent(n *Node) *Var {
	t := n.Tape
	var y *Var
	if dx := n.Tan(0); dx != nil {
		y = MulCol(t, dx, n.In[1])
	}
	if dc := n.Tan(1); dc != nil {
		y = plus(t, y, MulCol(t, n.In[0], dc))
	}
	return y
}

// RowSum sums up each row of x: [..., C]; y has the shape of x without its
// last dimension.
func RowSum(t *Tape, x *Var) *Var {
	y := t.New(x.Shape.WithoutLast())
	eachRow(rowArgs{x: x.Data, v: y.Data, rows: x.Rows(), cols: x.Cols(),
		row: func(a *rowArgs, r int, _, x []float32) { a.v[r] = simd.Sum(x) }})
	t.Record(y, rowSumBack, x).Tangent(rowSumTangent)
	return y
}

func rowSumBack(n *Node) {
	x := n.In[0]
	eachRow(rowArgs{y: n.GradOf(0), v: n.Out.Grad, rows: x.Rows(), cols: x.Cols(),
		row: func(a *rowArgs, r int, dx, _ []float32) {
			for i := range dx {
				dx[i] += a.v[r]
			}
		}})
}

func rowSumTangent(n *Node) *Var { return RowSum(n.Tape, n.Tan(0)) }

// SumRows adds up the rows of x: [..., C]; y: [C].
func SumRows(t *Tape, x *Var) *Var {
	y := t.New(tensor.Of(x.Cols()))
	sumRows(t, y.Data, x.Data, nil, true)
	t.Record(y, sumRowsBack, x).Tangent(sumRowsTangent)
	return y
}

func sumRowsBack(n *Node) {
	x := n.In[0]
	eachRow(rowArgs{y: n.GradOf(0), v: n.Out.Grad, rows: x.Rows(), cols: x.Cols(),
		row: func(a *rowArgs, _ int, dx, _ []float32) { simd.AddTo(dx, a.v) }})
}

func sumRowsTangent(n *Node) *Var { return SumRows(n.Tape, n.Tan(0)) }

// MeanRows is the mean of the rows of x: [..., C]; y: [C].
func MeanRows(t *Tape, x *Var) *Var { return Scale(t, SumRows(t, x), 1/float32(x.Rows())) }

func checkLen(op string, x, v *Var, want int) {
	if v.Len() != want {
		panic(fmt.Sprintf("grad: %s of %v and %v", op, x.Shape, v.Shape))
	}
}
