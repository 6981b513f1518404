package loss_test

import (
	"fmt"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/tensor"
	"hasten/learn/loss"
)

func BenchmarkForwardBackward(b *testing.B) {
	for _, v := range []int{4096, 16384, 32768} {
		for name, f := range map[string]form{"head": loss.HeadCrossEntropy, "cut": loss.CutCrossEntropy} {
			b.Run(fmt.Sprintf("%s/v=%d", name, v), func(b *testing.B) {
				p := newProblem(2048, 256, v, 0)
				tape := grad.NewTape(new(memory.Arena))
				x, w := grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d))
				for b.Loop() {
					tape.Backward(f(tape, x, w, p.targets, nil))
					tape.Reset()
				}
				b.ReportMetric(float64(tape.Arena.Usage().PeakTotal)/(1<<20), "MiB")
			})
		}
	}
}
