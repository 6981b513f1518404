// Command attention writes the assembly of the attention kernels:
//
//	go run ./gen/attention -out attention_amd64.s -stubs attention_stubs_amd64.go -pkg simd
//
// Every kernel is described once, for an instruction set: AVX2, with 16
// registers of 8 floats, or AVX-512, with 32 of 16. Registers are named by
// hand, because a block of products fills the register file.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is an instruction set to write for.
type isa struct {
	suffix string
	width  int // floats in a vector
	vec    []reg.VecPhysical
	widths []int // vectors in a row of a block of products, widest first
}

var sets = []isa{
	{"AVX2", 8, []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}, []int{2, 1}},
	{"AVX512", 16, []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}, []int{4, 3, 2, 1}},
}

func main() {
	ConstraintExpr("amd64")
	for _, s := range sets {
		s.mul()
		s.dot()
		s.softmax()
		s.grad()
	}
	transpose()
	Generate()
}

// avx512 reports whether registers are 512 bits wide and masks exist.
func (s isa) avx512() bool { return s.width == 16 }

// bytes is the size of a vector.
func (s isa) bytes() int { return 4 * s.width }

// ymm is the lower half of a register, and xmm its lower quarter.
func ymm(r reg.VecPhysical) reg.Register { return r.AsY() }
func xmm(r reg.VecPhysical) reg.Register { return r.AsX() }

// label makes names that are unique within a function.
var labels int

func label(name string) string {
	labels++
	return fmt.Sprintf("%s%d", name, labels)
}

func begin(name, signature, doc string) {
	labels = 0
	TEXT(name, NOSPLIT, "func"+signature)
	Pragma("noescape")
	Doc(name + " " + doc)
}

func load(name string, r reg.Register) { Load(Param(name), r) }

// stride loads a distance in floats and makes it bytes.
func stride(name string, r reg.Register) {
	load(name, r)
	SHLQ(Imm(2), r)
}

func mem(base reg.Register, disp int) Mem { return Mem{Base: base, Disp: disp} }

// tailMask makes the mask of the first n lanes, n < width, in K1 or in a
// vector register.
func (s isa) tailMask(n, tmp reg.GPPhysical, vec reg.VecPhysical) {
	if s.avx512() {
		MOVL(I32(-1), tmp.As32())
		BZHIL(n.As32(), tmp.As32(), tmp.As32())
		KMOVW(tmp.As32(), reg.K1)
		return
	}
	LEAQ(maskTable(), tmp)
	NEGQ(n)
	VMOVUPS(Mem{Base: tmp, Index: n, Scale: 4, Disp: 32}, vec)
	NEGQ(n)
}

var masks Mem

// maskTable is eight words of ones and then eight of zeros.
func maskTable() Mem {
	if masks.Symbol.Name == "" {
		masks = GLOBL("attentionMasks", RODATA|NOPTR)
		for i := range 16 {
			v := U32(0)
			if i < 8 {
				v = 0xffffffff
			}
			DATA(4*i, v)
		}
	}
	return masks
}

// loadTail loads the lanes of the tail; the others become 0.
func (s isa) loadTail(m Mem, vec, mask reg.VecPhysical) {
	if s.avx512() {
		VMOVUPS_Z(m, reg.K1, vec)
	} else {
		VMASKMOVPS(m, mask, vec)
	}
}

func (s isa) storeTail(vec, mask reg.VecPhysical, m Mem) {
	if s.avx512() {
		VMOVUPS(vec, reg.K1, m)
	} else {
		VMASKMOVPS(vec, mask, m)
	}
}
