package conv

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"hasten/engine/matmul"
	"hasten/engine/simd"
)

// peak is the limit of all cores together, in operations per second; 0 if unknown.
var peak = sync.OnceValue(func() (best float64) {
	for range 25 {
		var wg sync.WaitGroup
		start := time.Now()
		cores := runtime.GOMAXPROCS(0)
		ops := make([]float64, cores)
		for i := range cores {
			wg.Go(func() { ops[i] = simd.PeakF32(1e6) })
		}
		wg.Wait()
		best = max(best, ops[0]*float64(cores)/time.Since(start).Seconds())
	}
	return best
})

// report adds the rate of the fastest run to the benchmark's line, and its share
// of the peak: other work on the machine only ever adds time.
func report(b *testing.B, name string, flops float64, run func()) {
	b.Run(name, func(b *testing.B) {
		run()
		best := time.Hour
		for b.Loop() {
			start := time.Now()
			run()
			best = min(best, time.Since(start))
		}
		b.ReportMetric(flops/best.Seconds()/1e9, "best-Gop/s")
		if p := peak(); p > 0 {
			b.ReportMetric(100*flops/best.Seconds()/p, "%peak")
		}
	})
}

var layers = []struct {
	name string
	c    Conv
}{
	{"32x32x32to64k3", Conv{Batch: 32, In: 32, Out: 64, H: Same(32, 3, 1, 1), W: Same(32, 3, 1, 1)}},
	{"28x28x1to32k5", Conv{Batch: 64, In: 1, Out: 32, H: Same(28, 5, 1, 1), W: Same(28, 5, 1, 1)}},
	{"56x56x64to64k3", Conv{Batch: 8, In: 64, Out: 64, H: Same(56, 3, 1, 1), W: Same(56, 3, 1, 1)}},
	{"56x56x64to128k3s2", Conv{Batch: 8, In: 64, Out: 128, H: Same(56, 3, 2, 1), W: Same(56, 3, 2, 1)}},
	{"7x7x512to512k3", Conv{Batch: 16, In: 512, Out: 512, H: Same(7, 3, 1, 1), W: Same(7, 3, 1, 1)}},
	{"56x56x64to64k1", Conv{Batch: 8, In: 64, Out: 64, H: Same(56, 1, 1, 1), W: Same(56, 1, 1, 1)}},
	{"28x28x128k3g32", Conv{Batch: 8, In: 128, Out: 128, Groups: 32, H: Same(28, 3, 1, 1), W: Same(28, 3, 1, 1)}},
	{"28x28x128k3depthwise", Conv{Batch: 8, In: 128, Out: 128, Groups: 128, H: Same(28, 3, 1, 1), W: Same(28, 3, 1, 1)}},
	{"28x28x128k3s2depthwise", Conv{Batch: 8, In: 128, Out: 128, Groups: 128, H: Same(28, 3, 2, 1), W: Same(28, 3, 2, 1)}},
	{"1000x256k4causal", Conv{Batch: 4, In: 256, Out: 256, W: Causal(1000, 4, 1)}},
}

func BenchmarkConv(b *testing.B) {
	for _, l := range layers {
		for _, f := range []matmul.Format{matmul.F32, matmul.BF16} {
			c := l.c
			c.Format = f
			x, w, bias, y := values(c.InLen(), 1), values(c.WeightLen(), 2), values(c.Out, 3), make([]float32, c.OutLen())
			dw := make([]float32, len(w))
			name := fmt.Sprintf("%v/%s/", f, l.name)
			report(b, name+"y", c.FLOPs(), func() { c.Forward(y, x, w, bias, matmul.ReLU) })
			report(b, name+"dx", c.FLOPs(), func() { c.InputGrad(x, y, w, false) })
			report(b, name+"dw", c.FLOPs(), func() { c.WeightGrad(dw, y, x, false) })
			if c.depthwise() {
				break // in one format only
			}
		}
	}
}

// BenchmarkMatmul is the product that a 3×3 convolution of 64 channels amounts
// to, as a measure for it.
func BenchmarkMatmul(b *testing.B) {
	for _, f := range []matmul.Format{matmul.F32, matmul.BF16} {
		m, n, k := 8*56*56, 64, 576
		a := matmul.Args{M: m, N: n, K: k, A: values(m*k, 1), B: values(n*k, 2), TransB: true, C: make([]float32, m*n), Format: f}
		report(b, f.String(), 2*float64(m)*float64(n)*float64(k), func() { matmul.Mul(a) })
	}
}

func BenchmarkBiasGrad(b *testing.B) {
	c := layers[0].c
	dy, db := values(c.OutLen(), 1), make([]float32, c.Out)
	for b.Loop() {
		c.BiasGrad(db, dy, false)
	}
}
