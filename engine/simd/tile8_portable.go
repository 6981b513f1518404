package simd

import (
	"math"
	"sync"
	"unsafe"
)

// portableTile8 multiplies in float32, by the kernels of the level in use:
// integers of this size, and sums of 32 products of them, are exact there. Tiles
// are laid out as float32 for it.
var portableTile8 = tile8Kernels{
	sizeA: 4 * Tile8Area, sizeB: 4 * Tile8Area,
	layA: tile8LayAPortable, layB: tile8LayBPortable, mul: tile8MulPortable,
	absMaxBits: tile8AbsMaxPortable,
	quantize:   tile8QuantizePortable, stochastic: tile8StochasticPortable,
	dequantize: tile8DequantizePortable, addTo: tile8AddPortable,
}

func floats(x []uint8) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(x))), len(x)/4)
}

// tile8LayAPortable: the kernel reads A by rows or by columns.
func tile8LayAPortable(dst []uint8, q []int8, _ Tile8Form) { DequantizeS8(floats(dst), q, 1) }

// tile8LayBPortable: of B the kernel wants the depth to run down columns.
func tile8LayBPortable(dst []uint8, q []int8, form Tile8Form) {
	x := floats(dst)
	if form == Tile8Columns {
		DequantizeS8(x, q, 1)
		return
	}
	for i, c := range q {
		x[i%Tile8Side*Tile8Side+i/Tile8Side] = float32(c)
	}
}

func tile8MulPortable(acc []float32, form Tile8Form, a, b []uint8, scales []float32) {
	x, y := floats(a), floats(b)
	rsa, csa := Tile8Side, 1
	if form == Tile8Columns {
		rsa, csa = csa, rsa
	}
	for i, scale := range scales {
		for c := 0; c < Tile8Side; c += GemmF32.Cols {
			GemmF32.Tile(Tile8Side, GemmF32.Cols, Tile8Side, x[i*Tile8Area:], rsa, csa, y[i*Tile8Area+c:], Tile8Side,
				acc[c:], Tile8Side, scale, 1)
		}
	}
}

func tile8AbsMaxPortable(x []float32, ld int) uint32 {
	var m uint32
	for r := range Tile8Side {
		m = max(m, vec.absMaxBits(x[r*ld:][:Tile8Side]))
	}
	return m
}

// tile8Blocks keeps room for a tile in float32.
var tile8Blocks = sync.Pool{New: func() any { return new([Tile8Area]float32) }}

func tile8QuantizePortable(q []int8, x []float32, ld int, inverse float32) {
	block := tile8Blocks.Get().(*[Tile8Area]float32)
	defer tile8Blocks.Put(block)
	for r := range Tile8Side {
		copy(block[r*Tile8Side:][:Tile8Side], x[r*ld:])
	}
	Scale(block[:], inverse)
	QuantizeS8(q, block[:], 1)
}

func tile8StochasticPortable(q []int8, x []float32, ld int, inverse float32, key [2]uint32) {
	for r := range Tile8Side {
		row, codes := x[r*ld:][:Tile8Side], q[r*Tile8Side:][:Tile8Side]
		for i := range Tile8Side / 2 {
			h := tile8Hash(key, uint32(r*Tile8Side/2+i))
			codes[i] = tile8Floor(row[i], inverse, h&0xffff)
			codes[i+Tile8Side/2] = tile8Floor(row[i+Tile8Side/2], inverse, h>>16)
		}
	}
}

// tile8Hash is the two draws at a place of a tile: Wellons's mixing function
// lowbias32, keyed at its start and once more in its middle.
func tile8Hash(key [2]uint32, place uint32) uint32 {
	h := place*0x9e3779b1 + key[0]
	h ^= h >> 16
	h *= 0x7feb352d
	h ^= key[1]
	h ^= h >> 15
	h *= 0x846ca68b
	return h ^ h>>16
}

// tile8Floor rounds x·inverse by a draw of 16 bits, which stands for the middle
// of its interval.
func tile8Floor(x, inverse float32, draw uint32) int8 {
	u := float32(draw)*0x1p-16 + 0x1p-17
	v := math.Floor(float64(float32(x*inverse) + u))
	return int8(max(-127, min(127, v)))
}

func tile8DequantizePortable(x []float32, ld int, q []int8, scale float32) {
	for r := range Tile8Side {
		DequantizeS8(x[r*ld:][:Tile8Side], q[r*Tile8Side:][:Tile8Side], scale)
	}
}

func tile8AddPortable(x []float32, ld int, q []int8, scale float32) {
	for r := range Tile8Side {
		row, codes := x[r*ld:][:Tile8Side], q[r*Tile8Side:][:Tile8Side]
		for i, c := range codes {
			row[i] += float32(float32(c) * scale)
		}
	}
}
