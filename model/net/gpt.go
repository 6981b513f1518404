// Package net assembles whole models.
//
// GPT is a decoder-only language model in one of two layouts: Llama's
// (RMSNorm, rotary positions, SwiGLU, grouped key-value heads, no biases) and
// GPT-2's (LayerNorm, learned positions, GELU, biases). Its parameters are
// fused where one product can do the work of several: queries, keys and values
// are one matrix, gate and up another.
//
// What a block does with tokens is a matter of parts: Mixers and FFNs are the
// tables of them, in the terms of package block.
package net

import (
	"fmt"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/engine/precision"
	"hasten/model/attention"
	"hasten/model/block"
	"hasten/model/int8flow"
)

// Config is the shape of a GPT. Zero values of KV, Hidden stand for the usual:
// as many key-value heads as heads, 4·dim (GPT-2) or 8/3·dim rounded up to a
// multiple of 64 (Llama).
type Config struct {
	Arch   string  // "llama" or "gpt2"
	Layers int     `set:"layers" range:"[1,512]" help:"transformer blocks"`
	Heads  int     `set:"heads" range:"[1,512]" help:"query heads"`
	KV     int     `set:"kv" range:"[0,512]" help:"key and value heads; 0: as many as heads"`
	Dim    int     `set:"dim" range:"[2,32768]" help:"width of the residual stream"`
	Hidden int     `set:"hidden" range:"[0,131072]" help:"width of the feed-forward layer; 0: the usual for dim"`
	Ctx    int     `set:"ctx" range:"[1,1048576]" help:"context: the longest sequence, in tokens"`
	Tied   bool    `set:"tied" help:"share the embedding with the output layer"`
	Eps    float64 `set:"eps" range:"(0,1)" help:"added to the variance in norms"`
	Theta  float64 `set:"theta" range:"(0,inf)" help:"base of the rotary angles"`
	Vocab  int     // set by the tokenizer

	Activation    string // GPT-2 only: "gelu_new" (the tanh form; also for ""), "gelu" or "relu"
	AttentionBias bool   // biases in the products of attention; always in GPT-2
	MLPBias       bool   // biases in the feed-forward; always in GPT-2

	Mixer block.MixerPart // nil: Attention, as both layouts have it
	FFN   block.FFNPart   // nil: Dense, as both layouts have it

	Recompute bool `set:"recompute" help:"keep no activations inside a block, compute them again: less memory, more time"`
}

// Parts are the model layouts, the default first.
var Parts = part.Table[*Config]{
	Seam: "model",
	Help: "layout and size of the language model",
	Parts: []part.Part[*Config]{
		{Name: "llama", Help: "RMSNorm, rotary positions, SwiGLU, grouped key-value heads", New: func() *Config {
			return &Config{Arch: "llama", Layers: 4, Heads: 4, Dim: 256, Ctx: 256, Tied: true, Eps: 1e-5, Theta: 10000}
		}},
		{Name: "gpt2", Help: "LayerNorm, learned positions, GELU, biases", New: func() *Config {
			return &Config{Arch: "gpt2", Layers: 4, Heads: 4, Dim: 256, Ctx: 256, Tied: true, Eps: 1e-5, Theta: 10000}
		}},
	},
}

// Validate settles the zero values and checks that the sizes go together.
func (c *Config) Validate() error {
	if c.Mixer == nil {
		c.Mixer = Mixers.Parts[0].New()
	}
	if c.FFN == nil {
		c.FFN = FFNs.Parts[0].New()
	}
	if c.KV == 0 {
		c.KV = c.Heads
	}
	if c.Hidden == 0 {
		c.Hidden = 4 * c.Dim
		if c.Arch == "llama" {
			c.Hidden = (8*c.Dim/3 + 63) / 64 * 64
		}
	}
	if c.Arch == "gpt2" {
		c.AttentionBias, c.MLPBias = true, true
	}
	switch {
	case c.Heads < 1 || c.Dim%c.Heads != 0:
		return fmt.Errorf("dim=%d is not a multiple of heads=%d", c.Dim, c.Heads)
	case c.KV < 1 || c.Heads%c.KV != 0:
		return fmt.Errorf("heads=%d is not a multiple of kv=%d", c.Heads, c.KV)
	case c.Arch == "gpt2" && c.KV != c.Heads:
		return fmt.Errorf("kv=%d: the GPT-2 layout has as many key-value heads as heads (%d); use model=llama", c.KV, c.Heads)
	case c.Arch == "llama" && c.Dim/c.Heads%2 != 0:
		return fmt.Errorf("a head has dim/heads = %d floats; rotary positions need an even number", c.Dim/c.Heads)
	}
	return nil
}

