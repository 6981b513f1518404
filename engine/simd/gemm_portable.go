package simd

import "math"

var (
	portableF32  = Gemm{Rows: 4, Cols: 4, Per: 1, Tile: tilePortable, Along: copyPortable, Across: copyPortable, Turn: turnPortable}
	portableBF16 = Gemm{Rows: 4, Cols: 4, Per: 1, Tile: tilePortable, Along: roundPortable, Across: roundPortable, Turn: turnRoundPortable}
	portableU8S8 = IntGemm{Rows: 4, Cols: 4, Per: 2, Tile: tileS16Portable, UnitsU8: widenU8, UnitsS8: widenS8}
)

func tilePortable(m, n, k int, a []float32, rsa, csa int, b []float32, ldb int, c []float32, ldc int, alpha, beta float32) {
	checkTile(m, n, k, a, rsa, csa, b, ldb, 4, len(c), ldc)
	for i := 0; i < m; i += 4 {
		var s [4][4]float32
		if rows := min(4, m-i); rows == 4 && k > 0 {
			sum4x4(&s, k, a[i*rsa:], rsa, csa, b, ldb)
		} else {
			for r := range rows {
				for p := range k {
					x, y := a[(i+r)*rsa+p*csa], b[p*ldb:][:4]
					for j := range y {
						s[r][j] += x * y[j]
					}
				}
			}
		}
		for r := range min(4, m-i) {
			row := c[(i+r)*ldc:][:n]
			for j := range row {
				v := alpha * s[r][j]
				if beta != 0 {
					v += beta * row[j]
				}
				row[j] = v
			}
		}
	}
}

// sum4x4 keeps sixteen sums in registers, on machines that have so many.
func sum4x4(s *[4][4]float32, k int, a []float32, rsa, csa int, b []float32, ldb int) {
	var c00, c01, c02, c03, c10, c11, c12, c13, c20, c21, c22, c23, c30, c31, c32, c33 float32
	for p := range k {
		y := b[p*ldb:][:4]
		y0, y1, y2, y3 := y[0], y[1], y[2], y[3]
		x := a[p*csa]
		c00, c01, c02, c03 = c00+x*y0, c01+x*y1, c02+x*y2, c03+x*y3
		x = a[p*csa+rsa]
		c10, c11, c12, c13 = c10+x*y0, c11+x*y1, c12+x*y2, c13+x*y3
		x = a[p*csa+2*rsa]
		c20, c21, c22, c23 = c20+x*y0, c21+x*y1, c22+x*y2, c23+x*y3
		x = a[p*csa+3*rsa]
		c30, c31, c32, c33 = c30+x*y0, c31+x*y1, c32+x*y2, c33+x*y3
	}
	*s = [4][4]float32{{c00, c01, c02, c03}, {c10, c11, c12, c13}, {c20, c21, c22, c23}, {c30, c31, c32, c33}}
}

func tileS16Portable(m, n, k int, a []float32, rsa, csa int, b []float32, ldb int, c []int32, ldc int, add bool) {
	checkTile(m, n, k, a, rsa, csa, b, ldb, 4, len(c), ldc)
	for i := range m {
		var s [4]int32
		for p := range k {
			x, y := math.Float32bits(a[i*rsa+p*csa]), b[p*ldb:][:4]
			lo, hi := int32(int16(x)), int32(x)>>16
			for j := range s {
				u := math.Float32bits(y[j])
				s[j] += lo*int32(int16(u)) + hi*(int32(u)>>16)
			}
		}
		row := c[i*ldc:][:n]
		for j := range row {
			if add {
				row[j] += s[j]
			} else {
				row[j] = s[j]
			}
		}
	}
}

func copyPortable(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	for i := range rows {
		copy(dst[i*ldd:][:n], src[i*lds:])
	}
}

func roundPortable(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	for i := range rows {
		RoundBF16(dst[i*ldd:][:n], src[i*lds:][:n])
	}
}

func turnPortable(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	for i := range rows {
		for j, x := range src[i*lds:][:n] {
			dst[j*ldd+i] = x
		}
	}
}

func turnRoundPortable(rows, n int, src []float32, lds int, dst []float32, ldd int) {
	turnPortable(rows, n, src, lds, dst, ldd)
	for j := range n {
		column := dst[j*ldd:][:rows]
		RoundBF16(column, column)
	}
}

func widenU8(dst []float32, src []uint8) {
	for i := 0; i < len(src); i += 2 {
		u := uint32(src[i])
		if i+1 < len(src) {
			u |= uint32(src[i+1]) << 16
		}
		dst[i/2] = math.Float32frombits(u)
	}
}

func widenS8(dst []float32, src []int8) {
	for i := 0; i < len(src); i += 2 {
		u := uint32(uint16(src[i]))
		if i+1 < len(src) {
			u |= uint32(uint16(src[i+1])) << 16
		}
		dst[i/2] = math.Float32frombits(u)
	}
}

func dotsPortable(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, alpha, beta float32) {
	for i := range m {
		x, row := a[i*lda:][:k], c[i*ldc:][:n]
		for j := range row {
			y := b[j*ldb:][:k]
			var s0, s1, s2, s3 float32
			p := 0
			for ; p+4 <= k; p += 4 {
				s0 += x[p] * y[p]
				s1 += x[p+1] * y[p+1]
				s2 += x[p+2] * y[p+2]
				s3 += x[p+3] * y[p+3]
			}
			for ; p < k; p++ {
				s0 += x[p] * y[p]
			}
			v := alpha * ((s0 + s1) + (s2 + s3))
			if beta != 0 {
				v += beta * row[j]
			}
			row[j] = v
		}
	}
}

func finishPortable(m, n int, c []float32, ldc int, bias, residual []float32, ldr int) {
	for i := range m {
		row := c[i*ldc:][:n]
		for j, v := range row {
			if bias != nil {
				v += bias[j]
			}
			if residual != nil {
				v += residual[i*ldr+j]
			}
			row[j] = v
		}
	}
}
