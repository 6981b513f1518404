package simd

import "fmt"

//go:generate go run ./gen/gemm -out gemm_amd64.s -stubs gemm_stubs_amd64.go -pkg simd

// Gemm is the set of kernels for matrix products in one number format.
//
// Operands are laid out in units of 32 bits: a unit holds Per values that are
// neighbours along k. Units are kept in float32 slots, whatever their bits
// mean. All distances (rsa, csa, lds, …) are counted in elements of the slice.
type Gemm struct {
	Rows, Cols int // the tile of C that a kernel holds in registers
	Per        int // values per unit: 1, or 2 where the processor multiplies pairs of bf16

	// Tile computes C[m,n] = alpha·A·B + beta·C for any m and n ≤ Cols. A has
	// m rows of k units: the unit at (i, p) is a[i·rsa+p·csa]. B has k rows of
	// Cols units, the first n in use. With beta 0, C is not read.
	Tile func(m, n, k int, a []float32, rsa, csa int, b []float32, ldb int, c []float32, ldc int, alpha, beta float32)

	// Along lays out values whose rows run along k: row i of n values becomes
	// row i of ⌈n/Per⌉ units. A row of the destination, also the last, needs
	// room for a multiple of min(16, Cols) units; the surplus is unspecified.
	Along func(rows, n int, src []float32, lds int, dst []float32, ldd int)

	// Across lays out values whose columns run along k: each Per rows of n
	// values become one row of n units, with room likewise.
	Across func(rows, n int, src []float32, lds int, dst []float32, ldd int)

	// Turn lays out values whose rows run along k as columns: row i of n
	// values becomes column i of ⌈n/Per⌉ units.
	Turn func(rows, n int, src []float32, lds int, dst []float32, ldd int)
}

// IntGemm is the set of kernels for products of uint8 with int8.
type IntGemm struct {
	Rows, Cols int
	Per        int // values per unit: 4, or 2 where they are widened to 16 bits

	// Tile computes C[m,n] = A·B, or C += A·B, as Gemm's does. Sums wrap around.
	Tile func(m, n, k int, a []float32, rsa, csa int, b []float32, ldb int, c []int32, ldc int, add bool)

	// UnitsU8 and UnitsS8 pack values into ⌈len(src)/Per⌉ units, the last
	// filled up with zeros.
	UnitsU8 func(dst []float32, src []uint8)
	UnitsS8 func(dst []float32, src []int8)
}

// The kernels in use.
var (
	GemmF32  *Gemm
	GemmBF16 *Gemm // operands are rounded to bf16, to nearest even; sums are float32
	GemmU8S8 *IntGemm
)

// Kernels for products of rows with rows, and for what follows a product.
var (
	dotRows   = 1
	dotKernel = dotsPortable
	finishing = finishPortable
)

// chooseGemm sets the kernels of this file for a level.
func chooseGemm(l Level) {
	GemmF32, GemmBF16, GemmU8S8 = &portableF32, &portableBF16, &portableU8S8
	dotRows, dotKernel, finishing = 1, dotsPortable, finishPortable
	peakF32, peakBF16, peakU8S8 = nil, nil, nil
	chooseGemmArch(l)
}

// Dots computes C[m,n] = alpha·A·Bᵀ + beta·C for A [m,k] and B [n,k]: the way
// to multiply when m or n is so small that laying out B would not pay. With
// beta 0, C is not read.
func Dots(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, alpha, beta float32) {
	if m == 0 || n == 0 {
		return
	}
	for i := 0; i < m; i += dotRows {
		rows := min(dotRows, m-i)
		checkBlock("A", rows, k, a[i*lda:], lda)
		checkBlock("B", n, k, b, ldb)
		checkBlock("C", rows, n, c[i*ldc:], ldc)
		dotKernel(rows, n, k, a[i*lda:], lda, b, ldb, c[i*ldc:], ldc, alpha, beta)
	}
}

// Finish adds bias[n] to every row of C[m,n], then residual[m,n], where they
// are not nil.
func Finish(m, n int, c []float32, ldc int, bias, residual []float32, ldr int) {
	if m == 0 || n == 0 {
		return
	}
	checkBlock("C", m, n, c, ldc)
	if bias != nil {
		checkBlock("bias", 1, n, bias, n)
	}
	if residual != nil {
		checkBlock("residual", m, n, residual, ldr)
	}
	finishing(m, n, c, ldc, bias, residual, ldr)
}

// checkBlock panics when x is too short for rows rows of n elements.
func checkBlock(name string, rows, n int, x []float32, ld int) {
	if rows > 0 && n > 0 && (rows-1)*ld+n > len(x) {
		panic(fmt.Sprintf("simd: %s: %d rows of %d, %d apart, in a slice of %d", name, rows, n, ld, len(x)))
	}
}

// checkTile panics when an operand of a tile kernel is too short.
func checkTile(m, n, k int, a []float32, rsa, csa int, b []float32, ldb, cols, lenC, ldc int) {
	if m <= 0 || n <= 0 {
		return
	}
	if k > 0 && ((m-1)*rsa+(k-1)*csa >= len(a) || (k-1)*ldb+cols > len(b)) || (m-1)*ldc+n > lenC || n > cols {
		panic(fmt.Sprintf("simd: tile m=%d n=%d k=%d of %d columns: A has %d (%d, %d apart), B %d (%d apart), C %d (%d apart)",
			m, n, k, cols, len(a), rsa, csa, len(b), ldb, lenC, ldc))
	}
}
