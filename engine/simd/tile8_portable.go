package simd

import (
	"encoding/binary"
	"math"
	"sync"
)

var portableTile8 = tile8Kernels{
	mul: tile8MulPortable, absMaxBits: tile8AbsMaxPortable,
	quantize: tile8QuantizePortable, stochastic: tile8StochasticPortable,
	dequantize: tile8DequantizePortable, addTo: tile8AddPortable,
	interleave: tile8InterleavePortable, flip: tile8FlipPortable, completeSum: tile8SumsPortable,
}

// tile8Wide keeps room for a tile of A and one of B in float32.
var tile8Wide = sync.Pool{New: func() any { return new([2][Tile8Area]float32) }}

// tile8MulPortable multiplies in float32, by the kernels of the level in use:
// integers of this size, and the sums of 32 products, are exact there.
func tile8MulPortable(acc []float32, form Tile8Form, a, b []uint8, scales []float32) {
	wide := tile8Wide.Get().(*[2][Tile8Area]float32)
	defer tile8Wide.Put(wide)
	x, y := &wide[0], &wide[1]
	for i, scale := range scales {
		unflip := a[i*Tile8Area:][:Tile8Area]
		for j, v := range unflip {
			if form == Tile8Groups { // [8][32][4]
				j = j/4%Tile8Side*Tile8Side + j/(4*Tile8Side)*4 + j%4
			}
			x[j] = float32(int(v) - 128)
		}
		for j, v := range b[i*Tile8Record:][:Tile8Area] {
			y[(j/(4*Tile8Side)*4+j%4)*Tile8Side+j/4%Tile8Side] = float32(int8(v))
		}
		for c := 0; c < Tile8Side; c += GemmF32.Cols {
			GemmF32.Tile(Tile8Side, GemmF32.Cols, Tile8Side, x[:], Tile8Side, 1, y[c:], Tile8Side, acc[c:], Tile8Side, scale, 1)
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

func tile8QuantizePortable(q []int8, x []float32, ld int, inverse float32) {
	for i := range q {
		q[i] = int8(math.RoundToEven(float64(float32(x[i/Tile8Side*ld+i%Tile8Side] * inverse))))
	}
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

// tile8InterleavePortable: element (r, c) becomes byte r%4 of column c of group r/4.
func tile8InterleavePortable(dst []uint8, q []int8, flip uint8) {
	for i, c := range q {
		r := i / Tile8Side
		dst[(r/4*Tile8Side+i%Tile8Side)*4+r%4] = uint8(c) ^ flip
	}
}

func tile8FlipPortable(dst []uint8, q []int8) {
	for i, c := range q {
		dst[i] = uint8(c) ^ 0x80
	}
}

func tile8SumsPortable(b []uint8) {
	for c := range Tile8Side {
		var sum int32
		for g := range Tile8Side / 4 {
			for _, v := range b[(g*Tile8Side+c)*4:][:4] {
				sum += int32(int8(v))
			}
		}
		binary.LittleEndian.PutUint32(b[Tile8Area+4*c:], uint32(-128*sum))
	}
}
