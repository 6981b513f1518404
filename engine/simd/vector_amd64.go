package simd

import "unsafe"

//go:generate go run ./gen/vector -out vector_amd64.s -stubs vector_stubs_amd64.go -pkg simd

// The AVX2 kernels also use F16C, which every processor with AVX2 has.
func vectorFor(l Level) vectorKernels {
	switch l {
	case AVX512:
		return avx512Vector
	case AVX2:
		return avx2Vector
	}
	return portableVector
}

var avx2Vector = vectorKernels{
	sum: vecSumAVX2, dot: vecDotAVX2, sumSq: vecSumSqAVX2, max: vecMaximumAVX2, absMaxBits: vecAbsMaxBitsAVX2,
	add: vecAddAVX2, sub: vecSubAVX2, mul: vecMulAVX2, mulAddTo: vecMulAddToAVX2, addTo: vecAddToAVX2, scale: vecScaleAVX2, axpy: vecAxpyAVX2, lerp: vecLerpAVX2, copyStream: streamAVX2, triad: vecTriadAVX2,
	exp: vecExpAVX2, tanh: vecTanhAVX2, sigmoid: vecSigmoidAVX2, log: vecLogAVX2, expSum: vecExpSumAVX2, sumExp: vecSumExpAVX2,
	relu: vecReluAVX2, reluBackward: vecReluBackwardAVX2, silu: vecSiluAVX2, siluBackward: vecSiluBackwardAVX2,
	geluTanh: vecGeluTanhAVX2, geluTanhBackward: vecGeluTanhBackwardAVX2, geluErf: vecGeluErfAVX2, geluErfBackward: vecGeluErfBackwardAVX2,
	swiglu: vecSwigluAVX2, swigluBackward: vecSwigluBackwardAVX2,
	softmaxBackward: vecSoftmaxBackwardAVX2, scaleMul: vecScaleMulAVX2, sumSqDev: vecSumSqDevAVX2, normalize: vecNormalizeAVX2, normSums: vecNormSumsAVX2,
	rmsNormBackward: vecRmsNormBackwardAVX2, layerNormBackward: vecLayerNormBackwardAVX2, rope: vecRopeAVX2,
	adamW: vecAdamWAVX2, adan: vecAdanAVX2, sgd: vecSgdAVX2, sgdMomentum: vecSgdMomentumAVX2,
	toBF16: vecToBF16AVX2, fromBF16: vecFromBF16AVX2, roundBF16: vecRoundBF16AVX2, toF16: vecToF16AVX2, fromF16: vecFromF16AVX2, quantizeS8: vecQuantizeS8AVX2, dequantizeS8: vecDequantizeS8AVX2,
}

var avx512Vector = vectorKernels{
	sum: vecSumAVX512, dot: vecDotAVX512, sumSq: vecSumSqAVX512, max: vecMaximumAVX512, absMaxBits: vecAbsMaxBitsAVX512,
	add: vecAddAVX512, sub: vecSubAVX512, mul: vecMulAVX512, mulAddTo: vecMulAddToAVX512, addTo: vecAddToAVX512, scale: vecScaleAVX512, axpy: vecAxpyAVX512, lerp: vecLerpAVX512, copyStream: streamAVX512, triad: vecTriadAVX512,
	exp: vecExpAVX512, tanh: vecTanhAVX512, sigmoid: vecSigmoidAVX512, log: vecLogAVX512, expSum: vecExpSumAVX512, sumExp: vecSumExpAVX512,
	relu: vecReluAVX512, reluBackward: vecReluBackwardAVX512, silu: vecSiluAVX512, siluBackward: vecSiluBackwardAVX512,
	geluTanh: vecGeluTanhAVX512, geluTanhBackward: vecGeluTanhBackwardAVX512, geluErf: vecGeluErfAVX512, geluErfBackward: vecGeluErfBackwardAVX512,
	swiglu: vecSwigluAVX512, swigluBackward: vecSwigluBackwardAVX512,
	softmaxBackward: vecSoftmaxBackwardAVX512, scaleMul: vecScaleMulAVX512, sumSqDev: vecSumSqDevAVX512, normalize: vecNormalizeAVX512, normSums: vecNormSumsAVX512,
	rmsNormBackward: vecRmsNormBackwardAVX512, layerNormBackward: vecLayerNormBackwardAVX512, rope: vecRopeAVX512,
	adamW: vecAdamWAVX512, adan: vecAdanAVX512, sgd: vecSgdAVX512, sgdMomentum: vecSgdMomentumAVX512,
	toBF16: vecToBF16AVX512, fromBF16: vecFromBF16AVX512, roundBF16: vecRoundBF16AVX512, toF16: vecToF16AVX512, fromF16: vecFromF16AVX512, quantizeS8: vecQuantizeS8AVX512, dequantizeS8: vecDequantizeS8AVX512,
}

// streamed copies with a kernel that writes past the caches. Its destination
// must be aligned to 64 bytes and its length a multiple of 16.
func streamed(dst, src []float32, kernel func(dst, src []float32)) {
	head := 0
	if at := uintptr(unsafe.Pointer(unsafe.SliceData(dst))) % 64; at != 0 {
		head = min(len(dst), int(64-at)/4)
	}
	tail := head + (len(dst)-head)&^(group-1)
	copy(dst[:head], src)
	kernel(dst[head:tail], src[head:])
	copy(dst[tail:], src[tail:])
}

func streamAVX2(dst, src []float32)   { streamed(dst, src, vecCopyStreamAVX2) }
func streamAVX512(dst, src []float32) { streamed(dst, src, vecCopyStreamAVX512) }
