package tensor

import (
	"fmt"
	"math"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/rng"
)

// numbers lists what the 256 codes of an FP8 format stand for, from the text of
// the OCP 8-bit floating point specification: exponent 0 is subnormal; E4M3
// uses all of the top exponent but its last code, E5M2 does as IEEE does.
func numbers(f Format) [256]float64 {
	var t [256]float64
	for c := range t {
		e, m, fr, bias := c>>3&15, c&7, 8.0, 7
		if f == E5M2 {
			e, m, fr, bias = c>>2&31, c&3, 4.0, 15
		}
		v := (1 + float64(m)/fr) * math.Pow(2, float64(e-bias))
		if e == 0 {
			v = float64(m) / fr * math.Pow(2, float64(1-bias))
		}
		switch {
		case f == E4M3 && c&0x7f == 0x7f, f == E5M2 && e == 31 && m > 0:
			v = math.NaN()
		case f == E5M2 && e == 31:
			v = math.Inf(1)
		}
		if c >= 128 {
			v = -v
		}
		t[c] = v
	}
	return t
}

func pack(f Format, block int, x ...float32) *Packed {
	p := NewPacked(new(memory.Arena), memory.Data, f, Of(len(x)), block)
	p.Pack(x)
	return p
}

func unpack(p *Packed) []float32 {
	x := make([]float32, p.Shape.Len())
	p.Unpack(x)
	return x
}

func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestEveryFP8CodeDecodesAndReturns(t *testing.T) {
	for f, format := range map[Format]float8{E4M3: e4m3, E5M2: e5m2} {
		p := NewPacked(new(memory.Arena), memory.Data, f, Of(256), 0)
		p.Scales[0] = 1
		for c := range p.Codes {
			p.Codes[c] = byte(c)
		}
		for c, v := range unpack(p) {
			want := float32(numbers(f)[c])
			if !same(v, want) {
				t.Errorf("%v: code %#02x is %v, want %v", f, c, v, want)
			}
			if got := format.code(v); got != byte(c) && v == v {
				t.Errorf("%v: %v has code %#02x, want %#02x", f, v, got, c)
			}
		}
	}
}

// Between every two neighbours: just below the middle, the middle (to the even
// code), just above it.
func TestFP8RoundsToNearestEven(t *testing.T) {
	for f, format := range map[Format]float8{E4M3: e4m3, E5M2: e5m2} {
		values := numbers(f)
		for c := byte(0); c < format.top; c++ {
			middle := float32((values[c] + values[c+1]) / 2)
			for v, want := range map[float32]byte{
				float32(values[c]):          c,
				math.Nextafter32(middle, 0): c,
				middle:                      c + c&1,
				math.Nextafter32(middle, math.MaxFloat32): c + 1,
			} {
				if got := format.code(v); got != want {
					t.Errorf("%v: %v has code %#02x, want %#02x", f, v, got, want)
				}
				if got := format.code(-v); got != want|0x80 {
					t.Errorf("%v: %v has code %#02x, want %#02x", f, -v, got, want|0x80)
				}
			}
		}
		inf := float32(math.Inf(1))
		for v, want := range map[float32]byte{
			math.MaxFloat32: format.top, -math.MaxFloat32: format.top | 0x80,
			inf: format.infinity, -inf: format.infinity | 0x80,
		} {
			if got := format.code(v); got != want {
				t.Errorf("%v: %v has code %#02x, want %#02x", f, v, got, want)
			}
		}
	}
}

func TestEveryBF16CodeReturns(t *testing.T) {
	p := NewPacked(new(memory.Arena), memory.Data, BF16, Of(1<<16), 0)
	for c := range 1 << 16 {
		p.Codes[2*c], p.Codes[2*c+1] = byte(c), byte(c>>8)
	}
	x := unpack(p)
	for c, v := range x {
		if want := math.Float32frombits(uint32(c) << 16); !same(v, want) {
			t.Fatalf("code %#04x is %v, want %v", c, v, want)
		}
	}
	for c, v := range unpack(pack(BF16, 0, x...)) {
		if !same(v, x[c]) {
			t.Fatalf("%v came back as %v", x[c], v)
		}
	}
}

func TestEveryIntegerCodeReturns(t *testing.T) {
	for f, top := range map[Format]int{Int8: 127, Int4: 7} {
		const scale = 0.3
		var x []float32
		for q := -top; q <= top; q++ {
			x = append(x, float32(q)*scale)
		}
		p := pack(f, 0, x...)
		for i, v := range unpack(p) {
			if math.Abs(float64(v-x[i])) > 1e-6*scale*float64(top) {
				t.Errorf("%v: %v came back as %v", f, x[i], v)
			}
		}
		// Whole numbers and halves, with a scale of exactly 1.
		x = []float32{float32(top)}
		for q := -top; q < top; q++ {
			x = append(x, float32(q), float32(q)+0.5)
		}
		for i, v := range unpack(pack(f, 0, x...)) {
			if want := float32(math.RoundToEven(float64(x[i]))); v != want {
				t.Errorf("%v: %v came back as %v, want %v", f, x[i], v, want)
			}
		}
	}
}

