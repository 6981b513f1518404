package conv

import (
	"fmt"

	"hasten/engine/matmul"
)

// Axis is one axis along which a kernel slides. The zero Axis is absent: size 1
// and kernel 1. In any other, a zero Kernel, Stride or Dilation means 1.
type Axis struct {
	Size          int // of the input
	Kernel        int // taps
	Stride        int // distance between neighbouring windows
	Dilation      int // distance between neighbouring taps
	Before, After int // zeros the input is extended by
}

// Same is the axis that pads so that the output has ⌈size/stride⌉ positions.
// An odd zero goes after, as in TensorFlow; with a stride of 1 and an odd
// kernel it is the usual symmetric padding.
func Same(size, kernel, stride, dilation int) Axis {
	a := Axis{Size: size, Kernel: kernel, Stride: stride, Dilation: dilation}.defaults()
	total := max(0, ((size+a.Stride-1)/a.Stride-1)*a.Stride+a.extent()-size)
	a.Before, a.After = total/2, total-total/2
	return a
}

// Causal is the axis of a filter over time that sees only the present and the
// past: output t reads inputs t, t-dilation, … t-(kernel-1)·dilation.
func Causal(size, kernel, dilation int) Axis {
	a := Axis{Size: size, Kernel: kernel, Dilation: dilation}.defaults()
	a.Before = a.extent() - 1
	return a
}

// Out is the number of output positions.
func (a Axis) Out() int {
	a = a.defaults()
	room := a.Size + a.Before + a.After - a.extent()
	if room < 0 {
		return 0
	}
	return room/a.Stride + 1
}

// extent is the number of input positions from a window's first to its last tap.
func (a Axis) extent() int { return a.Dilation*(a.Kernel-1) + 1 }

func (a Axis) defaults() Axis {
	if a == (Axis{}) {
		a.Size = 1
	}
	for _, v := range []*int{&a.Kernel, &a.Stride, &a.Dilation} {
		if *v == 0 {
			*v = 1
		}
	}
	return a
}

func (a Axis) check(name string) error {
	b := a.defaults()
	switch {
	case b.Size < 1:
		return fmt.Errorf("conv: axis %s: size %d must be positive", name, b.Size)
	case b.Before < 0 || b.After < 0:
		return fmt.Errorf("conv: axis %s: padding %d, %d must not be negative", name, b.Before, b.After)
	case b.Kernel < 1 || b.Stride < 1 || b.Dilation < 1:
		return fmt.Errorf("conv: axis %s: kernel %d, stride %d and dilation %d must be positive", name, b.Kernel, b.Stride, b.Dilation)
	case b.Out() == 0:
		return fmt.Errorf("conv: axis %s: a kernel that spans %d does not fit into %d+%d+%d; pad more or use a smaller kernel",
			name, b.extent(), b.Before, b.Size, b.After)
	}
	return nil
}

// grid is the three axes, slowest first.
type grid [3]Axis

func gridOf(d, h, w Axis) grid { return grid{d.defaults(), h.defaults(), w.defaults()} }

func (g grid) check() error {
	for i, a := range g {
		if err := a.check([...]string{"D", "H", "W"}[i]); err != nil {
			return err
		}
	}
	return nil
}

func (g grid) in() int   { return g[0].Size * g[1].Size * g[2].Size }
func (g grid) out() int  { return g[0].Out() * g[1].Out() * g[2].Out() }
func (g grid) taps() int { return g[0].Kernel * g[1].Kernel * g[2].Kernel }

// Conv is the shape of a convolution:
//
//	y[b, p, o] = bias[o] + Σ_{k, c} w[o, k, c]·x[b, p·Stride + k·Dilation - Before, first(o)+c]
//
// with p and k running over the axes D, H and W together, c over the
// In/Groups input channels of o's group, and x zero outside the input.
//
//	x, dx:  [Batch, D, H, W, In]
//	y, dy:  [Batch, D.Out(), H.Out(), W.Out(), Out]
//	w, dw:  [Out, D.Kernel, H.Kernel, W.Kernel, In/Groups]
//	bias:   [Out]
//
// Methods panic when the shape is impossible or a slice does not have the
// length that follows from it; Check finds the former as an error.
type Conv struct {
	Batch   int
	D, H, W Axis
	In, Out int           // channels
	Groups  int           // 0 means 1; Groups = In = Out is a depthwise convolution
	Format  matmul.Format // of the products; depthwise ones are always float32
}

// Check tells what is impossible about the shape, if anything.
func (c Conv) Check() error {
	c = c.defaults()
	if c.Batch < 0 || c.In < 1 || c.Out < 1 || c.Groups < 1 {
		return fmt.Errorf("conv: batch %d, %d input channels, %d output channels, %d groups", c.Batch, c.In, c.Out, c.Groups)
	}
	if c.In%c.Groups != 0 || c.Out%c.Groups != 0 {
		return fmt.Errorf("conv: %d input and %d output channels do not split into %d groups", c.In, c.Out, c.Groups)
	}
	return c.grid().check()
}

// InLen is the number of elements of x.
func (c Conv) InLen() int { return c.Batch * c.grid().in() * c.In }

// OutLen is the number of elements of y.
func (c Conv) OutLen() int { return c.Batch * c.grid().out() * c.Out }

// WeightLen is the number of elements of w.
func (c Conv) WeightLen() int { return c.Out * c.grid().taps() * c.In / max(c.Groups, 1) }

