// Command tree writes the assembly of package simd's kernels for histogram
// trees. Each is emitted for every number of lanes in widths. Run it by go
// generate in package simd.
package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	for _, z := range []bool{false, true} {
		for _, lanes := range []int{2, 4, 8, 16, 32, 48, 64} {
			if z && lanes < 16 {
				continue // the narrow ones serve both levels
			}
			s := newShape(lanes, z)
			histogram(s)
			scan(s)
			leaf(s)
			total(s)
		}
		best(z)
	}
	Generate()
}

// shape is how a row of lanes lies in registers.
type shape struct {
	lanes int
	width int // floats in a register
	count int // registers
	level string
}

func newShape(lanes int, z bool) shape {
	s := shape{lanes: lanes, width: min(lanes, 8), level: "AVX2"}
	if z {
		s.width, s.level = 16, "AVX512"
	}
	s.count = lanes / s.width
	return s
}

func (s shape) define(name, signature string) {
	TEXT(fmt.Sprintf("tree%s%d%s", name, s.lanes, s.level), NOSPLIT, "func"+signature)
	Pragma("noescape")
}

func (s shape) vec() VecVirtual {
	switch s.width {
	case 16:
		return ZMM()
	case 8:
		return YMM()
	}
	return XMM()
}

func (s shape) vecs() []VecVirtual {
	all := make([]VecVirtual, s.count)
	for i := range all {
		all[i] = s.vec()
	}
	return all
}

// zeros are cleared registers.
func (s shape) zeros() []VecVirtual {
	all := s.vecs()
	for _, v := range all {
		VXORPS(v.AsX(), v.AsX(), v.AsX())
	}
	return all
}

// at is the place of register i of a row.
func (s shape) at(row Mem, i int) Mem { return row.Offset(4 * s.width * i) }

func (s shape) load(m Mem, v VecVirtual) {
	if s.width == 2 {
		VMOVSD(m, v)
		return
	}
	VMOVUPS(m, v)
}

func (s shape) store(v VecVirtual, m Mem) {
	if s.width == 2 {
		VMOVSD(v, m)
		return
	}
	VMOVUPS(v, m)
}

func arg(name string) Register { return Load(Param(name), GP64()) }

// ahead is how many rows the kernels fetch before they are used.
const ahead = 8

// next loads the number of the row at i and asks for the gradients of one
// that comes later.
func (s shape) next(rows, i, last, grad, stride Register) (row, at Register) {
	later := GP64()
	LEAQ(Mem{Base: i, Disp: ahead}, later)
	CMPQ(later, last)
	CMOVQGT(last, later)
	MOVL(Mem{Base: rows, Index: later, Scale: 4}, later.As32())
	IMULQ(stride, later)
	PREFETCHT0(Mem{Base: grad, Index: later, Scale: 1})
	if s.lanes > 16 {
		PREFETCHT0(Mem{Base: grad, Index: later, Scale: 1, Disp: 64})
	}
	if s.lanes > 32 {
		PREFETCHT0(Mem{Base: grad, Index: later, Scale: 1, Disp: 128})
	}
	if s.lanes > 48 {
		PREFETCHT0(Mem{Base: grad, Index: later, Scale: 1, Disp: 192})
	}
	r := GP64()
	MOVL(Mem{Base: rows, Index: i, Scale: 4}, r.As32())
	at = GP64()
	MOVQ(r, at)
	IMULQ(stride, at)
	return r, at
}

