package attention

import "hasten/engine/simd"

// Tile is the number of queries and of keys in a tile. The scores of a tile are
// stored transposed, a row per key, and with 16 KiB stay in the first-level
// cache. Tiles begin at multiples of Tile, of the queries and keys given.
const Tile = 64

const (
	tileQ  = Tile
	tileK  = Tile
	lanes  = simd.Lanes
	groups = tileQ / lanes // lane groups of a tile
	blocks = tileK / lanes // blocks of as many keys
)

// region is the part of a tile to compute: for each lane group, the rows
// (keys) that softmax runs over; and strips, blocks of rows by a range of
// lanes, which together hold those rows and no other element.
type region struct {
	rows    [groups][2]int
	strips  [blocks]strip
	nStrips int
	groups  int  // lane groups in use
	masked  bool // lanes see only their rows [lo, hi)
	holes   bool // and not all of those
}

// strip is rows [k0, k1) by lanes [n0, n1) of whole groups.
type strip struct{ k0, k1, n0, n1 int }

func (r *region) add(s strip) {
	if n := r.nStrips; n > 0 && r.strips[n-1].n0 == s.n0 && r.strips[n-1].n1 == s.n1 && r.strips[n-1].k1 == s.k0 {
		r.strips[n-1].k1 = s.k1
		return
	}
	r.strips[r.nStrips] = s
	r.nStrips++
}

// whole is all rows of a tile of nq queries and nk keys.
func whole(nq, nk int) (r region) {
	r.groups = (nq + lanes - 1) / lanes
	for g := range r.groups {
		r.rows[g] = [2]int{0, nk}
	}
	r.add(strip{0, nk, 0, r.groups * lanes})
	return r
}

// visible finds what to compute of the tile of nq queries at position q0 and
// nk keys at k0. For a Partial tile it writes each lane's visible rows, from
// the first to the last, to lo and hi.
func visible(mask Mask, batch, head, q0, nq, k0, nk int, lo, hi []float32) (r region) {
	r = whole(nq, nk)
	r.masked = true
	var rows [groups][2]int
	for g := range r.groups {
		first, last := nk, 0
		for i := g * lanes; i < min((g+1)*lanes, nq); i++ {
			l, h, holes := hull(mask, batch, head, q0+i, k0, k0+nk)
			l, h = l-k0, h-k0
			lo[i], hi[i] = float32(l), float32(h)
			r.holes = r.holes || holes
			if l < h {
				first, last = min(first, l), max(last, h)
			}
		}
		if first >= last { // this group sees nothing
			first, last = 0, 0
			if g > 0 {
				first = rows[g-1][1]
				last = first
			}
		}
		rows[g] = [2]int{first, last}
	}
	for i := nq; i < r.groups*lanes; i++ { // queries that are not there
		lo[i], hi[i] = 0, 0
	}
	// When both ends of the rows do not fall from group to group, as under
	// causal, window and document masks, then the groups that see a block of
	// keys are neighbours, and only those need be computed.
	for g := 1; g < r.groups; g++ {
		if rows[g][0] < rows[g-1][0] || rows[g][1] < rows[g-1][1] {
			return r
		}
	}
	r.nStrips = 0
	r.rows = [groups][2]int{}
	for k := 0; k < nk; k += lanes {
		first, last := r.groups, 0
		for g := range r.groups {
			if rows[g][0] < min(k+lanes, rows[g][1]) && k < rows[g][1] {
				first, last = min(first, g), g+1
			}
		}
		for g := first; g < last; g++ {
			if r.rows[g][1] == 0 {
				r.rows[g][0] = k
			}
			r.rows[g][1] = min(k+lanes, nk)
		}
		if first < last {
			r.add(strip{k, min(k+lanes, nk), first * lanes, last * lanes})
		}
	}
	return r
}

// hull is the range from the first to the last key in [k0, k1) that query q
// sees, and whether it has holes. It is empty if there is none.
func hull(mask Mask, batch, head, q, k0, k1 int) (lo, hi int, holes bool) {
	lo, hi = mask.Run(batch, head, q, k0)
	if hi = min(hi, k1); lo >= hi {
		return k0, k0, false
	}
	for hi < k1 {
		l, h := mask.Run(batch, head, q, hi)
		if h = min(h, k1); l >= h {
			break
		}
		holes = holes || l > hi
		hi = h
	}
	return lo, hi, holes
}

// punch hides the holes that queries have between their first and last
// visible key: it sets their scores in s.
func punch(s []float32, mask Mask, batch, head, q0, nq, k0, nk int) {
	for i := range nq {
		_, at := mask.Run(batch, head, q0+i, k0)
		for at < k0+nk {
			lo, hi := mask.Run(batch, head, q0+i, at)
			if lo >= hi {
				break
			}
			for k := at; k < min(lo, k0+nk); k++ {
				s[(k-k0)*tileQ+i] = simd.Hidden
			}
			at = hi
		}
	}
}

// scores sets s = Kᵀ-rows times the transposed queries, over a region.
// k: rows of keys; qt: [E][tileQ]; s: [tileK][tileQ].
func (r *region) scores(s, k []float32, row, e int, qt []float32) {
	for _, p := range r.strips[:r.nStrips] {
		simd.TileMul(p.k1-p.k0, p.n1-p.n0, e, k[p.k0*row:], row, 1, qt[p.n0:], tileQ, s[p.k0*tileQ+p.n0:], tileQ, false, nil)
	}
}

// gather adds rowsᵀ·p to acc, over a region: what the queries collect from
// rows (values, or keys in the backward pass) with weights p. If corr is not
// nil, acc is first multiplied by it, lane by lane, and corr is used up.
// rows: [tileK][E]; p: [tileK][tileQ]; acc: [E][tileQ].
func (r *region) gather(acc, rows []float32, row, e int, p, corr []float32) {
	for _, t := range r.strips[:r.nStrips] {
		var scale []float32
		if corr != nil {
			scale = corr[t.n0:t.n1]
		}
		simd.TileMul(e, t.n1-t.n0, t.k1-t.k0, rows[t.k0*row:], 1, row, p[t.k0*tileQ+t.n0:], tileQ, acc[t.n0:], tileQ, true, scale)
		for i := range scale {
			scale[i] = 1 // the next strip of these lanes finds them corrected
		}
	}
}

// scatter adds p·rows to acc, over a region: what the keys collect from rows
// of nq queries. rows: [nq][E]; p: [tileK][tileQ]; acc: [tileK][E].
func (r *region) scatter(acc []float32, accRow int, rows []float32, row, e int, p []float32, nq int) {
	for _, t := range r.strips[:r.nStrips] {
		simd.TileMul(t.k1-t.k0, e, min(t.n1, nq)-t.n0, p[t.k0*tileQ+t.n0:], tileQ, 1, rows[t.n0*row:], row, acc[t.k0*accRow:], accRow, true, nil)
	}
}

// area is the number of scores a region computes.
func (r *region) area() (n int64) {
	for _, t := range r.strips[:r.nStrips] {
		n += int64(t.k1-t.k0) * int64(t.n1-t.n0)
	}
	return n
}

// Scores are kept in bits inside: exp(x) = 2^(x·log2e).
const (
	log2e = 1.4426950408889634
	ln2   = 0.6931471805599453
)
