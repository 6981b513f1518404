package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Registers of softmax and grad.
var (
	smS      = reg.RAX // scores at hand
	smD      = reg.RBX // gradients at hand
	smStride = reg.RCX
	smN      = reg.RDX // rows left
	smLo     = reg.RSI
	smHi     = reg.RDI
	smM      = reg.R8 // m or lse
	smL      = reg.R9 // l or delta
	smCorr   = reg.R10
	smFrom   = reg.R11 // the first row's scores
	smRows   = reg.R12 // all rows
	smThree  = reg.R13 // three strides
	smTmp    = reg.R15
)

// constants are the words the kernels use, eight times each for AVX2.
var constants = []uint32{
	float(1), float(0.6931469671), float(0.2402211972), float(0.05550713273), float(0.009675541334), float(0.001327647199),
	float(-127), float(-1e30), 127,
}

// float is the bits of a float; in a DATA line, a whole number would be an integer.
var float = math.Float32bits

const (
	constOne    = 0 // and the coefficients of 2^x follow
	constLeast  = 6
	constHidden = 7
	constBias   = 8 // of an exponent
)

var constTable Mem

func constant(i int) Mem {
	if constTable.Symbol.Name == "" {
		constTable = GLOBL("attentionConstants", RODATA|NOPTR)
		for i, v := range constants {
			for j := range 8 {
				DATA(32*i+4*j, U32(v))
			}
		}
	}
	return constTable.Offset(32 * i)
}

// softmaxRegs is how softmax and grad use the vector registers.
type softmaxRegs struct {
	isa
	coef    []reg.VecPhysical // of 2^x, from degree 1
	x, n, f []reg.VecPhysical // of as many rows as are computed at once
	a, b    reg.VecPhysical   // maximum and sum, or lse and delta
	least   reg.VecPhysical   // AVX2: the least exponent
	index   reg.VecPhysical   // number of the row at hand
	tmp     []reg.VecPhysical
}

func (s isa) softmaxRegs() softmaxRegs {
	v := s.vec
	if s.avx512() {
		return softmaxRegs{s, v[0:5], v[8:12], v[12:16], v[16:20], v[20], v[21], nil, v[22], v[24:28]}
	}
	return softmaxRegs{s, v[0:5], v[5:7], v[7:9], v[9:11], v[11], v[12], v[13], v[14], v[15:16]}
}

// loadConstants fills the registers that exp2 reads.
func (s softmaxRegs) loadConstants() {
	for i, r := range s.coef {
		VBROADCASTSS(constant(1+i), r)
	}
	if s.avx512() {
		VBROADCASTSS(constant(constOne), s.vec[5])
	} else {
		VBROADCASTSS(constant(constLeast), s.least)
	}
}

// exp2 makes each of the vectors x 2^x, as the Go function of that name does.
// n and f are as many vectors to work in. Steps alternate between vectors, to
// keep the units busy.
func (s softmaxRegs) exp2(x, n, f []reg.VecPhysical) {
	for i := range x {
		if s.avx512() {
			VRNDSCALEPS(Imm(0), x[i], n[i])
		} else {
			VMAXPS(x[i], s.least, x[i]) // in this order a NaN stays
			VROUNDPS(Imm(0), x[i], n[i])
		}
	}
	for i := range x {
		VSUBPS(n[i], x[i], f[i])
		VMOVAPS(s.coef[4], x[i])
	}
	for c := 3; c >= 0; c-- {
		for i := range x {
			VFMADD213PS(s.coef[c], f[i], x[i])
		}
	}
	for i := range x {
		if s.avx512() {
			VFMADD213PS(s.vec[5], f[i], x[i])
			VSCALEFPS(n[i], x[i], x[i])
			continue
		}
		VFMADD213PS(constant(constOne), f[i], x[i])
		VCVTPS2DQ(n[i], n[i])
		VPADDD(constant(constBias), n[i], n[i])
		VPSLLD(Imm(23), n[i], n[i])
		VMULPS(n[i], x[i], x[i])
	}
}

// parts are the byte offsets of the vectors that make 16 lanes.
func (s isa) parts() []int {
	if s.avx512() {
		return []int{0}
	}
	return []int{0, 32}
}

