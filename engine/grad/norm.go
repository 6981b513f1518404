package grad

import (
	"fmt"

	"hasten/engine/par"
	"hasten/engine/simd"
)

type normArgs struct {
	y, x, w, b, stats []float32
	rows, cols        int
	eps               float32
}

type normBackArgs struct {
	dx, x, w, dy, stats []float32
	dw, db              []float32 // partial sums: one row for each piece
	rows, cols, grain   int
	fresh               bool
}

var (
	normLoop     par.Loop[normArgs]
	normBackLoop par.Loop[normBackArgs]
)

// RMSNorm computes y = x / rms(x) · w for every row, with
// rms(x) = √(mean(x²) + eps). x: [..., D], w: [D].
// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
func RMSNorm(t *Tape, x, w *Var, eps float32) *Var {
	rows, cols := x.Rows(), x.Cols()
	if w.Len() != cols {
		panic(fmt.Sprintf("grad: RMSNorm of %v with gain %v", x.Shape, w.Shape))
	}
	y := t.New(x.Shape)
	var stats []float32 // 1/rms of each row
	if n := t.Record(y, rmsNormBack, x, w).Tangent(normTangent).PerSample(1).Again(rmsNormAgain); n != nil {
		n.Floats[0] = eps
		stats = n.Save(0, rows)
	}
	rmsNorm(y, x, w, stats, eps)
	return y
}

func rmsNormAgain(n *Node) { rmsNorm(n.Out, n.In[0], n.In[1], nil, n.Floats[0]) }

// rmsNorm writes y and, if not nil, stats.
func rmsNorm(y, x, w *Var, stats []float32, eps float32) {
	rows, cols := x.Rows(), x.Cols()
	normLoop.Run(par.Pieces(rows, rowGrain), normArgs{y: y.Data, x: x.Data, w: w.Data, stats: stats, rows: rows, cols: cols, eps: eps},
		func(a *normArgs, i int) {
			lo, hi := par.Bounds(i, rowGrain, a.rows)
			for r := lo; r < hi; r++ {
				s := simd.RMSNormRow(a.y[r*a.cols:(r+1)*a.cols], a.x[r*a.cols:(r+1)*a.cols], a.w, a.eps)
				if a.stats != nil {
					a.stats[r] = s
				}
			}
		})
}

func rmsNormBack(n *Node) {
	normBack(n, func(a *normBackArgs, i int) {
		dw := a.dw[i*a.cols : (i+1)*a.cols]
		lo, hi := par.Bounds(i, a.grain, a.rows)
		for r := lo; r < hi; r++ {
			c, d := r*a.cols, (r+1)*a.cols
			if a.fresh {
				clear(a.dx[c:d])
			}
			simd.RMSNormRowBackward(a.dx[c:d], dw, a.x[c:d], a.w, a.dy[c:d], a.stats[r])
		}
	})
}

// LayerNorm computes y = (x - mean(x)) / √(var(x) + eps) · w + b for every row.
// x: [..., D], w, b: [D]. Source: Ba, Kiros, Hinton, "Layer Normalization", 2016.
func LayerNorm(t *Tape, x, w, b *Var, eps float32) *Var {
	rows, cols := x.Rows(), x.Cols()
	if w.Len() != cols || b.Len() != cols {
		panic(fmt.Sprintf("grad: LayerNorm of %v with gain %v and bias %v", x.Shape, w.Shape, b.Shape))
	}
	y := t.New(x.Shape)
	var stats []float32 // mean and 1/deviation of each row
	if n := t.Record(y, layerNormBack, x, w, b).Tangent(normTangent).PerSample(1, 2).Again(layerNormAgain); n != nil {
		n.Floats[0] = eps
		stats = n.Save(0, 2*rows)
	}
	layerNorm(y, x, w, b, stats, eps)
	return y
}

func layerNormAgain(n *Node) { layerNorm(n.Out, n.In[0], n.In[1], n.In[2], nil, n.Floats[0]) }

