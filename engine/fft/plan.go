package fft

import (
	"fmt"
	"sync"

	"gonum.org/v1/gonum/dsp/fourier"

	"hasten/engine/par"
)

// Real transforms real signals of one length. Get one from RealOf.
type Real struct {
	n    int
	mu   sync.Mutex
	free []*realScratch
}

// realScratch is what one transform at a time needs. A Gonum transform holds
// buffers of its own, so each goroutine must have one.
type realScratch struct {
	fft     *fourier.FFT
	seq     []float64    // [n]
	coef    []complex128 // [n/2+1]
	product []complex128 // [n/2+1]
}

var realPlans plans[Real]

// RealOf returns the plan for real signals of n values, n at least 1.
func RealOf(n int) *Real {
	return realPlans.of(n, func(n int) *Real { return &Real{n: n} })
}

// Len is the number of values of a signal.
func (p *Real) Len() int { return p.n }

// Bins is the number of values of a spectrum: Len()/2 + 1. The other half of
// the spectrum of a real signal is its mirrored conjugate.
func (p *Real) Bins() int { return p.n/2 + 1 }

type realArgs struct {
	p        *Real
	signal   []float32
	spectrum []complex64
}

var realForward, realInverse par.Loop[realArgs]

// Forward computes the spectrum of every row.
// signal: [rows, Len], spectrum: [rows, Bins].
func (p *Real) Forward(spectrum []complex64, signal []float32) {
	rows := p.rows("Forward", signal, spectrum)
	realForward.Run(rows, realArgs{p, signal, spectrum}, func(a *realArgs, row int) {
		p := a.p
		s := p.take()
		widen(s.seq, a.signal[row*p.n:], 1)
		s.fft.Coefficients(s.coef, s.seq)
		out := a.spectrum[row*p.Bins():][:p.Bins()]
		for i, c := range s.coef {
			out[i] = complex64(c)
		}
		p.give(s)
	})
}

// Inverse computes the signal of every row's spectrum. The imaginary part of
// the first value, and for an even length of the last, is taken as zero.
// spectrum: [rows, Bins], signal: [rows, Len].
func (p *Real) Inverse(signal []float32, spectrum []complex64) {
	rows := p.rows("Inverse", signal, spectrum)
	realInverse.Run(rows, realArgs{p, signal, spectrum}, func(a *realArgs, row int) {
		p := a.p
		s := p.take()
		for i, c := range a.spectrum[row*p.Bins():][:p.Bins()] {
			s.coef[i] = complex128(c)
		}
		s.fft.Sequence(s.seq, s.coef)
		narrow(a.signal[row*p.n:][:p.n], s.seq, 1, 1/float64(p.n), false)
		p.give(s)
	})
}

func (p *Real) rows(name string, signal []float32, spectrum []complex64) int {
	rows := len(signal) / p.n
	if len(signal) != rows*p.n || len(spectrum) != rows*p.Bins() {
		panic(fmt.Sprintf("fft: %s of length %d: %d signal values and %d spectrum values are not whole rows of %d and %d",
			name, p.n, len(signal), len(spectrum), p.n, p.Bins()))
	}
	return rows
}

func (p *Real) take() *realScratch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := len(p.free); k > 0 {
		s := p.free[k-1]
		p.free = p.free[:k-1]
		return s
	}
	return &realScratch{
		fft:     fourier.NewFFT(p.n),
		seq:     make([]float64, p.n),
		coef:    make([]complex128, p.Bins()),
		product: make([]complex128, p.Bins()),
	}
}

func (p *Real) give(s *realScratch) {
	p.mu.Lock()
	p.free = append(p.free, s)
	p.mu.Unlock()
}

// Complex transforms complex signals of one length. Get one from ComplexOf.
type Complex struct {
	n    int
	mu   sync.Mutex
	free []*complexScratch
}

type complexScratch struct {
	fft *fourier.CmplxFFT
	seq []complex128 // [n]
}

var complexPlans plans[Complex]

// ComplexOf returns the plan for complex signals of n values, n at least 1.
func ComplexOf(n int) *Complex {
	return complexPlans.of(n, func(n int) *Complex { return &Complex{n: n} })
}

// Len is the number of values of a signal, and of its spectrum.
func (p *Complex) Len() int { return p.n }

type complexArgs struct {
	p       *Complex
	dst, in []complex64
	inverse bool
}

var complexLoop par.Loop[complexArgs]

// Forward computes the spectrum of every row. Both: [rows, Len]; they may be
// the same slice.
func (p *Complex) Forward(spectrum, signal []complex64) { p.run(spectrum, signal, false) }

// Inverse computes the signal of every row's spectrum. Both: [rows, Len]; they
// may be the same slice.
func (p *Complex) Inverse(signal, spectrum []complex64) { p.run(signal, spectrum, true) }

func (p *Complex) run(dst, in []complex64, inverse bool) {
	rows := len(in) / p.n
	if len(in) != rows*p.n || len(dst) != len(in) {
		panic(fmt.Sprintf("fft: complex transform of length %d: %d values into %d", p.n, len(in), len(dst)))
	}
	complexLoop.Run(rows, complexArgs{p, dst, in, inverse}, func(a *complexArgs, row int) {
		p := a.p
		s := p.take()
		for i, c := range a.in[row*p.n:][:p.n] {
			s.seq[i] = complex128(c)
		}
		scale := complex(1, 0)
		if a.inverse {
			s.fft.Sequence(s.seq, s.seq)
			scale = complex(1/float64(p.n), 0)
		} else {
			s.fft.Coefficients(s.seq, s.seq)
		}
		out := a.dst[row*p.n:][:p.n]
		for i, c := range s.seq {
			out[i] = complex64(c * scale)
		}
		p.give(s)
	})
}

func (p *Complex) take() *complexScratch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := len(p.free); k > 0 {
		s := p.free[k-1]
		p.free = p.free[:k-1]
		return s
	}
	return &complexScratch{fourier.NewCmplxFFT(p.n), make([]complex128, p.n)}
}

func (p *Complex) give(s *complexScratch) {
	p.mu.Lock()
	p.free = append(p.free, s)
	p.mu.Unlock()
}

// plans holds one plan of type P for each length asked for.
type plans[P any] struct {
	mu  sync.Mutex
	all map[int]*P
}

func (c *plans[P]) of(n int, build func(int) *P) *P {
	if n < 1 {
		panic(fmt.Sprintf("fft: length %d", n))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.all[n]
	if p == nil {
		if c.all == nil {
			c.all = make(map[int]*P)
		}
		p = build(n)
		c.all[n] = p
	}
	return p
}

// FastLen is the smallest length of at least n whose only prime factors are
// 2, 3 and 5.
func FastLen(n int) int {
	for m := max(n, 1); ; m++ {
		rest := m
		for _, f := range [...]int{2, 3, 5} {
			for rest%f == 0 {
				rest /= f
			}
		}
		if rest == 1 {
			return m
		}
	}
}

// widen fills dst from src, taking every stride-th value.
func widen(dst []float64, src []float32, stride int) {
	for i := range dst {
		dst[i] = float64(src[i*stride])
	}
}

// narrow writes scale·src to every stride-th value of dst, or adds it there.
// dst ends with the last value written.
func narrow(dst []float32, src []float64, stride int, scale float64, add bool) {
	for i, j := 0, 0; j < len(dst); i, j = i+1, j+stride {
		v := float32(src[i] * scale)
		if add {
			v += dst[j]
		}
		dst[j] = v
	}
}
