package simd

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"hasten/engine/rng"
)

// treeCase is rows of gradients and the bins they fall in.
type treeCase struct {
	outputs, lanes int
	first          []int32
	bins           []uint8
	grad           []float32
	rows           []int32
	total          int // bins
}

func newTreeCase(outputs, n, cols int) treeCase {
	s := rng.New(uint64(outputs*1000+n), uint64(cols))
	c := treeCase{outputs: outputs, lanes: TreeLanes(outputs)}
	sizes := make([]int, cols)
	for j := range cols {
		sizes[j] = 1 + s.IntN(256)
		c.first = append(c.first, int32(c.total))
		c.total += sizes[j]
	}
	for r := range n {
		for j := range cols {
			c.bins = append(c.bins, uint8(s.IntN(sizes[j])))
		}
		row := make([]float32, c.lanes)
		row[0] = 1
		for k := range outputs {
			row[1+k] = 2*s.Float32() - 1
		}
		c.grad = append(c.grad, row...)
		if s.IntN(3) > 0 {
			c.rows = append(c.rows, int32(r))
		}
	}
	return c
}

var treeOutputs = []int{1, 2, 3, 4, 7, 10, 15, 16, 31, 40, 47, 63, 64, 80, 129}

func eachTreeCase(t *testing.T, run func(t *testing.T, c treeCase)) {
	defer Use(best)
	for _, l := range Levels() {
		Use(l)
		for _, outputs := range treeOutputs {
			for _, n := range []int{0, 1, 2, 7, 150} {
				for _, cols := range []int{4, 8} {
					t.Run(fmt.Sprintf("%v/%d outputs/%d rows/%d columns", l, outputs, n, cols), func(t *testing.T) {
						run(t, newTreeCase(outputs, n, cols))
					})
				}
			}
		}
	}
}

func TestTreeLanes(t *testing.T) {
	for outputs, want := range map[int]int{1: 2, 2: 4, 3: 4, 4: 8, 7: 8, 8: 16, 15: 16, 16: 32, 60: 64, 63: 64, 64: 80} {
		if got := TreeLanes(outputs); got != want {
			t.Errorf("%d outputs: %d lanes, want %d", outputs, got, want)
		}
	}
}

// A bin adds up in the order of rows, so every level gives the same bits.
func TestTreeHistogram(t *testing.T) {
	eachTreeCase(t, func(t *testing.T, c treeCase) {
		got, want := make([]float32, c.total*c.lanes), make([]float32, c.total*c.lanes)
		for i := range got {
			got[i], want[i] = float32(i%7), float32(i%7)
		}
		TreeHistogram(got, c.first, c.grad, c.lanes, c.bins, c.rows)
		for j, first := range c.first {
			for _, r := range c.rows {
				bin := int(first) + int(c.bins[int(r)*len(c.first)+j])
				for k := range c.lanes {
					want[bin*c.lanes+k] += c.grad[int(r)*c.lanes+k]
				}
			}
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("bin %d lane %d: %v, want %v", i/c.lanes, i%c.lanes, got[i], want[i])
			}
		}
	})
}

func TestTreeLeaf(t *testing.T) {
	eachTreeCase(t, func(t *testing.T, c treeCase) {
		sum, curve := make([]float32, c.lanes), make([]float32, c.lanes)
		sum[0], curve[0] = 9, 9
		TreeLeaf(sum, curve, c.grad, c.lanes, c.rows)
		for k := range c.lanes {
			var s, d float32
			for _, r := range c.rows {
				x := c.grad[int(r)*c.lanes+k]
				square := x * x
				s += x
				d += float32(math.Abs(float64(x))) - square
			}
			if sum[k] != s || curve[k] != d {
				t.Fatalf("lane %d: %v, %v, want %v, %v", k, sum[k], curve[k], s, d)
			}
		}
	})
}

