package fft

import (
	"fmt"
	"math"
	"math/cmplx"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/rng"
)

// lengths has the trivial, the primes, the mixed and the powers of two.
var lengths = []int{1, 2, 3, 4, 5, 7, 8, 12, 13, 30, 31, 64, 97, 100, 210, 256}

func signal(n int, seed uint64) []float32 {
	x := make([]float32, n)
	r := rng.New(seed, 0)
	r.FillNormal(x, 0, 1)
	return x
}

// dft is the definition of the transform of one row.
func dft(x []complex128, sign float64) []complex128 {
	out := make([]complex128, len(x))
	for k := range out {
		for t, v := range x {
			out[k] += v * cmplx.Rect(1, sign*2*math.Pi*float64(k*t%len(x))/float64(len(x)))
		}
	}
	return out
}

func TestRealIsTheDefinition(t *testing.T) {
	const rows = 3
	for _, n := range lengths {
		p := RealOf(n)
		x := signal(rows*n, uint64(n))
		spec := make([]complex64, rows*p.Bins())
		p.Forward(spec, x)
		for r := range rows {
			in := make([]complex128, n)
			for i := range in {
				in[i] = complex(float64(x[r*n+i]), 0)
			}
			want := dft(in, -1)
			for k := range p.Bins() {
				if d := cmplx.Abs(complex128(spec[r*p.Bins()+k]) - want[k]); d > 1e-6*(1+cmplx.Abs(want[k])) {
					t.Fatalf("n %d row %d bin %d: %v, want %v", n, r, k, spec[r*p.Bins()+k], want[k])
				}
			}
		}
		back := make([]float32, len(x))
		p.Inverse(back, spec)
		for i := range x {
			if d := math.Abs(float64(back[i] - x[i])); d > 2e-6 {
				t.Fatalf("n %d: index %d returns as %v, was %v", n, i, back[i], x[i])
			}
		}
	}
}

func TestComplexIsTheDefinition(t *testing.T) {
	const rows = 2
	for _, n := range lengths {
		p := ComplexOf(n)
		parts := signal(2*rows*n, uint64(n))
		x := make([]complex64, rows*n)
		for i := range x {
			x[i] = complex(parts[2*i], parts[2*i+1])
		}
		spec := make([]complex64, len(x))
		p.Forward(spec, x)
		for r := range rows {
			in := make([]complex128, n)
			for i := range in {
				in[i] = complex128(x[r*n+i])
			}
			want := dft(in, -1)
			for k := range n {
				if d := cmplx.Abs(complex128(spec[r*n+k]) - want[k]); d > 1e-6*(1+cmplx.Abs(want[k])) {
					t.Fatalf("n %d row %d bin %d: %v, want %v", n, r, k, spec[r*n+k], want[k])
				}
			}
		}
		p.Inverse(spec, spec)
		for i := range x {
			if d := cmplx.Abs(complex128(spec[i] - x[i])); d > 2e-6 {
				t.Fatalf("n %d: index %d returns as %v, was %v", n, i, spec[i], x[i])
			}
		}
	}
}

func TestFastLen(t *testing.T) {
	for _, c := range [][2]int{{0, 1}, {1, 1}, {7, 8}, {11, 12}, {31, 32}, {121, 125}, {1023, 1024}, {2049, 2160}} {
		if got := FastLen(c[0]); got != c[1] {
			t.Errorf("FastLen(%d) = %d, want %d", c[0], got, c[1])
		}
	}
}

var causals = []Causal{
	{Batch: 1, Length: 1, Channels: 1, Taps: 1},
	{Batch: 2, Length: 7, Channels: 3, Taps: 1},
	{Batch: 2, Length: 13, Channels: 5, Taps: 13},
	{Batch: 3, Length: 64, Channels: 9, Taps: 64},
	{Batch: 1, Length: 31, Channels: 2, Taps: 50}, // a filter longer than the signal
	{Batch: 2, Length: 50, Channels: 1, Taps: 5},
	{Batch: 0, Length: 5, Channels: 2, Taps: 3},
}

// each calls f for every term h[c,s]·x[b,t-s,c] of y[b,t,c], by index.
func (c Causal) each(f func(y, x, h int)) {
	for b := range c.Batch {
		for t := range c.Length {
			for ch := range c.Channels {
				for s := range min(t+1, c.Taps) {
					f((b*c.Length+t)*c.Channels+ch, (b*c.Length+t-s)*c.Channels+ch, ch*c.Taps+s)
				}
			}
		}
	}
}

