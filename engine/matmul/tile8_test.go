package matmul

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/rng"
)

func newTiles(rows, cols int) Tiles {
	return TilesOf(rows, cols, memory.Default.Floats(memory.Workspace, TilesLen(rows, cols)))
}

// integerTiles has codes in ±127 and scales 1 and 2, with which float32 sums of
// some products are exact.
func integerTiles(r *rng.Stream, rows, cols int) Tiles {
	t := newTiles(rows, cols)
	for i := range t.Scales {
		t.Scales[i] = float32(1 + r.IntN(2))
	}
	for i := range rows {
		for j := range cols {
			codes, _ := t.at(i/tile, j/tile)
			codes[i%tile*tile+j%tile] = int8(r.IntN(255) - 127)
		}
	}
	return t
}

// integer is element (r, c) of op(t), as an integer.
func integer(t Tiles, trans bool, r, c int) int64 {
	if trans {
		r, c = c, r
	}
	return int64(t.At(r, c))
}

var tileShapes = [][3]int{
	{0, 5, 5}, {5, 5, 0}, {1, 1, 1}, {1, 33, 31}, {32, 32, 32}, {33, 64, 65}, {64, 31, 96}, {7, 550, 40}, {100, 37, 129}, {31, 600, 100},
}

// TestTilesProductEqualsIntegers holds products that go to float32 against
// plain loops over integers: they must be equal.
func TestTilesProductEqualsIntegers(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := stream(1)
		for _, form := range forms {
			for _, s := range tileShapes {
				m, n, k := s[0], s[1], s[2]
				a := TileArgs{TransA: form.transA, TransB: form.transB, Beta: float32(r.IntN(3))}
				a.A, a.B = integerTiles(r, m, k), integerTiles(r, k, n)
				if a.TransA {
					a.A = integerTiles(r, k, m)
				}
				if a.TransB {
					a.B = integerTiles(r, n, k)
				}
				a.Wide = make([]float32, m*n)
				for i := range a.Wide {
					a.Wide[i] = float32(i % 1000)
				}
				MulTiles(a)
				for i, got := range a.Wide {
					want := int64(a.Beta) * int64(i%1000)
					for p := range k {
						want += integer(a.A, a.TransA, i/n, p) * integer(a.B, a.TransB, p, i%n)
					}
					if int64(got) != want || float64(got) != float64(want) {
						t.Fatalf("%s %v beta %v: C[%d,%d] = %v, want %d", form.name, s, a.Beta, i/n, i%n, got, want)
					}
				}
			}
		}
	})
}

// requantize is the plain reference of rounding to tiles: x [rows, cols].
func requantize(x []float64, rows, cols int) (codes []int, scales []float32) {
	codes = make([]int, rows*cols)
	wide := (cols + 31) / 32
	scales = make([]float32, (rows+31)/32*wide)
	for i := range scales {
		var largest float32
		in := func(f func(at int)) {
			for r := i / wide * 32; r < min(rows, i/wide*32+32); r++ {
				for c := i % wide * 32; c < min(cols, i%wide*32+32); c++ {
					f(r*cols + c)
				}
			}
		}
		in(func(at int) { largest = max(largest, float32(math.Abs(x[at]))) })
		scales[i] = largest / 127
		if largest > 0 {
			inverse := 127 / largest
			in(func(at int) { codes[at] = int(math.RoundToEven(float64(float32(x[at]) * inverse))) })
		}
	}
	return codes, scales
}

// TestTilesEpilogue holds the rounded product, with bias and residual, against
// the reference: equal codes and scales, since everything before rounding is exact.
func TestTilesEpilogue(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := stream(2)
		for i, s := range tileShapes {
			m, n, k := s[0], s[1], s[2]
			a := TileArgs{A: integerTiles(r, m, k), B: integerTiles(r, n, k), TransB: true, Out: newTiles(m, n)}
			if i%2 == 0 {
				a.Bias = make([]float32, n)
				for j := range a.Bias {
					a.Bias[j] = float32(r.IntN(1000))
				}
			}
			if i%3 > 0 {
				a.Residual = integerTiles(r, m, n)
			}
			want := make([]float64, m*n)
			for at := range want {
				row, col := at/n, at%n
				var sum int64
				for p := range k {
					sum += integer(a.A, false, row, p) * integer(a.B, true, p, col)
				}
				if a.Bias != nil {
					sum += int64(a.Bias[col])
				}
				if a.Residual.Codes != nil {
					sum += integer(a.Residual, false, row, col)
				}
				want[at] = float64(sum)
			}
			if i%3 == 2 {
				a.Out = a.Residual // in place
			}
			MulTiles(a)
			codes, scales := requantize(want, m, n)
			if !slices.Equal(a.Out.Scales, scales) {
				t.Fatalf("%v: scales %v, want %v", s, a.Out.Scales, scales)
			}
			for at, c := range codes {
				got, _ := a.Out.at(at/n/tile, at%n/tile)
				if int(got[at/n%tile*tile+at%n%tile]) != c {
					t.Fatalf("%v: code at %d,%d is not %d", s, at/n, at%n, c)
				}
			}
			checkPadding(t, a.Out)
		}
	})
}

