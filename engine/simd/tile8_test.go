package simd

import (
	"math"
	"slices"
	"testing"

	"hasten/engine/rng"
)

// codes8 returns n codes in -127 … 127, the extreme ones among them.
func codes8(s *rng.Stream, n int) []int8 {
	q := make([]int8, n)
	for i := range q {
		q[i] = int8(s.IntN(255) - 127)
		if s.IntN(8) == 0 {
			q[i] = int8(254*s.IntN(2) - 127)
		}
	}
	return q
}

// TestTile8Products holds every product of tiles against plain loops over
// integers, for the four ways in which operands can lie. Scales are powers of
// two, with which float32 sums are exact: the results must be equal.
func TestTile8Products(t *testing.T) {
	defer Use(Current())
	for _, l := range Levels() {
		Use(l)
		for n := range 6 {
			for transA := range 2 {
				for transB := range 2 {
					checkTile8(t, l, n, transA == 1, transB == 1)
				}
			}
		}
	}
}

func checkTile8(t *testing.T, l Level, n int, transA, transB bool) {
	t.Helper()
	s := rng.New(4, uint64(n))
	qa, qb := codes8(&s, n*Tile8Area), codes8(&s, n*Tile8Area)
	if n > 1 { // the largest sums there are
		for i := range Tile8Area {
			qa[i], qb[i] = -127, 127
		}
	}
	sizeA, sizeB := Tile8SizeA(), Tile8SizeB()
	a, b := make([]uint8, n*sizeA), make([]uint8, n*sizeB)
	scales, acc, want := make([]float32, n), make([]float32, Tile8Area), make([]float32, Tile8Area)
	for i := range acc {
		acc[i] = float32(i)
		want[i] = float32(i)
	}
	formA, formB := Tile8Rows, Tile8Columns
	if transA {
		formA = Tile8Columns
	}
	if transB {
		formB = Tile8Rows
	}
	for i := range scales {
		scales[i] = float32(int(1) << (i % 3))
		ta, tb := qa[i*Tile8Area:][:Tile8Area], qb[i*Tile8Area:][:Tile8Area]
		Tile8LayA(a[i*sizeA:], ta, formA)
		Tile8LayB(b[i*sizeB:], tb, formB)
		for r := range Tile8Side {
			for c := range Tile8Side {
				var sum int
				for k := range Tile8Side {
					x, y := r*Tile8Side+k, k*Tile8Side+c
					if transA {
						x = k*Tile8Side + r
					}
					if transB {
						y = c*Tile8Side + k
					}
					sum += int(ta[x]) * int(tb[y])
				}
				want[r*Tile8Side+c] += scales[i] * float32(sum)
			}
		}
	}
	Tile8Mul(acc, formA, a, b, scales)
	for i := range want {
		if acc[i] != want[i] {
			t.Fatalf("%v, %d tiles, transA %t transB %t: element %d is %v, want %v", l, n, transA, transB, i, acc[i], want[i])
		}
	}
}

// TestTile8Conversions holds that all levels give the same bits, those of a
// plain formula.
func TestTile8Conversions(t *testing.T) {
	defer Use(Current())
	s := rng.New(5, 0)
	const ld = 37
	x := make([]float32, Tile8Side*ld)
	s.FillNormal(x, 0, 3)
	x[5*ld+3] = -13
	x[ld-1] = 1000 // between the rows
	key := [2]uint32{s.Uint32(), s.Uint32()}
	for _, l := range Levels() {
		Use(l)
		largest := math.Float32frombits(Tile8AbsMaxBits(x, ld))
		if largest != 13 {
			t.Fatalf("%v: the largest magnitude is %v, want 13", l, largest)
		}
		inverse, scale := 127/largest, largest/127
		near, stochastic := make([]int8, Tile8Area), make([]int8, Tile8Area)
		Tile8Quantize(near, x, ld, inverse)
		Tile8QuantizeStochastic(stochastic, x, ld, inverse, key)
		back := slices.Repeat([]float32{7}, Tile8Side*ld)
		Tile8Dequantize(back, ld, near, scale)
		Tile8AddTo(back, ld, stochastic, scale)
		for i := range Tile8Side {
			for j := range ld {
				got := back[i*ld+j]
				if j >= Tile8Side {
					if got != 7 {
						t.Fatalf("%v: wrote beyond a row", l)
					}
					continue
				}
				at := i*Tile8Side + j
				y := x[i*ld+j] * inverse
				if want := int8(math.RoundToEven(float64(y))); near[at] != want {
					t.Fatalf("%v: %v becomes %d, want %d", l, y, near[at], want)
				}
				h := tile8Hash(key, uint32(i*16+j%16))
				if want := tile8Floor(x[i*ld+j], inverse, h>>(j/16*16)&0xffff); stochastic[at] != want {
					t.Fatalf("%v: %v becomes %d by chance, want %d", l, y, stochastic[at], want)
				}
				if want := float32(near[at])*scale + float32(float32(stochastic[at])*scale); got != want {
					t.Fatalf("%v: %d and %d are %v, want %v", l, near[at], stochastic[at], got, want)
				}
			}
		}
	}
}

