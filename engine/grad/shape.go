package grad

import (
	"fmt"

	"hasten/engine/par"
	"hasten/engine/tensor"
)

// Reshape returns x with another shape of the same length, without a copy.
func Reshape(t *Tape, x *Var, dims ...int) *Var {
	s := tensor.Of(dims...)
	if s.Len() != x.Len() {
		panic(fmt.Sprintf("grad: %v seen as %v", x.Shape, s))
	}
	y := t.view(x, s)
	t.Record(y, reshapeBack, x).Tangent(reshapeTangent)
	return y
}

func reshapeBack(n *Node) { n.PassGrad(0) }

func reshapeTangent(n *Node) *Var { return Reshape(n.Tape, n.Tan(0), n.Out.Dims()...) }

// Concat joins values of equal rows along the last dimension. At most 8.
func Concat(t *Tape, parts ...*Var) *Var {
	cols := 0
	for _, p := range parts {
		if p.Shape.WithLast(0) != parts[0].Shape.WithLast(0) {
			panic(fmt.Sprintf("grad: Concat of %v and %v", parts[0].Shape, p.Shape))
		}
		cols += p.Cols()
	}
	y := t.New(parts[0].Shape.WithLast(cols))
	at := 0
	for _, p := range parts {
		columns(columnArgs{y: y.Data, x: p.Data, ycols: cols, xcols: p.Cols(), at: at, rows: y.Rows()}, copyIn)
		at += p.Cols()
	}
	t.Record(y, concatBack, parts...).Tangent(concatTangent)
	return y
}

func concatBack(n *Node) {
	at := 0
	for i, p := range n.In {
		if p == nil {
			break
		}
		if g := n.GradOf(i); g != nil {
			columns(columnArgs{y: n.Out.Grad, x: g, ycols: n.Out.Cols(), xcols: p.Cols(), at: at, rows: p.Rows()}, addOut)
		}
		at += p.Cols()
	}
}

func concatTangent(n *Node) *Var {
	var parts []*Var
	for i, p := range n.In {
		if p == nil {
			break
		}
		d := n.Tan(i)
		if d == nil {
			d = zeros(n.Tape, p.Shape)
		}
		parts = append(parts, d)
	}
	return Concat(n.Tape, parts...)
}

// Slice returns columns lo to hi (without hi) of the last dimension.
func Slice(t *Tape, x *Var, lo, hi int) *Var {
	if lo < 0 || hi < lo || hi > x.Cols() {
		panic(fmt.Sprintf("grad: Slice of columns %d to %d of %v", lo, hi, x.Shape))
	}
	y := t.New(x.Shape.WithLast(hi - lo))
	columns(columnArgs{y: x.Data, x: y.Data, ycols: x.Cols(), xcols: hi - lo, at: lo, rows: x.Rows()}, copyOut)
	if n := t.Record(y, sliceBack, x).Tangent(sliceTangent); n != nil {
		n.Ints[0] = lo
	}
	return y
}

func sliceBack(n *Node) {
	x := n.In[0]
	columns(columnArgs{y: n.GradOf(0), x: n.Out.Grad, ycols: x.Cols(), xcols: n.Out.Cols(), at: n.Ints[0], rows: x.Rows()}, addIn)
}

func sliceTangent(n *Node) *Var {
	lo := n.Ints[0]
	return Slice(n.Tape, n.Tan(0), lo, lo+n.Out.Cols())
}

// columnArgs is a narrow matrix x and where it stands in the wide matrix y.
type columnArgs struct {
	y, x                   []float32
	ycols, xcols, at, rows int
	move                   func(wide, narrow []float32)
}

var columnLoop par.Loop[columnArgs]

func columns(a columnArgs, move func(wide, narrow []float32)) {
	a.move = move
	columnLoop.Run(par.Pieces(a.rows, rowGrain), a, func(a *columnArgs, i int) {
		lo, hi := par.Bounds(i, rowGrain, a.rows)
		for r := lo; r < hi; r++ {
			w := r*a.ycols + a.at
			a.move(a.y[w:w+a.xcols], a.x[r*a.xcols:(r+1)*a.xcols])
		}
	})
}

func copyIn(wide, narrow []float32)  { copy(wide, narrow) }
func copyOut(wide, narrow []float32) { copy(narrow, wide) }

func addIn(wide, narrow []float32) {
	for i, v := range narrow {
		wide[i] += v
	}
}

func addOut(wide, narrow []float32) {
	for i, v := range wide {
		narrow[i] += v
	}
}

// Transpose swaps the two dimensions of x: [M, N].
func Transpose(t *Tape, x *Var) *Var {
	if x.Rank() != 2 {
		panic(fmt.Sprintf("grad: Transpose of %v", x.Shape))
	}
	y := t.New(tensor.Of(x.Cols(), x.Rows()))
	clear(y.Data)
	addTransposed(y.Data, x.Data, x.Rows(), x.Cols())
	t.Record(y, transposeBack, x).Tangent(transposeTangent)
	return y
}

func transposeBack(n *Node) { addTransposed(n.GradOf(0), n.Out.Grad, n.Out.Rows(), n.Out.Cols()) }

func transposeTangent(n *Node) *Var { return Transpose(n.Tape, n.Tan(0)) }

type transposeArgs struct {
	y, x       []float32
	rows, cols int
}

var transposeLoop par.Loop[transposeArgs]

// addTransposed adds to y: [cols, rows] the transpose of x: [rows, cols].
func addTransposed(y, x []float32, rows, cols int) {
	transposeLoop.Run(par.Pieces(cols, rowGrain), transposeArgs{y, x, rows, cols}, func(a *transposeArgs, i int) {
		lo, hi := par.Bounds(i, rowGrain, a.cols)
		for r := range a.rows {
			for c := lo; c < hi; c++ {
				a.y[c*a.rows+r] += a.x[r*a.cols+c]
			}
		}
	})
}
