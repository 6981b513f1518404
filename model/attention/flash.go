// FlashAttention: Dao, Fu, Ermon, Rudra, Ré, "FlashAttention: Fast and
// Memory-Efficient Exact Attention with IO-Awareness", NeurIPS 2022.
//
//	for each block Kⱼ, Vⱼ of Bc keys that the fast memory holds:
//	  for each tile Qᵢ of Br queries:
//	    S = Qᵢ·Kⱼᵀ    m' = max(m, rowmax S)    P = exp(S - m')
//	    l ← e^(m-m')·l + rowsum P    O ← e^(m-m')·O + P·Vⱼ    m ← m'
//	O ← O/l
//
// Backward, for the same blocks and tiles, with D = rowsum(dO∘O):
//
//	P = exp(S - lse)   dVⱼ += Pᵀ·dOᵢ   dS = P∘(dOᵢ·Vⱼᵀ - D)   dQᵢ += dS·Kⱼ   dKⱼ += dSᵀ·Qᵢ
//
// With Bc = M/4d keys and values are read once, queries and outputs once for
// each of the S/Bc blocks: traffic in the order of S²·d²/M numbers. The tiles
// are those of the package: Br is Tile.

package attention

import (
	"math"
	"math/bits"

	"hasten/engine/memory"
	"hasten/engine/par"
)

// Flash computes attention in the order of the paper: keys in the outer loop,
// queries in the inner. Forward and Backward have the opposite order, which
// FlashAttention-2 introduced; the results agree but for rounding.
type Flash struct {
	// Cache is the number of bytes of fast memory that a core has to itself,
	// M; 0: 1 MiB.
	Cache int
}

// KeyBlock is the number of keys in a block for heads of the given size, Bc:
// a multiple of Tile.
func (f Flash) KeyBlock(e int) int {
	m := f.Cache / 4
	if m == 0 {
		m = 1 << 18
	}
	return max(m/(4*e)/tileK, 1) * tileK
}

type flashArgs struct {
	forwardArgs
	block int // keys, Bc
	share int // tiles of queries in a piece of work
}

var flashLoop par.Loop[flashArgs]

// flashPieces are pieces worth having; with fewer heads, queries are split.
const flashPieces = 16

// Forward is the function of that name.
func (f Flash) Forward(a Args, o View, lse []float32) {
	x := flashArgs{forwardArgs: newForward(a, o, lse), block: f.KeyBlock(a.Dim)}
	tiles, heads := par.Pieces(a.Queries, tileQ), a.Batch*a.Heads
	if tiles == 0 || heads == 0 {
		return
	}
	x.share = par.Pieces(tiles, par.Pieces(flashPieces, heads))
	flashLoop.Run(heads*par.Pieces(tiles, x.share), x, func(f *flashArgs, i int) {
		heads := f.Batch * f.Heads
		f.forward(i%heads/f.Heads, i%heads%f.Heads, i/heads*f.share)
	})
}

// forward computes a share of the query tiles of one head, from tile first on.
func (f *flashArgs) forward(b, h, first int) {
	e := f.Dim
	n := min(f.share, par.Pieces(f.Queries, tileQ)-first)
	buf := memory.Default.Dirty(memory.Workspace, n*stateSize(e)+workSize(e))
	defer memory.Default.Free(memory.Workspace, buf)
	c := carver(buf[n*stateSize(e):])
	w := takeWork(&c, e)
	state := func(i int) tileState {
		c := carver(buf[i*stateSize(e):])
		return takeState(&c, e)
	}
	for i := range n {
		x := state(i)
		x.clear()
	}
	var st Stats
	for k0 := 0; k0 < f.Keys; k0 += f.block {
		k1 := min(k0+f.block, f.Keys)
		seen := false
		for i := range n {
			t0 := (first + i) * tileQ
			if f.visit(b, h, t0, k0, k1, state(i), w, &st) {
				seen = true
				st.Bytes += 4 * int64(min(tileQ, f.Queries-t0)*(3*e+4)) // Q; O, m and l both ways
			}
		}
		if seen {
			st.Bytes += 8 * int64((k1-k0)*e)
		}
	}
	for i := range n {
		f.finish(b, h, (first+i)*tileQ, state(i), w, &st)
	}
	if f.Stats != nil {
		f.Stats.add(&st)
	}
}

// Backward is the function of that name.
func (f Flash) Backward(a Args, g Grads) { backward(a, g, f.KeyBlock(a.Dim)) }

// Butterfly shows a block of queries the blocks of keys whose number differs
// from theirs in at most one bit: the fixed pattern of the paper's block-sparse
// variant, after Dao et al., "Pixelated Butterfly", ICLR 2022. Of n blocks, a
// power of two, each sees 1 + log₂ n, and log₂ n steps join any two.
type Butterfly struct {
	Block int // positions in a block; a multiple of Tile costs least
}

// Tile implements Mask.
func (m Butterfly) Tile(_, _, q0, q1, k0, k1 int) Cover {
	qb, kb := q0/m.Block, k0/m.Block
	if qb != (q1-1)/m.Block || kb != (k1-1)/m.Block {
		return Partial
	}
	if bits.OnesCount(uint(qb^kb)) <= 1 {
		return Whole
	}
	return Skip
}

// Run implements Mask.
func (m Butterfly) Run(_, _, q, from int) (lo, hi int) {
	qb := q / m.Block
	kb := visibleFrom(qb, from/m.Block)
	return max(from, kb*m.Block), (kb + 1) * m.Block
}

// visibleFrom is the first number at or after k that differs from q in at most
// one bit. There always is one, since q may gain ever higher bits.
func visibleFrom(q, k int) int {
	best := math.MaxInt
	for bit := 1; ; bit <<= 1 {
		if v := q ^ bit; v >= k {
			best = min(best, v)
		}
		if bit > q|k {
			break
		}
	}
	if q >= k {
		best = min(best, q)
	}
	return best
}
