package ref

import "hasten/learn/optim"

// SGD is the twin of an optim.SGD.
func SGD(o *optim.SGD) Optimizer { return &sgd{o: *o} }

// sgd follows the formulas in PyTorch's documentation of torch.optim.SGD,
// dampening 0.
type sgd struct {
	o optim.SGD
	m [][]float64
}

func (r *sgd) Step(tensors []Tensor, s optim.Step) {
	if r.m == nil {
		r.m = zeros(tensors)
	}
	for k, x := range tensors {
		for i := range x.Data {
			g := x.Grad[i] * s.GradScale
			if x.Decay {
				g += r.o.WeightDecay * x.Data[i]
			}
			m := r.o.Momentum*r.m[k][i] + g
			r.m[k][i] = m
			if r.o.Nesterov {
				m = g + r.o.Momentum*m
			}
			x.Data[i] -= s.LR * m
		}
	}
}
