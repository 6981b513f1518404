package attention

import (
	"fmt"
	"math"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// Grads are the arrays of the backward pass: what Forward wrote, the gradient
// of its output, and where the gradients of its inputs go.
type Grads struct {
	O   View      // [B, T, Hq, E], as Forward wrote it
	LSE []float32 // [B, Hq, T], as Forward wrote it
	DO  View      // [B, T, Hq, E]

	DQ     View // [B, T, Hq, E]
	DK, DV View // [B, S, Hkv, E]

	// Add adds to DQ, DK and DV instead of setting them.
	Add bool
}

type backwardArgs struct {
	Args
	Grads
	chunks, chunk int       // number of key ranges, and the keys in one
	partial       []float32 // [chunks-1, B, T, Hq, E]: dq from the ranges after the first
	block         int       // keys that all queries pass before the next so many; 0: those of the range
}

var (
	backwardLoop par.Loop[backwardArgs]
	partialLoop  par.Loop[backwardArgs]
)

const (
	backwardPieces = 32        // pieces worth having; with fewer heads, keys are split
	maxChunks      = 4         // each range after the first costs an array of the size of q
	minChunk       = 4 * tileK // keys worth a range of their own
)

// Backward computes the gradients of queries, keys and values. Weights are
// computed again tile by tile from lse, so that nothing of size T·S is stored.
//
// Work is split over sequences and key-value heads, and over ranges of keys
// when those are few. A range owns its part of dk and dv; its part of dq is
// summed with the others in order. So five products per tile suffice, and the
// result does not depend on the number of threads. It panics if the shapes do
// not agree.
func Backward(a Args, g Grads) { backward(a, g, 0) }

func backward(a Args, g Grads, block int) {
	a.check()
	g.O.check("o", a.Batch, a.Queries, a.Heads, a.Dim)
	g.DO.check("do", a.Batch, a.Queries, a.Heads, a.Dim)
	g.DQ.check("dq", a.Batch, a.Queries, a.Heads, a.Dim)
	g.DK.check("dk", a.Batch, a.Keys, a.KVHeads, a.Dim)
	g.DV.check("dv", a.Batch, a.Keys, a.KVHeads, a.Dim)
	if n := a.Batch * a.Heads * a.Queries; len(g.LSE) != n {
		panic(fmt.Sprintf("attention: lse has %d floats, want [%d, %d, %d]", len(g.LSE), a.Batch, a.Heads, a.Queries))
	}
	heads := a.Batch * a.KVHeads
	if heads == 0 {
		return
	}
	f := backwardArgs{Args: a, Grads: g, block: block}
	f.chunks = max(1, min(par.Pieces(backwardPieces, heads), maxChunks, a.Keys/minChunk))
	f.chunk = max(1, par.Pieces(par.Pieces(a.Keys, tileK), f.chunks)) * tileK
	f.chunks = max(1, par.Pieces(a.Keys, f.chunk))
	if f.chunks > 1 {
		f.partial = memory.Default.Dirty(memory.Workspace, (f.chunks-1)*f.partialSize())
		defer memory.Default.Free(memory.Workspace, f.partial)
	}
	backwardLoop.Run(heads*f.chunks, f, func(f *backwardArgs, i int) {
		heads := f.Batch * f.KVHeads // under a causal mask the first range is the heaviest: first
		backwardChunk(f, i%heads/f.KVHeads, i%heads%f.KVHeads, i/heads)
	})
	if f.chunks > 1 {
		partialLoop.Run(par.Pieces(f.Batch*f.Queries, sumRows), f, sumPartials)
	}
}

func (f *backwardArgs) partialSize() int { return f.Batch * f.Queries * f.Heads * f.Dim }

// sumRows is how many rows of dq are summed in a piece.
const sumRows = 32

// sumPartials adds to some rows of dq what the later key ranges found.
func sumPartials(f *backwardArgs, piece int) {
	n := f.Heads * f.Dim
	first, last := par.Bounds(piece, sumRows, f.Batch*f.Queries)
	for i := first; i < last; i++ {
		dq := f.DQ.at(i/f.Queries, i%f.Queries, 0, 0)[:n]
		for c := range f.chunks - 1 {
			simd.AddTo(dq, f.partial[c*f.partialSize()+i*n:][:n])
		}
	}
}

// backwardChunk runs all queries of a group of heads over one range of keys.
func backwardChunk(f *backwardArgs, b, kv, c int) {
	e := f.Dim
	first, last := c*f.chunk, min((c+1)*f.chunk, f.Keys)
	if !f.Add {
		for k := first; k < last; k++ {
			clear(f.DK.at(b, k, kv, e)[:e])
			clear(f.DV.at(b, k, kv, e)[:e])
		}
	}
	dq, add := f.DQ, f.Add
	if c > 0 {
		row := f.Heads * e
		dq, add = View{f.partial[(c-1)*f.partialSize():], row, f.Queries * row}, false
	}
	buf := memory.Default.Dirty(memory.Workspace, 3*e*tileQ+2*tileK*tileQ+5*tileQ+2*e)
	defer memory.Default.Free(memory.Workspace, buf)
	var st Stats
	block := f.block
	if block == 0 {
		block = max(last-first, 1)
	}
	for k0 := first; k0 == first || k0 < last; k0 += block {
		for h := kv * f.group(); h < (kv+1)*f.group(); h++ {
			for t0 := 0; t0 < f.Queries; t0 += tileQ {
				backwardTile(f, b, h, kv, t0, k0, min(k0+block, last), dq, add || k0 > first, buf, &st)
			}
		}
	}
	if f.Stats != nil {
		f.Stats.add(&st)
	}
}

// backwardTile adds the gradients of keys [first, last) and their values from
// the query tile at t0, and writes the gradient of those queries to dq.
func backwardTile(f *backwardArgs, b, h, kv, t0, first, last int, dq View, add bool, buf []float32, st *Stats) {
	e := f.Dim
	nq := min(tileQ, f.Queries-t0)
	w := carver(buf)
	qt := w.take(e * tileQ)     // [E][tileQ], queries times scale in bits, transposed
	dot := w.take(e * tileQ)    // [E][tileQ], dO times scale, transposed
	acc := w.take(e * tileQ)    // [E][tileQ], dQ, transposed
	s := w.take(tileK * tileQ)  // [tileK][tileQ], scores, then weights P
	ds := w.take(tileK * tileQ) // [tileK][tileQ], dP, then dS; both times scale
	lse, delta := w.take(tileQ), w.take(tileQ)
	lo, hi, one := w.take(tileQ), w.take(tileQ), w.take(tileQ)
	unit := w.take(e)

	q, do := f.Q.at(b, t0, h, e), f.DO.at(b, t0, h, e)
	loaded := false
	for k0 := first; k0 < last; k0 += tileK {
		nk := min(tileK, last-k0)
		r, ok := f.region(b, h, t0, nq, k0, nk, lo, hi)
		if !ok {
			st.Skipped++
			continue
		}
		if !loaded {
			loaded = true
			fill(unit, f.Scale*log2e)
			loadLanes(qt, q, f.Q.Row, nq, e, unit)
			fill(unit, f.Scale)
			loadLanes(dot, do, f.DO.Row, nq, e, unit)
			f.loadRows(lse, delta, b, h, t0, nq)
			clear(acc)
			st.OtherFLOPs += int64(2 * nq * e)
			st.Bytes += 4 * int64(nq*(3*e+1))
		}
		k, v := f.K.at(b, k0, kv, e), f.V.at(b, k0, kv, e)
		r.scores(s, k, f.K.Row, e, qt)
		r.scores(ds, v, f.V.Row, e, dot)
		if r.holes {
			punch(s, f.Mask, b, h, f.Offset+t0, nq, k0, nk)
		}
		f.Dropout.apply(&f.Args, ds, b, h, t0, nq, k0, nk)
		for g := range r.groups {
			from, to := r.rows[g][0], r.rows[g][1]
			if from == to {
				continue
			}
			var glo, ghi []float32
			if r.masked {
				glo, ghi = lo[g*lanes:], hi[g*lanes:]
			}
			simd.TileGrad(s[g*lanes:], ds[g*lanes:], tileQ, from, to, glo, ghi, lse[g*lanes:], delta[g*lanes:])
		}
		f.Dropout.apply(&f.Args, s, b, h, t0, nq, k0, nk)
		r.scatter(f.DV.at(b, k0, kv, e), f.DV.Row, do, f.DO.Row, e, s, nq)
		r.scatter(f.DK.at(b, k0, kv, e), f.DK.Row, q, f.Q.Row, e, ds, nq)
		r.gather(acc, k, f.K.Row, e, ds, nil)
		st.tile(&r, 5*e, 4, 6*nk*e)
	}
	out := dq.at(b, t0, h, e)
	switch {
	case loaded:
		fill(one, 1)
		simd.TileTranspose(out, dq.Row, acc, tileQ, e, nq, one, add)
		st.Bytes += 4 * int64(nq*e)
	case !add: // these queries see none of the keys
		for i := range nq {
			clear(out[i*dq.Row:][:e])
		}
	}
}

// loadRows sets, for nq queries from t0, lse to the logarithms of their sums in
// bits and delta to scale times the dot product of output and gradient.
func (f *backwardArgs) loadRows(lse, delta []float32, b, h, t0, nq int) {
	fill(lse, -simd.Hidden) // of a lane without a query, or whose query sees no key
	clear(delta)
	e := f.Dim
	o, do := f.O.at(b, t0, h, e), f.DO.at(b, t0, h, e)
	for i, x := range f.LSE[(b*f.Heads+h)*f.Queries+t0:][:nq] {
		if !math.IsInf(float64(x), -1) {
			lse[i] = x * log2e
		}
		delta[i] = f.Scale * simd.Dot(o[i*f.O.Row:][:e], do[i*f.DO.Row:][:e])
	}
}
