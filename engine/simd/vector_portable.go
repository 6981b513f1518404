package simd

import "math"

// portableVector is the Portable level: the kernels in plain Go. Elementary
// functions are computed in float64 and rounded once.
var portableVector = vectorKernels{
	sum: sumPortable, dot: dotPortable, sumSq: sumSqPortable, max: maximumPortable, absMaxBits: absMaxBitsPortable,
	add: addPortable, sub: subPortable, mul: mulPortable, mulAddTo: mulAddToPortable, addTo: addToPortable,
	scale: scalePortable, axpy: axpyPortable, lerp: lerpPortable, copyStream: copyStreamPortable, triad: triadPortable,
	exp: expPortable, tanh: tanhPortable, sigmoid: sigmoidPortable, log: logPortable, expSum: expSumPortable, sumExp: sumExpPortable,
	relu: reluPortable, reluBackward: reluBackwardPortable, silu: siluPortable, siluBackward: siluBackwardPortable,
	geluTanh: geluTanhPortable, geluTanhBackward: geluTanhBackwardPortable,
	geluErf: geluErfPortable, geluErfBackward: geluErfBackwardPortable,
	swiglu: swigluPortable, swigluBackward: swigluBackwardPortable,
	softmaxBackward: softmaxBackwardPortable, scaleMul: scaleMulPortable, sumSqDev: sumSqDevPortable,
	normalize: normalizePortable, normSums: normSumsPortable,
	rmsNormBackward: rmsNormBackwardPortable, layerNormBackward: layerNormBackwardPortable,
	rope: ropePortable, adamW: adamWPortable, adan: adanPortable, sgd: sgdPortable, sgdMomentum: sgdMomentumPortable,
	toBF16: toBF16Portable, fromBF16: fromBF16Portable, roundBF16: roundBF16Portable, toF16: toF16Portable, fromF16: fromF16Portable,
	quantizeS8: quantizeS8Portable, dequantizeS8: dequantizeS8Portable,
}

// lanes is how many partial sums the portable reductions keep, for speed and
// for accuracy.
const lanes = 8

func addLanes(s *[lanes]float32) float32 {
	return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

func sumPortable(x []float32) float32 {
	var s [lanes]float32
	for ; len(x) >= lanes; x = x[lanes:] {
		for j := range s {
			s[j] += x[j]
		}
	}
	for j, v := range x {
		s[j] += v
	}
	return addLanes(&s)
}

func dotPortable(x, y []float32) float32 {
	var s [lanes]float32
	for ; len(x) >= lanes; x, y = x[lanes:], y[lanes:] {
		for j := range s {
			s[j] += x[j] * y[j]
		}
	}
	for j, v := range x {
		s[j] += v * y[j]
	}
	return addLanes(&s)
}

func sumSqPortable(x []float32) float64 {
	var s [4]float64
	for ; len(x) >= len(s); x = x[len(s):] {
		for j := range s {
			v := float64(x[j])
			s[j] += v * v
		}
	}
	for j, v := range x {
		s[j] += float64(v) * float64(v)
	}
	return (s[0] + s[2]) + (s[1] + s[3])
}

func maximumPortable(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

// absMaxBitsPortable compares magnitudes as integers, which order like the numbers,
// NaNs above +Inf.
func absMaxBitsPortable(x []float32) uint32 {
	var m uint32
	for _, v := range x {
		m = max(m, math.Float32bits(v)&^(1<<31))
	}
	return m
}

func addPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] + b[i]
	}
}

func subPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] - b[i]
	}
}

func mulPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] * b[i]
	}
}

func mulAddToPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] += a[i] * b[i]
	}
}

func addToPortable(dst, x []float32) {
	for i := range dst {
		dst[i] += x[i]
	}
}

func scalePortable(x []float32, a float32) {
	for i := range x {
		x[i] *= a
	}
}

func axpyPortable(y, x []float32, a float32) {
	for i := range y {
		y[i] += a * x[i]
	}
}

func lerpPortable(dst, x []float32, a float32) {
	b := 1 - a
	for i := range dst {
		dst[i] = a*dst[i] + b*x[i]
	}
}

func copyStreamPortable(dst, src []float32) { copy(dst, src) }

func triadPortable(dst, a, b []float32, s float32) {
	for i := range dst {
		dst[i] = a[i] + s*b[i]
	}
}

// exp64 is eˣ to 5e-9, between e⁻¹⁰⁵ and e¹⁰⁵: with x = n·ln2 + r, |r| ≤ ln2/2,
// the Taylor series of eʳ times 2ⁿ.
func exp64(x float64) float64 {
	x = max(-105, min(x, 105)) // NaN stays
	n := math.Floor(x*math.Log2E + 0.5)
	r := x - n*math.Ln2
	r2 := r * r // terms in pairs: shorter chains than Horner's
	p := (1 + r) + r2*((1./2+r*(1./6))+r2*((1./24+r*(1./120))+r2*(1./720+r*(1./5040))))
	return p * math.Float64frombits(uint64(int64(n)+1023)<<52)
}

