package matmul

import "fmt"

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
// where op(A) is [M,K], op(B) is [K,N], C is [M,N]. C must not overlap the
// other operands, except that Residual may be C itself.
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
	for i := range a.M {
		a.row(i)
	}
}

// MulBatch computes n products of one shape. Product i uses A[i·strideA:],
// B[i·strideB:], C[i·strideC:], and Residual[i·strideC:]; Bias is shared. A stride of 0 shares A
// or B between the products.
func MulBatch(n, strideA, strideB, strideC int, a Args) {
	for i := range n {
		Mul(a.shifted(i*strideA, i*strideB, i*strideC))
	}
}

// MulGrouped multiplies rows by the matrix of their group. Rows
// starts[g] … starts[g+1]-1 belong to group g, so len(starts) is the number
// of groups plus one; groups may be empty.
//
// Without TransA, the rows are those of A, C and Residual, and group g uses
// B[g·strideB:], [K,N]; M is ignored. With TransA, the rows are those of A
// [rows,M] and B [rows,N], and group g writes its own product to C[g·strideC:],
// [M,N]; K is ignored: these are the gradients of the groups' matrices.
func MulGrouped(starts []int, strideB, strideC int, a Args) {
	for g := range len(starts) - 1 {
		Mul(a.group(starts, g, strideB, strideC))
	}
}

func (a Args) shifted(offA, offB, offC int) Args {
	a.A = a.A[offA:]
	if a.Packed == nil {
		a.B = a.B[offB:]
	}
	a.C = a.C[offC:]
	if a.Residual != nil {
		a.Residual = a.Residual[offC:]
	}
	return a
}

func (a Args) group(starts []int, g, strideB, strideC int) Args {
	lo, rows := starts[g], starts[g+1]-starts[g]
	a.tight()
	if a.TransA {
		a.K = rows
		a.A, a.B, a.C = a.A[lo*a.LDA:], a.B[lo*a.LDB:], a.C[g*strideC:]
		return a
	}
	a.M = rows
	a.A, a.B, a.C = a.A[lo*a.LDA:], a.B[g*strideB:], a.C[lo*a.LDC:]
	if a.Residual != nil {
		a.Residual = a.Residual[lo*a.LDR:]
	}
	return a
}

// MulU8S8 computes C[M,N] = A[M,K]·Bᵀ in integers, B stored [N,K]. Sums wrap
// around at 32 bits, which needs K above 65 000. An ld of 0 means tight.
func MulU8S8(m, n, k int, a []uint8, lda int, b []int8, ldb int, c []int32, ldc int) {
	for i := range m {
		for j := range n {
			var s int32
			for p := range k {
				s += int32(a[i*lda+p]) * int32(b[j*ldb+p])
			}
			c[i*ldc+j] = s
		}
	}
}

// Packed is a B matrix laid out for the kernels, for weights that are used
// many times between changes.
type Packed struct {
	K, N   int
	Format Format
	b      []float32
}

// PackB packs B, stored [K,N], or [N,K] with trans. The buffer comes from
// memory.Default as Workspace; Free gives it back.
func PackB(f Format, k, n int, b []float32, ldb int, trans bool) *Packed {
	p := &Packed{K: k, N: n, Format: f, b: make([]float32, k*n)}
	rs, cs := max(ldb, n), 1
	if trans {
		rs, cs = 1, max(ldb, k)
	}
	for i := range k {
		for j := range n {
			p.b[i*n+j] = f.round(b[i*rs+j*cs])
		}
	}
	return p
}

// Free gives the buffer back; p must not be used afterwards.
func (p *Packed) Free() { p.b = nil }

// tight replaces leading dimensions of 0.
func (a *Args) tight() {
	def := func(ld *int, trans bool, rows, cols int) {
		if *ld != 0 {
			return
		}
		*ld = cols
		if trans {
			*ld = rows
		}
	}
	def(&a.LDA, a.TransA, a.M, a.K)
	def(&a.LDB, a.TransB, a.K, a.N)
	def(&a.LDC, false, a.M, a.N)
	def(&a.LDR, false, a.M, a.N)
	if a.Alpha == 0 {
		a.Alpha = 1
	}
}

// check fills in the defaults and panics when the sizes do not fit.
func (a *Args) check() {
	a.tight()
}

func (a *Args) row(i int) {
	for j := range a.N {
		var s float32
		for p := range a.K {
			x, y := i*a.LDA+p, p*a.LDB+j
			if a.TransA {
				x = p*a.LDA + i
			}
			if a.TransB {
				y = j*a.LDB + p
			}
			if a.Packed != nil {
				s += a.Format.round(a.A[x]) * a.Packed.b[p*a.N+j]
			} else {
				s += a.Format.round(a.A[x]) * a.Format.round(a.B[y])
			}
		}
		s *= a.Alpha
		c := &a.C[i*a.LDC+j]
		if a.Beta != 0 {
			s += a.Beta * *c
		}
		if a.Bias != nil {
			s += a.Bias[j]
		}
		if a.Residual != nil {
			s += a.Residual[i*a.LDR+j]
		}
		*c = s
	}
	a.Act.apply(a.C[i*a.LDC:][:a.N])
}
