package block

import (
	"fmt"
	"math"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
)

// Shape is what parts know of the model they become part of. All sizes are
// settled.
type Shape struct {
	Layers     int
	Heads, KV  int // query heads, and key and value heads; KV divides Heads, which divides Dim
	Dim        int // width of the residual stream
	Hidden     int // width of the feed-forward
	Ctx        int // longest sequence
	Gated      bool
	Activation string // where it is not gated: "" or "gelu_new", "gelu", "relu"

	AttentionBias, MLPBias bool // whether the products have biases

	Rotary *grad.Rotary // of Ctx positions and heads of HeadSize; nil: positions are part of the embedding
}

// HeadSize is the number of floats in a head.
func (s *Shape) HeadSize() int { return s.Dim / s.Heads }

// Site is the place that a layer is made for: a block of a model.
type Site struct {
	Shape
	Prefix    string     // of the names of its parameters: "blocks.3."
	Auxiliary *Auxiliary // of the model
	*Params
}

// Params are the parameters of a model in the order they were made, and how
// each begins.
type Params struct {
	Arena *memory.Arena // nil: parameters have no elements; to see whether parts go with a shape
	All   []*grad.Param

	initial []Initial
	floats  int64
	err     error
}

// maxFloats bounds what a file from elsewhere can ask for: 2³⁶ parameters,
// which are 256 GiB.
const maxFloats = 1 << 36

// Param makes a parameter.
func (p *Params) Param(name string, initial Initial, dims ...int) *grad.Param {
	n := int64(1)
	for _, d := range dims {
		n = min(n, maxFloats+1) * int64(d)
	}
	if p.floats += n; p.floats > maxFloats {
		p.err = fmt.Errorf("a model of more than %d parameters", int64(maxFloats))
	}
	arena := p.Arena
	if arena == nil || p.err != nil {
		arena, dims = new(memory.Arena), make([]int, len(dims))
	}
	x := grad.NewParam(arena, name, dims...)
	p.All = append(p.All, x)
	p.initial = append(p.initial, initial)
	return x
}

// Err reports that the parameters asked for are too large to be made.
func (p *Params) Err() error { return p.err }

// Init sets every parameter to what it begins with. Each has a random stream of
// its own.
func (p *Params) Init(seed uint64) {
	for i, x := range p.All {
		s := rng.New(seed, initStream).Split(uint64(i))
		p.initial[i](x.Data, &s)
	}
}

// initStream is the random stream that initial weights are drawn from.
const initStream = 0x696e6974

// Initial sets a parameter to what it begins with.
type Initial func(x []float32, s *rng.Stream)

// Normal draws from the normal distribution of mean 0.
func Normal(deviation float64) Initial {
	return func(x []float32, s *rng.Stream) { s.FillNormal(x, 0, deviation) }
}

// Constant is one value everywhere.
func Constant(v float32) Initial {
	return func(x []float32, _ *rng.Stream) {
		for i := range x {
			x[i] = v
		}
	}
}

// deviation of the weights of GPT-2, at their beginning.
const deviation = 0.02

// Weight is how a matrix begins.
func Weight() Initial { return Normal(deviation) }

// BranchEnd is how a matrix begins whose products are added to the residual
// stream: smaller, for there are 2·Layers of them. Source: GPT-2.
func (s *Shape) BranchEnd() Initial { return Normal(deviation / math.Sqrt(float64(2*s.Layers))) }

// Linear makes a linear layer. Name: that of the layer in its block.
func (s *Site) Linear(name string, initial Initial, out, in int, bias bool) Linear {
	l := Linear{Weight: s.Param(s.Prefix+name+".weight", initial, out, in)}
	if bias {
		l.Bias = s.Param(s.Prefix+name+".bias", Constant(0), out)
	}
	return l
}

// Linear is the weight [out, in] and the bias [out] (or nil) of a linear layer.
type Linear struct{ Weight, Bias *grad.Param }

// Apply computes x·Wᵀ + b + residual; residual may be nil.
func (l Linear) Apply(t *grad.Tape, x, residual *grad.Var) *grad.Var {
	var bias *grad.Var
	if l.Bias != nil {
		bias = l.Bias.Var
	}
	return grad.LinearAdd(t, x, l.Weight.Var, bias, residual)
}

// MACs is the number of multiply-adds of one row.
func (l Linear) MACs() float64 { return float64(l.Weight.Len()) }

// Activate is the activation of a feed-forward: SwiGLU where it is gated, of
// rows of gates and ups; else what the name says, as in Shape.
func Activate(t *grad.Tape, x *grad.Var, gated bool, name string) *grad.Var {
	switch {
	case gated:
		return grad.SwiGLU(t, x)
	case name == "gelu":
		return grad.GELU(t, x)
	case name == "relu":
		return grad.ReLU(t, x)
	}
	return grad.GELUTanh(t, x)
}
