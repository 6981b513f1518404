package simd

import (
	"testing"

	"hasten/engine/rng"
)

// BenchmarkVector times kernels at every level on rows that stay in the
// first-level cache; B/s counts what is read and written.
func BenchmarkVector(b *testing.B) {
	const n = 1024
	s := rng.New(6, 0)
	var a [6][]float32
	for i := range a {
		a[i] = make([]float32, n)
		s.FillUniform(a[i], 0.5, 2)
	}
	x, y, z, u, v, w := a[0], a[1], a[2], a[3], a[4], a[5]
	codes, bytes := make([]uint16, n), make([]int8, n)
	for _, c := range []struct {
		name  string
		bytes int // per element
		run   func()
	}{
		{"Sum", 4, func() { Sum(x) }},
		{"Dot", 8, func() { Dot(x, y) }},
		{"SumSq", 4, func() { SumSq(x) }},
		{"Max", 4, func() { Max(x) }},
		{"Finite", 4, func() { Finite(x) }},
		{"Add", 12, func() { Add(z, x, y) }},
		{"Axpy", 12, func() { Axpy(1e-9, x, z) }},
		{"Exp", 8, func() { Exp(z, x) }},
		{"Log", 8, func() { Log(z, x) }},
		{"Tanh", 8, func() { Tanh(z, x) }},
		{"Sigmoid", 8, func() { Sigmoid(z, x) }},
		{"SoftmaxRow", 8, func() { SoftmaxRow(z, x) }},
		{"SoftmaxRowBackward", 12, func() { SoftmaxRowBackward(z, x, y) }},
		{"SiLU", 8, func() { SiLU(z, x) }},
		{"GELUTanh", 8, func() { GELUTanh(z, x) }},
		{"GELUTanhBackward", 12, func() { GELUTanhBackward(z, x, y) }},
		{"GELUErf", 8, func() { GELUErf(z, x) }},
		{"GELUErfBackward", 12, func() { GELUErfBackward(z, x, y) }},
		{"SwiGLU", 12, func() { SwiGLU(z, x, y) }},
		{"SwiGLUBackward", 20, func() { SwiGLUBackward(z, u, x, y, v) }},
		{"RMSNormRow", 12, func() { RMSNormRow(z, x, y, 1e-5) }},
		{"RMSNormRowBackward", 28, func() { clear(z); clear(u); RMSNormRowBackward(z, u, x, y, v, 1) }},
		{"LayerNormRow", 16, func() { LayerNormRow(z, x, y, v, 1e-5) }},
		{"LayerNormRowBackward", 36, func() { clear(z); clear(u); clear(w); LayerNormRowBackward(z, u, w, x, y, v, 0, 1) }},
		{"RoPERow64", 8, func() { RoPERow(w, n/64, 64, x[:32], y[:32], 0) }},
		{"ToBF16", 6, func() { ToBF16(codes, x) }},
		{"FromBF16", 6, func() { FromBF16(z, codes) }},
		{"RoundBF16", 8, func() { RoundBF16(z, x) }},
		{"ToF16", 6, func() { ToF16(codes, x) }},
		{"FromF16", 6, func() { FromF16(z, codes) }},
		{"QuantizeS8", 5, func() { QuantizeS8(bytes, x, 0.02) }},
		{"DequantizeS8", 5, func() { DequantizeS8(z, bytes, 0.02) }},
		{"AdamWStep", 28, func() { AdamWStep(z, u, v, x, adamCase) }},
		{"SGDStep", 20, func() { SGDStep(z, u, x, sgdHeavy) }},
	} {
		benchLevels(b, c.name, n, c.bytes, c.run)
	}
}

// BenchmarkVectorMemory is the same on arrays that no cache holds.
func BenchmarkVectorMemory(b *testing.B) {
	const n = 1 << 24
	var a [6][]float32
	for i := range a {
		a[i] = make([]float32, n)
		for j := range a[i] {
			a[i][j] = 1
		}
	}
	benchLevels(b, "Copy", n, 8, func() { Copy(a[0], a[1]) })
	benchLevels(b, "Triad", n, 12, func() { Triad(a[0], a[1], a[2], 0.5) })
	benchLevels(b, "SumSq", n, 4, func() { SumSq(a[1]) })
	benchLevels(b, "AdamWStep", n, 28, func() { AdamWStep(a[0], a[1], a[2], a[3], adamCase) })
	benchLevels(b, "AdanStep", n, 44, func() { AdanStep(a[0], a[1], a[2], a[3], a[4], a[5], adanCase) })
}

func benchLevels(b *testing.B, name string, n, bytes int, run func()) {
	defer Use(Current())
	for _, l := range Levels() {
		Use(l)
		b.Run(name+"/"+l.String(), func(b *testing.B) {
			b.SetBytes(int64(bytes * n))
			for b.Loop() {
				run()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/element")
		})
	}
}
