package simd

import (
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"hasten/engine/rng"
)

var (
	inf32 = float32(math.Inf(1))
	nan32 = float32(math.NaN())
)

// ulps is the distance of got from want in units of the last place of want.
func ulps(got float32, want float64) float64 {
	w := float32(want)
	if got == w || got != got && want != want {
		return 0
	}
	step := float64(math.Nextafter32(float32(math.Abs(float64(w))), inf32)) - math.Abs(float64(w))
	return math.Abs(float64(got)-want) / step
}

// sweep calls f on blocks of floats that step evenly through all bit patterns
// from low to high, of both signs.
func sweep(low, high float32, f func(x []float32)) {
	x := make([]float32, 0, 64)
	for b := math.Float32bits(low); b <= math.Float32bits(high); b += 3001 {
		v := math.Float32frombits(b)
		if x = append(x, v, -v); len(x) == cap(x) {
			f(x)
			x = x[:0]
		}
	}
	f(x)
}

func TestAccuracy(t *testing.T) {
	for _, c := range []struct {
		name      string
		f         func(dst, x []float32)
		want      func(float64) float64
		low, high float32
		most      float64 // units in the last place
	}{
		{"Exp", Exp, math.Exp, 0, 104, 1.2},
		{"Tanh", Tanh, math.Tanh, 0, 100, 2.5},
		{"Sigmoid", Sigmoid, refSigmoid, 0, 86, 2.5},
		{"Log", func(dst, x []float32) {
			for i, v := range x {
				dst[i] = float32(math.Abs(float64(v)))
			}
			Log(dst, dst)
		}, func(x float64) float64 { return math.Log(math.Abs(x)) }, math.SmallestNonzeroFloat32, math.MaxFloat32, 1.5},
	} {
		eachLevel(t, func(t *testing.T) {
			worst, at := 0.0, float32(0)
			sweep(c.low, c.high, func(x []float32) {
				y := make([]float32, len(x))
				c.f(y, x)
				for i, v := range x {
					if d := ulps(y[i], c.want(float64(v))); !(d <= worst) {
						worst, at = d, v
					}
				}
			})
			t.Logf("%s: %.2f ulp at %g", c.name, worst, at)
			if !(worst <= c.most) {
				t.Errorf("%s: %v ulp at %v", c.name, worst, at)
			}
		})
	}
}

// The documented error of GELUErf's distribution function.
func TestGELUErfAccuracy(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		worst := 0.0
		sweep(1e-30, 100, func(x []float32) {
			y := make([]float32, len(x))
			GELUErf(y, x)
			for i, v := range x {
				worst = max(worst, math.Abs(float64(y[i])/float64(v)-refPhi(float64(v))))
			}
		})
		t.Logf("%.2g", worst)
		if !(worst <= 2e-7) {
			t.Errorf("Φ is off by %g", worst)
		}
	})
}

func TestSpecialValues(t *testing.T) {
	smallest := float32(math.SmallestNonzeroFloat32)
	for _, c := range []struct {
		name    string
		f       func(dst, x []float32)
		x, want []float32
	}{
		{"Exp", Exp, []float32{0, float32(math.Copysign(0, -1)), inf32, -inf32, nan32, 88.73, 1000, -104, -1000, smallest, math.MaxFloat32, -math.MaxFloat32},
			[]float32{1, 1, inf32, 0, nan32, inf32, inf32, 0, 0, 1, inf32, 0}},
		{"Tanh", Tanh, []float32{0, inf32, -inf32, nan32, 1000, -1000, smallest, -smallest, 1e-20}, []float32{0, 1, -1, nan32, 1, -1, smallest, -smallest, 1e-20}},
		{"Sigmoid", Sigmoid, []float32{0, inf32, nan32, 1000, smallest}, []float32{0.5, 1, nan32, 1, 0.5}},
		{"Log", Log, []float32{1, 0, -1, inf32, -inf32, nan32, float32(math.Copysign(0, -1))}, []float32{0, -inf32, nan32, inf32, nan32, nan32, -inf32}},
		{"ReLU", ReLU, []float32{0, inf32, -inf32, nan32, -1}, []float32{0, inf32, 0, nan32, 0}},
		{"GELUErf", GELUErf, []float32{0, nan32, 1000, inf32}, []float32{0, nan32, 1000, inf32}},
		{"GELUTanh", GELUTanh, []float32{0, nan32, 1000, inf32}, []float32{0, nan32, 1000, inf32}},
		{"SiLU", SiLU, []float32{0, nan32, 1000, inf32}, []float32{0, nan32, 1000, inf32}},
	} {
		eachLevel(t, func(t *testing.T) {
			y := make([]float32, len(c.x))
			c.f(y, c.x)
			for i, want := range c.want {
				if y[i] != want && !(want != want && y[i] != y[i]) {
					t.Errorf("%s(%v) = %v, want %v", c.name, c.x[i], y[i], want)
				}
			}
		})
	}
}

