package matmul

import (
	"fmt"

	"hasten/engine/par"
)

// Format is the number format in which products are formed. Sums are always
// float32.
type Format uint8

const (
	F32  Format = iota
	BF16        // both operands are first rounded to bfloat16, to nearest even
)

func (f Format) String() string {
	switch f {
	case F32:
		return "f32"
	case BF16:
		return "bf16"
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// Args describes one product and what is done to it before it is stored:
//
//	C = Act(Alpha·op(A)·op(B) + Beta·C + Bias + Residual)
//
// where op(A) is [M,K], op(B) is [K,N], C is [M,N]. C must not overlap another
// operand; to add a product to what C holds, set Beta to 1.
type Args struct {
	M, N, K int

	A      []float32 // [M,K], or [K,M] with TransA
	LDA    int       // distance between rows as stored; 0 means tight, here and below
	TransA bool

	B      []float32 // [K,N], or [N,K] with TransB
	LDB    int
	TransB bool

	C   []float32 // [M,N]
	LDC int

	Alpha float32 // 0 means 1
	Beta  float32 // 0: what C holds is not read

	Bias     []float32 // [N], added to every row; may be nil
	Residual []float32 // [M,N], may be nil
	LDR      int
	Act      Activation

	Format Format
	Packed *Packed // B as PackB returned it; B, LDB and TransB are then ignored, Format must agree
}

// Mul computes one product on all cores. It panics when a slice is too short
// for the sizes.
func Mul(a Args) {
	a.check()
	a.mul(a.M*a.N*a.K >= parallelFrom)
}

// parallelFrom is the number of multiply-adds from which a product is worth
// handing to other cores: some microseconds of one core's time.
const parallelFrom = 1 << 18

// mul computes a checked product, on all cores or on the calling goroutine.
func (a *Args) mul(parallel bool) {
	switch {
	case a.M == 0 || a.N == 0:
	case a.useDots():
		a.mulDots(parallel)
	case a.useDirect():
		a.mulDirect(parallel)
	default:
		a.mulBlocked(parallel)
	}
}

// MulBatch computes n products of one shape. Product i uses A[i·strideA:],
// B[i·strideB:], C[i·strideC:], and Residual[i·strideC:]; Bias is shared. A
// stride of 0 shares A or B between the products.
func MulBatch(n, strideA, strideB, strideC int, a Args) {
	if n <= 0 {
		return
	}
	a.tight()
	if a.M*a.N*a.K >= aloneFrom && n < 8*par.Width() {
		for i := range n {
			Mul(a.shifted(i*strideA, i*strideB, i*strideC))
		}
		return
	}
	batchLoop.Run(n, batch{a, strideA, strideB, strideC}, func(b *batch, i int) {
		a := b.args.shifted(i*b.strideA, i*b.strideB, i*b.strideC)
		a.check()
		a.mul(false)
	})
}

// aloneFrom is the number of multiply-adds from which one of a few products is
// cut up over all cores, rather than each core taking whole products.
const aloneFrom = 1 << 21

type batch struct {
	args                      Args
	strideA, strideB, strideC int
}

var batchLoop par.Loop[batch]

// shifted moves the operands on by offsets.
func (a *Args) shifted(offA, offB, offC int) Args {
	s := *a
	s.A = from(a.A, offA)
	s.B = from(a.B, offB)
	s.C = from(a.C, offC)
	if a.Residual != nil {
		s.Residual = from(a.Residual, offC)
	}
	return s
}

// from is x[off:], or nothing when x ends before; check then tells the shapes.
func from(x []float32, off int) []float32 { return x[min(off, len(x)):] }

// MulGrouped multiplies rows by the matrix of their group. Rows
// starts[g] … starts[g+1]-1 belong to group g, so len(starts) is the number
// of groups plus one; groups may be empty.
//
// Without TransA, the rows are those of A, C and Residual, and group g uses
// B[g·strideB:]; M is ignored. With TransA, the rows are those of A [rows,M]
// and B [rows,N], and group g writes its own product to C[g·strideC:], [M,N];
// K is ignored: these are the gradients of the groups' matrices. Packed cannot
// be used.
func MulGrouped(starts []int, strideB, strideC int, a Args) {
	groups := len(starts) - 1
	if groups <= 0 {
		return
	}
	if a.Packed != nil || a.TransA && a.TransB {
		panic("matmul: MulGrouped with packed B, or with both A and B transposed")
	}
	rows := starts[groups] - starts[0]
	macs := a.N * a.K * rows
	if a.TransA {
		macs = a.M * a.N * rows
	}
	a.tight()
	if macs >= aloneFrom*groups {
		for g := range groups {
			Mul(a.group(starts, g, strideB, strideC))
		}
		return
	}
	groupLoop.Run(groups, grouped{a, starts, strideB, strideC}, func(s *grouped, g int) {
		a := s.args.group(s.starts, g, s.strideB, s.strideC)
		a.check()
		a.mul(false)
	})
}

type grouped struct {
	args             Args
	starts           []int
	strideB, strideC int
}

var groupLoop par.Loop[grouped]

// group is the product of group g.
func (a *Args) group(starts []int, g, strideB, strideC int) Args {
	lo, rows := starts[g], starts[g+1]-starts[g]
	if rows < 0 {
		panic(fmt.Sprintf("matmul: group %d starts at row %d and ends at %d", g, lo, lo+rows))
	}
	s := *a
	s.A = from(a.A, lo*a.LDA)
	if a.TransA {
		s.K = rows
		s.B, s.C = from(a.B, lo*a.LDB), from(a.C, g*strideC)
		return s
	}
	s.M = rows
	s.B, s.C = from(a.B, g*strideB), from(a.C, lo*a.LDC)
	if a.Residual != nil {
		s.Residual = from(a.Residual, lo*a.LDR)
	}
	return s
}

// tight fills in distances and Alpha where they are 0.
func (a *Args) tight() {
	a.LDA = orTight(a.LDA, a.TransA, a.M, a.K)
	a.LDB = orTight(a.LDB, a.TransB, a.K, a.N)
	a.LDC = orTight(a.LDC, false, a.M, a.N)
	a.LDR = orTight(a.LDR, false, a.M, a.N)
	if a.Alpha == 0 {
		a.Alpha = 1
	}
}

func orTight(ld int, trans bool, rows, cols int) int {
	switch {
	case ld != 0:
		return ld
	case trans:
		return rows
	}
	return cols
}

// check fills in what may be left 0 and panics when the slices do not hold the sizes.
func (a *Args) check() {
	a.tight()
	if a.M < 0 || a.N < 0 || a.K < 0 {
		a.fail("a size is negative")
	}
	a.fits("A", a.A, a.LDA, a.TransA, a.M, a.K)
	if p := a.Packed; p == nil {
		a.fits("B", a.B, a.LDB, a.TransB, a.K, a.N)
	} else if p.K != a.K || p.N != a.N || p.Format != a.Format {
		a.fail(fmt.Sprintf("B was packed as [%d,%d] in %v", p.K, p.N, p.Format))
	}
	a.fits("C", a.C, a.LDC, false, a.M, a.N)
	if a.Bias != nil {
		a.fits("bias", a.Bias, a.N, false, 1, a.N)
	}
	if a.Residual != nil {
		a.fits("residual", a.Residual, a.LDR, false, a.M, a.N)
	}
}

func (a *Args) fits(name string, x []float32, ld int, trans bool, rows, cols int) {
	if trans {
		rows, cols = cols, rows
	}
	if rows == 0 || cols == 0 {
		return
	}
	if ld < cols || (rows-1)*ld+cols > len(x) {
		a.fail(fmt.Sprintf("%s, stored [%d,%d] with rows %d apart, has %d elements", name, rows, cols, ld, len(x)))
	}
}

func (a *Args) fail(what string) {
	panic(fmt.Sprintf("matmul: M=%d N=%d K=%d transA=%t transB=%t %v: %s", a.M, a.N, a.K, a.TransA, a.TransB, a.Format, what))
}
