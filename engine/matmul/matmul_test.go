package matmul

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/simd"
)

// eachLevel runs a test with every set of kernels this machine can run.
func eachLevel(t *testing.T, f func(t *testing.T)) {
	defer simd.Use(simd.Current())
	for _, l := range simd.Levels() {
		simd.Use(l)
		t.Run(l.String(), f)
	}
}

func stream(id uint64) *rng.Stream {
	s := rng.New(1, id)
	return &s
}

// random returns n numbers around 0, starting off a cache line.
func random(r *rng.Stream, n int) []float32 {
	x := make([]float32, n+1)[1:]
	for i := range x {
		x[i] = float32(r.Normal())
	}
	return x
}

// reference computes the product element by element in float64. It also
// returns, per element, the sum of the magnitudes of all terms, to which
// rounding errors are proportional.
func reference(a Args) (c, size []float64) {
	ld := func(ld int, trans bool, rows, cols int) int {
		if ld == 0 && trans {
			return rows
		}
		if ld == 0 {
			return cols
		}
		return ld
	}
	lda, ldb := ld(a.LDA, a.TransA, a.M, a.K), ld(a.LDB, a.TransB, a.K, a.N)
	ldc, ldr := ld(a.LDC, false, a.M, a.N), ld(a.LDR, false, a.M, a.N)
	alpha := float64(a.Alpha)
	if alpha == 0 {
		alpha = 1
	}
	value := func(x float32) float64 {
		if a.Format == BF16 {
			b := math.Float32bits(x)
			if odd := b >> 16 & 1; b&0xffff > 0x8000 || b&0xffff == 0x8000 && odd == 1 {
				b += 0x10000
			}
			x = math.Float32frombits(b & 0xffff0000)
		}
		return float64(x)
	}
	for i := range a.M {
		for j := range a.N {
			var s, t float64
			for p := range a.K {
				x, y := i*lda+p, p*ldb+j
				if a.TransA {
					x = p*lda + i
				}
				if a.TransB {
					y = j*ldb + p
				}
				v := alpha * value(a.A[x]) * value(a.B[y])
				s += v
				t += math.Abs(v)
			}
			add := func(v float64) { s += v; t += math.Abs(v) }
			if a.Beta != 0 {
				add(float64(a.Beta) * float64(a.C[i*ldc+j]))
			}
			if a.Bias != nil {
				add(float64(a.Bias[j]))
			}
			if a.Residual != nil {
				add(float64(a.Residual[i*ldr+j]))
			}
			switch a.Act {
			case ReLU:
				s = max(s, 0)
			case SiLU:
				s = s / (1 + math.Exp(-s))
			case GELUTanh:
				s = s / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(s+0.044715*s*s*s)))
			case GELUErf:
				s = s / 2 * (1 + math.Erf(s/math.Sqrt2))
			}
			c, size = append(c, s), append(size, t)
		}
	}
	return c, size
}

// verify runs Mul and compares every element, and what lies between the rows of C.
func verify(t *testing.T, name string, a Args) {
	t.Helper()
	want, size := reference(a)
	before := append([]float32(nil), a.C...)
	Mul(a)
	ldc := a.LDC
	if ldc == 0 {
		ldc = a.N
	}
	// Sums run over k in float32; 4 ulps for activations.
	eps := (float64(a.K) + 8) * 0x1p-24
	if a.K > 16 {
		eps = (4*math.Sqrt(float64(a.K)) + 8) * 0x1p-24
	}
	for i, got := range a.C {
		r, c := 0, i
		if ldc > 0 {
			r, c = i/ldc, i%ldc
		}
		if r >= a.M || c >= a.N {
			if got != before[i] {
				t.Fatalf("%s: wrote outside C, at row %d column %d", name, r, c)
			}
			continue
		}
		w := want[r*a.N+c]
		if !(math.Abs(float64(got)-w) <= eps*(size[r*a.N+c]+1)) {
			t.Fatalf("%s: C[%d,%d] = %v, want %v", name, r, c, got, w)
		}
	}
}

