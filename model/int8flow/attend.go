package int8flow

import (
	"sync"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
	"hasten/model/attention"
	"hasten/model/layer"
)

// Attention says how Attend reads its input.
type Attention struct {
	Heads  layer.Heads
	Length int            // of a sequence
	Mask   attention.Mask // what sees what
	Rotary *grad.Rotary   // nil: queries and keys are not rotated
}

// Attend computes softmax(q·kᵀ/√E)·v within sequences, after rotating queries
// and keys by their positions. qkv: [B·Length, Heads.Width()]; result:
// [B·Length, Query·Size]. Inside it is float32, for a few sequences at a time.
func Attend(t *grad.Tape, qkv Value, how Attention) Value {
	h := how.Heads
	if qkv.Cols != h.Width() || how.Length < 1 || qkv.Rows%how.Length != 0 {
		mismatch("Attend", qkv, "heads", h, "sequences of", how.Length)
	}
	y := newValue(t, qkv.Rows, h.Query*h.Size)
	s := size{rows: qkv.Rows, in: qkv.Cols, out: y.Cols, draws: reserve(t, tilesIn(qkv.Rows, qkv.Cols))}
	n := t.Record(y.Var, attendBack, qkv.Var).KeepOut()
	var lse []float32
	if n != nil {
		s.keep(n)
		kept := attentions.Get().(*Attention)
		*kept = how
		n.State = kept
		lse = n.Save(0, qkv.Rows*h.Query)
	}
	a := attendArgs{Attention: how, qkv: qkv.Tiles(), y: y.Tiles()}
	for a.first = 0; a.first < qkv.Rows; a.first = a.last {
		a.next()
		wide := memory.Default.Dirty(memory.Workspace, a.padded()*(a.ld()+a.ldy()))
		a.in, a.out = wide[:a.padded()*a.ld()], wide[a.padded()*a.ld():]
		attendLoop.Run(a.strips(), a, widen)
		attention.Forward(a.args(), view(a.out, a.ldy()), a.part(lse))
		a.drop()
		attendLoop.Run(a.strips(), a, narrowOut)
		memory.Default.Free(memory.Workspace, wide)
	}
	return y
}

func attendBack(n *grad.Node) {
	s := sizeOf(n)
	kept := n.State.(*Attention)
	a := attendArgs{Attention: *kept, qkv: s.x(n), y: s.y(n), dy: s.dy(n), how: s.rounding()}
	a.dqkv, a.fresh = s.dx(n)
	for a.first = 0; a.first < s.rows; a.first = a.last {
		a.next()
		p, h := a.padded(), a.Heads
		wide := memory.Default.Dirty(memory.Workspace, 2*p*(a.ld()+a.ldy()))
		a.in, a.out = wide[:p*a.ld()], wide[2*p*a.ld():][:p*a.ldy()]
		a.din, a.dout = wide[p*a.ld():][:p*a.ld()], wide[2*p*a.ld()+p*a.ldy():]
		attendLoop.Run(a.strips(), a, widen)
		attendLoop.Run(a.strips(), a, widenOut)
		k, v := h.Query*h.Size, (h.Query+h.KV)*h.Size
		attention.Backward(a.args(), attention.Grads{
			O: view(a.out, a.ldy()), DO: view(a.dout, a.ldy()), LSE: a.part(n.Saved[0]),
			DQ: view(a.din, a.ld()), DK: view(a.din[k:], a.ld()), DV: view(a.din[v:], a.ld()),
		})
		a.drop()
		attendLoop.Run(a.strips(), a, narrowIn)
		memory.Default.Free(memory.Workspace, wide)
	}
	*kept = Attention{}
	attentions.Put(kept)
}

// attentions are kept between the passes without allocating.
var attentions = sync.Pool{New: func() any { return new(Attention) }}

// attendArgs is rows first … last-1, whole sequences and, but for the end,
// whole strips. in and out are [padded, ld] and [padded, ldy], as float32.
type attendArgs struct {
	Attention
	qkv, y, dqkv, dy   matmul.Tiles
	in, out, din, dout []float32
	fresh              bool
	how                matmul.Rounding
	first, last        int
	shifted            *shifted
}

var attendLoop par.Loop[attendArgs]

