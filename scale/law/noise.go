package law

import (
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/simd"
	"hasten/learn/loop"
)

// Noise is the gradient noise scale of McCandlish et al., "An Empirical Model of
// Large-Batch Training" (2018): B = tr Σ / |G|², with G the gradient of all data
// and Σ the covariance of that of one item. Batches much smaller are noise,
// much larger ones waste data; Bcrit is about this.
//
// It is estimated from k batches of b items on the weights as they are, whose
// mean is a batch of k·b:
//
//	|G|² ≈ (k·b·|g_kb|² - b·|g_b|²)/(k·b - b)    tr Σ ≈ (|g_b|² - |g_kb|²)/(1/b - 1/(k·b))
//
// The result is in items of the task; it is not positive where the noise hides
// the gradient from so few batches.
func Noise(task loop.Task, tape *grad.Tape, k int) (float64, error) {
	params := task.Params()
	sums := make([][]float32, len(params))
	for i, p := range params {
		sums[i] = tape.Arena.Floats(memory.Workspace, p.Len())
		defer tape.Arena.Free(memory.Workspace, sums[i])
	}
	var small, items float64
	for range k {
		n, err := task.Next()
		if err != nil {
			return 0, err
		}
		for _, p := range params {
			p.ZeroGrad()
		}
		mean, _, err := task.Loss(tape)
		if err != nil {
			return 0, err
		}
		tape.Backward(mean)
		tape.Reset()
		items += float64(n) / float64(k)
		for i, p := range params {
			p.SettleGrad()
			small += simd.SumSq(p.Grad) / float64(k)
			simd.AddTo(sums[i], p.Grad)
		}
	}
	large := 0.0
	for _, s := range sums {
		large += simd.SumSq(s) / float64(k*k)
	}
	b, kb := items, items*float64(k)
	signal := (kb*large - b*small) / (kb - b)
	return (small - large) / (1/b - 1/kb) / signal, nil
}
