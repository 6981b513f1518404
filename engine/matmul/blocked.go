package matmul

import (
	"math"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// How a large product is computed
//
// The kernel keeps a tile of C in registers while k runs over a block of at
// most blockUnits. B is first laid out so that the kernel reads it in order:
// for each block of k, panels as wide as the tile. All cores do that for a
// slab of B at a time, small enough for the outer cache. Then C is cut into
// tasks of whole tiles. A task runs its rows of A past its panels: the rows
// stay in the inner caches, a panel comes in once per task. Float32 rows are
// read where they lie, but for a few strides; rounded to bf16, they are laid
// out once per task.
//
// Every element of C is the same sequence of operations whatever the slabs and
// tasks: a sum over each block of k, in order, added up in order.
const (
	blockUnits = 512     // along k; a panel of 32 columns is 64 KiB
	slabUnits  = 1 << 20 // of B at once: 4 MiB
)

// blocks says how K values are cut into blocks, which depends on nothing else.
type blocks struct {
	k, per int
	size   int // values in every block but the last
	count  int
}

func blocksOf(k, per int) blocks {
	units := (k + per - 1) / per
	n := max(1, par.Pieces(units, blockUnits))
	size := max(8, (par.Pieces(units, n)+7)&^7)
	return blocks{k: k, per: per, size: size * per, count: max(1, par.Pieces(units, size))}
}

// bounds is the range of values of block i; units its length in units.
func (b *blocks) bounds(i int) (lo, hi int) { return par.Bounds(i, b.size, b.k) }

func (b *blocks) units(i int) int {
	lo, hi := b.bounds(i)
	return (hi - lo + b.per - 1) / b.per
}

// slab is a part of B laid out for the kernel: blocks first … last-1 of k,
// columns lo … hi-1. Each block is a row of panels.
type slab struct {
	first, last int // blocks of k
	lo, hi      int // columns
	units       []float32
}

// panel is panel p of block i; cols is the kernel's width.
func (s *slab) panel(bl *blocks, i, p, cols int) []float32 {
	full := bl.size / bl.per
	panels := par.Pieces(s.hi-s.lo, cols)
	u := bl.units(i)
	return s.units[((i-s.first)*full*panels+p*u)*cols:][:u*cols]
}

// blocked is a product under way.
type blocked struct {
	Args
	gemm   *simd.Gemm
	blocks blocks
	slab   slab
	direct bool // the kernel reads A where it is

	taskRows, taskPanels int
	rowTasks, tasks      int
}

var (
	layLoop  par.Loop[blocked]
	taskLoop par.Loop[blocked]
)

func kernels(f Format) *simd.Gemm {
	if f == BF16 {
		return simd.GemmBF16
	}
	return simd.GemmF32
}

func (a *Args) mulBlocked(parallel bool) {
	g := kernels(a.Format)
	j := blocked{Args: *a, gemm: g, blocks: blocksOf(a.K, g.Per)}
	j.direct = a.Format == F32 && a.LDA%badStride != 0
	if a.Packed != nil {
		j.slab = a.Packed.slab
		j.cut()
		runTasks(&j, parallel)
		return
	}
	cols := g.Cols
	full := j.blocks.size / g.Per
	width := min(a.N, max(cols, slabUnits/full/cols*cols)) // columns of a slab
	widest := width
	if a.TransA { // the slab's rows of A are to stay near as well, for all its columns
		widest = max(width, a.M)
	}
	depth := min(j.blocks.count, max(1, slabUnits/full/widest)) // its blocks of k
	buf := memory.Default.Dirty(memory.Workspace, depth*full*par.Pieces(width, cols)*cols)
	for lo := 0; lo < a.N; lo += width {
		for first := 0; first < j.blocks.count; first += depth {
			j.slab = slab{first, min(first+depth, j.blocks.count), lo, min(lo+width, a.N), buf}
			j.cut()
			layOut(&j, parallel)
			runTasks(&j, parallel)
		}
	}
	memory.Default.Free(memory.Workspace, buf)
}

// badStride: rows of A this many floats apart begin at the same few places of
// the caches, and those that the kernel reads together drive each other out.
const badStride = 1024

// cut chooses the tasks for the slab: blocks of C about as high as they are
// wide, so that what a task reads is used often once it is near, and enough of
// them to keep all cores busy to the end.
func (j *blocked) cut() {
	rows, cols := j.gemm.Rows, j.gemm.Cols
	width := j.slab.hi - j.slab.lo
	panels := par.Pieces(width, cols)
	side := math.Sqrt(float64(j.M) * float64(width) / float64(tasksPerCore*par.Width()))
	side = min(side, maxTaskRows)
	high := side
	if !j.direct { // laying out A anew in each column of tasks is a cost
		high = side / 2
	}
	j.taskRows = evenly(par.Pieces(j.M, rows), high/float64(rows)) * rows
	j.taskPanels = evenly(panels, side*side/float64(j.taskRows*cols))
	j.rowTasks = par.Pieces(j.M, j.taskRows)
	j.tasks = j.rowTasks * par.Pieces(panels, j.taskPanels)
}

const (
	tasksPerCore = 16
	maxTaskRows  = 192
)

// evenly is the size of the parts when n is cut in equal parts of about want.
func evenly(n int, want float64) int {
	parts := max(1, int(float64(n)/max(1, want)+0.5))
	return par.Pieces(n, parts)
}

func layOut(j *blocked, parallel bool) {
	n := (j.slab.last - j.slab.first) * par.Pieces(j.slab.hi-j.slab.lo, j.gemm.Cols)
	if parallel {
		layLoop.Run(n, *j, layPiece)
		return
	}
	for i := range n {
		layPiece(j, i)
	}
}

// layPiece lays out one panel of one block.
func layPiece(j *blocked, i int) {
	cols := j.gemm.Cols
	panels := par.Pieces(j.slab.hi-j.slab.lo, cols)
	block, p := j.slab.first+i/panels, i%panels
	k0, k1 := j.blocks.bounds(block)
	if k0 == k1 {
		return
	}
	c0 := j.slab.lo + p*cols
	n := min(cols, j.slab.hi-c0)
	dst := j.slab.panel(&j.blocks, block, p, cols)
	if j.TransB {
		j.gemm.Turn(n, k1-k0, j.B[c0*j.LDB+k0:], j.LDB, dst, cols)
	} else {
		j.gemm.Across(k1-k0, n, j.B[k0*j.LDB+c0:], j.LDB, dst, cols)
	}
}

func runTasks(j *blocked, parallel bool) {
	if parallel {
		taskLoop.Run(j.tasks, *j, task)
		return
	}
	for i := range j.tasks {
		task(j, i)
	}
}

// task computes one block of C as far as the slab goes.
func task(j *blocked, i int) {
	g := j.gemm
	r0, r1 := par.Bounds(i%j.rowTasks, j.taskRows, j.M)
	panels := par.Pieces(j.slab.hi-j.slab.lo, g.Cols)
	p0, p1 := par.Bounds(i/j.rowTasks, j.taskPanels, panels)
	rows := r1 - r0
	full := j.blocks.size / g.Per
	var buf []float32
	var rsa, csa int
	switch {
	case j.direct && j.TransA:
		rsa, csa = 1, j.LDA
	case j.direct:
		rsa, csa = j.LDA, 1
	case j.TransA:
		rsa, csa = 1, (rows+15)&^15
		buf = memory.Default.Dirty(memory.Workspace, full*csa)
	default:
		rsa, csa = (full+15)&^15|16, 1 // an odd number of cache lines
		buf = memory.Default.Dirty(memory.Workspace, rows*rsa)
	}
	for block := j.slab.first; block < j.slab.last; block++ {
		k0, k1 := j.blocks.bounds(block)
		a := buf
		switch {
		case k0 == k1:
		case j.direct && j.TransA:
			a = j.A[k0*j.LDA+r0:]
		case j.direct:
			a = j.A[r0*j.LDA+k0:]
		case j.TransA:
			g.Across(k1-k0, rows, j.A[k0*j.LDA+r0:], j.LDA, buf, csa)
		default:
			g.Along(rows, k1-k0, j.A[r0*j.LDA+k0:], j.LDA, buf, rsa)
		}
		beta := j.Beta
		if block > 0 {
			beta = 1
		}
		for p := p0; p < p1; p++ {
			c0 := j.slab.lo + p*g.Cols
			n := min(g.Cols, j.slab.hi-c0)
			g.Tile(rows, n, j.blocks.units(block), a, rsa, csa, j.slab.panel(&j.blocks, block, p, g.Cols), g.Cols,
				j.C[r0*j.LDC+c0:], j.LDC, j.Alpha, beta)
		}
	}
	if buf != nil {
		memory.Default.Free(memory.Workspace, buf)
	}
	if j.slab.last == j.blocks.count {
		c0 := j.slab.lo + p0*g.Cols
		j.finish(r0, r1, c0, min(j.slab.lo+p1*g.Cols, j.slab.hi))
	}
}

// finish does what follows the product, for rows r0 … r1-1 and columns c0 … c1-1.
func (a *Args) finish(r0, r1, c0, c1 int) {
	if a.Bias != nil || a.Residual != nil {
		var bias, residual []float32
		if a.Bias != nil {
			bias = a.Bias[c0:c1]
		}
		if a.Residual != nil {
			residual = a.Residual[r0*a.LDR+c0:]
		}
		simd.Finish(r1-r0, c1-c0, a.C[r0*a.LDC+c0:], a.LDC, bias, residual, a.LDR)
	}
	if a.Act != Identity {
		for r := r0; r < r1; r++ {
			a.Act.apply(a.C[r*a.LDC+c0 : r*a.LDC+c1])
		}
	}
}

// Packed is a B matrix laid out for the kernels, for weights that are used
// many times between changes.
type Packed struct {
	K, N   int
	Format Format
	slab   slab
}

// PackB lays out B, stored [K,N], or [N,K] with trans; ldb 0 means tight. The
// buffer comes from memory.Default as Workspace; Free gives it back. It holds
// for the simd level in use.
func PackB(f Format, k, n int, b []float32, ldb int, trans bool) *Packed {
	a := Args{N: n, K: k, B: b, LDB: ldb, TransB: trans, Format: f}
	a.check()
	g := kernels(f)
	j := blocked{Args: a, gemm: g, blocks: blocksOf(k, g.Per)}
	size := j.blocks.count * (j.blocks.size / g.Per) * par.Pieces(n, g.Cols) * g.Cols
	j.slab = slab{0, j.blocks.count, 0, n, memory.Default.Dirty(memory.Workspace, size)}
	layOut(&j, k*n >= parallelFrom)
	return &Packed{K: k, N: n, Format: f, slab: j.slab}
}

// Free gives the buffer back; p must not be used afterwards.
func (p *Packed) Free() {
	memory.Default.Free(memory.Workspace, p.slab.units)
	*p = Packed{}
}
