package ref

import (
	"math"

	"hasten/learn/optim"
)

// AdamW is the twin of an optim.AdamW.
func AdamW(o *optim.AdamW) Optimizer { return &adamW{o: *o} }

// adamW follows Algorithm 2 of Loshchilov and Hutter, with the schedule's
// factor on the decay too, as in PyTorch.
type adamW struct {
	o    optim.AdamW
	m, v [][]float64
}

func (r *adamW) Step(tensors []Tensor, s optim.Step) {
	if r.m == nil {
		r.m, r.v = zeros(tensors), zeros(tensors)
	}
	t := float64(s.N)
	for k, x := range tensors {
		m, v := r.m[k], r.v[k]
		for i := range x.Data {
			g := x.Grad[i] * s.GradScale
			m[i] = r.o.Beta1*m[i] + (1-r.o.Beta1)*g
			v[i] = r.o.Beta2*v[i] + (1-r.o.Beta2)*g*g
			mHat := m[i] / (1 - math.Pow(r.o.Beta1, t))
			vHat := v[i] / (1 - math.Pow(r.o.Beta2, t))
			if x.Decay {
				x.Data[i] -= s.LR * r.o.WeightDecay * x.Data[i]
			}
			x.Data[i] -= s.LR * mHat / (math.Sqrt(vHat) + r.o.Eps)
		}
	}
}
