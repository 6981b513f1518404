// Cut cross-entropy: Wijmans, Huval, Hertzberg, Koltun, Krähenbühl, "Cut Your
// Losses in Large-Vocabulary Language Models", ICLR 2025.
//
//	lossₙ = log Σᵥ exp(xₙ·wᵥ) - xₙ·w_yₙ
//	G = (softmax(X·Wᵀ) - onehot(y))·g        dX = G·W        dW = Gᵀ·X
//
// Logits exist only as one tile of rows by tokens. The forward pass keeps a
// running maximum and sum for each row; the backward pass computes tiles again.
//
// Gradient filter: a tile whose softmax is below ε everywhere, and which holds
// no row's target, adds nothing that matters to dX and is skipped there. The
// paper computes such a tile's logits again to see that; here the forward pass
// keeps each row's largest logit in each tile, so that a skipped tile costs
// nothing at all. dW is filtered on request only: the paper leaves it whole when
// a model is trained from scratch.
//
// Vocabulary order: tokens are taken in descending order of their mean logit,
// so that unlikely ones share tiles. The mean logit of token v is x̄·wᵥ with x̄
// the mean of the rows, known before the first tile is computed.

package loss

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/precision"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

// Cut computes the loss in tiles of rows by tokens. Beyond x, w and their
// gradients it takes some MiB, hardly depending on the vocabulary. Its zero
// value is exact; NewCut has the paper's settings.
type Cut struct {
	Filter float64 `set:"filter" range:"[0,1)" help:"softmax below which a tile's gradient is skipped, ε; 0: the exact gradient"`
	Head   bool    `set:"head" help:"filter the gradient of the head too: faster, for models that are trained already"`
	Sort   bool    `set:"sort" help:"tokens in the order of their mean logit, so that more tiles can be skipped"`
	Z      float64 `set:"z" range:"[0,inf)" help:"weight of the square of log Σ exp, which keeps logits from drifting"`
	Kahan  bool    `set:"kahan" help:"sum the tiles' gradients with compensation for rounding"`

	// SoftCap is c of a model whose logits are c·tanh(z/c); 0: z as it is.
	SoftCap float64

	tiles, skipped atomic.Int64
	mutex          sync.Mutex
	free           []*cutPass
}

var _ Head = (*Cut)(nil)

// NewCut returns a Cut with the paper's settings for pretraining.
func NewCut() *Cut { return &Cut{Filter: 1.0 / 4096, Sort: true} }

// Skipped tells how many of the tiles of all backward passes so far were
// skipped.
func (c *Cut) Skipped() (skipped, tiles int64) { return c.skipped.Load(), c.tiles.Load() }

// Tiles of the exact form have headRows rows by cutTokens. With a filter, tiles
// have fewer tokens, and blocks of their rows are skipped one by one. Both have 4
// MiB of logits at most, enough for the matrix products to run at full speed.
const (
	cutTokens    = 2048
	filterRows   = 2048
	filterTokens = 512
	filterBlock  = 256
)

// CutCrossEntropy is CrossEntropy in tiles of rows by tokens, exactly. It takes
// at most 4 MiB of workspace, whatever the vocabulary, and 3·N floats, of which
// 2·N stay until the backward pass.
func CutCrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var {
	return exactCut.CrossEntropy(t, x, w, targets, perRow)
}

var exactCut Cut

// CrossEntropy is the loss: see the function of that name.
func (c *Cut) CrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var {
	counted := check("CutCrossEntropy", x, w, targets, perRow)
	y := t.New(tensor.Of())
	node := t.Record(y, cutBack, x, w)
	p := c.begin(t, x, w, targets, counted)
	if node != nil {
		node.State = p
		p.max, p.sum = node.Save(0, p.n), node.Save(1, p.n)
		if c.Filter > 0 {
			p.peaks = node.Save(2, p.n*par.Pieces(p.v, p.tokens))
		}
	} else {
		p.max, p.sum = p.workspace(p.n), p.workspace(p.n)
		defer p.free(p.max)
		defer p.free(p.sum)
	}
	p.losses = perRow
	if perRow == nil {
		p.losses = p.workspace(p.n)
		defer p.free(p.losses)
	}
	p.forward()
	y.Data[0] = mean(p.losses, counted)
	if node == nil {
		c.end(p)
	}
	return y
}

func cutBack(n *grad.Node) {
	p := n.State.(*cutPass)
	p.scale *= n.Out.Grad[0]
	p.backward(n.GradOf(0), n.GradOf(1))
	p.cut.end(p)
}

