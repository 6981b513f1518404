package net

import (
	"fmt"
	"slices"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/tensor"
	"hasten/model/block"
)

// Decoder runs a model forward on one sequence, token after token, with the
// states that its mixers keep of what they have seen. When the context is full
// it goes on from the newer half of it.
type Decoder struct {
	model  *GPT
	tape   *grad.Tape
	states []block.State // one for each block
	seen   []int32       // tokens in the context
	logits []float32
}

// NewDecoder returns a decoder with an empty context.
func (m *GPT) NewDecoder() *Decoder {
	a := m.params.Arena
	d := &Decoder{model: m, tape: grad.NewTape(a), logits: make([]float32, m.Vocab)}
	for _, b := range m.Blocks {
		d.states = append(d.states, b.Mixer.NewState(a))
	}
	return d
}

// Close gives back the decoder's buffers.
func (d *Decoder) Close() {
	for _, s := range d.states {
		s.Close()
	}
	d.states = nil
}

// StateBytes is the memory of the states of all blocks.
func (d *Decoder) StateBytes() int64 {
	var n int64
	for _, s := range d.states {
		n += s.Bytes()
	}
	return n
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
		for _, s := range d.states {
			s.Reset()
		}
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
		x = b.Mixer.Step(t, b.Norm1.apply(t, x), x, d.states[i])
		x = b.FFN.Forward(t, b.Norm2.apply(t, x), x)
	}
	last := tensor.From(x.Row(n-1), 1, m.Dim)
	y := m.Norm.apply(t, t.Input(last))
	matmul.Mul(matmul.Args{M: 1, N: m.Vocab, K: m.Dim, A: y.Data, B: m.Head.Data, TransB: true, C: d.logits})
}
