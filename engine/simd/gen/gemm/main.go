// Command gemm writes the assembly of the matrix kernels:
//
//	go run ./gen/gemm -out gemm_amd64.s -stubs gemm_stubs_amd64.go -pkg simd
//
// Registers are named by hand, not allocated: a tile fills the register file,
// and a few instructions that the Go assembler does not know are emitted as
// bytes, which hides their operands from an allocator.
package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var (
	zmm = []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}
	ymm = []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}
)

func main() {
	ConstraintExpr("amd64")
	tiles()
	dots()
	packs()
	finish()
	peaks()
	Generate()
}

// raw emits an instruction that avo does not know but the Go assembler does.
func raw(opcode string, ops ...Op) {
	Instruction(&ir.Instruction{Opcode: opcode, Operands: ops})
}

// The last byte of the prefix that an instruction would have before EVEX.
const (
	prefixF3 = 2
	prefixF2 = 3
)

// evex emits dst = op(src1, src2) on 512-bit registers, for opcodes of map
// 0F38 that the Go assembler does not know.
func evex(prefix, opcode byte, src2, src1, dst int) {
	bit := func(x, n int) byte { return byte(x>>n) & 1 }
	not := func(x, n int) byte { return 1 - bit(x, n) }
	b := [6]byte{
		0x62,
		not(dst, 3)<<7 | not(src2, 4)<<6 | not(src2, 3)<<5 | not(dst, 4)<<4 | 2,
		byte(^src1&15)<<3 | 1<<2 | prefix,
		2<<5 | not(src1, 4)<<3,
		opcode,
		3<<6 | byte(dst&7)<<3 | byte(src2&7),
	}
	raw("LONG", U32(uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16|uint32(b[3])<<24))
	raw("WORD", U16(uint16(b[4])|uint16(b[5])<<8))
}

// align starts the next instruction, a loop's first, on a new fetch block.
func align() { raw("PCALIGN", Imm(32)) }

func at(base reg.Register, disp int) Mem { return Mem{Base: base, Disp: disp} }

func indexed(base, index reg.Register, scale uint8) Mem {
	return Mem{Base: base, Index: index, Scale: scale}
}

// param is where an argument lies.
func param(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

func load(name string, dst reg.Register) { Load(Param(name), dst) }

// asX and asY are the low parts of a vector register.
func asX(r reg.VecPhysical) reg.Register { return r.AsX() }
func asY(r reg.VecPhysical) reg.Register { return r.AsY() }

func label(format string, a ...any) string { return fmt.Sprintf(format, a...) }

var iotaData, pairsData *Mem

// iota32 is a table of the 32-bit numbers 0 … 15; iota32(v) is its part from 8·v on.
func iota32(v int) Mem {
	if iotaData == nil {
		m := GLOBL("gemmIota", attr.RODATA|attr.NOPTR)
		iotaData = &m
		for i := range 16 {
			DATA(4*i, U32(uint32(i)))
		}
	}
	return iotaData.Offset(32 * v)
}

// pairs16 is the permutation that brings words i and 16+i side by side.
func pairs16() Mem {
	if pairsData == nil {
		m := GLOBL("gemmPairs", attr.RODATA|attr.NOPTR)
		pairsData = &m
		for i := range 16 {
			DATA(4*i, U32(uint32(i|(16+i)<<16)))
		}
	}
	return *pairsData
}
