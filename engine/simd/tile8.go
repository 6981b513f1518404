package simd

import "fmt"

// The size of a tile of int8 that shares a scale. A tile lies in memory row
// after row.
const (
	Tile8Side = 32
	Tile8Area = Tile8Side * Tile8Side
)

// Tile8Form says how a tile lies to the product: whether the depth, along which
// products are summed, runs along its rows or down its columns.
type Tile8Form uint8

// The forms.
const (
	Tile8Rows Tile8Form = iota
	Tile8Columns
)

// tile8Kernels work on whole, contiguous tiles; ld is in floats.
type tile8Kernels struct {
	sizeA, sizeB int // bytes of a tile laid out
	layA, layB   func(dst []uint8, q []int8, form Tile8Form)
	mul          func(acc []float32, form Tile8Form, a, b []uint8, scales []float32)

	absMaxBits func(x []float32, ld int) uint32
	quantize   func(q []int8, x []float32, ld int, inverse float32)
	stochastic func(q []int8, x []float32, ld int, inverse float32, key [2]uint32)
	dequantize func(x []float32, ld int, q []int8, scale float32)
	addTo      func(x []float32, ld int, q []int8, scale float32)
}

// Tile8SizeA and Tile8SizeB are the bytes that a tile of A and of B take when
// they are laid out for Tile8Mul, at the level in use.
func Tile8SizeA() int { return tile8().sizeA }
func Tile8SizeB() int { return tile8().sizeB }

// Tile8LayA lays out a tile of A, of a form. dst is aligned to 4 bytes.
func Tile8LayA(dst []uint8, q []int8, form Tile8Form) {
	k := tile8()
	k.layA(dst[:k.sizeA], q[:Tile8Area], form)
}

// Tile8LayB lays out a tile of B, of a form. dst is aligned to 4 bytes.
func Tile8LayB(dst []uint8, q []int8, form Tile8Form) {
	k := tile8()
	k.layB(dst[:k.sizeB], q[:Tile8Area], form)
}

// Tile8Mul adds a sum of products of tiles to acc [32, 32]:
//
//	acc += Σᵢ scales[i]·Aᵢ·Bᵢ
//
// Each product is exact, in integers; it is multiplied by its scale and added
// in float32, in order. a and b hold the tiles laid out one after the other, as
// many as there are scales; those of A were of the given form.
func Tile8Mul(acc []float32, form Tile8Form, a, b []uint8, scales []float32) {
	k, n := tile8(), len(scales)
	if len(acc) < Tile8Area || len(a) < n*k.sizeA || len(b) < n*k.sizeB {
		panic(fmt.Sprintf("simd: product of %d tiles: acc has %d elements, A %d bytes, B %d", n, len(acc), len(a), len(b)))
	}
	k.mul(acc, form, a, b, scales)
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
