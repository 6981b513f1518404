package bench

import (
	"fmt"
	"runtime"
	"time"

	"hasten/engine/matmul"
	"hasten/engine/rng"
	"hasten/engine/simd"
)

// GEMMResult is the rate of a matrix product, packing included: the median of
// several runs.
type GEMMResult struct {
	GFLOPS    float64 `json:"gflops"`
	PeakShare float64 `json:"peak_share"` // of what the threads reach in that format on registers alone
	Threads   int     `json:"threads"`
}

// GEMM times the product of two n×n matrices. form is nn, nt or tn (t: that
// operand is stored transposed); precision is f32, bf16 or int8.
func GEMM(n int, form, precision string, threads int) (GEMMResult, error) {
	if n < 1 || n > 1<<14 {
		return GEMMResult{}, fmt.Errorf("--n %d: want 1 to %d", n, 1<<14)
	}
	if form != "nn" && form != "nt" && form != "tn" {
		return GEMMResult{}, fmt.Errorf("--form %s: want nn, nt or tn", form)
	}
	if threads > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
	}
	run, peak, err := product(n, form, precision)
	if err != nil {
		return GEMMResult{}, err
	}
	cores := min(runtime.GOMAXPROCS(0), runtime.NumCPU())
	rate := 2 * float64(n) * float64(n) * float64(n) / medianTime(run)
	return GEMMResult{rate / 1e9, rate / (peakOf(peak, 200*time.Millisecond) * float64(cores)), runtime.GOMAXPROCS(0)}, nil
}

// product prepares a product, and names the loop that reaches its peak.
func product(n int, form, precision string) (run func(), peak func(int) float64, err error) {
	r := rng.New(1, 0)
	if precision == "int8" {
		if form != "nt" {
			return nil, nil, fmt.Errorf("--form %s: the int8 product is there as nt", form)
		}
		a, b, c := make([]uint8, n*n), make([]int8, n*n), make([]int32, n*n)
		for i := range a {
			a[i], b[i] = uint8(r.Uint32()), int8(r.Uint32())
		}
		return func() { matmul.MulU8S8(n, n, n, a, 0, b, 0, c, 0) }, simd.PeakU8S8, nil
	}
	args := matmul.Args{M: n, N: n, K: n, TransA: form == "tn", TransB: form == "nt"}
	args.A, args.B, args.C = make([]float32, n*n), make([]float32, n*n), make([]float32, n*n)
	r.FillNormal(args.A, 0, 1)
	r.FillNormal(args.B, 0, 1)
	switch precision {
	case "f32":
		return func() { matmul.Mul(args) }, simd.PeakF32, nil
	case "bf16":
		args.Format = matmul.BF16
		return func() { matmul.Mul(args) }, simd.PeakBF16, nil
	}
	return nil, nil, fmt.Errorf("--precision %s: want f32, bf16 or int8", precision)
}

// medianTime runs f for about a second, at least seven times, and returns the
// median time of one run in seconds.
func medianTime(f func()) float64 {
	f() // the first run finds its buffers
	var times []float64
	for begin := time.Now(); len(times) < 7 || time.Since(begin) < time.Second; {
		start := time.Now()
		f()
		times = append(times, time.Since(start).Seconds())
	}
	return median(times)
}
