package matmul

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"hasten/engine/simd"
)

// peaks are the limits measured once, of all cores together, in operations per second.
var peaks = sync.OnceValue(func() (p struct{ f32, bf16, int8 float64 }) {
	measure := func(loop func(int) float64) (best float64) {
		for range 5 {
			var wg sync.WaitGroup
			start := time.Now()
			cores := runtime.GOMAXPROCS(0)
			ops := make([]float64, cores)
			for i := range cores {
				wg.Go(func() { ops[i] = loop(3e6) })
			}
			wg.Wait()
			best = max(best, ops[0]*float64(cores)/time.Since(start).Seconds())
		}
		return best
	}
	p.f32, p.bf16, p.int8 = measure(simd.PeakF32), measure(simd.PeakBF16), measure(simd.PeakU8S8)
	return p
})

// report runs a product and adds its rate, and the share of the peak, to the
// benchmark's line. The rate is that of the fastest run: other work on the
// machine only ever adds time.
func report(b *testing.B, m, n, k int, peak float64, run func()) {
	run()
	best := time.Hour
	for b.Loop() {
		start := time.Now()
		run()
		best = min(best, time.Since(start))
	}
	rate := 2 * float64(m) * float64(n) * float64(k) / best.Seconds()
	b.ReportMetric(rate/1e9, "best-Gop/s")
	if peak > 0 {
		b.ReportMetric(100*rate/peak, "%peak")
	}
}

func benchMul(b *testing.B, name string, m, n, k int, transA, transB bool, f Format) {
	b.Run(fmt.Sprintf("%s/%dx%dx%d", name, m, n, k), func(b *testing.B) {
		a := operands(stream(1), m, n, k, transA, transB, 0)
		peak := peaks().f32
		if f == BF16 && peaks().bf16 > 0 {
			peak = peaks().bf16
		}
		report(b, m, n, k, peak, func() { Mul(a) })
	})
}

func BenchmarkSquare(b *testing.B) {
	for _, f := range []Format{F32, BF16} {
		for _, form := range forms {
			for _, n := range []int{384, 512, 1024} {
				benchMul(b, f.String()+"/"+form.name, n, n, n, form.transA, form.transB, f)
			}
		}
	}
}

func BenchmarkInt8(b *testing.B) {
	for _, n := range []int{384, 512, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			u, s, c := make([]uint8, n*n), make([]int8, n*n), make([]int32, n*n)
			report(b, n, n, n, peaks().int8, func() { MulU8S8(n, n, n, u, 0, s, 0, c, 0) })
		})
	}
}

// BenchmarkLinear is the three products of a Linear layer [in,out] in training
// on some rows: y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x.
func BenchmarkLinear(b *testing.B) {
	for _, f := range []Format{F32, BF16} {
		for _, rows := range []int{2048, 4096} {
			for _, s := range [][2]int{{384, 384}, {384, 1024}, {1024, 384}, {384, 1152}, {384, 4096}, {128, 128}, {128, 384}, {256, 704}} {
				in, out := s[0], s[1]
				benchMul(b, f.String()+"/y", rows, out, in, false, true, f)
				benchMul(b, f.String()+"/dx", rows, in, out, false, false, f)
				benchMul(b, f.String()+"/dw", out, in, rows, true, false, f)
			}
		}
	}
}

// BenchmarkFew is decoding: few rows through a Linear layer.
func BenchmarkFew(b *testing.B) {
	for _, form := range forms[:2] {
		for _, m := range []int{1, 4, 16, 24, 32, 48, 64, 96, 128} {
			benchMul(b, form.name, m, 1024, 1024, false, form.transB, F32)
		}
	}
	for _, n := range []int{1, 4, 8, 12, 16, 24} {
		benchMul(b, "thin", 2048, n, 384, false, true, F32)
	}
}
