package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const blockSignature = "(rows, n int, src *byte, lds int, dst *byte, ldd int)"

// packs writes the kernels that lay operands out for the tiles.
func packs() {
	rowwise("copyF32AVX512", "copies rows of n floats, each filled up with zeros to whole vectors", 1, 16,
		func(src, _ reg.GPPhysical, dst reg.GPPhysical, k []reg.Register) {
			VMOVUPS_Z(at(src, 0), k[0], reg.Z0)
			VMOVUPS(reg.Z0, at(dst, 0))
		})
	rowwise("roundBF16AVX512", "rounds rows of n floats to bf16, two to a unit, each row filled up with zeros to whole vectors", 1, 32,
		func(src, _ reg.GPPhysical, dst reg.GPPhysical, k []reg.Register) {
			VMOVUPS_Z(at(src, 0), k[0], reg.Z0)
			VMOVUPS_Z(at(src, 64), k[1], reg.Z1)
			evex(prefixF2, 0x72, 0, 1, 2) // VCVTNE2PS2BF16
			VMOVUPS(reg.Z2, at(dst, 0))
		})
	rowwise("pairBF16AVX512", "rounds rows of n floats to bf16 and makes units of each two rows; a last single row is paired with zeros", 2, 16,
		func(src, odd reg.GPPhysical, dst reg.GPPhysical, k []reg.Register) {
			VMOVUPS_Z(at(src, 0), k[0], reg.Z0)
			VMOVUPS_Z(at(odd, 0), k[1], reg.Z1)
			evex(prefixF2, 0x72, 0, 1, 2)
			VPERMW(reg.Z2, reg.Z31, reg.Z2)
			VMOVUPS(reg.Z2, at(dst, 0))
		})
	transpose("transposeF32AVX512", zmm, false)
	transpose("transposeBF16AVX512", zmm, true)
	transpose("transposeF32AVX2", ymm, false)
}

// rowwise writes a kernel that reads up floats at a time from one row, or 16
// from each of two rows, and writes one vector.
func rowwise(name, doc string, rows, floats int, body func(src, odd, dst reg.GPPhysical, k []reg.Register)) {
	TEXT(name, attr.NOSPLIT, "func"+blockSignature)
	Pragma("noescape")
	Doc(name + " " + doc + ". Distances are in bytes.")
	load("rows", reg.R8)
	load("src", reg.RSI)
	load("lds", reg.RDX)
	load("dst", reg.RDI)
	load("ldd", reg.R9)
	if rows == 2 {
		VMOVDQU32(pairs16(), reg.Z31)
	}
	Label("row")
	TESTQ(reg.R8, reg.R8)
	JLE(LabelRef("done"))
	load("n", reg.RCX)
	MOVQ(reg.RSI, reg.R10)
	LEAQ(indexed(reg.RSI, reg.RDX, 1), reg.R12)
	MOVQ(reg.RDI, reg.R11)
	KXNORW(reg.K1, reg.K1, reg.K1)
	KXNORW(reg.K2, reg.K2, reg.K2)
	if rows == 2 {
		CMPQ(reg.R8, Imm(1))
		JNE(LabelRef("even"))
		KXORW(reg.K2, reg.K2, reg.K2)
		Label("even")
	}
	k := []reg.Register{reg.K1, reg.K2}
	SUBQ(Imm(uint64(floats)), reg.RCX)
	JL(LabelRef("rest"))
	align()
	Label("full")
	body(reg.R10, reg.R12, reg.R11, k)
	ADDQ(Imm(uint64(4*floats)), reg.R10)
	ADDQ(Imm(uint64(4*floats)), reg.R12)
	ADDQ(Imm(64), reg.R11)
	SUBQ(Imm(uint64(floats)), reg.RCX)
	JGE(LabelRef("full"))
	Label("rest")
	ADDQ(Imm(uint64(floats)), reg.RCX)
	JZ(LabelRef("next"))
	tailMasks(rows)
	body(reg.R10, reg.R12, reg.R11, k)
	Label("next")
	if rows == 2 {
		LEAQ(indexed(reg.RSI, reg.RDX, 2), reg.RSI)
	} else {
		ADDQ(reg.RDX, reg.RSI)
	}
	ADDQ(reg.R9, reg.RDI)
	SUBQ(Imm(uint64(rows)), reg.R8)
	JMP(LabelRef("row"))
	Label("done")
	VZEROUPPER()
	RET()
}

// tailMasks sets K1 and K2 for the RCX floats that are left: for the first 16
// and the next 16, or for both of two rows.
func tailMasks(rows int) {
	MOVQ(I32(-1), reg.RAX)
	BZHIQ(reg.RCX, reg.RAX, reg.RAX)
	KMOVW(reg.EAX, reg.K1)
	if rows == 2 {
		KANDW(reg.K1, reg.K2, reg.K2)
		return
	}
	SHRQ(Imm(16), reg.RAX)
	KMOVW(reg.EAX, reg.K2)
}