func sigmoid64(x float64) float64 { return 1 / (1 + exp64(-x)) }

func tanh64(x float64) float64 {
	if -0.25 < x && x < 0.25 { // the quotient below would lose digits
		s := x * x
		return x * (1 + s*(-1./3+s*(2./15+s*(-17./315+s*(62./2835-s*(1382./155925))))))
	}
	e := exp64(2 * x)
	return (e - 1) / (e + 1)
}

// normalCDF and normalPDF are the standard normal distribution and density.
func normalCDF(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }
func normalPDF(x float64) float64 { return exp64(-0.5*x*x) / math.Sqrt(2*math.Pi) }

func expPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] = float32(exp64(float64(v)))
	}
}

func expSumPortable(dst, x []float32, shift float32) float32 {
	var s float64
	for i, v := range x {
		e := exp64(float64(v - shift))
		dst[i] = float32(e)
		s += e
	}
	return float32(s)
}

func sumExpPortable(x []float32, shift float32) float32 {
	var s float64
	for _, v := range x {
		s += exp64(float64(v - shift))
	}
	return float32(s)
}

func logPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] = float32(math.Log(float64(v)))
	}
}

func tanhPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] = float32(tanh64(float64(v)))
	}
}

func sigmoidPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] = float32(sigmoid64(float64(v)))
	}
}

func reluPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] = max(v, 0)
	}
}

func reluBackwardPortable(dx, x, dy []float32) {
	for i, v := range x {
		if v > 0 {
			dx[i] = dy[i]
		} else {
			dx[i] = 0
		}
	}
}

func siluPortable(dst, x []float32) {
	for i, v := range x {
		z := float64(v)
		dst[i] = float32(z * sigmoid64(z))
	}
}

func siluBackwardPortable(dx, x, dy []float32) {
	for i, v := range x {
		z := float64(v)
		s := sigmoid64(z)
		dx[i] = dy[i] * float32(s*(1+z*(1-s)))
	}
}

// GELU's tanh form is x·sigmoid(2u), u = √(2/π)·(x + 0.044715·x³).
const (
	gelu1 = 2 * 0.79788456080286535588 // 2√(2/π)
	gelu3 = gelu1 * 0.044715
)

func geluTanhPortable(dst, x []float32) {
	for i, v := range x {
		z := float64(v)
		dst[i] = float32(z * sigmoid64(z*(gelu1+gelu3*z*z)))
	}
}

func geluTanhBackwardPortable(dx, x, dy []float32) {
	for i, v := range x {
		z := float64(v)
		s := sigmoid64(z * (gelu1 + gelu3*z*z))
		dx[i] = dy[i] * float32(s*(1+z*(1-s)*(gelu1+3*gelu3*z*z)))
	}
}

func geluErfPortable(dst, x []float32) {
	for i, v := range x {
		z := float64(v)
		dst[i] = float32(z * normalCDF(z))
	}
}

func geluErfBackwardPortable(dx, x, dy []float32) {
	for i, v := range x {
		z := float64(v)
		dx[i] = dy[i] * float32(normalCDF(z)+z*normalPDF(z))
	}
}

func swigluPortable(dst, g, u []float32) {
	for i, v := range g {
		z := float64(v)
		dst[i] = u[i] * float32(z*sigmoid64(z))
	}
}

func swigluBackwardPortable(dg, du, g, u, dh []float32) {
	for i, v := range g {
		z := float64(v)
		s := sigmoid64(z)
		d, w := dh[i], u[i]
		du[i] = d * float32(z*s)
		dg[i] = d * w * float32(s*(1+z*(1-s)))
	}
}

func softmaxBackwardPortable(dx, y, dy []float32, dot float32) {
	for i := range dx {
		dx[i] = y[i] * (dy[i] - dot)
	}
}

func scaleMulPortable(y, x, w []float32, a float32) {
	for i := range y {
		y[i] = x[i] * a * w[i]
	}
}

func sumSqDevPortable(x []float32, mean float32) float32 {
	var s [lanes]float32
	for ; len(x) >= lanes; x = x[lanes:] {
		for j := range s {
			d := x[j] - mean
			s[j] += d * d
		}
	}
	for j, v := range x {
		s[j] += (v - mean) * (v - mean)
	}
	return addLanes(&s)
}

func normalizePortable(y, x, w, b []float32, mean, rstd float32) {
	for i := range y {
		y[i] = (x[i]-mean)*rstd*w[i] + b[i]
	}
}