// FLOPs is the number of floating-point operations of Forward, and of each of
// InputGrad and WeightGrad, counting a multiply-add as two and the
// padding as if it were input.
func (c Conv) FLOPs() float64 {
	return 2 * float64(c.Batch) * float64(c.grid().out()) * float64(c.WeightLen())
}

func (c Conv) defaults() Conv {
	if c.Groups == 0 {
		c.Groups = 1
	}
	return c
}

func (c Conv) grid() grid { return gridOf(c.D, c.H, c.W) }

// Forward computes y = act(conv(x, w) + bias). bias may be nil.
func (c Conv) Forward(y, x, w, bias []float32, act matmul.Activation) {
	c = c.must("Forward", x, y, w, bias)
	switch {
	case len(y) == 0:
	case c.plain():
		matmul.Mul(matmul.Args{M: c.Batch * c.grid().out(), N: c.Out, K: c.In, A: x, B: w, TransB: true, C: y,
			Bias: bias, Act: act, Format: c.Format})
	case c.depthwise():
		c.depthwiseForward(y, x, w, bias, act)
	default:
		c.forward(y, x, w, bias, act)
	}
}

// InputGrad computes the gradient of x from that of y, or adds it to what dx
// holds.
func (c Conv) InputGrad(dx, dy, w []float32, add bool) {
	c.transposed("InputGrad", dx, dy, w, nil, matmul.Identity, add)
}

// Transposed computes the transposed convolution y = act(convᵀ(x, w) + bias):
// c is the shape of the convolution whose input gradient it is, so here x is
// [Batch, D.Out(), H.Out(), W.Out(), Out], y is [Batch, D, H, W, In], and bias,
// which may be nil, is [In]. TransposedSize helps to find the axes. Its own
// gradients are those of c with the roles of input and output exchanged:
//
//	c.Forward(dx, dy, w, nil, matmul.Identity)
//	c.WeightGrad(dw, x, dy, add)
func (c Conv) Transposed(y, x, w, bias []float32, act matmul.Activation) {
	c.transposed("Transposed", y, x, w, bias, act, false)
}

// TransposedSize is the size that a transposed convolution along axis a makes
// of n positions: the Size to give the axis. extra, less than the stride,
// chooses among the sizes that a strided convolution maps to the same n.
func TransposedSize(n int, a Axis, extra int) int {
	a = a.defaults()
	return (n-1)*a.Stride + a.extent() - a.Before - a.After + extra
}

func (c Conv) transposed(name string, dx, dy, w, bias []float32, act matmul.Activation, add bool) {
	c = c.must(name, dx, dy, w, nil)
	if bias != nil && len(bias) != c.In {
		panic(fmt.Sprintf("conv: %s: %d bias values for %d channels", name, len(bias), c.In))
	}
	switch {
	case len(dx) == 0:
	case c.plain():
		matmul.Mul(matmul.Args{M: c.Batch * c.grid().out(), N: c.In, K: c.Out, A: dy, B: w, C: dx,
			Beta: keep(add), Bias: bias, Act: act, Format: c.Format})
	case c.depthwise():
		c.depthwiseInput(dx, dy, w, bias, act, add)
	default:
		c.inputGrad(dx, dy, w, bias, act, add)
	}
}

// WeightGrad computes the gradient of w from that of y, or adds it to what dw
// holds.
func (c Conv) WeightGrad(dw, dy, x []float32, add bool) {
	c = c.must("WeightGrad", x, dy, dw, nil)
	switch {
	case len(dy) == 0:
		if !add {
			clear(dw)
		}
	case c.depthwise():
		c.depthwiseWeight(dw, dy, x, add)
	default:
		c.weightGrad(dw, dy, x, add)
	}
}

// BiasGrad computes the gradient of the bias, the sum of dy over all positions,
// or adds it to what db holds.
func (c Conv) BiasGrad(db, dy []float32, add bool) {
	c = c.defaults()
	if len(dy) != c.OutLen() || len(db) != c.Out {
		panic(fmt.Sprintf("conv: BiasGrad of %+v: dy has %d elements, want %d; db %d, want %d", c, len(dy), c.OutLen(), len(db), c.Out))
	}
	sumRows(db, dy, add)
}

// must panics unless the shape is possible and the slices fit it.
func (c Conv) must(name string, x, y, w, bias []float32) Conv {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	c = c.defaults()
	if len(x) != c.InLen() || len(y) != c.OutLen() || len(w) != c.WeightLen() || bias != nil && len(bias) != c.Out {
		panic(fmt.Sprintf("conv: %s of %+v: input %d, want %d; output %d, want %d; weights %d, want %d; bias %d",
			name, c, len(x), c.InLen(), len(y), c.OutLen(), len(w), c.WeightLen(), len(bias)))
	}
	return c
}

// plain reports whether the convolution is a matrix product as it stands.
func (c Conv) plain() bool {
	for _, a := range c.grid() {
		if a.Kernel != 1 || a.Stride != 1 || a.Before+a.After != 0 {
			return false
		}
	}
	return c.Groups == 1
}

func (c Conv) depthwise() bool { return c.Groups == c.In && c.Groups == c.Out && c.In > 1 }

// keep is the Beta of a product that adds to its result or not.
func keep(add bool) float32 {
	if add {
		return 1
	}
	return 0
}
