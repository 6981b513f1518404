// Package net assembles whole models.
//
// GPT is a decoder-only language model in one of two layouts: Llama's
// (RMSNorm, rotary positions, SwiGLU, grouped key-value heads, no biases) and
// GPT-2's (LayerNorm, learned positions, GELU, biases). Its parameters are
// fused where one product can do the work of several: queries, keys and values
// are one matrix, gate and up another.
package net

import (
	"fmt"
	"math"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/engine/rng"
	"hasten/model/attention"
	"hasten/model/layer"
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

	params []*grad.Param
	rotary *grad.Rotary
	arena  *memory.Arena
}

// Norm is the gain, and for LayerNorm the bias, of a normalisation.
type Norm struct {
	Gain, Bias *grad.Param // [Dim]; no Bias: RMSNorm
	Eps        float32
}

// Linear is the weight [out, in] and the bias [out] (or nil) of a linear layer.
type Linear struct{ Weight, Bias *grad.Param }

// Block is one transformer block: x + Out(attend(QKV(norm x))), then
// x + Down(act(Up(norm x))).
type Block struct {
	Norm1, Norm2 Norm
	QKV, Out     Linear // QKV: rows of the queries, the keys, the values
	Up, Down     Linear // Up: for SwiGLU the rows of the gates, then the ups

	model   *GPT
	pass    pass         // of the forward pass under way
	segment grad.Segment // forward, as a value made once
}

// pass is what a forward pass hands to its blocks.
type pass struct {
	length int
	mask   attention.Mask
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
	m := &GPT{Config: c, arena: a}
	m.Token = m.param("tok.weight", c.Vocab, c.Dim)
	if c.Arch == "gpt2" {
		m.Position = m.param("pos.weight", c.Ctx, c.Dim)
	} else {
		m.rotary = grad.NewRotary(c.Ctx, c.HeadSize(), c.Theta)
	}
	for i := range c.Layers {
		b := &Block{model: m}
		name := fmt.Sprintf("blocks.%d.", i)
		b.Norm1 = m.norm(name + "norm1")
		b.QKV = m.linear(name+"attn.qkv", (c.Heads+2*c.KV)*c.HeadSize(), c.Dim, c.AttentionBias)
		b.Out = m.linear(name+"attn.out", c.Dim, c.Dim, c.AttentionBias)
		b.Norm2 = m.norm(name + "norm2")
		if c.Arch == "llama" {
			b.Up = m.linear(name+"mlp.gateup", 2*c.Hidden, c.Dim, c.MLPBias)
		} else {
			b.Up = m.linear(name+"mlp.up", c.Hidden, c.Dim, c.MLPBias)
		}
		b.Down = m.linear(name+"mlp.down", c.Dim, c.Hidden, c.MLPBias)
		b.segment = b.forward
		m.Blocks = append(m.Blocks, b)
	}
	m.Norm = m.norm("norm")
	m.Head = m.Token
	if !c.Tied {
		m.Head = m.param("head.weight", c.Vocab, c.Dim)
	}
	return m, nil
}

func (m *GPT) param(name string, dims ...int) *grad.Param {
	p := grad.NewParam(m.arena, name, dims...)
	m.params = append(m.params, p)
	return p
}

func (m *GPT) linear(name string, out, in int, bias bool) Linear {
	l := Linear{Weight: m.param(name+".weight", out, in)}
	if bias {
		l.Bias = m.param(name+".bias", out)
	}
	return l
}

func (m *GPT) norm(name string) Norm {
	n := Norm{Gain: m.param(name+".weight", m.Dim), Eps: float32(m.Eps)}
	if m.Arch == "gpt2" {
		n.Bias = m.param(name+".bias", m.Dim)
	}
	return n
}

// Params are all parameters, in the order of the forward pass.
func (m *GPT) Params() []*grad.Param { return m.params }

// NumParams is the number of trainable floats.
func (m *GPT) NumParams() int {
	n := 0
	for _, p := range m.params {
		n += p.Len()
	}
	return n
}

// Init draws the weights as GPT-2 does: normal with deviation 0.02, divided by
// √(2·layers) for the two products that end in the residual stream; gains 1,
// biases 0. Every parameter has its own stream of random numbers.
func (m *GPT) Init(seed uint64) {
	for i, p := range m.params {
		switch {
		case p.Rank() > 1:
			std := 0.02
			if m.endsBranch(p) {
				std /= math.Sqrt(float64(2 * m.Layers))
			}
			s := rng.New(seed, initStream).Split(uint64(i))
			s.FillNormal(p.Data, 0, std)
		case m.isGain(p):
			for j := range p.Data {
				p.Data[j] = 1
			}
		default:
			clear(p.Data)
		}
	}
}

// initStream is the random stream that initial weights are drawn from.
const initStream = 0x696e6974

func (m *GPT) endsBranch(p *grad.Param) bool {
	for _, b := range m.Blocks {
		if p == b.Out.Weight || p == b.Down.Weight {
			return true
		}
	}
	return false
}

func (m *GPT) isGain(p *grad.Param) bool {
	for _, b := range m.Blocks {
		if p == b.Norm1.Gain || p == b.Norm2.Gain {
			return true
		}
	}
	return p == m.Norm.Gain
}

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
	for _, b := range m.Blocks {
		b.pass = pass{length, mask}
		if m.Recompute {
			x = t.Checkpoint(x, b.segment)
		} else {
			x = b.forward(t, x)
		}
	}
	return m.Norm.apply(t, x)
}

func (b *Block) forward(t *grad.Tape, x *grad.Var) *grad.Var {
	c := &b.model.Config
	heads := layer.Heads{Query: c.Heads, KV: c.KV, Size: c.HeadSize()}
	// What norms and activation functions give is cheaper to compute again in
	// the backward pass than to keep until then.
	n := b.Norm1.apply(t, x)
	h := b.QKV.apply(t, n, nil)
	t.Forget(n)
	if b.model.rotary != nil {
		h = grad.RoPE(t, h, b.model.rotary, c.Heads+c.KV, b.pass.length)
	}
	h = layer.Attend(t, h, heads, b.pass.length, b.pass.mask)
	x = b.Out.apply(t, h, x)

	n = b.Norm2.apply(t, x)
	h = b.Up.apply(t, n, nil)
	t.Forget(n)
	a := b.activate(t, h)
	y := b.Down.apply(t, a, x)
	t.Forget(a)
	return y
}

func (b *Block) activate(t *grad.Tape, x *grad.Var) *grad.Var {
	switch {
	case b.model.Arch == "llama":
		return grad.SwiGLU(t, x)
	case b.model.Activation == "gelu":
		return grad.GELU(t, x)
	case b.model.Activation == "relu":
		return grad.ReLU(t, x)
	}
	return grad.GELUTanh(t, x)
}

func (l Linear) apply(t *grad.Tape, x, residual *grad.Var) *grad.Var {
	var bias *grad.Var
	if l.Bias != nil {
		bias = l.Bias.Var
	}
	return grad.LinearAdd(t, x, l.Weight.Var, bias, residual)
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
		for _, w := range []*grad.Param{b.QKV.Weight, b.Out.Weight, b.Up.Weight, b.Down.Weight} {
			perToken += float64(w.Len())
		}
	}
	attend := float64(m.Layers) * float64(m.Dim) * float64(length+1) // q·k and p·v over (length+1)/2 keys
	return 6 * float64(tokens) * (perToken + attend)
}
