package matmul

import (
	"fmt"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// ints is a product of integers under way. It is cut up as a product of floats is.
type ints struct {
	m, n, k int
	a       []uint8
	lda     int
	b       []int8
	ldb     int
	c       []int32
	ldc     int

	gemm     *simd.IntGemm
	units    int // of K
	packed   []float32
	taskRows int
}

var (
	intLayLoop  par.Loop[ints]
	intTaskLoop par.Loop[ints]
)

// MulU8S8 computes C[M,N] = A[M,K]·Bᵀ in integers, B stored [N,K]. An ld of 0
// means tight. Sums wrap around at 32 bits, which takes K above 65 000. It
// panics when a slice is too short for the sizes.
func MulU8S8(m, n, k int, a []uint8, lda int, b []int8, ldb int, c []int32, ldc int) {
	lda, ldb, ldc = orTight(lda, false, m, k), orTight(ldb, false, n, k), orTight(ldc, false, m, n)
	if m < 0 || n < 0 || k < 0 || !holds(len(a), m, k, lda) || !holds(len(b), n, k, ldb) || !holds(len(c), m, n, ldc) {
		panic(fmt.Sprintf("matmul: M=%d N=%d K=%d: A has %d elements, rows %d apart, B %d (%d apart), C %d (%d apart)",
			m, n, k, len(a), lda, len(b), ldb, len(c), ldc))
	}
	if m == 0 || n == 0 {
		return
	}
	g := simd.GemmU8S8
	j := ints{m: m, n: n, k: k, a: a, lda: lda, b: b, ldb: ldb, c: c, ldc: ldc, gemm: g, units: par.Pieces(k, g.Per)}
	panels := par.Pieces(n, g.Cols)
	j.packed = memory.Default.Dirty(memory.Workspace, j.units*panels*g.Cols)
	j.taskRows = 4 * g.Rows
	for j.taskRows > g.Rows && par.Pieces(m, j.taskRows) < 16*par.Width() {
		j.taskRows -= g.Rows
	}
	intLayLoop.Run(panels, j, layInts)
	intTaskLoop.Run(par.Pieces(m, j.taskRows), j, intTask)
	memory.Default.Free(memory.Workspace, j.packed)
}

func holds(have, rows, cols, ld int) bool {
	return rows == 0 || cols == 0 || ld >= cols && (rows-1)*ld+cols <= have
}

// block is the range of units of block i of k.
func (j *ints) block(i int) (lo, hi int) { return par.Bounds(i, blockUnits, j.units) }

// panel is panel p of block i.
func (j *ints) panel(i, p int) []float32 {
	lo, hi := j.block(i)
	cols := j.gemm.Cols
	return j.packed[(lo*par.Pieces(j.n, cols)+p*(hi-lo))*cols:][:(hi-lo)*cols]
}

// layInts lays out panel p of B: rows become units, units become columns.
func layInts(j *ints, p int) {
	g := j.gemm
	c0, c1 := par.Bounds(p, g.Cols, j.n)
	ld := blockUnits + 16
	buf := memory.Default.Dirty(memory.Workspace, (c1-c0)*ld)
	for i := range par.Pieces(j.units, blockUnits) {
		lo, hi := j.block(i)
		k0, k1 := lo*g.Per, min(hi*g.Per, j.k)
		for c := c0; c < c1; c++ {
			g.UnitsS8(buf[(c-c0)*ld:], j.b[c*j.ldb+k0:c*j.ldb+k1])
		}
		simd.GemmF32.Turn(c1-c0, hi-lo, buf, ld, j.panel(i, p), g.Cols)
	}
	memory.Default.Free(memory.Workspace, buf)
}

// intTask computes some rows of C.
func intTask(j *ints, t int) {
	g := j.gemm
	r0, r1 := par.Bounds(t, j.taskRows, j.m)
	rows := r1 - r0
	ld := blockUnits + 16
	buf := memory.Default.Dirty(memory.Workspace, rows*ld)
	for i := range max(1, par.Pieces(j.units, blockUnits)) {
		lo, hi := j.block(i)
		k0, k1 := min(lo*g.Per, j.k), min(hi*g.Per, j.k)
		for r := range rows {
			row := (r0 + r) * j.lda
			g.UnitsU8(buf[r*ld:], j.a[min(row+k0, len(j.a)):min(row+k1, len(j.a))])
		}
		for p := range par.Pieces(j.n, g.Cols) {
			c0, c1 := par.Bounds(p, g.Cols, j.n)
			g.Tile(rows, c1-c0, max(0, hi-lo), buf, ld, 1, j.panel(i, p), g.Cols, j.c[r0*j.ldc+c0:], j.ldc, i > 0)
		}
	}
	memory.Default.Free(memory.Workspace, buf)
}
