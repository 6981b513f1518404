// AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
//
//	θ ← (1 - ηλ)·θ
//	m ← β₁m + (1-β₁)g        v ← β₂v + (1-β₂)g²
//	θ ← θ - η/(1-β₁ᵗ) · m / (√(v/(1-β₂ᵗ)) + ε)

package optim

import (
	"math"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// AdamW is Adam with decoupled weight decay. Decay applies to the parameters
// with Decay set: by default those of two dimensions or more. The arithmetic is
// PyTorch's torch.optim.AdamW.
type AdamW struct {
	LR          float64 `set:"lr" range:"[0,inf)" help:"learning rate η"`
	Beta1       float64 `set:"beta1" range:"[0,1)" help:"decay of the mean of gradients, β₁"`
	Beta2       float64 `set:"beta2" range:"[0,1)" help:"decay of the mean of squares, β₂"`
	Eps         float64 `set:"eps" range:"(0,inf)" help:"added to the root, ε"`
	WeightDecay float64 `set:"decay" range:"[0,inf)" help:"decoupled weight decay λ"`

	params []*grad.Param
	chunks []chunk
	m, v   [][]float32
	state  []Buffer
}

var _ Optimizer = (*AdamW)(nil)

// NewAdamW returns an AdamW with the settings usual for language models.
func NewAdamW() *AdamW {
	return &AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1}
}

// Rate is the learning rate before the schedule.
func (o *AdamW) Rate() float64 { return o.LR }

// Init takes the buffers m and v: two floats a parameter.
func (o *AdamW) Init(a *memory.Arena, params []*grad.Param) error {
	o.params, o.chunks = params, chunks(params)
	var sm, sv []Buffer
	o.m, sm = like(a, params, "m")
	o.v, sv = like(a, params, "v")
	o.state = append(sm, sv...)
	return nil
}

// State is m and v.
func (o *AdamW) State() []Buffer { return o.state }

type adamwArgs struct {
	o *AdamW
	c simd.AdamWCoef
}

var adamwLoop par.Loop[adamwArgs]

// Step updates all parameters.
func (o *AdamW) Step(s Step) {
	settle(o.params)
	c := simd.AdamWCoef{
		LR: s.LR, Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps,
		Bias1:     1 - math.Pow(o.Beta1, float64(s.N)),
		Bias2:     1 - math.Pow(o.Beta2, float64(s.N)),
		GradScale: s.GradScale,
	}
	adamwLoop.Run(len(o.chunks), adamwArgs{o, c}, func(a *adamwArgs, i int) {
		k := a.o.chunks[i]
		p, c := a.o.params[k.param], a.c
		if p.Decay {
			c.WeightDecay = a.o.WeightDecay
		}
		simd.AdamWStep(p.Data[k.lo:k.hi], a.o.m[k.param][k.lo:k.hi], a.o.v[k.param][k.lo:k.hi], p.Grad[k.lo:k.hi], c)
	})
}
