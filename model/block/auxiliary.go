package block

import (
	"hasten/engine/grad"
	"hasten/engine/tensor"
)

// Auxiliary is the terms that the layers of a model add to its loss, such as the
// balance of a router.
//
// A layer deep in the model, perhaps in a segment that is computed again, cannot
// hand its term to whoever adds up the loss. So each side does what it can: in
// its forward function the layer adds the value of its term, and in its backward
// function it multiplies the term's gradient by Scale, the derivative of what is
// differentiated by the loss. Join, the last operation of the forward pass and
// the first of the backward pass, adds the values to the loss and learns that
// derivative.
type Auxiliary struct {
	value float64
	scale float32
}

// Begin begins a forward pass.
func (a *Auxiliary) Begin() { *a = Auxiliary{} }

// Add adds to the terms of the pass.
func (a *Auxiliary) Add(term float64) { a.value += term }

// Value is the sum of the terms of the pass.
func (a *Auxiliary) Value() float64 { return a.value }

// Scale is the factor on the gradients of the terms, in the backward pass: 0
// where nobody joined them to a loss.
func (a *Auxiliary) Scale() float32 { return a.scale }

// Join returns loss + Value.
func (a *Auxiliary) Join(t *grad.Tape, loss *grad.Var) *grad.Var {
	y := t.New(tensor.Of())
	y.Data[0] = loss.Data[0] + float32(a.value)
	if n := t.Record(y, joinBack, loss); n != nil {
		n.State = a
	}
	return y
}

func joinBack(n *grad.Node) {
	n.State.(*Auxiliary).scale = n.Out.Grad[0]
	n.PassGrad(0)
}
