// Command gather writes the assembly of the matrix kernels that find rows by
// lists of indices:
//
//	go run ./gen/gather -out gather_amd64.s -stubs gather_stubs_amd64.go -pkg simd
package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var zmm = []reg.VecPhysical{
	reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
	reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
	reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
}

const rows = 12 // of a tile; it has 32 columns

// The registers of B and of A's value; those before are the tile.
const b0, b1, value = 24, 25, 26

func main() {
	ConstraintExpr("amd64")
	rowsKernel()
	outerKernel()
	Generate()
}

// rowsKernel multiplies rows that lie anywhere. Every row of A has a pointer of
// its own, which takes all general registers but two.
func rowsKernel() {
	TEXT("gatherRowsAVX512", attr.NOSPLIT, "func(m, n, k int, a *byte, ai *int32, lda int, b, c *byte, ci *int32, ldc int, w *float32, add int)")
	Pragma("noescape")
	Doc("gatherRowsAVX512 computes w[i]·A[ai[i]]·B for m ≤ 12 rows i, n ≤ 32 columns, and sets C[ci[i]]",
		"to it, or adds it. ai and ci have 12 indices. B is a panel of 32 columns. Distances are in bytes.")
	ptr := []reg.GPPhysical{reg.RAX, reg.RBX, reg.RSI, reg.RDI, reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13, reg.R14, reg.R15}
	panel, offset := reg.RDX, reg.RCX
	// What is to be added to comes near while the products are formed.
	load("add", panel)
	TESTQ(panel, panel)
	JZ(LabelRef("rows_begin"))
	load("ci", panel)
	for r := range rows {
		MOVLQSX(Mem{Base: panel, Disp: 4 * r}, ptr[r])
		IMULQ(param("ldc"), ptr[r])
		ADDQ(param("c"), ptr[r])
		PREFETCHT0(Mem{Base: ptr[r]})
		PREFETCHT0(Mem{Base: ptr[r], Disp: 64})
	}
	Label("rows_begin")
	// Pointers to the ends of the rows: the offset runs up to 0.
	load("ai", panel)
	load("k", offset)
	for r := range rows {
		MOVLQSX(Mem{Base: panel, Disp: 4 * r}, ptr[r])
		IMULQ(param("lda"), ptr[r])
		ADDQ(param("a"), ptr[r])
		LEAQ(Mem{Base: ptr[r], Index: offset, Scale: 4}, ptr[r])
	}
	clear()
	SHLQ(Imm(2), offset)
	NEGQ(offset)
	JZ(LabelRef("rows_store"))
	load("m", panel)
	for m := 1; m < rows; m++ {
		CMPQ(panel, Imm(uint64(m)))
		JE(LabelRef(fmt.Sprint("rows_only", m)))
	}
	for m := rows; m > 0; m-- { // a loop for every number of rows
		loop := fmt.Sprint("rows_k", m)
		Label(fmt.Sprint("rows_only", m))
		load("b", panel)
		align()
		Label(loop)
		loadB(panel)
		for r := range m {
			multiply(r, Mem{Base: ptr[r], Index: offset, Scale: 1})
		}
		ADDQ(Imm(128), panel)
		ADDQ(Imm(4), offset)
		JNZ(LabelRef(loop))
		if m > 1 {
			JMP(LabelRef("rows_store"))
		}
	}

	Label("rows_store")
	masks()
	left, index, weights, c, add := reg.RAX, reg.RBX, reg.RSI, reg.RDI, reg.R8
	load("m", left)
	load("ci", index)
	load("w", weights)
	load("add", add)
	for r := range rows {
		CMPQ(left, Imm(uint64(r)))
		JE(LabelRef("rows_end"))
		MOVLQSX(Mem{Base: index, Disp: 4 * r}, c)
		IMULQ(param("ldc"), c)
		ADDQ(param("c"), c)
		VBROADCASTSS(Mem{Base: weights, Disp: 4 * r}, zmm[value])
		VMULPS(zmm[value], zmm[2*r], zmm[2*r])
		VMULPS(zmm[value], zmm[2*r+1], zmm[2*r+1])
		store("rows", r, c, add)
	}
	Label("rows_end")
	VZEROUPPER()
	RET()
}

