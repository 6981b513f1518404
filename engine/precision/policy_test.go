package precision_test

import (
	"math"
	"testing"

	"hasten/engine/matmul"
	"hasten/engine/precision"
	"hasten/engine/rng"
)

// TestPolicies holds the products of every policy against float64, within what
// its format allows.
func TestPolicies(t *testing.T) {
	const m, n, k = 33, 40, 70
	s := rng.New(1, 1)
	a, b := make([]float32, m*k), make([]float32, n*k)
	s.FillNormal(a, 0, 1)
	s.FillNormal(b, 0, 1)
	for _, p := range precision.Parts.Parts {
		for _, pass := range []precision.Pass{precision.Forward, precision.GradInput, precision.GradWeight} {
			c := make([]float32, m*n)
			p.New().Mul(pass, matmul.Args{M: m, N: n, K: k, A: a, B: b, TransB: true, C: c})
			var off, size float64
			for i, got := range c {
				var want float64
				for j := range k {
					want += float64(a[i/n*k+j]) * float64(b[i%n*k+j])
				}
				off += (float64(got) - want) * (float64(got) - want)
				size += want * want
			}
			if e := math.Sqrt(off / size); !(e < 0.02) {
				t.Errorf("%s, pass %d: relative error %.4f", p.Name, pass, e)
			}
		}
	}
}

func TestOneFlowIsInt8(t *testing.T) {
	for _, p := range precision.Parts.Parts {
		if got := precision.FlowsInt8(p.New()); got != (p.Name == "jetfire") {
			t.Errorf("%s: int8 flow %t", p.Name, got)
		}
	}
}
