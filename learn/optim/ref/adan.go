package ref

import (
	"math"

	"hasten/learn/optim"
)

// Adan is the twin of an optim.Adan.
func Adan(o *optim.Adan) Optimizer { return &adan{o: *o} }

// adan follows Algorithm 1 of Xie et al., in their order, with bias
// corrections. last is nil where a run, or a restart, has no gradient yet.
type adan struct {
	o             optim.Adan
	m, v, n, last [][]float64
	t             float64 // steps since the restart
}

func (r *adan) Step(tensors []Tensor, s optim.Step) {
	if r.last == nil || r.o.Restart > 0 && (s.N-1)%r.o.Restart == 0 {
		r.m, r.v, r.n, r.last, r.t = zeros(tensors), zeros(tensors), zeros(tensors), nil, 0
	}
	r.t++
	now := zeros(tensors)
	for k, x := range tensors {
		for i := range now[k] {
			now[k][i] = x.Grad[i] * s.GradScale
		}
	}
	if r.last == nil {
		r.last = now
	}
	for k, x := range tensors {
		lambda := 0.0
		if x.Decay {
			lambda = r.o.WeightDecay
		}
		for i := range x.Data {
			x.Data[i] = r.update(k, i, x.Data[i], now[k][i], s.LR, lambda)
		}
	}
	r.last = now
}

// update is the new value of weight i of tensor k.
func (r *adan) update(k, i int, theta, g, eta, lambda float64) float64 {
	o := &r.o
	difference := g - r.last[k][i]
	r.m[k][i] = o.Beta1*r.m[k][i] + (1-o.Beta1)*g
	r.v[k][i] = o.Beta2*r.v[k][i] + (1-o.Beta2)*difference
	r.n[k][i] = o.Beta3*r.n[k][i] + (1-o.Beta3)*math.Pow(g+o.Beta2*difference, 2)
	u := r.m[k][i] + o.Beta2*r.v[k][i]
	if !o.Plain {
		correct := func(x, beta float64) float64 { return x / (1 - math.Pow(beta, r.t)) }
		u = correct(r.m[k][i], o.Beta1) + o.Beta2*correct(r.v[k][i], o.Beta2)
		u /= math.Sqrt(correct(r.n[k][i], o.Beta3)) + o.Eps
	}
	if o.Decoupled {
		return (1-eta*lambda)*theta - eta*u
	}
	return (theta - eta*u) / (1 + eta*lambda)
}
