package grad

import (
	"hasten/engine/memory"
	"hasten/engine/rng"
)

// Segment is a part of a model as a function of one value and of parameters.
// Run twice on the same input it must give the same output; random numbers
// that it draws from the tape are repeated.
type Segment func(t *Tape, x *Var) *Var

// segmentTape is what a checkpointed segment keeps between the passes: a tape
// of its own, which is empty in the meantime.
type segmentTape struct {
	tape *Tape
	run  Segment
	rand rng.Stream // as it stood when the segment first ran
}

// Checkpoint runs a segment without keeping what it computes inside, and runs
// it once more during the backward pass. It trades a second forward pass of
// the segment for the memory of its activations (Chen et al., "Training Deep
// Nets with Sublinear Memory Cost", 2016).
func (t *Tape) Checkpoint(x *Var, run Segment) *Var {
	if t.off {
		return run(t, x)
	}
	s := t.takeSegment()
	s.run, s.rand = run, t.Rand
	inner := s.tape
	inner.Policy, inner.Rand, inner.off = t.Policy, t.Rand, true
	y := run(inner, inner.Stop(x))
	out := t.New(y.Shape)
	copy(out.Data, y.Data)
	t.Rand = inner.Rand
	inner.Reset()
	// The segment's parameters are not known here, so the node is recorded
	// whether or not x wants a gradient.
	n := t.Record(out, checkpointBack, x, &anyParameter)
	n.State = s
	return out
}

var anyParameter = Var{wanted: true}

func checkpointBack(n *Node) {
	s := n.State.(*segmentTape)
	inner := s.tape
	inner.Rand, inner.off = s.rand, false
	x := inner.Stop(n.In[0])
	x.wanted = n.In[0].wanted
	inner.SetGrad(s.run(inner, x), n.Out.Grad)
	inner.BackwardFrom()
	if x.Grad != nil {
		if g, fresh := n.GradInto(0); fresh {
			copy(g, x.Grad)
		} else {
			addTo(g, x.Grad)
		}
	}
	inner.Reset()
	s.run = nil
	n.Tape.segments = append(n.Tape.segments, s)
}

func (t *Tape) takeSegment() *segmentTape {
	if k := len(t.segments); k > 0 {
		s := t.segments[k-1]
		t.segments = t.segments[:k-1]
		return s
	}
	return &segmentTape{tape: NewTape(t.Arena)}
}

// SetGrad sets the gradient of a value before BackwardFrom, from a copy of g.
func (t *Tape) SetGrad(v *Var, g []float32) {
	if d, _ := t.gradInto(v); d != nil {
		copy(d, g)
	}
}

// scratch is a workspace buffer of the tape's arena; give it back by drop.
func (t *Tape) scratch(n int) []float32 { return t.Arena.Dirty(memory.Workspace, n) }

func (t *Tape) drop(x []float32) { t.Arena.Free(memory.Workspace, x) }
