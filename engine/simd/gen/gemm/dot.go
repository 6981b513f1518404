package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dots writes the kernels for few rows: products of rows with rows.
func dots() {
	dot{name: "dotF32AVX512", regs: zmm, rows: 4}.emit()
	dot{name: "dotF32AVX2", regs: ymm, rows: 2}.emit()
}

// dot describes a kernel that keeps rows×4 running sums, each a vector along k.
type dot struct {
	name string
	regs []reg.VecPhysical
	rows int
}

func (d dot) wide() bool { return len(d.regs) == 32 }

func (d dot) bytes() int { return 2 * len(d.regs) }

// General registers of a dot kernel.
var (
	dotA    = []reg.GPPhysical{reg.R8, reg.R9} // A at rows 0 and 3
	dotB    = []reg.GPPhysical{reg.R10, reg.R11}
	dotRowA = reg.RSI
	dotRowB = reg.RDX
	dotNext = reg.RBX // B at the next column of C
	dotOut  = reg.R12
	dotRowC = reg.R13
	dotLeft = reg.R14 // columns left
)

func (d dot) emit() {
	TEXT(d.name, attr.NOSPLIT, "func(m, n, k int, a *byte, rsa int, b *byte, rsb int, c *byte, ldc int, alpha, beta float32)")
	Pragma("noescape")
	Doc(label("%s computes C[m,n] = alpha·A[m,k]·Bᵀ + beta·C, B stored [n,k], for m up to %d.", d.name, d.rows),
		"Distances are in bytes.")
	load("rsa", dotRowA)
	load("rsb", dotRowB)
	load("b", dotNext)
	load("c", dotOut)
	load("ldc", dotRowC)
	load("n", dotLeft)
	load("m", reg.RAX)
	for m := 1; m < d.rows; m++ {
		CMPQ(reg.RAX, Imm(uint64(m)))
		JE(LabelRef(label("m%d", m)))
	}
	for m := d.rows; m > 0; m-- {
		Label(label("m%d", m))
		CMPQ(dotLeft, Imm(4))
		JL(LabelRef(label("m%d_ones", m)))
		d.block(label("m%d_4", m), m, 4)
		JMP(LabelRef(label("m%d", m)))
		Label(label("m%d_ones", m))
		TESTQ(dotLeft, dotLeft)
		JZ(LabelRef("done"))
		d.block(label("m%d_1", m), m, 1)
		JMP(LabelRef(label("m%d_ones", m)))
	}
	Label("done")
	VZEROUPPER()
	RET()
}

