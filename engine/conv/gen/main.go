// Command gen writes the assembly of the kernel of maximum pooling:
//
//	go run ./gen -out pool_amd64.s -stubs pool_stubs_amd64.go -pkg conv
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	signature = "func(n int, y *float32, arg *int32, x *float32, place int32)"
	doc       = "takes each of n elements of x that is above y's, or the first NaN, to y, and place to arg."

	// Predicates of a comparison.
	notLessOrEqual = U8(6) // above, or one is NaN
	ordered        = U8(7) // neither is NaN
)

func main() {
	ConstraintExpr("amd64")
	avx512()
	avx2()
	Generate()
}

// pointers is the kernel's arguments in registers.
func pointers() (n, y, arg, x reg.Register) {
	return Load(Param("n"), GP64()), Load(Param("y"), GP64()), Load(Param("arg"), GP64()), Load(Param("x"), GP64())
}

// place is the place in a vector register.
func place() reg.Register {
	x := XMM()
	VMOVD(Load(Param("place"), GP32()), x)
	return x
}

// loop calls body for every width elements, with their offset in bytes.
func loop(n reg.Register, width int, body func(off reg.Register)) {
	off := GP64()
	XORQ(off, off)
	SHLQ(U8(2), n)
	Label("loop")
	CMPQ(off, n)
	JGE(LabelRef("done"))
	body(off)
	ADDQ(U8(4*width), off)
	JMP(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

func avx512() {
	TEXT("maxAVX512", NOSPLIT, signature)
	Doc("maxAVX512 " + doc + " n must be a multiple of 16.")
	Pragma("noescape")
	n, y, arg, x := pointers()
	places := ZMM()
	VPBROADCASTD(place(), places)
	loop(n, 16, func(off reg.Register) {
		old, v := ZMM(), ZMM()
		above := K()
		VMOVUPS(at(y, off), old)
		VMOVUPS(at(x, off), v)
		VCMPPS(ordered, old, old, above)
		VCMPPS(notLessOrEqual, old, v, above, above)
		VMOVUPS(v, above, at(y, off))
		VMOVDQU32(places, above, at(arg, off))
	})
}

func avx2() {
	TEXT("maxAVX2", NOSPLIT, signature)
	Doc("maxAVX2 " + doc + " n must be a multiple of 8.")
	Pragma("noescape")
	n, y, arg, x := pointers()
	places := YMM()
	VPBROADCASTD(place(), places)
	loop(n, 8, func(off reg.Register) {
		old, v, above, isOrdered := YMM(), YMM(), YMM(), YMM()
		VMOVUPS(at(y, off), old)
		VMOVUPS(at(x, off), v)
		VCMPPS(ordered, old, old, isOrdered)
		VCMPPS(notLessOrEqual, old, v, above)
		VANDPS(isOrdered, above, above)
		VMASKMOVPS(v, above, at(y, off))
		VPMASKMOVD(places, above, at(arg, off))
	})
}

func at(base, off reg.Register) Mem { return Mem{Base: base, Index: off, Scale: 1} }
