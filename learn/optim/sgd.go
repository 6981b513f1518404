// SGD with momentum: Sutskever, Martens, Dahl, Hinton, "On the importance of
// initialization and momentum in deep learning", ICML 2013, in PyTorch's form.
//
//	g ← g + λθ        m ← μm + g
//	θ ← θ - η·m       (Nesterov: θ ← θ - η·(g + μm))

package optim

import (
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// SGD is stochastic gradient descent with momentum. Decay applies to the
// parameters with Decay set: by default those of two dimensions or more.
type SGD struct {
	LR          float64 `set:"lr" range:"[0,inf)" help:"learning rate η"`
	Momentum    float64 `set:"momentum" range:"[0,1)" help:"momentum μ"`
	Nesterov    bool    `set:"nesterov" help:"look ahead along the momentum"`
	WeightDecay float64 `set:"decay" range:"[0,inf)" help:"weight decay λ, added to the gradient"`

	params []*grad.Param
	chunks []chunk
	m      [][]float32 // nil without momentum
	state  []Buffer
}

var _ Optimizer = (*SGD)(nil)

// NewSGD returns an SGD with momentum 0.9.
func NewSGD() *SGD { return &SGD{LR: 0.1, Momentum: 0.9} }

// Rate is the learning rate before the schedule.
func (o *SGD) Rate() float64 { return o.LR }

// Init takes the buffer m, one float a parameter, if there is momentum.
func (o *SGD) Init(a *memory.Arena, params []*grad.Param) error {
	o.params, o.chunks = params, chunks(params)
	if o.Momentum > 0 {
		o.m, o.state = like(a, params, "m")
	}
	return nil
}

// State is m, or nothing without momentum.
func (o *SGD) State() []Buffer { return o.state }

type sgdArgs struct {
	o *SGD
	c simd.SGDCoef
}

var sgdLoop par.Loop[sgdArgs]

// Step updates all parameters.
func (o *SGD) Step(s Step) {
	settle(o.params)
	c := simd.SGDCoef{LR: s.LR, Momentum: o.Momentum, Nesterov: o.Nesterov, GradScale: s.GradScale}
	sgdLoop.Run(len(o.chunks), sgdArgs{o, c}, func(a *sgdArgs, i int) {
		k := a.o.chunks[i]
		p, c := a.o.params[k.param], a.c
		if p.Decay {
			c.WeightDecay = a.o.WeightDecay
		}
		var m []float32
		if a.o.m != nil {
			m = a.o.m[k.param][k.lo:k.hi]
		}
		simd.SGDStep(p.Data[k.lo:k.hi], m, p.Grad[k.lo:k.hi], c)
	})
}
