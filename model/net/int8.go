package net

import (
	"hasten/engine/grad"
	"hasten/model/block"
	"hasten/model/int8flow"
)

// The blocks of a model whose policy flows in int8 (precision.FlowsInt8). The
// layers of the standard layouts read and write int8; other parts get float32
// and are widened and rounded around.

// int8Mixer is a mixer that can stay in int8. See block.Mixer.
type int8Mixer interface {
	forwardInt8(t *grad.Tape, x, residual int8flow.Value, s block.Segments) int8flow.Value
}

// int8FFN is a feed-forward that can stay in int8. See block.FFN.
type int8FFN interface {
	forwardInt8(t *grad.Tape, x, residual int8flow.Value) int8flow.Value
}

// forwardInt8 is forward on the slots of a value in int8, [rows, Dim].
func (b *Block) forwardInt8(t *grad.Tape, slots *grad.Var) *grad.Var {
	x := int8flow.Value{Var: slots, Rows: b.rows, Cols: b.Norm1.Gain.Len()}
	if m, ok := b.Mixer.(int8Mixer); ok {
		x = m.forwardInt8(t, b.Norm1.applyInt8(t, x), x, b.segments)
	} else {
		n, r := widen(t, b.Norm1.applyInt8(t, x), x)
		x = int8flow.Quantize(t, b.Mixer.Forward(t, n, r, b.segments))
	}
	if f, ok := b.FFN.(int8FFN); ok {
		x = f.forwardInt8(t, b.Norm2.applyInt8(t, x), x)
	} else {
		n, r := widen(t, b.Norm2.applyInt8(t, x), x)
		x = int8flow.Quantize(t, b.FFN.Forward(t, n, r))
	}
	return x.Var
}

func widen(t *grad.Tape, x, residual int8flow.Value) (wideX, wideResidual *grad.Var) {
	return int8flow.Dequantize(t, x), int8flow.Dequantize(t, residual)
}

func (n Norm) applyInt8(t *grad.Tape, x int8flow.Value) int8flow.Value {
	if n.Bias == nil {
		return int8flow.RMSNorm(t, x, n.Gain.Var, n.Eps)
	}
	return int8flow.LayerNorm(t, x, n.Gain.Var, n.Bias.Var, n.Eps)
}

func applyInt8(t *grad.Tape, l block.Linear, x, residual int8flow.Value) int8flow.Value {
	var bias *grad.Var
	if l.Bias != nil {
		bias = l.Bias.Var
	}
	return int8flow.Linear(t, x, l.Weight.Var, bias, residual)
}

func (m *selfAttention) forwardInt8(t *grad.Tape, x, residual int8flow.Value, s block.Segments) int8flow.Value {
	h := applyInt8(t, m.QKV, x, int8flow.Value{})
	t.Forget(x.Var)
	h = int8flow.Attend(t, h, int8flow.Attention{Heads: m.heads, Length: s.Length, Mask: s.Mask, Rotary: m.rotary})
	return applyInt8(t, m.Out, h, residual)
}

func (d *dense) forwardInt8(t *grad.Tape, x, residual int8flow.Value) int8flow.Value {
	h := applyInt8(t, d.Up, x, int8flow.Value{})
	t.Forget(x.Var)
	a := int8flow.Activate(t, h, function(d.gated, d.act))
	y := applyInt8(t, d.Down, a, residual)
	t.Forget(a.Var)
	return y
}

// function is what block.Activate computes.
func function(gated bool, name string) int8flow.Function {
	switch {
	case gated:
		return int8flow.SwiGLU
	case name == "gelu":
		return int8flow.GELU
	case name == "relu":
		return int8flow.ReLU
	}
	return int8flow.GELUTanh
}
