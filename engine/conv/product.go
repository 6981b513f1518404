package conv

import (
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

const (
	// panelFloats bounds a panel and the tile of results made from it: 256 KB,
	// which leaves room in a second-level cache for the weights passing by.
	panelFloats = 1 << 16

	// depthGoal is the length of sum that a panel aims to carry: enough to make
	// loading and storing results cheap, and short enough for panels to have
	// many rows, over which loading the weights is spread.
	depthGoal = 768

	// tileGoal is the number of tiles that positions are cut into unless tiles
	// would become too small by that.
	tileGoal = 64

	// Below fewChannels a panel of columns is quicker to gather than one of rows.
	fewChannels = 8

	// Up to fewResults, sums along rows are quicker than a kernel that has most
	// of its columns empty.
	fewResults = 6
)

// kernelFor is the matrix kernel for a format. The kernel for pairs of bf16
// needs an even number of channels, so that no pair straddles taps. Otherwise
// operands are rounded to bf16 and multiplied as float32: the same products.
func kernelFor(f matmul.Format, channels int) (g *simd.Gemm, round bool) {
	if f == matmul.BF16 {
		if simd.GemmBF16.Per == 2 && channels%2 == 0 {
			return simd.GemmBF16, false
		}
		return simd.GemmF32, true
	}
	return simd.GemmF32, false
}

// plan cuts a walk's taps into chunks and its positions into tiles, so that the
// panel of a tile and its results, out for each position, fit panelFloats.
func (w *walk) plan(out, kernelRows int) (chunk, rows int) {
	taps := max(w.taps(), 1)
	pieces := par.Pieces(taps, max(1, depthGoal/w.group))
	chunk = par.Pieces(taps, pieces) // of even size
	rows = min(panelFloats/(chunk*w.group+out), max(w.positions()/tileGoal, 4*kernelRows))
	return chunk, max(rows/kernelRows, 1) * kernelRows
}

// product computes, for every position of a walk, the sum over taps and
// channels of what the position reads times the weights.
type product struct {
	phase
	gemm   *simd.Gemm
	round  bool // to bf16, what is read and the weights
	groups int
	out    int  // results of one group
	chunk  int  // taps that a panel carries
	rows   int  // positions of a tile
	dots   bool // multiply rows by rows: a few results leave the kernel's columns empty
	cols   int  // results of a block

	w      []float32 // as the caller has them
	packed []float32 // by group, chunk and block of results
	y      []float32 // [batch, places, groups·out]
	add    bool
	bias   []float32
	act    matmul.Activation
}

var packLoop, productLoop par.Loop[product]

func (c Conv) forward(y, x, w, bias []float32, act matmul.Activation) {
	p := product{w: w, groups: c.Groups, out: c.Out / c.Groups, y: y, bias: bias, act: act, phase: c.forwardPhase(x)}
	p.run(c.Format)
}

func (c Conv) inputGrad(dx, dy, w, bias []float32, act matmul.Activation, add bool) {
	p := product{w: w, groups: c.Groups, out: c.In / c.Groups, y: dx, add: add, bias: bias, act: act}
	for i := range c.backwardPhases() {
		p.phase = c.backwardPhase(dy, i)
		p.run(c.Format)
	}
}

func (p product) run(f matmul.Format) {
	p.gemm, p.round = kernelFor(f, p.group)
	p.cols = p.gemm.Cols
	if p.out <= fewResults && p.group >= fewChannels {
		p.gemm, p.round = simd.GemmF32, f != matmul.F32
		p.dots, p.cols = true, p.out
	}
	p.chunk, p.rows = p.plan(p.groups*p.out, p.gemm.Rows)
	p.packed = memory.Default.Dirty(memory.Workspace, p.groups*p.taps()*p.blocks()*p.unitsPerTap()*p.cols)
	packLoop.Run(p.groups*p.chunks()*p.blocks(), p, (*product).pack)
	productLoop.Run(par.Pieces(p.positions(), p.rows), p, (*product).tile)
	memory.Default.Free(memory.Workspace, p.packed)
}

// chunks is the number of panels along a sum: none if no tap meets the positions.
func (p *product) chunks() int { return par.Pieces(p.taps(), p.chunk) }

// blocks is the number of blocks of a group's results.
func (p *product) blocks() int { return par.Pieces(p.out, p.cols) }

func (p *product) unitsPerTap() int { return p.group / p.gemm.Per }

// block is the packed weights of block j of group g for chunk i: a row of cols
// units for every unit along the sum, or turned, with dots.
func (p *product) block(g, i, j int) []float32 {
	lo, hi := par.Bounds(i, p.chunk, p.taps())
	perTap := p.unitsPerTap() * p.cols
	return p.packed[((g*p.taps()+lo)*p.blocks()+j*(hi-lo))*perTap:][:(hi-lo)*perTap]
}

// pack lays out one block of the weights.
func (p *product) pack(piece int) {
	g, i, j := piece/(p.chunks()*p.blocks()), piece/p.blocks()%p.chunks(), piece%p.blocks()
	dst := p.block(g, i, j)
	lo, hi := par.Bounds(i, p.chunk, p.taps())
	if p.backward {
		p.packBackward(dst, g, j*p.cols, lo, hi)
	} else {
		p.packForward(dst, g, j*p.cols, lo, hi)
	}
	if p.round {
		simd.RoundBF16(dst, dst)
	}
}

// packForward lays out weights [groups, out, taps, group] for results first,
// first+1, … of group g and taps lo … hi-1.
func (p *product) packForward(dst []float32, g, first, lo, hi int) {
	ld, depth := p.taps()*p.group, (hi-lo)*p.group
	src := p.w[(g*p.out+first)*ld+lo*p.group:]
	if p.dots {
		copyRows(dst, depth, src, ld, p.out, depth)
		return
	}
	p.gemm.Turn(p.fill(dst, first), depth, src, ld, dst, p.cols)
}

// packBackward does the same from weights [groups, group, all taps, out].
func (p *product) packBackward(dst []float32, g, first, lo, hi int) {
	ld, depth := p.kernel[0]*p.kernel[1]*p.kernel[2]*p.out, (hi-lo)*p.group
	n := p.fill(dst, first)
	for t := lo; t < hi; t++ {
		src := p.w[g*p.group*ld+p.tapOf(t)*p.out+first:]
		switch {
		case p.dots:
			simd.GemmF32.Turn(p.group, p.out, src, ld, dst[(t-lo)*p.group:], depth)
		case p.gemm.Per == 1:
			copyRows(dst[(t-lo)*p.group*p.cols:], p.cols, src, ld, p.group, n)
		default:
			p.gemm.Across(p.group, n, src, ld, dst[(t-lo)*p.unitsPerTap()*p.cols:], p.cols)
		}
	}
}

// fill is the number of results in the block that begins with first. What will
// stay empty is cleared: denormal numbers there could slow the kernel down.
func (p *product) fill(dst []float32, first int) int {
	if p.out-first < p.cols {
		clear(dst)
	}
	return min(p.cols, p.out-first)
}

// tile computes the results of one tile of positions.
func (p *product) tile(i int) {
	lo, hi := par.Bounds(i, p.rows, p.positions())
	n := hi - lo
	ldc := p.groups * p.out
	var c []float32
	beta := float32(0)
	if p.spread {
		c = memory.Default.Dirty(memory.Workspace, p.rows*ldc)[:n*ldc]
	} else {
		c = p.y[lo*ldc : hi*ldc]
		beta = keep(p.add)
	}

	s := newPanels(&p.walk, p.gemm, p.round, p.chunk, p.rows)
	for g := range p.groups {
		for k := range p.chunks() {
			a, rsa, csa, depth := s.get(lo, hi, k, g)
			b := beta
			if k > 0 {
				b = 1
			}
			if p.dots {
				simd.Dots(n, p.out, depth, a, rsa, p.block(g, k, 0), depth, c[g*p.out:], ldc, 1, b)
				continue
			}
			for j := range p.blocks() {
				first := j * p.cols
				p.gemm.Tile(n, min(p.cols, p.out-first), depth, a, rsa, csa, p.block(g, k, j), p.cols, c[g*p.out+first:], ldc, 1, b)
			}
		}
	}
	s.free()
	if p.chunks() == 0 && beta == 0 {
		clear(c)
	}

	finish(c, n, ldc, ldc, p.bias, p.act)
	if p.spread {
		p.scatter(c, lo, hi)
		memory.Default.Free(memory.Workspace, c)
	}
}

// scatter moves the results c of positions lo … hi-1 to their places.
func (p *product) scatter(c []float32, lo, hi int) {
	n := p.groups * p.out
	for q := lo; q < hi; {
		r := p.rowAt(q, hi)
		for t := r.from; t < r.to; t++ {
			dst, src := p.y[p.placeOf(r, t)*n:][:n], c[:n]
			if p.add {
				simd.AddTo(dst, src)
			} else {
				copy(dst, src)
			}
			c = c[n:]
		}
		q += r.to - r.from
	}
}

// finish adds bias to rows of n results, ld apart, and applies act.
func finish(c []float32, rows, n, ld int, bias []float32, act matmul.Activation) {
	if bias != nil {
		simd.Finish(rows, n, c, ld, bias, nil, 0)
	}
	var f func(dst, x []float32)
	switch act {
	case matmul.ReLU:
		f = simd.ReLU
	case matmul.SiLU:
		f = simd.SiLU
	case matmul.GELUTanh:
		f = simd.GELUTanh
	case matmul.GELUErf:
		f = simd.GELUErf
	default:
		return
	}
	if ld == n {
		f(c[:rows*n], c)
		return
	}
	for i := range rows {
		f(c[i*ld:][:n], c[i*ld:])
	}
}
