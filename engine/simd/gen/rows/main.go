// Command rows writes the assembly of package simd's row kernels: sums, dot
// products and updates of rows picked from a table, and the products of a
// vector with a small matrix. Every kernel is described once and emitted for
// AVX2 (eight lanes) and AVX-512 (sixteen). Run it by go generate in package
// simd.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	rowSum()
	rowAdd()
	rowDot()
	rowStep()
	rowPrefetch()
	vecMat()
	vecMatStep()
	Generate()
}

// kernel is one assembly function in the making.
type kernel struct {
	z      bool // 512-bit registers, else 256
	width  int  // floats in a register
	labels int
}

// define emits a kernel for both register widths.
func define(name, signature string, body func(k *kernel)) {
	for _, z := range []bool{false, true} {
		k, suffix := &kernel{z: z, width: 8}, "AVX2"
		if z {
			k.width, suffix = 16, "AVX512"
		}
		TEXT(name+suffix, NOSPLIT, "func"+signature)
		Pragma("noescape")
		body(k)
		VZEROUPPER()
		RET()
	}
}

func (k *kernel) label(name string) string {
	k.labels++
	return fmt.Sprintf("%s%d", name, k.labels)
}

func (k *kernel) vec() VecVirtual {
	if k.z {
		return ZMM()
	}
	return YMM()
}

// bytes is the size of n registers.
func (k *kernel) bytes(n int) int { return 4 * k.width * n }

// zeros returns n registers that hold zero.
func (k *kernel) zeros(n int) []VecVirtual {
	v := make([]VecVirtual, n)
	for i := range v {
		v[i] = k.vec()
		if k.z {
			VPXORD(v[i], v[i], v[i])
		} else {
			VXORPS(v[i], v[i], v[i])
		}
	}
	return v
}

// loads returns n registers loaded from consecutive memory.
func (k *kernel) loads(base, index Register, n int) []VecVirtual {
	v := make([]VecVirtual, n)
	for i := range v {
		v[i] = k.vec()
		VMOVUPS(k.at(base, index, i), v[i])
	}
	return v
}

func (k *kernel) stores(v []VecVirtual, base, index Register) {
	for i := range v {
		VMOVUPS(v[i], k.at(base, index, i))
	}
}

// at is the i-th register's worth of memory behind base+index.
func (k *kernel) at(base, index Register, i int) Mem {
	return Mem{Base: base, Index: index, Scale: 1, Disp: k.bytes(i)}
}

// across adds the lanes of v into the lowest, which it returns.
func (k *kernel) across(v VecVirtual) VecVirtual {
	if k.z {
		high := YMM()
		VEXTRACTF64X4(Imm(1), v, high)
		VADDPS(high, v.AsY(), v.AsY())
	}
	high := XMM()
	VEXTRACTF128(Imm(1), v.AsY(), high)
	x := v.AsX()
	VADDPS(high, x, x)
	VUNPCKHPD(x, x, high)
	VADDPS(high, x, x)
	VMOVSHDUP(x, high)
	VADDPS(high, x, x)
	return x.(VecVirtual)
}

// blocks runs body over the bytes of a row: in blocks of as many registers as
// wide says, then in blocks of sixteen floats. Every block is told its offset.
func (k *kernel) blocks(size Register, wide int, body func(at Register, registers int)) {
	at, left := GP64(), GP64()
	XORQ(at, at)
	MOVQ(size, left)
	for _, n := range []int{wide, 16 / k.width} {
		again, done := k.label("block"), k.label("narrow")
		Label(again)
		CMPQ(left, I32(k.bytes(n)))
		JL(LabelRef(done))
		body(at, n)
		ADDQ(U32(k.bytes(n)), at)
		SUBQ(U32(k.bytes(n)), left)
		JMP(LabelRef(again))
		Label(done)
	}
}

// wide is how many registers of a row a block takes.
const wide = 4

// rows are the parameters own, table, ids and a row's size.
type rows struct {
	k               *kernel
	own, table, ids Register
	size            Register // of a row, in bytes
	owned, n        Register // rows of own, and of ids
}

// loadRows loads the parameters own, table, rows and owned.
func (k *kernel) loadRows(size Register) rows {
	r := rows{k: k, size: size}
	r.own = Load(Param("own").Base(), GP64())
	r.table = Load(Param("table").Base(), GP64())
	r.ids = Load(Param("rows").Base(), GP64())
	r.n = Load(Param("rows").Len(), GP64())
	r.owned = Load(Param("owned"), GP64())
	return r
}

