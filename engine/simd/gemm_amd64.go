package simd

import (
	"math"
	"unsafe"
)

var (
	avx512F32  = Gemm{Rows: 12, Cols: 32, Per: 1, Tile: tileF32AVX512, Along: copyAVX512, Across: copyAVX512, Turn: turnF32AVX512}
	avx512BF16 = Gemm{Rows: 12, Cols: 32, Per: 2, Tile: tileBF16AVX512, Along: alongBF16AVX512, Across: acrossBF16AVX512, Turn: turnBF16AVX512}
	avx512U8S8 = IntGemm{Rows: 12, Cols: 32, Per: 4, Tile: tileU8S8AVX512, UnitsU8: bytesU8, UnitsS8: bytesS8}

	// Without bf16 or VNNI, AVX-512 machines round to bf16 in float32 slots,
	// and multiply integers with AVX2.
	avx512Rounded = Gemm{Rows: 12, Cols: 32, Per: 1, Tile: tileF32AVX512, Along: roundPortable, Across: roundPortable, Turn: turnRoundPortable}

	avx2F32  = Gemm{Rows: 6, Cols: 16, Per: 1, Tile: tileF32AVX2, Along: copyPortable, Across: copyPortable, Turn: turnF32AVX2}
	avx2BF16 = Gemm{Rows: 6, Cols: 16, Per: 1, Tile: tileF32AVX2, Along: roundPortable, Across: roundPortable, Turn: turnRoundPortable}
	avx2U8S8 = IntGemm{Rows: 6, Cols: 16, Per: 2, Tile: tileS16AVX2, UnitsU8: widenU8, UnitsS8: widenS8}
)

func chooseGemmArch(l Level) {
	switch l {
	case AVX2:
		GemmF32, GemmBF16, GemmU8S8 = &avx2F32, &avx2BF16, &avx2U8S8
		dotRows, dotKernel, finishing = 2, dotsAVX2, finishRowsAVX2
		peakF32 = peakF32AVX2
	case AVX512:
		GemmF32, GemmBF16, GemmU8S8 = &avx512F32, &avx512Rounded, &avx2U8S8
		dotRows, dotKernel, finishing = 4, dotsAVX512, finishRowsAVX512
		peakF32 = peakF32AVX512
		if features.BF16 {
			GemmBF16, peakBF16 = &avx512BF16, peakBF16AVX512
		}
		if features.VNNI {
			GemmU8S8, peakU8S8 = &avx512U8S8, peakU8S8AVX512
		}
	}
}

// dataOf is the address of a slice's data for assembly.
func dataOf[T any](x []T) *byte { return (*byte)(unsafe.Pointer(unsafe.SliceData(x))) }

func tileF32AVX512(m, n, k int, a []float32, rsa, csa int, b []float32, ldb int, c []float32, ldc int, alpha, beta float32) {
	checkTile(m, n, k, a, rsa, csa, b, ldb, 32, len(c), ldc)
	gemmF32AVX512(m, n, k, dataOf(a), 4*rsa, 4*csa, dataOf(b), 4*ldb, dataOf(c), 4*ldc, alpha, beta)
}

func tileBF16AVX512(m, n, k int, a []float32, rsa, csa int, b []float32, ldb int, c []float32, ldc int, alpha, beta float32) {
	checkTile(m, n, k, a, rsa, csa, b, ldb, 32, len(c), ldc)
	gemmBF16AVX512(m, n, k, dataOf(a), 4*rsa, 4*csa, dataOf(b), 4*ldb, dataOf(c), 4*ldc, alpha, beta)
}

func tileU8S8AVX512(m, n, k int, a []float32, rsa, csa int, b []float32, ldb int, c []int32, ldc int, add bool) {
	checkTile(m, n, k, a, rsa, csa, b, ldb, 32, len(c), ldc)
	gemmU8S8AVX512(m, n, k, dataOf(a), 4*rsa, 4*csa, dataOf(b), 4*ldb, dataOf(c), 4*ldc, asInt(add))
}

func tileF32AVX2(m, n, k int, a []float32, rsa, csa int, b []float32, ldb int, c []float32, ldc int, alpha, beta float32) {
	checkTile(m, n, k, a, rsa, csa, b, ldb, 16, len(c), ldc)
	gemmF32AVX2(m, n, k, dataOf(a), 4*rsa, 4*csa, dataOf(b), 4*ldb, dataOf(c), 4*ldc, alpha, beta)
}

