package grad

import "hasten/engine/memory"

// Forget frees the values of x until the backward pass needs them, and has
// them computed again then. The forward pass must not read x after it. It is
// for values that are cheap to compute and large to keep, such as the output
// of a norm or an activation function, right after the layer that reads them;
// where the operation that made x has no Again, it does nothing.
func (t *Tape) Forget(x *Var) {
	switch {
	case !x.owned || t.plain:
	case x.source == nil: // no backward pass will come by
		t.freeData(x)
	case x.source.again != nil:
		t.freeData(x)
		x.forgotten = true
	}
}

// Again tells how to compute Out.Data again from the inputs, to the same bits,
// so that they can be forgotten. n may be nil.
func (n *Node) Again(compute func(n *Node)) *Node {
	if n != nil {
		n.again = compute
	}
	return n
}

// remember computes what was forgotten of the node's inputs.
func (n *Node) remember() {
	for _, x := range n.In {
		n.Tape.remember(x)
	}
}

// remember computes what was forgotten of v.
func (t *Tape) remember(v *Var) {
	if v == nil || !v.forgotten {
		return
	}
	v.source.remember()
	t.fetch(v.source.In[:])
	v.Data, v.owned, v.forgotten = t.Arena.Dirty(memory.Activations, v.Len()), true, false
	v.source.again(v.source)
}

// rememberAll is for passes that may read any value.
func (t *Tape) rememberAll() {
	for _, n := range t.nodes[:t.n] {
		t.remember(n.Out)
	}
}