// nearest16 finds the code, of those below the one of infinity, whose value is
// nearest to x ≥ 0, ties to even; value is increasing.
func nearest16(value func(code uint16) float64, infinity uint16, x float64) uint16 {
	low, high := uint16(0), infinity // value(low) ≤ x
	for high-low > 1 {
		if mid := (low + high) / 2; value(mid) <= x {
			low = mid
		} else {
			high = mid
		}
	}
	top := value(high)
	if high == infinity { // it rounds as the next number would
		top = 2*value(infinity-1) - value(infinity-2)
	}
	switch down, up := x-value(low), top-x; {
	case up < down, up == down && low%2 == 1:
		return high
	}
	return low
}

func bf16Value(code uint16) float64 {
	return float64(math.Float32frombits(uint32(code) << 16))
}

func f16Value(code uint16) float64 {
	e, m := int(code>>10), float64(code&0x3ff)
	if e == 0 {
		return math.Ldexp(m, -24)
	}
	return math.Ldexp(1024+m, e-25)
}

func TestHalfPrecision(t *testing.T) {
	for _, c := range []struct {
		name     string
		to       func([]uint16, []float32)
		from     func([]float32, []uint16)
		value    func(uint16) float64
		infinity uint16
		quiet    uint16
	}{
		{"bf16", ToBF16, FromBF16, bf16Value, 0x7f80, 0x40},
		{"f16", ToF16, FromF16, f16Value, 0x7c00, 0x200},
	} {
		eachLevel(t, func(t *testing.T) {
			// All codes, there and back. The odd length makes a tail.
			codes := make([]uint16, 1<<16+5)
			for i := range codes {
				codes[i] = uint16(i)
			}
			wide, back := make([]float32, len(codes)), make([]uint16, len(codes))
			c.from(wide, codes)
			c.to(back, wide)
			for i, code := range codes {
				magnitude := code &^ 0x8000
				want := c.value(magnitude)
				switch {
				case magnitude == c.infinity:
					want = math.Inf(1)
				case magnitude > c.infinity:
					want = math.NaN()
					code |= c.quiet
				}
				if got := math.Copysign(float64(wide[i]), 1); got != want && !(got != got && want != want) {
					t.Fatalf("%s %#x widens to %v, want %v", c.name, code, got, want)
				}
				if math.Signbit(float64(wide[i])) != (code >= 0x8000) {
					t.Fatalf("%s %#x: sign", c.name, code)
				}
				if back[i] != code {
					t.Fatalf("%s %#x goes through %v to %#x", c.name, code, wide[i], back[i])
				}
			}
			// Numbers between codes: every exponent, random fractions, and ties.
			s := rng.New(5, 0)
			x := make([]float32, 0, 1<<15)
			for range cap(x) / 4 {
				v := math.Float32frombits(s.Uint32() & 0x7fffffff)
				if v > math.MaxFloat32 || v != v {
					continue
				}
				code := uint16(s.IntN(int(c.infinity) - 1))
				tie := float32((c.value(code) + c.value(code+1)) / 2)
				x = append(x, v, tie, math.Nextafter32(tie, 0), math.Nextafter32(tie, inf32))
			}
			x = append(x, math.MaxFloat32, 65504, 65519.996, 65520, 65536, 0, math.SmallestNonzeroFloat32)
			got := make([]uint16, len(x))
			c.to(got, x)
			for i, v := range x {
				if want := nearest16(c.value, c.infinity, float64(v)); got[i] != want {
					t.Fatalf("%s of %v (%#x): %#x, want %#x", c.name, v, math.Float32bits(v), got[i], want)
				}
			}
			for i := range x {
				x[i] = -x[i]
			}
			negative := make([]uint16, len(x))
			c.to(negative, x)
			for i := range x {
				if negative[i] != got[i]|0x8000 {
					t.Fatalf("%s of %v: %#x, want %#x", c.name, x[i], negative[i], got[i]|0x8000)
				}
			}
		})
	}
}

