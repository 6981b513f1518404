package simd

import "math"

// SoftmaxRow sets dst = exp(x) / Σ exp(x) and returns log Σ exp(x). An element
// -Inf gives 0; a NaN, a +Inf, or nothing but -Inf gives a row of NaN.
func SoftmaxRow(dst, x []float32) float32 {
	x = prefix(x, len(dst))
	if len(dst) == 0 {
		return float32(math.Inf(-1))
	}
	m := vec.max(x)
	s := ExpSum(dst, x, m)
	vec.scale(dst, 1/s)
	return float32(float64(m) + math.Log(float64(s)))
}

// SoftmaxRowBackward sets dx = y·(dy - Σ y·dy), the gradient of y = softmax(x).
func SoftmaxRowBackward(dx, y, dy []float32) {
	y, dy = prefix(y, len(dx)), prefix(dy, len(dx))
	vec.softmaxBackward(dx, y, dy, Dot(y, dy))
}

// RMSNormRow sets y = x·rstd·w with rstd = 1/√(mean(x²)+eps), which it returns
// for the backward pass.
func RMSNormRow(y, x, w []float32, eps float32) (rstd float32) {
	x, w = prefix(x, len(y)), prefix(w, len(y))
	rstd = inverseRoot(Dot(x, x), len(x), eps)
	vec.scaleMul(y, x, w, rstd)
	return rstd
}

// RMSNormRowBackward adds to dx and dw the gradients of RMSNormRow:
//
//	dx += rstd·(w·dy - x·rstd²·mean(w·dy·x))    dw += dy·x·rstd
func RMSNormRowBackward(dx, dw, x, w, dy []float32, rstd float32) {
	n := len(dx)
	dw, x, w, dy = prefix(dw, n), prefix(x, n), prefix(w, n), prefix(dy, n)
	_, s := vec.normSums(x, w, dy, 0, rstd)
	vec.rmsNormBackward(dx, dw, x, w, dy, rstd, s/float32(n))
}

// LayerNormRow sets y = (x-mean)·rstd·w + b with rstd = 1/√(variance+eps), and
// returns mean and rstd for the backward pass.
func LayerNormRow(y, x, w, b []float32, eps float32) (mean, rstd float32) {
	n := len(y)
	x, w, b = prefix(x, n), prefix(w, n), prefix(b, n)
	mean = Sum(x) / float32(n)
	rstd = inverseRoot(vec.sumSqDev(x, mean), n, eps)
	vec.normalize(y, x, w, b, mean, rstd)
	return mean, rstd
}

// LayerNormRowBackward adds to dx, dw and db the gradients of LayerNormRow;
// with z = (x-mean)·rstd:
//
//	dx += rstd·(w·dy - mean(w·dy) - z·mean(w·dy·z))    dw += dy·z    db += dy
func LayerNormRowBackward(dx, dw, db, x, w, dy []float32, mean, rstd float32) {
	n := len(dx)
	dw, db, x, w, dy = prefix(dw, n), prefix(db, n), prefix(x, n), prefix(w, n), prefix(dy, n)
	s1, s2 := vec.normSums(x, w, dy, mean, rstd)
	vec.layerNormBackward(dx, dw, db, x, w, dy, mean, rstd, s1/float32(n), s2/float32(n))
}

// inverseRoot is 1/√(sum/n + eps).
func inverseRoot(sum float32, n int, eps float32) float32 {
	return float32(1 / math.Sqrt(float64(sum)/float64(n)+float64(eps)))
}

// RoPE turns one head's row of E floats by its position's angles, in place,
// with Hugging Face's pairing of element i with element i+E/2:
//
//	x[i], x[i+E/2] = x[i]·cos[i] - sign·x[i+E/2]·sin[i], x[i+E/2]·cos[i] + sign·x[i]·sin[i]
//
// cos and sin hold E/2 floats. sign is 1 forward and -1 backward (the gradient
// of a rotation is the rotation back). E is even.
func RoPE(x, cos, sin []float32, sign float32) { RoPERow(x, 1, len(x), cos, sin, sign) }

// RoPERow is RoPE on each of a token's heads; x: [heads, E].
func RoPERow(x []float32, heads, E int, cos, sin []float32, sign float32) {
	if E%2 != 0 {
		panic("simd: RoPE of heads of odd size")
	}
	vec.rope(prefix(x, heads*E), heads, prefix(cos, E/2), prefix(sin, E/2), sign)
}
