package tabular

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/part"
	"hasten/engine/rng"
	"hasten/engine/simd"
)

// Boosting are the options that all boosters share.
type Boosting struct {
	Rounds    int     `set:"rounds" range:"[1,100000]" help:"rounds of boosting"`
	Rate      float64 `set:"rate" range:"(0,1]" help:"learning rate: the share of a leaf's step that is taken"`
	Depth     int     `set:"depth" range:"[1,16]" help:"greatest depth of a tree"`
	LeastRows int     `set:"rows" range:"[1,1000000]" help:"fewest rows in a leaf"`
	Lambda    float64 `set:"lambda" range:"[0,inf)" help:"added to the denominator of a leaf's step: shrinks leaves of little evidence"`
	Subsample float64 `set:"subsample" range:"(0,1]" help:"chance of a row to be seen in a round"`
	Patience  int     `set:"patience" range:"[0,inf)" help:"stop after so many rounds without a lower validation loss, and go back to the best; 0: never"`
}

// defaultBoosting is the paper's.
func defaultBoosting() Boosting {
	return Boosting{Rounds: 100, Rate: 0.1, Depth: 5, LeastRows: 1, Subsample: 1}
}

func (b *Boosting) common() *Boosting { return b }

// Booster says what a round of boosting adds to a model.
type Booster interface {
	common() *Boosting
	// lanes is the width of the gradients it grows trees on.
	lanes(d *Data) int
	// round grows the trees of a round on the residuals.
	round(f *fit) []Tree
}

// Boosters are the parts of the seam "booster".
var Boosters = part.Table[Booster]{
	Seam: "booster",
	Help: "what a round of boosting adds to a model",
	Parts: []part.Part[Booster]{
		{Name: "cgb", Paper: "cgb", Help: "one tree whose leaves hold a value for every class or target", New: func() Booster { return &Condensed{defaultBoosting()} }},
		{Name: "gbdt", Help: "a tree for every class or target", New: func() Booster { return &PerOutput{defaultBoosting()} }},
	},
}

// Round is what Fit tells of a round.
type Round struct {
	Round int     `json:"round"` // counted from 1
	Train float64 `json:"train"` // training loss before the round: nats, or half the squared error summed over targets
	Valid float64 `json:"valid"` // validation loss after it; NaN without validation data
	Trees int     `json:"trees"` // of the model so far
}

// FitOptions are the circumstances of a fit.
type FitOptions struct {
	Seed  uint64
	Valid *Data         // measured every round; needed for patience
	Watch func(Round)   // called after every round, if not nil
	Arena *memory.Arena // of the buffers; nil: memory.Default
}

// Fit trains a model. It stops early, with what it has, when ctx is done.
// The model does not depend on the number of threads.
func Fit(ctx context.Context, d *Data, b Booster, o FitOptions) (*Model, error) {
	const mostRows = 1 << 24 // float32 counts so far
	if d.Inputs.Rows > mostRows {
		return nil, fmt.Errorf("%s: %d rows; at most %d can be counted, so take a sample", d.Inputs.Name, d.Inputs.Rows, mostRows)
	}
	c := b.common()
	if c.Patience > 0 && o.Valid == nil {
		return nil, fmt.Errorf("booster.patience=%d: there is no validation data to be patient with", c.Patience)
	}
	o.Arena = cmp.Or(o.Arena, memory.Default)
	f := newFit(d, c, b.lanes(d), o)
	defer f.close()
	if o.Valid != nil {
		var err error
		if f.valid, err = newValidation(f, o.Valid); err != nil {
			return nil, err
		}
	}
	m := &Model{Kind: d.Kind, Targets: d.Targets, Classes: d.Classes, Start: f.start}
	for _, col := range d.Inputs.Columns {
		m.Columns = append(m.Columns, Column{Name: col.Name, Categories: col.Categories})
	}
	best, bestAt, bestTrees := math.Inf(1), 0, 0
	for round := 1; round <= c.Rounds && ctx.Err() == nil; round++ {
		train := f.residuals()
		f.sample(round, c.Subsample)
		trees := b.round(f)
		m.Trees = append(m.Trees, trees...)
		r := Round{Round: round, Train: train, Valid: math.NaN(), Trees: len(m.Trees)}
		if f.valid != nil {
			r.Valid = f.valid.loss(f)
		}
		if o.Watch != nil {
			o.Watch(r)
		}
		if r.Valid < best {
			best, bestAt, bestTrees = r.Valid, round, len(m.Trees)
		}
		if c.Patience > 0 && round-bestAt >= c.Patience {
			m.Trees = m.Trees[:bestTrees]
			break
		}
	}
	return m, m.compile()
}

