package main

import (
	"fmt"
	"math"
	"strings"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// kernel is one assembly function in the making. Its methods emit
// instructions; those that compute return their result in a new register,
// unless they say that they change an operand. The first argument of a
// computation is always a register, the others may be in memory.
type kernel struct {
	z      bool // 512-bit registers, else 256
	width  int  // floats in a register
	ptr    map[string]Register
	n      Register // length of the slices
	i      Register // index of the first element at hand
	mask   Register // tail: which lanes exist; nil in the main loop
	spare  int      // registers that constants may still take
	labels int
}

// define emits a kernel for both register widths: "add" as vecAddAVX2 and
// vecAddAVX512.
// The first parameter is a slice and gives the length.
func define(name, signature string, body func(k *kernel)) {
	for _, z := range []bool{false, true} {
		k := &kernel{z: z, width: 8, ptr: map[string]Register{}}
		suffix := "AVX2"
		if z {
			k.width, k.spare, suffix = 16, 16, "AVX512"
		}
		TEXT("vec"+strings.ToUpper(name[:1])+name[1:]+suffix, NOSPLIT, "func"+signature)
		Pragma("noescape")
		body(k)
		RET()
	}
}

func (k *kernel) label(name string) string { return fmt.Sprintf("%s%d", name, k.labels) }

// length loads the length of a slice parameter.
func (k *kernel) length(param string) { k.n = Load(Param(param).Len(), GP64()) }

// array makes a slice parameter addressable.
func (k *kernel) array(names ...string) {
	for _, name := range names {
		if k.ptr[name] == nil {
			k.ptr[name] = Load(Param(name).Base(), GP64())
		}
	}
}

func (k *kernel) at(name string, element int) Mem {
	return Mem{Base: k.ptr[name], Index: k.i, Scale: 4, Disp: 4 * element}
}

func (k *kernel) load(name string, element int) VecVirtual {
	v := k.vec()
	switch {
	case k.mask == nil:
		VMOVUPS(k.at(name, element), v)
	case k.z:
		VMOVUPS_Z(k.at(name, element), k.mask, v)
	default:
		VMASKMOVPS(k.at(name, element), k.mask, v)
	}
	return v
}

func (k *kernel) store(v Op, name string, element int) {
	switch {
	case k.mask == nil:
		VMOVUPS(v, k.at(name, element))
	case k.z:
		VMOVUPS(v, k.mask, k.at(name, element))
	default:
		VMASKMOVPS(v, k.mask, k.at(name, element))
	}
}

// loop runs body over whole groups of registers, then over whole registers,
// then once under a mask for the elements that remain. body gets the number of
// registers to work on.
func (k *kernel) loop(unroll int, body func(registers int)) {
	k.labels++
	k.i = GP64()
	XORQ(k.i, k.i)
	last := GP64()
	for u := unroll; ; u = 1 {
		step := u * k.width
		loop, done := k.label(fmt.Sprintf("loop%dx", u)), k.label(fmt.Sprintf("done%dx", u))
		MOVQ(k.n, last)
		SUBQ(I32(step), last)
		CMPQ(k.i, last)
		JG(LabelRef(done))
		Label(loop)
		body(u)
		ADDQ(I32(step), k.i)
		CMPQ(k.i, last)
		JLE(LabelRef(loop))
		Label(done)
		if u == 1 {
			break
		}
	}
	rest, done := GP64(), k.label("end")
	MOVQ(k.n, rest)
	SUBQ(k.i, rest)
	JZ(LabelRef(done))
	k.mask = k.firstLanes(rest)
	body(1)
	k.mask = nil
	Label(done)
}

// firstLanes is the mask of the first n lanes.
func (k *kernel) firstLanes(n Register) Register {
	if k.z {
		ones, m := GP32(), K()
		MOVL(I32(-1), ones)
		BZHIL(n.(GPVirtual).As32(), ones, ones)
		KMOVW(ones, m)
		return m
	}
	table, m := GP64(), YMM()
	LEAQ(laneMasks(), table)
	NEGQ(n)
	VMOVDQU(Mem{Base: table, Index: n, Scale: 4, Disp: 32}, m)
	return m
}

var laneTable *Mem

// laneMasks holds eight full lanes, then eight empty ones.
func laneMasks() Mem {
	if laneTable == nil {
		m := GLOBL("laneMasks", RODATA|NOPTR)
		for i := range 16 {
			v := uint32(math.MaxUint32)
			if i >= 8 {
				v = 0
			}
			DATA(4*i, U32(v))
		}
		laneTable = &m
	}
	return *laneTable
}

// each emits an element-wise kernel: body turns registers of the inputs into
// registers of the outputs. A name may be both.
func (k *kernel) each(ins, outs []string, body func(in []VecVirtual) []VecVirtual) {
	k.array(ins...)
	k.array(outs...)
	k.loop(1, func(int) {
		in := make([]VecVirtual, len(ins))
		for j, name := range ins {
			in[j] = k.load(name, 0)
		}
		for j, v := range body(in) {
			k.store(v, outs[j], 0)
		}
	})
	VZEROUPPER()
}

// reduce emits a reduction into `accs` accumulators, each kept in `unroll`
// registers that are combined in the end and returned; they start at init.
// body adds inputs to accumulators; in the tail, lanes that do not exist read
// as zero.
func (k *kernel) reduce(ins []string, unroll, accs int, init Op, combine op, body func(in, acc []VecVirtual, element int)) []VecVirtual {
	k.array(ins...)
	acc := make([][]VecVirtual, unroll)
	for u := range acc {
		acc[u] = make([]VecVirtual, accs)
		for j := range acc[u] {
			acc[u][j] = k.copy(init)
		}
	}
	k.loop(unroll, func(registers int) {
		for u := range registers {
			in := make([]VecVirtual, len(ins))
			for j, name := range ins {
				in[j] = k.load(name, u*k.width)
			}
			body(in, acc[u], u*k.width)
		}
	})
	for step := unroll / 2; step > 0; step /= 2 {
		for u := range step {
			for j := range accs {
				combine(acc[u+step][j], acc[u][j], acc[u][j])
			}
		}
	}
	return acc[0]
}

// op is a two-operand instruction in Go's order: right, left, result.
type op func(right, left, result Op)

func addps(b, a, r Op)  { VADDPS(b, a, r) }
func addpd(b, a, r Op)  { VADDPD(b, a, r) }
func maxps(b, a, r Op)  { VMAXPS(b, a, r) }
func maxud(b, a, r Op)  { VPMAXUD(b, a, r) }
func unpack(b, a, r Op) { VUNPCKHPD(b, a, r) }

// across combines the lanes of a register into the lowest, which it returns.
// Lanes of 64 bits stop one step early.
func (k *kernel) across(v VecVirtual, combine op, lane int) VecVirtual {
	if k.z {
		high := YMM()
		VEXTRACTF64X4(Imm(1), v, high)
		combine(high, v.AsY(), v.AsY())
	}
	high := XMM()
	VEXTRACTF128(Imm(1), v.AsY(), high)
	x := v.AsX()
	combine(high, x, x)
	unpack(x, x, high)
	combine(high, x, x)
	if lane == 4 {
		VMOVSHDUP(x, high)
		combine(high, x, x)
	}
	return x.(VecVirtual)
}

func (k *kernel) vec() VecVirtual {
	if k.z {
		return ZMM()
	}
	return YMM()
}

func (k *kernel) copy(a Op) VecVirtual {
	v := k.vec()
	VMOVUPS(a, v)
	return v
}

// param broadcasts a float32 parameter.
func (k *kernel) param(name string) VecVirtual {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v := k.vec()
	VBROADCASTSS(b.Addr, v)
	return v
}

var constants = map[uint32]Mem{}

// repeated is a constant, 32 bits repeated over the widest memory operand.
func repeated(bits uint32) Mem {
	m, ok := constants[bits]
	if !ok {
		m = GLOBL(fmt.Sprintf("c%08x", bits), RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, U32(bits))
		}
		constants[bits] = m
	}
	return m
}

