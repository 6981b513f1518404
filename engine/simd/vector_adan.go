package simd

import "math"

// AdanCoef holds the coefficients of one step of Adan.
type AdanCoef struct {
	LR                  float64 // learning rate η
	Beta1, Beta2, Beta3 float64 // shares of the old m, v and n that are kept
	Eps                 float64 // added to the root of n
	WeightDecay         float64 // λ
	Decoupled           bool    // decay as AdamW does, instead of proximally
	Bias1, Bias2, Bias3 float64 // 1-Beta1ᵗ, 1-Beta2ᵗ, 1-Beta3ᵗ at step t = 1, 2, …; 1 for no correction
	First               bool    // there is no previous gradient: v must be 0, and stays it
	Plain               bool    // no preconditioner: the denominator is 1
	GradScale           float64 // the gradient is multiplied by it first; 1 for none
}

// AdanStep updates parameters p, the means m, v and n, and the previous
// gradient last by gradient g, in one pass (Xie et al., "Adan: Adaptive Nesterov
// Momentum Algorithm for Faster Optimizing Deep Models"):
//
//	d     = g - last                                0 at the first step
//	m    += (1-Beta1)·(g - m)
//	v    += (1-Beta2)·(d - v)
//	n     = Beta3·n + (1-Beta3)·(g + Beta2·d)²
//	p     = (p - LR·(m/Bias1 + Beta2·v/Bias2)/(√n/√Bias3 + Eps)) / (1 + LR·WeightDecay)
//	last  = g
//
// With Decoupled, p is multiplied by 1 - LR·WeightDecay first, and nothing is
// divided after.
func AdanStep(p, m, v, n, last, g []float32, c AdanCoef) {
	// p shrinks by a share of itself. As a factor next to 1, it would lose half
	// its digits, and p drift.
	shrink, lr := c.LR*c.WeightDecay, c.LR
	if !c.Decoupled {
		shrink, lr = shrink/(1+shrink), lr/(1+shrink)
	}
	mix2, look := 1-c.Beta2, c.Beta2
	if c.First {
		mix2, look = 0, 0
	}
	root, eps := 1/math.Sqrt(c.Bias3), c.Eps
	if c.Plain {
		root, eps = 0, 1
	}
	k := len(p)
	vec.adan(p, prefix(m, k), prefix(v, k), prefix(n, k), prefix(last, k), prefix(g, k),
		float32(c.GradScale), float32(1-c.Beta1), float32(mix2), float32(look),
		float32(c.Beta3), float32(1-c.Beta3), float32(root), float32(eps),
		float32(shrink), float32(lr/c.Bias1), float32(lr*c.Beta2/c.Bias2))
}

func adanPortable(p, m, v, n, last, g []float32, gradScale, mix1, mix2, look, beta3, mix3, root, eps, shrink, ofM, ofV float32) {
	for i := range p {
		g := g[i] * gradScale
		change := g - last[i]
		m[i] += mix1 * (g - m[i])
		v[i] += mix2 * (change - v[i])
		ahead := g + look*change
		n[i] = beta3*n[i] + mix3*(ahead*ahead)
		denominator := float32(math.Sqrt(float64(n[i])))*root + eps
		p[i] -= (ofM*m[i]+ofV*v[i])/denominator + shrink*p[i]
		last[i] = g
	}
}