// cutPass is one forward and backward pass under way. A Cut keeps those that
// have ended for the next.
type cutPass struct {
	cut          *Cut
	tape         *grad.Tape
	x, w         *grad.Var
	targets      []int32
	n, d, v      int
	rows, tokens int     // of a tile
	block        int     // rows that are skipped together
	scale        float32 // of the gradient

	max, sum, losses []float32 // [n]: of the logits of a row so far, of exp(logit-max), and first the target's logit
	peaks            []float32 // [tiles of tokens, n]: each row's largest logit in each tile

	sorted       bool
	order, place []int32   // the token at each place, the place of each token
	likely       []float32 // [v] mean logits
}

// begin prepares a pass.
func (c *Cut) begin(t *grad.Tape, x, w *grad.Var, targets []int32, counted int) *cutPass {
	p := c.ended()
	p.cut, p.tape, p.x, p.w, p.targets = c, t, x, w, targets
	p.n, p.d, p.v = x.Rows(), x.Cols(), w.Rows()
	p.rows, p.tokens = headRows, cutTokens
	if c.Filter > 0 {
		p.rows, p.tokens = filterRows, filterTokens
	}
	p.block = min(p.rows, filterBlock)
	if c.Filter == 0 {
		p.block = p.rows
	}
	p.rows, p.tokens = min(p.rows, p.n), min(p.tokens, p.v)
	p.scale = float32(1 / float64(max(counted, 1)))
	p.peaks = nil
	if p.sorted = c.Sort && counted > 0; p.sorted {
		p.sort(counted)
	}
	return p
}

// ended returns a pass that has ended, for its buffers, or a new one.
func (c *Cut) ended() *cutPass {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	k := len(c.free)
	if k == 0 {
		return new(cutPass)
	}
	p := c.free[k-1]
	c.free = c.free[:k-1]
	return p
}

// end keeps a pass for the next one.
func (c *Cut) end(p *cutPass) {
	c.mutex.Lock()
	c.free = append(c.free, p)
	c.mutex.Unlock()
}

func (p *cutPass) workspace(n int) []float32 { return p.tape.Arena.Dirty(memory.Workspace, n) }
func (p *cutPass) free(x []float32)          { p.tape.Arena.Free(memory.Workspace, x) }

// sort orders the vocabulary by mean logit, the largest first.
func (p *cutPass) sort(counted int) {
	if len(p.order) != p.v {
		p.order, p.place, p.likely = make([]int32, p.v), make([]int32, p.v), make([]float32, p.v)
	}
	middle := p.workspace(p.d)
	defer p.free(middle)
	clear(middle)
	for i, id := range p.targets {
		if id != Ignore {
			simd.Axpy(1/float32(counted), p.x.Data[i*p.d:(i+1)*p.d], middle)
		}
	}
	likelyLoop.Run(par.Pieces(p.v, likelyTokens), likelyArgs{p, middle}, func(a *likelyArgs, i int) {
		lo, hi := par.Bounds(i, likelyTokens, a.p.v)
		for v := lo; v < hi; v++ {
			a.p.order[v] = int32(v)
			a.p.likely[v] = simd.Dot(a.middle, a.p.w.Data[v*a.p.d:(v+1)*a.p.d])
		}
	})
	slices.SortFunc(p.order, p.before)
	for i, v := range p.order {
		p.place[v] = int32(i)
	}
}

// before compares two tokens; ties go by number, so that the order is one.
func (p *cutPass) before(a, b int32) int {
	return cmp.Or(cmp.Compare(p.likely[b], p.likely[a]), cmp.Compare(a, b))
}

const likelyTokens = 1024

type likelyArgs struct {
	p      *cutPass
	middle []float32
}

var likelyLoop par.Loop[likelyArgs]

// placeOf is where a token is in the order.
func (p *cutPass) placeOf(id int32) int {
	if p.sorted {
		return int(p.place[id])
	}
	return int(id)
}

// head returns the rows of w of a tile: where they lie, or in the buffer.
func (p *cutPass) head(buffer []float32, first, width int) []float32 {
	if !p.sorted {
		return p.w.Data[first*p.d : (first+width)*p.d]
	}
	for i, v := range p.order[first : first+width] {
		copy(buffer[i*p.d:(i+1)*p.d], p.w.Data[int(v)*p.d:])
	}
	return buffer[:width*p.d]
}

// cutTile is one tile: rows from row on, tokens from the place first on.
type cutTile struct {
	p           *cutPass
	row, rows   int
	first, wide int
	logits      []float32 // [rows, wide]
	capped      []float32 // a copy of them, where the backward pass needs it; else nil
	head        []float32 // [wide, d]
}

var cutLoop par.Loop[cutTile]

// multiply computes the logits of the tile.
func (k *cutTile) multiply() {
	p := k.p
	p.tape.Policy.Mul(precision.Forward, matmul.Args{
		M: k.rows, N: k.wide, K: p.d, C: k.logits, A: p.x.Data[k.row*p.d : (k.row+k.rows)*p.d], B: k.head, TransB: true,
	})
}

