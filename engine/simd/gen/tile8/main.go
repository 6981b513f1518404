// Command tile8 writes the assembly of the kernels for 32×32 tiles of int8:
//
//	go run ./gen/tile8 -out tile8_amd64.s -stubs tile8_stubs_amd64.go -pkg simd
package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	side   = 32          // rows and columns of a tile
	area   = side * side // codes in it
	record = area + 4*side
)

var zmm = []reg.VecPhysical{
	reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
	reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
	reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
}

func main() {
	ConstraintExpr("amd64")
	multiply("tile8MulRowsAVX512", "rows", side, 4)
	multiply("tile8MulGroupsAVX512", "groups", 4, 4*side)
	absMax()
	quantize()
	quantizeStochastic()
	dequantize("tile8DequantizeAVX512", false)
	dequantize("tile8AddAVX512", true)
	interleave()
	sums()
	flip()
	Generate()
}

func function(name, signature, doc string) {
	TEXT(name, attr.NOSPLIT, "func"+signature)
	Pragma("noescape")
	Doc(name + " " + doc)
}

func ret() {
	VZEROUPPER()
	RET()
}

// dot emits c += a·b for four uint8 of a and four int8 of b in every lane; avo
// does not know the instruction, the Go assembler does.
func dot(b, a, c int) {
	Instruction(&ir.Instruction{Opcode: "VPDPBUSD", Operands: []Op{zmm[b], zmm[a], zmm[c]}})
}

func at(base reg.Register, disp int) Mem { return Mem{Base: base, Disp: disp} }

func load(name string, dst reg.Register) { Load(Param(name), dst) }