func TestTreeScan(t *testing.T) {
	eachTreeCase(t, func(t *testing.T, c treeCase) {
		n := c.total
		hist := make([]float32, n*c.lanes)
		s := rng.New(7, 7)
		total := make([]float32, c.lanes)
		for b := range n {
			hist[b*c.lanes] = float32(s.IntN(5))
			total[0] += hist[b*c.lanes]
			for k := range c.outputs {
				x := 2*s.Float32() - 1
				hist[b*c.lanes+1+k] = x
				total[1+k] += x
			}
		}
		count, left, right := make([]float32, n), make([]float32, n), make([]float32, n)
		TreeScan(count, left, right, hist, c.lanes, total, make([]float32, 3*n))
		sums := make([]float64, c.lanes)
		for b := range n {
			var l2, r2 float64
			for k := range sums {
				sums[k] += float64(hist[b*c.lanes+k])
				if k > 0 {
					rest := float64(total[k]) - sums[k]
					l2 += sums[k] * sums[k]
					r2 += rest * rest
				}
			}
			near := func(got float32, want float64) bool { return math.Abs(float64(got)-want) <= 1e-3*(1+want) }
			if float64(count[b]) != sums[0] || !near(left[b], l2) || !near(right[b], r2) {
				t.Fatalf("bin %d: %v %v %v, want %v %v %v", b, count[b], left[b], right[b], sums[0], l2, r2)
			}
		}
	})
}

func TestTreeTotal(t *testing.T) {
	eachTreeCase(t, func(t *testing.T, c treeCase) {
		got, want := make([]float32, c.lanes), make([]float32, c.lanes)
		got[0] = 9
		TreeTotal(got, c.grad, c.lanes)
		for i, x := range c.grad {
			want[i%c.lanes] += x
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

func TestTreeBest(t *testing.T) {
	defer Use(best)
	for _, l := range Levels() {
		Use(l)
		for _, n := range []int{0, 1, 7, 8, 15, 16, 17, 100, 1000} {
			for seed := range uint64(20) {
				s := rng.New(seed, uint64(n))
				pad := TreePad(n)
				count, left, right := make([]float32, pad), make([]float32, pad), make([]float32, pad)
				for i := range pad { // few values, so that many are equal
					count[i], left[i], right[i] = float32(s.IntN(30)), float32(s.IntN(4)), float32(s.IntN(4))
				}
				least := float32(1 + s.IntN(4))
				wantScore, want := math.Inf(-1), -1
				for i := range n {
					if nl, nr := count[i], 30-count[i]; nl >= least && nr >= least {
						if v := float64(left[i]/nl + right[i]/nr); v > wantScore {
							wantScore, want = v, i
						}
					}
				}
				score, place := TreeBest(count[:n], left, right, 30, least)
				if place != want || float64(score) != wantScore {
					t.Fatalf("%v, n %d, seed %d: %v at %d, want %v at %d", l, n, seed, score, place, wantScore, want)
				}
			}
		}
	}
}

func BenchmarkTreeHistogram(b *testing.B) {
	for _, outputs := range []int{1, 3, 7, 10, 60} {
		for _, cols := range []int{4, 8, 16} {
			c := newTreeCase(outputs, 10000, cols)
			hist := make([]float32, c.total*c.lanes)
			b.Run(fmt.Sprintf("outputs=%d/columns=%d", outputs, cols), func(b *testing.B) {
				for range b.N {
					TreeHistogram(hist, c.first, c.grad, c.lanes, c.bins, c.rows)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(c.rows)*cols), "ns/update")
			})
		}
	}
}

func BenchmarkTreeScan(b *testing.B) {
	for _, outputs := range []int{1, 10, 60} {
		c := newTreeCase(outputs, 1, 8)
		n := c.total
		hist, total := make([]float32, n*c.lanes), make([]float32, c.lanes)
		count, left, right := make([]float32, n), make([]float32, n+16), make([]float32, n+16)
		b.Run(fmt.Sprintf("outputs=%d", outputs), func(b *testing.B) {
			for range b.N {
				TreeScan(count, left, right, hist, c.lanes, total, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/bin")
		})
	}
}