// softCap applies the soft cap to a row.
func (p *cutPass) softCap(row []float32) {
	if c := float32(p.cut.SoftCap); c > 0 {
		simd.Scale(row, 1/c)
		simd.Tanh(row, row)
		simd.Scale(row, c)
	}
}

// buffers are what a pass over all tiles works in.
func (p *cutPass) buffers() (logits, head []float32) {
	logits = p.workspace(p.rows * p.tokens)
	if p.sorted {
		head = p.workspace(p.tokens * p.d)
	}
	return logits, head
}

func (p *cutPass) forward() {
	for i := range p.n {
		p.max[i], p.sum[i], p.losses[i] = float32(math.Inf(-1)), 0, 0
	}
	logits, head := p.buffers()
	defer p.free(logits)
	defer p.free(head)
	for first := 0; first < p.v; first += p.tokens {
		wide := min(p.tokens, p.v-first)
		w := p.head(head, first, wide)
		for row := 0; row < p.n; row += p.rows {
			rows := min(p.rows, p.n-row)
			k := cutTile{p: p, row: row, rows: rows, first: first, wide: wide, logits: logits[:rows*wide], head: w}
			k.multiply()
			cutLoop.Run(par.Pieces(rows, softmaxRows), k, logSumExp)
		}
	}
	for i, id := range p.targets {
		if id != Ignore {
			lse := math.Log(float64(p.sum[i])) + float64(p.max[i])
			p.losses[i] = float32(lse - float64(p.losses[i]) + p.cut.Z*lse*lse)
		}
	}
}

// logSumExp adds a piece of the tile's rows to their maxima and sums.
func logSumExp(k *cutTile, i int) {
	p := k.p
	lo, hi := par.Bounds(i, softmaxRows, k.rows)
	for r := lo; r < hi; r++ {
		n, peak := k.row+r, float32(math.Inf(-1))
		if target := p.targets[n]; target != Ignore {
			row := k.logits[r*k.wide : (r+1)*k.wide]
			p.softCap(row)
			if at := p.placeOf(target) - k.first; at >= 0 && at < k.wide {
				p.losses[n] = row[at]
			}
			peak = simd.Max(row)
			was := p.max[n]
			p.max[n] = max(was, peak)
			p.sum[n] = p.sum[n]*float32(math.Exp(float64(was-p.max[n]))) + simd.ExpSum(row, row, p.max[n])
		}
		if p.peaks != nil {
			p.peaks[k.first/p.tokens*p.n+n] = peak
		}
	}
}

// backward adds to the gradients of x and w, either of which may be nil.
func (p *cutPass) backward(dx, dw []float32) {
	logits, head := p.buffers()
	defer p.free(logits)
	defer p.free(head)
	var capped []float32
	if p.cut.SoftCap > 0 {
		capped = p.workspace(p.rows * p.tokens)
		defer p.free(capped)
	}
	live := p.workspace(p.n)
	defer p.free(live)
	p.thresholds(live)
	sx, sw := p.summed(dx, p.rows, p.n), p.summedHead(dw)
	defer sx.free()
	defer sw.free()
	headToo := dw != nil && !p.cut.Head // skipped blocks still add to the head's gradient
	for first := 0; first < p.v; first += p.tokens {
		wide := min(p.tokens, p.v-first)
		var w []float32 // gathered once it is needed
		for row := 0; row < p.n; {
			rows, skip := p.stretch(live, first, row)
			if !skip || headToo {
				if w == nil {
					w = p.head(head, first, wide)
				}
				k := cutTile{p: p, row: row, rows: rows, first: first, wide: wide, logits: logits[:rows*wide], capped: capped, head: w}
				k.multiply()
				cutLoop.Run(par.Pieces(rows, softmaxRows), k, softmaxGrad)
				if dx != nil && !skip {
					sx.add(p, precision.GradInput, row, matmul.Args{M: rows, N: p.d, K: wide, A: k.logits, B: w})
				}
				if dw != nil {
					sw.add(p, precision.GradWeight, first, matmul.Args{M: wide, N: p.d, K: rows, A: k.logits, TransA: true, B: p.x.Data[row*p.d : (row+rows)*p.d]})
				}
			}
			row += rows
		}
		if w != nil {
			p.scatter(&sw, dw, first, wide)
		}
	}
}

// stretch is the number of rows from row on, at most those of a tile, whose
// blocks are all skipped, or are not.
func (p *cutPass) stretch(live []float32, first, row int) (rows int, skip bool) {
	for rows < p.rows && row+rows < p.n {
		block := min(p.block, p.rows-rows, p.n-row-rows)
		s := p.skips(live, first, row+rows, block)
		if rows > 0 && s != skip {
			break
		}
		p.cut.tiles.Add(1)
		if skip = s; skip {
			p.cut.skipped.Add(1)
		}
		rows += block
	}
	return rows, skip
}