// HeadSize is the number of floats in a head.
func (c *Config) HeadSize() int { return c.Dim / c.Heads }

// GPT is a decoder-only language model.
type GPT struct {
	Config
	Token    *grad.Param // [Vocab, Dim]
	Position *grad.Param // [Ctx, Dim]; GPT-2 only
	Blocks   []*Block
	Norm     Norm
	Head     *grad.Param // [Vocab, Dim]; Token when tied

	params    block.Params
	auxiliary block.Auxiliary
}

// Norm is the gain, and for LayerNorm the bias, of a normalisation.
type Norm struct {
	Gain, Bias *grad.Param // [Dim]; no Bias: RMSNorm
	Eps        float32
}

// Block is one transformer block: x + Mixer(norm x), then x + FFN(norm x).
type Block struct {
	Norm1, Norm2 Norm
	Mixer        block.Mixer
	FFN          block.FFN

	segments block.Segments // of the forward pass under way
	rows     int            // tokens in it
	segment  grad.Segment   // forward, as a value made once
}

// NewGPT returns a model of zeros whose parameters come from the arena; Init
// or a model file fills them.
func NewGPT(a *memory.Arena, c Config) (*GPT, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if c.Vocab < 1 {
		return nil, fmt.Errorf("model: a vocabulary of %d", c.Vocab)
	}
	m := &GPT{Config: c, params: block.Params{Arena: a}}
	m.Token = m.params.Param("tok.weight", block.Weight(), c.Vocab, c.Dim)
	if c.Arch == "gpt2" {
		m.Position = m.params.Param("pos.weight", block.Weight(), c.Ctx, c.Dim)
	}
	shape := c.shape()
	for i := range c.Layers {
		b, err := m.newBlock(&block.Site{Shape: shape, Prefix: fmt.Sprintf("blocks.%d.", i), Auxiliary: &m.auxiliary, Params: &m.params})
		if err != nil {
			return nil, fmt.Errorf("model: %w", err)
		}
		m.Blocks = append(m.Blocks, b)
	}
	m.Norm = m.norm("norm")
	m.Head = m.Token
	if !c.Tied {
		m.Head = m.params.Param("head.weight", block.Weight(), c.Vocab, c.Dim)
	}
	if err := m.params.Err(); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return m, nil
}

// CheckParts tells whether the parts of the blocks go with the model's shape,
// and makes nothing.
func (c Config) CheckParts() error {
	if err := c.Validate(); err != nil {
		return err
	}
	m := &GPT{Config: c}
	_, err := m.newBlock(&block.Site{Shape: c.shape(), Auxiliary: &m.auxiliary, Params: &m.params})
	return err
}

// shape is what the parts of the blocks know of the model.
func (c *Config) shape() block.Shape {
	s := block.Shape{
		Layers: c.Layers, Heads: c.Heads, KV: c.KV, Dim: c.Dim, Hidden: c.Hidden, Ctx: c.Ctx,
		Gated: c.Arch == "llama", Activation: c.Activation, AttentionBias: c.AttentionBias, MLPBias: c.MLPBias,
	}
	if c.Arch == "llama" {
		s.Rotary = grad.NewRotary(c.Ctx, c.HeadSize(), c.Theta)
	}
	return s
}

func (m *GPT) newBlock(s *block.Site) (b *Block, err error) {
	b = new(Block)
	b.segment = b.forward
	b.Norm1 = m.norm(s.Prefix + "norm1")
	if b.Mixer, err = m.Config.Mixer.NewMixer(s); err != nil {
		return nil, fmt.Errorf("mixer=%s: %w", MixerName(m.Config.Mixer), err)
	}
	b.Norm2 = m.norm(s.Prefix + "norm2")
	if b.FFN, err = m.Config.FFN.NewFFN(s); err != nil {
		return nil, fmt.Errorf("ffn=%s: %w", FFNName(m.Config.FFN), err)
	}
	return b, nil
}

