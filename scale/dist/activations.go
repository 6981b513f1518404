package dist

import (
	"hasten/engine/grad"
)

// Activations is P_a of ZeRO-R (see zero.go): ranks that compute the same from
// the same activations, as the ranks of a tensor-parallel group do outside their
// split products, each save an equal part of them and collect them again for the
// backward pass. Saved activations fall by the number of ranks; in return a rank
// sends S(N-1)/N bytes for S bytes of them.
type Activations struct {
	Group *Comm // the ranks, which must run the same passes

	err error
}

// Checkpoint is grad.Tape.Checkpoint of a segment whose input is saved in parts.
// It takes over the data of x, which must not be read again.
func (a *Activations) Checkpoint(t *grad.Tape, x *grad.Var, run grad.Segment) *grad.Var {
	y := t.Own(x)
	n := t.Record(y, splitBack, x).Again(splitAgain)
	if n != nil {
		n.State = a
		mine := a.part(y.Data)
		copy(n.Save(0, len(mine)), mine)
	}
	out := t.Checkpoint(y, run)
	t.Forget(y)
	return out
}

// Err is the first error of the group. After it gradients are worth nothing.
func (a *Activations) Err() error { return a.err }

func (a *Activations) part(x []float32) []float32 { return Part(x, a.Group.Rank(), a.Group.Size()) }

func splitBack(n *grad.Node) { n.PassGrad(0) }

// splitAgain collects the parts, when the backward pass comes to the segment.
func splitAgain(n *grad.Node) {
	a := n.State.(*Activations)
	copy(a.part(n.Out.Data), n.Saved[0])
	if a.err == nil {
		a.err = AllGather(a.Group, n.Out.Data)
	}
}
