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

// Flash is Attention computed in the order of FlashAttention: the same model.
type Flash struct {
	Cache int `set:"cache" range:"[1,1048576]" help:"KiB of fast memory that a core has to itself"`
}

// FlashBlock is Flash with a butterfly of blocks: each block of tokens sees
// itself and the blocks before it whose number differs in one bit.
type FlashBlock struct {
	Flash
	Block int `set:"block" range:"[1,1048576]" help:"tokens in a block; a multiple of 64 costs least"`
}

// Standard tells that a model with this part is one of the layout's own.
func (*Flash) Standard() bool { return true }

// Standard is false: other programs would see more tokens.
func (*FlashBlock) Standard() bool { return false }

// NewMixer implements block.MixerPart.
func (p *Flash) NewMixer(s *block.Site) (block.Mixer, error) {
	m := newSelfAttention(s)
	m.flash = &attention.Flash{Cache: p.Cache << 10}
	return m, nil
}

// NewMixer implements block.MixerPart.
func (p *FlashBlock) NewMixer(s *block.Site) (block.Mixer, error) {
	m := newSelfAttention(s)
	m.flash = &attention.Flash{Cache: p.Cache << 10}
	m.sparse = attention.Butterfly{Block: p.Block}
	m.sparseCausal = attention.And(attention.Causal{}, m.sparse)
	return m, nil
}

// selfAttention is the layer of one block.
type selfAttention struct {
	QKV, Out block.Linear // QKV: rows of the queries, the keys, the values
	heads    layer.Heads
	rotary   *grad.Rotary
	ctx      int

	flash        *attention.Flash // nil: the order of attention.Forward
	sparse       attention.Mask   // nil: none beside that of the batch
	sparseCausal attention.Mask   // with the causal one
}

// NewMixer implements block.MixerPart.
func (*Attention) NewMixer(s *block.Site) (block.Mixer, error) { return newSelfAttention(s), nil }

func newSelfAttention(s *block.Site) *selfAttention {
	m := &selfAttention{heads: layer.Heads{Query: s.Heads, KV: s.KV, Size: s.HeadSize()}, rotary: s.Rotary, ctx: s.Ctx}
	m.QKV = s.Linear("attn.qkv", block.Weight(), m.heads.Width(), s.Dim, s.AttentionBias)
	m.Out = s.Linear("attn.out", s.BranchEnd(), s.Dim, s.Dim, s.AttentionBias)
	return m
}

// mask is what the tokens of a pass see.
func (m *selfAttention) mask(s block.Segments) attention.Mask {
	if m.sparse == nil {
		return s.Mask
	}
	if _, ok := s.Mask.(attention.Causal); ok {
		return m.sparseCausal
	}
	return attention.And(s.Mask, m.sparse)
}

// Forward implements block.Mixer.
func (m *selfAttention) Forward(t *grad.Tape, x, residual *grad.Var, s block.Segments) *grad.Var {
	h := m.QKV.Apply(t, x, nil)
	t.Forget(x)
	if m.rotary != nil {
		h = grad.RoPE(t, h, m.rotary, m.heads.Query+m.heads.KV, s.Length)
	}
	if m.flash != nil {
		h = layer.AttendFlash(t, h, m.heads, s.Length, m.mask(s), *m.flash)
	} else {
		h = layer.Attend(t, h, m.heads, s.Length, s.Mask)
	}
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
		Mask: m.mask(block.Segments{Mask: attention.Causal{}}),
	}, attention.View{Data: y.Data, Row: q}, lse)
	t.Arena.Free(memory.Workspace, lse)
	return m.Out.Apply(t, y, residual)
}
