package attention

import (
	"fmt"
	"math"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

type forwardArgs struct {
	Args
	o   View
	lse []float32
}

var forwardLoop par.Loop[forwardArgs]

// Forward writes the attention of the queries over the keys and values to
// o [B, T, Hq, E], and to lse [B, Hq, T] the logarithm of each query's sum of
// exponentials, which Backward needs; lse may be nil. A query that sees no key
// gets 0 and an lse of -Inf. It panics if the shapes do not agree.
func Forward(a Args, o View, lse []float32) {
	a.check()
	o.check("o", a.Batch, a.Queries, a.Heads, a.Dim)
	if n := a.Batch * a.Heads * a.Queries; lse != nil && len(lse) != n {
		panic(fmt.Sprintf("attention: lse has %d floats, want [%d, %d, %d]", len(lse), a.Batch, a.Heads, a.Queries))
	}
	f := forwardArgs{a, o, lse}
	if a.Queries <= decodeQueries {
		decode(f)
		return
	}
	// Work is split over query tiles, so that a single head uses all cores.
	tiles := par.Pieces(a.Queries, tileQ)
	forwardLoop.Run(a.Batch*a.Heads*tiles, f, func(f *forwardArgs, i int) {
		tiles := par.Pieces(f.Queries, tileQ)
		bh, tile := i/tiles, tiles-1-i%tiles // under a causal mask the last tile is the heaviest: first
		forwardTile(f, bh/f.Heads, bh%f.Heads, tile*tileQ)
	})
}

// forwardTile computes the queries of one tile, from t0, of one head.
func forwardTile(f *forwardArgs, b, h, t0 int) {
	e := f.Dim
	nq := min(tileQ, f.Queries-t0)
	buf := memory.Default.Dirty(memory.Workspace, 2*e*tileQ+tileK*tileQ+5*tileQ+e)
	defer memory.Default.Free(memory.Workspace, buf)
	w := carver(buf)
	qt := w.take(e * tileQ)    // [E][tileQ], queries times scale, transposed
	acc := w.take(e * tileQ)   // [E][tileQ], the output before division by l
	s := w.take(tileK * tileQ) // [tileK][tileQ], scores, then weights
	m, l, corr := w.take(tileQ), w.take(tileQ), w.take(tileQ)
	lo, hi := w.take(tileQ), w.take(tileQ)
	unit := w.take(e)

	fill(unit, f.Scale*log2e)
	loadLanes(qt, f.Q.at(b, t0, h, e), f.Q.Row, nq, e, unit)
	clear(acc)
	fill(m, simd.Hidden)
	clear(l)

	var st Stats
	kv := h / f.group()
	for k0 := 0; k0 < f.Keys; k0 += tileK {
		nk := min(tileK, f.Keys-k0)
		r, ok := f.region(b, h, t0, nq, k0, nk, lo, hi)
		if !ok {
			st.Skipped++
			continue
		}
		r.scores(s, f.K.at(b, k0, kv, e), f.K.Row, e, qt)
		if r.holes {
			punch(s, f.Mask, b, h, f.Offset+t0, nq, k0, nk)
		}
		for g := range r.groups {
			from, to := r.rows[g][0], r.rows[g][1]
			if from == to {
				continue
			}
			var glo, ghi []float32
			if r.masked {
				glo, ghi = lo[g*lanes:], hi[g*lanes:]
			}
			simd.TileSoftmax(s[g*lanes:], tileQ, from, to, glo, ghi, m[g*lanes:], l[g*lanes:], corr[g*lanes:])
		}
		r.gather(acc, f.V.at(b, k0, kv, e), f.V.Row, e, s, corr)
		st.tile(&r, 2*e, 4, 2*nk*e)
		st.OtherFLOPs += int64(nq * e) // rescaling
	}

	// Divide by the sums and write out.
	logs := lo
	simd.Log(logs, l)
	for i := range nq {
		lse := float32(math.Inf(-1))
		if m[i] > simd.Hidden/2 {
			lse = m[i]*ln2 + logs[i]
			corr[i] = 1 / l[i]
		} else {
			corr[i] = 0
		}
		if f.lse != nil {
			f.lse[(b*f.Heads+h)*f.Queries+t0+i] = lse
		}
	}
	simd.TileTranspose(f.o.at(b, t0, h, e), f.o.Row, acc, tileQ, e, nq, corr, false)
	if f.Stats != nil {
		st.OtherFLOPs += int64(nq * e)
		st.Bytes += 4 * int64(nq*(2*e+1))
		f.Stats.add(&st)
	}
}

// region is what to compute of a tile, if anything.
func (a *Args) region(b, h, t0, nq, k0, nk int, lo, hi []float32) (r region, ok bool) {
	q0 := a.Offset + t0
	switch a.Mask.Tile(b, h, q0, q0+nq, k0, k0+nk) {
	case Skip:
		return r, false
	case Whole:
		return whole(nq, nk), true
	}
	r = visible(a.Mask, b, h, q0, nq, k0, nk, lo, hi)
	return r, r.nStrips > 0
}

// tile counts a computed tile: its multiply-adds and other operations per
// score, and the numbers it read and wrote.
func (s *Stats) tile(r *region, fmas, other, numbers int) {
	n := r.area()
	s.Tiles++
	if r.masked {
		s.Masked++
	}
	s.MatmulFLOPs += 2 * n * int64(fmas)
	s.OtherFLOPs += n * int64(other)
	s.Bytes += 4 * int64(numbers)
}

// loadLanes sets dst [E][tileQ] to nq rows of src, transposed and times f; the
// lanes of a group beyond nq become 0.
func loadLanes(dst, src []float32, row, nq, e int, f []float32) {
	simd.TileTranspose(dst, tileQ, src, row, nq, e, f, false)
	if n := (nq + lanes - 1) / lanes * lanes; nq < n {
		for p := range e {
			clear(dst[p*tileQ+nq : p*tileQ+n])
		}
	}
}

// carver cuts a buffer into parts that begin on cache lines.
type carver []float32

func (c *carver) take(n int) []float32 {
	x := (*c)[:n]
	*c = (*c)[min(len(*c), (n+15)/16*16):]
	return x
}

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}
