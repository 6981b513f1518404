package sample

import (
	"fmt"
	"math/bits"

	"hasten/engine/rng"
)

// Order says where window k begins, for k = 0, 1, …: a pure function of k and
// the order's fields. There are places 0 … places-1 a window may begin at, and
// windows of length T do not overlap if they begin T apart.
type Order interface {
	// Start returns the place of window k, for windows of the given length.
	Start(k, places int64, length int) int64
	fmt.Stringer
}

// orderStream keeps the orders' random numbers apart from other uses of a seed.
const orderStream = 0x5eed0bde

// Random begins every window at a place drawn evenly, and independently of the
// others: the usual choice for pretraining.
type Random struct{ Seed uint64 }

// Start draws the place of window k.
func (r Random) Start(k, places int64, _ int) int64 {
	s := rng.New(r.Seed, orderStream).Split(uint64(k))
	return int64(s.IntN(int(places)))
}

func (r Random) String() string { return fmt.Sprintf("random seed %d", r.Seed) }

// Sequential takes the non-overlapping windows in file order, and begins again
// after the last.
type Sequential struct{}

// Start returns the place of window k.
func (Sequential) Start(k, places int64, length int) int64 {
	return k % windows(places, length) * int64(length)
}

func (Sequential) String() string { return "sequential" }

// Shuffled takes every non-overlapping window once in each epoch, in an order
// that differs from epoch to epoch.
type Shuffled struct{ Seed uint64 }

// Start returns the place of window k.
func (s Shuffled) Start(k, places int64, length int) int64 {
	n := windows(places, length)
	return permute(rng.New(s.Seed, orderStream).Split(uint64(k/n)), k%n, n) * int64(length)
}

func (s Shuffled) String() string { return fmt.Sprintf("shuffled seed %d", s.Seed) }

// Spread takes N of the non-overlapping windows, evenly spread over the
// stream, in file order; all of them if N is 0 or more than there are. It is
// for validation.
type Spread struct{ N int64 }

// Start returns the place of window k.
func (s Spread) Start(k, places int64, length int) int64 {
	n := windows(places, length)
	m := s.count(n)
	// k·n/m without overflow
	hi, lo := bits.Mul64(uint64(k%m), uint64(n))
	q, _ := bits.Div64(hi, lo, uint64(m))
	return int64(q) * int64(length)
}

func (s Spread) count(n int64) int64 {
	if s.N <= 0 {
		return n
	}
	return min(s.N, n)
}

func (s Spread) String() string { return fmt.Sprintf("spread %d", s.N) }

// windows is the number of non-overlapping windows: the last begins at a place.
func windows(places int64, length int) int64 { return (places-1)/int64(length) + 1 }

// permute is a random permutation of 0 … n-1, chosen by the stream and applied
// to i. It keeps no table: a Feistel network permutes the numbers of an even
// number of bits, and is applied again until the result is below n.
func permute(s rng.Stream, i, n int64) int64 {
	half := max(3, (bits.Len64(uint64(n-1))+1)/2)
	mask := uint64(1)<<half - 1
	x := uint64(i)
	for {
		l, r := x>>half, x&mask
		for round := range uint64(8) {
			b := s.Block(r<<3 | round)
			l, r = r, l^(uint64(b[0])|uint64(b[1])<<32)&mask
		}
		if x = l<<half | r; x < uint64(n) {
			return int64(x)
		}
	}
}
