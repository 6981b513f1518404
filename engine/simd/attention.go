package simd

import "math"

// The kernels of tiled attention. They share one picture: a tile holds the
// scores of up to 64 queries against some keys, transposed, so that a query is
// a lane and a key is a row. Maximum, sum and rescaling of a query's softmax
// then run down the rows, without any exchange between lanes, and keys and
// values are read where they lie, one number at a time, against whole vectors
// of queries. Scores are in bits: the weight of a score s is 2^(s-max).

// Lanes is the number of queries the softmax kernels handle in one call.
const Lanes = 16

// Hidden is the score of a key a query does not see. It is finite so that a
// query which sees nothing yet needs no special case: whatever it gathered is
// multiplied by exactly 0 when its first visible key arrives.
const Hidden = -1e30

// tileKernels holds one level's kernels; the exported functions check lengths.
type tileKernels struct {
	mul       func(m, n, k int, a *float32, am, ak int, b *float32, bs int, c *float32, cs, add int, scale *float32)
	dot       func(m, n, k int, a *float32, as int, b *float32, bs int, c *float32, cs int)
	softmax   func(s *float32, stride, from, to int, lo, hi, m, l, corr *float32)
	grad      func(s, dp *float32, stride, from, to int, lo, hi, lse, delta *float32)
	transpose func(dst *float32, ds int, src *float32, ss, rows, cols int, f *float32, add int)
}

// tile is the level in use.
var tile tileKernels

// chooseAttention sets the kernels of this file for a level.
func chooseAttention(l Level) { tile = tileFor(l) }

// TileMul multiplies one cache-sized tile: with A·B the [m, n] product of
// A(i, p) = a[i·am + p·ak] and B(p, j) = b[p·bs + j] over p < k, it sets
//
//	C = A·B                   add false
//	C = C + A·B               add true, scale nil
//	C = C·diag(scale) + A·B   add true
//
// where C(i, j) = c[i·cs + j]. A is read number by number, so it may be any
// strided view; B and C rows are read as vectors, best when n is a multiple of 16.
func TileMul(m, n, k int, a []float32, am, ak int, b []float32, bs int, c []float32, cs int, add bool, scale []float32) {
	if m <= 0 || n <= 0 || k <= 0 {
		if !add && m > 0 && n > 0 {
			for i := range m {
				clear(c[i*cs:][:n])
			}
		}
		return
	}
	_, _, _ = a[(m-1)*am+(k-1)*ak], b[(k-1)*bs+n-1], c[(m-1)*cs+n-1]
	var f *float32
	if scale != nil {
		f = &scale[:n][0]
	}
	tile.mul(m, n, k, &a[0], am, ak, &b[0], bs, &c[0], cs, flag(add), f)
}

// TileDot sets c[i·cs + j] = Σ_p a[i·as + p]·b[j·bs + p] for i < m, j < n, p < k:
// the scores of a few queries against keys that lie as rows.
func TileDot(m, n, k int, a []float32, as int, b []float32, bs int, c []float32, cs int) {
	if m <= 0 || n <= 0 {
		return
	}
	_, _, _ = a[(m-1)*as+k-1], b[(n-1)*bs+k-1], c[(m-1)*cs+n-1]
	tile.dot(m, n, k, &a[0], as, &b[0], bs, &c[0], cs)
}

// TileSoftmax takes Lanes queries some keys on in their running softmax. Row j
// of the scores is s[j·stride:][:Lanes]; the rows are those in [from, to). For
// each lane, with M the maximum of m and the column:
//
//	corr = 2^(m-M)   s = 2^(s-M)   l = l·corr + Σ s   m = M
//
// If lo is not nil, rows outside [lo, hi) of a lane are Hidden.
func TileSoftmax(s []float32, stride, from, to int, lo, hi, m, l, corr []float32) {
	if from >= to {
		panic("simd: TileSoftmax of no rows")
	}
	_, _, _, _, _ = s[from*stride], s[(to-1)*stride+Lanes-1], m[Lanes-1], l[Lanes-1], corr[Lanes-1]
	lop, hip := bounds(lo, hi)
	tile.softmax(&s[0], stride, from, to, lop, hip, &m[0], &l[0], &corr[0])
}

// TileGrad turns scores, and the gradients of their weights, into weights and
// the gradients of scores, for Lanes queries and rows as in TileSoftmax:
//
//	s = 2^(s-lse)   dp = s·(dp-delta)
//
// If lo is not nil, s and dp become 0 in rows outside [lo, hi) of a lane.
func TileGrad(s, dp []float32, stride, from, to int, lo, hi, lse, delta []float32) {
	if from >= to {
		panic("simd: TileGrad of no rows")
	}
	last := (to-1)*stride + Lanes - 1
	_, _, _, _, _ = s[from*stride], s[last], dp[last], lse[Lanes-1], delta[Lanes-1]
	lop, hip := bounds(lo, hi)
	tile.grad(&s[0], &dp[0], stride, from, to, lop, hip, &lse[0], &delta[0])
}

func bounds(lo, hi []float32) (lop, hip *float32) {
	if lo == nil {
		return nil, nil
	}
	return &lo[:Lanes][0], &hi[:Lanes][0]
}

// TileTranspose sets dst[c·ds + r] = f[c]·src[r·ss + c] for r < rows, c < cols,
// or adds that if add.
func TileTranspose(dst []float32, ds int, src []float32, ss, rows, cols int, f []float32, add bool) {
	if rows <= 0 || cols <= 0 {
		return
	}
	_, _, _ = dst[(cols-1)*ds+rows-1], src[(rows-1)*ss+cols-1], f[cols-1]
	tile.transpose(&dst[0], ds, &src[0], ss, rows, cols, &f[0], flag(add))
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// exp2 is 2^x for x ≤ 127, within 2e-7 of its value; it is 0 below 2^-126.
// The assembly computes the same polynomial.
func exp2(x float32) float32 {
	x = max(x, -127)
	n := float32(math.RoundToEven(float64(x)))
	f := x - n
	p := float32(exp2c5)
	p = p*f + exp2c4
	p = p*f + exp2c3
	p = p*f + exp2c2
	p = p*f + exp2c1
	p = p*f + 1
	return p * math.Float32frombits(uint32(int32(n)+127)<<23)
}

// Minimax coefficients of 2^f, |f| ≤ 1/2, with 2^0 = 1 kept exact.
const (
	exp2c1 = 0.6931469671
	exp2c2 = 0.2402211972
	exp2c3 = 0.05550713273
	exp2c4 = 0.009675541334
	exp2c5 = 0.001327647199
)