// thresholds are the logits from which a row's softmax reaches the filter.
func (p *cutPass) thresholds(live []float32) {
	if p.peaks == nil {
		return
	}
	for i := range live {
		live[i] = float32(math.Log(p.cut.Filter) + math.Log(float64(p.sum[i])) + float64(p.max[i]))
	}
}

// skips tells whether a tile's gradient is negligible: no row's softmax reaches
// the filter in it, and no row's target lies in it. A value that is no number
// is not negligible.
func (p *cutPass) skips(live []float32, first, row, rows int) bool {
	if p.peaks == nil {
		return false
	}
	j := first / p.tokens
	peaks := p.peaks[j*p.n : (j+1)*p.n]
	for i := row; i < row+rows; i++ {
		if p.targets[i] != Ignore && (!(peaks[i] < live[i]) || p.placeOf(p.targets[i])/p.tokens == j) {
			return false
		}
	}
	return true
}

// softmaxGrad turns a piece of the tile's rows into scale·(softmax - onehot),
// times what the soft cap passes on.
func softmaxGrad(k *cutTile, i int) {
	p := k.p
	lo, hi := par.Bounds(i, softmaxRows, k.rows)
	for r := lo; r < hi; r++ {
		n, row := k.row+r, k.logits[r*k.wide:(r+1)*k.wide]
		target := p.targets[n]
		if target == Ignore {
			clear(row)
			continue
		}
		p.softCap(row)
		var capped []float32
		if k.capped != nil {
			capped = k.capped[r*k.wide : (r+1)*k.wide]
			copy(capped, row)
		}
		g := p.scale
		if p.cut.Z > 0 {
			g *= float32(1 + 2*p.cut.Z*(math.Log(float64(p.sum[n]))+float64(p.max[n])))
		}
		simd.ExpSum(row, row, p.max[n])
		simd.Scale(row, g/p.sum[n])
		if at := p.placeOf(target) - k.first; at >= 0 && at < k.wide {
			row[at] -= p.scale
		}
		for v, z := range capped {
			z /= float32(p.cut.SoftCap)
			row[v] *= 1 - z*z
		}
	}
}

// tileSum adds products of tiles to a gradient: at once, or with Kahan's
// compensation for the rounding of every addition.
type tileSum struct {
	to       []float32 // [all, d] the gradient, or the tile's rows of it
	lost     []float32 // of to: what rounding has taken so far; nil: plain sums
	product  []float32 // of one tile, when compensating
	gathered bool      // to is of one tile
	fresh    bool      // to holds nothing yet
	pass     *cutPass
}

// summed prepares the sum of a gradient of all rows from tiles of so many.
func (p *cutPass) summed(to []float32, tile, all int) tileSum {
	s := tileSum{to: to, pass: p}
	if to != nil && p.cut.Kahan {
		s.lost, s.product = p.workspace(all*p.d), p.workspace(tile*p.d)
		clear(s.lost)
	}
	return s
}

// summedHead prepares the sum of the head's gradient, of one tile when the
// tokens of a tile do not lie side by side.
func (p *cutPass) summedHead(dw []float32) tileSum {
	if dw == nil || !p.sorted {
		return p.summed(dw, p.tokens, p.v)
	}
	s := p.summed(p.workspace(p.tokens*p.d), p.tokens, p.tokens)
	s.gathered, s.fresh = true, true
	return s
}

func (s *tileSum) free() {
	s.pass.free(s.lost)
	s.pass.free(s.product)
	if s.gathered {
		s.pass.free(s.to)
	}
}

// add adds a product to the rows from first on.
func (s *tileSum) add(p *cutPass, pass precision.Pass, first int, a matmul.Args) {
	if s.gathered {
		first = 0
	}
	to := s.to[first*p.d : (first+a.M)*p.d]
	if s.lost == nil {
		a.C, a.Beta = to, keep(s.fresh)
		s.fresh = false
		p.tape.Policy.Mul(pass, a)
		return
	}
	if s.fresh {
		clear(s.to)
		clear(s.lost)
		s.fresh = false
	}
	a.C = s.product[:a.M*p.d]
	p.tape.Policy.Mul(pass, a)
	lost := s.lost[first*p.d:]
	for i, x := range a.C {
		y := x - lost[i]
		sum := to[i] + y
		lost[i] = (sum - to[i]) - y
		to[i] = sum
	}
}

// scatter adds the gradient of a tile's tokens to theirs.
func (p *cutPass) scatter(s *tileSum, dw []float32, first, wide int) {
	if !s.gathered {
		return
	}
	for i, v := range p.order[first : first+wide] {
		simd.AddTo(dw[int(v)*p.d:(int(v)+1)*p.d], s.to[i*p.d:(i+1)*p.d])
	}
	s.fresh = true
}
