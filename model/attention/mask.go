package attention

import (
	"fmt"
	"math"
)

// Cover is how much of a tile is visible.
type Cover uint8

// The covers, in order: the cover of an intersection is at most the smaller.
const (
	Skip    Cover = iota // no query of the tile sees any key of it
	Partial              // some queries may see some keys: ask Run
	Whole                // every query sees every key
)

// Mask says which keys a query sees. Queries and keys are named by their
// position in the sequence; batch and head are there for masks that depend on
// them (document boundaries, hash buckets). The methods are called from several
// goroutines and must not change the mask. They may be asked about positions
// they call invisible, but never about negative ones.
type Mask interface {
	// Tile is the cover of queries [q0, q1) by keys [k0, k1); neither is
	// empty. It may answer Partial when in doubt: that costs time, not truth.
	Tile(batch, head, q0, q1, k0, k1 int) Cover

	// Run is the first run [lo, hi) of keys at or after from that query q
	// sees. If there is none, lo ≥ hi. The run may go beyond the last key, and
	// may be continued by another one that starts at hi.
	Run(batch, head, q, from int) (lo, hi int)
}

// end is a position after every key.
const end = math.MaxInt

// Full is the mask that hides nothing.
type Full struct{}

// Tile implements Mask.
func (Full) Tile(_, _, _, _, _, _ int) Cover { return Whole }

// Run implements Mask.
func (Full) Run(_, _, _, from int) (lo, hi int) { return from, end }

// Causal shows a query the keys up to its own position. When fewer queries
// than keys are given, as in decoding with a cache, Args.Offset says where the
// queries stand.
type Causal struct{}

// Tile implements Mask.
func (Causal) Tile(_, _, q0, q1, k0, k1 int) Cover {
	switch {
	case k0 >= q1:
		return Skip
	case k1 <= q0+1:
		return Whole
	}
	return Partial
}

// Run implements Mask.
func (Causal) Run(_, _, q, from int) (lo, hi int) { return from, q + 1 }

// Documents shows a query the keys of its own document, when several are
// packed into one sequence. Combine it with Causal by And.
type Documents struct {
	length     int
	start, end []int32 // of the document that holds a position, at batch*length + position
}

// NewDocuments makes the mask of sequences of the given length whose position
// p in sequence b belongs to document ids[b*length+p]. Equal ids in one run are
// one document; the same id later in the sequence is another one. The positions
// that are asked about must be below length.
func NewDocuments(length int, ids []int32) (*Documents, error) {
	d := new(Documents)
	if err := d.Reset(length, ids); err != nil {
		return nil, err
	}
	return d, nil
}

// Reset sets the documents anew, as NewDocuments does, and keeps the memory.
func (d *Documents) Reset(length int, ids []int32) error {
	if length <= 0 || len(ids)%length != 0 {
		return fmt.Errorf("attention: %d document ids for sequences of length %d", len(ids), length)
	}
	d.length = length
	d.start = append(d.start[:0], ids...)
	d.end = append(d.end[:0], ids...)
	for base := 0; base < len(ids); base += length {
		ids := ids[base:][:length]
		for p := 0; p < length; {
			q := p + 1
			for q < length && ids[q] == ids[p] {
				q++
			}
			for i := p; i < q; i++ {
				d.start[base+i], d.end[base+i] = int32(p), int32(q)
			}
			p = q
		}
	}
	return nil
}

// Tile implements Mask.
func (d *Documents) Tile(batch, _, q0, q1, k0, k1 int) Cover {
	first, last := batch*d.length+q0, batch*d.length+q1-1
	switch { // starts and ends do not fall along the sequence
	case k1 <= int(d.start[first]) || k0 >= int(d.end[last]):
		return Skip
	case k0 >= int(d.start[last]) && k1 <= int(d.end[first]):
		return Whole
	}
	return Partial
}

// Run implements Mask.
func (d *Documents) Run(batch, _, q, from int) (lo, hi int) {
	i := batch*d.length + q
	return max(from, int(d.start[i])), int(d.end[i])
}

// And shows what both masks show. Make it once, not once per call.
func And(a, b Mask) Mask { return and{a, b} }

type and struct{ a, b Mask }

func (m and) Tile(batch, head, q0, q1, k0, k1 int) Cover {
	c := m.a.Tile(batch, head, q0, q1, k0, k1)
	if c == Skip {
		return Skip
	}
	return min(c, m.b.Tile(batch, head, q0, q1, k0, k1))
}

func (m and) Run(batch, head, q, from int) (lo, hi int) {
	for {
		alo, ahi := m.a.Run(batch, head, q, from)
		if alo >= ahi {
			return alo, alo
		}
		blo, bhi := m.b.Run(batch, head, q, alo)
		if blo >= bhi {
			return blo, blo
		}
		if blo < ahi {
			return blo, min(ahi, bhi)
		}
		from = blo
	}
}
