package simd

import (
	"fmt"
	"math"
	"testing"

	"hasten/engine/rng"
)

// nearRows compares with float64 results of sums of at most some hundred terms
// below 1.
func nearRows(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i := range want {
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= 2e-5) {
			t.Fatalf("%s: element %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

func toFloat64(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// TestRows compares the row kernels of all levels with float64 loops: rows
// named twice, none at all, and with the first ones replaced by a copy.
func TestRows(t *testing.T) {
	defer Use(Current())
	for _, l := range Levels() {
		Use(l)
		for _, D := range []int{16, 32, 48, 64, 80, 112, 208} {
			for _, n := range []int{0, 1, 2, 3, 7, 16, 33} {
				for _, owned := range []int{0, 1, 5} {
					t.Run(fmt.Sprint(l, "/", D, "/", n, "/", owned), func(t *testing.T) { checkRows(t, D, n, owned) })
				}
			}
		}
	}
}

func checkRows(t *testing.T, D, n, owned int) {
	const all = 11
	s := rng.New(uint64(D*100+n), 1)
	random := func(n int) []float32 {
		x := make([]float32, n)
		s.FillUniform(x, -1, 1)
		return x
	}
	table, own := random(all*D), random(owned*D)
	r := Rows{D: D, Table: table, Own: own}
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(s.IntN(all))
	}
	x, g, a := random(D), random(D), random(n)

	// The reference sees one table, in float64.
	ref := make([][]float64, all)
	for i := range ref {
		ref[i] = toFloat64(table[i*D:][:D])
		if i < owned {
			ref[i] = toFloat64(own[i*D:][:D])
		}
	}
	check := func(what string) {
		t.Helper()
		for i := range ref {
			nearRows(t, fmt.Sprintf("%s, row %d", what, i), r.Row(uint32(i)), ref[i])
		}
	}
	sum, dots, wantG := make([]float64, D), make([]float64, n), toFloat64(g)
	for j, id := range ids {
		for c, v := range ref[id] {
			sum[c] += v
			dots[j] += v * float64(x[c])
		}
	}
	dst := random(max(D, n))
	r.Sum(dst, ids)
	nearRows(t, "sum", dst, sum)
	r.Dot(dst, ids, x)
	nearRows(t, "dot", dst, dots)

	r.Add(ids, x)
	for _, id := range ids {
		for c := range x {
			ref[id][c] += float64(x[c])
		}
	}
	check("add")

	r.Step(g, ids, a, x)
	for j, id := range ids {
		for c := range x {
			wantG[c] += float64(a[j]) * ref[id][c]
			ref[id][c] += float64(a[j]) * float64(x[c])
		}
	}
	nearRows(t, "step's gradient", g, wantG)
	check("step")
	r.Prefetch(ids)
	for i, v := range table[:owned*D] {
		if math.Abs(float64(v)) > 1 {
			t.Fatalf("element %d of a shared row with a copy was written", i)
		}
	}
}

func TestVecMat(t *testing.T) {
	defer Use(Current())
	s := rng.New(3, 1)
	random := func(n int) []float32 {
		x := make([]float32, n)
		s.FillUniform(x, -1, 1)
		return x
	}
	for _, l := range Levels() {
		Use(l)
		for _, n := range []int{0, 1, 3, 10, 16} {
			for _, m := range []int{0, 16, 32, 48, 64, 80, 240} {
				x, w, e, dst, g := random(n), random(n*m), random(m), random(m), random(n)
				want, wantG, wantW := make([]float64, m), make([]float64, n), toFloat64(w)
				for i := range n {
					for j := range m {
						want[j] += float64(x[i]) * float64(w[i*m+j])
						wantG[i] += float64(e[j]) * float64(w[i*m+j])
						wantW[i*m+j] += float64(x[i]) * float64(e[j])
					}
				}
				VecMat(dst, x, w)
				nearRows(t, fmt.Sprint(l, " VecMat ", n, "×", m), dst, want)
				VecMatStep(g, x, w, e)
				nearRows(t, fmt.Sprint(l, " VecMatStep's g ", n, "×", m), g, wantG)
				nearRows(t, fmt.Sprint(l, " VecMatStep's w ", n, "×", m), w, wantW)
			}
		}
	}
}
