package loss_test

import (
	"slices"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/tensor"
	"hasten/learn/loss"
)

// TestWeighted holds loss and gradients against the weighted sums of those of
// each row alone, in float64.
func TestWeighted(t *testing.T) {
	for _, c := range []struct{ n, d, v, ignore int }{{1, 1, 1, 0}, {7, 5, 3, 0}, {33, 16, 65, 4}, {515, 3, 17, 5}, {6, 4, 10, 1}} {
		p := newProblem(c.n, c.d, c.v, c.ignore)
		weights := make([]float32, p.n)
		counted := 0
		for i := range weights {
			weights[i] = float32(i%4) / 2 // 0, 0.5, 1, 1.5
			if p.targets[i] != loss.Ignore {
				counted++
			}
		}
		var mean float64
		rows, dx, dw := make([]float64, p.n), make([]float64, p.n*p.d), make([]float64, p.v*p.d)
		for i, id := range p.targets {
			if id == loss.Ignore {
				continue
			}
			one := p
			one.n, one.x, one.targets = 1, p.x[i*p.d:(i+1)*p.d], p.targets[i:i+1]
			l, _, x, w := one.naive()
			factor := float64(weights[i]) / float64(counted)
			rows[i] = l
			mean += factor * l
			copy(dx[i*p.d:], scaled(x, factor))
			for k := range dw {
				dw[k] += factor * w[k]
			}
		}
		for _, head := range []loss.Weighted{&loss.Auto{}, &loss.Rows{}} {
			tape := grad.NewTape(new(memory.Arena))
			x := grad.Leaf(tensor.Tensor{Shape: tensor.Of(p.n, p.d), Data: p.x})
			w := grad.Leaf(tensor.Tensor{Shape: tensor.Of(p.v, p.d), Data: p.w})
			perRow := make([]float32, p.n)
			y := head.WeightedCrossEntropy(tape, x, w, p.targets, weights, perRow)
			near(t, "loss", slices.Clone(y.Data), []float64{mean}, 1e-5)
			near(t, "losses", perRow, rows, 1e-5)
			tape.BackwardScaled(y, 0.5)
			near(t, "dx", x.Grad, scaled(dx, 0.5), 1e-5)
			near(t, "dw", w.Grad, scaled(dw, 0.5), 1e-5)
		}
	}
}