// sizeOf is the size of a slice parameter of floats, in bytes.
func sizeOf(param string) Register {
	size := Load(Param(param).Len(), GP64())
	SHLQ(Imm(2), size)
	return size
}

// address returns where the row of ids[i+ahead] begins.
func (r *rows) address(i Register, ahead int) Register {
	at, base := GP64(), GP64()
	MOVL(Mem{Base: r.ids, Index: i, Scale: 4, Disp: 4 * ahead}, at.As32())
	MOVQ(r.table, base)
	CMPQ(at, r.owned)
	CMOVQLT(r.own, base)
	IMULQ(r.size, at)
	ADDQ(at, base)
	return base
}

// each runs body for every row, in groups of unroll and then one by one; body
// gets the rows' addresses.
func (r *rows) each(unroll int, body func(i Register, address []Register)) {
	i, last := GP64(), GP64()
	XORQ(i, i)
	for u := unroll; u > 0; u /= unroll {
		again, done := r.k.label("rows"), r.k.label("rest")
		MOVQ(r.n, last)
		SUBQ(U32(u), last)
		Label(again)
		CMPQ(i, last)
		JG(LabelRef(done))
		address := make([]Register, u)
		for j := range address {
			address[j] = r.address(i, j)
		}
		body(i, address)
		ADDQ(U32(u), i)
		JMP(LabelRef(again))
		Label(done)
		if u == 1 {
			break
		}
	}
}

// rowSum: dst = Σ rows, with two sums in turn to halve the chain of additions.
func rowSum() {
	define("rowSum", "(dst, own, table []float32, rows []uint32, owned int)", func(k *kernel) {
		r := k.loadRows(sizeOf("dst"))
		dst := Load(Param("dst").Base(), GP64())
		k.blocks(r.size, wide, func(at Register, n int) {
			a, b := k.zeros(n), k.zeros(n)
			r.each(2, func(_ Register, address []Register) {
				for j, acc := range [][]VecVirtual{a, b}[:len(address)] {
					for i := range n {
						VADDPS(k.at(address[j], at, i), acc[i], acc[i])
					}
				}
			})
			for i := range n {
				VADDPS(a[i], b[i], a[i])
			}
			k.stores(a, dst, at)
		})
	})
}

// rowAdd: every row += x.
func rowAdd() {
	define("rowAdd", "(own, table []float32, rows []uint32, owned int, x []float32)", func(k *kernel) {
		r := k.loadRows(sizeOf("x"))
		x := Load(Param("x").Base(), GP64())
		k.blocks(r.size, wide, func(at Register, n int) {
			v := k.loads(x, at, n)
			r.each(1, func(_ Register, address []Register) {
				for i := range n {
					sum := k.vec()
					VADDPS(k.at(address[0], at, i), v[i], sum)
					VMOVUPS(sum, k.at(address[0], at, i))
				}
			})
		})
	})
}

// rowDot: dst[i] = x · row i.
func rowDot() {
	define("rowDot", "(dst, own, table []float32, rows []uint32, owned int, x []float32)", func(k *kernel) {
		r := k.loadRows(sizeOf("x"))
		x := Load(Param("x").Base(), GP64())
		dst := Load(Param("dst").Base(), GP64())
		r.each(1, func(i Register, address []Register) {
			acc := k.zeros(4)
			k.blocks(r.size, wide, func(at Register, n int) {
				for j, v := range k.loads(x, at, n) {
					VFMADD231PS(k.at(address[0], at, j), v, acc[j])
				}
			})
			VADDPS(acc[2], acc[0], acc[0])
			VADDPS(acc[3], acc[1], acc[1])
			VADDPS(acc[1], acc[0], acc[0])
			VMOVSS(k.across(acc[0]).AsX(), Mem{Base: dst, Index: i, Scale: 4})
		})
	})
}

