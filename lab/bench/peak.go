package bench

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"hasten/engine/par"
	"hasten/engine/simd"
)

// Peak is the rate of floating-point operations that one core reaches in a
// loop of independent multiply-adds on registers alone, in FLOP/s. It is the
// limit of what any float32 computation here can reach on a core.
func Peak(d time.Duration) float64 { return peakOf(simd.PeakF32, d) }

// PeakBF16 is Peak for dot products of bfloat16 pairs.
func PeakBF16(d time.Duration) float64 { return peakOf(simd.PeakBF16, d) }

// PeakInt8 is Peak for products of uint8 with int8.
func PeakInt8(d time.Duration) float64 { return peakOf(simd.PeakU8S8, d) }

// peakOf is the best rate of a register-only loop over several short runs.
func peakOf(loop func(iterations int) float64, d time.Duration) float64 {
	n := 1000
	var best float64
	for end := time.Now().Add(d); time.Now().Before(end); {
		begin := time.Now()
		ops := loop(n)
		t := time.Since(begin)
		if t < 2*time.Millisecond {
			n *= 2
			continue
		}
		best = max(best, ops/t.Seconds())
	}
	return best
}

// MachinePeak is the float32 peak of all cores in use together. It is measured
// once, in a few milliseconds.
var MachinePeak = sync.OnceValue(func() float64 {
	return Peak(30*time.Millisecond) * float64(min(runtime.GOMAXPROCS(0), runtime.NumCPU()))
})

type copyArgs struct{ dst, src []float32 }

var copyLoop par.Loop[copyArgs]

// Bandwidth is the rate at which all cores together copy memory that is larger
// than any cache, in bytes read and written a second.
func Bandwidth(d time.Duration) float64 {
	const size, grain = 32 << 20, 1 << 16 // floats
	a := copyArgs{make([]float32, size), make([]float32, size)}
	run := func() {
		copyLoop.Run(size/grain, a, func(a *copyArgs, i int) { copy(a.dst[i*grain:(i+1)*grain], a.src[i*grain:(i+1)*grain]) })
	}
	run()
	var best float64
	for end := time.Now().Add(d); time.Now().Before(end); {
		begin := time.Now()
		run()
		best = max(best, 2*4*size/time.Since(begin).Seconds())
	}
	return best
}

// median of a set of times, which it sorts.
func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
