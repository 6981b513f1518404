package matmul

import "math"

// round is x rounded to the format, to nearest, ties to even.
func (f Format) round(x float32) float32 {
	if f == F32 || x != x {
		return x
	}
	b := math.Float32bits(x)
	b += 0x7fff + b>>16&1
	return math.Float32frombits(b &^ 0xffff)
}