func TestRoundBF16(t *testing.T) {
	forSizes(t, func(t *testing.T, s *rng.Stream, n, shift int) {
		x := newGuarded(n, shift)
		for i := range x.x {
			x.x[i] = math.Float32frombits(s.Uint32()) // NaNs and infinities too
		}
		codes, want, got := make([]uint16, n), make([]float32, n), newGuarded(n, shift)
		ToBF16(codes, x.x)
		FromBF16(want, codes)
		RoundBF16(got.x, x.x)
		for i := range want {
			if math.Float32bits(got.x[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%x rounds to %x, want %x", math.Float32bits(x.x[i]), math.Float32bits(got.x[i]), math.Float32bits(want[i]))
			}
		}
		got.check(t, "RoundBF16")
	})
}

// Nothing is written past the end of 8- and 16-bit outputs.
func TestConversionBounds(t *testing.T) {
	forSizes(t, func(t *testing.T, s *rng.Stream, n, shift int) {
		x := draw(s, n, shift, -1, 1).x
		half := make([]uint16, n+48)
		bytes := make([]int8, n+48)
		ToBF16(half[16:16+n], x)
		ToF16(half[16:16+n], x)
		QuantizeS8(bytes[16:16+n], x, 0.01)
		for i := range half {
			if (i < 16 || i >= 16+n) && (half[i] != 0 || bytes[i] != 0) {
				t.Fatalf("n %d: wrote at %d", n, i-16)
			}
		}
		for _, from := range []func(dst []float32){
			func(dst []float32) { FromBF16(dst, half[16:]) },
			func(dst []float32) { FromF16(dst, half[16:]) },
			func(dst []float32) { DequantizeS8(dst, bytes[16:], 0.01) },
		} {
			g := newGuarded(n, shift)
			from(g.x)
			g.check(t, "conversion to float32")
		}
	})
}

func TestQuantizeS8(t *testing.T) {
	forSizes(t, func(t *testing.T, s *rng.Stream, n, shift int) {
		const scale = 0.5
		x := draw(s, n, shift, -80, 80).x
		special := []float32{0.25, 0.75, -0.25, -0.75, 63.25, 63.75, 64, -64, -64.25, -65, inf32, -inf32, nan32}
		copy(x, special)
		q, back := make([]int8, n), make([]float32, n)
		QuantizeS8(q, x, scale)
		DequantizeS8(back, q, scale)
		for i, v := range x {
			want := max(-128, min(127, math.RoundToEven(float64(v)/scale)))
			if v != v {
				want = -128
			}
			if float64(q[i]) != want {
				t.Fatalf("%v becomes %d, want %v", v, q[i], want)
			}
			if float64(back[i]) != want*scale {
				t.Fatalf("%d widens to %v", q[i], back[i])
			}
		}
	})
}

func TestShortSlicesPanic(t *testing.T) {
	x, y := make([]float32, 20), make([]float32, 19)
	y = append(y, 0)[:19] // the room behind a slice does not count
	for name, f := range map[string]func(){
		"Add": func() { Add(x, x, y) }, "Dot": func() { Dot(x, y) }, "Exp": func() { Exp(x, y) },
		"ToBF16": func() { ToBF16(make([]uint16, 20), y) }, "RoPE": func() { RoPE(x, y[:10], y[:9], 1) },
		"AdamWStep": func() { AdamWStep(x, x, x, y, AdamWCoef{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of a short slice did not panic", name)
				}
			}()
			f()
		}()
	}
}

func TestVectorKernelsDoNotAllocate(t *testing.T) {
	x, w := make([]float32, 100), make([]float32, 100)
	eachLevel(t, func(t *testing.T) {
		if n := testing.AllocsPerRun(10, func() {
			SoftmaxRow(x, x)
			RMSNormRow(x, x, w, 1e-5)
			SumSq(x)
			AdamWStep(x, x, x, w, AdamWCoef{})
			Copy(x, w)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// A processor with AVX2 alone must not meet an instruction or a register of
// AVX-512 in the AVX2 kernels; this machine might not notice.
func TestAVX2KernelsUseNoAVX512(t *testing.T) {
	text, err := os.ReadFile("vector_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	kernels := 0
	for _, f := range strings.Split(string(text), "\n// func ")[1:] {
		if name, _, _ := strings.Cut(f, "("); strings.HasSuffix(name, "AVX2") {
			kernels++
			if m := regexp.MustCompile(`AVX512|\b[XY](1[6-9]|[23]\d)\b|\b[ZK]\d`).FindString(f); m != "" {
				t.Errorf("%s uses %s", name, m)
			}
		}
	}
	if kernels == 0 {
		t.Error("found no kernel")
	}
}
