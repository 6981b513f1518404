package simd

import (
	"fmt"
	"unsafe"
)

// The size of a tile of int8 that shares a scale. A tile lies in memory row
// after row.
const (
	Tile8Side = 32
	Tile8Area = Tile8Side * Tile8Side

	// Tile8Record is the bytes of a tile of B laid out for Tile8Mul.
	Tile8Record = Tile8Area + 4*Tile8Side
)

// Tile8Form says how tiles of A are laid out for Tile8Mul.
type Tile8Form uint8

// The forms: by Tile8Flip, where the depth of the product runs along the rows
// of a tile, and by Tile8Group, where it runs down its columns.
const (
	Tile8Rows Tile8Form = iota
	Tile8Groups
)

// tile8Kernels work on whole, contiguous tiles; ld is in floats.
type tile8Kernels struct {
	mul         func(acc []float32, form Tile8Form, a, b []uint8, scales []float32)
	absMaxBits  func(x []float32, ld int) uint32
	quantize    func(q []int8, x []float32, ld int, inverse float32)
	stochastic  func(q []int8, x []float32, ld int, inverse float32, key [2]uint32)
	dequantize  func(x []float32, ld int, q []int8, scale float32)
	addTo       func(x []float32, ld int, q []int8, scale float32)
	interleave  func(dst []uint8, q []int8, flip uint8)
	flip        func(dst []uint8, q []int8)
	completeSum func(b []uint8)
}

// Tile8Mul adds a sum of products of tiles to acc [32, 32]:
//
//	acc += Σᵢ scales[i]·Aᵢ·Bᵢ
//
// Each product is exact, in integers; it is multiplied by its scale and added
// in float32, in order. a holds the tiles of A one after the other, in a form,
// b the records of B, both as many as there are scales.
func Tile8Mul(acc []float32, form Tile8Form, a, b []uint8, scales []float32) {
	n := len(scales)
	if len(acc) < Tile8Area || len(a) < n*Tile8Area || len(b) < n*Tile8Record {
		panic(fmt.Sprintf("simd: product of %d tiles: acc has %d elements, A %d, B %d", n, len(acc), len(a), len(b)))
	}
	tile8().mul(acc, form, a, b, scales)
}

// Tile8AbsMaxBits returns the bits of the largest magnitude in the block
// x[32, 32], rows ld apart: those of a NaN, if any is, above those of infinity.
func Tile8AbsMaxBits(x []float32, ld int) uint32 {
	checkBlock("x", Tile8Side, Tile8Side, x, ld)
	return tile8().absMaxBits(x, ld)
}

// Tile8Quantize sets the tile q to the block x[32, 32] times inverse, rounded
// to the nearest integer, ties to even. x·inverse must be within ±127.5.
func Tile8Quantize(q []int8, x []float32, ld int, inverse float32) {
	checkBlock("x", Tile8Side, Tile8Side, x, ld)
	tile8().quantize(q[:Tile8Area], x, ld, inverse)
}

// Tile8QuantizeStochastic is Tile8Quantize with each element rounded up with
// the probability of its fraction: to floor(x·inverse + u), held to ±127, for
// draws u of 16 bits, uniform in (0, 1). They are a hash of the key and the
// element's place; keys are to be random.
func Tile8QuantizeStochastic(q []int8, x []float32, ld int, inverse float32, key [2]uint32) {
	checkBlock("x", Tile8Side, Tile8Side, x, ld)
	tile8().stochastic(q[:Tile8Area], x, ld, inverse, key)
}

// Tile8Dequantize sets the block x[32, 32], rows ld apart, to scale·q.
func Tile8Dequantize(x []float32, ld int, q []int8, scale float32) {
	checkBlock("x", Tile8Side, Tile8Side, x, ld)
	tile8().dequantize(x, ld, q[:Tile8Area], scale)
}

// Tile8AddTo adds scale·q to the block x[32, 32], rows ld apart.
func Tile8AddTo(x []float32, ld int, q []int8, scale float32) {
	checkBlock("x", Tile8Side, Tile8Side, x, ld)
	tile8().addTo(x, ld, q[:Tile8Area], scale)
}

// The instruction multiplies uint8 by int8. So codes of A are moved up by 128,
// and sums start at -128 times the sum of the column of B.

// Tile8Flip lays out a tile of A whose rows run along the depth.
func Tile8Flip(dst []uint8, q []int8) { tile8().flip(dst[:Tile8Area], q[:Tile8Area]) }

// Tile8Group lays out a tile of A whose columns run along the depth.
func Tile8Group(dst []uint8, q []int8) { tile8().interleave(dst[:Tile8Area], q[:Tile8Area], 0x80) }

// Tile8Across lays out a record of B from a tile whose columns run along the
// depth.
func Tile8Across(dst []uint8, q []int8) {
	dst = dst[:Tile8Record]
	k := tile8()
	k.interleave(dst, q[:Tile8Area], 0)
	k.completeSum(dst)
}

// Tile8Turn lays out a record of B from a tile whose rows run along the depth.
func Tile8Turn(dst []uint8, q []int8) {
	dst, q = dst[:Tile8Record], q[:Tile8Area]
	to := unsafe.Slice((*[4]uint8)(unsafe.Pointer(&dst[0])), Tile8Area/4)
	from := unsafe.Slice((*[4]uint8)(unsafe.Pointer(&q[0])), Tile8Area/4)
	for r := range Tile8Side {
		row := from[r*Tile8Side/4:][:Tile8Side/4]
		for g, four := range row {
			to[g*Tile8Side+r] = four
		}
	}
	tile8().completeSum(dst)
}