// fit is the state of a fit.
type fit struct {
	*Boosting
	data     *Data
	seed     uint64
	outputs  int
	width    int       // lanes of residual
	start    []float32 // [outputs]: what the model says before its first tree
	score    []float32 // [rows, outputs]: what it says now
	residual []float32 // [rows, width]: 1, then for each output what is missing from the score
	single   []float32 // [rows, 2]: one output's residual, for trees of one
	losses   []float64 // by piece
	norms    []float32 // [rows]
	rows     []int32   // seen in this round
	unseen   []int32   // the others
	leafOf   []int32   // [rows]: where the tree at hand puts them
	grower   *grower
	arena    *memory.Arena
	valid    *validation
	sums     []float64 // of leaves
	partial  []float64 // by piece of a leaf
	pieces   []leafPiece
	chunk    []float32
}

func newFit(d *Data, c *Boosting, lanes int, o FitOptions) *fit {
	n, k := d.Inputs.Rows, d.Outputs()
	b := newLayout(d.Inputs).fill(d.Inputs)
	f := &fit{Boosting: c, data: d, seed: o.Seed, outputs: k, width: simd.TreeLanes(k), arena: o.Arena}
	f.start = start(d)
	f.score = f.arena.Dirty(memory.Activations, n*k)
	f.residual = f.arena.Floats(memory.Gradients, n*f.width)
	for r := range n {
		copy(f.score[r*k:][:k], f.start)
		f.residual[r*f.width] = 1
	}
	if lanes < f.width {
		f.single = f.arena.Dirty(memory.Gradients, n*lanes)
	}
	f.losses = make([]float64, par.Pieces(n, rowGrain))
	f.norms = make([]float32, n)
	f.rows, f.leafOf = make([]int32, 0, n), make([]int32, n)
	f.grower = newGrower(f.arena, b, lanes, c.Depth, c.LeastRows)
	return f
}

func (f *fit) close() {
	f.grower.close()
	f.arena.Free(memory.Activations, f.score)
	f.arena.Free(memory.Gradients, f.residual)
	if f.single != nil {
		f.arena.Free(memory.Gradients, f.single)
	}
}

// start is the logarithm of each class's share, or each target's mean. A
// class that training has never seen counts as half a row.
func start(d *Data) []float32 {
	n, k := d.Inputs.Rows, d.Outputs()
	sums := make([]float64, k)
	for _, y := range d.Labels {
		sums[y]++
	}
	for i, y := range d.Y {
		sums[i%k] += float64(y)
	}
	s := make([]float32, k)
	for j, sum := range sums {
		if d.Kind == Classification {
			s[j] = float32(math.Log(max(sum, 0.5) / float64(n)))
		} else {
			s[j] = float32(sum / float64(n))
		}
	}
	return s
}

// rowGrain is how many rows make a piece of work.
const rowGrain = 512

type residualArgs struct{ f *fit }

var residualLoop par.Loop[residualArgs]

// residuals sets R = Y - softmax(F), or Y - F for regression, and returns the
// mean loss.
func (f *fit) residuals() float64 {
	n := f.data.Inputs.Rows
	residualLoop.Run(len(f.losses), residualArgs{f}, func(a *residualArgs, i int) {
		f := a.f
		lo, hi := par.Bounds(i, rowGrain, f.data.Inputs.Rows)
		f.losses[i] = loss(f.data, lo, hi, f.score, f.residual[1:], f.width, f.norms[lo:hi])
	})
	return mean(f.losses, n)
}

// loss sets the residuals of rows lo … hi, which lie width apart, and returns
// the sum of the rows' losses. norms is room for a number for each row.
func loss(d *Data, lo, hi int, score, residual []float32, width int, norms []float32) float64 {
	var sum float64
	k := d.Outputs()
	for r := lo; r < hi; r++ {
		score, residual := score[r*k:][:k], residual[r*width:][:k]
		if d.Kind == Regression {
			simd.Sub(residual, d.Y[r*k:][:k], score)
			sum += simd.SumSq(residual) / 2
			continue
		}
		y := d.Labels[r]
		shift := simd.Max(score)
		norm := simd.ExpSum(residual, score, shift)
		simd.Scale(residual, -1/norm)
		residual[y]++
		norms[r-lo] = norm
		sum -= float64(score[y] - shift)
	}
	if d.Kind == Classification {
		simd.Log(norms, norms)
		sum += float64(simd.Sum(norms))
	}
	return sum
}

