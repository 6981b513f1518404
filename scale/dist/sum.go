package dist

import (
	"fmt"

	"hasten/engine/memory"
	"hasten/engine/simd"
)

// add sets dst += src.
func add(dst, src []byte, sum kind) {
	switch sum {
	case bf16:
		addBF16(typed[uint16](dst), typed[uint16](src))
	case f32:
		simd.AddTo(typed[float32](dst), typed[float32](src))
	case f64:
		d := typed[float64](dst)
		for i, x := range typed[float64](src) {
			d[i] += x
		}
	default:
		panic(fmt.Sprintf("dist: a sum of kind %d", sum))
	}
}

// addBF16 sets dst += src: float32 sums, rounded to bfloat16.
func addBF16(dst, src []uint16) {
	const most = 1024
	wide := memory.Default.Dirty(memory.Workspace, 2*most)
	defer memory.Default.Free(memory.Workspace, wide)
	for len(dst) > 0 {
		n := min(len(dst), most)
		a, b := wide[:n], wide[most:most+n]
		simd.FromBF16(a, dst[:n])
		simd.FromBF16(b, src[:n])
		simd.AddTo(a, b)
		simd.ToBF16(dst[:n], a)
		dst, src = dst[n:], src[n:]
	}
}
