package vision

import (
	"fmt"
	"math"

	"hasten/engine/conv"
	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/engine/rng"
)

// Shape is what a classifier sees and tells.
type Shape struct {
	H, W, C int
	Classes int
	Format  matmul.Format // of the products of convolutions; those of others follow the tape's policy
}

// Model is an image classifier.
type Model interface {
	Params() []*grad.Param
	// Logits computes the scores of the classes. x: [B, H, W, C]; result:
	// [B, Classes].
	Logits(t *grad.Tape, x *grad.Var) *grad.Var
	// FLOPs is the arithmetic of the products in a forward pass, for an image.
	FLOPs() float64
}

// Config is the size of a model, which New makes with random weights.
type Config interface {
	New(a *memory.Arena, s Shape, seed uint64) (Model, error)
}

// Models are the layouts of classifiers, the default first.
var Models = part.Table[Config]{
	Seam: "model",
	Help: "layout and size of the image classifier",
	Parts: []part.Part[Config]{
		{Name: "mlp", Help: "image classifier of fully connected layers", New: func() Config { return &MLPConfig{Hidden: 256, Layers: 2} }},
		{Name: "conv", Help: "image classifier: a small residual convolutional net", New: func() Config { return &ConvConfig{Width: 16, Stages: 2, Blocks: 1} }},
	},
}

// initStream is the random stream of a model's weights.
const initStream = 0x1a1717

// params collects the parameters of a model as it is built.
type params struct {
	arena *memory.Arena
	rand  rng.Stream
	all   []*grad.Param
}

// matrix is a weight of which each output is the sum of fan products: normal
// values of variance gain/fan.
func (p *params) matrix(name string, gain float64, fan int, dims ...int) *grad.Param {
	w := grad.NewParam(p.arena, name, dims...)
	p.rand.FillNormal(w.Data, 0, math.Sqrt(gain/float64(fan)))
	p.all = append(p.all, w)
	return w
}

// vector is a bias of zeros, or a gain of ones.
func (p *params) vector(name string, n int, value float32) *grad.Param {
	v := grad.NewParam(p.arena, name, n)
	for i := range v.Data {
		v.Data[i] = value
	}
	p.all = append(p.all, v)
	return v
}

// linear is y = x·Wᵀ + b.
type linear struct{ w, b *grad.Param }

func (p *params) linear(name string, gain float64, in, out int) linear {
	return linear{p.matrix(name+".weight", gain, in, out, in), p.vector(name+".bias", out, 0)}
}

func (l linear) apply(t *grad.Tape, x *grad.Var) *grad.Var {
	return grad.Linear(t, x, l.w.Var, l.b.Var)
}

// MLPConfig is the size of an MLP.
type MLPConfig struct {
	Hidden int `set:"hidden" range:"[1,65536]" help:"width of the hidden layers"`
	Layers int `set:"layers" range:"[0,64]" help:"hidden layers"`
}

// MLP is fully connected layers with ReLU between them.
type MLP struct {
	params []*grad.Param
	layers []linear
}

// New makes an MLP with He's initialisation.
func (c *MLPConfig) New(a *memory.Arena, s Shape, seed uint64) (Model, error) {
	p := &params{arena: a, rand: rng.New(seed, initStream)}
	m := new(MLP)
	in := s.H * s.W * s.C
	for i := range c.Layers {
		m.layers = append(m.layers, p.linear(fmt.Sprintf("layers.%d", i), 2, in, c.Hidden))
		in = c.Hidden
	}
	m.layers = append(m.layers, p.linear("head", 1, in, s.Classes))
	m.params = p.all
	return m, nil
}

// Params are the weights and biases, in the order of the forward pass.
func (m *MLP) Params() []*grad.Param { return m.params }

// Logits computes the scores of the classes.
func (m *MLP) Logits(t *grad.Tape, x *grad.Var) *grad.Var {
	h := grad.Reshape(t, x, x.Dim(0), m.layers[0].w.Cols())
	last := len(m.layers) - 1
	for _, l := range m.layers[:last] {
		h = grad.ReLU(t, l.apply(t, h))
	}
	return m.layers[last].apply(t, h)
}

// FLOPs is two for each weight.
func (m *MLP) FLOPs() float64 {
	var n float64
	for _, l := range m.layers {
		n += 2 * float64(l.w.Len())
	}
	return n
}

// ConvConfig is the size of a convolutional net.
type ConvConfig struct {
	Width  int `set:"width" range:"[1,4096]" help:"channels in the first stage; each stage has twice as many as the one before"`
	Stages int `set:"stages" range:"[1,8]" help:"stages; each but the first begins by halving the sides"`
	Blocks int `set:"blocks" range:"[1,64]" help:"residual blocks in a stage"`
}

