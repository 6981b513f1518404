package fft

import (
	"fmt"

	"hasten/engine/par"
)

// Causal is a convolution of signals with one long filter for each channel, as
// state-space and long-convolution models use:
//
//	y[b, t, c] = Σ_{s ≤ t} h[c, s]·x[b, t-s, c]      s = 0 … Taps-1
//
// Its cost is O(n log n) in the length. Channels are worked on in parallel.
// For filters of a few taps package conv is faster.
type Causal struct {
	Batch, Length, Channels int // x and y: [Batch, Length, Channels]
	Taps                    int // h: [Channels, Taps]
}

type causalArgs struct {
	Causal
	p          *Real
	x, h, y    []float32
	dx, dh, dy []float32
	add        bool
}

var causalForward, causalBackward par.Loop[causalArgs]

// channelGrain is the number of neighbouring channels of one piece: their
// values share cache lines.
const channelGrain = 4

// Forward computes y from x and h.
func (c Causal) Forward(y, x, h []float32) {
	c.check("Forward", len(x), len(y), len(h))
	if len(y) == 0 {
		return
	}
	a := causalArgs{Causal: c, p: c.plan(), x: x, h: h, y: y}
	causalForward.Run(par.Pieces(c.Channels, channelGrain), a, func(a *causalArgs, i int) {
		s := a.p.take()
		lo, hi := par.Bounds(i, channelGrain, a.Channels)
		for ch := lo; ch < hi; ch++ {
			a.forward(s, ch)
		}
		a.p.give(s)
	})
}

// Backward computes the gradients of x and h from that of y. A nil dx or dh is
// not computed. When add is set they are added to what dx and dh hold.
func (c Causal) Backward(dx, dh, dy, x, h []float32, add bool) {
	c.check("Backward", len(x), len(dy), len(h))
	if dx != nil && len(dx) != len(x) || dh != nil && len(dh) != len(h) {
		panic(fmt.Sprintf("fft: Backward: %d and %d gradients for %d inputs and %d filter values", len(dx), len(dh), len(x), len(h)))
	}
	a := causalArgs{Causal: c, p: c.plan(), x: x, h: h, dx: dx, dh: dh, dy: dy, add: add}
	causalBackward.Run(par.Pieces(c.Channels, channelGrain), a, func(a *causalArgs, i int) {
		s, t := a.p.take(), a.p.take()
		lo, hi := par.Bounds(i, channelGrain, a.Channels)
		for ch := lo; ch < hi; ch++ {
			a.backward(s, t, ch)
		}
		a.p.give(t)
		a.p.give(s)
	})
}

// plan is long enough that the circular convolution wraps only zeros around.
func (c Causal) plan() *Real { return RealOf(FastLen(c.Length + c.Taps - 1)) }

func (c Causal) check(name string, x, y, h int) {
	if c.Batch < 0 || c.Length < 0 || c.Channels < 0 || c.Taps < 1 {
		panic(fmt.Sprintf("fft: %s: impossible convolution %+v", name, c))
	}
	if n := c.Batch * c.Length * c.Channels; x != n || y != n || h != c.Channels*c.Taps {
		panic(fmt.Sprintf("fft: %s of %+v: %d inputs, %d outputs, %d filter values", name, c, x, y, h))
	}
}

// forward convolves channel ch of the whole batch.
func (a *causalArgs) forward(s *realScratch, ch int) {
	load(s, a.h[ch*a.Taps:], a.Taps, 1)
	s.fft.Coefficients(s.product, s.seq) // H
	for b := range a.Batch {
		load(s, a.signal(a.x, b, ch), a.Length, a.Channels)
		s.fft.Coefficients(s.coef, s.seq)
		for i, h := range s.product {
			s.coef[i] *= h
		}
		s.fft.Sequence(s.seq, s.coef)
		narrow(a.signal(a.y, b, ch), s.seq, a.Channels, 1/float64(a.p.n), false)
	}
}

// backward correlates, the transpose of convolving: dx with the filter, and dh
// with the inputs of the whole batch. t.product gathers dh's spectrum.
func (a *causalArgs) backward(s, t *realScratch, ch int) {
	load(s, a.h[ch*a.Taps:], a.Taps, 1)
	s.fft.Coefficients(s.product, s.seq) // H
	clear(t.product)
	for b := range a.Batch {
		load(s, a.signal(a.dy, b, ch), a.Length, a.Channels)
		s.fft.Coefficients(s.coef, s.seq) // DY
		if a.dh != nil {
			load(t, a.signal(a.x, b, ch), a.Length, a.Channels)
			t.fft.Coefficients(t.coef, t.seq)
			for i, x := range t.coef {
				t.product[i] += conj(x) * s.coef[i]
			}
		}
		if a.dx != nil {
			for i, h := range s.product {
				s.coef[i] *= conj(h)
			}
			s.fft.Sequence(s.seq, s.coef)
			narrow(a.signal(a.dx, b, ch), s.seq, a.Channels, 1/float64(a.p.n), a.add)
		}
	}
	if a.dh != nil {
		t.fft.Sequence(t.seq, t.product)
		narrow(a.dh[ch*a.Taps:][:a.Taps], t.seq, 1, 1/float64(a.p.n), a.add)
	}
}

// signal is channel ch of image b of v: every Channels-th value of the result.
func (a *causalArgs) signal(v []float32, b, ch int) []float32 {
	return v[b*a.Length*a.Channels:][:a.Length*a.Channels][ch:]
}

// load puts n values of src into s.seq, followed by zeros.
func load(s *realScratch, src []float32, n, stride int) {
	widen(s.seq[:n], src, stride)
	clear(s.seq[n:])
}

func conj(c complex128) complex128 { return complex(real(c), -imag(c)) }
