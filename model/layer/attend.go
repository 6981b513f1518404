// Package layer holds the layers that models are made of, as operations on a
// tape.
package layer

import (
	"fmt"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/model/attention"
)

// Heads is the shape of an attention layer. Its input is one fused matrix in
// which a row holds the queries of all heads, then the keys, then the values
// of the key-value heads: (Query + 2·KV)·Size floats.
type Heads struct {
	Query int // query heads
	KV    int // key and value heads; a divisor of Query
	Size  int // floats in a head
}

// Width is the number of floats in a row of fused queries, keys and values.
func (h Heads) Width() int { return (h.Query + 2*h.KV) * h.Size }

// Attend computes softmax(q·kᵀ/√E)·v within sequences of the given length,
// under a mask. qkv: [B·length, Width]; result: [B·length, Query·Size].
func Attend(t *grad.Tape, qkv *grad.Var, h Heads, length int, mask attention.Mask) *grad.Var {
	return attend(t, qkv, h, length, mask, 0)
}

// AttendFlash is Attend in the order of f. It gives the same but for rounding.
func AttendFlash(t *grad.Tape, qkv *grad.Var, h Heads, length int, mask attention.Mask, f attention.Flash) *grad.Var {
	return attend(t, qkv, h, length, mask, 1+f.Cache)
}

// attend computes attention in the order of attention.Forward for flash 0, else
// in that of attention.Flash with a cache of flash-1 bytes.
func attend(t *grad.Tape, qkv *grad.Var, h Heads, length int, mask attention.Mask, flash int) *grad.Var {
	if qkv.Cols() != h.Width() || length < 1 || qkv.Rows()%length != 0 {
		panic(fmt.Sprintf("layer: Attend of %v with heads %+v, sequences of %d", qkv.Shape, h, length))
	}
	y := t.New(qkv.Shape.WithLast(h.Query * h.Size))
	a := attendArgs(qkv, h, length, mask)
	lse := t.Arena.Dirty(memory.Activations, qkv.Rows()*h.Query)
	if o := view(y.Data, y.Cols()); flash > 0 {
		attention.Flash{Cache: flash - 1}.Forward(a, o, lse)
	} else {
		attention.Forward(a, o, lse)
	}
	n := t.Record(y, attendBack, qkv).KeepOut()
	if n == nil {
		t.Arena.Free(memory.Activations, lse)
		return y
	}
	n.Saved[0] = lse
	n.State = mask
	n.Ints = [8]int{h.Query, h.KV, h.Size, length, flash}
	return y
}

func attendBack(n *grad.Node) {
	qkv := n.In[0]
	h := Heads{n.Ints[0], n.Ints[1], n.Ints[2]}
	d, fresh := n.GradInto(0)
	w := h.Width()
	k, v := h.Query*h.Size, (h.Query+h.KV)*h.Size
	a := attendArgs(qkv, h, n.Ints[3], n.State.(attention.Mask))
	g := attention.Grads{
		O: view(n.Out.Data, n.Out.Cols()), DO: view(n.Out.Grad, n.Out.Cols()), LSE: n.Saved[0],
		DQ: view(d, w), DK: view(d[k:], w), DV: view(d[v:], w),
		Add: !fresh,
	}
	if flash := n.Ints[4]; flash > 0 {
		attention.Flash{Cache: flash - 1}.Backward(a, g)
	} else {
		attention.Backward(a, g)
	}
}

func attendArgs(qkv *grad.Var, h Heads, length int, mask attention.Mask) attention.Args {
	w, x := h.Width(), qkv.Data
	k, v := h.Query*h.Size, (h.Query+h.KV)*h.Size
	return attention.Args{
		Batch: qkv.Rows() / length, Queries: length, Keys: length,
		Heads: h.Query, KVHeads: h.KV, Dim: h.Size,
		Q: view(x, w), K: view(x[k:], w), V: view(x[v:], w),
		Mask: mask,
	}
}

func view(x []float32, row int) attention.View { return attention.View{Data: x, Row: row} }
