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
	f := newForward(a, o, lse)
	if a.Queries <= decodeQueries && a.Dropout.P == 0 {
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

// newForward checks what Forward is given.
func newForward(a Args, o View, lse []float32) forwardArgs {
	a.check()
	o.check("o", a.Batch, a.Queries, a.Heads, a.Dim)
	if n := a.Batch * a.Heads * a.Queries; lse != nil && len(lse) != n {
		panic(fmt.Sprintf("attention: lse has %d floats, want [%d, %d, %d]", len(lse), a.Batch, a.Heads, a.Queries))
	}
	return forwardArgs{a, o, lse}
}

// forwardTile computes the queries of one tile, from t0, of one head.
func forwardTile(f *forwardArgs, b, h, t0 int) {
	e := f.Dim
	buf := memory.Default.Dirty(memory.Workspace, stateSize(e)+workSize(e))
	defer memory.Default.Free(memory.Workspace, buf)
	c := carver(buf)
	x, w := takeState(&c, e), takeWork(&c, e)
	x.clear()
	var st Stats
	f.visit(b, h, t0, 0, f.Keys, x, w, &st)
	st.Bytes += 8 * st.keys * int64(e) // keys and values come anew for every tile
	f.finish(b, h, t0, x, w, &st)
	if f.Stats != nil {
		st.Bytes += 4 * int64(min(tileQ, f.Queries-t0)*(2*e+1))
		f.Stats.add(&st)
	}
}

// tileState is what a tile of queries has gathered so far.
type tileState struct {
	acc  []float32 // [E][tileQ], the output before division by l
	m, l []float32 // [tileQ], the largest score in bits, the sum of exponentials
}

func stateSize(e int) int { return e*tileQ + 2*tileQ }

func takeState(c *carver, e int) tileState {
	return tileState{c.take(e * tileQ), c.take(tileQ), c.take(tileQ)}
}

// clear makes it the state of queries that have seen no key.
func (x *tileState) clear() {
	clear(x.acc)
	fill(x.m, simd.Hidden)
	clear(x.l)
}

// tileWork is what the forward pass of a tile works in.
type tileWork struct {
	qt           []float32 // [E][tileQ], queries times scale, transposed
	s            []float32 // [tileK][tileQ], scores, then weights
	corr, lo, hi []float32 // [tileQ]
	unit         []float32 // [E]
}

func workSize(e int) int { return e*tileQ + tileK*tileQ + 3*tileQ + e }

func takeWork(c *carver, e int) tileWork {
	return tileWork{c.take(e * tileQ), c.take(tileK * tileQ), c.take(tileQ), c.take(tileQ), c.take(tileQ), c.take(e)}
}

// visit lets the queries of a tile, from t0, gather from keys [first, last). It
// tells whether they saw any.
func (f *forwardArgs) visit(b, h, t0, first, last int, x tileState, w tileWork, st *Stats) (seen bool) {
	e := f.Dim
	nq := min(tileQ, f.Queries-t0)
	kv := h / f.group()
	for k0 := first; k0 < last; k0 += tileK {
		nk := min(tileK, last-k0)
		r, ok := f.region(b, h, t0, nq, k0, nk, w.lo, w.hi)
		if !ok {
			st.Skipped++
			continue
		}
		if !seen {
			seen = true
			fill(w.unit, f.Scale*log2e)
			loadLanes(w.qt, f.Q.at(b, t0, h, e), f.Q.Row, nq, e, w.unit)
		}
		r.scores(w.s, f.K.at(b, k0, kv, e), f.K.Row, e, w.qt)
		if r.holes {
			punch(w.s, f.Mask, b, h, f.Offset+t0, nq, k0, nk)
		}
		for g := range r.groups {
			from, to := r.rows[g][0], r.rows[g][1]
			if from == to {
				continue
			}
			var glo, ghi []float32
			if r.masked {
				glo, ghi = w.lo[g*lanes:], w.hi[g*lanes:]
			}
			simd.TileSoftmax(w.s[g*lanes:], tileQ, from, to, glo, ghi, x.m[g*lanes:], x.l[g*lanes:], w.corr[g*lanes:])
		}
		f.Dropout.apply(&f.Args, w.s, b, h, t0, nq, k0, nk)
		r.gather(x.acc, f.V.at(b, k0, kv, e), f.V.Row, e, w.s, w.corr)
		st.tile(&r, 2*e, 4, 0)
		st.keys += int64(nk)
		st.OtherFLOPs += int64(nq * e) // rescaling
	}
	return seen
}

// finish divides what a tile has gathered by the sums and writes it out.
func (f *forwardArgs) finish(b, h, t0 int, x tileState, w tileWork, st *Stats) {
	e := f.Dim
	nq := min(tileQ, f.Queries-t0)
	logs, inverse := w.lo, w.corr
	simd.Log(logs, x.l)
	for i := range nq {
		lse := float32(math.Inf(-1))
		inverse[i] = 0
		if x.m[i] > simd.Hidden/2 {
			lse = x.m[i]*ln2 + logs[i]
			inverse[i] = 1 / x.l[i]
		}
		if f.lse != nil {
			f.lse[(b*f.Heads+h)*f.Queries+t0+i] = lse
		}
	}
	simd.TileTranspose(f.o.at(b, t0, h, e), f.o.Row, x.acc, tileQ, e, nq, inverse, false)
	st.OtherFLOPs += int64(nq * e)
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
