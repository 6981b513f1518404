package simd

import "math"

// Exp sets dst = eˣ, within 2 units in the last place over the whole range:
// +Inf above 88.72, gradually to 0 below -87.3, NaN for NaN.
func Exp(dst, x []float32) { vec.exp(dst, x[:len(dst)]) }

// ExpSum sets dst = exp(x-shift) and returns Σ dst.
func ExpSum(dst, x []float32, shift float32) float32 {
	return vec.expSum(dst, x[:len(dst)], shift)
}

// LogSumExp returns log Σ exp(x), safe from overflow; -Inf for no element.
func LogSumExp(x []float32) float32 {
	m := Max(x)
	if math.IsInf(float64(m), 0) {
		return m
	}
	return m + float32(math.Log(float64(vec.sumExp(x, m))))
}

// Log sets dst = ln x, within 2 units in the last place: -Inf for 0, NaN below.
func Log(dst, x []float32) { vec.log(dst, x[:len(dst)]) }

// Tanh sets dst = tanh x, within 3 units in the last place.
func Tanh(dst, x []float32) { vec.tanh(dst, x[:len(dst)]) }

// Sigmoid sets dst = 1/(1+exp(-x)), within 3 units in the last place where
// that is a normal number (x > -87).
func Sigmoid(dst, x []float32) { vec.sigmoid(dst, x[:len(dst)]) }

// ReLU sets dst = max(x, 0).
func ReLU(dst, x []float32) { vec.relu(dst, x[:len(dst)]) }

// ReLUBackward sets dx = dy where x > 0, and 0 elsewhere.
func ReLUBackward(dx, x, dy []float32) { vec.reluBackward(dx, x[:len(dx)], dy[:len(dx)]) }

// SiLU sets dst = x·sigmoid(x).
func SiLU(dst, x []float32) { vec.silu(dst, x[:len(dst)]) }

// SiLUBackward sets dx = dy·f'(x) for f = SiLU.
func SiLUBackward(dx, x, dy []float32) { vec.siluBackward(dx, x[:len(dx)], dy[:len(dx)]) }

// GELUTanh sets dst = x/2·(1+tanh(√(2/π)·(x+0.044715·x³))), GPT-2's GELU.
func GELUTanh(dst, x []float32) { vec.geluTanh(dst, x[:len(dst)]) }

// GELUTanhBackward sets dx = dy·f'(x) for f = GELUTanh.
func GELUTanhBackward(dx, x, dy []float32) { vec.geluTanhBackward(dx, x[:len(dx)], dy[:len(dx)]) }

// GELUErf sets dst = x·Φ(x), Φ the normal distribution function; Φ is within
// 5e-7 of its value.
func GELUErf(dst, x []float32) { vec.geluErf(dst, x[:len(dst)]) }

// GELUErfBackward sets dx = dy·f'(x) for f = GELUErf.
func GELUErfBackward(dx, x, dy []float32) { vec.geluErfBackward(dx, x[:len(dx)], dy[:len(dx)]) }

// SwiGLU sets dst = SiLU(g)·u, the gate of a SwiGLU feed-forward layer.
func SwiGLU(dst, g, u []float32) { vec.swiglu(dst, g[:len(dst)], u[:len(dst)]) }

// SwiGLUBackward sets dg and du to the gradients of h = SiLU(g)·u, given dh.
// dg may be g and du may be u.
func SwiGLUBackward(dg, du, g, u, dh []float32) {
	n := len(dg)
	vec.swigluBackward(dg, du[:n], g[:n], u[:n], dh[:n])
}
