package grad_test

import (
	"math"
	"slices"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/grad/gradtest"
	"hasten/engine/simd"
)

type (
	tape = grad.Tape
	val  = grad.Var
)

// unary makes a case of a function of one value, element by element.
func unary(name string, op func(*tape, *val) *val, f func(float64) float64) gradtest.Case {
	return gradtest.Case{Name: name, Shapes: [][]int{{3, 37}}, Ref: each(f),
		Op: func(t *tape, in []*val) *val { return op(t, in[0]) }}
}

func positive(c gradtest.Case) gradtest.Case {
	c.Low, c.High = 0.25, 3
	return c
}

func binary(name string, op func(t *tape, a, b *val) *val, f func(a, b float64) float64) gradtest.Case {
	return gradtest.Case{Name: name, Shapes: [][]int{{5, 11}, {5, 11}}, Ref: pairs(f),
		Op: func(t *tape, in []*val) *val { return op(t, in[0], in[1]) }}
}

var (
	ids     = []int32{3, 0, 3, 6, 1, 3, 0}
	targets = []int32{4, 0, grad.Ignore, 8, 4}
	rotary  = grad.NewRotary(8, 6, 100)
)

// cases has every differentiable operation.
var cases = slices.Concat([]gradtest.Case{
	unary("ReLU", grad.ReLU, func(x float64) float64 { return max(x, 0) }),
	unary("SiLU", grad.SiLU, refSiLU),
	unary("GELUTanh", grad.GELUTanh, refGELUTanh),
	unary("GELU", grad.GELU, refGELU),
	unary("Tanh", grad.Tanh, math.Tanh),
	unary("Sigmoid", grad.Sigmoid, refSigmoid),
	unary("Exp", grad.Exp, math.Exp),
	positive(unary("Log", grad.Log, math.Log)),
	unary("Square", grad.Square, func(x float64) float64 { return x * x }),
	positive(unary("Sqrt", grad.Sqrt, math.Sqrt)),
	positive(unary("Pow", func(t *tape, x *val) *val { return grad.Pow(t, x, -0.7) },
		func(x float64) float64 { return math.Pow(x, -0.7) })),
	unary("Scale", func(t *tape, x *val) *val { return grad.Scale(t, x, -1.5) },
		func(x float64) float64 { return -1.5 * x }),
	unary("AddScalar", func(t *tape, x *val) *val { return grad.AddScalar(t, x, 0.5) },
		func(x float64) float64 { return x + 0.5 }),
	unary("Affine", func(t *tape, x *val) *val { return grad.Affine(t, x, -2, 0.5) },
		func(x float64) float64 { return -2*x + 0.5 }),
	unary("Reshape", func(t *tape, x *val) *val { return grad.Reshape(t, x, 37, 1, 3) },
		func(x float64) float64 { return x }),

	binary("Add", grad.Add, func(a, b float64) float64 { return a + b }),
	binary("Sub", grad.Sub, func(a, b float64) float64 { return a - b }),
	binary("Mul", grad.Mul, func(a, b float64) float64 { return a * b }),
	positive(binary("Div", grad.Div, func(a, b float64) float64 { return a / b })),
	{Name: "MSE", Shapes: [][]int{{5, 11}, {5, 11}},
		Op: func(t *tape, in []*val) *val { return grad.MSE(t, in[0], in[1]) },
		Ref: func(in [][]float64) []float64 {
			d := pairs(func(a, b float64) float64 { return (a - b) * (a - b) })(in)
			return []float64{refSum(d) / float64(len(d))}
		}},
	{Name: "Mul by itself", Shapes: [][]int{{4, 5}},
		Op:  func(t *tape, in []*val) *val { return grad.Mul(t, in[0], in[0]) },
		Ref: each(func(x float64) float64 { return x * x })},
	{Name: "Add to itself", Shapes: [][]int{{4, 5}},
		Op:  func(t *tape, in []*val) *val { return grad.Add(t, in[0], in[0]) },
		Ref: each(func(x float64) float64 { return x + x })},
	{Name: "Sub from itself", Shapes: [][]int{{4, 5}},
		Op:  func(t *tape, in []*val) *val { return grad.Sub(t, in[0], in[0]) },
		Ref: each(func(x float64) float64 { return 0 })},

	{Name: "Linear", Shapes: [][]int{{2, 3, 7}, {5, 7}, {5}}, Ref: refLinear(6, 7, 5),
		Op: func(t *tape, in []*val) *val { return grad.Linear(t, in[0], in[1], in[2]) }},
	{Name: "Linear without bias", Shapes: [][]int{{37, 3}, {1, 3}}, Ref: refLinear(37, 3, 1),
		Op: func(t *tape, in []*val) *val { return grad.Linear(t, in[0], in[1], nil) }},
	{Name: "LinearAdd", Shapes: [][]int{{6, 7}, {5, 7}, {5}, {6, 5}}, Ref: refLinear(6, 7, 5),
		Op: func(t *tape, in []*val) *val { return grad.LinearAdd(t, in[0], in[1], in[2], in[3]) }},
	{Name: "LinearAdd to its input", Shapes: [][]int{{6, 5}, {5, 5}},
		Op: func(t *tape, in []*val) *val { return grad.LinearAdd(t, in[0], in[1], nil, in[0]) },
		Ref: func(in [][]float64) []float64 {
			return refLinear(6, 5, 5)([][]float64{in[0], in[1], make([]float64, 5), in[0]})
		}},
	{Name: "Linear, weight used twice", Shapes: [][]int{{6, 5}, {5, 5}},
		Op: func(t *tape, in []*val) *val {
			return grad.Linear(t, grad.Linear(t, in[0], in[1], nil), in[1], nil)
		},
		Ref: func(in [][]float64) []float64 {
			f := refLinear(6, 5, 5)
			return f([][]float64{f(in), in[1]})
		}},
	{Name: "MatMul", Shapes: [][]int{{4, 7}, {7, 3}},
		Op:  func(t *tape, in []*val) *val { return grad.MatMul(t, in[0], in[1]) },
		Ref: func(in [][]float64) []float64 { return refMatMul(4, 7, 3, in[0], in[1]) }},

	{Name: "SwiGLU", Shapes: [][]int{{33, 6}}, Ref: rows(6, refSwiGLU),
		Op: func(t *tape, in []*val) *val { return grad.SwiGLU(t, in[0]) }},
	{Name: "RMSNorm", Shapes: [][]int{{35, 5}, {5}}, Ref: rows(5, refRMSNorm),
		Op: func(t *tape, in []*val) *val { return grad.RMSNorm(t, in[0], in[1], eps) }},
	{Name: "LayerNorm", Shapes: [][]int{{35, 5}, {5}, {5}}, Ref: rows(5, refLayerNorm),
		Op: func(t *tape, in []*val) *val { return grad.LayerNorm(t, in[0], in[1], in[2], eps) }},
	{Name: "Embedding", Shapes: [][]int{{7, 67}}, Ref: refEmbedding(67, ids),
		Op: func(t *tape, in []*val) *val { return grad.Embedding(t, in[0], ids) }},
	{Name: "AddPositions", Shapes: [][]int{{6, 5}, {4, 5}},
		Op: func(t *tape, in []*val) *val { return grad.AddPositions(t, in[0], in[1], 3) },
		Ref: rows(5, func(x []float64, r int, in [][]float64) []float64 {
			return pairs(func(a, b float64) float64 { return a + b })([][]float64{x, in[1][r%3*5 : r%3*5+5]})
		})},
	{Name: "RoPE", Shapes: [][]int{{10, 20}}, InPlace: true, Ref: refRoPE(20, 3, 6, 5, 100),
		Op: func(t *tape, in []*val) *val { return grad.RoPE(t, in[0], rotary, 3, 5) }},
}, broadcastCases, shapeCases, softmaxCases, convCases)

