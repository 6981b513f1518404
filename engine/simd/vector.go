// # Vector functions
//
// Add, Exp, RMSNormRow, AdamWStep and the like work on slices of one length,
// which the first slice sets: the others may be longer but not shorter (that
// panics). An output may be the same slice as an input, but must not overlap
// one otherwise. Within one level an element's result does not depend on its
// place in the slice. Reductions add in an order that depends on the length
// alone; it differs between levels.
//
// Kernels are called through a table, so a buffer passed to them escapes to the
// heap: in a loop, pass buffers that live longer than it.
package simd

import (
	"fmt"
	"math"
)

// vectorKernels holds one level's innermost loops. The exported functions
// check lengths and call them; each kernel takes its length from its first
// slice.
type vectorKernels struct {
	sum        func(x []float32) float32
	dot        func(x, y []float32) float32
	sumSq      func(x []float32) float64
	max        func(x []float32) float32
	absMaxBits func(x []float32) uint32

	add, sub, mul, mulAddTo func(dst, a, b []float32)
	addTo                   func(dst, x []float32)
	scale                   func(x []float32, a float32)
	axpy                    func(y, x []float32, a float32)
	lerp                    func(dst, x []float32, a float32)
	copyStream              func(dst, src []float32)
	triad                   func(dst, a, b []float32, s float32)

	exp, tanh, sigmoid, log    func(dst, x []float32)
	expSum                     func(dst, x []float32, shift float32) float32
	sumExp                     func(x []float32, shift float32) float32
	relu, silu                 func(dst, x []float32)
	geluTanh, geluErf          func(dst, x []float32)
	reluBackward, siluBackward func(dx, x, dy []float32)
	geluTanhBackward           func(dx, x, dy []float32)
	geluErfBackward            func(dx, x, dy []float32)
	swiglu                     func(dst, g, u []float32)
	swigluBackward             func(dg, du, g, u, dh []float32)
	softmaxBackward            func(dx, y, dy []float32, dot float32)
	scaleMul                   func(y, x, w []float32, a float32)
	sumSqDev                   func(x []float32, mean float32) float32
	normalize                  func(y, x, w, b []float32, mean, rstd float32)
	normSums                   func(x, w, dy []float32, mean, rstd float32) (s1, s2 float32)
	rmsNormBackward            func(dx, dw, x, w, dy []float32, rstd, c float32)
	layerNormBackward          func(dx, dw, db, x, w, dy []float32, mean, rstd, c1, c2 float32)
	rope                       func(x []float32, heads int, cos, sin []float32, sign float32)
	adamW                      func(p, m, v, g []float32, gradScale, decay, mix1, beta2, mix2, root, eps, step float32)
	adan                       func(p, m, v, n, last, g []float32, gradScale, mix1, mix2, look, beta3, mix3, root, eps, shrink, ofM, ofV float32)
	sgd                        func(p, g []float32, gradScale, weightDecay, lr float32)
	sgdMomentum                func(p, m, g []float32, gradScale, weightDecay, momentum, ofGrad, ofBuffer, lr float32)
	toBF16, toF16              func(dst []uint16, src []float32) // lengths: multiples of 16
	fromBF16, fromF16          func(dst []float32, src []uint16) // lengths: multiples of 16
	roundBF16                  func(dst, src []float32)
	quantizeS8                 func(dst []int8, src []float32, scale float32) // lengths: multiples of 16
	dequantizeS8               func(dst []float32, src []int8, scale float32) // lengths: multiples of 16
}

// vec is the level in use.
var vec vectorKernels

// chooseVector sets the kernels of the vector files for a level.
func chooseVector(l Level) { vec = vectorFor(l) }

// prefix returns the first n elements of x.
func prefix[T any](x []T, n int) []T {
	if len(x) < n {
		tooShort(len(x), n)
	}
	return x[:n]
}

func tooShort(have, want int) {
	panic(fmt.Sprintf("simd: a slice of %d elements where %d are needed", have, want))
}

// sumBlock is how many elements a float32 sum takes in one run: its lanes then
// hold few enough terms for their rounding not to matter. Longer inputs are
// halved, at a multiple of sumBlock, and the halves are added.
const sumBlock = 4096

func half(n int) int { return (n/2 + sumBlock - 1) / sumBlock * sumBlock }

// Sum returns Σ x, added in many lanes and pairwise.
func Sum(x []float32) float32 {
	if len(x) <= sumBlock {
		return vec.sum(x)
	}
	h := half(len(x))
	return Sum(x[:h]) + Sum(x[h:])
}

// Dot returns Σ x·y, added in many lanes and pairwise.
func Dot(x, y []float32) float32 {
	if len(x) <= sumBlock {
		return vec.dot(x, prefix(y, len(x)))
	}
	h := half(len(x))
	return Dot(x[:h], y[:h]) + Dot(x[h:], y[h:])
}

// SumSq returns Σ x², multiplied and added in float64.
func SumSq(x []float32) float64 { return vec.sumSq(x) }

// Max returns the largest element; -Inf for none. x must hold no NaN.
func Max(x []float32) float32 { return vec.max(x) }

// AbsMax returns the largest magnitude: 0 for no element, NaN if any is NaN.
func AbsMax(x []float32) float32 { return math.Float32frombits(vec.absMaxBits(x)) }

// Finite reports whether no element is NaN or infinite.
func Finite(x []float32) bool { return vec.absMaxBits(x) < infBits }

const infBits = 0x7f800000 // +Inf; NaNs of either sign are above it without their sign

// Add sets dst = a + b.
func Add(dst, a, b []float32) { vec.add(dst, prefix(a, len(dst)), prefix(b, len(dst))) }

// AddTo sets dst += x.
func AddTo(dst, x []float32) { vec.addTo(dst, prefix(x, len(dst))) }

// Sub sets dst = a - b.
func Sub(dst, a, b []float32) { vec.sub(dst, prefix(a, len(dst)), prefix(b, len(dst))) }

// Mul sets dst = a·b, element by element.
func Mul(dst, a, b []float32) { vec.mul(dst, prefix(a, len(dst)), prefix(b, len(dst))) }

// MulAddTo sets dst += a·b, element by element.
func MulAddTo(dst, a, b []float32) { vec.mulAddTo(dst, prefix(a, len(dst)), prefix(b, len(dst))) }

// Scale sets x *= a.
func Scale(x []float32, a float32) { vec.scale(x, a) }

// Axpy sets y += a·x.
func Axpy(a float32, x, y []float32) { vec.axpy(y, prefix(x, len(y)), a) }

// Lerp sets dst = a·dst + (1-a)·x: one step of an exponential average that
// keeps a share a of the old value.
func Lerp(dst, x []float32, a float32) { vec.lerp(dst, prefix(x, len(dst)), a) }

// Copy sets dst = src, past the caches where the processor can: for measuring
// memory bandwidth and for data that will not be read again soon. dst and src
// must not overlap.
func Copy(dst, src []float32) { vec.copyStream(dst, prefix(src, len(dst))) }

// Triad sets dst = a + s·b, the STREAM benchmark's measure of bandwidth.
func Triad(dst, a, b []float32, s float32) {
	vec.triad(dst, prefix(a, len(dst)), prefix(b, len(dst)), s)
}