func (m *GPT) norm(name string) Norm {
	n := Norm{Gain: m.params.Param(name+".weight", block.Constant(1), m.Dim), Eps: float32(m.Eps)}
	if m.Arch == "gpt2" {
		n.Bias = m.params.Param(name+".bias", block.Constant(0), m.Dim)
	}
	return n
}

// Params are all parameters, in the order of the forward pass.
func (m *GPT) Params() []*grad.Param { return m.params.All }

// NumParams is the number of trainable floats.
func (m *GPT) NumParams() int {
	n := 0
	for _, p := range m.params.All {
		n += p.Len()
	}
	return n
}

// Init draws the weights as GPT-2 does: normal with deviation 0.02, divided by
// √(2·layers) for the products that end in the residual stream; gains 1, biases
// 0; the parts of the blocks say how other parameters begin. Every parameter has
// its own stream of random numbers.
func (m *GPT) Init(seed uint64) { m.params.Init(seed) }

// Hidden computes the values that go into the output layer. tokens: sequences
// of the given length ≤ Ctx, one after the other; they must stay as they are
// until the backward pass is done. mask may be nil: causal. Result: [len(tokens), Dim].
func (m *GPT) Hidden(t *grad.Tape, tokens []int32, length int, mask attention.Mask) *grad.Var {
	if length < 1 || length > m.Ctx || len(tokens)%length != 0 {
		panic(fmt.Sprintf("net: %d tokens in sequences of %d, the context is %d", len(tokens), length, m.Ctx))
	}
	if mask == nil {
		mask = attention.Causal{}
	}
	x := grad.Embedding(t, m.Token.Var, tokens)
	if m.Position != nil {
		x = grad.AddPositions(t, x, m.Position.Var, length)
	}
	m.auxiliary.Begin()
	narrow := precision.FlowsInt8(t.Policy)
	if narrow {
		x = int8flow.Quantize(t, x).Var
	}
	for _, b := range m.Blocks {
		b.segments, b.rows = block.Segments{Length: length, Mask: mask}, len(tokens)
		if m.Recompute {
			x = t.Checkpoint(x, b.segment)
		} else {
			x = b.forward(t, x)
		}
	}
	if narrow {
		x = int8flow.Dequantize(t, int8flow.Value{Var: x, Rows: len(tokens), Cols: m.Dim})
	}
	return m.Norm.apply(t, x)
}

func (b *Block) forward(t *grad.Tape, x *grad.Var) *grad.Var {
	if precision.FlowsInt8(t.Policy) {
		return b.forwardInt8(t, x)
	}
	x = b.Mixer.Forward(t, b.Norm1.apply(t, x), x, b.segments)
	return b.FFN.Forward(t, b.Norm2.apply(t, x), x)
}

// WithAuxiliary returns the loss of the forward pass plus the terms that parts
// of the model add to it, such as the balance of a router; the loss itself where
// there are none. It must be the last operation on the tape.
func (m *GPT) WithAuxiliary(t *grad.Tape, loss *grad.Var) *grad.Var {
	if m.auxiliary.Value() == 0 {
		return loss
	}
	return m.auxiliary.Join(t, loss)
}

func (n Norm) apply(t *grad.Tape, x *grad.Var) *grad.Var {
	if n.Bias == nil {
		return grad.RMSNorm(t, x, n.Gain.Var, n.Eps)
	}
	return grad.LayerNorm(t, x, n.Gain.Var, n.Bias.Var, n.Eps)
}

// FLOPs is the number of floating-point operations of the matrix products in
// one training step on sequences of the given length: forward, and twice that
// for the backward pass. Causal attention counts the visible half. What is
// computed again to save memory does not count.
func (m *GPT) FLOPs(tokens, length int) float64 {
	perToken := float64(m.Head.Len())
	for _, b := range m.Blocks {
		perToken += b.Mixer.MACs(length) + b.FFN.MACs()
	}
	return 6 * float64(tokens) * perToken
}
