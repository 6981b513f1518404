package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tile describes one kernel: a block of rows × (vecs vectors) of C that stays
// in registers while k runs. Each step takes one 32-bit unit from every row
// of A (a float, two bf16, two int16 or four uint8), spreads it over a vector,
// and multiplies it with vecs vectors of units of B.
type tile struct {
	name       string
	doc        string
	regs       []reg.VecPhysical
	rows, vecs int
	integer    bool
	// mac adds a·b to c; t is a register it may spoil (AVX2 only has one to spare).
	mac func(b, a, c, t int)
}

func tiles() {
	tile{
		name: "gemmF32AVX512", regs: zmm, rows: 12, vecs: 2,
		doc: "float32 units, 12×32 tiles",
		mac: func(b, a, c, _ int) { VFMADD231PS(zmm[b], zmm[a], zmm[c]) },
	}.emit()
	tile{
		name: "gemmBF16AVX512", regs: zmm, rows: 12, vecs: 2,
		doc: "units of two bf16, 12×32 tiles",
		mac: func(b, a, c, _ int) { evex(prefixF3, 0x52, b, a, c) }, // VDPBF16PS
	}.emit()
	tile{
		name: "gemmU8S8AVX512", regs: zmm, rows: 12, vecs: 2, integer: true,
		doc: "units of four uint8 (A) and int8 (B), 12×32 tiles",
		mac: func(b, a, c, _ int) { raw("VPDPBUSD", zmm[b], zmm[a], zmm[c]) },
	}.emit()
	tile{
		name: "gemmF32AVX2", regs: ymm, rows: 6, vecs: 2,
		doc: "float32 units, 6×16 tiles",
		mac: func(b, a, c, _ int) { VFMADD231PS(ymm[b], ymm[a], ymm[c]) },
	}.emit()
	tile{
		name: "gemmS16AVX2", regs: ymm, rows: 6, vecs: 2, integer: true,
		doc: "units of two int16, 6×16 tiles",
		mac: func(b, a, c, t int) {
			VPMADDWD(ymm[b], ymm[a], ymm[t])
			VPADDD(ymm[t], ymm[c], ymm[c])
		},
	}.emit()
}

// General registers of a tile kernel.
var (
	aTile  = reg.RAX                                            // A at the tile's first row
	aStep  = reg.RDI                                            // bytes from unit to unit of a row of A
	aRow   = reg.RSI                                            // bytes from row to row of A
	aPtr   = []reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11} // A at rows 0, 3, 6, 9
	bPtr   = reg.RBX
	bStep  = reg.RDX
	count  = reg.RCX
	cPtr   = reg.R12
	cRow   = reg.R13
	mLeft  = reg.R14
	cStore = reg.R8 // C while a tile is stored; A's pointers are idle then
	temp   = reg.R9
)

func (t tile) wide() bool { return len(t.regs) == 32 }

// lanes is the number of units of a vector.
func (t tile) lanes() int {
	if t.wide() {
		return 16
	}
	return 8
}

func (t tile) emit() {
	tail := "alpha, beta float32"
	if t.integer {
		tail = "beta int"
	}
	TEXT(t.name, attr.NOSPLIT, "func(m, n, k int, a *byte, rsa, csa int, b *byte, ldb int, c *byte, ldc int, "+tail+")")
	Pragma("noescape")
	Doc(t.name+" computes C[m,n] from A[m,k] and B[k,n] in "+t.doc+",", "for any m and n up to the tile's width. Distances are in bytes.")
	load("m", mLeft)
	load("a", aTile)
	load("rsa", aRow)
	load("csa", aStep)
	load("ldb", bStep)
	load("c", cPtr)
	load("ldc", cRow)
	if t.wide() {
		load("n", temp)
		MOVQ(I32(-1), reg.RCX)
		BZHIQ(temp, reg.RCX, reg.RCX)
		KMOVW(reg.ECX, reg.K1)
		SHRQ(Imm(16), reg.RCX)
		KMOVW(reg.ECX, reg.K2)
		CMPQ(temp, Imm(16))
		JLE(LabelRef("narrow"))
		t.rowLoop("wide", t.vecs)
		Label("narrow")
		t.rowLoop("narrow", 1)
	} else {
		t.rowLoop("wide", t.vecs)
	}
}