// layerNorm writes y and, if not nil, stats.
func layerNorm(y, x, w, b *Var, stats []float32, eps float32) {
	rows, cols := x.Rows(), x.Cols()
	normLoop.Run(par.Pieces(rows, rowGrain), normArgs{y.Data, x.Data, w.Data, b.Data, stats, rows, cols, eps},
		func(a *normArgs, i int) {
			lo, hi := par.Bounds(i, rowGrain, a.rows)
			for r := lo; r < hi; r++ {
				mean, rstd := simd.LayerNormRow(a.y[r*a.cols:(r+1)*a.cols], a.x[r*a.cols:(r+1)*a.cols], a.w, a.b, a.eps)
				if a.stats != nil {
					a.stats[2*r], a.stats[2*r+1] = mean, rstd
				}
			}
		})
}

func layerNormBack(n *Node) {
	normBack(n, func(a *normBackArgs, i int) {
		dw, db := a.dw[i*a.cols:(i+1)*a.cols], a.db[i*a.cols:(i+1)*a.cols]
		lo, hi := par.Bounds(i, a.grain, a.rows)
		for r := lo; r < hi; r++ {
			c, d := r*a.cols, (r+1)*a.cols
			if a.fresh {
				clear(a.dx[c:d])
			}
			simd.LayerNormRowBackward(a.dx[c:d], dw, db, a.x[c:d], a.w, a.dy[c:d], a.stats[2*r], a.stats[2*r+1])
		}
	})
}

// normBack runs the backward rows of a norm, then sums the partial gradients
// of its gain (input 1) and bias (input 2, if there is one) in fixed order.
func normBack(n *Node, rows func(*normBackArgs, int)) {
	t, x, w := n.Tape, n.In[0], n.In[1]
	a := normBackArgs{x: x.Data, w: w.Data, dy: n.Out.Grad, stats: n.Saved[0], rows: x.Rows(), cols: x.Cols()}
	a.grain = partialGrain(a.rows)
	pieces := par.Pieces(a.rows, a.grain)
	dx, fresh := n.GradInto(0)
	if dx == nil { // wanted by nobody, but the rows write one
		dx, fresh = t.scratch(x.Len()), true
		defer t.drop(dx)
	}
	a.dx, a.fresh = dx, fresh
	sums := t.scratch(2 * pieces * a.cols)
	defer t.drop(sums)
	clear(sums)
	a.dw, a.db = sums[:pieces*a.cols], sums[pieces*a.cols:]
	normBackLoop.Run(pieces, a, rows)
	if g, fresh := n.GradInto(1); g != nil {
		fold(g, a.dw, fresh)
	}
	if g, fresh := n.GradInto(2); g != nil {
		fold(g, a.db, fresh)
	}
}

// normTangent is that of both norms; LayerNorm, which has a bias, centres its
// rows first. With c the row and r = (mean(c²)+eps)^(-1/2):
//
//	ẏ = (ċ·r + c·ṙ)·w + c·r·ẇ + ḃ,  ṙ = -r³·mean(c·ċ)
func normTangent(n *Node) *Var {
	t, c, w, dc := n.Tape, n.In[0], n.In[1], n.Tan(0)
	if n.In[2] != nil {
		c, dc = centre(t, c), centre(t, dc)
	}
	r := Pow(t, AddScalar(t, rowMean(t, Square(t, c)), n.Floats[0]), -0.5)
	var y *Var
	if dc != nil {
		dr := Scale(t, Mul(t, Pow(t, r, 3), rowMean(t, Mul(t, c, dc))), -1)
		y = MulRow(t, Add(t, MulCol(t, dc, r), MulCol(t, c, dr)), w)
	}
	if dw := n.Tan(1); dw != nil {
		y = plus(t, y, MulRow(t, MulCol(t, c, r), dw))
	}
	return plusRow(t, n.Out.Shape, y, n.Tan(2))
}

func rowMean(t *Tape, x *Var) *Var { return Scale(t, RowSum(t, x), 1/float32(x.Cols())) }

// centre subtracts from every row its mean; the tangent of zero is zero.
func centre(t *Tape, x *Var) *Var {
	if x == nil {
		return nil
	}
	return AddCol(t, x, Scale(t, rowMean(t, x), -1))
}
