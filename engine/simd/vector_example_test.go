package simd_test

import (
	"fmt"

	"hasten/engine/simd"
)

// A row of logits becomes probabilities; with target class c the cross-entropy
// is the returned log-sum-exp less logit c.
func ExampleSoftmaxRow() {
	logits := []float32{1, 2, 3}
	p := make([]float32, 3)
	lse := simd.SoftmaxRow(p, logits)
	fmt.Printf("%.4f loss %.4f\n", p, lse-logits[2])
	// Output: [0.0900 0.2447 0.6652] loss 0.4076
}

// One step of AdamW on a single parameter: from zero moments the first step is
// the learning rate, against the sign of the gradient.
func ExampleAdamWStep() {
	p, m, v, g := []float32{1}, []float32{0}, []float32{0}, []float32{-0.3}
	simd.AdamWStep(p, m, v, g, simd.AdamWCoef{
		LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Bias1: 1 - 0.9, Bias2: 1 - 0.99, GradScale: 1,
	})
	fmt.Printf("%.4f\n", p)
	// Output: [1.0100]
}
