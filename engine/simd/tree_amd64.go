package simd

import "math"

//go:generate go run ./gen/tree -out tree_amd64.s -stubs tree_stubs_amd64.go -pkg simd

func treeHistogram(hist []float32, first []int32, grad []float32, lanes, width int, bins []uint8, rows []int32) {
	if level == Portable {
		treeHistogramPortable(hist, first, grad, lanes, width, bins, rows)
		return
	}
	run := treeHistogram2AVX2
	switch z := level == AVX512; {
	case width == 4:
		run = treeHistogram4AVX2
	case width == 8:
		run = treeHistogram8AVX2
	case width == 16 && z:
		run = treeHistogram16AVX512
	case width == 32 && z:
		run = treeHistogram32AVX512
	case width == 48 && z:
		run = treeHistogram48AVX512
	case width == 64 && z:
		run = treeHistogram64AVX512
	case width == 16:
		run = treeHistogram16AVX2
	case width == 32:
		run = treeHistogram32AVX2
	case width == 48:
		run = treeHistogram48AVX2
	case width == 64:
		run = treeHistogram64AVX2
	}
	run(&hist[0], &first[0], &grad[0], 4*lanes, &bins[0], len(first), &rows[0], len(rows))
}

func treeScan(count, left, right, hist []float32, lanes, width int, total []float32, keep *[16]uint32) {
	if level == Portable {
		treeScanPortable(count, left, right, hist, lanes, width, total, keep)
		return
	}
	run := treeScan2AVX2
	switch z := level == AVX512; {
	case width == 4:
		run = treeScan4AVX2
	case width == 8:
		run = treeScan8AVX2
	case width == 16 && z:
		run = treeScan16AVX512
	case width == 32 && z:
		run = treeScan32AVX512
	case width == 48 && z:
		run = treeScan48AVX512
	case width == 64 && z:
		run = treeScan64AVX512
	case width == 16:
		run = treeScan16AVX2
	case width == 32:
		run = treeScan32AVX2
	case width == 48:
		run = treeScan48AVX2
	case width == 64:
		run = treeScan64AVX2
	}
	run(&count[0], &left[0], &right[0], &hist[0], 4*lanes, len(count), &total[0], &keep[0])
}

func treeBest(count, left, right []float32, total, least float32) (score float32, place int) {
	if level == Portable || len(count) == 0 {
		return treeBestPortable(count, left, right, total, least)
	}
	var scores [16]float32
	places := [16]int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	width := 8
	if level == AVX512 {
		width = 16
		treeBestAVX512(&scores[0], &places[0], &count[0], &left[0], &right[0], len(count), total, least)
	} else {
		treeBestAVX2(&scores[0], &places[0], &count[0], &left[0], &right[0], len(count), total, least)
	}
	score, place = float32(math.Inf(-1)), -1
	for i, s := range scores[:width] {
		if p := int(places[i]); s > score || s == score && p < place {
			score, place = s, p
		}
	}
	return score, place
}

func treeLeaf(sum, curve, grad []float32, lanes, width int, rows []int32) {
	if level == Portable {
		treeLeafPortable(sum, curve, grad, lanes, width, rows)
		return
	}
	run := treeLeaf2AVX2
	switch z := level == AVX512; {
	case width == 4:
		run = treeLeaf4AVX2
	case width == 8:
		run = treeLeaf8AVX2
	case width == 16 && z:
		run = treeLeaf16AVX512
	case width == 32 && z:
		run = treeLeaf32AVX512
	case width == 48 && z:
		run = treeLeaf48AVX512
	case width == 64 && z:
		run = treeLeaf64AVX512
	case width == 16:
		run = treeLeaf16AVX2
	case width == 32:
		run = treeLeaf32AVX2
	case width == 48:
		run = treeLeaf48AVX2
	case width == 64:
		run = treeLeaf64AVX2
	}
	run(&sum[0], &curve[0], &grad[0], 4*lanes, &rows[0], len(rows))
}

func treeTotal(total, hist []float32, lanes, width, n int) {
	if level == Portable {
		treeTotalPortable(total, hist, lanes, width, n)
		return
	}
	run := treeTotal2AVX2
	switch z := level == AVX512; {
	case width == 4:
		run = treeTotal4AVX2
	case width == 8:
		run = treeTotal8AVX2
	case width == 16 && z:
		run = treeTotal16AVX512
	case width == 32 && z:
		run = treeTotal32AVX512
	case width == 48 && z:
		run = treeTotal48AVX512
	case width == 64 && z:
		run = treeTotal64AVX512
	case width == 16:
		run = treeTotal16AVX2
	case width == 32:
		run = treeTotal32AVX2
	case width == 48:
		run = treeTotal48AVX2
	case width == 64:
		run = treeTotal64AVX2
	}
	run(&total[0], &hist[0], 4*lanes, n)
}