func mean(sums []float64, n int) float64 {
	var all float64
	for _, s := range sums {
		all += s
	}
	return all / float64(n)
}

// sample draws the rows of a round.
func (f *fit) sample(round int, share float64) {
	if share == 1 && len(f.rows) > 0 {
		return // all, as before
	}
	f.rows, f.unseen = f.rows[:0], f.unseen[:0]
	s := rng.New(f.seed, uint64(round))
	limit := uint64(math.Ldexp(share, 32))
	for r := range f.data.Inputs.Rows {
		if share == 1 || uint64(s.At(uint64(r))) < limit {
			f.rows = append(f.rows, int32(r))
		} else {
			f.unseen = append(f.unseen, int32(r))
		}
	}
	if len(f.rows) == 0 { // a share of next to nothing
		f.rows, f.unseen = append(f.rows, 0), f.unseen[1:]
	}
}

// tree grows a tree on gradients [rows, lanes], gives its leaves their values
// and adds them to the scores. It adds to all outputs, or to one.
func (f *fit) tree(grad []float32, lanes, output int) Tree {
	g := f.grower
	g.grow(grad, lanes, f.rows)
	width := f.outputs
	if output >= 0 {
		width = 1
	}
	t := Tree{Output: output, Values: make([]float32, len(g.leaf)*width)}
	f.leafSums(grad, lanes)
	for l, where := range g.leaf {
		sums := f.sums[2*l*lanes:][:2*lanes]
		f.leafValues(t.Values[l*width:][:width], float64(where.hi-where.lo), sums[1:], sums[lanes+1:])
	}
	t.Nodes = g.export()
	f.add(&t, width)
	if f.valid != nil {
		f.valid.add(f, &t, width)
	}
	return t
}

// leafValues are the steps of a leaf's outputs times the learning rate. sum
// and curve are, for each output, Σr and Σ|r|(1-|r|) over its n rows: the
// second is Σp(1-p), since r is 1-p or -p.
func (f *fit) leafValues(values []float32, n float64, sum, curve []float64) {
	for k := range values {
		var v float64
		if f.data.Kind == Regression {
			v = sum[k] / (n + f.Lambda)
		} else {
			v = classStep(sum[k], curve[k]+f.Lambda, f.outputs)
		}
		values[k] = float32(f.Rate * v)
	}
}

// sumGrain is how many rows of a leaf are added up in float32; those sums are
// added in float64.
const sumGrain = 256

// leafPiece is some rows of a leaf.
type leafPiece struct{ leaf, lo, hi int }

// pieceGrain is how many rows of a leaf make a piece of work.
const pieceGrain = 8 * sumGrain

type sumArgs struct {
	f     *fit
	grad  []float32
	lanes int
}

var sumLoop par.Loop[sumArgs]

// leafSums sets sums: for each leaf Σr of each lane, then Σ|r|(1-|r|). It also
// sets leafOf of the rows seen.
func (f *fit) leafSums(grad []float32, lanes int) {
	f.pieces = f.pieces[:0]
	for l, where := range f.grower.leaf {
		for lo := where.lo; lo < where.hi; lo += pieceGrain {
			f.pieces = append(f.pieces, leafPiece{l, lo, min(lo+pieceGrain, where.hi)})
		}
	}
	f.partial = grown(f.partial, 2*lanes*len(f.pieces))
	f.chunk = grown(f.chunk, 2*lanes*len(f.pieces))
	f.sums = grown(f.sums, 2*lanes*len(f.grower.leaf))
	clear(f.sums)
	sumLoop.Run(len(f.pieces), sumArgs{f, grad, lanes}, func(a *sumArgs, i int) {
		f, p, n := a.f, a.f.pieces[i], 2*a.lanes
		chunk, sums := f.chunk[i*n:][:n], f.partial[i*n:][:n]
		clear(sums)
		for lo := p.lo; lo < p.hi; lo += sumGrain {
			rows := f.grower.order[lo:min(lo+sumGrain, p.hi)]
			simd.TreeLeaf(chunk, chunk[a.lanes:], a.grad, a.lanes, rows)
			for j, x := range chunk {
				sums[j] += float64(x)
			}
			for _, r := range rows {
				f.leafOf[r] = int32(p.leaf)
			}
		}
	})
	for i, p := range f.pieces {
		sums := f.sums[2*p.leaf*lanes:]
		for j, x := range f.partial[i*2*lanes:][:2*lanes] {
			sums[j] += x
		}
	}
}

