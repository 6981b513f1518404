package simd

import "math"

// Exp sets dst = eˣ, within 2 units in the last place over the whole range:
// +Inf above 88.72, gradually to 0 below -87.3, NaN for NaN.
func Exp(dst, x []float32) { vec.exp(dst, prefix(x, len(dst))) }

// ExpSum sets dst = exp(x-shift) and returns Σ dst.
func ExpSum(dst, x []float32, shift float32) float32 {
	x = prefix(x, len(dst))
	var sum float64
	for len(dst) > sumBlock {
		sum += float64(vec.expSum(dst[:sumBlock], x[:sumBlock], shift))
		dst, x = dst[sumBlock:], x[sumBlock:]
	}
	return float32(sum + float64(vec.expSum(dst, x, shift)))
}

// LogSumExp returns log Σ exp(x), safe from overflow; -Inf for no element.
func LogSumExp(x []float32) float32 {
	m := Max(x)
	if math.IsInf(float64(m), 0) {
		return m
	}
	var sum float64
	for len(x) > sumBlock {
		sum += float64(vec.sumExp(x[:sumBlock], m))
		x = x[sumBlock:]
	}
	return float32(float64(m) + math.Log(sum+float64(vec.sumExp(x, m))))
}

// Log sets dst = ln x, within 2 units in the last place: -Inf for 0, NaN below.
func Log(dst, x []float32) { vec.log(dst, prefix(x, len(dst))) }

// Tanh sets dst = tanh x, within 3 units in the last place.
func Tanh(dst, x []float32) { vec.tanh(dst, prefix(x, len(dst))) }

// Sigmoid sets dst = 1/(1+exp(-x)), within 3 units in the last place where
// that is a normal number (x > -87).
func Sigmoid(dst, x []float32) { vec.sigmoid(dst, prefix(x, len(dst))) }

// ReLU sets dst = max(x, 0).
func ReLU(dst, x []float32) { vec.relu(dst, prefix(x, len(dst))) }

// ReLUBackward sets dx = dy where x > 0, and 0 elsewhere.
func ReLUBackward(dx, x, dy []float32) { vec.reluBackward(dx, prefix(x, len(dx)), prefix(dy, len(dx))) }

// SiLU sets dst = x·sigmoid(x).
func SiLU(dst, x []float32) { vec.silu(dst, prefix(x, len(dst))) }

// SiLUBackward sets dx = dy·f'(x) for f = SiLU.
func SiLUBackward(dx, x, dy []float32) { vec.siluBackward(dx, prefix(x, len(dx)), prefix(dy, len(dx))) }

// GELUTanh sets dst = x/2·(1+tanh(√(2/π)·(x+0.044715·x³))), GPT-2's GELU.
func GELUTanh(dst, x []float32) { vec.geluTanh(dst, prefix(x, len(dst))) }

// GELUTanhBackward sets dx = dy·f'(x) for f = GELUTanh.
func GELUTanhBackward(dx, x, dy []float32) {
	vec.geluTanhBackward(dx, prefix(x, len(dx)), prefix(dy, len(dx)))
}

// GELUErf sets dst = x·Φ(x), Φ the normal distribution function; Φ is within
// 2e-7 of its value.
func GELUErf(dst, x []float32) { vec.geluErf(dst, prefix(x, len(dst))) }

// GELUErfBackward sets dx = dy·f'(x) for f = GELUErf.
func GELUErfBackward(dx, x, dy []float32) {
	vec.geluErfBackward(dx, prefix(x, len(dx)), prefix(dy, len(dx)))
}

// SwiGLU sets dst = SiLU(g)·u, the gate of a SwiGLU feed-forward layer.
func SwiGLU(dst, g, u []float32) { vec.swiglu(dst, prefix(g, len(dst)), prefix(u, len(dst))) }

// SwiGLUBackward sets dg and du to the gradients of h = SiLU(g)·u, given dh.
// dg may be g and du may be u.
func SwiGLUBackward(dg, du, g, u, dh []float32) {
	n := len(dg)
	vec.swigluBackward(dg, prefix(du, n), prefix(g, n), prefix(u, n), prefix(dh, n))
}
