package matmul

import (
	"fmt"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// Products of rows that lie anywhere
//
// A mixture of experts multiplies each row by the matrix of its group, and the
// rows of a group are strewn over the batch. The products here read rows where
// they lie while they lay out their tiles, and write them where they belong
// when a tile is done. So there is no copy of the rows in the order of their
// groups: only lists of indices are in that order.

// Rows are rows of a matrix in any order: row i of a product is row Index[i] of
// Data, or row i where Index is nil. Rows begin LD floats apart.
type Rows struct {
	Data  []float32
	LD    int
	Index []int32
}

// at is where row i begins.
func (r *Rows) at(i int) []float32 {
	if r.Index != nil {
		i = int(r.Index[i])
	}
	return r.Data[i*r.LD:]
}

// Scattered is the product of rows with the matrices of their groups,
//
//	C[i] = A[i]·op(B_g)  for Starts[g] ≤ i < Starts[g+1],
//
// where op(B_g) is [K,N], and A and C are [rows, K] and [rows, N].
type Scattered struct {
	Starts []int32 // for each group its first row; and the number of rows
	N, K   int
	A      Rows
	B      []float32 // one after the other, [K,N], or [N,K] with TransB
	TransB bool
	C      Rows

	// Weights, if not nil, are factors on the rows: that of row i is
	// Weights[Weight[i]]. SumScattered alone takes them.
	Weights []float32
	Weight  []int32

	Format Format
}

// scattered is such a product under way.
type scattered struct {
	Scattered
	gemm     *simd.Gemm
	blocks   blocks
	width    int // columns of a task
	colTasks int

	// Of SumScattered.
	rows     int // of C
	high     int // and of a task
	residual []float32
	add      bool
}

const (
	scatterUnits = 128 << 10 // of B that a task lays out, about
	scatterRows  = 48        // of A that it takes at a time: whole tiles
	scatterTask  = 384       // rows of a group in a task
	sumTask      = 2048      // rows of C in a task of SumScattered, at most
	sumLeast     = 128       // and at least
)

func (s Scattered) job(width int) scattered {
	if len(s.Starts) < 2 || len(s.B) < (len(s.Starts)-1)*s.N*s.K {
		panic(fmt.Sprintf("matmul: scattered: %d groups of [%d,%d] in %d elements", len(s.Starts)-1, s.K, s.N, len(s.B)))
	}
	g := kernels(s.Format)
	j := scattered{Scattered: s, gemm: g, blocks: blocksOf(s.K, g.Per)}
	fit := scatterUnits / max(1, j.units()) / g.Cols * g.Cols
	j.width = max(g.Cols, min(fit, width))
	j.colTasks = par.Pieces(s.N, j.width)
	return j
}

// units is the length of a row of A in units.
func (j *scattered) units() int { return (j.K + j.gemm.Per - 1) / j.gemm.Per }

var (
	scatterLoop par.Loop[scattered]
	sumLoop     par.Loop[scattered]
)

// MulScattered sets rows of C, no two of them the same.
func MulScattered(s Scattered) {
	j := s.job(s.N)
	tasks := 0
	for g := range len(s.Starts) - 1 {
		tasks += par.Pieces(int(s.Starts[g+1]-s.Starts[g]), scatterTask)
	}
	scatterLoop.Run(tasks*j.colTasks, j, func(j *scattered, i int) {
		c0, c1 := par.Bounds(i%j.colTasks, j.width, j.N)
		i /= j.colTasks
		g := 0
		for {
			n := par.Pieces(int(j.Starts[g+1]-j.Starts[g]), scatterTask)
			if i < n {
				break
			}
			i -= n
			g++
		}
		lo, hi := par.Bounds(i, scatterTask, int(j.Starts[g+1]-j.Starts[g]))
		first := int(j.Starts[g])
		j.multiply(g, first+lo, first+hi, c0, c1, false)
	})
}

// SumScattered sets C, of the given number of tight rows, to sums of rows with
// the same index in the order of their groups,
//
//	C[r] = Residual[r] + Σ w_i·A[i]·op(B_g)  over all i with C.Index[i] = r,
//
// or adds the sums to what C holds. residual [rows, N] may be nil. Within a
// group C.Index must ascend.
func SumScattered(s Scattered, rows int, residual []float32, add bool) {
	j := s.job(s.N)
	j.rows, j.residual, j.add = rows, residual, add
	j.spread()
	// A task owns a part of C: no other adds to it, and it meets the groups in
	// their order. So every element is the same sequence of operations whatever
	// the tasks.
	sumLoop.Run(par.Pieces(rows, j.high)*j.colTasks, j, func(j *scattered, i int) {
		c0, c1 := par.Bounds(i%j.colTasks, j.width, j.N)
		r0, r1 := par.Bounds(i/j.colTasks, j.high, j.rows)
		if !j.add {
			for r := r0; r < r1; r++ {
				c := j.C.Data[r*j.C.LD:]
				if j.residual == nil {
					clear(c[c0:c1])
				} else {
					copy(c[c0:c1], j.residual[r*j.N:][c0:c1])
				}
			}
		}
		for g := range len(j.Starts) - 1 {
			index := j.C.Index[:j.Starts[g+1]]
			lo := firstFrom(index, int(j.Starts[g]), r0)
			j.multiply(g, lo, firstFrom(index, lo, r1), c0, c1, true)
		}
	})
}

// spread cuts C into tasks for all cores, and no more: every task goes through A,
// and tasks of the same columns lay out the same of B.
func (j *scattered) spread() {
	high := max(1, par.Pieces(j.rows, sumTask))
	panels := par.Pieces(j.N, j.gemm.Cols)
	parts := min(panels, max(j.colTasks, par.Pieces(par.Width(), high)))
	j.width = par.Pieces(panels, parts) * j.gemm.Cols
	j.colTasks = par.Pieces(j.N, j.width)
	high = max(high, par.Pieces(par.Width(), j.colTasks))
	j.high = max(sumLeast, par.Pieces(j.rows, high))
}

// firstFrom is the first place at or after lo whose index is at least row.
func firstFrom(index []int32, lo, row int) int {
	hi := len(index)
	for lo < hi {
		if m := (lo + hi) / 2; int(index[m]) < row {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// multiply computes columns c0 … c1-1 of rows lo … hi-1, which are of group g,
// and stores them or adds them to C.
func (j *scattered) multiply(g, lo, hi, c0, c1 int, sum bool) {
	if lo >= hi {
		return
	}
	cols := j.gemm.Cols
	panels := par.Pieces(c1-c0, cols)
	b := j.layOut(g, c0, c1)
	if j.Format == F32 && simd.HasGather() && (j.A.Index != nil || j.C.Index != nil) {
		for r := lo; r < hi; r += simd.GatherTile {
			j.tiles(r, min(simd.GatherTile, hi-r), c0, c1, &b, sum)
		}
		memory.Default.Free(memory.Workspace, b.slab.units)
		return
	}
	rsa := (j.units()+15)&^15 | 16 // an odd number of cache lines
	direct := j.A.Index == nil && j.Format == F32 && j.A.LD%badStride != 0
	var laid, tile []float32
	if !direct {
		laid = memory.Default.Dirty(memory.Workspace, scatterRows*rsa)
	}
	if sum || j.C.Index != nil {
		tile = memory.Default.Dirty(memory.Workspace, scatterRows*panels*cols)
	}
	for r := lo; r < hi; r += scatterRows {
		n := min(scatterRows, hi-r)
		a, step := laid, rsa
		if direct {
			a, step = j.A.at(r), j.A.LD
		} else {
			j.gather(r, n, laid, rsa)
		}
		c, ldc := tile, panels*cols
		if tile == nil {
			c, ldc = j.C.Data[r*j.C.LD+c0:], j.C.LD
		}
		for k := range j.blocks.count {
			from, _ := j.blocks.bounds(k)
			for p := range panels {
				width := min(cols, c1-c0-p*cols)
				j.gemm.Tile(n, width, j.blocks.units(k), a[from/j.gemm.Per:], step, 1, b.slab.panel(&j.blocks, k, p, cols), cols,
					c[p*cols:], ldc, 1, keep(k == 0))
			}
		}
		if tile != nil {
			j.store(r, n, c0, c1, tile, ldc, sum)
		}
	}
	memory.Default.Free(memory.Workspace, b.slab.units)
	if laid != nil {
		memory.Default.Free(memory.Workspace, laid)
	}
	if tile != nil {
		memory.Default.Free(memory.Workspace, tile)
	}
}

// tiles computes rows r … r+n-1 by kernels that find rows of A and of C by their
// indices: nothing but the lists of indices is padded to whole tiles.
func (j *scattered) tiles(r, n, c0, c1 int, b *blocked, sum bool) {
	var own [2][simd.GatherTile]int32
	ai, ci := indices(j.A.Index, r, n, &own[0]), indices(j.C.Index, r, n, &own[1])
	var w [simd.GatherTile]float32
	for i := range w[:n] {
		w[i] = 1
		if j.Weights != nil {
			w[i] = j.Weights[j.Weight[r+i]]
		}
	}
	for k := range j.blocks.count {
		from, to := j.blocks.bounds(k)
		panels := b.slab.units[from*par.Pieces(c1-c0, j.gemm.Cols)*j.gemm.Cols:] // of this block
		simd.GatherRows(n, c1-c0, to-from, j.A.Data[from:], ai, j.A.LD, panels, j.C.Data[c0:], ci, j.C.LD, &w, sum || k > 0)
	}
}

// indices are those of rows r … r+n-1, and others to fill a tile: what follows in
// the list, or where that ends the last one.
func indices(index []int32, r, n int, own *[simd.GatherTile]int32) *[simd.GatherTile]int32 {
	if r+len(own) <= len(index) {
		return (*[simd.GatherTile]int32)(index[r:])
	}
	for i := range own {
		row := r + min(i, n-1)
		if own[i] = int32(row); index != nil {
			own[i] = index[row]
		}
	}
	return own
}

// keep is the factor on what a tile of C holds already.
func keep(first bool) float32 {
	if first {
		return 0
	}
	return 1
}

// layOut lays out columns c0 … c1-1 of the matrix of group g.
func (j *scattered) layOut(g, c0, c1 int) blocked {
	a := Args{N: j.N, K: j.K, B: j.B[g*j.N*j.K:][:j.N*j.K], LDB: j.N, TransB: j.TransB, Format: j.Format}
	if j.TransB {
		a.LDB = j.K
	}
	panels := par.Pieces(c1-c0, j.gemm.Cols)
	b := blocked{Args: a, gemm: j.gemm, blocks: j.blocks}
	size := j.blocks.count * (j.blocks.size / j.gemm.Per) * panels * j.gemm.Cols
	b.slab = slab{0, j.blocks.count, c0, c1, memory.Default.Dirty(memory.Workspace, size)}
	for i := range j.blocks.count * panels {
		layPiece(&b, i)
	}
	return b
}

// gather lays out rows r … r+n-1 of A.
func (j *scattered) gather(r, n int, dst []float32, ldd int) {
	if j.A.Index == nil {
		j.gemm.Along(n, j.K, j.A.at(r), j.A.LD, dst, ldd)
		return
	}
	for i := range n {
		j.gemm.Along(1, j.K, j.A.at(r+i), j.K, dst[i*ldd:], ldd)
	}
}

// store writes or adds a tile to rows r … r+n-1 of C.
func (j *scattered) store(r, n, c0, c1 int, tile []float32, ld int, sum bool) {
	for i := range n {
		y, x := j.C.at(r + i)[c0:c1], tile[i*ld:][:c1-c0]
		switch {
		case !sum:
			copy(y, x)
		case j.Weights == nil:
			simd.AddTo(y, x)
		default:
			simd.Axpy(j.Weights[j.Weight[r+i]], x, y)
		}
	}
}

// ScatteredGrad is the gradient of the matrices of groups,
//
//	C_g = Σ w_i·A[i]ᵀ·B[i]  over Starts[g] ≤ i < Starts[g+1],
//
// where A is [rows, M], B is [rows, N], and C_g [M,N] are one after the other.
type ScatteredGrad struct {
	Starts  []int32
	M, N    int
	A, B    Rows
	Weights []float32 // nil: all 1; else w_i is Weights[Weight[i]]
	Weight  []int32
	C       []float32
	Add     bool // to what C holds, instead of setting it
	Format  Format
}

const (
	gradSide = 264 // rows and columns of C in a task, about: whole tiles
	gradDeep = 256 // rows of A and B at a time
)

type scatteredGrad struct {
	ScatteredGrad
	gemm               *simd.Gemm
	high, wide         int // rows and columns of a task
	rowTasks, colTasks int
}

var gradLoop par.Loop[scatteredGrad]

// GradScattered computes the matrices of all groups.
func GradScattered(s ScatteredGrad) {
	groups := len(s.Starts) - 1
	if groups < 1 || len(s.C) < groups*s.M*s.N {
		panic(fmt.Sprintf("matmul: scattered: gradients of %d groups of [%d,%d] in %d elements", groups, s.M, s.N, len(s.C)))
	}
	j := scatteredGrad{ScatteredGrad: s, gemm: kernels(s.Format)}
	j.high, j.wide = side(s.M, j.gemm.Rows), side(s.N, j.gemm.Cols)
	j.rowTasks, j.colTasks = par.Pieces(s.M, j.high), par.Pieces(s.N, j.wide)
	gradLoop.Run(groups*j.rowTasks*j.colTasks, j, func(j *scatteredGrad, i int) {
		m0, m1 := par.Bounds(i%j.rowTasks, j.high, j.M)
		i /= j.rowTasks
		n0, n1 := par.Bounds(i%j.colTasks, j.wide, j.N)
		j.sum(i/j.colTasks, m0, m1, n0, n1)
	})
}

// side is the size of equal parts of n of at most about gradSide, in whole tiles.
func side(n, tile int) int {
	parts := max(1, par.Pieces(n, gradSide))
	return max(1, par.Pieces(par.Pieces(n, parts), tile)) * tile
}

// sum computes rows m0 … m1-1 and columns n0 … n1-1 of the matrix of group g.
func (j *scatteredGrad) sum(g, m0, m1, n0, n1 int) {
	c := j.C[g*j.M*j.N:][:j.M*j.N]
	lo, hi := int(j.Starts[g]), int(j.Starts[g+1])
	if lo == hi && !j.Add {
		for m := m0; m < m1; m++ {
			clear(c[m*j.N+n0 : m*j.N+n1])
		}
	}
	if lo == hi {
		return
	}
	cols, per := j.gemm.Cols, j.gemm.Per
	csa, ldb := (m1-m0+15)&^15|16, ((n1-n0+cols-1)/cols*cols+15)&^15|16
	found := j.Format == F32 && j.A.Index != nil && simd.HasGather() && m1-m0 >= simd.GatherTile
	direct := j.A.Index == nil && j.Weights == nil && j.Format == F32 && j.A.LD%badStride != 0
	weightsA, weightsB := j.Weights, []float32(nil)
	if found {
		weightsA, weightsB = nil, j.Weights
	}
	var laid []float32
	if !direct && !found {
		laid = memory.Default.Dirty(memory.Workspace, par.Pieces(gradDeep, per)*csa)
	}
	b := memory.Default.Dirty(memory.Workspace, par.Pieces(gradDeep, per)*ldb)
	for r := lo; r < hi; r += gradDeep {
		n := min(gradDeep, hi-r)
		add := r > lo || j.Add
		j.lay(&j.B, r, n, n0, n1, weightsB, b, ldb)
		if found {
			j.tiles(r, n, m0, m1, n0, n1, b, ldb, c, add)
			continue
		}
		a, step := laid, csa
		if direct {
			a, step = j.A.at(r)[m0:], j.A.LD
		} else {
			j.lay(&j.A, r, n, m0, m1, weightsA, laid, csa)
		}
		for p := n0; p < n1; p += cols {
			j.gemm.Tile(m1-m0, min(cols, n1-p), par.Pieces(n, per), a, 1, step, b[p-n0:], ldb, c[m0*j.N+p:], j.N, 1, keep(!add))
		}
	}
	memory.Default.Free(memory.Workspace, b)
	if laid != nil {
		memory.Default.Free(memory.Workspace, laid)
	}
}

// tiles adds the products of rows r … r+n-1 by a kernel that finds rows of A by
// their indices. The last tile reaches back over rows that are done.
func (j *scatteredGrad) tiles(r, n, m0, m1, n0, n1 int, b []float32, ldb int, c []float32, add bool) {
	for m := m0; m < m1; m += simd.GatherTile {
		from := min(m, m1-simd.GatherTile)
		simd.GatherOuter(m-from, n1-n0, j.A.Data[from:], j.A.Index[r:r+n], j.A.LD, b, ldb, c[from*j.N+n0:], j.N, add)
	}
}

// lay lays out columns c0 … c1-1 of rows r … r+n-1, times their weights, so
// that k runs down them.
func (j *scatteredGrad) lay(x *Rows, r, n, c0, c1 int, weights, dst []float32, ldd int) {
	g, width := j.gemm, c1-c0
	switch {
	case x.Index == nil && weights == nil:
		g.Across(n, width, x.at(r)[c0:], x.LD, dst, ldd)
	case j.Format == F32:
		for i := range n {
			row := dst[i*ldd:]
			g.Across(1, width, x.at(r + i)[c0:], width, row, ldd)
			if weights != nil {
				simd.Scale(row[:width], weights[j.Weight[r+i]])
			}
		}
	default: // rows are rounded as units, with their neighbours
		buf := memory.Default.Dirty(memory.Workspace, g.Per*width)
		for i := 0; i < n; i += g.Per {
			rows := min(g.Per, n-i)
			for k := range rows {
				row := buf[k*width:][:width]
				copy(row, x.at(r + i + k)[c0:c1])
				if weights != nil {
					simd.Scale(row, weights[j.Weight[r+i+k]])
				}
			}
			g.Across(rows, width, buf, width, dst[i/g.Per*ldd:], ldd)
		}
		memory.Default.Free(memory.Workspace, buf)
	}
}
