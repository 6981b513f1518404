package grad

import (
	"fmt"
	"unsafe"

	"hasten/engine/conv"
)

// MaxPool computes the maximum of every window of each channel. x: [B, W, C],
// [B, H, W, C] or [B, D, H, W, C]; y: like x, with p.W.Out() … for its axes.
// p.Batch and p.Channels are taken from x and need not be set. p must stay as
// it is until the backward pass is done.
func MaxPool(t *Tape, x *Var, p *conv.Pool) *Var {
	k := poolOf(p, "MaxPool", x)
	y := t.New(gridShape(x.Rank(), k.Batch, k.Channels, k.D, k.H, k.W, true))
	n := t.Record(y, maxPoolBack, x).Tangent(maxPoolTangent)
	if n == nil {
		arg := t.scratch(y.Len())
		k.Max(y.Data, integers(arg), x.Data)
		t.drop(arg)
		return y
	}
	n.State, n.Index = p, integers(n.Save(0, y.Len()))
	k.Max(y.Data, n.Index, x.Data)
	return y
}

func maxPoolBack(n *Node) {
	g, fresh := n.GradInto(0)
	poolOf(n.State.(*conv.Pool), "MaxPool", n.In[0]).MaxGrad(g, n.Out.Grad, n.Index, !fresh)
}

func maxPoolTangent(n *Node) *Var {
	return pick(n.Tape, n.Tan(0), n.Index, n.State.(*conv.Pool), n.Out)
}

// pick takes from x what a maximum pooling took from its input, by its places.
func pick(t *Tape, x *Var, places []int32, p *conv.Pool, like *Var) *Var {
	y := t.New(like.Shape)
	c := x.Cols()
	image := x.Len() / x.first()
	for i, at := range places {
		y.Data[i] = 0
		if at >= 0 {
			y.Data[i] = x.Data[i/(y.Len()/y.first())*image+int(at)*c+i%c]
		}
	}
	if n := t.Record(y, maxPoolBack, x).Tangent(maxPoolTangent); n != nil {
		n.State, n.Index = p, places
	}
	return y
}

// integers sees a buffer of floats as integers of their size.
func integers(x []float32) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// AveragePool computes the mean of every window of each channel; otherwise it
// is as MaxPool.
func AveragePool(t *Tape, x *Var, p *conv.Pool) *Var {
	k := poolOf(p, "AveragePool", x)
	y := t.New(gridShape(x.Rank(), k.Batch, k.Channels, k.D, k.H, k.W, true))
	k.Average(y.Data, x.Data)
	if n := t.Record(y, averagePoolBack, x).Tangent(averagePoolTangent); n != nil {
		n.State = p
	}
	return y
}

func averagePoolBack(n *Node) {
	g, fresh := n.GradInto(0)
	poolOf(n.State.(*conv.Pool), "AveragePool", n.In[0]).AverageGrad(g, n.Out.Grad, !fresh)
}

func averagePoolTangent(n *Node) *Var {
	return AveragePool(n.Tape, n.Tan(0), n.State.(*conv.Pool))
}

func poolOf(p *conv.Pool, op string, x *Var) conv.Pool {
	if x.Rank() < 3 || x.Rank() > 5 {
		panic(fmt.Sprintf("grad: %s of %v", op, x.Shape))
	}
	k := *p
	k.Batch, k.Channels = x.first(), x.Cols()
	return k
}
