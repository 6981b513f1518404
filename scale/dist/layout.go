package dist

import (
	"fmt"
	"strings"
)

// Layout says where the parameters of a model lie in one flat vector, and which
// rank owns which part of it.
//
// The parameters of a layer lie side by side. A layer is cut into buckets of
// constant size, the last one smaller, and every bucket into one part for each
// rank: what is summed or collected together. Only the end of a layer is padded,
// to a multiple of 16 elements for each rank.
type Layout struct {
	Ranks   int
	Params  int // elements of all parameters, Ψ
	Padded  int // with the padding of every layer
	Largest int // elements of the largest layer, padded

	at      []int // first element of each parameter
	size    []int // and its elements
	of      []int // the layer of each parameter
	layers  []layer
	buckets []bucket
}

// layer is a range of elements, of buckets, and of its parameters' numbers.
type layer struct {
	lo, hi  int
	buckets [2]int
	params  []int
}

// bucket is a range of elements, of which the first real are no padding.
type bucket struct{ lo, hi, real int }

// grain is the smallest part of a bucket, in elements: a cache line of floats.
const grain = 16

// NewLayout lays out parameters of the given sizes and layers, the layers in the
// order of their first parameter. A bucket has at most so many elements, rounded
// up to a multiple of 16 for each rank.
func NewLayout(sizes []int, layers []string, ranks, bucketSize int) *Layout {
	if len(sizes) != len(layers) || ranks < 1 || bucketSize < 1 {
		panic(fmt.Sprintf("dist: a layout of %d sizes in %d layers, %d ranks, buckets of %d", len(sizes), len(layers), ranks, bucketSize))
	}
	y := &Layout{Ranks: ranks, at: make([]int, len(sizes)), size: sizes, of: make([]int, len(sizes))}
	number := map[string]int{}
	for i, name := range layers {
		k, known := number[name]
		if !known {
			k = len(y.layers)
			number[name] = k
			y.layers = append(y.layers, layer{})
		}
		y.of[i] = k
		y.layers[k].params = append(y.layers[k].params, i)
	}
	unit := grain * ranks
	step := (bucketSize + unit - 1) / unit * unit
	for k := range y.layers {
		l := &y.layers[k]
		l.lo = y.Padded
		end := l.lo
		for _, i := range l.params {
			y.at[i] = end
			end += sizes[i]
		}
		y.Params += end - l.lo
		l.hi = l.lo + (end-l.lo+unit-1)/unit*unit
		l.buckets[0] = len(y.buckets)
		for lo := l.lo; lo < l.hi; lo += step {
			hi := min(lo+step, l.hi)
			y.buckets = append(y.buckets, bucket{lo, hi, min(hi, end) - lo})
		}
		l.buckets[1] = len(y.buckets)
		y.Padded = l.hi
		y.Largest = max(y.Largest, l.hi-l.lo)
	}
	return y
}

// part is the range of a bucket that a rank owns. In arrays of owned elements
// alone it begins at b.lo / Ranks.
func (y *Layout) part(b bucket, rank int) (lo, hi int) {
	w := (b.hi - b.lo) / y.Ranks
	return b.lo + rank*w, b.lo + (rank+1)*w
}

// States is the memory of a rank's model states, in bytes.
type States struct{ Weights, Gradients, Optimizer int64 }

// Total is their sum.
func (s States) Total() int64 { return s.Weights + s.Gradients + s.Optimizer }

// States is what a rank holds of a model in a stage of ZeRO: weights and
// gradients in bfloat16, and of the optimiser the float32 weights and two
// moments. Without padding it is
//
//	stage 0   2Ψ + 2Ψ + 12Ψ
//	stage 1   2Ψ + 2Ψ + 12Ψ/N
//	stage 2   2Ψ + (2Ψ + 12Ψ)/N
//	stage 3   (2Ψ + 2Ψ + 12Ψ)/N
func (y *Layout) States(stage int) States {
	share := func(from, bytes int) int64 {
		if stage >= from {
			return int64(bytes) * int64(y.Padded/y.Ranks)
		}
		return int64(bytes) * int64(y.Padded)
	}
	return States{Weights: share(3, 2), Gradients: share(2, 2), Optimizer: share(1, 12)}
}

// LayerOf tells layers apart by the names that models here give their
// parameters: "blocks.3." and what follows is a layer, and so is what shares a
// name up to its last dot.
func LayerOf(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			return strings.Join(parts[:i+1], ".")
		}
	}
	return strings.Join(parts[:max(1, len(parts)-1)], ".")
}
