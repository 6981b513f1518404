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

// ZeROCell is a cell of the table of memory per device in the paper on ZeRO.
type ZeROCell struct {
	Model  string
	Params int
	Ranks  int
	Stage  int
	Paper  string // GB, as printed
}

// Simulated is the cell as ModelStates has it, for a model of 72 layers.
func (c ZeROCell) Simulated() string { return Gigabytes(ModelStates(c.Params, 72, c.Ranks, c.Stage)) }

// ZeROTable is table 1 of the paper: memory per device in GB for P_os, P_os+g
// and P_os+g+p.
func ZeROTable() []ZeROCell {
	models := []ZeROCell{{Model: "7.5B", Params: 7.5e9}, {Model: "128B", Params: 128e9}, {Model: "1T", Params: 1e12}}
	var all []ZeROCell
	for _, row := range []struct {
		ranks int
		cells [3][3]string
	}{
		{1, [3][3]string{{"120", "120", "120"}, {"2048", "2048", "2048"}, {"16000", "16000", "16000"}}},
		{4, [3][3]string{{"52.5", "41.3", "30"}, {"896", "704", "512"}, {"7000", "5500", "4000"}}},
		{16, [3][3]string{{"35.6", "21.6", "7.5"}, {"608", "368", "128"}, {"4750", "2875", "1000"}}},
		{64, [3][3]string{{"31.4", "16.6", "1.88"}, {"536", "284", "32"}, {"4187", "2218", "250"}}},
		{256, [3][3]string{{"30.4", "15.4", "0.47"}, {"518", "263", "8"}, {"4046", "2054", "62.5"}}},
		{1024, [3][3]string{{"30.1", "15.1", "0.12"}, {"513", "257", "2"}, {"4011", "2013", "15.6"}}},
	} {
		for m, c := range models {
			for i, printed := range row.cells[m] {
				c.Ranks, c.Stage, c.Paper = row.ranks, i+1, printed
				all = append(all, c)
			}
		}
	}
	return all
}
