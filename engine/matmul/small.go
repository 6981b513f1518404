package matmul

import (
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// Products with few rows do not use B often enough to pay for laying it out,
// and few columns do not fill a tile. The limits are where the ways of
// multiplying were measured to cross.

const (
	fewRows    = 48 // of A
	fewColumns = 24 // of B
)

// useDots reports whether to multiply rows by rows: B stored [N,K] and A with
// few rows, as in decoding with a Linear layer, or B with few columns.
func (a *Args) useDots() bool {
	if a.Format != F32 || a.Packed != nil || a.K == 0 {
		return false
	}
	return a.M <= fewRows && a.TransB || a.N <= fewColumns && !a.TransA && a.M > fewRows
}

// dots is such a product under way, with A [M,K] and B [N,K].
type dots struct {
	Args
	rows, cols int // of C in a task
	rowTasks   int
}

var dotLoop par.Loop[dots]

// dotTask is the number of multiply-adds of a task.
const dotTask = 1 << 18

func (a *Args) mulDots(parallel bool) {
	d := dots{Args: *a, rows: a.M, cols: a.N}
	var bufA, bufB []float32
	if a.TransA {
		bufA = turned(a.A, a.LDA, a.K, a.M)
		d.A, d.LDA = bufA, a.K
	}
	if !a.TransB {
		bufB = turned(a.B, a.LDB, a.K, a.N)
		d.B, d.LDB = bufB, a.K
	}
	if a.M <= fewRows {
		d.cols = min(a.N, max(8, dotTask/(a.M*a.K)&^7))
	} else {
		d.rows = min(a.M, max(8, dotTask/(a.N*a.K)&^7))
	}
	d.rowTasks = par.Pieces(a.M, d.rows)
	n := d.rowTasks * par.Pieces(a.N, d.cols)
	if parallel {
		dotLoop.Run(n, d, dotPiece)
	} else {
		for i := range n {
			dotPiece(&d, i)
		}
	}
	if bufA != nil {
		memory.Default.Free(memory.Workspace, bufA)
	}
	if bufB != nil {
		memory.Default.Free(memory.Workspace, bufB)
	}
}

// turned is the transpose [n,k] of x [k,n].
func turned(x []float32, ld, k, n int) []float32 {
	t := memory.Default.Dirty(memory.Workspace, n*k)
	simd.GemmF32.Turn(k, n, x, ld, t, k)
	return t
}

// dotPiece computes one task: for a few rows of B at a time, so that they
// stay in cache while all rows of A go by.
func dotPiece(d *dots, i int) {
	r0, r1 := par.Bounds(i%d.rowTasks, d.rows, d.M)
	c0, c1 := par.Bounds(i/d.rowTasks, d.cols, d.N)
	const few = 8
	for c := c0; c < c1; c += few {
		simd.Dots(r1-r0, min(few, c1-c), d.K, d.A[r0*d.LDA:], d.LDA, d.B[c*d.LDB:], d.LDB, d.C[r0*d.LDC+c:], d.LDC, d.Alpha, d.Beta)
	}
	d.finish(r0, r1, c0, c1)
}

// useDirect reports whether to let the kernel read B, stored [K,N], where it
// is: for few rows of A.
func (a *Args) useDirect() bool {
	return a.Format == F32 && a.Packed == nil && a.K > 0 && a.M <= fewRows && !a.TransB
}

var directLoop par.Loop[Args]

func (a *Args) mulDirect(parallel bool) {
	n := par.Pieces(a.N, simd.GemmF32.Cols)
	if parallel {
		directLoop.Run(n, *a, directPiece)
		return
	}
	for i := range n {
		directPiece(a, i)
	}
}

// directPiece computes one panel of C.
func directPiece(a *Args, i int) {
	g := simd.GemmF32
	c0, c1 := par.Bounds(i, g.Cols, a.N)
	rsa, csa := a.LDA, 1
	if a.TransA {
		rsa, csa = 1, a.LDA
	}
	b, ldb := a.B[c0:], a.LDB
	var buf []float32
	if c1-c0 < g.Cols { // the kernel reads whole rows of the panel
		ldb = (g.Cols + 15) &^ 15
		buf = memory.Default.Dirty(memory.Workspace, a.K*ldb)
		g.Across(a.K, c1-c0, b, a.LDB, buf, ldb)
		b = buf
	}
	g.Tile(a.M, c1-c0, a.K, a.A, rsa, csa, b, ldb, a.C[c0:], a.LDC, a.Alpha, a.Beta)
	if buf != nil {
		memory.Default.Free(memory.Workspace, buf)
	}
	a.finish(0, a.M, c0, c1)
}