// grown is a slice of n elements, the one given if it is large enough.
func grown[T any](x []T, n int) []T {
	if cap(x) < n {
		return make([]T, n)
	}
	return x[:n]
}

type addArgs struct {
	f     *fit
	t     *Tree
	width int
}

var unseenLoop, addLoop par.Loop[addArgs]

// add adds a tree that was just grown to the scores.
func (f *fit) add(t *Tree, width int) {
	unseenLoop.Run(par.Pieces(len(f.unseen), rowGrain), addArgs{f, t, width}, func(a *addArgs, i int) {
		lo, hi := par.Bounds(i, rowGrain, len(a.f.unseen))
		for _, r := range a.f.unseen[lo:hi] {
			a.f.leafOf[r] = a.f.grower.find(a.f.grower.binned, int(r))
		}
	})
	addLoop.Run(len(f.losses), addArgs{f, t, width}, func(a *addArgs, i int) {
		lo, hi := par.Bounds(i, rowGrain, len(a.f.leafOf))
		addRows(a.f.score, a.t, a.f.outputs, a.width, a.f.leafOf, lo, hi)
	})
}

// addRows adds a tree's values to the scores of rows whose leaves are known.
func addRows(score []float32, t *Tree, outputs, width int, leafOf []int32, lo, hi int) {
	if t.Output >= 0 {
		for r := lo; r < hi; r++ {
			score[r*outputs+t.Output] += t.Values[leafOf[r]]
		}
		return
	}
	for r := lo; r < hi; r++ {
		simd.AddTo(score[r*outputs:][:outputs], t.Values[int(leafOf[r])*width:])
	}
}

// find tells the leaf of a row of a table that was binned like the grower's.
func (g *grower) find(b *binned, row int) int32 {
	if len(g.nodes) == 0 {
		return 0
	}
	id := int32(0)
	for id >= 0 {
		n := &g.nodes[id]
		at := g.places[n.column]
		id = n.left
		if n.split.right(b.data[at.block][row*len(g.blocks[at.block].first)+at.index]) {
			id = n.right
		}
	}
	return ^id
}

// validation follows the loss on other data.
type validation struct {
	data   *Data
	binned *binned
	score  []float32
	leafOf []int32
	losses []float64
	norms  []float32
	spare  []float32 // [rows, outputs]: residuals, which nobody needs
}

func newValidation(f *fit, d *Data) (*validation, error) {
	if d.Kind != f.data.Kind || d.Outputs() != f.outputs {
		return nil, fmt.Errorf("%s: validation data has %d outputs for %s, and training data has %d for %s", d.Inputs.Name, d.Outputs(), d.Kind, f.outputs, f.data.Kind)
	}
	t, err := like(f.data.Inputs.Columns, d.Inputs)
	if err != nil {
		return nil, err
	}
	n := t.Rows
	v := &validation{data: d, binned: f.grower.fill(t), leafOf: make([]int32, n), losses: make([]float64, par.Pieces(n, rowGrain))}
	v.norms = make([]float32, n)
	v.score, v.spare = make([]float32, n*f.outputs), make([]float32, n*f.outputs)
	for r := range n {
		copy(v.score[r*f.outputs:], f.start)
	}
	return v, nil
}

type validArgs struct {
	f     *fit
	t     *Tree
	width int
}

var validLoop, validLossLoop par.Loop[validArgs]

// add adds a tree that was just grown.
func (v *validation) add(f *fit, t *Tree, width int) {
	validLoop.Run(len(v.losses), validArgs{f, t, width}, func(a *validArgs, i int) {
		v := a.f.valid
		lo, hi := par.Bounds(i, rowGrain, len(v.leafOf))
		for r := lo; r < hi; r++ {
			v.leafOf[r] = a.f.grower.find(v.binned, r)
		}
		addRows(v.score, a.t, a.f.outputs, a.width, v.leafOf, lo, hi)
	})
}

// loss is the mean loss.
func (v *validation) loss(f *fit) float64 {
	validLossLoop.Run(len(v.losses), validArgs{f: f}, func(a *validArgs, i int) {
		v := a.f.valid
		lo, hi := par.Bounds(i, rowGrain, len(v.leafOf))
		v.losses[i] = loss(v.data, lo, hi, v.score, v.spare, a.f.outputs, v.norms[lo:hi])
	})
	return mean(v.losses, len(v.leafOf))
}
