package tabular

import (
	"math"
	"slices"

	"hasten/engine/par"
)

// Bin 0 of a column is for what is missing. The others hold numbers in
// order, or a category each.
const (
	missingBin = 0
	mostBins   = 256
)

// key orders numbers as unsigned integers: missing (zero), -Inf, …, +Inf.
func key(x float32) uint32 {
	if x != x {
		return 0
	}
	bits := math.Float32bits(x + 0) // -0 becomes 0
	return bits ^ (uint32(int32(bits)>>31) | 1<<31)
}

// binner says how a column is binned.
type binner struct {
	edges   []uint32  // numbers: the highest key of bins 1, 2, … but the last; filled up with the highest of all to a power of two
	limits  []float32 // numbers: those edges as numbers
	byCode  []uint8   // categories: the bin of each
	codes   []int     // categories: the one in bins 1, 2, …
	isCodes bool
	bins    int // their number
}

// newBinner bins a column: numbers by quantiles, or each to its own bin if
// there are few; categories each to its own, and what is beyond the 254
// commonest together.
func newBinner(c *Column) binner {
	if c.Categories != nil {
		return newCategoryBinner(c)
	}
	keys := make([]uint32, 0, len(c.Values))
	for _, v := range c.Values {
		if v == v {
			keys = append(keys, key(v))
		}
	}
	keys = sortKeys(keys)
	var b binner
	for _, at := range cuts(keys) {
		limit := between(unkey(keys[at]), unkey(keys[at+1]))
		b.limits = append(b.limits, limit)
		b.edges = append(b.edges, key(limit))
	}
	b.bins = len(b.edges) + 2
	size := 1
	for size < len(b.edges)+1 {
		size *= 2
	}
	for len(b.edges) < size {
		b.edges = append(b.edges, math.MaxUint32)
	}
	return b
}

// cuts lists the places in sorted keys after which a bin ends: every change
// of value if they are few, else those nearest to the quantiles.
func cuts(keys []uint32) []int {
	const most = mostBins - 2
	var changes []int // the last place of each value
	for i := 0; i+1 < len(keys); i++ {
		if keys[i] != keys[i+1] {
			changes = append(changes, i)
		}
	}
	if len(changes) <= most {
		return changes
	}
	var chosen []int
	next := 0
	for q := 1; q <= most; q++ {
		place := q*len(keys)/(most+1) - 1
		for next < len(changes) && changes[next] < place {
			next++
		}
		if next < len(changes) && (chosen == nil || chosen[len(chosen)-1] != changes[next]) {
			chosen = append(chosen, changes[next])
		}
	}
	return chosen
}

// unkey is the number of a key.
func unkey(k uint32) float32 {
	return math.Float32frombits(k ^ (^uint32(int32(k)>>31) | 1<<31))
}

// between is a number from [a, b), in the middle if there is one.
func between(a, b float32) float32 {
	if m := float32((float64(a) + float64(b)) / 2); a < m && m < b {
		return m
	}
	return max(a, -math.MaxFloat32) // a model's file has no infinities
}

// sortKeys sorts by digits of 8 bits; a digit that is the same everywhere, as
// in small whole numbers most are, costs nothing.
func sortKeys(keys []uint32) []uint32 {
	var counts [4][256]int
	for _, k := range keys {
		for d := range counts {
			counts[d][k>>(8*d)&255]++
		}
	}
	other := make([]uint32, len(keys))
	for d := range counts {
		c := &counts[d]
		if len(keys) == 0 || c[keys[0]>>(8*d)&255] == len(keys) {
			continue
		}
		at := 0
		for i, n := range c {
			c[i] = at
			at += n
		}
		for _, k := range keys {
			digit := k >> (8 * d) & 255
			other[c[digit]] = k
			c[digit]++
		}
		keys, other = other, keys
	}
	return keys
}