// normSumsPortable returns Σ w·dy and Σ w·dy·z, z = (x-mean)·rstd.
func normSumsPortable(x, w, dy []float32, mean, rstd float32) (float32, float32) {
	var s1, s2 float64
	for i, v := range x {
		g := w[i] * dy[i]
		s1 += float64(g)
		s2 += float64(g * ((v - mean) * rstd))
	}
	return float32(s1), float32(s2)
}

// rmsNormBackwardPortable: c = mean(w·dy·x·rstd).
func rmsNormBackwardPortable(dx, dw, x, w, dy []float32, rstd, c float32) {
	for i := range dx {
		z := x[i] * rstd
		dx[i] += rstd * (w[i]*dy[i] - z*c)
		dw[i] += dy[i] * z
	}
}

// layerNormBackwardPortable: c1 = mean(w·dy), c2 = mean(w·dy·z).
func layerNormBackwardPortable(dx, dw, db, x, w, dy []float32, mean, rstd, c1, c2 float32) {
	for i := range dx {
		z := (x[i] - mean) * rstd
		dx[i] += rstd * (w[i]*dy[i] - c1 - z*c2)
		dw[i] += dy[i] * z
		db[i] += dy[i]
	}
}

func ropePortable(x []float32, heads int, cos, sin []float32, sign float32) {
	h := len(cos)
	for range heads {
		for i, c := range cos {
			s := sign * sin[i]
			a, b := x[i], x[i+h]
			x[i], x[i+h] = a*c-b*s, b*c+a*s
		}
		x = x[2*h:]
	}
}

func adamWPortable(p, m, v, g []float32, gradScale, decay, mix1, beta2, mix2, root, eps, step float32) {
	for i := range p {
		d := g[i] * gradScale
		m[i] += mix1 * (d - m[i])
		v[i] = beta2*v[i] + mix2*(d*d)
		denom := float32(math.Sqrt(float64(v[i])))*root + eps
		p[i] = decay*p[i] - step*(m[i]/denom)
	}
}

func sgdPortable(p, g []float32, gradScale, weightDecay, lr float32) {
	for i := range p {
		p[i] -= lr * (g[i]*gradScale + weightDecay*p[i])
	}
}

func sgdMomentumPortable(p, m, g []float32, gradScale, weightDecay, momentum, ofGrad, ofBuffer, lr float32) {
	for i := range p {
		d := g[i]*gradScale + weightDecay*p[i]
		m[i] = momentum*m[i] + d
		p[i] -= lr * (ofGrad*d + ofBuffer*m[i])
	}
}

// bf16 rounds to nearest, ties to even: half a unit, less one if the kept part
// is even, is added before the cut.
func bf16(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func toBF16Portable(dst []uint16, src []float32) {
	for i, v := range src {
		dst[i] = bf16(v)
	}
}

func fromBF16Portable(dst []float32, src []uint16) {
	for i, v := range src {
		dst[i] = math.Float32frombits(uint32(v) << 16)
	}
}

func roundBF16Portable(dst, src []float32) {
	for i, v := range src {
		dst[i] = math.Float32frombits(uint32(bf16(v)) << 16)
	}
}

func f16(v float32) uint16 {
	b := math.Float32bits(v)
	sign := uint16(b >> 16 & 0x8000)
	b &^= 1 << 31
	switch {
	case b > infBits:
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x477ff000: // 65520
		return sign | 0x7c00
	case b < 0x38800000: // 2⁻¹⁴: adding ½ leaves the multiple of 2⁻²⁴ in the low bits
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	return sign | uint16((b-0x38000000+0xfff+b>>13&1)>>13)
}

func toF16Portable(dst []uint16, src []float32) {
	for i, v := range src {
		dst[i] = f16(v)
	}
}

func fromF16Portable(dst []float32, src []uint16) {
	for i, v := range src {
		sign := uint32(v&0x8000) << 16
		b := uint32(v&0x7fff) << 13
		switch e := v & 0x7c00; {
		case e == 0x7c00 && v&0x3ff != 0:
			b |= infBits | 1<<22
		case e == 0x7c00:
			b |= infBits
		case e == 0: // zero or subnormal: a multiple of 2⁻²⁴
			b = math.Float32bits(float32(v&0x3ff) * (1.0 / (1 << 24)))
		default:
			b += (127 - 15) << 23
		}
		dst[i] = math.Float32frombits(sign | b)
	}
}

func quantizeS8Portable(dst []int8, src []float32, scale float32) {
	for i, v := range src {
		switch q := v / scale; {
		case q >= 127:
			dst[i] = 127
		case q > -128:
			dst[i] = int8(math.RoundToEven(float64(q)))
		default:
			dst[i] = -128
		}
	}
}

func dequantizeS8Portable(dst []float32, src []int8, scale float32) {
	for i, v := range src {
		dst[i] = float32(v) * scale
	}
}
