// Package rng is a counter-based random generator, Philox-4x32-10.
//
// A value is a pure function of (seed, stream, position), so any worker can
// draw the numbers of its own part, in any order, and a resumed run draws what
// the unbroken run would have drawn. Source: Salmon, Moraes, Dror, Shaw,
// "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
package rng

import (
	"math"
	"math/bits"
)

// Stream is one sequence of random numbers. It is a value: copies go on
// independently from the same position. Save and restore it by its fields.
type Stream struct {
	Seed   uint64 `json:"seed"`   // the run's seed
	ID     uint64 `json:"id"`     // which stream of that seed
	Offset uint64 `json:"offset"` // numbers drawn so far
}

// New returns stream id of a seed.
func New(seed, id uint64) Stream { return Stream{Seed: seed, ID: id} }

// Split returns the stream with the given key below s: same seed, an ID that
// depends on s.ID and key only.
func (s Stream) Split(key uint64) Stream {
	b := philox([4]uint32{uint32(s.ID), uint32(s.ID >> 32), uint32(key), uint32(key >> 32)}, s.Seed^0x9e3779b97f4a7c15)
	return Stream{Seed: s.Seed, ID: uint64(b[0]) | uint64(b[1])<<32}
}

// At returns the 32 random bits at position i, without moving the stream.
func (s Stream) At(i uint64) uint32 { return s.Block(i >> 2)[i&3] }

// Block returns the four values at positions 4i … 4i+3.
func (s Stream) Block(i uint64) [4]uint32 {
	return philox([4]uint32{uint32(i), uint32(i >> 32), uint32(s.ID), uint32(s.ID >> 32)}, s.Seed)
}

// Uint32 draws 32 random bits.
func (s *Stream) Uint32() uint32 {
	v := s.At(s.Offset)
	s.Offset++
	return v
}

// Uint64 draws 64 random bits; with it a *Stream is a math/rand/v2 Source.
func (s *Stream) Uint64() uint64 { return uint64(s.Uint32())<<32 | uint64(s.Uint32()) }

// IntN draws an integer in [0, n), without bias. It panics if n ≤ 0.
func (s *Stream) IntN(n int) int {
	if n <= 0 {
		panic("rng: IntN of a number below 1")
	}
	for {
		hi, lo := bits.Mul64(s.Uint64(), uint64(n))
		if lo >= -uint64(n)%uint64(n) {
			return int(hi)
		}
	}
}

// Float32 draws from [0, 1), in steps of 2⁻²⁴.
func (s *Stream) Float32() float32 { return float32(s.Uint32()>>8) * (1.0 / (1 << 24)) }

// Float64 draws from [0, 1), in steps of 2⁻⁵³.
func (s *Stream) Float64() float64 { return float64(s.Uint64()>>11) * (1.0 / (1 << 53)) }

// Normal draws from the standard normal distribution (Box and Muller).
func (s *Stream) Normal() float64 {
	u := 1 - s.Float64() // in (0, 1]
	v := s.Float64()
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
}

// FillNormal fills x with independent normal values, two to a block: it is
// several times as fast as Normal. It begins at the next whole block.
func (s *Stream) FillNormal(x []float32, mean, std float64) {
	block := (s.Offset + 3) / 4
	for i := 0; i < len(x); i += 2 {
		b := s.Block(block)
		block++
		u := 1 - float64(uint64(b[0])<<21^uint64(b[1])>>11)*(1.0/(1<<53)) // in (0, 1]
		v := float64(uint64(b[2])<<21^uint64(b[3])>>11) * (1.0 / (1 << 53))
		r := std * math.Sqrt(-2*math.Log(u))
		sin, cos := math.Sincos(2 * math.Pi * v)
		x[i] = float32(mean + r*cos)
		if i+1 < len(x) {
			x[i+1] = float32(mean + r*sin)
		}
	}
	s.Offset = 4 * block
}

// FillUniform fills x with independent values from [lo, hi).
func (s *Stream) FillUniform(x []float32, lo, hi float64) {
	for i := range x {
		x[i] = float32(lo + (hi-lo)*s.Float64())
	}
}

// Permutation returns the numbers 0 … n-1 in random order.
func (s *Stream) Permutation(n int) []int {
	p := make([]int, n)
	for i := range p {
		j := s.IntN(i + 1)
		p[i] = p[j]
		p[j] = i
	}
	return p
}

func philox(c [4]uint32, key uint64) [4]uint32 {
	k0, k1 := uint32(key), uint32(key>>32)
	for range 10 {
		h0, l0 := bits.Mul32(0xD2511F53, c[0])
		h1, l1 := bits.Mul32(0xCD9E8D57, c[2])
		c = [4]uint32{h1 ^ c[1] ^ k0, l1, h0 ^ c[3] ^ k1, l0}
		k0 += 0x9E3779B9
		k1 += 0xBB67AE85
	}
	return c
}