// operands makes a product of a shape and form with gaps between rows.
func operands(r *rng.Stream, m, n, k int, transA, transB bool, gap int) Args {
	a := Args{M: m, N: n, K: k, TransA: transA, TransB: transB, LDA: k + gap, LDB: n + gap, LDC: n + gap, LDR: n + 2*gap}
	rowsA, rowsB := m, k
	if transA {
		a.LDA, rowsA = m+gap, k
	}
	if transB {
		a.LDB, rowsB = k+gap, n
	}
	length := func(rows, ld int) int { return max(0, rows*ld-gap) }
	a.A, a.B, a.C = random(r, length(rowsA, a.LDA)), random(r, length(rowsB, a.LDB)), random(r, length(m, a.LDC))
	return a
}

var forms = []struct {
	name           string
	transA, transB bool
}{{"nn", false, false}, {"nt", false, true}, {"tn", true, false}, {"tt", true, true}}

// shapes cover nothing, single elements, tails in every direction, products
// for the small paths, and several blocks of k.
var shapes = [][3]int{
	{0, 5, 5}, {5, 0, 5}, {5, 5, 0}, {1, 1, 1}, {1, 7, 3}, {1, 65, 33}, {2, 31, 17}, {49, 25, 9}, {50, 24, 19}, {60, 70, 0}, {3, 33, 64}, {4, 32, 16}, {5, 40, 129},
	{7, 1, 31}, {11, 13, 2}, {12, 32, 48}, {13, 33, 49}, {16, 100, 35}, {17, 4, 77}, {17, 6, 5}, {17, 7, 5}, {23, 16, 31},
	{24, 17, 96}, {29, 64, 100}, {57, 47, 53}, {49, 96, 513}, {61, 95, 515}, {50, 3, 400}, {100, 1, 65}, {51, 27, 1601},
}

func TestMulMatchesPlainLoops(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := stream(1)
		for _, f := range []Format{F32, BF16} {
			for _, form := range forms {
				for i, s := range shapes {
					a := operands(r, s[0], s[1], s[2], form.transA, form.transB, i%3)
					a.Format = f
					verify(t, fmt.Sprintf("%v %s %v", f, form.name, s), a)
				}
			}
		}
	})
}

func TestWhatFollowsTheProduct(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := stream(2)
		for _, s := range [][3]int{{3, 50, 20}, {60, 2, 30}, {55, 70, 520}, {9, 37, 21}, {20, 20, 0}} {
			for _, form := range forms {
				for i := range 20 {
					a := operands(r, s[0], s[1], s[2], form.transA, form.transB, i%2)
					a.Alpha = []float32{0, 1, -0.5, 2}[i%4]
					a.Beta = []float32{0, 1, 0.25}[i%3]
					a.Act = Activation(i % 5)
					if i%2 == 1 {
						a.Bias = random(r, s[1])
					}
					if i%7 > 3 {
						a.Residual = random(r, max(0, s[0]*a.LDR))
					}
					verify(t, fmt.Sprintf("%s %v alpha %v beta %v act %d, variant %d", form.name, s, a.Alpha, a.Beta, a.Act, i), a)
				}
			}
		}
	})
}

func TestRandomProducts(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := stream(3)
		for i := range 90 {
			limit := []int{20, 70, 150}[i%3]
			a := operands(r, r.IntN(limit), r.IntN(limit), r.IntN(3*limit), r.IntN(2) == 1, r.IntN(2) == 1, r.IntN(20))
			a.Format = Format(r.IntN(2))
			a.Beta = float32(r.IntN(2))
			verify(t, fmt.Sprintf("%d: M=%d N=%d K=%d transA=%t transB=%t %v", i, a.M, a.N, a.K, a.TransA, a.TransB, a.Format), a)
		}
	})
}

func TestNothingIsReadWithBetaZero(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, s := range [][3]int{{3, 9, 5}, {60, 3, 5}, {60, 40, 50}, {60, 40, 0}} {
			for _, form := range forms {
				a := operands(stream(4), s[0], s[1], s[2], form.transA, form.transB, 0)
				for i := range a.C {
					a.C[i] = float32(math.NaN())
				}
				verify(t, fmt.Sprint(form.name, s), a)
			}
		}
	})
}

