//go:build !amd64

package simd

func rowSum(r *Rows, dst []float32, rows []uint32)              { rowSumPortable(r, dst, rows) }
func rowAdd(r *Rows, rows []uint32, x []float32)                { rowAddPortable(r, rows, x) }
func rowDot(r *Rows, dst []float32, rows []uint32, x []float32) { rowDotPortable(r, dst, rows, x) }
func rowStep(r *Rows, g []float32, rows []uint32, a, x []float32) {
	rowStepPortable(r, g, rows, a, x)
}
func rowPrefetch(*Rows, []uint32)     {}
func vecMat(dst, x, w []float32)      { vecMatPortable(dst, x, w) }
func vecMatStep(g, x, w, e []float32) { vecMatStepPortable(g, x, w, e) }
