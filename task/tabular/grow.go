package tabular

import (
	"math"
	"sync"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// grower grows one tree after the other from histograms.
//
// A node's histogram has, for each bin of each column, the number of its rows
// and the sum of their gradients, of all outputs side by side. The best
// division maximises
//
//	‖Σ left‖²/n_left + ‖Σ right‖²/n_right,
//
// which is to minimise the squared error, summed over the outputs, around the
// means on either side. Of two children only the smaller is counted; the
// larger is its parent less that. Trees are grown depth first, so a histogram
// for each depth is all that is kept.
type grower struct {
	*binned
	depth int
	least float32 // rows in a leaf
	arena *memory.Arena

	grad  []float32 // [rows, lanes]: 1, the gradients, zeros
	lanes int
	hists [][]float32    // by depth: [bins, lanes]
	found [2][]candidate // by child and block
	parts []int          // of a partition: rows on the left
	free  []*scanBuffer  // for pieces of work to come
	lock  sync.Mutex     // of free
	sides [2]leafOrSplit // what a search found
	order []int32        // rows, by leaf when the tree is grown
	spare []int32
	nodes []node
	leaf  []leafRange
}

// node is an inner node. Children at or above zero are nodes, others
// ^the index of a leaf.
type node struct {
	split
	left, right int32
}

// leafRange is where a leaf's rows lie in order.
type leafRange struct{ lo, hi int }

// split sends a row of a column's bin to the right when bin-shift > at in
// eight bits, which wrap around. So shift 0 has missing values, in bin 0, go
// left, and shift 1 right; shift c with at 0 has only category c go left.
type split struct {
	column    int
	shift, at uint8
}

func (s split) right(bin uint8) bool { return bin-s.shift > s.at }

// candidate is the best division that a block has for a node.
type candidate struct {
	score, undivided float32
	split
}

// leafOrSplit is how a node goes on.
type leafOrSplit struct {
	split
	divides bool
}

// newGrower makes a grower for gradients of up to lanes lanes.
func newGrower(a *memory.Arena, b *binned, lanes, depth, leastRows int) *grower {
	g := &grower{binned: b, depth: depth, least: float32(leastRows), arena: a}
	for range depth {
		g.hists = append(g.hists, a.Dirty(memory.Workspace, b.bins*lanes))
	}
	for i := range g.found {
		g.found[i] = make([]candidate, len(b.blocks))
	}
	g.order, g.spare = make([]int32, b.rows), make([]int32, b.rows)
	return g
}

// close gives the buffers back.
func (g *grower) close() {
	for _, h := range g.hists {
		g.arena.Free(memory.Workspace, h)
	}
	for _, s := range g.free {
		g.arena.Free(memory.Workspace, s.all)
	}
}

// grow grows a tree on gradients [rows, lanes], seen at some rows, which must
// be in ascending order. Until the next call, nodes, leaf and order tell of it.
func (g *grower) grow(grad []float32, lanes int, rows []int32) {
	g.grad, g.lanes = grad, lanes
	g.nodes, g.leaf = g.nodes[:0], g.leaf[:0]
	g.order, g.spare = g.order[:len(rows)], g.spare[:len(rows)]
	copy(g.order, rows)
	root := leafOrSplit{}
	if g.depth > 0 && float32(len(rows)) >= 2*g.least {
		g.search(g.order, g.hists[0], nil)
		root = g.sides[0]
	}
	if len(g.blocks) > 0 && root.divides {
		g.expand(0, len(rows), 0, g.hists[0][:g.bins*lanes], root.split)
	} else {
		g.leaf = append(g.leaf, leafRange{0, len(rows)})
	}
}

// expand divides the node of rows lo … hi and goes on below. hist is the
// node's; it is used up.
func (g *grower) expand(lo, hi, depth int, hist []float32, s split) (id int32) {
	id = int32(len(g.nodes))
	g.nodes = append(g.nodes, node{split: s})
	mid := g.partition(lo, hi, s)
	depth++
	var next [2]leafOrSplit
	hists := [2][]float32{hist, hist}
	if large := max(mid-lo, hi-mid); depth < g.depth && float32(large) >= 2*g.least {
		small, at := g.order[lo:mid], 0
		if mid-lo > hi-mid {
			small, at = g.order[mid:hi], 1
		}
		hists[at] = g.hists[depth][:g.bins*g.lanes]
		g.search(small, hists[at], hist)
		next[at], next[1-at] = g.sides[0], g.sides[1]
	}
	left := g.child(lo, mid, depth, hists[0], next[0])
	right := g.child(mid, hi, depth, hists[1], next[1])
	g.nodes[id].left, g.nodes[id].right = left, right
	return id
}

func (g *grower) child(lo, hi, depth int, hist []float32, next leafOrSplit) int32 {
	if next.divides {
		return g.expand(lo, hi, depth, hist, next.split)
	}
	g.leaf = append(g.leaf, leafRange{lo, hi})
	return ^int32(len(g.leaf) - 1)
}

type searchArgs struct {
	g            *grower
	rows         []int32
	small, large []float32
}

var searchLoop par.Loop[searchArgs]

// search counts the histogram of rows into small, takes it from that in large,
// if any, and finds the best division of each, for g.sides.
func (g *grower) search(rows []int32, small, large []float32) {
	searchLoop.Run(len(g.blocks), searchArgs{g, rows, small, large}, func(a *searchArgs, i int) {
		g := a.g
		b := &g.blocks[i]
		h := a.small[b.start*g.lanes:][:b.bins*g.lanes]
		clear(h)
		simd.TreeHistogram(h, b.first, g.grad, g.lanes, g.data[i], a.rows)
		g.found[0][i] = g.scan(b, h)
		if a.large != nil {
			rest := a.large[b.start*g.lanes:][:b.bins*g.lanes]
			simd.Sub(rest, rest, h)
			g.found[1][i] = g.scan(b, rest)
		}
	})
	for i, found := range g.found {
		g.sides[i] = better(found)
	}
}

// better picks the best division of all blocks. It must gain more than
// rounding could.
func better(found []candidate) leafOrSplit {
	const rounding = 1e-6
	var best candidate
	for i, c := range found {
		if i == 0 || c.score > best.score {
			best = c
		}
	}
	gains := best.score > best.undivided*(1+rounding) && !math.IsInf(float64(best.score), 0)
	return leafOrSplit{best.split, gains}
}

// scanBuffer is what a scan needs room for.
type scanBuffer struct {
	all                         []float32
	count, left, right, scratch []float32
	total                       []float32
	series                      []series
}

// series is divisions after one bin and the next, or of one category.
type series struct {
	at    int // of the first candidate
	bin   int // after which the first candidate divides
	index int // of the column
	shift int // of its splits; -1: as the larger side
}

func (g *grower) buffer() *scanBuffer {
	g.lock.Lock()
	defer g.lock.Unlock()
	if n := len(g.free); n > 0 {
		s := g.free[n-1]
		g.free = g.free[:n-1]
		return s
	}
	most := 0
	for _, b := range g.blocks {
		most = max(most, b.bins)
	}
	size := simd.TreePad(2 * most) // missing values may go either way
	s := &scanBuffer{all: g.arena.Dirty(memory.Workspace, 3*size+3*mostBins+len(g.hists[0])/max(g.bins, 1))}
	s.count, s.left, s.right = s.all[:size], s.all[size:2*size], s.all[2*size:3*size]
	s.scratch, s.total = s.all[3*size:][:3*mostBins], s.all[3*size+3*mostBins:]
	return s
}

func (g *grower) giveBack(s *scanBuffer) {
	g.lock.Lock()
	g.free = append(g.free, s)
	g.lock.Unlock()
}

// scan finds the best division of a node by the columns of a block, whose
// histogram is h.
func (g *grower) scan(b *block, h []float32) candidate {
	s := g.buffer()
	defer g.giveBack(s)
	total := s.total[:g.lanes]
	simd.TreeTotal(total, h[:g.columns[b.columns[0]].bins*g.lanes], g.lanes)
	s.series = s.series[:0]
	n := 0
	for j, c := range b.columns {
		bins := &g.columns[c]
		hist := h[int(b.first[j])*g.lanes:][:bins.bins*g.lanes]
		missing := hist[0] > 0
		if bins.isCodes {
			n = s.categories(n, j, hist, g.lanes, len(bins.codes))
			continue
		}
		if missing {
			n = s.numbers(n, series{index: j, bin: 0, shift: 0}, hist, g.lanes, bins.bins)
			n = s.numbers(n, series{index: j, bin: 1, shift: 1}, hist, g.lanes, bins.bins)
		} else {
			n = s.numbers(n, series{index: j, bin: 1, shift: -1}, hist, g.lanes, bins.bins)
		}
	}
	c := candidate{undivided: simd.Dot(total[1:], total[1:]) / total[0]}
	var at int
	if c.score, at = simd.TreeBest(s.count[:n], s.left, s.right, total[0], g.least); at >= 0 {
		c.split = g.decode(s, b, h, at)
	}
	return c
}

// numbers adds the candidates of a column of numbers, from n on.
func (s *scanBuffer) numbers(n int, r series, hist []float32, lanes, bins int) int {
	m := bins - 1 - r.bin // dividing after the last bin divides nothing
	if m <= 0 {
		return n
	}
	r.at = n
	s.series = append(s.series, r)
	simd.TreeScan(s.count[n:n+m], s.left[n:], s.right[n:], hist[r.bin*lanes:], lanes, s.total, s.scratch)
	return n + m
}

// categories adds a candidate for each category that the node has, and for
// what is missing.
func (s *scanBuffer) categories(n, index int, hist []float32, lanes, own int) int {
	for bin := 0; bin <= own; bin++ {
		if hist[bin*lanes] == 0 {
			continue
		}
		s.series = append(s.series, series{at: n, bin: bin, index: index, shift: bin})
		simd.TreeScan(s.count[n:n+1], s.left[n:], s.right[n:], hist[bin*lanes:], lanes, s.total, s.scratch)
		n++
	}
	return n
}

// decode tells which split the candidate at a place is.
func (g *grower) decode(s *scanBuffer, b *block, h []float32, at int) split {
	i := len(s.series) - 1
	for s.series[i].at > at {
		i--
	}
	r := s.series[i]
	column := b.columns[r.index]
	bin := r.bin + at - r.at
	if bins := &g.columns[column]; !bins.isCodes {
		bin = middle(h[int(b.first[r.index])*g.lanes:][:bins.bins*g.lanes], g.lanes, bin)
	}
	if r.shift < 0 { // nothing is missing here: if it is some day, it goes with the many
		r.shift = 0
		if left := s.count[at]; left < s.total[0]-left {
			r.shift = 1
		}
	}
	return split{column, uint8(r.shift), uint8(bin - r.shift)}
}

// middle returns the bin after which to divide a column of numbers, where it
// could be after the given one. Dividing after an empty bin is the same as
// before it; in the middle of such a gap both sides keep their distance.
func middle(hist []float32, lanes, bin int) int {
	low, high := bin, bin+1
	for low > missingBin && hist[low*lanes] == 0 {
		low--
	}
	for high < len(hist)/lanes-1 && hist[high*lanes] == 0 {
		high++
	}
	if low == missingBin {
		return low // what is missing against all numbers
	}
	return (low + high - 1) / 2
}

// partitionGrain is how many rows make a piece of a partition.
const partitionGrain = 8192

type partitionArgs struct {
	g           *grower
	lo, hi, mid int
	split
}

var countLoop, scatterLoop, copyLoop par.Loop[partitionArgs]

// partition puts the rows lo … hi that go left before those that go right,
// each in their order, and returns where those on the right begin.
func (g *grower) partition(lo, hi int, s split) (mid int) {
	pieces := par.Pieces(hi-lo, partitionGrain)
	for len(g.parts) < pieces {
		g.parts = append(g.parts, 0)
	}
	args := partitionArgs{g, lo, hi, 0, s}
	countLoop.Run(pieces, args, func(a *partitionArgs, i int) {
		rows, bins, width := a.piece(i)
		left := 0
		for _, r := range rows {
			if !a.right(bins[int(r)*width]) {
				left++
			}
		}
		a.g.parts[i] = left
	})
	mid = lo
	for i, left := range g.parts[:pieces] {
		g.parts[i] = mid
		mid += left
	}
	args.mid = mid
	scatterLoop.Run(pieces, args, (*partitionArgs).scatter)
	copyLoop.Run(pieces, args, func(a *partitionArgs, i int) {
		from, to := par.Bounds(i, partitionGrain, a.hi-a.lo)
		copy(a.g.order[a.lo+from:a.lo+to], a.g.spare[a.lo+from:])
	})
	return mid
}

// piece returns rows and the split column's bins, of which each row has one
// in width.
func (a *partitionArgs) piece(i int) (rows []int32, bins []uint8, width int) {
	from, to := par.Bounds(i, partitionGrain, a.hi-a.lo)
	at := a.g.places[a.column]
	return a.g.order[a.lo+from : a.lo+to], a.g.data[at.block][at.index:], len(a.g.blocks[at.block].first)
}

// scatter writes a piece's rows to their places.
func (a *partitionArgs) scatter(i int) {
	rows, bins, width := a.piece(i)
	left := a.g.parts[i]
	right := a.mid + i*partitionGrain - (left - a.lo)
	out := a.g.spare
	for _, r := range rows {
		// Which side it is cannot be predicted, so nothing branches on it.
		at, goes := left, 0
		if a.right(bins[int(r)*width]) {
			at, goes = right, 1
		}
		out[at] = r
		left += 1 - goes
		right += goes
	}
}
