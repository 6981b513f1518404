package grad

import "hasten/engine/rng"

// Segment is a part of a model as a function of one value and of parameters.
// Run twice on the same input it must give the same output; random numbers
// that it draws from the tape are repeated.
type Segment func(t *Tape, x *Var) *Var

// segment is what Checkpoint keeps of a Segment between the passes: a tape of
// its own, which is empty in the meantime.
type segment struct {
	tape *Tape
	run  Segment
	rand rng.Stream // as it stood when the segment first ran
}

// Checkpoint runs a segment without keeping what it computes inside, and runs
// it once more during the backward pass. It trades a second forward pass of
// the segment for the memory of its activations (Chen et al., "Training Deep
// Nets with Sublinear Memory Cost", 2016).
func (t *Tape) Checkpoint(x *Var, run Segment) *Var {
	if t.off || t.plain {
		return run(t, x)
	}
	s := t.newSegment()
	s.run, s.rand = run, t.Rand
	inner := s.tape
	inner.Policy, inner.Rand = t.Policy, t.Rand
	inner.off, inner.first, inner.again = true, !t.again, false
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
	s := n.State.(*segment)
	inner := s.tape
	inner.Rand = s.rand
	inner.off, inner.first, inner.again = false, false, true
	x := inner.Stop(n.In[0])
	x.wanted = n.In[0].wanted
	inner.SetGrad(s.run(inner, x), n.Out.Grad)
	inner.BackwardFrom()
	if x.Grad != nil {
		n.Tape.SetGrad(n.In[0], x.Grad)
	}
	inner.Reset()
	s.run = nil
}

func (t *Tape) newSegment() *segment {
	if t.ns == len(t.segments) {
		t.segments = append(t.segments, &segment{tape: NewTape(t.Arena)})
	}
	t.ns++
	return t.segments[t.ns-1]
}
