package simd

//go:generate go run ./gen/gather -out gather_amd64.s -stubs gather_stubs_amd64.go -pkg simd

// GatherTile is the number of rows of A that a call of GatherRows or GatherOuter
// takes.
const GatherTile = 12

// HasGather reports whether GatherRows and GatherOuter can be used at the level
// in use. Elsewhere rows are laid out before they are multiplied.
func HasGather() bool { return hasGather() }

// GatherRows multiplies m ≤ GatherTile rows that lie anywhere by B, laid out in
// panels [k, 32] one after the other, and stores w[i] times the product where it
// belongs:
//
//	C[ci[i]] = w[i]·A[ai[i]]·B   for i < m, or += with add
//
// of n columns. Rows of A are lda floats apart, those of C ldc. All indices of ai
// must be valid: those from m on are read and come to nothing.
func GatherRows(m, n, k int, a []float32, ai *[GatherTile]int32, lda int, b, c []float32, ci *[GatherTile]int32, ldc int, w *[GatherTile]float32, add bool) {
	checkBlock("A", rowsTo(ai[:]), k, a, lda)
	checkBlock("B", (n+31)/32*k, 32, b, 32)
	checkBlock("C", rowsTo(ci[:m]), n, c, ldc)
	for i := 0; i < n; i += 32 {
		gatherRows(m, min(32, n-i), k, a, ai, lda, b[i*k:], c[i:], ci, ldc, w, add)
	}
}

// GatherOuter multiplies columns of rows that lie anywhere with rows of B,
//
//	C = Σ A[ai[p]]ᵀ·B[p]   over all p, or += with add
//
// for GatherTile columns from the first of A on, and the first n of B, whose
// rows, ldb floats apart, have room for a multiple of 32. Of C's GatherTile rows
// those before first are left alone.
func GatherOuter(first, n int, a []float32, ai []int32, lda int, b []float32, ldb int, c []float32, ldc int, add bool) {
	checkBlock("A", rowsTo(ai), GatherTile, a, lda)
	checkBlock("B", len(ai), (n+31)/32*32, b, ldb)
	checkBlock("C", GatherTile, n, c, ldc)
	for i := 0; i < n; i += 32 {
		gatherOuter(first, min(32, n-i), a, ai, lda, b[i:], ldb, c[i:], ldc, add)
	}
}

// rowsTo is the number of rows up to the last of a list.
func rowsTo(index []int32) int {
	last := uint32(0) // of which negative indices are the largest
	for _, i := range index {
		last = max(last, uint32(i))
	}
	return int(last) + 1
}
