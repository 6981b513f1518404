package net

import (
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/model/attention"
	"hasten/model/block"
	"hasten/model/layer"
)

// Attention is the mixer of both layouts: Out(attend(QKV x)), with rotated
// queries and keys in Llama's.
type Attention struct{}

// selfAttention is the layer of one block.
type selfAttention struct {
	QKV, Out block.Linear // QKV: rows of the queries, the keys, the values
	heads    layer.Heads
	rotary   *grad.Rotary
	ctx      int
}

// NewMixer implements block.MixerPart.
func (*Attention) NewMixer(s *block.Site) (block.Mixer, error) {
	m := &selfAttention{heads: layer.Heads{Query: s.Heads, KV: s.KV, Size: s.HeadSize()}, rotary: s.Rotary, ctx: s.Ctx}
	m.QKV = s.Linear("attn.qkv", block.Weight(), m.heads.Width(), s.Dim, s.AttentionBias)
	m.Out = s.Linear("attn.out", s.BranchEnd(), s.Dim, s.Dim, s.AttentionBias)
	return m, nil
}

// Forward implements block.Mixer.
func (m *selfAttention) Forward(t *grad.Tape, x, residual *grad.Var, s block.Segments) *grad.Var {
	h := m.QKV.Apply(t, x, nil)
	t.Forget(x)
	if m.rotary != nil {
		h = grad.RoPE(t, h, m.rotary, m.heads.Query+m.heads.KV, s.Length)
	}
	h = layer.Attend(t, h, m.heads, s.Length, s.Mask)
	return m.Out.Apply(t, h, residual)
}

// MACs implements block.Mixer: the products with weights, and q·k and p·v over
// (length+1)/2 keys.
func (m *selfAttention) MACs(length int) float64 {
	return m.QKV.MACs() + m.Out.MACs() + float64(m.heads.Query*m.heads.Size)*float64(length+1)
}

// NewState implements block.Mixer.
func (m *selfAttention) NewState(a *memory.Arena) block.State {
	return block.NewCache(a, m.ctx, m.heads.KV*m.heads.Size)
}

// Step implements block.Mixer.
func (m *selfAttention) Step(t *grad.Tape, x, residual *grad.Var, state block.State) *grad.Var {
	c, n, e := state.(*block.Cache), x.Rows(), m.heads.Size
	h := m.QKV.Apply(t, x, nil)
	if m.rotary != nil {
		h = grad.RoPE(t, h, m.rotary.From(c.Seen), m.heads.Query+m.heads.KV, n)
	}
	q, kv := m.heads.Query*e, m.heads.KV*e
	start := c.Seen
	for r := range n {
		row := h.Row(r)
		c.Append(row[q:q+kv], row[q+kv:])
	}
	y := t.New(h.WithLast(q))
	lse := t.Arena.Dirty(memory.Workspace, n*m.heads.Query)
	attention.Forward(attention.Args{
		Batch: 1, Queries: n, Keys: c.Seen, Offset: start,
		Heads: m.heads.Query, KVHeads: m.heads.KV, Dim: e,
		Q: attention.View{Data: h.Data, Row: h.Cols()},
		K: attention.View{Data: c.Keys, Row: kv}, V: attention.View{Data: c.Values, Row: kv},
		Mask: attention.Causal{},
	}, attention.View{Data: y.Data, Row: q}, lse)
	t.Arena.Free(memory.Workspace, lse)
	return m.Out.Apply(t, y, residual)
}