func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i := range want {
		if d := math.Abs(float64(got[i]) - want[i]); d > 1e-5*(1+math.Abs(want[i])) {
			t.Fatalf("%s: index %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestCausal(t *testing.T) {
	for _, c := range causals {
		n, m := c.Batch*c.Length*c.Channels, c.Channels*c.Taps
		x, h, dy, dx, dh := signal(n, 1), signal(m, 2), signal(n, 3), signal(n, 4), signal(m, 5)
		want, wantX, wantH := make([]float64, n), make([]float64, n), make([]float64, m)
		c.each(func(yi, xi, hi int) {
			want[yi] += float64(x[xi]) * float64(h[hi])
			wantX[xi] += float64(dy[yi]) * float64(h[hi])
			wantH[hi] += float64(dy[yi]) * float64(x[xi])
		})
		y := make([]float32, n)
		c.Forward(y, x, h)
		near(t, fmt.Sprintf("%+v: y", c), y, want)

		c.Backward(dx, dh, dy, x, h, false)
		near(t, fmt.Sprintf("%+v: dx", c), dx, wantX)
		near(t, fmt.Sprintf("%+v: dh", c), dh, wantH)
		c.Backward(dx, nil, dy, x, h, true)
		c.Backward(nil, dh, dy, x, h, true)
		for i := range wantX {
			wantX[i] *= 2
		}
		for i := range wantH {
			wantH[i] *= 2
		}
		near(t, fmt.Sprintf("%+v: dx added", c), dx, wantX)
		near(t, fmt.Sprintf("%+v: dh added", c), dh, wantH)
	}
}

func TestSameBitsForAnyWidth(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	c := Causal{Batch: 2, Length: 50, Channels: 11, Taps: 20}
	n, m := c.Batch*c.Length*c.Channels, c.Channels*c.Taps
	x, h, dy := signal(n, 1), signal(m, 2), signal(n, 3)
	var first []float32
	for _, width := range []int{1, 2, 3} {
		runtime.GOMAXPROCS(width)
		out := make([]float32, 2*n+m)
		c.Forward(out[:n], x, h)
		c.Backward(out[n:2*n], out[2*n:], dy, x, h, false)
		if first == nil {
			first = out
		} else if !slices.Equal(out, first) {
			t.Errorf("width %d differs from width 1", width)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	c := Causal{Batch: 2, Length: 50, Channels: 11, Taps: 20}
	n, m := c.Batch*c.Length*c.Channels, c.Channels*c.Taps
	x, h, dy, dx, dh := signal(n, 1), signal(m, 2), signal(n, 3), signal(n, 4), signal(m, 5)
	p, q := RealOf(50), ComplexOf(25)
	spec := make([]complex64, n/50*p.Bins())
	z := make([]complex64, 100)
	run := func() {
		c.Forward(dx, x, h)
		c.Backward(dx, dh, dy, x, h, true)
		RealOf(50).Forward(spec, x)
		p.Inverse(x, spec)
		q.Forward(z, z)
		q.Inverse(z, z)
	}
	for range 50 {
		run()
	}
	if a := testing.AllocsPerRun(100, run); a >= 1 {
		t.Errorf("%v allocations per call", a)
	}
}

func TestMismatchPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"length":  func() { RealOf(0) },
		"rows":    func() { RealOf(4).Forward(make([]complex64, 3), make([]float32, 5)) },
		"complex": func() { ComplexOf(4).Forward(make([]complex64, 4), make([]complex64, 8)) },
		"causal":  func() { Causal{1, 4, 2, 3}.Forward(make([]float32, 8), make([]float32, 8), make([]float32, 5)) },
		"gradient": func() {
			Causal{1, 1, 1, 1}.Backward(make([]float32, 2), nil, []float32{1}, []float32{1}, []float32{1}, false)
		},
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

func ExampleReal() {
	p := RealOf(4)
	spectrum := make([]complex64, p.Bins())
	p.Forward(spectrum, []float32{1, 0, -1, 0}) // one period of a cosine
	fmt.Println(spectrum)
	// Output: [(0+0i) (2+0i) (0+0i)]
}

func ExampleCausal() {
	c := Causal{Batch: 1, Length: 5, Channels: 1, Taps: 3}
	y := make([]float32, 5)
	c.Forward(y, []float32{1, 2, 3, 4, 5}, []float32{1, 0, -1}) // y[t] = x[t] - x[t-2]
	for _, v := range y {
		fmt.Printf("%.3f ", v)
	}
	// Output: 1.000 2.000 2.000 2.000 2.000
}

func BenchmarkCausal(b *testing.B) {
	c := Causal{Batch: 4, Length: 1024, Channels: 128, Taps: 1024}
	n, m := c.Batch*c.Length*c.Channels, c.Channels*c.Taps
	x, h, y, dh := signal(n, 1), signal(m, 2), make([]float32, n), make([]float32, m)
	b.Run("forward", func(b *testing.B) {
		for b.Loop() {
			c.Forward(y, x, h)
		}
	})
	b.Run("backward", func(b *testing.B) {
		for b.Loop() {
			c.Backward(y, dh, x, x, h, false)
		}
	})
}
