package simd

import "unsafe"

//go:generate go run ./gen/tile8 -out tile8_amd64.s -stubs tile8_stubs_amd64.go -pkg simd

// tile8 is the set of kernels for the level in use. Without int8 dot products
// there is nothing to gain from tiles of int8 but their size.
func tile8() *tile8Kernels {
	if features.VNNI {
		return &avx512Tile8
	}
	return &portableTile8
}

// The instruction multiplies uint8 by int8, four at a time along the depth. So
// codes of A are moved up by 128, and each record of B has -128 times the sums
// of its columns, which products start at. Both are laid out so that groups of
// four lie together; rows of A have them together already.

// tile8Record is the bytes of a tile of B: codes as [8][32][4], then 32 sums.
const tile8Record = Tile8Area + 4*Tile8Side

var avx512Tile8 = tile8Kernels{
	sizeA: Tile8Area, sizeB: tile8Record,
	layA: func(dst []uint8, q []int8, form Tile8Form) {
		if form == Tile8Rows {
			tile8FlipAVX512(&dst[0], &q[0])
		} else {
			tile8InterleaveAVX512(&dst[0], &q[0], 0x80808080)
		}
	},
	layB: func(dst []uint8, q []int8, form Tile8Form) {
		if form == Tile8Rows {
			tile8Turn(dst, q)
		} else {
			tile8InterleaveAVX512(&dst[0], &q[0], 0)
		}
		tile8SumsAVX512(&dst[0])
	},
	mul: func(acc []float32, form Tile8Form, a, b []uint8, scales []float32) {
		f := tile8MulRowsAVX512
		if form == Tile8Columns {
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
}

// tile8Turn makes row r of q column r of groups: eight groups of four bytes.
func tile8Turn(dst []uint8, q []int8) {
	to := unsafe.Slice((*[4]uint8)(unsafe.Pointer(&dst[0])), Tile8Area/4)
	from := unsafe.Slice((*[4]uint8)(unsafe.Pointer(&q[0])), Tile8Area/4)
	for r := range Tile8Side {
		row := from[r*Tile8Side/4:][:Tile8Side/4]
		for g, four := range row {
			to[g*Tile8Side+r] = four
		}
	}
}

// first is the address of a slice's first element, if it has one.
func first[T any](x []T) *T {
	if len(x) == 0 {
		return nil
	}
	return &x[0]
}