// register is a constant in a register, loaded where this is called: before
// the loop.
func (k *kernel) register(v float64) VecVirtual {
	return k.registerBits(math.Float32bits(float32(v)))
}

func (k *kernel) registerBits(bits uint32) VecVirtual {
	r := k.vec()
	VBROADCASTSS(repeated(bits), r)
	return r
}

// constant is a constant in a register as long as there are registers to
// spare, else in memory.
func (k *kernel) constant(v float64) Op { return k.constantBits(math.Float32bits(float32(v))) }

func (k *kernel) constantBits(bits uint32) Op {
	if k.spare == 0 {
		return repeated(bits)
	}
	k.spare--
	return k.registerBits(bits)
}

func (k *kernel) zero() VecVirtual {
	v := k.vec()
	if k.z {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
	return v
}

func (k *kernel) with(f op, a, b Op) VecVirtual {
	v := k.vec()
	f(b, a, v)
	return v
}

func (k *kernel) add(a, b Op) VecVirtual { return k.with(addps, a, b) }
func (k *kernel) sub(a, b Op) VecVirtual {
	return k.with(func(b, a, r Op) { VSUBPS(b, a, r) }, a, b)
}
func (k *kernel) mul(a, b Op) VecVirtual {
	return k.with(func(b, a, r Op) { VMULPS(b, a, r) }, a, b)
}
func (k *kernel) div(a, b Op) VecVirtual {
	return k.with(func(b, a, r Op) { VDIVPS(b, a, r) }, a, b)
}

// min and max return b if either is NaN.
func (k *kernel) min(a, b Op) VecVirtual {
	return k.with(func(b, a, r Op) { VMINPS(b, a, r) }, a, b)
}
func (k *kernel) max(a, b Op) VecVirtual { return k.with(maxps, a, b) }

func (k *kernel) and(a, b Op) VecVirtual {
	return k.with(func(b, a, r Op) { VANDPS(b, a, r) }, a, b)
}
func (k *kernel) or(a, b Op) VecVirtual {
	return k.with(func(b, a, r Op) { VORPS(b, a, r) }, a, b)
}
func (k *kernel) addInt(a, b Op) VecVirtual {
	return k.with(func(b, a, r Op) { VPADDD(b, a, r) }, a, b)
}
func (k *kernel) subInt(a, b Op) VecVirtual {
	return k.with(func(b, a, r Op) { VPSUBD(b, a, r) }, a, b)
}
func (k *kernel) shiftLeft(a Op, by uint64) VecVirtual {
	v := k.vec()
	VPSLLD(Imm(by), a, v)
	return v
}
func (k *kernel) shiftRight(a Op, by uint64) VecVirtual {
	v := k.vec()
	VPSRLD(Imm(by), a, v)
	return v
}
func (k *kernel) shiftSigned(a Op, by uint64) VecVirtual {
	v := k.vec()
	VPSRAD(Imm(by), a, v)
	return v
}
func (k *kernel) sqrt(a Op) VecVirtual {
	v := k.vec()
	VSQRTPS(a, v)
	return v
}
func (k *kernel) toInt(a Op) VecVirtual {
	v := k.vec()
	VCVTPS2DQ(a, v)
	return v
}
func (k *kernel) toFloat(a Op) VecVirtual {
	v := k.vec()
	VCVTDQ2PS(a, v)
	return v
}

// round is the nearest integer, ties to even.
func (k *kernel) round(a Op) VecVirtual {
	v := k.vec()
	if k.z {
		VRNDSCALEPS(Imm(8), a, v)
	} else {
		VROUNDPS(Imm(8), a, v)
	}
	return v
}

// mulAdd sets a = a·b + c and returns a.
func (k *kernel) mulAdd(a VecVirtual, b, c Op) VecVirtual {
	VFMADD213PS(c, b, a)
	return a
}

// plus sets a += b·c and returns a.
func (k *kernel) plus(a VecVirtual, b, c Op) VecVirtual {
	VFMADD231PS(c, b, a)
	return a
}

// minus sets a -= b·c and returns a.
func (k *kernel) minus(a VecVirtual, b, c Op) VecVirtual {
	VFNMADD231PS(c, b, a)
	return a
}

// Comparisons of VCMPPS; those with NaN are false, except unordered.
const (
	equal     = 0x00
	less      = 0x11
	unordered = 0x03
	greater   = 0x1e
)

// compare is the mask of a ? b.
func (k *kernel) compare(how uint64, a, b Op) Register {
	if k.z {
		m := K()
		VCMPPS(Imm(how), b, a, m)
		return m
	}
	m := YMM()
	VCMPPS(Imm(how), b, a, m)
	return m
}

// choose is a where the mask is set, b elsewhere.
func (k *kernel) choose(mask Register, a, b Op) VecVirtual {
	if k.z {
		v := k.copy(b)
		VMOVUPS(a, mask, v)
		return v
	}
	v := k.vec()
	VBLENDVPS(mask, a, b, v)
	return v
}

// existing replaces the lanes past the end of the slices in the tail by
// another value, for a reduction.
func (k *kernel) existing(v VecVirtual, other Op) VecVirtual {
	if k.mask == nil {
		return v
	}
	return k.choose(k.mask, v, other)
}