func param(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

var tables = map[string]Mem{}

// words is a table of 32-bit numbers.
func words(name string, values ...uint32) Mem {
	if m, ok := tables[name]; ok {
		return m
	}
	m := GLOBL("tile8"+name, attr.RODATA|attr.NOPTR)
	for i, v := range values {
		DATA(4*i, U32(v))
	}
	tables[name] = m
	return m
}

func spread(name string, value uint32, dst reg.VecPhysical) { VPBROADCASTD(words(name, value), dst) }

// multiply emits the product of tiles. Eight rows of a tile are summed in
// sixteen registers of int32 over the tile's depth of 32. Then the sums, as
// floats, times the tiles' scales are added to the result, which lies in the
// innermost cache. row and group are the bytes from row to row of A and from
// one group of four along the depth to the next.
func multiply(name, layout string, row, group int) {
	const (
		strip  = 8 // rows at a time
		b, a   = 16, 18
		scale  = 22
		first  = 23 // what the sums start at
		accRow = 4 * side
	)
	function(name, "(acc *float32, a *uint8, b *uint8, scale *float32, n int)",
		fmt.Sprintf("adds to acc [32, 32] the products of n tiles of A, in %s, with n records of B, times scale[i].", layout))
	acc, aTile, bTile, scales, count := reg.RDI, reg.RSI, reg.RDX, reg.RBX, reg.RCX
	aStrip, accStrip, strips := reg.R8, reg.R9, reg.R10
	load("acc", acc)
	load("a", aTile)
	load("b", bTile)
	load("scale", scales)
	load("n", count)
	TESTQ(count, count)
	JZ(LabelRef("done"))
	Label("tile")
	VBROADCASTSS(at(scales, 0), zmm[scale])
	VMOVDQU64(at(bTile, area), zmm[first])
	VMOVDQU64(at(bTile, area+64), zmm[first+1])
	MOVQ(aTile, aStrip)
	MOVQ(acc, accStrip)
	MOVQ(U32(side/strip), strips)
	Instruction(&ir.Instruction{Opcode: "PCALIGN", Operands: []Op{Imm(32)}})
	Label("strip")
	for i := range 2 * strip {
		VMOVDQA64(zmm[first+i%2], zmm[i])
	}
	for g := range side / 4 {
		VMOVDQU64(at(bTile, g*4*side), zmm[b])
		VMOVDQU64(at(bTile, g*4*side+64), zmm[b+1])
		for r := range strip {
			VPBROADCASTD(at(aStrip, r*row+g*group), zmm[a+r%4])
			dot(b, a+r%4, 2*r)
			dot(b+1, a+r%4, 2*r+1)
		}
	}
	for i := range 2 * strip {
		c := at(accStrip, i/2*accRow+i%2*64)
		VCVTDQ2PS(zmm[i], zmm[i])
		VFMADD213PS(c, zmm[scale], zmm[i])
		VMOVUPS(zmm[i], c)
	}
	ADDQ(U32(strip*row), aStrip)
	ADDQ(U32(strip*accRow), accStrip)
	DECQ(strips)
	JNZ(LabelRef("strip"))
	ADDQ(U32(area), aTile)
	ADDQ(U32(record), bTile)
	ADDQ(U32(4), scales)
	DECQ(count)
	JNZ(LabelRef("tile"))
	Label("done")
	ret()
}

// rowLoop emits body once for each of the 32 rows of a tile.
func rowLoop(body func()) {
	MOVQ(U32(side), reg.RCX)
	Label("row")
	body()
	DECQ(reg.RCX)
	JNZ(LabelRef("row"))
}

func absMax() {
	function("tile8AbsMaxAVX512", "(x *float32, ld int) uint32", "is the largest of the bits of |x[32, 32]|; rows are ld bytes apart.")
	load("x", reg.RSI)
	load("ld", reg.RDX)
	spread("Magnitude", math.MaxInt32, zmm[4])
	VPXORD(zmm[0], zmm[0], zmm[0])
	VPXORD(zmm[1], zmm[1], zmm[1])
	rowLoop(func() {
		VPANDD(at(reg.RSI, 0), zmm[4], zmm[2])
		VPANDD(at(reg.RSI, 64), zmm[4], zmm[3])
		VPMAXUD(zmm[2], zmm[0], zmm[0])
		VPMAXUD(zmm[3], zmm[1], zmm[1])
		ADDQ(reg.RDX, reg.RSI)
	})
	VPMAXUD(zmm[1], zmm[0], zmm[0])
	VEXTRACTI64X4(Imm(1), zmm[0], reg.Y1)
	VPMAXUD(reg.Y1, reg.Y0, reg.Y0)
	VEXTRACTI128(Imm(1), reg.Y0, reg.X1)
	VPMAXUD(reg.X1, reg.X0, reg.X0)
	VPSHUFD(Imm(0x4e), reg.X0, reg.X1)
	VPMAXUD(reg.X1, reg.X0, reg.X0)
	VPSHUFD(Imm(0xb1), reg.X0, reg.X1)
	VPMAXUD(reg.X1, reg.X0, reg.X0)
	VMOVD(reg.X0, reg.EAX)
	Store(reg.EAX, ReturnIndex(0))
	ret()
}

func quantize() {
	function("tile8QuantizeAVX512", "(q *int8, x *float32, ld int, inverse float32)", "sets q[32, 32] = x·inverse, to the nearest; rows of x are ld bytes apart.")
	load("q", reg.RDI)
	load("x", reg.RSI)
	load("ld", reg.RDX)
	VBROADCASTSS(param("inverse"), zmm[4])
	rowLoop(func() {
		for i := range 2 {
			VMULPS(at(reg.RSI, 64*i), zmm[4], zmm[i])
			VCVTPS2DQ(zmm[i], zmm[i])
			VPMOVSDB(zmm[i], at(reg.RDI, 16*i))
		}
		ADDQ(reg.RDX, reg.RSI)
		ADDQ(Imm(side), reg.RDI)
	})
	ret()
}

// quantizeStochastic: the draws of a row are the halves of sixteen hashes, the
// low ones for its first sixteen elements.
func quantizeStochastic() {
	function("tile8QuantizeStochasticAVX512", "(q *int8, x *float32, ld int, inverse float32, key0, key1 uint32)",
		"sets q[32, 32] = floor(x·inverse + u) for draws u; rows of x are ld bytes apart.")
	load("q", reg.RDI)
	load("x", reg.RSI)
	load("ld", reg.RDX)
	VBROADCASTSS(param("inverse"), zmm[4])
	VBROADCASTSS(param("key0"), zmm[5])
	VBROADCASTSS(param("key1"), zmm[6])
	var weyl [16]uint32
	for i := range weyl {
		weyl[i] = golden * uint32(i)
	}
	VPADDD(words("Weyl", weyl[:]...), zmm[5], zmm[5])
	step := uint32(golden)
	spread("Step", 16*step, zmm[7])
	spread("Mul0", 0x7feb352d, zmm[8])
	spread("Mul1", 0x846ca68b, zmm[9])
	spread("Low", 0xffff, zmm[10])
	spread("Unit", math.Float32bits(0x1p-16), zmm[11])
	spread("Half", math.Float32bits(0x1p-17), zmm[12])
	spread("Least", ^uint32(126), zmm[13]) // -127
	rowLoop(func() {
		h, t := zmm[2], zmm[3]
		shift := func(by uint64) {
			VPSRLD(Imm(by), h, t)
			VPXORD(t, h, h)
		}
		VMOVDQA64(zmm[5], h)
		VPADDD(zmm[7], zmm[5], zmm[5])
		shift(16)
		VPMULLD(zmm[8], h, h)
		VPXORD(zmm[6], h, h)
		shift(15)
		VPMULLD(zmm[9], h, h)
		shift(16)
		VPSRLD(Imm(16), h, t)
		VPANDD(zmm[10], h, h)
		for i, draw := range []reg.VecPhysical{h, t} {
			VCVTDQ2PS(draw, draw)
			VMULPS(zmm[11], draw, draw)
			VADDPS(zmm[12], draw, draw)
			VMULPS(at(reg.RSI, 64*i), zmm[4], zmm[i])
			VADDPS(draw, zmm[i], zmm[i])
			VCVTPS2DQ_RD_SAE(zmm[i], zmm[i])
			VPMAXSD(zmm[13], zmm[i], zmm[i])
			VPMOVSDB(zmm[i], at(reg.RDI, 16*i))
		}
		ADDQ(reg.RDX, reg.RSI)
		ADDQ(Imm(side), reg.RDI)
	})
	ret()
}

// golden is 2³² over the golden ratio: its multiples are spread evenly.
const golden = 0x9e3779b1

func dequantize(name string, add bool) {
	what := "x[32, 32] = scale·q"
	if add {
		what = "x[32, 32] += scale·q"
	}
	function(name, "(x *float32, ld int, q *int8, scale float32)", "sets "+what+"; rows of x are ld bytes apart.")
	load("x", reg.RDI)
	load("ld", reg.RDX)
	load("q", reg.RSI)
	VBROADCASTSS(param("scale"), zmm[4])
	rowLoop(func() {
		for i := range 2 {
			VPMOVSXBD(at(reg.RSI, 16*i), zmm[i])
			VCVTDQ2PS(zmm[i], zmm[i])
			VMULPS(zmm[4], zmm[i], zmm[i])
			if add {
				VADDPS(at(reg.RDI, 64*i), zmm[i], zmm[i])
			}
			VMOVUPS(zmm[i], at(reg.RDI, 64*i))
		}
		ADDQ(reg.RDX, reg.RDI)
		ADDQ(Imm(side), reg.RSI)
	})
	ret()
}

// interleave brings four rows together by two rounds of unpacking, which work
// within halves of 16 bytes.
func interleave() {
	function("tile8InterleaveAVX512", "(dst *uint8, q *int8, flip uint32)", "lays out q[32, 32] as groups of four rows, each byte xor that of flip.")
	load("dst", reg.RDI)
	load("q", reg.RSI)
	VBROADCASTSS(param("flip"), reg.Y8)
	MOVQ(U32(side/4), reg.RCX)
	Label("group")
	rows := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3}
	for i, r := range rows {
		VPXOR(at(reg.RSI, side*i), reg.Y8, r)
	}
	VPUNPCKLBW(reg.Y1, reg.Y0, reg.Y4)
	VPUNPCKHBW(reg.Y1, reg.Y0, reg.Y5)
	VPUNPCKLBW(reg.Y3, reg.Y2, reg.Y6)
	VPUNPCKHBW(reg.Y3, reg.Y2, reg.Y7)
	VPUNPCKLWD(reg.Y6, reg.Y4, reg.Y0)
	VPUNPCKHWD(reg.Y6, reg.Y4, reg.Y1)
	VPUNPCKLWD(reg.Y7, reg.Y5, reg.Y2)
	VPUNPCKHWD(reg.Y7, reg.Y5, reg.Y3)
	for i, r := range rows {
		VMOVDQU(r.AsX(), at(reg.RDI, 16*i))
		VEXTRACTI128(Imm(1), r, at(reg.RDI, 64+16*i))
	}
	ADDQ(U32(4*side), reg.RSI)
	ADDQ(U32(4*side), reg.RDI)
	DECQ(reg.RCX)
	JNZ(LabelRef("group"))
	ret()
}

func sums() {
	function("tile8SumsAVX512", "(b *uint8)", "completes a record of B by -128 times the sums of its columns.")
	load("b", reg.RDI)
	spread("Offset", 0x80808080, zmm[4])
	for i := range 4 {
		VPXORD(zmm[i], zmm[i], zmm[i])
	}
	for g := range side / 4 {
		VMOVDQU64(at(reg.RDI, 4*side*g), zmm[5])
		VMOVDQU64(at(reg.RDI, 4*side*g+64), zmm[6])
		dot(5, 4, 0)
		dot(6, 4, 1)
	}
	for i := range 2 {
		VPSUBD(zmm[i], zmm[2], zmm[i])
		VMOVDQU64(zmm[i], at(reg.RDI, area+64*i))
	}
	ret()
}

func flip() {
	function("tile8FlipAVX512", "(dst *uint8, q *int8)", "sets dst = q + 128 for a tile.")
	load("dst", reg.RDI)
	load("q", reg.RSI)
	spread("Offset", 0x80808080, zmm[4])
	for i := range area / 64 {
		VPXORD(at(reg.RSI, 64*i), zmm[4], zmm[i%4])
		VMOVDQU64(zmm[i%4], at(reg.RDI, 64*i))
	}
	ret()
}
