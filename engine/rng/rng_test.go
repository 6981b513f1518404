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