func TestBitEqualForAnyWidth(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	eachLevel(t, func(t *testing.T) {
		for _, s := range [][3]int{{130, 200, 900}, {4, 700, 300}, {700, 3, 300}, {64, 64, 1500}} {
			for _, form := range forms {
				for _, f := range []Format{F32, BF16} {
					a := operands(stream(5), s[0], s[1], s[2], form.transA, form.transB, 3)
					a.Format = f
					a.Bias = random(stream(6), s[1])
					var first []float32
					for width := 1; width <= 3; width++ {
						runtime.GOMAXPROCS(width)
						Mul(a)
						if first == nil {
							first = append(first, a.C...)
						}
						equalBits(t, fmt.Sprintf("%v %s %v, width %d", f, form.name, s, width), a.C, first)
					}
				}
			}
		}
	})
}

func equalBits(t *testing.T, name string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v, not %v", name, i, got[i], want[i])
		}
	}
}

func TestPackedEqualsUnpacked(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, f := range []Format{F32, BF16} {
			for _, trans := range []bool{false, true} {
				for _, s := range [][3]int{{50, 70, 50}, {53, 33, 1101}, {60, 45, 0}, {64, 3000, 500}, {50, 300, 4100}} {
					a := operands(stream(7), s[0], s[1], s[2], false, trans, 1)
					a.Format = f
					Mul(a)
					plain := append([]float32(nil), a.C...)
					a.Packed = PackB(f, a.K, a.N, a.B, a.LDB, trans)
					a.B = nil
					clear(a.C)
					Mul(a)
					for i := range a.M {
						equalBits(t, fmt.Sprint(f, trans, s), a.C[i*a.LDC:][:a.N], plain[i*a.LDC:][:a.N])
					}
					a.Packed.Free()
				}
			}
		}
	})
}

func TestPackedWithFewRows(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		a := operands(stream(8), 2, 45, 67, false, true, 0)
		want, size := reference(a)
		a.Packed = PackB(F32, a.K, a.N, a.B, 0, true)
		defer a.Packed.Free()
		Mul(a)
		for i := range want {
			if math.Abs(float64(a.C[i])-want[i]) > 1e-6*size[i] {
				t.Fatalf("element %d is %v, want %v", i, a.C[i], want[i])
			}
		}
	})
}

func TestMulBatch(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := stream(9)
		for _, s := range [][4]int{{7, 5, 9, 11}, {3, 140, 130, 150}, {40, 16, 16, 16}, {0, 3, 3, 3}} {
			n, m, cols, k := s[0], s[1], s[2], s[3]
			a := Args{M: m, N: cols, K: k, A: random(r, n*m*k), B: random(r, n*k*cols), TransB: true, C: random(r, n*m*cols), Bias: random(r, cols), Residual: random(r, n*m*cols)}
			MulBatch(n, m*k, cols*k, m*cols, a)
			for i := range n {
				one := a.shifted(i*m*k, i*cols*k, i*m*cols)
				one.C = make([]float32, m*cols)
				Mul(one)
				equalBits(t, fmt.Sprint(s, i), a.C[i*m*cols:][:m*cols], one.C)
			}
		}
	})
}

func TestMulGrouped(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := stream(10)
		for _, s := range []struct {
			starts []int
			n, k   int
		}{
			{[]int{0, 3, 3, 20, 21}, 10, 12}, {[]int{0, 200, 500}, 160, 170}, {[]int{5, 9, 30}, 33, 7}, {[]int{0}, 3, 3},
		} {
			rows := s.starts[len(s.starts)-1]
			groups := len(s.starts) - 1
			x, w, y := random(r, rows*s.k), random(r, groups*s.n*s.k), random(r, rows*s.n)
			dw := random(r, groups*s.n*s.k)
			MulGrouped(s.starts, s.n*s.k, 0, Args{N: s.n, K: s.k, A: x, B: w, TransB: true, C: y})
			MulGrouped(s.starts, 0, s.n*s.k, Args{M: s.n, N: s.k, A: y, TransA: true, B: x, C: dw})
			for g := range groups {
				lo, hi := s.starts[g], s.starts[g+1]
				one := Args{M: hi - lo, N: s.n, K: s.k, A: x[lo*s.k:], B: w[g*s.n*s.k:], TransB: true, C: make([]float32, (hi-lo)*s.n)}
				Mul(one)
				equalBits(t, fmt.Sprint(s.starts, " forward ", g), y[lo*s.n:hi*s.n], one.C)
				one = Args{M: s.n, N: s.k, K: hi - lo, A: y[lo*s.n:], TransA: true, B: x[lo*s.k:], C: make([]float32, s.n*s.k)}
				Mul(one)
				equalBits(t, fmt.Sprint(s.starts, " gradient ", g), dw[g*s.n*s.k:][:s.n*s.k], one.C)
			}
		}
	})
}

