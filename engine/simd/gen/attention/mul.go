package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Registers of mul.
var (
	mulRow  = reg.RAX // row of A at which the block begins
	mulA    = reg.RBX // A at hand
	mulAM   = reg.RCX // bytes from one row of A to the next, and three and five times that
	mulAM3  = reg.RDX
	mulAM5  = reg.RSI
	mulAK   = reg.RDI // bytes from one column of A to the next
	mulBCol = reg.R8  // column of B at which the block begins
	mulB    = reg.R9  // B at hand
	mulBS   = reg.R10
	mulC    = reg.R11 // C at hand
	mulCS   = reg.R12
	mulM    = reg.R13 // rows left
	mulTmp  = reg.R14
	mulK    = reg.R15 // terms left
)

// mul writes the product of a tile. It goes over columns in blocks as wide as
// the registers allow, over rows in blocks of six, and sums over k inside: per
// step it loads a row of B and broadcasts six numbers of A.
func (s isa) mul() {
	begin("tileMul"+s.suffix, "(m, n, k int, a *float32, am, ak int, b *float32, bs int, c *float32, cs, add int, scale *float32)",
		"is tileKernels.mul.")
	local := AllocLocal(24)
	n, c, scale := local, local.Offset(8), local.Offset(16)
	load("n", mulTmp)
	MOVQ(mulTmp, n)
	load("c", mulTmp)
	MOVQ(mulTmp, c)
	load("scale", mulTmp)
	MOVQ(mulTmp, scale)
	load("b", mulBCol)
	stride("am", mulAM)
	LEAQ(Mem{Base: mulAM, Index: mulAM, Scale: 2}, mulAM3)
	LEAQ(Mem{Base: mulAM, Index: mulAM, Scale: 4}, mulAM5)
	stride("ak", mulAK)
	stride("bs", mulBS)
	stride("cs", mulCS)

	for _, width := range s.widths {
		next, again := label("narrower"), label("columns")
		Label(again)
		CMPQ(n, U32(width*s.width))
		JL(LabelRef(next))
		s.mulColumns(width, false, c, scale)
		ADDQ(U32(width*s.bytes()), mulBCol)
		ADDQ(U32(width*s.bytes()), c)
		SUBQ(U32(width*s.width), n)
		MOVQ(scale, mulTmp)
		TESTQ(mulTmp, mulTmp)
		JZ(LabelRef(again))
		ADDQ(U32(width*s.bytes()), scale)
		JMP(LabelRef(again))
		Label(next)
	}
	MOVQ(n, mulM)
	TESTQ(mulM, mulM)
	JZ(LabelRef("done"))
	s.tailMask(mulM, mulTmp, s.vec[15])
	s.mulColumns(1, true, c, scale)
	Label("done")
	VZEROUPPER()
	RET()
}

// mulColumns goes over all rows for a block of columns.
func (s isa) mulColumns(width int, tail bool, c, scale Mem) {
	load("a", mulRow)
	load("m", mulM)
	MOVQ(c, mulC)
	done := label("rowsDone")
	for _, height := range []int{6, 4, 2, 1} {
		next, again := label("lower"), label("rows")
		Label(again)
		CMPQ(mulM, U32(height))
		JL(LabelRef(next))
		s.mulBlock(height, width, tail, scale)
		SUBQ(U32(height), mulM)
		JZ(LabelRef(done))
		if height == 6 {
			JMP(LabelRef(again))
		}
		Label(next)
	}
	Label(done)
}

// mulBlock computes a block of C in registers, moves mulC to the row after it
// and mulRow likewise.
func (s isa) mulBlock(height, width int, tail bool, scale Mem) {
	mask := s.vec[15] // AVX2 only; AVX-512 has it in K1
	acc := func(i, v int) reg.VecPhysical { return s.vec[i*width+v] }
	row := s.vec[height*width : height*width+width] // of B
	cast := s.vec[height*width+width]               // of A
	fetch := func(m Mem, r reg.VecPhysical) {
		if tail {
			s.loadTail(m, r, mask)
		} else {
			VMOVUPS(m, r)
		}
	}

	zero, plain, start := label("zero"), label("plain"), label("start")
	load("k", mulK)
	MOVQ(mulRow, mulA)
	load("add", mulTmp)
	TESTQ(mulTmp, mulTmp)
	JZ(LabelRef(zero))
	MOVQ(mulC, mulB)
	MOVQ(scale, mulTmp)
	TESTQ(mulTmp, mulTmp)
	JZ(LabelRef(plain))
	for v := range width {
		fetch(mem(mulTmp, v*s.bytes()), row[v])
	}
	for i := range height {
		for v := range width {
			fetch(mem(mulB, v*s.bytes()), acc(i, v))
			VMULPS(row[v], acc(i, v), acc(i, v))
		}
		ADDQ(mulCS, mulB)
	}
	JMP(LabelRef(start))
	Label(plain)
	for i := range height {
		for v := range width {
			fetch(mem(mulB, v*s.bytes()), acc(i, v))
		}
		ADDQ(mulCS, mulB)
	}
	JMP(LabelRef(start))
	Label(zero)
	for i := range height {
		for v := range width {
			VXORPS(xmm(acc(i, v)), xmm(acc(i, v)), xmm(acc(i, v)))
		}
	}
	Label(start)

	rows := []Mem{
		{Base: mulA}, {Base: mulA, Index: mulAM, Scale: 1}, {Base: mulA, Index: mulAM, Scale: 2},
		{Base: mulA, Index: mulAM3, Scale: 1}, {Base: mulA, Index: mulAM, Scale: 4}, {Base: mulA, Index: mulAM5, Scale: 1},
	}
	MOVQ(mulBCol, mulB)
	loop := label("terms")
	Label(loop)
	for v := range width {
		fetch(mem(mulB, v*s.bytes()), row[v])
	}
	for i := range height {
		if width == 1 && s.avx512() {
			VFMADD231PS_BCST(rows[i], row[0], acc(i, 0))
			continue
		}
		VBROADCASTSS(rows[i], cast)
		for v := range width {
			VFMADD231PS(row[v], cast, acc(i, v))
		}
	}
	ADDQ(mulAK, mulA)
	ADDQ(mulBS, mulB)
	DECQ(mulK)
	JNZ(LabelRef(loop))

	for i := range height {
		for v := range width {
			if tail {
				s.storeTail(acc(i, v), mask, mem(mulC, v*s.bytes()))
			} else {
				VMOVUPS(acc(i, v), mem(mulC, v*s.bytes()))
			}
		}
		ADDQ(mulCS, mulC)
	}
	for n := height; n > 0; {
		switch {
		case n >= 5:
			ADDQ(mulAM5, mulRow)
			n -= 5
		case n >= 3:
			ADDQ(mulAM3, mulRow)
			n -= 3
		default:
			ADDQ(mulAM, mulRow)
			n--
		}
	}
}

