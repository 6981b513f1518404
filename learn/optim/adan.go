// Adan: Xie, Zhou, Li, Lin, Yan, "Adan: Adaptive Nesterov Momentum Algorithm
// for Faster Optimizing Deep Models", IEEE TPAMI 2024.
//
//	m ← β₁m + (1-β₁)·g
//	v ← β₂v + (1-β₂)·(g - g₋)
//	n ← β₃n + (1-β₃)·(g + β₂(g - g₋))²
//	θ ← (θ - η·(m̂ + β₂v̂)/(√n̂ + ε)) / (1 + ηλ)
//
// g₋ is the gradient of the step before, and g itself at the first step. β is
// the share of the old mean that is kept, as in Adam; the paper's text writes
// 1-β for it. m̂, v̂ and n̂ are divided by 1-β₁ᵗ, 1-β₂ᵗ and 1-β₃ᵗ.
//
// Nesterov's method wants the gradient at a point ahead. With the change of the
// gradient added to the momentum, the gradients at the points themselves do:
// θ is then the point ahead.

package optim

import (
	"math"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// Adan is adaptive Nesterov momentum. Decay applies to the parameters with
// Decay set: by default those of two dimensions or more. Its learning rate is
// typically 3 to 10 times AdamW's.
type Adan struct {
	LR          float64 `set:"lr" range:"[0,inf)" help:"learning rate η"`
	Beta1       float64 `set:"beta1" range:"[0,1)" help:"share of the old mean of gradients, β₁"`
	Beta2       float64 `set:"beta2" range:"[0,1)" help:"share of the old mean of their changes, β₂"`
	Beta3       float64 `set:"beta3" range:"[0,1)" help:"share of the old mean of squares, β₃"`
	Eps         float64 `set:"eps" range:"(0,inf)" help:"added to the root, ε"`
	WeightDecay float64 `set:"decay" range:"[0,inf)" help:"weight decay λ"`
	Decoupled   bool    `set:"decoupled" help:"decay weights before the step, as AdamW does, instead of proximally after it"`
	Restart     int     `set:"restart" range:"[0,inf)" help:"steps after which the means begin anew; 0: never"`
	Plain       bool    `set:"plain" help:"no preconditioner and no bias corrections: Nesterov momentum, for β₁ = β₂"`

	params        []*grad.Param
	chunks        []chunk
	m, v, n, last [][]float32
	state         []Buffer
}

var _ Optimizer = (*Adan)(nil)

// NewAdan returns an Adan with the paper's settings.
func NewAdan() *Adan {
	return &Adan{LR: 5e-3, Beta1: 0.98, Beta2: 0.92, Beta3: 0.99, Eps: 1e-8, WeightDecay: 0.02}
}

// Rate is the learning rate before the schedule.
func (o *Adan) Rate() float64 { return o.LR }

// Init takes the buffers m, v, n and g₋: four floats a parameter.
func (o *Adan) Init(a *memory.Arena, params []*grad.Param) error {
	o.params, o.chunks = params, chunks(params)
	for _, b := range []struct {
		name string
		data *[][]float32
	}{{"m", &o.m}, {"v", &o.v}, {"n", &o.n}, {"last", &o.last}} {
		data, state := like(a, params, b.name)
		*b.data, o.state = data, append(o.state, state...)
	}
	return nil
}

// State is m, v, n and g₋.
func (o *Adan) State() []Buffer { return o.state }

type adanArgs struct {
	o     *Adan
	c     simd.AdanCoef
	clear bool
}

var adanLoop par.Loop[adanArgs]

// Step updates all parameters. What is kept as g₋ is the gradient after
// clipping.
func (o *Adan) Step(s Step) {
	settle(o.params)
	t := s.N // since the last restart
	if o.Restart > 0 {
		t = (s.N-1)%o.Restart + 1
	}
	c := simd.AdanCoef{
		LR: s.LR, Beta1: o.Beta1, Beta2: o.Beta2, Beta3: o.Beta3, Eps: o.Eps,
		Decoupled: o.Decoupled, First: t == 1, Plain: o.Plain, GradScale: s.GradScale,
		Bias1: 1, Bias2: 1, Bias3: 1,
	}
	if !o.Plain {
		c.Bias1 = 1 - math.Pow(o.Beta1, float64(t))
		c.Bias2 = 1 - math.Pow(o.Beta2, float64(t))
		c.Bias3 = 1 - math.Pow(o.Beta3, float64(t))
	}
	adanLoop.Run(len(o.chunks), adanArgs{o, c, t == 1 && s.N > 1}, func(a *adanArgs, i int) {
		k, o, c := a.o.chunks[i], a.o, a.c
		p := o.params[k.param]
		if p.Decay {
			c.WeightDecay = o.WeightDecay
		}
		m, v, n := o.m[k.param][k.lo:k.hi], o.v[k.param][k.lo:k.hi], o.n[k.param][k.lo:k.hi]
		if a.clear {
			clear(m)
			clear(v)
			clear(n)
		}
		simd.AdanStep(p.Data[k.lo:k.hi], m, v, n, o.last[k.param][k.lo:k.hi], p.Grad[k.lo:k.hi], c)
	})
}