// loadRows finds the first row and the number of rows.
func loadRows() {
	load("s", smFrom)
	stride("stride", smStride)
	LEAQ(Mem{Base: smStride, Index: smStride, Scale: 2}, smThree)
	load("from", smTmp)
	load("to", smRows)
	SUBQ(smTmp, smRows)
	load("lo", smLo)
	load("hi", smHi)
	IMULQ(smStride, smTmp)
	ADDQ(smTmp, smFrom)
}

// startIndex sets index to the number of the first row.
func (s softmaxRegs) startIndex() {
	load("from", smTmp)
	VXORPS(xmm(s.index), xmm(s.index), xmm(s.index))
	VCVTSI2SSQ(smTmp, xmm(s.index), xmm(s.index))
	VBROADCASTSS(xmm(s.index), s.index)
}

// nextIndex moves on to the next row.
func (s softmaxRegs) nextIndex() {
	if s.avx512() {
		VADDPS(s.vec[5], s.index, s.index)
	} else {
		VADDPS(constant(constOne), s.index, s.index)
	}
}

// Predicates of VCMPPS.
const (
	less    = 0x01
	notLess = 0x0d
)

// visible finds the lanes that see the row at hand: in K2, or in the vector out
// with the help of tmp.
func (s softmaxRegs) visible(part int, out, tmp reg.VecPhysical) {
	if s.avx512() {
		VCMPPS(Imm(notLess), mem(smLo, part), s.index, reg.K1)
		VCMPPS(Imm(less), mem(smHi, part), s.index, reg.K1, reg.K2)
		return
	}
	VCMPPS(Imm(notLess), mem(smLo, part), s.index, out)
	VCMPPS(Imm(less), mem(smHi, part), s.index, tmp)
	VANDPS(tmp, out, out)
}

// rowAt is row i < 4 after the one at base.
func rowAt(base reg.Register, i, part int) Mem {
	switch i {
	case 0:
		return mem(base, part)
	case 3:
		return Mem{Base: base, Index: smThree, Scale: 1, Disp: part}
	}
	return Mem{Base: base, Index: smStride, Scale: uint8(i), Disp: part}
}

// advance moves base on by so many rows.
func advance(rows int, bases ...reg.Register) {
	for _, b := range bases {
		switch rows {
		case 4:
			LEAQ(Mem{Base: b, Index: smStride, Scale: 4}, b)
		case 2:
			LEAQ(Mem{Base: b, Index: smStride, Scale: 2}, b)
		case 1:
			ADDQ(smStride, b)
		}
	}
}

// eachRow runs body over all rows, so many at once as is best and then singly.
func eachRow(best int, body func(rows int)) {
	MOVQ(smRows, smN)
	single, done := label("single"), label("done")
	for _, n := range []int{best, 1} {
		again := label("rows")
		if n > 1 {
			CMPQ(smN, U32(n))
			JL(LabelRef(single))
		} else {
			if best > 1 {
				Label(single)
				TESTQ(smN, smN)
				JZ(LabelRef(done))
			}
		}
		Label(again)
		body(n)
		if n > 1 {
			SUBQ(U32(n), smN)
			CMPQ(smN, U32(n))
			JGE(LabelRef(again))
		} else {
			DECQ(smN)
			JNZ(LabelRef(again))
			break
		}
	}
	Label(done)
}