// block computes m×n elements of C, n being 4 or 1, and steps n columns on.
func (d dot) block(name string, m, n int) {
	acc := func(r, c int) reg.VecPhysical { return d.regs[r*n+c] }
	vecA := func(r int) reg.VecPhysical { return d.regs[d.rows*4+r] }
	vecB := d.regs[d.rows*5]
	mask := d.regs[len(d.regs)-1] // AVX2
	rowA := func(r int) Mem { return dotRow(dotA, dotRowA, r) }
	rowB := func(c int) Mem { return dotRow(dotB, dotRowB, c) }
	for r := range m {
		for c := range n {
			tile{regs: d.regs}.zero(r*n + c)
		}
	}
	load("a", dotA[0])
	LEAQ(indexed(dotA[0], dotRowA, 2), dotA[1])
	ADDQ(dotRowA, dotA[1])
	MOVQ(dotNext, dotB[0])
	LEAQ(indexed(dotB[0], dotRowB, 2), dotB[1])
	ADDQ(dotRowB, dotB[1])
	step := func(read func(src Mem, dst reg.VecPhysical)) {
		for r := range m {
			read(rowA(r), vecA(r))
		}
		for c := range n {
			read(rowB(c), vecB)
			for r := range m {
				VFMADD231PS(vecB, vecA(r), acc(r, c))
			}
		}
	}
	load("k", reg.RCX)
	SUBQ(Imm(uint64(d.bytes()/4)), reg.RCX)
	JL(LabelRef(name + "_rest"))
	align()
	Label(name + "_k")
	step(func(src Mem, dst reg.VecPhysical) { VMOVUPS(src, dst) })
	for _, p := range []reg.GPPhysical{dotA[0], dotA[1], dotB[0], dotB[1]} {
		ADDQ(Imm(uint64(d.bytes())), p)
	}
	SUBQ(Imm(uint64(d.bytes()/4)), reg.RCX)
	JGE(LabelRef(name + "_k"))
	Label(name + "_rest")
	ADDQ(Imm(uint64(d.bytes()/4)), reg.RCX)
	JZ(LabelRef(name + "_sum"))
	if d.wide() {
		MOVL(U32(1), reg.EAX)
		SHLXL(reg.ECX, reg.EAX, reg.EAX)
		DECL(reg.EAX)
		KMOVW(reg.EAX, reg.K1)
		step(func(src Mem, dst reg.VecPhysical) { VMOVUPS_Z(src, reg.K1, dst) })
	} else {
		MOVQ(reg.RCX, reg.X15)
		VPBROADCASTD(reg.X15, mask)
		VPCMPGTD(iota32(0), mask, mask)
		step(func(src Mem, dst reg.VecPhysical) { VMASKMOVPS(src, mask, dst) })
	}
	Label(name + "_sum")
	d.store(name, m, n)
	for range n {
		ADDQ(dotRowB, dotNext)
	}
	ADDQ(Imm(uint64(4*n)), dotOut)
	SUBQ(Imm(uint64(n)), dotLeft)
}

func dotRow(base []reg.GPPhysical, row reg.Register, r int) Mem {
	if r%3 == 0 {
		return at(base[r/3], 0)
	}
	return indexed(base[0], row, uint8(r))
}

// store folds the running sums along k and writes them to C.
func (d dot) store(name string, m, n int) {
	y := func(r, c int) reg.Register { return asY(d.regs[r*n+c]) }
	if d.wide() {
		for r := range m {
			for c := range n {
				VEXTRACTF64X4(Imm(1), d.regs[r*n+c], reg.Y16)
				VADDPS(reg.Y16, y(r, c), y(r, c))
			}
		}
	}
	// From here on row r's sums go to the first lanes of its first register.
	for r := range m {
		if n == 4 {
			VHADDPS(y(r, 1), y(r, 0), y(r, 0))
			VHADDPS(y(r, 3), y(r, 2), y(r, 2))
			VHADDPS(y(r, 2), y(r, 0), y(r, 0))
		} else {
			VHADDPS(y(r, 0), y(r, 0), y(r, 0))
			VHADDPS(y(r, 0), y(r, 0), y(r, 0))
		}
	}
	spare := reg.X15 // a last column at most, and those are folded by now
	for r := range m {
		x := asX(d.regs[r*n])
		VEXTRACTF128(Imm(1), y(r, 0), spare)
		VADDPS(spare, x, x)
		VBROADCASTSS(param("alpha"), spare)
		VMULPS(spare, x, x)
	}
	MOVL(param("beta"), reg.EAX)
	SHLL(Imm(1), reg.EAX)
	TESTL(reg.EAX, reg.EAX)
	MOVQ(dotOut, reg.RAX)
	JZ(LabelRef(name + "_write"))
	VBROADCASTSS(param("beta"), spare)
	for r := range m {
		x := asX(d.regs[r*n])
		if n == 4 {
			VFMADD231PS(at(reg.RAX, 0), spare, x)
		} else {
			VFMADD231SS(at(reg.RAX, 0), spare, x)
		}
		ADDQ(dotRowC, reg.RAX)
	}
	MOVQ(dotOut, reg.RAX)
	Label(name + "_write")
	for r := range m {
		x := asX(d.regs[r*n])
		if n == 4 {
			VMOVUPS(x, at(reg.RAX, 0))
		} else {
			VMOVSS(x, at(reg.RAX, 0))
		}
		ADDQ(dotRowC, reg.RAX)
	}
}
