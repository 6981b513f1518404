package attention

import (
	"fmt"
	"math"
	"sync/atomic"
)

// View is a [B, L, H, E] array inside a larger buffer: element (b, l, h, e) is
// Data[b·Batch + l·Row + h·E + e].
type View struct {
	Data  []float32
	Row   int // floats from one position to the next
	Batch int // floats from one sequence to the next; 0: L·Row
}

// at is the part of the view that begins at position l of head h.
func (v *View) at(b, l, h, e int) []float32 { return v.Data[b*v.Batch+l*v.Row+h*e:] }

// check panics unless [b, l, h, e] fits, and settles Batch.
func (v *View) check(name string, b, l, h, e int) {
	if v.Batch == 0 {
		v.Batch = l * v.Row
	}
	if v.Row < h*e || len(v.Data) < (b-1)*v.Batch+(l-1)*v.Row+h*e {
		panic(fmt.Sprintf("attention: %s [%d, %d, %d, %d] with rows %d and sequences %d apart does not fit in %d floats",
			name, b, l, h, e, v.Row, v.Batch, len(v.Data)))
	}
}

// Args says what attends to what.
type Args struct {
	Batch, Queries, Keys int // B, T, S
	Heads, KVHeads, Dim  int // Hq, Hkv, E; Hq is a multiple of Hkv

	Q    View // [B, T, Hq, E]
	K, V View // [B, S, Hkv, E]

	// Mask says what a query sees; nil is Full.
	Mask Mask
	// Offset is the position of query 0, as the mask sees it; that of key 0
	// is 0. It is Keys-Queries when the last queries of a cached sequence are
	// decoded.
	Offset int
	// Scale multiplies the scores; 0 is 1/√E.
	Scale float32
	// Dropout hides weights at random, in training.
	Dropout Dropout
	// Stats, if not nil, is added to.
	Stats *Stats
}

// check panics unless the shapes agree, and settles the defaults.
func (a *Args) check() {
	if a.Batch < 0 || a.Queries < 0 || a.Keys < 0 || a.Dim <= 0 || a.KVHeads <= 0 || a.Heads <= 0 || a.Heads%a.KVHeads != 0 || a.Offset < 0 {
		panic(fmt.Sprintf("attention: batch %d, %d queries at %d, %d keys, %d heads, %d key-value heads, dim %d",
			a.Batch, a.Queries, a.Offset, a.Keys, a.Heads, a.KVHeads, a.Dim))
	}
	if a.Mask == nil {
		a.Mask = Full{}
	}
	if a.Scale == 0 {
		a.Scale = float32(1 / math.Sqrt(float64(a.Dim)))
	}
	if !(a.Dropout.P >= 0 && a.Dropout.P < 1) {
		panic(fmt.Sprintf("attention: dropout of %v, outside [0, 1)", a.Dropout.P))
	}
	a.Q.check("q", a.Batch, a.Queries, a.Heads, a.Dim)
	a.K.check("k", a.Batch, a.Keys, a.KVHeads, a.Dim)
	a.V.check("v", a.Batch, a.Keys, a.KVHeads, a.Dim)
}

// group is the number of query heads that share a key-value head.
func (a *Args) group() int { return a.Heads / a.KVHeads }

// Stats counts what calls did.
type Stats struct {
	Tiles   int64 // tiles of up to Tile queries by Tile keys that were computed
	Masked  int64 // those of them that were only partly visible
	Skipped int64 // tiles of which nothing was visible

	// MatmulFLOPs are the multiplications and additions of the matrix
	// products, of what was computed and not of what was visible.
	MatmulFLOPs int64
	// OtherFLOPs are those of the softmax, of its gradient and of rescaling;
	// maximum, exponential, addition and multiplication count one each.
	OtherFLOPs int64
	// Bytes is the traffic between the inputs and outputs and the tiles: what
	// would go through a memory that holds no more than one tile of each.
	Bytes int64

	keys int64 // of computed tiles
}

// add adds t to s, which other goroutines may be adding to.
func (s *Stats) add(t *Stats) {
	atomic.AddInt64(&s.Tiles, t.Tiles)
	atomic.AddInt64(&s.Masked, t.Masked)
	atomic.AddInt64(&s.Skipped, t.Skipped)
	atomic.AddInt64(&s.MatmulFLOPs, t.MatmulFLOPs)
	atomic.AddInt64(&s.OtherFLOPs, t.OtherFLOPs)
	atomic.AddInt64(&s.Bytes, t.Bytes)
}