func newCategoryBinner(c *Column) binner {
	counts := make([]int, len(c.Categories))
	for _, v := range c.Values {
		if v == v {
			counts[int(v)]++
		}
	}
	order := make([]int, len(counts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return counts[b] - counts[a] })
	const own = mostBins - 2
	b := binner{isCodes: true, byCode: make([]uint8, len(counts)), bins: min(len(counts)+1, mostBins)}
	for i, code := range order {
		b.byCode[code] = uint8(min(i, own) + 1)
		if i < own {
			b.codes = append(b.codes, code)
		}
	}
	return b
}

// bin is the bin of a value.
func (b *binner) bin(v float32) uint8 {
	switch {
	case v != v:
		return missingBin
	case b.isCodes:
		if int(v) < len(b.byCode) {
			return b.byCode[int(v)]
		}
		return missingBin
	}
	k, at := key(v), 0
	for step := len(b.edges) / 2; step > 0; step /= 2 {
		if b.edges[at+step-1] < k {
			at += step
		}
	}
	return uint8(at + 1)
}

// block is columns whose histograms are built together.
type block struct {
	columns []int   // of the table; as many as first, or fewer
	first   []int32 // the first bin of each, counted within the block
	start   int     // the first bin of the block
	bins    int
}

// place is where a column lies; columns that are constant lie nowhere.
type place struct {
	block, index int
	binned       bool
}

// layout says how tables of the same columns are binned.
type layout struct {
	columns []binner
	blocks  []block
	places  []place
	bins    int // of all blocks
}

// How many columns make a block: many, so that a row of gradients is fetched
// for many columns, but few enough for their histograms to stay in the second
// cache; fewer if there are only few columns, which the cores must share.
const (
	wideBlock   = 8
	narrowBlock = 4
)

type binnerArgs struct {
	columns []Column
	out     []binner
}

var binnerLoop par.Loop[binnerArgs]

// newLayout looks at the columns of the training data.
func newLayout(t *Table) *layout {
	l := &layout{columns: make([]binner, len(t.Columns)), places: make([]place, len(t.Columns))}
	binnerLoop.Run(len(t.Columns), binnerArgs{t.Columns, l.columns}, func(a *binnerArgs, i int) {
		a.out[i] = newBinner(&a.columns[i])
	})
	var varying []int
	for i, b := range l.columns {
		if b.bins > 2 || b.bins == 2 && hasMissing(t.Columns[i].Values) {
			varying = append(varying, i)
		}
	}
	size := wideBlock
	if len(varying) < 4*wideBlock {
		size = narrowBlock
	}
	for some := range slices.Chunk(varying, size) {
		b := block{columns: some, start: l.bins}
		for j, c := range some {
			l.places[c] = place{len(l.blocks), j, true}
			b.first = append(b.first, int32(b.bins))
			b.bins += l.columns[c].bins
		}
		for len(b.first)%narrowBlock != 0 { // the kernel takes columns by fours
			b.first = append(b.first, int32(b.bins))
			b.bins++
		}
		l.bins += b.bins
		l.blocks = append(l.blocks, b)
	}
	return l
}

func hasMissing(values []float32) bool {
	return slices.ContainsFunc(values, func(v float32) bool { return v != v })
}

// binned is a table as bins: for each block [rows, columns of the block].
type binned struct {
	*layout
	rows int
	data [][]uint8
}

type fillArgs struct {
	b *binned
	t *Table
}

var fillLoop par.Loop[fillArgs]

// fill bins a table that has the layout's columns.
func (l *layout) fill(t *Table) *binned {
	b := &binned{layout: l, rows: t.Rows, data: make([][]uint8, len(l.blocks))}
	fillLoop.Run(len(l.blocks), fillArgs{b, t}, func(a *fillArgs, i int) {
		block := &a.b.blocks[i]
		width := len(block.first)
		data := make([]uint8, a.t.Rows*width)
		for j, c := range block.columns {
			bins := &a.b.columns[c]
			for r, v := range a.t.Columns[c].Values {
				data[r*width+j] = bins.bin(v)
			}
		}
		a.b.data[i] = data
	})
	return b
}