// dot writes products of rows with rows: four rows of B at a time against a
// row of A, a vector of each at a step.
func (s isa) dot() {
	begin("tileDot"+s.suffix, "(m, n, k int, a *float32, as int, b *float32, bs int, c *float32, cs int)", "is tileKernels.dot.")
	var (
		a, b, c      = reg.RAX, reg.RBX, reg.RCX
		bs, bs3      = reg.RDX, reg.RSI
		m, n, k      = reg.RDI, reg.R8, reg.R9
		pa, pb, pc   = reg.R10, reg.R11, reg.R12
		tmp, vectors = reg.R13, reg.R15
		row, mask    = s.vec[4], s.vec[15]
	)
	load("a", a)
	load("c", c)
	load("m", m)
	stride("bs", bs)
	LEAQ(Mem{Base: bs, Index: bs, Scale: 2}, bs3)
	load("k", k)
	MOVQ(k, vectors)
	SHRQ(Imm(uint64(map[int]int{8: 3, 16: 4}[s.width])), vectors)
	ANDQ(U32(s.width-1), k) // what remains after the whole vectors
	s.tailMask(k, tmp, mask)

	block := func(height int) {
		rows := []Mem{{Base: pb}, {Base: pb, Index: bs, Scale: 1}, {Base: pb, Index: bs, Scale: 2}, {Base: pb, Index: bs3, Scale: 1}}
		for i := range height {
			VXORPS(xmm(s.vec[i]), xmm(s.vec[i]), xmm(s.vec[i]))
		}
		MOVQ(a, pa)
		MOVQ(b, pb)
		loop, tail, sum := label("vectors"), label("tail"), label("sum")
		MOVQ(vectors, tmp)
		TESTQ(tmp, tmp)
		JZ(LabelRef(tail))
		Label(loop)
		VMOVUPS(mem(pa, 0), row)
		for i := range height {
			VFMADD231PS(rows[i], row, s.vec[i])
		}
		ADDQ(U32(s.bytes()), pa)
		ADDQ(U32(s.bytes()), pb)
		DECQ(tmp)
		JNZ(LabelRef(loop))
		Label(tail)
		TESTQ(k, k)
		JZ(LabelRef(sum))
		s.loadTail(mem(pa, 0), row, mask)
		for i := range height {
			s.loadTail(rows[i], s.vec[5], mask)
			VFMADD231PS(s.vec[5], row, s.vec[i])
		}
		Label(sum)
		if s.avx512() {
			for i := range height {
				VEXTRACTF64X4(Imm(1), s.vec[i], ymm(s.vec[5]))
				VADDPS(ymm(s.vec[5]), ymm(s.vec[i]), ymm(s.vec[i]))
			}
		}
		y := func(i int) reg.Register { return ymm(s.vec[i]) }
		if height == 4 {
			VHADDPS(y(1), y(0), y(0))
			VHADDPS(y(3), y(2), y(2))
			VHADDPS(y(2), y(0), y(0))
		} else {
			VHADDPS(y(0), y(0), y(0))
			VHADDPS(y(0), y(0), y(0))
		}
		VEXTRACTF128(Imm(1), y(0), xmm(s.vec[5]))
		VADDPS(xmm(s.vec[5]), xmm(s.vec[0]), xmm(s.vec[0]))
		if height == 4 {
			VMOVUPS(xmm(s.vec[0]), mem(pc, 0))
		} else {
			VMOVSS(xmm(s.vec[0]), mem(pc, 0))
		}
		ADDQ(U32(4*height), pc)
		for range height {
			ADDQ(bs, b)
		}
	}

	Label("rows")
	load("b", b)
	load("n", n)
	MOVQ(c, pc)
	Label("four")
	CMPQ(n, Imm(4))
	JL(LabelRef("one"))
	block(4)
	SUBQ(Imm(4), n)
	JMP(LabelRef("four"))
	Label("one")
	TESTQ(n, n)
	JZ(LabelRef("next"))
	block(1)
	DECQ(n)
	JMP(LabelRef("one"))
	Label("next")
	stride("as", tmp)
	ADDQ(tmp, a)
	stride("cs", tmp)
	ADDQ(tmp, c)
	DECQ(m)
	JNZ(LabelRef("rows"))
	VZEROUPPER()
	RET()
}
