//go:build !amd64

package simd

func hasGather() bool { return false }

func gatherRows(int, int, int, []float32, *[GatherTile]int32, int, []float32, []float32, *[GatherTile]int32, int, *[GatherTile]float32, bool) {
	panic("simd: no kernel for GatherRows at this level")
}

func gatherOuter(int, int, []float32, []int32, int, []float32, int, []float32, int, bool) {
	panic("simd: no kernel for GatherOuter at this level")
}