func TestBlocksHaveTheirOwnScales(t *testing.T) {
	s := rng.New(1, 1)
	for _, f := range []Format{E4M3, E5M2, Int8, Int4} {
		for _, block := range []int{0, 1, 4, 5, 16, 100} {
			shape := Of(3, 2, 19)
			x := make([]float32, shape.Len())
			for i := range x { // the size of values changes along rows and between them
				x[i] = float32(s.Normal() * math.Pow(2, 4*s.Normal()))
			}
			p := NewPacked(new(memory.Arena), memory.Data, f, shape, block)
			p.Pack(x)
			y := unpack(p)
			width := block
			if block == 0 {
				width = 19
			}
			for i, v := range x {
				r, c := i/19, i%19/width*width
				m := 0.0
				for _, w := range x[r*19+c : r*19+min(c+width, 19)] {
					m = max(m, math.Abs(float64(w)))
				}
				// Half a step: of the integer, or of the fraction at v.
				step := map[Format]float64{Int8: m / 127, Int4: m / 7}[f]
				if bits := map[Format]float64{E4M3: 3, E5M2: 2}[f]; bits > 0 {
					step = max(math.Abs(float64(v))*math.Pow(2, -bits), m/float64(largest[f])*map[Format]float64{E4M3: 0x1p-9, E5M2: 0x1p-16}[f])
				}
				if e := math.Abs(float64(y[i] - v)); e > 0.5001*step {
					t.Errorf("%v, blocks of %d: %v came back as %v, the step is %v", f, block, v, y[i], step)
				}
			}
		}
	}
}

func TestBytes(t *testing.T) {
	shape := Of(4, 2, 33)
	for _, c := range []struct {
		f           Format
		block, want int
	}{
		{BF16, 0, 8 * 66}, {E4M3, 0, 8*33 + 8*4}, {E5M2, 16, 8*33 + 8*3*4}, {Int8, 33, 8*33 + 8*4},
		{Int4, 0, 8*17 + 8*4}, {Int4, 32, 8*17 + 8*2*4},
	} {
		a := new(memory.Arena)
		p := NewPacked(a, memory.Optimizer, c.f, shape, c.block)
		if p.Bytes() != c.want {
			t.Errorf("%v, blocks of %d: %d bytes, want %d", c.f, c.block, p.Bytes(), c.want)
		}
		if live := a.Usage().Live[memory.Optimizer]; live < int64(c.want) || live >= int64(c.want)+128 {
			t.Errorf("%v: the arena counts %d bytes for %d", c.f, live, c.want)
		}
		if p.Free(a, memory.Optimizer); a.Usage().LiveTotal != 0 {
			t.Errorf("%v: %d bytes live after Free", c.f, a.Usage().LiveTotal)
		}
	}
}

func TestWhatIsNotFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		f        Format
		in, want []float32
	}{
		{BF16, []float32{1, nan, -inf}, []float32{1, nan, -inf}},
		{E4M3, []float32{448, nan, -inf, 2}, []float32{448, nan, nan, 2}},
		{E5M2, []float32{57344, nan, -inf, 2}, []float32{57344, nan, -inf, 2}},
		{Int8, []float32{1, nan}, []float32{nan, nan}},
		{Int8, []float32{1, -inf}, []float32{nan, nan}},
		{Int4, []float32{1, inf}, []float32{nan, nan}},
	} {
		for i, v := range unpack(pack(c.f, 0, c.in...)) {
			if !same(v, c.want[i]) {
				t.Errorf("%v: %v came back as %v, want %v", c.f, c.in[i], v, c.want[i])
			}
		}
	}
	for _, f := range []Format{E4M3, E5M2, Int8, Int4} {
		for i, v := range unpack(pack(f, 2, 0, 0, nan, 1e-44, -1e-45)) { // zeros, NaN, subnormal numbers
			if i != 2 && !(math.Abs(float64(v)) <= 2e-44) && (f == E4M3 || f == E5M2 || i < 2) {
				t.Errorf("%v: element %d is %v", f, i, v)
			}
		}
	}
}

func TestPackTakesNothingFromTheHeap(t *testing.T) {
	x := make([]float32, 40*50)
	s := rng.New(2, 2)
	s.FillNormal(x, 0, 1)
	for f := BF16; f <= Int4; f++ {
		p := NewPacked(new(memory.Arena), memory.Data, f, Of(40, 50), 16)
		run := func() { p.Pack(x); p.Unpack(x) }
		for range 10 {
			run()
		}
		if a := testing.AllocsPerRun(20, run); a > 0 {
			t.Errorf("%v: %v allocations", f, a)
		}
	}
	pack(Int4, 0) // no values: nothing to do
}

func ExamplePacked() {
	arena := new(memory.Arena)
	p := NewPacked(arena, memory.Weights, Int4, Of(1, 4), 0)
	p.Pack([]float32{0.7, -0.35, 0.12, 0})
	x := make([]float32, 4)
	p.Unpack(x)
	fmt.Println(x, p.Bytes(), "bytes")
	// Output: [0.7 -0.4 0.1 0] 6 bytes
}