func tileS16AVX2(m, n, k int, a []float32, rsa, csa int, b []float32, ldb int, c []int32, ldc int, add bool) {
	checkTile(m, n, k, a, rsa, csa, b, ldb, 16, len(c), ldc)
	gemmS16AVX2(m, n, k, dataOf(a), 4*rsa, 4*csa, dataOf(b), 4*ldb, dataOf(c), 4*ldc, asInt(add))
}

func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// checkLayout panics when source or destination of a layout kernel is too
// short: rows rows of n values are read, outRows rows of out units written.
func checkLayout(rows, n int, src []float32, lds, outRows, out int, dst []float32, ldd int) {
	checkBlock("source", rows, n, src, lds)
	checkBlock("destination", outRows, out, dst, ldd)
}

func copyAVX512(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	checkLayout(rows, n, src, lds, rows, (n+15)&^15, dst, ldd)
	copyF32AVX512(rows, n, dataOf(src), 4*lds, dataOf(dst), 4*ldd)
}

func alongBF16AVX512(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	checkLayout(rows, n, src, lds, rows, (n+31)/32*16, dst, ldd)
	roundBF16AVX512(rows, n, dataOf(src), 4*lds, dataOf(dst), 4*ldd)
}

func acrossBF16AVX512(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	checkLayout(rows, n, src, lds, (rows+1)/2, (n+15)&^15, dst, ldd)
	pairBF16AVX512(rows, n, dataOf(src), 4*lds, dataOf(dst), 4*ldd)
}

func turnF32AVX512(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	checkLayout(rows, n, src, lds, n, rows, dst, ldd)
	i := 0
	for ; i+16 <= rows; i += 16 {
		transposeF32AVX512(n, dataOf(src[i*lds:]), 4*lds, dataOf(dst[i:]), 4*ldd)
	}
	if i < rows && n > 0 {
		turnPortable(rows-i, n, src[i*lds:], lds, dst[i:], ldd)
	}
}

func turnBF16AVX512(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	checkLayout(rows, n, src, lds, (n+1)/2, rows, dst, ldd)
	i := 0
	for ; i+16 <= rows; i += 16 {
		transposeBF16AVX512(n, dataOf(src[i*lds:]), 4*lds, dataOf(dst[i:]), 4*ldd)
	}
	for ; i < rows; i++ {
		row := src[i*lds:][:n]
		for p := 0; p < n; p += 2 {
			u := uint32(bf16(row[p]))
			if p+1 < n {
				u |= uint32(bf16(row[p+1])) << 16
			}
			dst[p/2*ldd+i] = math.Float32frombits(u)
		}
	}
}

func turnF32AVX2(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	checkLayout(rows, n, src, lds, n, rows, dst, ldd)
	i := 0
	for ; i+8 <= rows; i += 8 {
		transposeF32AVX2(n, dataOf(src[i*lds:]), 4*lds, dataOf(dst[i:]), 4*ldd)
	}
	if i < rows && n > 0 {
		turnPortable(rows-i, n, src[i*lds:], lds, dst[i:], ldd)
	}
}

func bytesU8(dst []float32, src []uint8) {
	copyUnits(dst, unsafe.Pointer(unsafe.SliceData(src)), len(src))
}
func bytesS8(dst []float32, src []int8) {
	copyUnits(dst, unsafe.Pointer(unsafe.SliceData(src)), len(src))
}

// copyUnits copies n bytes into units of four, the last filled up with zeros.
func copyUnits(dst []float32, src unsafe.Pointer, n int) {
	if n == 0 {
		return
	}
	units := dst[:(n+3)/4]
	units[len(units)-1] = 0
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&units[0])), n), unsafe.Slice((*byte)(src), n))
}

func dotsAVX512(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, alpha, beta float32) {
	dotF32AVX512(m, n, k, dataOf(a), 4*lda, dataOf(b), 4*ldb, dataOf(c), 4*ldc, alpha, beta)
}

func dotsAVX2(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, alpha, beta float32) {
	dotF32AVX2(m, n, k, dataOf(a), 4*lda, dataOf(b), 4*ldb, dataOf(c), 4*ldc, alpha, beta)
}

func finishRowsAVX512(m, n int, c []float32, ldc int, bias, residual []float32, ldr int) {
	finishAVX512(m, n, dataOf(c), 4*ldc, dataOf(bias), dataOf(residual), 4*ldr)
}

func finishRowsAVX2(m, n int, c []float32, ldc int, bias, residual []float32, ldr int) {
	finishAVX2(m, n, dataOf(c), 4*ldc, dataOf(bias), dataOf(residual), 4*ldr)
}