// softmax writes the running softmax: first the maxima of the columns, with
// what is not visible hidden, and then the weights and their sums.
func (i isa) softmax() {
	begin("tileSoftmax"+i.suffix, "(s *float32, stride, from, to int, lo, hi, m, l, corr *float32)", "is tileKernels.softmax.")
	s := i.softmaxRegs()
	loadRows()
	load("m", smM)
	load("l", smL)
	load("corr", smCorr)
	s.loadConstants()
	for _, part := range s.parts() {
		top := s.a
		VMOVUPS(mem(smM, part), top)
		MOVQ(smFrom, smS)
		seen, found := label("allSeen"), label("found")
		TESTQ(smLo, smLo)
		JZ(LabelRef(seen))
		hidden := s.b
		VBROADCASTSS(constant(constHidden), hidden)
		s.startIndex()
		eachRow(1, func(int) {
			x := s.x[0]
			s.visible(part, s.n[0], s.n[1])
			if s.avx512() {
				VMOVAPS(hidden, x)
				VMOVUPS(mem(smS, part), reg.K2, x)
			} else {
				VBLENDVPS(s.n[0], mem(smS, part), hidden, x)
			}
			VMOVUPS(x, mem(smS, part))
			VMAXPS(x, top, top)
			s.nextIndex()
			advance(1, smS)
		})
		JMP(LabelRef(found))
		Label(seen)
		tops := []reg.VecPhysical{top, s.n[0], s.n[1], s.f[0]}
		for _, t := range tops[1:] {
			VMOVAPS(top, t)
		}
		eachRow(4, func(rows int) {
			for i := range rows {
				VMAXPS(rowAt(smS, i, part), tops[i], tops[i])
			}
			advance(rows, smS)
		})
		VMAXPS(tops[1], tops[0], tops[0])
		VMAXPS(tops[3], tops[2], tops[2])
		VMAXPS(tops[2], tops[0], tops[0])
		Label(found)

		corr, sum := s.x[0], s.b
		VMOVUPS(mem(smM, part), corr)
		VMOVUPS(top, mem(smM, part))
		VSUBPS(top, corr, corr)
		s.exp2(s.x[:1], s.n[:1], s.f[:1])
		VMOVUPS(corr, mem(smCorr, part))
		VMULPS(mem(smL, part), corr, sum)

		MOVQ(smFrom, smS)
		eachRow(len(s.x), func(rows int) {
			for i, x := range s.x[:rows] {
				VMOVUPS(rowAt(smS, i, part), x)
				VSUBPS(top, x, x)
			}
			s.exp2(s.x[:rows], s.n[:rows], s.f[:rows])
			for i, x := range s.x[:rows] {
				VMOVUPS(x, rowAt(smS, i, part))
				VADDPS(x, sum, sum)
			}
			advance(rows, smS)
		})
		VMOVUPS(sum, mem(smL, part))
	}
	VZEROUPPER()
	RET()
}

// grad writes the gradient of the scores.
func (i isa) grad() {
	begin("tileGrad"+i.suffix, "(s, dp *float32, stride, from, to int, lo, hi, lse, delta *float32)", "is tileKernels.grad.")
	s := i.softmaxRegs()
	loadRows()
	load("lse", smM)
	load("delta", smL)
	s.loadConstants()
	for _, part := range s.parts() {
		lse, delta := s.a, s.b
		VMOVUPS(mem(smM, part), lse)
		VMOVUPS(mem(smL, part), delta)
		body := func(rows int, masked bool) {
			for i, x := range s.x[:rows] {
				VMOVUPS(rowAt(smS, i, part), x)
				VSUBPS(lse, x, x)
			}
			s.exp2(s.x[:rows], s.n[:rows], s.f[:rows])
			if masked {
				s.visible(part, s.n[0], s.f[0])
				if s.avx512() {
					VMOVAPS_Z(s.x[0], reg.K2, s.x[0])
				} else {
					VANDPS(s.n[0], s.x[0], s.x[0])
				}
				s.nextIndex()
			}
			for i, d := range s.f[:rows] {
				VMOVUPS(rowAt(smD, i, part), d)
				VSUBPS(delta, d, d)
				VMULPS(s.x[i], d, d)
				VMOVUPS(s.x[i], rowAt(smS, i, part))
				VMOVUPS(d, rowAt(smD, i, part))
			}
			advance(rows, smS, smD)
		}
		start := func() {
			MOVQ(smFrom, smS)
			load("s", smTmp)
			SUBQ(smTmp, smS)
			load("dp", smD)
			ADDQ(smS, smD) // the gradients lie as the scores do
			ADDQ(smTmp, smS)
		}
		seen, done := label("allSeen"), label("partDone")
		start()
		TESTQ(smLo, smLo)
		JZ(LabelRef(seen))
		s.startIndex()
		eachRow(1, func(int) { body(1, true) })
		JMP(LabelRef(done))
		Label(seen)
		eachRow(len(s.x), func(rows int) { body(rows, false) })
		Label(done)
	}
	VZEROUPPER()
	RET()
}
