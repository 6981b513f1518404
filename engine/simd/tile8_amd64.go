package simd

//go:generate go run ./gen/tile8 -out tile8_amd64.s -stubs tile8_stubs_amd64.go -pkg simd

// tile8 is the set of kernels for the level in use. Without int8 dot products
// there is nothing to gain from tiles of int8 but their size.
func tile8() *tile8Kernels {
	if features.VNNI {
		return &avx512Tile8
	}
	return &portableTile8
}

var avx512Tile8 = tile8Kernels{
	mul: func(acc []float32, form Tile8Form, a, b []uint8, scales []float32) {
		f := tile8MulRowsAVX512
		if form == Tile8Groups {
			f = tile8MulGroupsAVX512
		}
		f(&acc[0], first(a), first(b), first(scales), len(scales))
	},
	absMaxBits: func(x []float32, ld int) uint32 { return tile8AbsMaxAVX512(&x[0], 4*ld) },
	quantize: func(q []int8, x []float32, ld int, inverse float32) {
		tile8QuantizeAVX512(&q[0], &x[0], 4*ld, inverse)
	},
	stochastic: func(q []int8, x []float32, ld int, inverse float32, key [2]uint32) {
		tile8QuantizeStochasticAVX512(&q[0], &x[0], 4*ld, inverse, key[0], key[1])
	},
	dequantize: func(x []float32, ld int, q []int8, scale float32) {
		tile8DequantizeAVX512(&x[0], 4*ld, &q[0], scale)
	},
	addTo: func(x []float32, ld int, q []int8, scale float32) { tile8AddAVX512(&x[0], 4*ld, &q[0], scale) },
	interleave: func(dst []uint8, q []int8, flip uint8) {
		tile8InterleaveAVX512(&dst[0], &q[0], uint32(flip)*0x01010101)
	},
	flip:        func(dst []uint8, q []int8) { tile8FlipAVX512(&dst[0], &q[0]) },
	completeSum: func(b []uint8) { tile8SumsAVX512(&b[0]) },
}

// first is the address of a slice's first element, if it has one.
func first[T any](x []T) *T {
	if len(x) == 0 {
		return nil
	}
	return &x[0]
}