func TestMulU8S8(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := stream(11)
		for i, s := range append(shapes, [3]int{20, 40, 3500}) {
			m, n, k := s[0], s[1], s[2]
			lda, ldb, ldc := k+i%4, k+i%3, n+i%2
			a, b := make([]uint8, m*lda), make([]int8, n*ldb)
			for i := range a {
				a[i] = uint8(255 - r.IntN(3)*r.IntN(128)) // mostly large: products that saturate 16 bits
			}
			for i := range b {
				b[i] = int8(127 - r.IntN(2)*255)
			}
			c := make([]int32, m*ldc)
			MulU8S8(m, n, k, a, lda, b, ldb, c, ldc)
			for i := range m {
				for j := range n {
					var want int32
					for p := range k {
						want += int32(a[i*lda+p]) * int32(b[j*ldb+p])
					}
					if got := c[i*ldc+j]; got != want {
						t.Fatalf("%v: C[%d,%d] = %d, want %d", s, i, j, got, want)
					}
				}
			}
		}
	})
}

func TestNoAllocationInSteadyState(t *testing.T) {
	r := stream(12)
	mul := func(m, n, k int, transA, transB bool, f Format) func() {
		a := operands(r, m, n, k, transA, transB, 0)
		a.Format, a.Act = f, GELUTanh
		return func() { Mul(a) }
	}
	u, s, c := make([]uint8, 100*100), make([]int8, 100*100), make([]int32, 100*100)
	batch := operands(r, 8, 8, 8, false, true, 0)
	for name, run := range map[string]func(){
		"nt":    mul(100, 200, 300, false, true, F32),
		"tn":    mul(100, 200, 300, true, false, F32),
		"bf16":  mul(100, 200, 300, false, false, BF16),
		"dots":  mul(1, 2000, 300, false, true, F32),
		"thin":  mul(2000, 2, 300, false, false, F32),
		"few":   mul(3, 2000, 300, false, false, F32),
		"small": mul(20, 20, 20, false, true, F32),
		"int8":  func() { MulU8S8(100, 100, 100, u, 0, s, 0, c, 0) },
		"batch": func() { MulBatch(10, 0, 0, 0, batch) },
	} {
		for range 20 {
			run()
		}
		if got := testing.AllocsPerRun(50, run); got > 0 {
			t.Errorf("%s: %v allocations per call", name, got)
		}
	}
	if live := memory.Default.Usage().Live[memory.Workspace]; live != 0 {
		t.Errorf("%d bytes of workspace not given back", live)
	}
}

func TestShortSlicesPanicWithShapes(t *testing.T) {
	x := make([]float32, 100)
	for name, a := range map[string]Args{
		"A":        {M: 11, N: 5, K: 10, A: x, B: x, C: x},
		"B":        {M: 5, N: 11, K: 10, A: x, B: x, C: x},
		"C":        {M: 11, N: 11, K: 5, A: x, B: x, C: x},
		"LDA":      {M: 5, N: 5, K: 5, A: x, LDA: 4, B: x, C: x},
		"bias":     {M: 5, N: 5, K: 5, A: x, B: x, C: x, Bias: x[:4]},
		"residual": {M: 5, N: 5, K: 5, A: x, B: x, C: x, Residual: x[:24]},
		"negative": {M: -1, N: 5, K: 5, A: x, B: x, C: x},
	} {
		func() {
			defer func() {
				if v := recover(); v == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			Mul(a)
		}()
	}
}
