package simd

//go:generate go run ./gen/rows -out rows_amd64.s -stubs rows_stubs_amd64.go -pkg simd

// These kernels are called directly and not through a table of functions: then
// their buffers may stay on the stack.

func (r *Rows) owned() int { return len(r.Own) / r.D }

func rowSum(r *Rows, dst []float32, rows []uint32) {
	switch level {
	case AVX512:
		rowSumAVX512(dst, r.Own, r.Table, rows, r.owned())
	case AVX2:
		rowSumAVX2(dst, r.Own, r.Table, rows, r.owned())
	default:
		rowSumPortable(r, dst, rows)
	}
}

func rowAdd(r *Rows, rows []uint32, x []float32) {
	switch level {
	case AVX512:
		rowAddAVX512(r.Own, r.Table, rows, r.owned(), x)
	case AVX2:
		rowAddAVX2(r.Own, r.Table, rows, r.owned(), x)
	default:
		rowAddPortable(r, rows, x)
	}
}

func rowDot(r *Rows, dst []float32, rows []uint32, x []float32) {
	switch level {
	case AVX512:
		rowDotAVX512(dst, r.Own, r.Table, rows, r.owned(), x)
	case AVX2:
		rowDotAVX2(dst, r.Own, r.Table, rows, r.owned(), x)
	default:
		rowDotPortable(r, dst, rows, x)
	}
}

func rowStep(r *Rows, g []float32, rows []uint32, a, x []float32) {
	switch level {
	case AVX512:
		rowStepAVX512(g, r.Own, r.Table, rows, r.owned(), a, x)
	case AVX2:
		rowStepAVX2(g, r.Own, r.Table, rows, r.owned(), a, x)
	default:
		rowStepPortable(r, g, rows, a, x)
	}
}

func rowPrefetch(r *Rows, rows []uint32) { rowPrefetchAMD64(r.Table, rows, 4*r.D) }

func vecMat(dst, x, w []float32) {
	switch level {
	case AVX512:
		vecMatAVX512(dst, x, w)
	case AVX2:
		vecMatAVX2(dst, x, w)
	default:
		vecMatPortable(dst, x, w)
	}
}

func vecMatStep(g, x, w, e []float32) {
	switch level {
	case AVX512:
		vecMatStepAVX512(g, x, w, e)
	case AVX2:
		vecMatStepAVX2(g, x, w, e)
	default:
		vecMatStepPortable(g, x, w, e)
	}
}
