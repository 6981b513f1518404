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
	sum: sumAVX2, dot: dotAVX2, sumSq: sumSqAVX2, max: maximumAVX2, absMaxBits: absMaxBitsAVX2,
	add: addAVX2, sub: subAVX2, mul: mulAVX2, mulAddTo: mulAddToAVX2, addTo: addToAVX2, scale: scaleAVX2, axpy: axpyAVX2, lerp: lerpAVX2, copyStream: streamAVX2, triad: triadAVX2,
	exp: expAVX2, tanh: tanhAVX2, sigmoid: sigmoidAVX2, log: logAVX2, expSum: expSumAVX2, sumExp: sumExpAVX2,
	relu: reluAVX2, reluBackward: reluBackwardAVX2, silu: siluAVX2, siluBackward: siluBackwardAVX2,
	geluTanh: geluTanhAVX2, geluTanhBackward: geluTanhBackwardAVX2, geluErf: geluErfAVX2, geluErfBackward: geluErfBackwardAVX2,
	swiglu: swigluAVX2, swigluBackward: swigluBackwardAVX2,
	softmaxBackward: softmaxBackwardAVX2, scaleMul: scaleMulAVX2, sumSqDev: sumSqDevAVX2, normalize: normalizeAVX2, normSums: normSumsAVX2,
	rmsNormBackward: rmsNormBackwardAVX2, layerNormBackward: layerNormBackwardAVX2, rope: ropeAVX2,
	adamW: adamWAVX2, sgd: sgdAVX2, sgdMomentum: sgdMomentumAVX2,
	toBF16: toBF16AVX2, fromBF16: fromBF16AVX2, roundBF16: roundBF16AVX2, toF16: toF16AVX2, fromF16: fromF16AVX2, quantizeS8: quantizeS8AVX2, dequantizeS8: dequantizeS8AVX2,
}

var avx512Vector = vectorKernels{
	sum: sumAVX512, dot: dotAVX512, sumSq: sumSqAVX512, max: maximumAVX512, absMaxBits: absMaxBitsAVX512,
	add: addAVX512, sub: subAVX512, mul: mulAVX512, mulAddTo: mulAddToAVX512, addTo: addToAVX512, scale: scaleAVX512, axpy: axpyAVX512, lerp: lerpAVX512, copyStream: streamAVX512, triad: triadAVX512,
	exp: expAVX512, tanh: tanhAVX512, sigmoid: sigmoidAVX512, log: logAVX512, expSum: expSumAVX512, sumExp: sumExpAVX512,
	relu: reluAVX512, reluBackward: reluBackwardAVX512, silu: siluAVX512, siluBackward: siluBackwardAVX512,
	geluTanh: geluTanhAVX512, geluTanhBackward: geluTanhBackwardAVX512, geluErf: geluErfAVX512, geluErfBackward: geluErfBackwardAVX512,
	swiglu: swigluAVX512, swigluBackward: swigluBackwardAVX512,
	softmaxBackward: softmaxBackwardAVX512, scaleMul: scaleMulAVX512, sumSqDev: sumSqDevAVX512, normalize: normalizeAVX512, normSums: normSumsAVX512,
	rmsNormBackward: rmsNormBackwardAVX512, layerNormBackward: layerNormBackwardAVX512, rope: ropeAVX512,
	adamW: adamWAVX512, sgd: sgdAVX512, sgdMomentum: sgdMomentumAVX512,
	toBF16: toBF16AVX512, fromBF16: fromBF16AVX512, roundBF16: roundBF16AVX512, toF16: toF16AVX512, fromF16: fromF16AVX512, quantizeS8: quantizeS8AVX512, dequantizeS8: dequantizeS8AVX512,
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

func streamAVX2(dst, src []float32)   { streamed(dst, src, copyStreamAVX2) }
func streamAVX512(dst, src []float32) { streamed(dst, src, copyStreamAVX512) }