// transpose writes a kernel that turns as many rows as a vector has lanes into
// columns. With round, two floats of a row become one unit of two bf16.
func transpose(name string, regs []reg.VecPhysical, round bool) {
	wide := len(regs) == 32
	lanes := len(regs) / 2
	floats := lanes // read from each row per block
	what := "floats"
	if round {
		floats, what = 2*lanes, "units of two rounded to bf16, a last single one paired with zero"
	}
	TEXT(name, attr.NOSPLIT, "func(n int, src *byte, lds int, dst *byte, ldd int)")
	Pragma("noescape")
	Doc(label("%s reads %d rows of n floats and writes them as %d columns of %s.", name, lanes, lanes, what), "Distances are in bytes.")
	load("n", reg.RCX)
	load("src", reg.R8)
	load("lds", reg.RDX)
	load("dst", reg.RDI)
	load("ldd", reg.RSI)
	ptr := []reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13}[:(lanes+2)/3]
	for i := 1; i < len(ptr); i++ {
		LEAQ(indexed(ptr[i-1], reg.RDX, 2), ptr[i])
		ADDQ(reg.RDX, ptr[i])
	}
	row := func(r int) Mem {
		if r%3 == 0 {
			return at(ptr[r/3], 0)
		}
		return indexed(ptr[r/3], reg.RDX, uint8(r%3))
	}
	k := []reg.Register{reg.K1, reg.K2}
	if wide {
		KXNORW(reg.K1, reg.K1, reg.K1)
		KXNORW(reg.K2, reg.K2, reg.K2)
	}
	read := func(masked bool) {
		for r := range lanes {
			switch {
			case round:
				VMOVUPS_Z(row(r), k[0], reg.Z30)
				VMOVUPS_Z(row(r).Offset(64), k[1], reg.Z31)
				evex(prefixF2, 0x72, 30, 31, r)
			case wide && masked:
				VMOVUPS_Z(row(r), k[0], regs[r])
			case masked:
				VMASKMOVPS(row(r), regs[15], regs[r])
			default:
				VMOVUPS(row(r), regs[r])
			}
		}
		if wide {
			transpose16(regs)
		} else {
			transpose8(regs)
		}
	}
	SUBQ(Imm(uint64(floats)), reg.RCX)
	JL(LabelRef("rest"))
	align()
	Label("full")
	read(false)
	for c := range lanes {
		VMOVUPS(regs[c], at(reg.RDI, 0))
		ADDQ(reg.RSI, reg.RDI)
	}
	for _, p := range ptr {
		ADDQ(Imm(uint64(4*floats)), p)
	}
	SUBQ(Imm(uint64(floats)), reg.RCX)
	JGE(LabelRef("full"))
	Label("rest")
	ADDQ(Imm(uint64(floats)), reg.RCX)
	JZ(LabelRef("done"))
	if wide {
		tailMasks(1)
	} else {
		MOVQ(reg.RCX, reg.X15)
		VPBROADCASTD(reg.X15, reg.Y15)
		VPCMPGTD(iota32(0), reg.Y15, reg.Y15)
	}
	read(true)
	for c := range lanes {
		VMOVUPS(regs[c], at(reg.RDI, 0))
		ADDQ(reg.RSI, reg.RDI)
		SUBQ(Imm(uint64(floats/lanes)), reg.RCX)
		JLE(LabelRef("done"))
	}
	Label("done")
	VZEROUPPER()
	RET()
}

// transpose16 transposes 16×16 units in z[0:16], with z[16:32] as scratch.
func transpose16(z []reg.VecPhysical) {
	a, b := z[:16], z[16:]
	quads(a, b)
	for c := range 4 { // lane l of a[4i+c] holds column 4l+c of rows 4i … 4i+3
		VSHUFF32X4(Imm(0x88), a[4+c], a[c], b[c])      // columns c, 8+c of rows 0 … 7
		VSHUFF32X4(Imm(0xdd), a[4+c], a[c], b[4+c])    // columns 4+c, 12+c
		VSHUFF32X4(Imm(0x88), a[12+c], a[8+c], b[8+c]) // the same of rows 8 … 15
		VSHUFF32X4(Imm(0xdd), a[12+c], a[8+c], b[12+c])
	}
	for c := range 4 {
		VSHUFF32X4(Imm(0x88), b[8+c], b[c], a[c])
		VSHUFF32X4(Imm(0x88), b[12+c], b[4+c], a[4+c])
		VSHUFF32X4(Imm(0xdd), b[8+c], b[c], a[8+c])
		VSHUFF32X4(Imm(0xdd), b[12+c], b[4+c], a[12+c])
	}
}

// transpose8 transposes 8×8 units in y[0:8], with y[8:16] as scratch.
func transpose8(y []reg.VecPhysical) {
	a, b := y[:8], y[8:]
	quads(a, b)
	for c := range 4 {
		VPERM2F128(Imm(0x20), a[4+c], a[c], b[c])
		VPERM2F128(Imm(0x31), a[4+c], a[c], b[4+c])
	}
	for c := range 8 {
		VMOVAPS(b[c], a[c])
	}
}

// quads transposes 4×4 units within each 128-bit lane of each four registers
// of a, with b as scratch.
func quads(a, b []reg.VecPhysical) {
	for i := 0; i < len(a); i += 2 {
		VUNPCKLPS(a[i+1], a[i], b[i])
		VUNPCKHPS(a[i+1], a[i], b[i+1])
	}
	for i := 0; i < len(a); i += 4 {
		VUNPCKLPD(b[i+2], b[i], a[i])
		VUNPCKHPD(b[i+2], b[i], a[i+1])
		VUNPCKLPD(b[i+3], b[i+1], a[i+2])
		VUNPCKHPD(b[i+3], b[i+1], a[i+3])
	}
}
