package simd

import "fmt"

// Rows is a table of rows of D floats, D a multiple of 16, from which kernels
// pick rows by number: embeddings that are summed and updated, output vectors
// of sampled classes.
//
// Several goroutines may work on one table without locks, each with a Rows of
// its own. Rows that nearly every step touches would then travel between the
// cores all the time; so the first rows may be replaced by a private copy, Own,
// which its owner reconciles with the table now and then.
//
// Row numbers are not checked: one that is not in the table corrupts memory.
type Rows struct {
	D     int
	Table []float32 // [n, D]
	Own   []float32 // [m, D]: stands for the first m rows of Table
}

// NewRows is the table of rows of D floats in x, all of them shared.
func NewRows(x []float32, D int) Rows {
	if D <= 0 || D%16 != 0 || len(x)%D != 0 {
		panic(fmt.Sprintf("simd: rows of %d floats in a table of %d", D, len(x)))
	}
	return Rows{D: D, Table: x}
}

// Row is row i.
func (r *Rows) Row(i uint32) []float32 {
	from := r.Table
	if int(i)*r.D < len(r.Own) {
		from = r.Own
	}
	return from[int(i)*r.D:][:r.D:r.D]
}

// Sum sets dst: [D] to the sum of the rows.
func (r *Rows) Sum(dst []float32, rows []uint32) { rowSum(r, dst[:r.D], rows) }

// Add adds x: [D] to each of the rows, once for every time it is named.
func (r *Rows) Add(rows []uint32, x []float32) { rowAdd(r, rows, x[:r.D]) }

// Dot sets dst[i] = x·rows[i]; x: [D].
func (r *Rows) Dot(dst []float32, rows []uint32, x []float32) {
	rowDot(r, prefix(dst, len(rows)), rows, x[:r.D])
}

// Step is the backward pass of Dot together with a step of gradient descent.
// One row after another, with its old value, it does
//
//	g += a[i]·row; row += a[i]·x
//
// g, x: [D]; g and x must not overlap.
func (r *Rows) Step(g []float32, rows []uint32, a, x []float32) {
	rowStep(r, g[:r.D], rows, prefix(a, len(rows)), x[:r.D])
}

// Prefetch asks for the first cache line of each row, for use soon.
func (r *Rows) Prefetch(rows []uint32) { rowPrefetch(r, rows) }

// VecMat sets dst[j] = Σᵢ x[i]·w[i,j]; w: [len(x), len(dst)], len(dst) a
// multiple of 16.
func VecMat(dst, x, w []float32) {
	checkColumns(len(dst))
	vecMat(dst, x, prefix(w, len(x)*len(dst)))
}

// VecMatStep is the backward pass of VecMat together with a step of gradient
// descent along e, the gradient of its result times minus the learning rate:
//
//	g[i] = Σⱼ w[i,j]·e[j]; w[i,j] += x[i]·e[j]
//
// with the old w in the first. w: [len(x), len(e)], len(e) a multiple of 16.
func VecMatStep(g, x, w, e []float32) {
	checkColumns(len(e))
	vecMatStep(prefix(g, len(x)), x, prefix(w, len(x)*len(e)), e)
}

func checkColumns(n int) {
	if n%16 != 0 {
		panic(fmt.Sprintf("simd: a matrix of %d columns, not a multiple of 16", n))
	}
}

func rowSumPortable(r *Rows, dst []float32, rows []uint32) {
	clear(dst)
	for _, i := range rows {
		addToPortable(dst, r.Row(i))
	}
}

func rowAddPortable(r *Rows, rows []uint32, x []float32) {
	for _, i := range rows {
		addToPortable(r.Row(i), x)
	}
}

func rowDotPortable(r *Rows, dst []float32, rows []uint32, x []float32) {
	for j, i := range rows {
		dst[j] = dotPortable(x, r.Row(i))
	}
}

func rowStepPortable(r *Rows, g []float32, rows []uint32, a, x []float32) {
	for j, i := range rows {
		row := r.Row(i)
		axpyPortable(g, row, a[j])
		axpyPortable(row, x, a[j])
	}
}

func vecMatPortable(dst, x, w []float32) {
	clear(dst)
	for i, a := range x {
		axpyPortable(dst, w[i*len(dst):][:len(dst)], a)
	}
}

func vecMatStepPortable(g, x, w, e []float32) {
	for i, a := range x {
		row := w[i*len(e):][:len(e)]
		g[i] = dotPortable(row, e)
		axpyPortable(row, e, a)
	}
}
