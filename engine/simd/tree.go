// # Histogram trees
//
// The functions named Tree… are the inner loops of decision trees that are
// grown from histograms (package task/tabular). A row of gradients has lanes:
// the first counts rows, the others hold one gradient for each output, and
// what remains up to TreeLanes is zero. A histogram has one such row for every
// bin, so a bin is looked up once for all outputs and added to as vectors.
package simd

import "math"

// TreeLanes is the number of lanes of a row that counts and holds outputs
// gradients: 2, 4, 8, or a multiple of 16.
func TreeLanes(outputs int) int {
	switch n := outputs + 1; {
	case n <= 2:
		return 2
	case n <= 4:
		return 4
	case n <= 8:
		return 8
	default:
		return (n + 15) / 16 * 16
	}
}

// treeChunk is the most lanes that a kernel keeps in registers.
const treeChunk = 64

// TreeHistogram adds rows to the histograms of a block of columns:
//
//	hist[first[j] + bins[r, j]] += grad[r]    for r in rows, j < len(first)
//
// hist: [all bins of the block, lanes]; first: the first bin of each column,
// and their number a multiple of four; grad: [any, lanes]; bins: [any,
// len(first)], each below the number of bins of its column. A bin adds up in
// the order of rows, at every level.
func TreeHistogram(hist []float32, first []int32, grad []float32, lanes int, bins []uint8, rows []int32) {
	if len(rows) == 0 || len(first) == 0 {
		return
	}
	if len(first)%4 != 0 {
		panic("simd: TreeHistogram wants columns by fours")
	}
	for at := 0; at < lanes; at += treeChunk {
		treeHistogram(hist[at:], first, grad[at:], lanes, min(lanes-at, treeChunk), bins, rows)
	}
}

// TreeTotal sets total to the bins of a histogram added up: total [lanes],
// hist [any, lanes].
func TreeTotal(total, hist []float32, lanes int) {
	n := len(hist) / lanes
	if n == 0 {
		clear(total[:lanes])
		return
	}
	for at := 0; at < lanes; at += treeChunk {
		width := min(lanes-at, treeChunk)
		treeTotal(total[at:][:width], hist[at:], lanes, width, n)
	}
}

// TreeScan tells of the divisions after each of n bins, n = len(count):
//
//	count[b] = rows on the left,    left[b] = Σ l²,    right[b] = Σ (total-l)²
//
// where l are the lanes of bins 0 … b added up, and the sums run over all
// lanes but the first. hist: [n, lanes], total: [lanes]. scratch holds 3·n
// floats when there are more than 64 lanes, else it may be nil.
func TreeScan(count, left, right, hist []float32, lanes int, total, scratch []float32) {
	n := len(count)
	if n == 0 {
		return
	}
	left, right, hist, total = prefix(left, n), prefix(right, n), prefix(hist, n*lanes), prefix(total, lanes)
	treeScan(count, left, right, hist, lanes, min(lanes, treeChunk), total, &afterCount)
	for at := treeChunk; at < lanes; at += treeChunk {
		unused, l, r := scratch[:n], scratch[n:2*n], scratch[2*n:3*n]
		treeScan(unused, l, r, hist[at:], lanes, min(lanes-at, treeChunk), total[at:], &everyLane)
		AddTo(left, l)
		AddTo(right, r)
	}
}

// Masks of the lanes that TreeScan squares, in the first sixteen of a chunk.
var (
	afterCount = [16]uint32{0, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1}
	everyLane  = [16]uint32{all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1, all1}
)

const all1 = math.MaxUint32

// TreeBest finds the division with the highest score
//
//	left[i]/count[i] + right[i]/(total-count[i])
//
// among those that leave at least least rows, which must be positive, on
// either side, and returns the score and the first place that has it; the
// place is -1 when there is none. It reads up to TreePad(n) elements of the
// slices, n = len(count), and writes zeros into count from n on.
func TreeBest(count, left, right []float32, total, least float32) (score float32, place int) {
	n := len(count)
	padded := TreePad(n)
	count, left, right = count[:padded], left[:padded], right[:padded]
	clear(count[n:])
	return treeBest(count, left, right, total, least)
}

// TreePad is n rounded up to what TreeBest reads.
func TreePad(n int) int { return (n + 15) / 16 * 16 }

// TreeLeaf sets, for each lane, sum = Σ r and curve = Σ (|r|-r²) over rows of
// grad: [any, lanes]. They are added in order, in float32: give it at most a
// few hundred rows at a time.
func TreeLeaf(sum, curve, grad []float32, lanes int, rows []int32) {
	if len(rows) == 0 {
		clear(sum[:lanes])
		clear(curve[:lanes])
		return
	}
	for at := 0; at < lanes; at += treeChunk {
		width := min(lanes-at, treeChunk)
		treeLeaf(sum[at:][:width], curve[at:][:width], grad[at:], lanes, width, rows)
	}
}

func treeHistogramPortable(hist []float32, first []int32, grad []float32, lanes, width int, bins []uint8, rows []int32) {
	cols := len(first)
	for _, r := range rows {
		g := grad[int(r)*lanes:][:width]
		for j, b := range bins[int(r)*cols:][:cols] {
			h := hist[(int(first[j])+int(b))*lanes:][:width]
			for k, x := range g {
				h[k] += x
			}
		}
	}
}

func treeScanPortable(count, left, right, hist []float32, lanes, width int, total []float32, keep *[16]uint32) {
	var sum [treeChunk]float32
	for b := range count {
		var l2, r2 float32
		for k, x := range hist[b*lanes:][:width] {
			sum[k] += x
			if k > 0 || keep[0] != 0 {
				l, r := sum[k], total[k]-sum[k]
				l2 += l * l
				r2 += r * r
			}
		}
		count[b], left[b], right[b] = sum[0], l2, r2
	}
}

func treeTotalPortable(total, hist []float32, lanes, width, n int) {
	clear(total)
	for b := range n {
		for k, x := range hist[b*lanes:][:width] {
			total[k] += x
		}
	}
}

func treeBestPortable(count, left, right []float32, total, least float32) (score float32, place int) {
	score, place = float32(math.Inf(-1)), -1
	for i, n := range count {
		if n < least || total-n < least {
			continue
		}
		if s := left[i]/n + right[i]/(total-n); s > score {
			score, place = s, i
		}
	}
	return score, place
}

func treeLeafPortable(sum, curve, grad []float32, lanes, width int, rows []int32) {
	clear(sum)
	clear(curve)
	for _, r := range rows {
		for k, x := range grad[int(r)*lanes:][:width] {
			sum[k] += x
			square := x * x // rounded, as the vector kernels round it
			curve[k] += float32(math.Abs(float64(x))) - float32(square)
		}
	}
}
