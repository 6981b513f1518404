package simd

import (
	"math"
	"testing"

	"hasten/engine/rng"
)

// TestGather holds the kernels that find rows by their indices against plain
// loops, and that they write nothing else.
func TestGather(t *testing.T) {
	if !HasGather() {
		t.Skip("no such kernels at this level")
	}
	s := rng.New(8, 8)
	random := func(n int) []float32 {
		x := make([]float32, n)
		s.FillNormal(x, 0, 1)
		return x
	}
	const rows = 40
	check := func(name string, got []float32, want []float64) {
		t.Helper()
		for i := range want {
			if math.Abs(float64(got[i])-want[i]) > 1e-4 {
				t.Fatalf("%s: element %d is %g, want %g", name, i, got[i], want[i])
			}
		}
	}
	wide := func(x []float32) []float64 {
		y := make([]float64, len(x))
		for i, v := range x {
			y[i] = float64(v)
		}
		return y
	}
	for _, k := range []int{0, 1, 2, 7, 64, 129} {
		for _, n := range []int{1, 15, 16, 17, 31, 32} {
			for _, m := range []int{1, 5, 12} {
				for _, add := range []bool{false, true} {
					n := n * 3 // several panels
					lda, ldc := k+3, n+5
					a, b, c := random(rows*lda), random(k*32*3), random(rows*ldc)
					var ai, ci [GatherTile]int32
					var w [GatherTile]float32
					places := s.Permutation(rows)
					for i := range ai {
						ai[i], ci[i], w[i] = int32(s.IntN(rows)), int32(places[i]), float32(s.Normal())
					}
					want := wide(c)
					for i := range m {
						for j := range n {
							var sum float64
							for p := range k {
								sum += float64(a[int(ai[i])*lda+p]) * float64(b[(j/32*k+p)*32+j%32])
							}
							at := int(ci[i])*ldc + j
							if !add {
								want[at] = 0
							}
							want[at] += sum * float64(w[i])
						}
					}
					GatherRows(m, n, k, a, &ai, lda, b, c, &ci, ldc, &w, add)
					check("rows", c, want)
				}
			}
			if k == 0 {
				continue
			}
			for _, first := range []int{0, 4, 11} {
				for _, add := range []bool{false, true} {
					n := n * 3 // several panels
					lda, ldb, ldc := GatherTile+3, 99, n+5
					a, b, c := random(rows*lda), random(k*ldb), random(GatherTile*ldc)
					ai := make([]int32, k)
					for p := range ai {
						ai[p] = int32(s.IntN(rows))
					}
					want := wide(c)
					for i := first; i < GatherTile; i++ {
						for j := range n {
							var sum float64
							for p := range k {
								sum += float64(a[int(ai[p])*lda+i]) * float64(b[p*ldb+j])
							}
							if !add {
								want[i*ldc+j] = 0
							}
							want[i*ldc+j] += sum
						}
					}
					GatherOuter(first, n, a, ai, lda, b, ldb, c, ldc, add)
					check("outer", c, want)
				}
			}
		}
	}
}

func TestGatherRefusesPlacesOutside(t *testing.T) {
	for _, index := range []int32{-1, 4} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("index %d was taken", index)
				}
			}()
			x := make([]float32, 4*GatherTile)
			GatherOuter(0, 1, x, []int32{0, index}, GatherTile, make([]float32, 64), 32, x, GatherTile, false)
		}()
	}
}