// checkPadding: what lies beyond the edges is 0.
func checkPadding(t *testing.T, x Tiles) {
	t.Helper()
	for i := range x.high() {
		for j := range x.wide() {
			codes, _ := x.at(i, j)
			for at, c := range codes {
				if c != 0 && (i*tile+at/tile >= x.Rows || j*tile+at%tile >= x.Cols) {
					t.Fatalf("[%d,%d]: tile %d,%d holds %d beyond the edge", x.Rows, x.Cols, i, j, c)
				}
			}
		}
	}
}

func TestTilesRoundTrip(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := stream(3)
		for _, s := range [][2]int{{0, 4}, {1, 1}, {32, 64}, {33, 95}, {70, 31}} {
			rows, cols := s[0], s[1]
			x := random(r, rows*cols)
			wide := make([]float64, len(x))
			for i := range x {
				if i/cols >= 32 {
					x[i] *= 100 // another scale
				}
				wide[i] = float64(x[i])
			}
			q := newTiles(rows, cols)
			q.Quantize(x, Rounding{})
			codes, scales := requantize(wide, rows, cols)
			checkPadding(t, q)
			back := make([]float32, len(x))
			q.Dequantize(back, false)
			q.Dequantize(back, true)
			sums := make([]float32, cols)
			q.SumRows(sums, true)
			q.SumRows(sums, false)
			want := make([]float64, cols)
			for i := range x {
				scale := scales[i/cols/32*((cols+31)/32)+i%cols/32]
				if v := 2 * float32(float32(codes[i])*scale); back[i] != v {
					t.Fatalf("%v: element %d is twice %v, want %v", s, i, back[i], v)
				}
				want[i%cols] += float64(back[i])
			}
			for i := range sums {
				if math.Abs(float64(sums[i])-want[i]) > 1e-4*float64(rows) {
					t.Errorf("%v: column %d sums to %v, want %v", s, i, sums[i], want[i])
				}
			}
		}
	})
}

// TestTilesOfExtremes: zeros and all but zeros have no scale, and what is not
// finite makes its tile NaN.
func TestTilesOfExtremes(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		x := make([]float32, 32*128)
		x[1] = 0x1p-120
		x[32] = float32(math.Inf(1))
		x[64+5] = float32(math.NaN())
		x[96] = math.MaxFloat32
		q := newTiles(32, 128)
		for _, how := range []Rounding{{}, {Stochastic: true, Draws: rng.New(1, 2)}} {
			q.Quantize(x, how)
			if q.At(0, 1) != 0 || q.At(3, 33) == q.At(3, 33) || q.At(3, 70) == q.At(3, 70) || q.At(0, 96) < 0.999*math.MaxFloat32 || q.At(1, 96) != 0 {
				t.Errorf("%+v: %v", how, q.Scales)
			}
		}
	})
}

// TestTilesAreTheSameForAnyWidth: stochastic rounding, too, draws by place.
func TestTilesAreTheSameForAnyWidth(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	eachLevel(t, func(t *testing.T) {
		r := stream(4)
		x, y := newTiles(130, 600), newTiles(700, 600)
		x.Quantize(random(r, 130*600), Rounding{})
		y.Quantize(random(r, 700*600), Rounding{})
		var first []int8
		for width := 1; width <= 3; width++ {
			runtime.GOMAXPROCS(width)
			out := newTiles(130, 700)
			MulTiles(TileArgs{A: x, B: y, TransB: true, Out: out, Rounding: Rounding{Stochastic: true, Draws: rng.New(3, 3)}})
			if first == nil {
				first = out.Codes
			} else if !slices.Equal(first, out.Codes) {
				t.Errorf("width %d differs", width)
			}
		}
	})
}

