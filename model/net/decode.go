package net

import (
	"fmt"
	"slices"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/tensor"
	"hasten/model/attention"
)

// Decoder runs a model forward on one sequence, token after token, keeping the
// keys and values of what it has seen. When the context is full it goes on
// from the newer half of it.
type Decoder struct {
	model  *GPT
	tape   *grad.Tape
	keys   [][]float32 // for each block [Ctx, KV·E]
	values [][]float32
	seen   []int32 // tokens in the context
	logits []float32
}

// NewDecoder returns a decoder with an empty context.
func (m *GPT) NewDecoder() *Decoder {
	d := &Decoder{model: m, tape: grad.NewTape(m.arena), logits: make([]float32, m.Vocab)}
	size := m.Ctx * m.KV * m.HeadSize()
	for range m.Blocks {
		d.keys = append(d.keys, m.arena.Dirty(memory.Activations, size))
		d.values = append(d.values, m.arena.Dirty(memory.Activations, size))
	}
	return d
}

// Close gives back the decoder's buffers.
func (d *Decoder) Close() {
	for i := range d.keys {
		d.model.arena.Free(memory.Activations, d.keys[i])
		d.model.arena.Free(memory.Activations, d.values[i])
	}
	d.keys, d.values = nil, nil
}

// Feed appends tokens to the context and returns the logits [Vocab] of the
// token that comes next. They are overwritten by the next call.
func (d *Decoder) Feed(tokens ...int32) ([]float32, error) {
	if len(tokens) == 0 {
		return nil, fmt.Errorf("net: no token to go on from")
	}
	for _, id := range tokens {
		if id < 0 || int(id) >= d.model.Vocab {
			return nil, fmt.Errorf("net: token %d, the vocabulary has %d", id, d.model.Vocab)
		}
	}
	if n := len(tokens); n > d.model.Ctx {
		tokens = tokens[n-d.model.Ctx:]
	}
	if len(d.seen)+len(tokens) > d.model.Ctx {
		keep := min(d.model.Ctx/2, d.model.Ctx-len(tokens))
		tokens = append(slices.Clone(d.seen[len(d.seen)-min(keep, len(d.seen)):]), tokens...)
		d.seen = d.seen[:0]
	}
	d.tape.NoGrad(func() { d.forward(tokens) })
	d.tape.Reset()
	d.seen = append(d.seen, tokens...)
	return d.logits, nil
}

func (d *Decoder) forward(tokens []int32) {
	m, t := d.model, d.tape
	start, n := len(d.seen), len(tokens)
	x := grad.Embedding(t, m.Token.Var, tokens)
	if m.Position != nil {
		at := tensor.From(m.Position.Data[start*m.Dim:(start+n)*m.Dim], n, m.Dim)
		x = grad.Add(t, x, t.Input(at))
	}
	for i, b := range m.Blocks {
		h := b.QKV.apply(t, b.Norm1.apply(t, x), nil)
		if m.rotary != nil {
			h = grad.RoPE(t, h, m.rotary.From(start), m.Heads+m.KV, n)
		}
		h = d.attend(i, h)
		x = b.Out.apply(t, h, x)
		h = b.Up.apply(t, b.Norm2.apply(t, x), nil)
		x = b.Down.apply(t, b.activate(t, h), x)
	}
	last := tensor.From(x.Row(n-1), 1, m.Dim)
	y := m.Norm.apply(t, t.Input(last))
	matmul.Mul(matmul.Args{M: 1, N: m.Vocab, K: m.Dim, A: y.Data, B: m.Head.Data, TransB: true, C: d.logits})
}

// attend stores the new keys and values of block i and attends to all.
func (d *Decoder) attend(i int, qkv *grad.Var) *grad.Var {
	m, start, n := d.model, len(d.seen), qkv.Rows()
	e := m.HeadSize()
	q, kv := m.Heads*e, m.KV*e
	for r := range n {
		row := qkv.Row(r)
		copy(d.keys[i][(start+r)*kv:(start+r+1)*kv], row[q:])
		copy(d.values[i][(start+r)*kv:(start+r+1)*kv], row[q+kv:])
	}
	y := d.tape.New(qkv.WithLast(q))
	lse := m.arena.Dirty(memory.Workspace, n*m.Heads)
	attention.Forward(attention.Args{
		Batch: 1, Queries: n, Keys: start + n, Offset: start,
		Heads: m.Heads, KVHeads: m.KV, Dim: e,
		Q: attention.View{Data: qkv.Data, Row: qkv.Cols()},
		K: attention.View{Data: d.keys[i], Row: kv}, V: attention.View{Data: d.values[i], Row: kv},
		Mask: attention.Causal{},
	}, attention.View{Data: y.Data, Row: q}, lse)
	m.arena.Free(memory.Workspace, lse)
	return y
}
