package simd

// Conversions are exact or correctly rounded, so every level gives the same
// bits. The kernels take whole groups of 16; the rest is done here.
const group = 16

// ToBF16 rounds to bfloat16, ties to even. NaNs stay NaN (made quiet).
func ToBF16(dst []uint16, src []float32) {
	src = prefix(src, len(dst))
	k := len(dst) &^ (group - 1)
	vec.toBF16(dst[:k], src[:k])
	toBF16Portable(dst[k:], src[k:])
}

// FromBF16 widens bfloat16, exactly.
func FromBF16(dst []float32, src []uint16) {
	src = prefix(src, len(dst))
	k := len(dst) &^ (group - 1)
	vec.fromBF16(dst[:k], src[:k])
	fromBF16Portable(dst[k:], src[k:])
}

// RoundBF16 rounds to the nearest bfloat16 and back: dst = FromBF16(ToBF16(src)).
func RoundBF16(dst, src []float32) { vec.roundBF16(dst, prefix(src, len(dst))) }

// ToF16 rounds to IEEE half precision, ties to even: ±Inf from 65520 on,
// subnormal below 2⁻¹⁴. NaNs stay NaN (made quiet).
func ToF16(dst []uint16, src []float32) {
	src = prefix(src, len(dst))
	k := len(dst) &^ (group - 1)
	vec.toF16(dst[:k], src[:k])
	toF16Portable(dst[k:], src[k:])
}

// FromF16 widens IEEE half precision, exactly (NaNs are made quiet).
func FromF16(dst []float32, src []uint16) {
	src = prefix(src, len(dst))
	k := len(dst) &^ (group - 1)
	vec.fromF16(dst[:k], src[:k])
	fromF16Portable(dst[k:], src[k:])
}

// QuantizeS8 sets dst = src/scale, rounded to the nearest integer, ties to
// even, and held to -128 … 127. NaN gives -128. scale > 0.
func QuantizeS8(dst []int8, src []float32, scale float32) {
	src = prefix(src, len(dst))
	k := len(dst) &^ (group - 1)
	vec.quantizeS8(dst[:k], src[:k], scale)
	quantizeS8Portable(dst[k:], src[k:], scale)
}

// DequantizeS8 sets dst = src·scale.
func DequantizeS8(dst []float32, src []int8, scale float32) {
	src = prefix(src, len(dst))
	k := len(dst) &^ (group - 1)
	vec.dequantizeS8(dst[:k], src[:k], scale)
	dequantizeS8Portable(dst[k:], src[k:], scale)
}
