package grad_test

import "math"

// Plain float64 forms of the operations, on flat slices.

func each(f func(float64) float64) func([][]float64) []float64 {
	return func(in [][]float64) []float64 {
		y := make([]float64, len(in[0]))
		for i, x := range in[0] {
			y[i] = f(x)
		}
		return y
	}
}

func pairs(f func(a, b float64) float64) func([][]float64) []float64 {
	return func(in [][]float64) []float64 {
		y := make([]float64, len(in[0]))
		for i := range y {
			y[i] = f(in[0][i], in[1][i])
		}
		return y
	}
}

// rows applies f to every row of the first input, which has cols columns.
func rows(cols int, f func(x []float64, r int, in [][]float64) []float64) func([][]float64) []float64 {
	return func(in [][]float64) []float64 {
		var y []float64
		for r := 0; r*cols < len(in[0]); r++ {
			y = append(y, f(in[0][r*cols:(r+1)*cols], r, in)...)
		}
		return y
	}
}

func refSigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
func refSiLU(x float64) float64    { return x * refSigmoid(x) }
func refGELU(x float64) float64    { return x * 0.5 * (1 + math.Erf(x/math.Sqrt2)) }
func refGELUTanh(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

// refMatMul is a[m,k]·b[k,n].
func refMatMul(m, k, n int, a, b []float64) []float64 {
	y := make([]float64, m*n)
	for i := range m {
		for j := range n {
			for p := range k {
				y[i*n+j] += a[i*k+p] * b[p*n+j]
			}
		}
	}
	return y
}

func refTranspose(m, n int, x []float64) []float64 {
	y := make([]float64, m*n)
	for i := range m {
		for j := range n {
			y[j*m+i] = x[i*n+j]
		}
	}
	return y
}

// refLinear is x[m,k]·w[n,k]ᵀ plus, where they are there, a bias and a residual.
func refLinear(m, k, n int) func(in [][]float64) []float64 {
	return func(in [][]float64) []float64 {
		y := refMatMul(m, k, n, in[0], refTranspose(n, k, in[1]))
		for i := range y {
			if len(in) > 2 {
				y[i] += in[2][i%n]
			}
			if len(in) > 3 {
				y[i] += in[3][i]
			}
		}
		return y
	}
}

func refSum(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v
	}
	return s
}

func refSumRows(cols int, x []float64) []float64 {
	y := make([]float64, cols)
	for i, v := range x {
		y[i%cols] += v
	}
	return y
}

func refSoftmax(x []float64, _ int, _ [][]float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = math.Exp(v)
	}
	s := refSum(y)
	for i := range y {
		y[i] /= s
	}
	return y
}

func refLogSoftmax(x []float64, r int, in [][]float64) []float64 {
	y := refSoftmax(x, r, in)
	for i := range y {
		y[i] = math.Log(y[i])
	}
	return y
}

func refRMSNorm(x []float64, _ int, in [][]float64) []float64 {
	s := 0.0
	for _, v := range x {
		s += v * v
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v / math.Sqrt(s/float64(len(x))+eps) * in[1][i]
	}
	return y
}

func refLayerNorm(x []float64, r int, in [][]float64) []float64 {
	mean := refSum(x) / float64(len(x))
	c := make([]float64, len(x))
	for i, v := range x {
		c[i] = v - mean
	}
	y := refRMSNorm(c, r, in)
	for i := range y {
		y[i] += in[2][i]
	}
	return y
}

// eps is added in the norms; a power of two, so that it is the same in float32.
const eps = 1.0 / 1024

func refSwiGLU(x []float64, _ int, _ [][]float64) []float64 {
	h := len(x) / 2
	y := make([]float64, h)
	for i := range y {
		y[i] = refSiLU(x[i]) * x[h+i]
	}
	return y
}

// refRoPE turns heads of size e in rows of cols.
func refRoPE(cols, heads, e, period int, theta float64) func([][]float64) []float64 {
	return rows(cols, func(x []float64, r int, _ [][]float64) []float64 {
		y := append([]float64(nil), x...)
		for h := range heads {
			for i := range e / 2 {
				f := float64(float32(1 / math.Pow(theta, float64(2*i)/float64(e))))
				sin, cos := math.Sincos(float64(r%period) * f)
				a, b := x[h*e+i], x[h*e+i+e/2]
				y[h*e+i], y[h*e+i+e/2] = a*cos-b*sin, b*cos+a*sin
			}
		}
		return y
	})
}

func refEmbedding(cols int, ids []int32) func([][]float64) []float64 {
	return func(in [][]float64) []float64 {
		var y []float64
		for _, id := range ids {
			y = append(y, in[0][int(id)*cols:(int(id)+1)*cols]...)
		}
		return y
	}
}

func refCrossEntropyRows(cols int, targets []int32) func([][]float64) []float64 {
	return rows(cols, func(x []float64, r int, in [][]float64) []float64 {
		if targets[r] < 0 {
			return []float64{0}
		}
		return []float64{-refLogSoftmax(x, r, in)[targets[r]]}
	})
}
