package text

import (
	"math"
	"sync"

	"hasten/engine/simd"
)

// shared is rows of weights that several threads train, of which the first,
// most used ones are copied to each thread.
type shared struct {
	mu    sync.Mutex // of the first rows
	table []float32  // [n, width]
	width int
	hot   int
}

func newShared(table []float32, width, hot int) *shared {
	return &shared{table: table, width: width, hot: hot}
}

// size is the number of rows.
func (s *shared) size() int { return len(s.table) / s.width }

// row copies the beginning of a row.
func (s *shared) row(i int, dst []float32) { copy(dst, s.table[i*s.width:][:s.width]) }

// setRow sets the beginning of a row.
func (s *shared) setRow(i int, src []float32) { copy(s.table[i*s.width:][:s.width], src) }

// logit is the product of a row with h: [width].
func (s *shared) logit(h []float32, i int) float32 {
	return simd.Dot(s.table[i*s.width:][:s.width], h)
}

// replica is one thread's view of shared rows. It works on the first rows in a
// copy, which it reconciles when it is told to; on all others in place, at the
// same time as the other threads. Such updates may be lost when they meet,
// which is what training without locks accepts; Go's race detector reports it
// where the kernels are written in Go (HASTEN_SIMD=portable).
type replica struct {
	rows   simd.Rows
	shared *shared
	base   []float32 // the first rows as they were at the last exchange
}

// replica returns a view. A thread that is alone needs no copy.
func (s *shared) replica(alone bool) *replica {
	r := &replica{rows: simd.NewRows(s.table, s.width), shared: s}
	if alone {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.hot * s.width
	r.rows.Own = append([]float32(nil), s.table[:n]...)
	r.base = append([]float32(nil), s.table[:n]...)
	return r
}

// exchange adds to the shared rows what the thread has changed of its copy
// since the last time, and takes over what the others have.
func (r *replica) exchange() {
	own := r.rows.Own
	if len(own) == 0 {
		return
	}
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	table := r.shared.table[:len(own)]
	simd.Sub(own, own, r.base)
	simd.AddTo(table, own)
	copy(own, table)
	copy(r.base, table)
}

// logSum adds up -log p with few logarithms: it multiplies as long as the
// product fits.
type logSum struct{ product, sum float64 }

func (l *logSum) add(p float32) {
	if l.product == 0 {
		l.product = 1
	}
	l.product *= max(float64(p), 1e-30)
	if l.product < 1e-250 {
		l.sum -= math.Log(l.product)
		l.product = 1
	}
}

func (l *logSum) total() float64 {
	if l.product == 0 {
		return 0
	}
	return l.sum - math.Log(l.product)
}
