package int8flow

import (
	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
)

// Linear computes y = x·Wᵀ + b + r. x: [Rows, in]; w: [out, in] and b: [out] or
// nil, float32; r: [Rows, out], or its zero value for none. The weights are
// rounded to tiles once, for this product and that of the backward pass.
func Linear(t *grad.Tape, x Value, w, b *grad.Var, r Value) Value {
	in, out := w.Cols(), w.Rows()
	if x.Cols != in || b != nil && b.Len() != out || r.Var != nil && (r.Rows != x.Rows || r.Cols != out) {
		mismatch("Linear", x, "weight", w.Shape, "residual", r.Rows, r.Cols)
	}
	y := newValue(t, x.Rows, out)
	n := t.Record(y.Var, linearBack, x.Var, w, b, r.Var)
	// One reservation serves dx and, where it cannot be handed over, dr.
	s := size{rows: x.Rows, in: in, out: out, draws: reserve(t, max(tilesIn(x.Rows, in), tilesIn(x.Rows, out)))}
	var slots []float32
	if n != nil {
		s.keep(n)
		slots = n.Save(0, matmul.TilesLen(out, in))
	} else {
		slots = t.Arena.Dirty(memory.Workspace, matmul.TilesLen(out, in))
		defer t.Arena.Free(memory.Workspace, slots)
	}
	weight := matmul.TilesOf(out, in, slots)
	weight.Quantize(w.Data, matmul.Rounding{})
	a := matmul.TileArgs{A: x.Tiles(), B: weight, TransB: true, Out: y.Tiles()}
	if b != nil {
		a.Bias = b.Data
	}
	if r.Var != nil {
		a.Residual = r.Tiles()
	}
	matmul.MulTiles(a)
	return y
}

func linearBack(n *grad.Node) {
	s := sizeOf(n)
	dy, weight := s.dy(n), matmul.TilesOf(s.out, s.in, n.Saved[0])
	if dw, fresh := n.GradInto(1); dw != nil {
		a := matmul.TileArgs{A: dy, TransA: true, B: s.x(n), Wide: dw}
		if !fresh {
			a.Beta = 1
		}
		matmul.MulTiles(a)
	}
	if db, fresh := n.GradInto(2); db != nil {
		dy.SumRows(db, fresh)
	}
	if dx, fresh := s.dx(n); dx.Codes != nil {
		a := matmul.TileArgs{A: dy, B: weight, Out: dx, Rounding: s.rounding()}
		if !fresh {
			a.Residual = dx
		}
		matmul.MulTiles(a)
	}
	if n.In[3] != nil {
		pass(n, 3, &s)
	}
}
