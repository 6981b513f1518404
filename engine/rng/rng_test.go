package rng

import (
	"math"
	"testing"
)

// The known answers published with Random123 (kat_vectors, philox 4x32 10).
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		counter [4]uint32
		key     uint64
		want    [4]uint32
	}{
		{[4]uint32{}, 0, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff,
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822,
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := philox(c.counter, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.counter, c.key, got, c.want)
		}
	}
}

func TestStreamResumesAndSplits(t *testing.T) {
	a := New(7, 1)
	for range 13 {
		a.Uint32()
	}
	b := a // saved and restored
	for i := range 100 {
		if x, y := a.Uint32(), b.Uint32(); x != y {
			t.Fatalf("draw %d differs", i)
		}
	}
	if New(7, 1).Split(1).At(0) == New(7, 1).Split(2).At(0) || New(7, 1).At(0) == New(8, 1).At(0) {
		t.Error("streams coincide")
	}
}

func TestMoments(t *testing.T) {
	s := New(1, 0)
	const n = 200000
	var sum, sq, uni float64
	counts := make([]int, 7)
	for range n {
		v := s.Normal()
		sum += v
		sq += v * v
		uni += s.Float64()
		counts[s.IntN(7)]++
	}
	if m := sum / n; math.Abs(m) > 0.01 {
		t.Errorf("normal mean %g", m)
	}
	if v := sq / n; math.Abs(v-1) > 0.02 {
		t.Errorf("normal variance %g", v)
	}
	if m := uni / n; math.Abs(m-0.5) > 0.005 {
		t.Errorf("uniform mean %g", m)
	}
	for i, c := range counts {
		if math.Abs(float64(c)-n/7.0) > 5*math.Sqrt(n/7.0) {
			t.Errorf("IntN(7): %d came %d times of %d", i, c, n)
		}
	}
}

func TestFillNormalMomentsAndResume(t *testing.T) {
	s := New(2, 0)
	s.Uint32()
	x := make([]float32, 200001)
	s.FillNormal(x[:100], 3, 2)
	rest := s
	s.FillNormal(x[100:], 3, 2)
	again := make([]float32, 3)
	rest.FillNormal(again, 3, 2)
	for i, v := range again {
		if v != x[100+i] {
			t.Fatalf("value %d after a resume differs", i)
		}
	}
	var sum, sq, lag float64
	for i, v := range x {
		d := float64(v) - 3
		sum += d
		sq += d * d
		if i > 0 {
			lag += d * (float64(x[i-1]) - 3)
		}
	}
	n := float64(len(x))
	if math.Abs(sum/n) > 0.02 || math.Abs(sq/n-4) > 0.06 || math.Abs(lag/n) > 0.04 {
		t.Errorf("mean %g, variance %g, covariance of neighbours %g; want 0, 4, 0", sum/n, sq/n, lag/n)
	}
}

func BenchmarkFillNormal(b *testing.B) {
	x := make([]float32, 1<<16)
	s := New(1, 0)
	b.SetBytes(4 << 16)
	for b.Loop() {
		s.FillNormal(x, 0, 1)
	}
}

func TestPermutationHoldsEveryNumber(t *testing.T) {
	s := New(3, 0)
	seen := make([]bool, 100)
	for _, v := range s.Permutation(100) {
		if seen[v] {
			t.Fatalf("%d twice", v)
		}
		seen[v] = true
	}
}