var broadcastCases = []gradtest.Case{
	{Name: "AddRow", Shapes: [][]int{{35, 5}, {5}},
		Op: func(t *tape, in []*val) *val { return grad.AddRow(t, in[0], in[1]) },
		Ref: func(in [][]float64) []float64 {
			y := slices.Clone(in[0])
			for i := range y {
				y[i] += in[1][i%5]
			}
			return y
		}},
	{Name: "MulRow", Shapes: [][]int{{35, 5}, {5}},
		Op: func(t *tape, in []*val) *val { return grad.MulRow(t, in[0], in[1]) },
		Ref: func(in [][]float64) []float64 {
			y := slices.Clone(in[0])
			for i := range y {
				y[i] *= in[1][i%5]
			}
			return y
		}},
	{Name: "AddCol", Shapes: [][]int{{35, 5}, {35}},
		Op: func(t *tape, in []*val) *val { return grad.AddCol(t, in[0], in[1]) },
		Ref: func(in [][]float64) []float64 {
			y := slices.Clone(in[0])
			for i := range y {
				y[i] += in[1][i/5]
			}
			return y
		}},
	{Name: "MulCol", Shapes: [][]int{{35, 5}, {35}},
		Op: func(t *tape, in []*val) *val { return grad.MulCol(t, in[0], in[1]) },
		Ref: func(in [][]float64) []float64 {
			y := slices.Clone(in[0])
			for i := range y {
				y[i] *= in[1][i/5]
			}
			return y
		}},
	{Name: "RowSum", Shapes: [][]int{{5, 7, 3}},
		Op:  func(t *tape, in []*val) *val { return grad.RowSum(t, in[0]) },
		Ref: rows(3, func(x []float64, _ int, _ [][]float64) []float64 { return []float64{refSum(x)} })},
	{Name: "SumRows", Shapes: [][]int{{5, 7, 3}},
		Op:  func(t *tape, in []*val) *val { return grad.SumRows(t, in[0]) },
		Ref: func(in [][]float64) []float64 { return refSumRows(3, in[0]) }},
	{Name: "MeanRows", Shapes: [][]int{{5, 7, 3}},
		Op: func(t *tape, in []*val) *val { return grad.MeanRows(t, in[0]) },
		Ref: func(in [][]float64) []float64 {
			y := refSumRows(3, in[0])
			for i := range y {
				y[i] /= 35
			}
			return y
		}},
	{Name: "Sum", Shapes: [][]int{{5, 7}},
		Op:  func(t *tape, in []*val) *val { return grad.Sum(t, in[0]) },
		Ref: func(in [][]float64) []float64 { return []float64{refSum(in[0])} }},
	{Name: "Mean", Shapes: [][]int{{5, 7}},
		Op:  func(t *tape, in []*val) *val { return grad.Mean(t, in[0]) },
		Ref: func(in [][]float64) []float64 { return []float64{refSum(in[0]) / 35} }},
}

