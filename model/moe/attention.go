package moe

import (
	"fmt"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/model/attention"
	"hasten/model/block"
)

// Attention is a mixture of multi-head attention: the keys and values are
// shared, and the router chooses for each token k of the experts, which are
// groups of query heads with their share of the output:
//
//	y = x + Σⱼ pⱼ·Out_e·attend(Query_e·x, Key·x, Value·x)   over the chosen experts e
//
// With Heads heads in the model an expert has Heads/k, so that as much is
// computed as in common attention; of the KV key-value heads KV/k remain, which
// all experts share. Both products with experts keep the order of the tokens.
// Source: Tan et al., "Scattered Mixture-of-Experts Implementation", 2024, after
// Zhang et al., "Mixture of Attention Heads", 2022.
type Attention struct {
	Routing
}

// NewAttention returns the defaults of the part.
func NewAttention() *Attention {
	return &Attention{Routing{Experts: 8, K: 2, Balance: 0.01, Normalize: true}}
}

// heads is the shape of the attention of a layer.
type heads struct {
	k, query, kv, size int // choices; heads of an expert; shared key-value heads; floats in a head
}

// mixer is the layer of one block.
type mixer struct {
	router     router
	query, out *grad.Param  // [E, query·size, Dim], [E, Dim, query·size]
	kv         block.Linear // rows of the keys, then the values
	heads      heads
	rotary     *grad.Rotary
	ctx        int
}

// NewMixer implements block.MixerPart.
func (o *Attention) NewMixer(s *block.Site) (block.Mixer, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if s.Heads%o.K != 0 || s.KV%o.K != 0 {
		return nil, fmt.Errorf("k=%d: the model's heads (%d) and kv (%d) must be multiples of it", o.K, s.Heads, s.KV)
	}
	m := &mixer{heads: heads{o.K, s.Heads / o.K, s.KV / o.K, s.HeadSize()}, rotary: s.Rotary, ctx: s.Ctx}
	m.router = o.router(s, "attn")
	m.query = o.experts(s, "attn.query", block.Weight(), m.heads.query*m.heads.size, s.Dim)
	m.kv = s.Linear("attn.kv", block.Weight(), 2*m.heads.kv*m.heads.size, s.Dim, s.AttentionBias)
	m.out = o.experts(s, "attn.out", s.BranchEnd(), s.Dim, m.heads.query*m.heads.size)
	return m, nil
}

// MACs implements block.Mixer.
func (m *mixer) MACs(length int) float64 {
	attend := float64(m.heads.k*m.heads.query*m.heads.size) * float64(length+1) // see net.Attention
	return m.router.Linear.MACs() + m.router.perToken(m.query) + m.kv.MACs() + m.router.perToken(m.out) + attend
}

// project computes the queries [n, k·query·size] and the keys and values
// [n, 2·kv·size] of tokens at positions 0 … period-1 of their sequences, or from
// wherever the angles start.
func (m *mixer) project(t *grad.Tape, x *grad.Var, p *Plan, angles *grad.Rotary, period int) (q, kv *grad.Var) {
	q = ParallelLinear(t, x, m.query.Var, p, Tokens, Places, nil, nil)
	kv = m.kv.Apply(t, x, nil)
	if angles != nil {
		q = grad.RoPE(t, q, angles, m.heads.k*m.heads.query, period)
		kv = grad.RoPE(t, kv, angles, m.heads.kv, period)
	}
	return q, kv
}

// Forward implements block.Mixer.
func (m *mixer) Forward(t *grad.Tape, x, residual *grad.Var, s block.Segments) *grad.Var {
	gates, plan := m.router.route(t, x)
	q, kv := m.project(t, x, &plan, m.rotary, s.Length)
	t.Forget(x)
	o := attend(t, q, kv, &m.heads, s)
	return ParallelLinear(t, o, m.out.Var, &plan, Places, Tokens, gates, residual)
}

// NewState implements block.Mixer.
func (m *mixer) NewState(a *memory.Arena) block.State {
	return block.NewCache(a, m.ctx, m.heads.kv*m.heads.size)
}