// ConvNet is a residual net: a convolution that halves the sides, stages of
// residual blocks, the mean over all places, and a linear layer. A block is
//
//	x + conv(relu(norm(conv(relu(norm(x))))))
//
// where norm is LayerNorm over the channels of a place: unlike batch
// normalisation it makes no picture depend on the others of its batch.
type ConvNet struct {
	params []*grad.Param
	stem   convolution
	stages []stage
	norm   norm
	pool   conv.Pool
	head   linear
	flops  float64
}

type stage struct {
	down   *convolution // nil in the first
	blocks []block
}

type block struct {
	norm1, norm2 norm
	conv1, conv2 convolution
}

type norm struct{ gain, bias *grad.Param }

type convolution struct {
	w, b  *grad.Param
	shape *conv.Conv
}

const normEps = 1e-5

func (n norm) apply(t *grad.Tape, x *grad.Var) *grad.Var {
	return grad.LayerNorm(t, x, n.gain.Var, n.bias.Var, normEps)
}

func (c convolution) apply(t *grad.Tape, x *grad.Var) *grad.Var {
	return grad.Conv(t, x, c.w.Var, c.b.Var, c.shape)
}

func (p *params) norm(name string, channels int) norm {
	return norm{p.vector(name+".weight", channels, 1), p.vector(name+".bias", channels, 0)}
}

// New makes a ConvNet with He's initialisation; the last convolution of each
// block starts at zero, so that the block starts as the identity.
func (c *ConvConfig) New(a *memory.Arena, s Shape, seed uint64) (Model, error) {
	p := &params{arena: a, rand: rng.New(seed, initStream)}
	m := new(ConvNet)
	h, w := s.H, s.W
	conv3 := func(name string, gain float64, in, out, stride int) convolution {
		k := &conv.Conv{H: conv.Same(h, 3, stride, 1), W: conv.Same(w, 3, stride, 1), In: in, Out: out, Format: s.Format}
		h, w = k.H.Out(), k.W.Out()
		m.flops += 2 * float64(h*w*out*9*in)
		return convolution{p.matrix(name+".weight", gain, 9*in, out, 3, 3, in), p.vector(name+".bias", out, 0), k}
	}
	channels := c.Width
	m.stem = conv3("stem", 2, s.C, channels, 2)
	for i := range c.Stages {
		var st stage
		name := fmt.Sprintf("stages.%d.", i)
		if i > 0 {
			if h < 2 || w < 2 {
				return nil, fmt.Errorf("model: %d stages are too many for images of %d×%d: the sides are halved before each", c.Stages, s.H, s.W)
			}
			down := conv3(name+"down", 1, channels, 2*channels, 2)
			st.down, channels = &down, 2*channels
		}
		for k := range c.Blocks {
			name := fmt.Sprintf("%sblocks.%d.", name, k)
			st.blocks = append(st.blocks, block{
				norm1: p.norm(name+"norm1", channels), conv1: conv3(name+"conv1", 2, channels, channels, 1),
				norm2: p.norm(name+"norm2", channels), conv2: conv3(name+"conv2", 0, channels, channels, 1),
			})
		}
		m.stages = append(m.stages, st)
	}
	m.norm = p.norm("norm", channels)
	m.pool = conv.Pool{H: conv.Whole(h), W: conv.Whole(w)}
	m.head = p.linear("head", 1, channels, s.Classes)
	m.flops += 2 * float64(m.head.w.Len())
	m.params = p.all
	return m, nil
}

// Params are the parameters, in the order of the forward pass.
func (m *ConvNet) Params() []*grad.Param { return m.params }

// Logits computes the scores of the classes.
func (m *ConvNet) Logits(t *grad.Tape, x *grad.Var) *grad.Var {
	x = m.stem.apply(t, x)
	for _, st := range m.stages {
		if st.down != nil {
			x = st.down.apply(t, x)
		}
		for i := range st.blocks {
			b := &st.blocks[i]
			h := b.conv1.apply(t, grad.ReLU(t, b.norm1.apply(t, x)))
			h = b.conv2.apply(t, grad.ReLU(t, b.norm2.apply(t, h)))
			x = grad.Add(t, h, x)
		}
	}
	x = grad.AveragePool(t, grad.ReLU(t, m.norm.apply(t, x)), &m.pool)
	return m.head.apply(t, grad.Reshape(t, x, x.Dim(0), x.Cols()))
}

// FLOPs counts the convolutions and the last layer.
func (m *ConvNet) FLOPs() float64 { return m.flops }
