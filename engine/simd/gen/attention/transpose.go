package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose writes the scaled transposition of blocks of 8 by 8, with AVX2:
// wider registers would not make the shuffles any fewer per element.
func transpose() {
	begin("tileTransposeAVX2", "(dst *float32, ds int, src *float32, ss, rows, cols int, f *float32, add int)",
		"is tileKernels.transpose for rows and cols that are multiples of 8, at least 8.")
	var (
		dst, ds, ds3 = reg.RAX, reg.RBX, reg.RCX
		src, ss, ss3 = reg.RDX, reg.RSI, reg.RDI
		cols, f      = reg.R8, reg.R9
		pd, ps, pf   = reg.R10, reg.R11, reg.R12
		tmp, rows    = reg.R13, reg.R15
		v            = sets[0].vec
	)
	load("dst", dst)
	stride("ds", ds)
	LEAQ(Mem{Base: ds, Index: ds, Scale: 2}, ds3)
	load("src", src)
	stride("ss", ss)
	LEAQ(Mem{Base: ss, Index: ss, Scale: 2}, ss3)
	load("f", f)
	load("rows", rows)
	eight := func(base, one, three reg.Register, i int) Mem { // row i of the four at base
		switch i {
		case 0:
			return Mem{Base: base}
		case 3:
			return Mem{Base: base, Index: three, Scale: 1}
		}
		return Mem{Base: base, Index: one, Scale: uint8(i)}
	}

	Label("rows")
	MOVQ(dst, pd)
	MOVQ(src, ps)
	MOVQ(f, pf)
	load("cols", cols)
	Label("block")
	VMOVUPS(mem(pf, 0), v[8])
	LEAQ(Mem{Base: ps, Index: ss, Scale: 4}, tmp)
	for i := range 8 {
		base := ps
		if i >= 4 {
			base = tmp
		}
		VMULPS(eight(base, ss, ss3, i%4), v[8], v[i])
	}
	// Pairs of rows, then fours, then halves.
	for i := 0; i < 8; i += 2 {
		VUNPCKLPS(v[i+1], v[i], v[8+i])
		VUNPCKHPS(v[i+1], v[i], v[9+i])
	}
	for i := 0; i < 8; i += 4 {
		VSHUFPS(Imm(0x44), v[10+i], v[8+i], v[i])
		VSHUFPS(Imm(0xee), v[10+i], v[8+i], v[i+1])
		VSHUFPS(Imm(0x44), v[11+i], v[9+i], v[i+2])
		VSHUFPS(Imm(0xee), v[11+i], v[9+i], v[i+3])
	}
	for i := range 4 {
		VPERM2F128(Imm(0x20), v[4+i], v[i], v[8+i])
		VPERM2F128(Imm(0x31), v[4+i], v[i], v[12+i])
	}
	LEAQ(Mem{Base: pd, Index: ds, Scale: 4}, tmp)
	out := func(i int) Mem {
		base := pd
		if i >= 4 {
			base = tmp
		}
		return eight(base, ds, ds3, i%4)
	}
	CMPQ(NewParamAddr("add", 56), Imm(0))
	JE(LabelRef("store"))
	for i := range 8 {
		VADDPS(out(i), v[8+i], v[8+i])
	}
	Label("store")
	for i := range 8 {
		VMOVUPS(v[8+i], out(i))
	}
	LEAQ(Mem{Base: pd, Index: ds, Scale: 8}, pd)
	ADDQ(Imm(32), ps)
	ADDQ(Imm(32), pf)
	SUBQ(Imm(8), cols)
	JNZ(LabelRef("block"))
	ADDQ(Imm(32), dst)
	LEAQ(Mem{Base: src, Index: ss, Scale: 8}, src)
	SUBQ(Imm(8), rows)
	JNZ(LabelRef("rows"))
	VZEROUPPER()
	RET()
}