// rowStep: for every row, g += a[i]·row and then row += a[i]·x.
func rowStep() {
	define("rowStep", "(g, own, table []float32, rows []uint32, owned int, a, x []float32)", func(k *kernel) {
		r := k.loadRows(sizeOf("x"))
		x := Load(Param("x").Base(), GP64())
		g := Load(Param("g").Base(), GP64())
		a := Load(Param("a").Base(), GP64())
		k.blocks(r.size, wide, func(at Register, n int) {
			gv, xv := k.loads(g, at, n), k.loads(x, at, n)
			r.each(1, func(i Register, address []Register) {
				by := k.vec()
				VBROADCASTSS(Mem{Base: a, Index: i, Scale: 4}, by)
				for j := range n {
					row := k.vec()
					VMOVUPS(k.at(address[0], at, j), row)
					VFMADD231PS(row, by, gv[j])
					VFMADD231PS(xv[j], by, row)
					VMOVUPS(row, k.at(address[0], at, j))
				}
			})
			k.stores(gv, g, at)
		})
	})
}

// rowPrefetch asks for the first cache line of every row of the table.
func rowPrefetch() {
	TEXT("rowPrefetchAMD64", NOSPLIT, "func(table []float32, rows []uint32, size int)")
	Pragma("noescape")
	table, ids := Load(Param("table").Base(), GP64()), Load(Param("rows").Base(), GP64())
	n, size := Load(Param("rows").Len(), GP64()), Load(Param("size"), GP64())
	at := GP64()
	Label("rows")
	SUBQ(Imm(1), n)
	JL(LabelRef("done"))
	MOVL(Mem{Base: ids}, at.As32())
	ADDQ(Imm(4), ids)
	IMULQ(size, at)
	PREFETCHT0(Mem{Base: table, Index: at, Scale: 1})
	JMP(LabelRef("rows"))
	Label("done")
	RET()
}

// vecMat: dst[j] = Σ x[i]·w[i][j], w: [len(x), len(dst)].
func vecMat() {
	define("vecMat", "(dst, x, w []float32)", func(k *kernel) {
		size := sizeOf("dst")
		dst, w := Load(Param("dst").Base(), GP64()), Load(Param("w").Base(), GP64())
		x, n := Load(Param("x").Base(), GP64()), Load(Param("x").Len(), GP64())
		k.blocks(size, wide, func(at Register, regs int) {
			acc := k.zeros(regs)
			row, i := GP64(), GP64()
			MOVQ(w, row)
			XORQ(i, i)
			again, done := k.label("terms"), k.label("sum")
			Label(again)
			CMPQ(i, n)
			JGE(LabelRef(done))
			by := k.vec()
			VBROADCASTSS(Mem{Base: x, Index: i, Scale: 4}, by)
			for j := range acc {
				VFMADD231PS(k.at(row, at, j), by, acc[j])
			}
			ADDQ(size, row)
			INCQ(i)
			JMP(LabelRef(again))
			Label(done)
			k.stores(acc, dst, at)
		})
	})
}

// vecMatStep: g[i] = Σ w[i][j]·e[j] and then w[i][j] += x[i]·e[j].
func vecMatStep() {
	define("vecMatStep", "(g, x, w, e []float32)", func(k *kernel) {
		size := sizeOf("e")
		row, e := Load(Param("w").Base(), GP64()), Load(Param("e").Base(), GP64())
		x, n := Load(Param("x").Base(), GP64()), Load(Param("x").Len(), GP64())
		g := Load(Param("g").Base(), GP64())
		i := GP64()
		XORQ(i, i)
		Label("next")
		CMPQ(i, n)
		JGE(LabelRef("done"))
		by := k.vec()
		VBROADCASTSS(Mem{Base: x, Index: i, Scale: 4}, by)
		acc := k.zeros(4)
		k.blocks(size, wide, func(at Register, regs int) {
			for j, ev := range k.loads(e, at, regs) {
				v := k.vec()
				VMOVUPS(k.at(row, at, j), v)
				VFMADD231PS(v, ev, acc[j])
				VFMADD231PS(ev, by, v)
				VMOVUPS(v, k.at(row, at, j))
			}
		})
		VADDPS(acc[2], acc[0], acc[0])
		VADDPS(acc[3], acc[1], acc[1])
		VADDPS(acc[1], acc[0], acc[0])
		VMOVSS(k.across(acc[0]).AsX(), Mem{Base: g, Index: i, Scale: 4})
		ADDQ(size, row)
		INCQ(i)
		JMP(LabelRef("next"))
		Label("done")
	})
}