// histogram adds the gradients of rows to the bins they fall in, four columns
// at a time. The columns' bins are apart, so no addition waits for the one
// before.
func histogram(s shape) {
	s.define("Histogram", "(hist *float32, first *int32, grad *float32, stride int, bins *uint8, cols int, rows *int32, n int)")
	hist, first, grad, stride := arg("hist"), arg("first"), arg("grad"), arg("stride")
	bins, cols, rows, n := arg("bins"), arg("cols"), arg("rows"), arg("n")
	last, i := GP64(), GP64()
	LEAQ(Mem{Base: n, Disp: -1}, last)
	XORQ(i, i)
	Label("row")
	row, at := s.next(rows, i, last, grad, stride)
	g := s.vecs()
	for k, v := range g {
		s.load(s.at(Mem{Base: grad, Index: at, Scale: 1}, k), v)
	}
	IMULQ(cols, row)
	ADDQ(bins, row)
	j := GP64()
	XORQ(j, j)
	Label("columns")
	for c := range 4 {
		bin := GP64()
		MOVBQZX(Mem{Base: row, Index: j, Scale: 1, Disp: c}, bin)
		ADDL(Mem{Base: first, Index: j, Scale: 4, Disp: 4 * c}, bin.As32())
		to := Mem{Base: hist, Index: bin, Scale: 8}
		if s.lanes > 2 {
			IMULQ(stride, bin)
			to.Scale = 1
		}
		for k, v := range g {
			t := s.vec()
			if s.width == 2 {
				VMOVSD(to, t)
				VADDPS(v, t, t)
			} else {
				VADDPS(s.at(to, k), v, t)
			}
			s.store(t, s.at(to, k))
		}
	}
	ADDQ(Imm(4), j)
	CMPQ(j, cols)
	JLT(LabelRef("columns"))
	INCQ(i)
	CMPQ(i, n)
	JLT(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// scan walks over bins and squares what lies on either side of each.
func scan(s shape) {
	s.define("Scan", "(count, left, right, hist *float32, stride, n int, total *float32, keep *uint32)")
	count, left, right := arg("count"), arg("left"), arg("right")
	hist, stride, n, total, keep := arg("hist"), arg("stride"), arg("n"), arg("total"), arg("keep")
	totals := s.vec() // of two lanes, which memory operands do not have
	if s.width == 2 {
		VMOVSD(Mem{Base: total}, totals)
	}
	mask := s.vec() // of the first register, which may hold the count
	if s.width > 2 {
		VMOVUPS(Mem{Base: keep}, mask)
	}
	sum := s.zeros()
	i := GP64()
	XORQ(i, i)
	out := func(base Register) Mem { return Mem{Base: base, Index: i, Scale: 4} }
	Label("bin")
	var squares [2]VecVirtual // left, right
	for k, v := range sum {
		if s.width == 2 {
			t := s.vec()
			VMOVSD(Mem{Base: hist}, t)
			VADDPS(t, v, v)
		} else {
			VADDPS(s.at(Mem{Base: hist}, k), v, v)
		}
		r := s.vec() // less the total: the sign goes when it is squared
		if s.width == 2 {
			VSUBPS(totals, v, r)
		} else {
			VSUBPS(s.at(Mem{Base: total}, k), v, r)
		}
		sides := [2]VecVirtual{v, r}
		if k == 0 {
			VMOVSS(v.AsX(), out(count))
			if s.width == 2 { // lanes: count, gradient
				for x, side := range sides {
					t := s.vec()
					VMOVSHDUP(side, t)
					VMULSS(t, t, t)
					VMOVSS(t, out([]Register{left, right}[x]))
				}
				break
			}
			for x, side := range sides {
				t := s.vec()
				VANDPS(mask, side, t)
				VMULPS(t, t, t)
				squares[x] = t
			}
			continue
		}
		for x, side := range sides {
			VFMADD231PS(side, side, squares[x])
		}
	}
	if s.width > 2 {
		l, r := s.narrow(squares[0]), s.narrow(squares[1])
		VHADDPS(r, l, l) // l01 l23 r01 r23
		VHADDPS(l, l, l) // l r l r
		VMOVSS(l, out(left))
		VMOVSHDUP(l, l)
		VMOVSS(l, out(right))
	}
	ADDQ(stride, hist)
	INCQ(i)
	CMPQ(i, n)
	JLT(LabelRef("bin"))
	VZEROUPPER()
	RET()
}

// narrow adds the quarters of a register together.
func (s shape) narrow(v VecVirtual) VecVirtual {
	if s.width == 16 {
		high := YMM()
		VEXTRACTF64X4(Imm(1), v, high)
		VADDPS(high, v.AsY(), high)
		v = high
	}
	if s.width >= 8 {
		high := XMM()
		VEXTRACTF128(Imm(1), v.AsY(), high)
		VADDPS(high, v.AsX(), high)
		v = high
	}
	return v
}

// leaf adds up the gradients r of rows, and |r|-r².
func leaf(s shape) {
	s.define("Leaf", "(sum, curve, grad *float32, stride int, rows *int32, n int)")
	sums, curves, grad, stride := arg("sum"), arg("curve"), arg("grad"), arg("stride")
	rows, n := arg("rows"), arg("n")
	abs := s.vec()
	VPCMPEQD(abs.AsX(), abs.AsX(), abs.AsX())
	VPSRLD(Imm(1), abs.AsX(), abs.AsX())
	if s.width >= 8 {
		VBROADCASTSS(abs.AsX(), abs)
	}
	sum, curve := s.zeros(), s.zeros()
	last, i := GP64(), GP64()
	LEAQ(Mem{Base: n, Disp: -1}, last)
	XORQ(i, i)
	Label("row")
	_, at := s.next(rows, i, last, grad, stride)
	for k := range sum {
		r, a := s.vec(), s.vec()
		s.load(s.at(Mem{Base: grad, Index: at, Scale: 1}, k), r)
		VADDPS(r, sum[k], sum[k])
		VANDPS(abs, r, a)
		VMULPS(r, r, r)
		VSUBPS(r, a, a)
		VADDPS(a, curve[k], curve[k])
	}
	INCQ(i)
	CMPQ(i, n)
	JLT(LabelRef("row"))
	for k := range sum {
		s.store(sum[k], s.at(Mem{Base: sums}, k))
		s.store(curve[k], s.at(Mem{Base: curves}, k))
	}
	VZEROUPPER()
	RET()
}

// total adds up rows that follow each other.
func total(s shape) {
	s.define("Total", "(total, hist *float32, stride, n int)")
	to, hist, stride, n := arg("total"), arg("hist"), arg("stride"), arg("n")
	sum := s.zeros()
	Label("bin")
	for k, v := range sum {
		if s.width == 2 {
			t := s.vec()
			VMOVSD(Mem{Base: hist}, t)
			VADDPS(t, v, v)
		} else {
			VADDPS(s.at(Mem{Base: hist}, k), v, v)
		}
	}
	ADDQ(stride, hist)
	DECQ(n)
	JNE(LabelRef("bin"))
	for k, v := range sum {
		s.store(v, s.at(Mem{Base: to}, k))
	}
	VZEROUPPER()
	RET()
}

// best finds, in each lane, the candidate with the highest score.
func best(z bool) {
	width, level := 8, "AVX2"
	vec := func() VecVirtual { return YMM() }
	if z {
		width, level = 16, "AVX512"
		vec = func() VecVirtual { return ZMM() }
	}
	TEXT("treeBest"+level, NOSPLIT, "func(score *float32, place *int32, count, left, right *float32, n int, total, least float32)")
	Pragma("noescape")
	score, place := arg("score"), arg("place")
	count, left, right, n := arg("count"), arg("left"), arg("right"), arg("n")
	spread := func(name string) VecVirtual {
		x, v := XMM(), vec()
		Load(Param(name), x)
		VBROADCASTSS(x, v)
		return v
	}
	constant := func(bits uint32) VecVirtual {
		r, x, v := GP32(), XMM(), vec()
		MOVL(U32(bits), r)
		VMOVD(r, x)
		VPBROADCASTD(x, v)
		return v
	}
	total, least := spread("total"), spread("least")
	lowest := constant(math.Float32bits(float32(math.Inf(-1))))
	step := constant(uint32(width))
	here, bestScore, bestPlace := vec(), vec(), vec()
	if z {
		VMOVDQU32(Mem{Base: place}, here) // the caller puts 0, 1, 2 … here
		VMOVDQA32(here, bestPlace)
	} else {
		VMOVDQU(Mem{Base: place}, here)
		VMOVDQA(here, bestPlace)
	}
	VMOVAPS(lowest, bestScore)
	i := GP64()
	XORQ(i, i)
	at := func(base Register) Mem { return Mem{Base: base, Index: i, Scale: 4} }
	const notLess, greater = 13, 30 // predicates GE_OS and GT_OQ
	Label("loop")
	nl, nr, l, r := vec(), vec(), vec(), vec()
	VMOVUPS(at(count), nl)
	VSUBPS(nl, total, nr)
	VMOVUPS(at(left), l)
	VMOVUPS(at(right), r)
	VDIVPS(nl, l, l)
	VDIVPS(nr, r, r)
	VADDPS(r, l, l)
	if z {
		ok := K()
		VCMPPS(Imm(notLess), least, nl, ok)
		both := K()
		VCMPPS(Imm(notLess), least, nr, both)
		KANDW(ok, both, both)
		VCMPPS(Imm(greater), bestScore, l, both, ok)
		VMOVAPS(l, ok, bestScore)
		VMOVDQA32(here, ok, bestPlace)
	} else {
		ok, more := vec(), vec()
		VCMPPS(Imm(notLess), least, nl, ok)
		VCMPPS(Imm(notLess), least, nr, more)
		VANDPS(ok, more, ok)
		VCMPPS(Imm(greater), bestScore, l, more)
		VANDPS(ok, more, ok)
		VBLENDVPS(ok, l, bestScore, bestScore)
		VBLENDVPS(ok, here, bestPlace, bestPlace)
	}
	VPADDD(step, here, here)
	ADDQ(Imm(uint64(width)), i)
	CMPQ(i, n)
	JLT(LabelRef("loop"))
	VMOVUPS(bestScore, Mem{Base: score})
	VMOVUPS(bestPlace, Mem{Base: place})
	VZEROUPPER()
	RET()
}
