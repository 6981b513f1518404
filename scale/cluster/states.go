// Package cluster says what happens on more ranks than there are here, without
// the arithmetic: it runs the plans of package dist on shapes alone. Its figures
// are simulated, and whoever shows them says so.
package cluster

import (
	"fmt"
	"math"

	"hasten/scale/dist"
)

// ModelStates is the memory, in bytes, that weights, gradients and Adam's states
// take on one of so many ranks, in a stage of ZeRO (0: data parallelism): what
// dist.Zero holds of a model whose parameters are spread evenly over its layers.
func ModelStates(params, layers, ranks, stage int) int64 {
	sizes, names := make([]int, layers), make([]string, layers)
	for i := range sizes {
		sizes[i] = (i+1)*params/layers - i*params/layers
		names[i] = fmt.Sprint(i)
	}
	return dist.NewLayout(sizes, names, ranks, params).States(stage).Total()
}

// Gigabytes writes bytes as ZeRO's table of memory does: in units of 10⁹ bytes,
// whole numbers cut off from 100 on, else rounded to three digits, but to no
// more than two after the point.
func Gigabytes(bytes int64) string {
	g := float64(bytes) / 1e9
	if g >= 100 {
		return fmt.Sprint(math.Floor(g))
	}
	step := 10.0
	if g < 10 {
		step = 100
	}
	return fmt.Sprint(math.Floor(g*step+0.5) / step)
}
