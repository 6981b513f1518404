package grad

import (
	"fmt"

	"hasten/engine/conv"
	"hasten/engine/matmul"
	"hasten/engine/tensor"
)

// Conv computes a convolution over one, two or three axes, as the rank of x
// says; b may be nil.
//
//	x: [B, W, C]                 w: [Out, KW, C/Groups]           y: [B, W', Out]
//	x: [B, H, W, C]              w: [Out, KH, KW, C/Groups]       y: [B, H', W', Out]
//	x: [B, D, H, W, C]           w: [Out, KD, KH, KW, C/Groups]   y: [B, D', H', W', Out]
//
// with W' = c.W.Out() and so on; b: [Out].
// c.Batch, c.In and c.Out are taken from the values and need not be set. c must
// stay as it is until the backward pass is done.
func Conv(t *Tape, x, w, b *Var, c *conv.Conv) *Var {
	k := convOf(c, "Conv", x, w.first(), x.Cols())
	y := t.New(k.shape(x.Rank(), true))
	if n := t.Record(y, convBack, x, w, b).Tangent(convTangent).PerSample(1, 2); n != nil {
		n.State = c
	}
	k.Forward(y.Data, x.Data, w.Data, data(b), matmul.Identity)
	return y
}

// ConvTransposed computes the transposed convolution: from the size of the
// output of c to that of its input, and from Out to In channels. x: as Conv's
// y; w: as Conv's; b: [In] or nil; y: as Conv's x.
func ConvTransposed(t *Tape, x, w, b *Var, c *conv.Conv) *Var {
	k := convOf(c, "ConvTransposed", x, x.Cols(), transposedIn(c, w))
	y := t.New(k.shape(x.Rank(), false))
	if n := t.Record(y, convTransposedBack, x, w, b).Tangent(convTransposedTangent).PerSample(1, 2); n != nil {
		n.State = c
	}
	k.Transposed(y.Data, x.Data, w.Data, data(b), matmul.Identity)
	return y
}

// transposedIn is the number of channels a transposed convolution makes.
func transposedIn(c *conv.Conv, w *Var) int { return w.Cols() * max(c.Groups, 1) }

// shaped is a convolution whose batch and channels are those of its values.
type shaped struct{ conv.Conv }

func convOf(c *conv.Conv, op string, x *Var, out, in int) shaped {
	k := shaped{*c}
	k.Batch, k.In, k.Out = x.first(), in, out
	if x.Rank() < 3 || x.Rank() > 5 {
		panic(fmt.Sprintf("grad: %s of %v", op, x.Shape))
	}
	return k
}

// shape is that of the output, or of the input, with the given rank.
func (k shaped) shape(rank int, output bool) tensor.Shape {
	if output {
		return gridShape(rank, k.Batch, k.Out, k.D, k.H, k.W, true)
	}
	return gridShape(rank, k.Batch, k.In, k.D, k.H, k.W, false)
}

// gridShape is [batch, the last rank-2 of the axes d, h and w, channels].
func gridShape(rank, batch, channels int, d, h, w conv.Axis, output bool) tensor.Shape {
	dims := [5]int{1, 1, 1, 1, channels}
	for i, a := range []conv.Axis{d, h, w} {
		switch {
		case output:
			dims[1+i] = a.Out()
		case a != conv.Axis{}:
			dims[1+i] = a.Size
		}
	}
	dims[5-rank] = batch
	return tensor.Of(dims[5-rank:]...)
}

func data(v *Var) []float32 {
	if v == nil {
		return nil
	}
	return v.Data
}

func convBack(n *Node) {
	x, w, dy := n.In[0], n.In[1], n.Out.Grad
	k := convOf(n.State.(*conv.Conv), "Conv", x, n.Out.Cols(), x.Cols())
	if g, fresh := n.GradInto(1); g != nil {
		k.WeightGrad(g, dy, x.Data, !fresh)
	}
	if g, fresh := n.GradInto(2); g != nil {
		sumRows(n.Tape, g, dy, nil, fresh)
	}
	if g, fresh := n.GradInto(0); g != nil {
		k.InputGrad(g, dy, w.Data, !fresh)
	}
}

func convTransposedBack(n *Node) {
	x, w, dy := n.In[0], n.In[1], n.Out.Grad
	k := convOf(n.State.(*conv.Conv), "ConvTransposed", x, x.Cols(), n.Out.Cols())
	if g, fresh := n.GradInto(1); g != nil {
		k.WeightGrad(g, x.Data, dy, !fresh)
	}
	if g, fresh := n.GradInto(2); g != nil {
		sumRows(n.Tape, g, dy, nil, fresh)
	}
	if n.In[0].Wanted() {
		dx, done := n.overwrite(0)
		k.Forward(dx, dy, w.Data, nil, matmul.Identity)
		done.add()
	}
}

func convTangent(n *Node) *Var           { return convolved(n, Conv) }
func convTransposedTangent(n *Node) *Var { return convolved(n, ConvTransposed) }

// convolved is the tangent of both: they are linear in x and in w.
func convolved(n *Node, op func(t *Tape, x, w, b *Var, c *conv.Conv) *Var) *Var {
	t, c := n.Tape, n.State.(*conv.Conv)
	var y *Var
	if dx := n.Tan(0); dx != nil {
		y = op(t, dx, n.In[1], nil, c)
	}
	if dw := n.Tan(1); dw != nil {
		y = plus(t, y, op(t, n.In[0], dw, nil, c))
	}
	return plusRow(t, n.Out.Shape, y, n.Tan(2))
}
