package net

import (
	"hasten/engine/grad"
	"hasten/model/block"
)

// Dense is the feed-forward of both layouts: Down(act(Up x)), where act is
// SwiGLU in Llama's layout, and the model's activation in GPT-2's.
type Dense struct{}

// dense is the layer of one block.
type dense struct {
	Up, Down block.Linear // Up: for SwiGLU the rows of the gates, then the ups
	gated    bool
	act      string
}

// NewFFN implements block.FFNPart.
func (*Dense) NewFFN(s *block.Site) (block.FFN, error) {
	d := &dense{gated: s.Gated, act: s.Activation}
	if s.Gated {
		d.Up = s.Linear("mlp.gateup", block.Weight(), 2*s.Hidden, s.Dim, s.MLPBias)
	} else {
		d.Up = s.Linear("mlp.up", block.Weight(), s.Hidden, s.Dim, s.MLPBias)
	}
	d.Down = s.Linear("mlp.down", s.BranchEnd(), s.Dim, s.Hidden, s.MLPBias)
	return d, nil
}

// Forward implements block.FFN. What norms and activation functions give is
// cheaper to compute again in the backward pass than to keep until then.
func (d *dense) Forward(t *grad.Tape, x, residual *grad.Var) *grad.Var {
	h := d.Up.Apply(t, x, nil)
	t.Forget(x)
	a := block.Activate(t, h, d.gated, d.act)
	y := d.Down.Apply(t, a, residual)
	t.Forget(a)
	return y
}

// MACs implements block.FFN.
func (d *dense) MACs() float64 { return d.Up.MACs() + d.Down.MACs() }