var shapeCases = []gradtest.Case{
	{Name: "Concat", Shapes: [][]int{{35, 2}, {35, 1}, {35, 4}},
		Op: func(t *tape, in []*val) *val { return grad.Concat(t, in...) },
		Ref: rows(2, func(x []float64, r int, in [][]float64) []float64 {
			return slices.Concat(x, in[1][r:r+1], in[2][4*r:4*r+4])
		})},
	{Name: "Slice", Shapes: [][]int{{5, 7, 6}},
		Op:  func(t *tape, in []*val) *val { return grad.Slice(t, in[0], 2, 5) },
		Ref: rows(6, func(x []float64, _ int, _ [][]float64) []float64 { return x[2:5] })},
	{Name: "Transpose", Shapes: [][]int{{3, 37}},
		Op:  func(t *tape, in []*val) *val { return grad.Transpose(t, in[0]) },
		Ref: func(in [][]float64) []float64 { return refTranspose(3, 37, in[0]) }},
	{Name: "Checkpoint", Shapes: [][]int{{6, 5}, {5, 5}}, NoSecond: true, // HVP has its own test
		Op: func(t *tape, in []*val) *val {
			return t.Checkpoint(in[0], func(t *tape, x *val) *val {
				return grad.Tanh(t, grad.Linear(t, x, in[1], nil))
			})
		},
		Ref: func(in [][]float64) []float64 { return each(math.Tanh)([][]float64{refLinear(6, 5, 5)(in)}) }},
}

var softmaxCases = []gradtest.Case{
	{Name: "Softmax", Shapes: [][]int{{5, 7, 9}}, Ref: rows(9, refSoftmax),
		Op: func(t *tape, in []*val) *val { return grad.Softmax(t, in[0]) }},
	{Name: "LogSoftmax", Shapes: [][]int{{35, 9}}, Ref: rows(9, refLogSoftmax),
		Op: func(t *tape, in []*val) *val { return grad.LogSoftmax(t, in[0]) }},
	{Name: "CrossEntropyRows", Shapes: [][]int{{5, 9}}, Ref: refCrossEntropyRows(9, targets),
		Op: func(t *tape, in []*val) *val { return grad.CrossEntropyRows(t, in[0], targets) }},
	{Name: "CrossEntropy", Shapes: [][]int{{5, 9}},
		Op:  func(t *tape, in []*val) *val { return grad.CrossEntropy(t, in[0], targets) },
		Ref: func(in [][]float64) []float64 { return []float64{refSum(refCrossEntropyRows(9, targets)(in)) / 4} }},
}

func TestGradients(t *testing.T) {
	for _, level := range simd.Levels() {
		t.Run(level.String(), func(t *testing.T) {
			defer simd.Use(simd.Current())
			simd.Use(level)
			for _, c := range cases {
				gradtest.Check(t, c)
			}
		})
	}
}
