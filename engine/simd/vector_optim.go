package simd

import "math"

// AdamWCoef holds the coefficients of one AdamW step.
type AdamWCoef struct {
	LR           float64 // learning rate
	Beta1, Beta2 float64 // decay of the first and the second moment
	Eps          float64 // added to the root of the second moment
	WeightDecay  float64 // decoupled; 0 gives Adam
	Bias1, Bias2 float64 // 1-Beta1ᵗ and 1-Beta2ᵗ at step t = 1, 2, …
	GradScale    float64 // the gradient is multiplied by it first; 1 for none
}

// AdamWStep updates parameters p and moments m and v by gradient g, in one pass
// (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019;
// the order of operations is PyTorch's):
//
//	p *= 1 - LR·WeightDecay
//	m += (1-Beta1)·(g-m)
//	v  = Beta2·v + (1-Beta2)·g²
//	p -= LR/Bias1 · m / (√v/√Bias2 + Eps)
func AdamWStep(p, m, v, g []float32, c AdamWCoef) {
	n := len(p)
	vec.adamW(p, prefix(m, n), prefix(v, n), prefix(g, n),
		float32(c.GradScale), float32(1-c.LR*c.WeightDecay),
		float32(1-c.Beta1), float32(c.Beta2), float32(1-c.Beta2),
		float32(1/math.Sqrt(c.Bias2)), float32(c.Eps), float32(c.LR/c.Bias1))
}

// SGDCoef holds the coefficients of one step of gradient descent.
type SGDCoef struct {
	LR          float64 // learning rate
	Momentum    float64 // decay of the momentum buffer
	Nesterov    bool    // look ahead along the momentum
	WeightDecay float64 // added to the gradient as WeightDecay·p
	GradScale   float64 // the gradient is multiplied by it first; 1 for none
}

// SGDStep updates parameters p and the momentum buffer m by gradient g, in one
// pass; m starts at zero, and may be nil if c.Momentum is 0. As in PyTorch
// (dampening 0):
//
//	g += WeightDecay·p
//	m  = Momentum·m + g
//	p -= LR·m, with Nesterov p -= LR·(g + Momentum·m)
func SGDStep(p, m, g []float32, c SGDCoef) {
	n := len(p)
	scale, decay, lr := float32(c.GradScale), float32(c.WeightDecay), float32(c.LR)
	if c.Momentum == 0 {
		vec.sgd(p, prefix(g, n), scale, decay, lr)
		return
	}
	ofGrad, ofBuffer := float32(0), float32(1)
	if c.Nesterov {
		ofGrad, ofBuffer = 1, float32(c.Momentum)
	}
	vec.sgdMomentum(p, prefix(m, n), prefix(g, n), scale, decay, float32(c.Momentum), ofGrad, ofBuffer, lr)
}