// chunkRows is the number of rows worth widening together: enough work for the
// cores, little workspace.
const chunkRows = 1024

// next sets last.
func (a *attendArgs) next() {
	unit := a.Length
	for unit%side != 0 {
		unit *= 2
	}
	a.last = min(a.qkv.Rows, a.first+par.Pieces(chunkRows, unit)*unit)
}

func (a *attendArgs) ld() int     { return a.qkv.StripWidth() }
func (a *attendArgs) ldy() int    { return a.y.StripWidth() }
func (a *attendArgs) strips() int { return par.Pieces(a.last-a.first, side) }
func (a *attendArgs) padded() int { return a.strips() * side }

// strip is strip i of the chunk in x.
func (a *attendArgs) strip(x []float32, ld, i int) (s []float32, at int) {
	return x[i*side*ld:][:side*ld], a.first/side + i
}

// part is what belongs to the chunk of the logarithms [B, Heads.Query, Length].
func (a *attendArgs) part(lse []float32) []float32 {
	if lse == nil {
		return nil
	}
	return lse[a.first*a.Heads.Query : a.last*a.Heads.Query]
}

func (a *attendArgs) args() attention.Args {
	h := a.Heads
	k, v := h.Query*h.Size, (h.Query+h.KV)*h.Size
	a.shifted = shifts.Get().(*shifted)
	*a.shifted = shifted{a.Mask, a.first / a.Length}
	return attention.Args{
		Batch: (a.last - a.first) / a.Length, Queries: a.Length, Keys: a.Length,
		Heads: h.Query, KVHeads: h.KV, Dim: h.Size,
		Q: view(a.in, a.ld()), K: view(a.in[k:], a.ld()), V: view(a.in[v:], a.ld()),
		Mask: a.shifted,
	}
}

// drop gives back what args took.
func (a *attendArgs) drop() {
	*a.shifted = shifted{}
	shifts.Put(a.shifted)
	a.shifted = nil
}

// shifted is a mask as seen by sequences from first on.
type shifted struct {
	attention.Mask
	first int
}

var shifts = sync.Pool{New: func() any { return new(shifted) }}

func (s *shifted) Tile(batch, head, q0, q1, k0, k1 int) attention.Cover {
	return s.Mask.Tile(s.first+batch, head, q0, q1, k0, k1)
}

func (s *shifted) Run(batch, head, q, from int) (lo, hi int) {
	return s.Mask.Run(s.first+batch, head, q, from)
}

func view(x []float32, row int) attention.View { return attention.View{Data: x, Row: row} }

func widen(a *attendArgs, i int) {
	x, at := a.strip(a.in, a.ld(), i)
	a.qkv.DequantizeStrip(x, a.ld(), at)
	a.rotate(x, at, 1)
}

func narrowOut(a *attendArgs, i int) {
	y, at := a.strip(a.out, a.ldy(), i)
	a.y.QuantizeStrip(at, y, a.ldy(), matmul.Rounding{})
}

func widenOut(a *attendArgs, i int) {
	y, at := a.strip(a.out, a.ldy(), i)
	a.y.DequantizeStrip(y, a.ldy(), at)
	dy, _ := a.strip(a.dout, a.ldy(), i)
	a.dy.DequantizeStrip(dy, a.ldy(), at)
}

func narrowIn(a *attendArgs, i int) {
	dx, at := a.strip(a.din, a.ld(), i)
	a.rotate(dx, at, -1)
	if !a.fresh {
		a.dqkv.AddStrip(dx, a.ld(), at)
	}
	a.dqkv.QuantizeStrip(at, dx, a.ld(), a.how)
}

// rotate turns queries and keys of strip at by their positions, or with sign -1
// back.
func (a *attendArgs) rotate(x []float32, at int, sign float32) {
	if a.Rotary == nil {
		return
	}
	e, heads := a.Heads.Size, a.Heads.Query+a.Heads.KV
	for r := range min(side, a.qkv.Rows-at*side) {
		p := (at*side + r) % a.Length * e / 2
		simd.RoPERow(x[r*a.ld():], heads, e, a.Rotary.Cos[p:p+e/2], a.Rotary.Sin[p:p+e/2], sign)
	}
}
