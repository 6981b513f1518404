//go:build !amd64

package simd

func treeHistogram(hist []float32, first []int32, grad []float32, lanes, width int, bins []uint8, rows []int32) {
	treeHistogramPortable(hist, first, grad, lanes, width, bins, rows)
}

func treeScan(count, left, right, hist []float32, lanes, width int, total []float32, keep *[16]uint32) {
	treeScanPortable(count, left, right, hist, lanes, width, total, keep)
}

func treeBest(count, left, right []float32, total, least float32) (score float32, place int) {
	return treeBestPortable(count, left, right, total, least)
}

func treeLeaf(sum, curve, grad []float32, lanes, width int, rows []int32) {
	treeLeafPortable(sum, curve, grad, lanes, width, rows)
}

func treeTotal(total, hist []float32, lanes, width, n int) {
	treeTotalPortable(total, hist, lanes, width, n)
}