// TestStochasticProductIsUnbiased: the mean of rounded products over draws
// comes to the product.
func TestStochasticProductIsUnbiased(t *testing.T) {
	r := stream(5)
	const m, n, k, draws = 32, 64, 96, 1000
	a, b := newTiles(m, k), newTiles(n, k)
	a.Quantize(random(r, m*k), Rounding{})
	b.Quantize(random(r, n*k), Rounding{})
	exact := make([]float32, m*n)
	MulTiles(TileArgs{A: a, B: b, TransB: true, Wide: exact})
	mean, back := make([]float64, m*n), make([]float32, m*n)
	out := newTiles(m, n)
	for i := range draws {
		how := Rounding{Stochastic: true, Draws: rng.New(9, uint64(i))}
		MulTiles(TileArgs{A: a, B: b, TransB: true, Out: out, Rounding: how})
		out.Dequantize(back, false)
		for j, v := range back {
			mean[j] += float64(v) / draws
		}
	}
	for i, v := range exact {
		scale := float64(out.Scales[i%n/32])
		if math.Abs(mean[i]-float64(v)) > 5*scale*0.5/math.Sqrt(draws) {
			t.Errorf("element %d: %v on average, the product is %v (a step is %v)", i, mean[i], v, scale)
		}
	}
}

// TestTilesDrawApart: tiles of the same values are rounded independently.
func TestTilesDrawApart(t *testing.T) {
	row := random(stream(7), 32)
	var x []float32
	for range 32 {
		x = append(append(x, row...), row...)
	}
	q := newTiles(32, 64)
	q.Quantize(x, Rounding{Stochastic: true, Draws: rng.New(1, 2)})
	differ := 0
	for i := range 1024 {
		if q.Codes[i] != q.Codes[1024+i] {
			differ++
		}
	}
	// Two roundings of a fraction f differ with probability 2f(1-f), 1/3 on average.
	if differ < 250 || differ > 430 {
		t.Errorf("%d of 1024 codes differ", differ)
	}
}

func TestTilesAllocateNothing(t *testing.T) {
	r := stream(6)
	x, y, out := integerTiles(r, 200, 100), integerTiles(r, 90, 100), newTiles(200, 90)
	wide, bias := make([]float32, 100*90), make([]float32, 90)
	if n := testing.AllocsPerRun(20, func() {
		MulTiles(TileArgs{A: x, B: y, TransB: true, Out: out, Bias: bias})
		MulTiles(TileArgs{A: out, TransA: true, B: x, Wide: wide, Beta: 1})
		out.SumRows(bias, false)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTilesOfWrongShapePanic(t *testing.T) {
	for name, f := range map[string]func(){
		"depth":  func() { MulTiles(TileArgs{A: newTiles(3, 4), B: newTiles(3, 4), Out: newTiles(3, 4)}) },
		"out":    func() { MulTiles(TileArgs{A: newTiles(3, 4), B: newTiles(4, 4), Out: newTiles(4, 4)}) },
		"buffer": func() { TilesOf(33, 1, make([]float32, 257)) },
		"floats": func() { newTiles(3, 4).Quantize(make([]float32, 11), Rounding{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// BenchmarkTiles is the three products of a Linear layer [512, 2048] on 4096
// rows, to be read beside BenchmarkLinear.
func BenchmarkTiles(b *testing.B) {
	const rows, in, out = 4096, 512, 2048
	r := stream(1)
	x, w, y := integerTiles(r, rows, in), integerTiles(r, out, in), integerTiles(r, rows, out)
	dx, dw := newTiles(rows, in), make([]float32, out*in)
	how := Rounding{Stochastic: true, Draws: rng.New(1, 1)}
	for _, c := range []struct {
		name string
		a    TileArgs
	}{
		{"y", TileArgs{A: x, B: w, TransB: true, Out: y}},
		{"dx", TileArgs{A: y, B: w, Out: dx, Rounding: how}},
		{"dw", TileArgs{A: y, TransA: true, B: x, Wide: dw, Beta: 1}},
	} {
		b.Run(fmt.Sprintf("%s/%dx%dx%d", c.name, rows, in, out), func(b *testing.B) {
			report(b, rows, out, in, peaks().int8, func() { MulTiles(c.a) })
		})
	}
}
