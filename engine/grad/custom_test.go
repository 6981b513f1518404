package grad_test

import (
	"fmt"
	"math"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/grad/gradtest"
	"hasten/engine/memory"
	"hasten/engine/tensor"
)

// softplus is an operation written outside the package: log(1+eˣ).
func softplus(t *grad.Tape, x *grad.Var) *grad.Var {
	y := t.New(x.Shape)
	for i, v := range x.Data {
		y.Data[i] = float32(math.Log1p(math.Exp(float64(v))))
	}
	t.Record(y, softplusBack, x).Tangent(softplusTangent)
	return y
}

func softplusBack(n *grad.Node) {
	dx := n.GradOf(0)
	for i, v := range n.In[0].Data {
		dx[i] += n.Out.Grad[i] / float32(1+math.Exp(-float64(v)))
	}
}

func softplusTangent(n *grad.Node) *grad.Var {
	return grad.Mul(n.Tape, grad.Sigmoid(n.Tape, n.In[0]), n.Tan(0))
}

func TestCustomOperation(t *testing.T) {
	gradtest.Check(t, gradtest.Case{
		Name: "softplus", Shapes: [][]int{{5, 7}},
		Op:  func(t *grad.Tape, in []*grad.Var) *grad.Var { return softplus(t, in[0]) },
		Ref: each(func(x float64) float64 { return math.Log1p(math.Exp(x)) }),
	})
}

// fused is SiLU(x·Wᵀ) as one operation, whose tangent is that of its parts.
func fused(t *grad.Tape, x, w *grad.Var) *grad.Var {
	y := t.New(x.Shape.WithLast(w.Rows()))
	t.NoGrad(func() { copy(y.Data, grad.SiLU(t, grad.Linear(t, x, w, nil)).Data) })
	t.Record(y, fusedBack, x, w).Tangent(fusedTangent)
	return y
}

func fusedBack(n *grad.Node) {
	x, w := n.In[0], n.In[1]
	dx, dw := n.GradOf(0), n.GradOf(1)
	for r := range x.Rows() {
		for o := range w.Rows() {
			z := 0.0
			for i, v := range x.Row(r) {
				z += float64(v) * float64(w.Row(o)[i])
			}
			s := refSigmoid(z)
			d := n.Out.Grad[r*w.Rows()+o] * float32(s+z*s*(1-s))
			for i := range x.Cols() {
				if dx != nil {
					dx[r*x.Cols()+i] += d * w.Row(o)[i]
				}
				if dw != nil {
					dw[o*x.Cols()+i] += d * x.Row(r)[i]
				}
			}
		}
	}
}

func fusedTangent(n *grad.Node) *grad.Var {
	return n.TangentOf(grad.SiLU(n.Tape, grad.Linear(n.Tape, n.In[0], n.In[1], nil)))
}

func TestFusedOperation(t *testing.T) {
	gradtest.Check(t, gradtest.Case{
		Name: "fused", Shapes: [][]int{{5, 7}, {3, 7}},
		Op:  func(t *grad.Tape, in []*grad.Var) *grad.Var { return fused(t, in[0], in[1]) },
		Ref: func(in [][]float64) []float64 { return each(refSiLU)([][]float64{refLinear(5, 7, 3)(in)}) },
	})
}

// Differential privacy clips the gradient of every sample to a norm of 1
// before they are added up.
func ExampleTape_BackwardPerSample() {
	arena := new(memory.Arena)
	tape := grad.NewTape(arena)
	w := grad.NewParam(arena, "w", 1, 2)
	params := []*grad.Param{w}
	x := grad.Const(tensor.From([]float32{3, 4, 0.6, 0, 0, -0.5}, 3, 2))

	samples, err := tape.BackwardPerSample(grad.Sum(tape, grad.Linear(tape, x, w.Var, nil)), 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	squares, factors := make([]float64, 3), make([]float32, 3)
	samples.SquaredNorms(squares, params)
	for i, s := range squares {
		factors[i] = float32(min(1, 1/math.Sqrt(s)))
	}
	samples.AddWeighted(factors, params)
	tape.Reset()
	fmt.Printf("%.2f %.2f\n", squares, w.Grad)
	// Output: [25.00 0.36 0.25] [1.20 0.30]
}

func Example() {
	arena := new(memory.Arena)
	tape := grad.NewTape(arena)
	w := grad.NewParam(arena, "w", 1, 2)
	x := grad.Const(tensor.From([]float32{1, 1, 1, 2, 1, 3}, 3, 2)) // rows: 1, then the input
	want := grad.Const(tensor.From([]float32{5, 7, 9}, 3, 1))       // 3 + 2·input
	for range 500 {
		w.ZeroGrad()
		tape.Backward(grad.MSE(tape, grad.Linear(tape, x, w.Var, nil), want))
		tape.Reset()
		for i, g := range w.Grad {
			w.Data[i] -= 0.1 * g
		}
	}
	fmt.Printf("%.3f\n", w.Data)
	// Output: [3.000 2.000]
}