// TestTile8AbsMaxSeesNaN: what is not finite must not hide.
func TestTile8AbsMaxSeesNaN(t *testing.T) {
	defer Use(Current())
	for _, l := range Levels() {
		Use(l)
		for _, v := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
			x := make([]float32, Tile8Area)
			x[777] = v
			if got := Tile8AbsMaxBits(x, Tile8Side); got < infBits {
				t.Errorf("%v: %v among the elements gives %x", l, v, got)
			}
		}
	}
}

// TestTile8StochasticMean: over many keys the mean of every element is within
// five standard errors of what was rounded, elements at the ends included.
func TestTile8StochasticMean(t *testing.T) {
	const draws = 4000
	s := rng.New(6, 0)
	x := make([]float32, Tile8Area)
	for i := range x {
		x[i] = float32(254*s.Float64() - 127)
	}
	x[0], x[1], x[2] = 127, -127, 0
	sum := make([]float64, len(x))
	q := make([]int8, len(x))
	for range draws {
		Tile8QuantizeStochastic(q, x, Tile8Side, 1, [2]uint32{s.Uint32(), s.Uint32()})
		for i, c := range q {
			sum[i] += float64(c)
		}
	}
	var total float64
	for i, v := range x {
		f := float64(v) - math.Floor(float64(v))
		bias := sum[i]/draws - float64(v)
		total += bias
		if limit := 5*math.Sqrt(f*(1-f)/draws) + 2e-5; math.Abs(bias) > limit {
			t.Errorf("element %d: %v is rounded to %v on average", i, v, float64(v)+bias)
		}
	}
	if mean := total / Tile8Area; math.Abs(mean) > 5*math.Sqrt(1.0/6/draws/Tile8Area) {
		t.Errorf("all elements together are off by %v", mean)
	}
}

func BenchmarkTile8(b *testing.B) {
	const n = 16
	s := rng.New(1, 1)
	q := codes8(&s, n*Tile8Area)
	a, r, acc := make([]uint8, n*Tile8SizeA()), make([]uint8, n*Tile8SizeB()), make([]float32, Tile8Area)
	scales := slices.Repeat([]float32{1e-3}, n)
	x := make([]float32, Tile8Area)
	b.Run("mul", func(b *testing.B) {
		for b.Loop() {
			Tile8Mul(acc, Tile8Rows, a, r, scales)
		}
		b.ReportMetric(float64(b.N)*n*Tile8Area*Tile8Side/b.Elapsed().Seconds()/1e9, "GMAC/s")
	})
	perTile := func(name string, f func(int)) {
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				f(i % n)
				i++
			}
		})
	}
	perTile("max", func(int) { Tile8AbsMaxBits(x, Tile8Side) })
	perTile("quantize", func(i int) { Tile8Quantize(q[i*Tile8Area:], x, Tile8Side, 1) })
	perTile("stochastic", func(i int) { Tile8QuantizeStochastic(q[i*Tile8Area:], x, Tile8Side, 1, [2]uint32{1, 2}) })
	perTile("dequantize", func(i int) { Tile8Dequantize(x, Tile8Side, q[i*Tile8Area:], 1) })
	for name, form := range map[string]Tile8Form{"rows": Tile8Rows, "columns": Tile8Columns} {
		perTile("A by "+name, func(i int) { Tile8LayA(a[i*Tile8SizeA():], q[i*Tile8Area:], form) })
		perTile("B by "+name, func(i int) { Tile8LayB(r[i*Tile8SizeB():], q[i*Tile8Area:], form) })
	}
}