// Step implements block.Mixer.
func (m *mixer) Step(t *grad.Tape, x, residual *grad.Var, state block.State) *grad.Var {
	c, n := state.(*block.Cache), x.Rows()
	var angles *grad.Rotary
	if m.rotary != nil {
		angles = m.rotary.From(c.Seen)
	}
	gates, plan := m.router.route(t, x)
	q, kv := m.project(t, x, &plan, angles, n)
	start, width := c.Seen, m.heads.kv*m.heads.size
	for r := range n {
		c.Append(kv.Row(r)[:width], kv.Row(r)[width:])
	}
	o := t.New(q.Shape)
	a := m.heads.args(q.Data, c.Keys, c.Values, width)
	a.Batch, a.Queries, a.Keys, a.Offset, a.Mask = 1, n, c.Seen, start, attention.Causal{}
	lse := t.Arena.Dirty(memory.Workspace, n*m.heads.query)
	for j := range m.heads.k {
		attention.Forward(m.heads.choice(a, j), m.heads.view(o.Data, j), lse)
	}
	t.Arena.Free(memory.Workspace, lse)
	return ParallelLinear(t, o, m.out.Var, &plan, Places, Tokens, gates, residual)
}

// args is the attention of all choices; choice j is that of one, whose heads
// lie beside those of the others.
func (h *heads) args(q, keys, values []float32, row int) attention.Args {
	return attention.Args{
		Heads: h.query, KVHeads: h.kv, Dim: h.size,
		Q: h.view(q, 0), K: attention.View{Data: keys, Row: row}, V: attention.View{Data: values, Row: row},
	}
}

func (h *heads) choice(a attention.Args, j int) attention.Args {
	a.Q = h.view(a.Q.Data, j)
	return a
}

// view is the part of choice j of x [n, k·query·size].
func (h *heads) view(x []float32, j int) attention.View {
	return attention.View{Data: x[j*h.query*h.size:], Row: h.k * h.query * h.size}
}

// attend lets the heads of every choice attend to the shared keys and values.
// q: [n, k·query·size], kv: [n, 2·kv·size]; result: like q.
func attend(t *grad.Tape, q, kv *grad.Var, h *heads, s block.Segments) *grad.Var {
	y := t.New(q.Shape)
	a := h.sequences(q, kv, s.Length, s.Mask)
	lse := t.Arena.Dirty(memory.Activations, h.k*q.Rows()*h.query)
	for j := range h.k {
		attention.Forward(h.choice(a, j), h.view(y.Data, j), h.lse(lse, j))
	}
	n := t.Record(y, attendBack, q, kv).KeepOut()
	if n == nil {
		t.Arena.Free(memory.Activations, lse)
		return y
	}
	n.Saved[0] = lse
	n.State = s.Mask
	n.Ints = [8]int{h.k, h.query, h.kv, h.size, s.Length}
	return y
}

// sequences is the attention within sequences of the given length.
func (h *heads) sequences(q, kv *grad.Var, length int, mask attention.Mask) attention.Args {
	a := h.args(q.Data, kv.Data, kv.Data[h.kv*h.size:], kv.Cols())
	a.Batch, a.Queries, a.Keys, a.Mask = q.Rows()/length, length, length, mask
	return a
}

func (h *heads) lse(x []float32, j int) []float32 {
	n := len(x) / h.k
	return x[j*n : (j+1)*n]
}

func attendBack(n *grad.Node) {
	h := heads{n.Ints[0], n.Ints[1], n.Ints[2], n.Ints[3]}
	q, kv := n.In[0], n.In[1]
	a := h.sequences(q, kv, n.Ints[4], n.State.(attention.Mask))
	dq, dkv := n.GradOf(0), n.GradOf(1)
	row := kv.Cols()
	for j := range h.k {
		attention.Backward(h.choice(a, j), attention.Grads{
			O: h.view(n.Out.Data, j), DO: h.view(n.Out.Grad, j), LSE: h.lse(n.Saved[0], j),
			DQ: h.view(dq, j), DK: attention.View{Data: dkv, Row: row}, DV: attention.View{Data: dkv[h.kv*h.size:], Row: row},
			Add: true,
		})
	}
}
