package int8flow

import (
	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// RMSNorm computes x / rms(x) · w for every row, rms(x) = √(mean(x²) + eps).
// w: [Cols].
func RMSNorm(t *grad.Tape, x Value, w *grad.Var, eps float32) Value { return norm(t, x, w, nil, eps) }

// LayerNorm computes (x - mean(x)) / √(var(x) + eps) · w + b for every row.
// w, b: [Cols].
func LayerNorm(t *grad.Tape, x Value, w, b *grad.Var, eps float32) Value {
	return norm(t, x, w, b, eps)
}

// norm is LayerNorm, or without a bias RMSNorm.
func norm(t *grad.Tape, x Value, w, b *grad.Var, eps float32) Value {
	if w.Len() != x.Cols || b != nil && b.Len() != x.Cols {
		mismatch("a norm", x, "gain", w.Shape)
	}
	y := newValue(t, x.Rows, x.Cols)
	a := normArgs{x: x.Tiles(), y: y.Tiles(), eps: eps}
	s := size{rows: x.Rows, in: x.Cols, out: x.Cols, draws: reserve(t, tilesIn(x.Rows, x.Cols))}
	if n := t.Record(y.Var, normBack, x.Var, w, b).Again(normAgain); n != nil {
		s.keep(n)
		n.Floats[0] = eps
		a.stats = n.Save(0, 2*x.Rows)
	}
	a.w = w.Data
	if b != nil {
		a.b = b.Data
	}
	normLoop.Run(a.x.Strips(), a, normStrip)
	return y
}

func normAgain(n *grad.Node) {
	s := sizeOf(n)
	a := normArgs{x: s.x(n), y: s.y(n), w: n.In[1].Data, eps: n.Floats[0]}
	if b := n.In[2]; b != nil {
		a.b = b.Data
	}
	normLoop.Run(a.x.Strips(), a, normStrip)
}

type normArgs struct {
	x, y  matmul.Tiles
	w, b  []float32
	stats []float32 // mean and 1/deviation, or 1/rms, of each row; may be nil
	eps   float32
}

type normBackArgs struct {
	normArgs
	dx, dy matmul.Tiles
	fresh  bool
	dw, db []float32 // partial sums: a row for each piece
	grain  int       // strips in a piece
	how    matmul.Rounding
}

var (
	normLoop     par.Loop[normArgs]
	normBackLoop par.Loop[normBackArgs]
)

func normStrip(a *normArgs, i int) {
	x, ld := strip(a.x), a.x.StripWidth()
	a.x.DequantizeStrip(x, ld, i)
	for r := i * side; r < min((i+1)*side, a.x.Rows); r++ {
		row := x[r%side*ld:][:a.x.Cols]
		var mean, rstd float32
		if a.b == nil {
			rstd = simd.RMSNormRow(row, row, a.w, a.eps)
		} else {
			mean, rstd = simd.LayerNormRow(row, row, a.w, a.b, a.eps)
		}
		if a.stats != nil {
			a.stats[2*r], a.stats[2*r+1] = mean, rstd
		}
	}
	a.y.QuantizeStrip(i, x, ld, matmul.Rounding{})
	free(x)
}

// partials is the largest number of partial sums of the gradients of gain and
// bias. It depends on nothing, so results do not depend on the number of threads.
const partials = 32

func normBack(n *grad.Node) {
	s := sizeOf(n)
	a := normBackArgs{dy: s.dy(n), how: s.rounding()}
	a.x, a.w, a.stats = s.x(n), n.In[1].Data, n.Saved[0]
	a.dx, a.fresh = s.dx(n)
	if n.In[2] != nil {
		a.b = n.In[2].Data
	}
	a.grain = max(1, par.Pieces(a.x.Strips(), partials))
	pieces := par.Pieces(a.x.Strips(), a.grain)
	sums := memory.Default.Floats(memory.Workspace, 2*pieces*s.in)
	a.dw, a.db = sums[:pieces*s.in], sums[pieces*s.in:]
	normBackLoop.Run(pieces, a, normBackPiece)
	fold(n, 1, a.dw)
	fold(n, 2, a.db)
	free(sums)
}

// fold adds rows of partial sums to the gradient of input i, if it is wanted.
func fold(n *grad.Node, i int, sums []float32) {
	g := n.GradOf(i)
	for j := 0; g != nil && j < len(sums); j += len(g) {
		simd.AddTo(g, sums[j:j+len(g)])
	}
}

func normBackPiece(a *normBackArgs, piece int) {
	cols, ld := a.x.Cols, a.x.StripWidth()
	x, dx, dy := strip(a.x), strip(a.x), strip(a.x)
	dw, db := a.dw[piece*cols:][:cols], a.db[piece*cols:][:cols]
	lo, hi := par.Bounds(piece, a.grain, a.x.Strips())
	for i := lo; i < hi; i++ {
		a.x.DequantizeStrip(x, ld, i)
		a.dy.DequantizeStrip(dy, ld, i)
		if a.fresh || a.dx.Codes == nil {
			clear(dx)
		} else {
			a.dx.DequantizeStrip(dx, ld, i)
		}
		for r := i * side; r < min((i+1)*side, a.x.Rows); r++ {
			at := r % side * ld
			dx, x, dy := dx[at:][:cols], x[at:][:cols], dy[at:][:cols]
			if a.b == nil {
				simd.RMSNormRowBackward(dx, dw, x, a.w, dy, a.stats[2*r+1])
			} else {
				simd.LayerNormRowBackward(dx, dw, db, x, a.w, dy, a.stats[2*r], a.stats[2*r+1])
			}
		}
		if a.dx.Codes != nil {
			a.dx.QuantizeStrip(i, dx, ld, a.how)
		}
	}
	free(x)
	free(dx)
	free(dy)
}
