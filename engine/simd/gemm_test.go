package simd

import (
	"math"
	"testing"
)

// gemmValue is small integers, of which products and sums are exact in every format.
func gemmValue(i int) float32 { return float32(i*7%9 - 4) }

// TestGemmTilesAndLayouts multiplies exactly, with every level, through every
// way of laying out operands, for all heights and widths of a tile.
func TestGemmTilesAndLayouts(t *testing.T) {
	defer Use(Current())
	for _, l := range Levels() {
		Use(l)
		for name, g := range map[string]*Gemm{"f32": GemmF32, "bf16": GemmBF16} {
			for m := 1; m <= 2*g.Rows+1; m++ {
				for n := 1; n <= g.Cols; n++ {
					k := (m*5 + n*3) % 40
					checkGemm(t, l.String()+" "+name, g, m, n, k, m%2 == 0, n%2 == 0)
				}
			}
		}
	}
}

func checkGemm(t *testing.T, name string, g *Gemm, m, n, k int, acrossA, turnB bool) {
	t.Helper()
	units := (k + g.Per - 1) / g.Per
	// A: value (i, p) is gemmValue(3i+p); B: (p, j) is gemmValue(2p+5j).
	lda := (units+15)&^15 + 16
	a := make([]float32, m*lda)
	rsa, csa := lda, 1
	if acrossA {
		rsa, csa = 1, (m+15)&^15
		a = make([]float32, units*csa)
		src := make([]float32, k*m)
		for i := range src {
			src[i] = gemmValue(3*(i%m) + i/m)
		}
		g.Across(k, m, src, m, a, csa)
	} else if k > 0 {
		src := make([]float32, m*k)
		for i := range src {
			src[i] = gemmValue(3*(i/k) + i%k)
		}
		g.Along(m, k, src, k, a, lda)
	}
	b := make([]float32, units*g.Cols)
	src := make([]float32, k*n)
	if turnB && k > 0 {
		for i := range src {
			src[i] = gemmValue(2*(i%k) + 5*(i/k))
		}
		g.Turn(n, k, src, k, b, g.Cols)
	} else {
		for i := range src {
			src[i] = gemmValue(2*(i/n) + 5*(i%n))
		}
		g.Across(k, n, src, n, b, g.Cols)
	}
	ldc := n + 3
	c := make([]float32, m*ldc)
	for i := range c {
		c[i] = float32(i)
	}
	g.Tile(m, n, units, a, rsa, csa, b, g.Cols, c, ldc, 2, 1)
	for i := range c {
		want := float32(i)
		if r, j := i/ldc, i%ldc; j < n {
			for p := range k {
				want += 2 * gemmValue(3*r+p) * gemmValue(2*p+5*j)
			}
		}
		if c[i] != want {
			t.Fatalf("%s m=%d n=%d k=%d across=%t turn=%t: element %d of row %d is %v, want %v", name, m, n, k, acrossA, turnB, i%ldc, i/ldc, c[i], want)
		}
	}
}

func TestGemmShortOperandsPanic(t *testing.T) {
	defer Use(Current())
	for _, l := range Levels() {
		Use(l)
		x := make([]float32, 10*GemmF32.Cols)
		for name, call := range map[string]func(){
			"A":    func() { GemmF32.Tile(4, 1, 10, x[:39], 10, 1, x, GemmF32.Cols, x, 10, 1, 0) },
			"B":    func() { GemmF32.Tile(4, 1, 10, x, 10, 1, x[:9*GemmF32.Cols+1], GemmF32.Cols, x, 10, 1, 0) },
			"C":    func() { GemmF32.Tile(4, 1, 10, x, 10, 1, x, GemmF32.Cols, x[:30], 10, 1, 0) },
			"wide": func() { GemmF32.Tile(1, GemmF32.Cols+1, 1, x, 1, 1, x, GemmF32.Cols, x, 100, 1, 0) },
			"dots": func() { Dots(2, 2, 10, x, 10, x[:19], 10, x, 2, 1, 0) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%v %s: no panic", l, name)
					}
				}()
				call()
			}()
		}
	}
}

func TestPeaksCountTheirWork(t *testing.T) {
	defer Use(Current())
	for _, l := range Levels() {
		Use(l)
		want := map[Level]float64{Portable: 0, AVX2: 10 * 12 * 16, AVX512: 10 * 12 * 32}[l]
		if got := PeakF32(10); math.Abs(got-want) > 0 {
			t.Errorf("%v: %v operations, want %v", l, got, want)
		}
		if got := PeakBF16(10); got != 0 && got != 2*want {
			t.Errorf("%v: %v bf16 operations", l, got)
		}
		if got := PeakU8S8(10); got != 0 && got != 4*want {
			t.Errorf("%v: %v int8 operations", l, got)
		}
	}
}
