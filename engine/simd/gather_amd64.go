package simd

func hasGather() bool { return level == AVX512 }

func gatherRows(m, n, k int, a []float32, ai *[GatherTile]int32, lda int, b, c []float32, ci *[GatherTile]int32, ldc int, w *[GatherTile]float32, add bool) {
	gatherRowsAVX512(m, n, k, dataOf(a), &ai[0], 4*lda, dataOf(b), dataOf(c), &ci[0], 4*ldc, &w[0], asInt(add))
}

func gatherOuter(first, n int, a []float32, ai []int32, lda int, b []float32, ldb int, c []float32, ldc int, add bool) {
	if len(ai) > 0 {
		gatherOuterAVX512(first, n, len(ai), dataOf(a), &ai[0], 4*lda, dataOf(b), 4*ldb, dataOf(c), 4*ldc, asInt(add))
	}
}