// rowLoop walks down C in full tiles and ends with one of fewer rows.
func (t tile) rowLoop(name string, vecs int) {
	Label(name + "_next")
	CMPQ(mLeft, Imm(uint64(t.rows)))
	JL(LabelRef(name + "_tail"))
	t.block(label("%s%d", name, t.rows), t.rows, vecs)
	SUBQ(Imm(uint64(t.rows)), mLeft)
	MOVQ(aRow, temp)
	IMUL3Q(Imm(uint64(t.rows)), temp, temp)
	ADDQ(temp, aTile)
	MOVQ(cStore, cPtr)
	JMP(LabelRef(name + "_next"))

	Label(name + "_tail")
	for r := 1; r < t.rows; r++ {
		CMPQ(mLeft, Imm(uint64(r)))
		JE(LabelRef(label("%s_only%d", name, r)))
	}
	t.ret()
	for r := 1; r < t.rows; r++ {
		Label(label("%s_only%d", name, r))
		t.block(label("%s%d", name, r), r, vecs)
		t.ret()
	}
}

func (t tile) ret() {
	VZEROUPPER()
	RET()
}

// block computes and stores one tile, and leaves cStore past its last row.
func (t tile) block(name string, rows, vecs int) {
	acc := func(r, v int) int { return r*vecs + v }
	first := len(t.regs) - 4 // two vectors of B, one of A, one to spoil
	b, a, spoil := first, first+2, first+3
	for i := range rows * vecs {
		t.zero(i)
	}
	for i := 0; i*3 < rows; i++ {
		if i == 0 {
			MOVQ(aTile, aPtr[0])
			continue
		}
		LEAQ(indexed(aPtr[i-1], aRow, 2), aPtr[i])
		ADDQ(aRow, aPtr[i])
	}
	load("b", bPtr)
	load("k", count)
	TESTQ(count, count)
	JZ(LabelRef(name + "_store"))
	align()
	Label(name + "_k")
	for v := range vecs {
		VMOVUPS(at(bPtr, v*t.lanes()*4), t.regs[b+v])
	}
	for r := range rows {
		src := at(aPtr[r/3], 0)
		if r%3 > 0 {
			src = indexed(aPtr[r/3], aRow, uint8(r%3))
		}
		VBROADCASTSS(src, t.regs[a])
		for v := range vecs {
			t.mac(b+v, a, acc(r, v), spoil)
		}
	}
	ADDQ(bStep, bPtr)
	for i := 0; i*3 < rows; i++ {
		ADDQ(aStep, aPtr[i])
	}
	DECQ(count)
	JNZ(LabelRef(name + "_k"))
	Label(name + "_store")
	t.store(name, rows, vecs, first)
}

func (t tile) zero(i int) {
	if t.wide() {
		VPXORD(t.regs[i], t.regs[i], t.regs[i])
	} else {
		VPXOR(t.regs[i], t.regs[i], t.regs[i])
	}
}

// store writes alpha·tile + beta·C, or for integers tile, plus C if beta is
// not 0. The registers from free on hold nothing any more.
func (t tile) store(name string, rows, vecs, free int) {
	var mask []reg.Register // AVX2: vectors of ones and zeros
	if t.wide() {
		mask = []reg.Register{reg.K1, reg.K2}
	} else {
		load("n", temp)
		MOVQ(temp, reg.X15)
		VPBROADCASTD(reg.X15, ymm[15])
		for v := range vecs {
			VPCMPGTD(iota32(v), ymm[15], ymm[free+v])
			mask = append(mask, ymm[free+v])
		}
	}
	factor, scratch := t.regs[free+2], t.regs[free+3]
	if !t.integer {
		VBROADCASTSS(param("alpha"), factor)
		for i := range rows * vecs {
			VMULPS(factor, t.regs[i], t.regs[i])
		}
		MOVL(param("beta"), reg.R10L)
		SHLL(Imm(1), reg.R10L) // -0 is 0
		TESTL(reg.R10L, reg.R10L)
		JZ(LabelRef(name + "_write"))
		VBROADCASTSS(param("beta"), factor)
	} else {
		load("beta", reg.R10)
		TESTQ(reg.R10, reg.R10)
		JZ(LabelRef(name + "_write"))
	}
	MOVQ(cPtr, cStore)
	for r := range rows {
		for v := range vecs {
			c, i := at(cStore, v*t.lanes()*4), t.regs[r*vecs+v]
			switch {
			case t.wide() && t.integer:
				VPADDD(c, i, mask[v], i)
			case t.wide():
				VFMADD231PS(c, factor, mask[v], i)
			case t.integer:
				VPMASKMOVD(c, mask[v], scratch)
				VPADDD(scratch, i, i)
			default:
				VMASKMOVPS(c, mask[v], scratch)
				VFMADD231PS(scratch, factor, i)
			}
		}
		ADDQ(cRow, cStore)
	}
	Label(name + "_write")
	MOVQ(cPtr, cStore)
	for r := range rows {
		for v := range vecs {
			c, i := at(cStore, v*t.lanes()*4), t.regs[r*vecs+v]
			if t.wide() {
				VMOVUPS(i, mask[v], c)
			} else {
				VMASKMOVPS(i, mask[v], c)
			}
		}
		ADDQ(cRow, cStore)
	}
}
