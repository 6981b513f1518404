package grad_test

import (
	"slices"
	"testing"

	"hasten/engine/conv"
	"hasten/engine/grad"
	"hasten/engine/grad/gradtest"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

// refConv is a convolution over two axes by its definition.
func refConv(c conv.Conv, transposed bool) func(in [][]float64) []float64 {
	return func(in [][]float64) []float64 {
		groups := max(c.Groups, 1)
		cin, cout := c.In/groups, c.Out/groups
		ho, wo := c.H.Out(), c.W.Out()
		size := c.OutLen()
		if transposed {
			size = c.InLen()
		}
		y := make([]float64, size)
		for i := range y {
			if len(in) > 2 {
				y[i] = in[2][i%len(in[2])]
			}
		}
		for b := range c.Batch {
			for p := range ho * wo {
				for k := range c.H.Kernel * c.W.Kernel {
					h := p/wo*c.H.Stride + k/c.W.Kernel*c.H.Dilation - c.H.Before
					w := p%wo*c.W.Stride + k%c.W.Kernel*c.W.Dilation - c.W.Before
					if h < 0 || h >= c.H.Size || w < 0 || w >= c.W.Size {
						continue
					}
					for o := range c.Out {
						for i := range cin {
							out := (b*ho*wo+p)*c.Out + o
							inp := ((b*c.H.Size+h)*c.W.Size+w)*c.In + o/cout*cin + i
							v := in[1][(o*c.H.Kernel*c.W.Kernel+k)*cin+i]
							if transposed {
								y[inp] += v * in[0][out]
							} else {
								y[out] += v * in[0][inp]
							}
						}
					}
				}
			}
		}
		return y
	}
}

// one is an axis that is not there, for refConv.
var one = conv.Axis{Size: 1, Kernel: 1, Stride: 1, Dilation: 1}

var (
	causal  = conv.Conv{Batch: 2, In: 3, Out: 4, W: conv.Axis{Size: 7, Kernel: 3, Stride: 1, Dilation: 2, Before: 4}}
	strided = conv.Conv{Batch: 2, In: 4, Out: 6, Groups: 2, H: conv.Same(5, 3, 2, 1), W: conv.Same(6, 2, 1, 1)}
	deep    = conv.Conv{Batch: 2, In: 3, Out: 3, Groups: 3, H: conv.Same(4, 3, 1, 1), W: conv.Same(5, 3, 1, 1)}
)

func convCase(name string, c conv.Conv, transposed bool, x, w []int, bias int) gradtest.Case {
	full := c
	if full.H == (conv.Axis{}) {
		full.H = one
	}
	bare := conv.Conv{D: c.D, H: c.H, W: c.W, Groups: c.Groups} // the rest follows from the values
	k := gradtest.Case{Name: name, Shapes: [][]int{x, w}, Ref: refConv(full, transposed)}
	if bias > 0 {
		k.Shapes = append(k.Shapes, []int{bias})
	}
	k.Op = func(t *tape, in []*val) *val {
		op, b := grad.Conv, (*val)(nil)
		if transposed {
			op = grad.ConvTransposed
		}
		if bias > 0 {
			b = in[2]
		}
		return op(t, in[0], in[1], b, &bare)
	}
	return k
}

// refPool pools over two axes by definition: the maximum, or the mean of what
// lies inside the input.
func refPool(p conv.Pool, maximum bool) func(in [][]float64) []float64 {
	return func(in [][]float64) []float64 {
		var y []float64
		for i := range p.Batch * p.H.Out() * p.W.Out() * p.Channels {
			c, w, h := i%p.Channels, i/p.Channels%p.W.Out(), i/p.Channels/p.W.Out()%p.H.Out()
			b := i / p.Channels / p.W.Out() / p.H.Out()
			var seen []float64
			for k := range p.H.Kernel * p.W.Kernel {
				r := h*p.H.Stride + k/p.W.Kernel - p.H.Before
				q := w*p.W.Stride + k%p.W.Kernel - p.W.Before
				if r >= 0 && r < p.H.Size && q >= 0 && q < p.W.Size {
					seen = append(seen, in[0][((b*p.H.Size+r)*p.W.Size+q)*p.Channels+c])
				}
			}
			if maximum {
				y = append(y, slices.Max(seen))
			} else {
				y = append(y, refSum(seen)/float64(len(seen)))
			}
		}
		return y
	}
}

func poolCase(name string, p conv.Pool, maximum bool, shape ...int) gradtest.Case {
	bare := conv.Pool{H: p.H, W: p.W}
	full := p
	if full.H == (conv.Axis{}) {
		full.H = one
	}
	return gradtest.Case{Name: name, Shapes: [][]int{shape}, Ref: refPool(full, maximum), Op: func(t *tape, in []*val) *val {
		if maximum {
			return grad.MaxPool(t, in[0], &bare)
		}
		return grad.AveragePool(t, in[0], &bare)
	}}
}

var (
	line  = conv.Pool{Batch: 2, Channels: 3, W: conv.Axis{Size: 9, Kernel: 3, Stride: 2}}
	plane = conv.Pool{Batch: 2, Channels: 3, H: conv.Same(5, 3, 2, 1), W: conv.Same(6, 2, 1, 1)}
)

// A kernel of one along the third axis sees each of its slices for itself.
func TestConvOfThreeAxes(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	s := rng.New(1, 1)
	x, w := tensor.New(2, 3, 5, 6, 4), tensor.New(6, 1, 3, 2, 2)
	s.FillNormal(x.Data, 0, 1)
	s.FillNormal(w.Data, 0, 1)
	flat, c := strided, strided
	flat.Batch, c.D = 6, conv.Axis{Size: 3, Kernel: 1}
	want := grad.Conv(tp, grad.Const(tensor.From(x.Data, 6, 5, 6, 4)), grad.Const(tensor.From(w.Data, 6, 3, 2, 2)), nil, &flat)
	got := grad.Conv(tp, grad.Const(x), grad.Const(w), nil, &c)
	if got.Shape != tensor.Of(2, 3, 3, 6, 6) || !slices.Equal(got.Data, want.Data) {
		t.Errorf("%v: %v, want %v", got.Shape, got.Data, want.Data)
	}
	if back := grad.ConvTransposed(tp, got, grad.Const(w), nil, &c); back.Shape != x.Shape {
		t.Errorf("transposed: %v, want %v", back.Shape, x.Shape)
	}
}

var convCases = []gradtest.Case{
	convCase("Conv, one axis", causal, false, []int{2, 7, 3}, []int{4, 3, 3}, 4),
	convCase("Conv, groups and stride", strided, false, []int{2, 5, 6, 4}, []int{6, 3, 2, 2}, 0),
	convCase("Conv, depthwise", deep, false, []int{2, 4, 5, 3}, []int{3, 3, 3, 1}, 3),
	convCase("ConvTransposed, one axis", causal, true, []int{2, 7, 4}, []int{4, 3, 3}, 3),
	convCase("ConvTransposed, groups and stride", strided, true, []int{2, 3, 6, 6}, []int{6, 3, 2, 2}, 4),
	poolCase("MaxPool, one axis", line, true, 2, 9, 3),
	poolCase("MaxPool, two axes", plane, true, 2, 5, 6, 3),
	poolCase("AveragePool, one axis", line, false, 2, 9, 3),
	poolCase("AveragePool, two axes", plane, false, 2, 5, 6, 3),
}
