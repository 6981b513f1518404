package conv

import (
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

const (
	// pieceGoal is how many pieces a sum over positions is cut into if there
	// are not as many for other reasons.
	pieceGoal = 32

	// partialFloats bounds the copies of the weights that are summed on the
	// way: 16 MB.
	partialFloats = 1 << 22
)

// weightSum computes dW, for every group [out, taps·group], as the sum over
// positions of dyᵀ times what the positions read. Positions are cut into parts,
// each with a sum of its own, and these are added in order.
type weightSum struct {
	walk
	gemm   *simd.Gemm
	round  bool
	groups int
	out    int // results of one group
	chunk  int // taps of a panel
	rows   int // positions of a panel

	parts, tiles int // number of parts, and of panels in each
	dy, dw       []float32
	sums         []float32 // those of parts 1, 2, …; part 0 goes to dw
	add          bool
}

var weightLoop par.Loop[weightSum]

func (c Conv) weightGrad(dw, dy, x []float32, add bool) {
	s := weightSum{
		walk:   walk{batch: c.Batch, src: x, channels: c.In, group: c.In / c.Groups},
		groups: c.Groups, out: c.Out / c.Groups, dy: dy, dw: dw, add: add,
	}
	for i, a := range c.grid() {
		s.axes[i] = a.forwardWindow()
	}
	s.gemm, s.round = kernelFor(c.Format, 2) // pairs are neighbouring positions here
	s.chunk, s.rows = s.plan(c.Out, 2*s.gemm.Rows)
	all := par.Pieces(s.positions(), s.rows)
	others := s.groups * par.Pieces(s.taps(), s.chunk)
	parts := min(par.Pieces(pieceGoal, others), all, 1+partialFloats/len(dw))
	s.tiles = par.Pieces(all, parts)
	s.parts = par.Pieces(all, s.tiles)

	s.sums = memory.Default.Dirty(memory.Workspace, (s.parts-1)*len(dw))
	weightLoop.Run(s.parts*others, s, (*weightSum).piece)
	addParts(dw, s.sums)
	memory.Default.Free(memory.Workspace, s.sums)
}

// piece sums one chunk of one group over one part of the positions.
func (s *weightSum) piece(i int) {
	chunks := par.Pieces(s.taps(), s.chunk)
	part, g, k := i/(s.groups*chunks), i/chunks%s.groups, i%chunks
	t0, t1 := par.Bounds(k, s.chunk, s.taps())
	n := (t1 - t0) * s.group

	dw, beta := s.dw, keep(s.add)
	if part > 0 {
		dw, beta = s.sums[(part-1)*len(s.dw):][:len(s.dw)], 0
	}
	ldw := s.taps() * s.group
	dw = dw[g*s.out*ldw+t0*s.group:]

	b := newSpreads(s, n)
	from, to := par.Bounds(part, s.tiles, par.Pieces(s.positions(), s.rows))
	for t := from; t < to; t++ {
		lo, hi := par.Bounds(t, s.rows, s.positions())
		window, ld := b.windows(lo, hi, t0, t1, g*s.group)
		grad, ldg, depth := b.grads(lo, hi, g*s.out)
		for j := 0; j < n; j += s.gemm.Cols {
			s.gemm.Tile(s.out, min(s.gemm.Cols, n-j), depth, grad, 1, ldg, window[j:], ld, dw[j:], ldw, 1, beta)
		}
		beta = 1
	}
	b.free()
}

// spreads lays out the two operands of a weight gradient for its kernel. Its
// sums run over positions, so both have a row for each, or for each pair.
type spreads struct {
	*weightSum
	ld     int       // of windows
	window []float32 // [rows, ld]
	across []float32 // [window, rows], where columns are gathered first
	pairs  []float32 // [rows/2, ld], where the kernel wants pairs
	ldg    int
	grad   []float32 // [rows, ldg], where dy cannot be read as it stands
}

func newSpreads(s *weightSum, width int) spreads {
	b := spreads{weightSum: s, ld: oddLines(roundUp(width, s.gemm.Cols)), ldg: roundUp(s.out, 16)}
	// Kernels read whole blocks of columns, so what follows a row is cleared:
	// denormal numbers there could slow them down.
	b.window = memory.Default.Floats(memory.Workspace, s.rows*b.ld)
	if s.group < fewChannels {
		b.across = memory.Default.Dirty(memory.Workspace, width*s.rows)
	}
	if s.gemm.Per > 1 {
		b.pairs = memory.Default.Floats(memory.Workspace, s.rows/2*b.ld)
	}
	if s.gemm.Per > 1 || s.round {
		b.grad = memory.Default.Dirty(memory.Workspace, s.rows*b.ldg)
	}
	return b
}

func (b *spreads) free() {
	for _, x := range [][]float32{b.window, b.across, b.pairs, b.grad} {
		if x != nil {
			memory.Default.Free(memory.Workspace, x)
		}
	}
}

// windows gathers what positions lo … hi-1 read through taps t0 … t1-1 of the
// group whose channels begin at first.
func (b *spreads) windows(lo, hi, t0, t1, first int) (x []float32, ld int) {
	n := (t1 - t0) * b.group
	if b.across != nil {
		b.gatherAcross(b.across, b.rows, lo, hi, t0, t1, first)
		simd.GemmF32.Turn(n, hi-lo, b.across, b.rows, b.window, b.ld)
	} else {
		b.gather(b.window, b.ld, lo, hi, t0, t1, first)
	}
	if b.round {
		simd.RoundBF16(b.window, b.window)
	}
	if b.pairs != nil {
		b.gemm.Across(hi-lo, n, b.window, b.ld, b.pairs, b.ld)
		return b.pairs, b.ld
	}
	return b.window, b.ld
}

// grads is dy of positions lo … hi-1 in the group whose results begin at first.
func (b *spreads) grads(lo, hi, first int) (x []float32, ld, depth int) {
	n := hi - lo
	all := b.groups * b.out
	dy := b.dy[lo*all+first:]
	switch {
	case b.pairs != nil:
		b.gemm.Across(n, b.out, dy, all, b.grad, b.ldg)
		return b.grad, b.ldg, (n + 1) / 2
	case b.round:
		for i := range n {
			simd.RoundBF16(b.grad[i*b.ldg:][:b.out], dy[i*all:])
		}
		return b.grad, b.ldg, n
	}
	return dy, all, n
}