// outerKernel multiplies columns of rows that lie anywhere.
func outerKernel() {
	TEXT("gatherOuterAVX512", attr.NOSPLIT, "func(first, n, k int, a *byte, ai *int32, lda int, b *byte, ldb int, c *byte, ldc int, add int)")
	Pragma("noescape")
	Doc("gatherOuterAVX512 computes Σ A[ai[p]]ᵀ·B[p] over k rows p, for 12 columns of A and n ≤ 32 of B, and sets",
		"rows first … 11 of C to it, or adds it. Distances are in bytes.")
	base, index, row, panel, count := reg.RAX, reg.RBX, reg.RSI, reg.RDX, reg.RCX
	lda, ldb := reg.RDI, reg.R8
	load("a", base)
	load("ai", index)
	load("lda", lda)
	load("b", panel)
	load("ldb", ldb)
	load("k", count)
	clear()
	TESTQ(count, count)
	JZ(LabelRef("outer_store"))
	align()
	Label("outer_k")
	MOVLQSX(Mem{Base: index}, row)
	IMULQ(lda, row)
	ADDQ(base, row)
	loadB(panel)
	for r := range rows {
		multiply(r, Mem{Base: row, Disp: 4 * r})
	}
	ADDQ(Imm(4), index)
	ADDQ(ldb, panel)
	DECQ(count)
	JNZ(LabelRef("outer_k"))

	Label("outer_store")
	masks()
	first, c, add := reg.RAX, reg.RDI, reg.R8
	load("first", first)
	load("c", c)
	load("add", add)
	for r := range rows {
		CMPQ(first, Imm(uint64(r)))
		JG(LabelRef(fmt.Sprint("outer_skip", r)))
		store("outer", r, c, add)
		Label(fmt.Sprint("outer_skip", r))
		ADDQ(param("ldc"), c)
	}
	VZEROUPPER()
	RET()
}

func clear() {
	for i := range 2 * rows {
		VPXORD(zmm[i], zmm[i], zmm[i])
	}
}

func loadB(panel reg.Register) {
	VMOVUPS(Mem{Base: panel}, zmm[b0])
	VMOVUPS(Mem{Base: panel, Disp: 64}, zmm[b1])
}

// multiply adds the product of a value of A with the row of B to row r.
func multiply(r int, a Mem) {
	VBROADCASTSS(a, zmm[value])
	VFMADD231PS(zmm[b0], zmm[value], zmm[2*r])
	VFMADD231PS(zmm[b1], zmm[value], zmm[2*r+1])
}

// masks makes those of n columns.
func masks() {
	load("n", reg.RDX)
	MOVQ(I32(-1), reg.RCX)
	BZHIQ(reg.RDX, reg.RCX, reg.RCX)
	KMOVW(reg.ECX, reg.K1)
	SHRQ(Imm(16), reg.RCX)
	KMOVW(reg.ECX, reg.K2)
}

// store writes row r of the tile, or adds it.
func store(name string, r int, c, add reg.Register) {
	write := fmt.Sprint(name, "_write", r)
	TESTQ(add, add)
	JZ(LabelRef(write))
	VADDPS(Mem{Base: c}, zmm[2*r], reg.K1, zmm[2*r])
	VADDPS(Mem{Base: c, Disp: 64}, zmm[2*r+1], reg.K2, zmm[2*r+1])
	Label(write)
	VMOVUPS(zmm[2*r], reg.K1, Mem{Base: c})
	VMOVUPS(zmm[2*r+1], reg.K2, Mem{Base: c, Disp: 64})
}

func load(name string, dst reg.Register) { Load(Param(name), dst) }

func param(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// align starts the next instruction, a loop's first, on a new fetch block.
func align() {
	Instruction(&ir.Instruction{Opcode: "PCALIGN", Operands: []Op{Imm(32)}})
}
