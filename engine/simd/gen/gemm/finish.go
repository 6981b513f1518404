package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// finish writes the kernels that add bias and residual to a block of C while it is in cache.
func finish() {
	finishFor("finishAVX512", zmm)
	finishFor("finishAVX2", ymm)
}

func finishFor(name string, regs []reg.VecPhysical) {
	wide := len(regs) == 32
	bytes := 2 * len(regs)
	x, add, mask := regs[0], regs[1], regs[3]
	TEXT(name, attr.NOSPLIT, "func(m, n int, c *byte, ldc int, bias, residual *byte, ldr int)")
	Pragma("noescape")
	Doc(name+" adds bias[n] to each row of C[m,n] and residual[m,n] to C, where they are not nil.",
		"Distances are in bytes.")
	load("m", reg.R8)
	load("c", reg.RDI)
	load("ldc", reg.R9)
	load("residual", reg.RSI)
	load("ldr", reg.R10)
	Label("row")
	TESTQ(reg.R8, reg.R8)
	JLE(LabelRef("done"))
	load("n", reg.RCX)
	load("bias", reg.R11)
	XORQ(reg.RAX, reg.RAX) // bytes from the row's start
	Label("vector")
	CMPQ(reg.RCX, Imm(uint64(bytes/4)))
	JL(LabelRef("rest"))
	step := func(name string, read func(src Mem, dst reg.VecPhysical), write func(src reg.VecPhysical, dst Mem)) {
		read(indexed(reg.RDI, reg.RAX, 1), x)
		for _, p := range []struct {
			ptr  reg.GPPhysical
			name string
		}{{reg.R11, "bias"}, {reg.RSI, "residual"}} {
			skip := label("%s_no_%s", name, p.name)
			TESTQ(p.ptr, p.ptr)
			JZ(LabelRef(skip))
			read(indexed(p.ptr, reg.RAX, 1), add)
			VADDPS(add, x, x)
			Label(skip)
		}
		write(x, indexed(reg.RDI, reg.RAX, 1))
	}
	step("full",
		func(src Mem, dst reg.VecPhysical) { VMOVUPS(src, dst) },
		func(src reg.VecPhysical, dst Mem) { VMOVUPS(src, dst) })
	ADDQ(Imm(uint64(bytes)), reg.RAX)
	SUBQ(Imm(uint64(bytes/4)), reg.RCX)
	JMP(LabelRef("vector"))
	Label("rest")
	TESTQ(reg.RCX, reg.RCX)
	JZ(LabelRef("next"))
	if wide {
		MOVL(U32(1), reg.EDX)
		SHLXL(reg.ECX, reg.EDX, reg.EDX)
		DECL(reg.EDX)
		KMOVW(reg.EDX, reg.K1)
		step("part",
			func(src Mem, dst reg.VecPhysical) { VMOVUPS_Z(src, reg.K1, dst) },
			func(src reg.VecPhysical, dst Mem) { VMOVUPS(src, reg.K1, dst) })
	} else {
		MOVQ(reg.RCX, reg.X3)
		VPBROADCASTD(reg.X3, mask)
		VPCMPGTD(iota32(0), mask, mask)
		step("part",
			func(src Mem, dst reg.VecPhysical) { VMASKMOVPS(src, mask, dst) },
			func(src reg.VecPhysical, dst Mem) { VMASKMOVPS(src, mask, dst) })
	}
	Label("next")
	ADDQ(reg.R9, reg.RDI)
	TESTQ(reg.RSI, reg.RSI)
	JZ(LabelRef("no_residual"))
	ADDQ(reg.R10, reg.RSI)
	Label("no_residual")
	DECQ(reg.R8)
	JMP(LabelRef("row"))
	Label("done")
	VZEROUPPER()
	RET()
}
