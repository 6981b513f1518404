package conv

import (
	"unsafe"

	"hasten/engine/simd"
)

//go:generate go run ./gen -out pool_amd64.s -stubs pool_stubs_amd64.go -pkg conv

// maxKernel does what maxTo does for as many elements as fill vectors, and
// returns their number.
func maxKernel(y []float32, arg []int32, x []float32, place int32) int {
	var n int
	py, pa, px := unsafe.SliceData(y), unsafe.SliceData(arg), unsafe.SliceData(x)
	switch simd.Current() {
	case simd.AVX512:
		n = len(y) &^ 15
		maxAVX512(n, py, pa, px, place)
	case simd.AVX2:
		n = len(y) &^ 7
		maxAVX2(n, py, pa, px, place)
	}
	return n
}
