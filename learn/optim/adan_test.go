package optim_test

import (
	"math"
	"testing"

	"hasten/engine/memory"
	"hasten/learn/optim"
	"hasten/learn/optim/ref"
)

// quadratic is f(x) = Σ aᵢ(xᵢ-bᵢ)²/2 in float64; its twin has no rounding to
// speak of.
func quadratic(x []float64, g []float64) {
	for i := range x {
		g[i] = float64(i+1) * (x[i] - 1)
	}
}

// TestAdanIsNesterov takes the preconditioner away: what is left moves along
// the look-ahead points of Nesterov's method, which has its gradient there. As
// no gradient comes before the first, that step is a plain one, from whose end
// Nesterov's method sets out at rest.
func TestAdanIsNesterov(t *testing.T) {
	const mu, lr, dims, steps = 0.9, 0.02, 8, 200
	twin := ref.Adan(&optim.Adan{Beta1: mu, Beta2: mu, Plain: true})
	theta := []ref.Tensor{{Data: make([]float64, dims), Grad: make([]float64, dims)}}
	step := func(n int) {
		quadratic(theta[0].Data, theta[0].Grad)
		// Adan's mean has the weights 1-μ, Nesterov's sum has 1.
		twin.Step(theta, optim.Step{N: n, LR: lr / (1 - mu), GradScale: 1})
	}
	step(1)

	x, velocity, ahead, g := make([]float64, dims), make([]float64, dims), make([]float64, dims), make([]float64, dims)
	quadratic(x, g)
	for i := range x {
		x[i] -= lr * g[i]
	}
	for n := 2; n <= steps; n++ {
		for i := range x {
			ahead[i] = x[i] - lr*mu*velocity[i]
			if d := math.Abs(theta[0].Data[i] - ahead[i]); !(d <= 1e-9) {
				t.Fatalf("before step %d: %v, the point ahead is %v", n, theta[0].Data[i], ahead[i])
			}
		}
		quadratic(ahead, g)
		for i := range x {
			velocity[i] = mu*velocity[i] + g[i]
			x[i] -= lr * velocity[i]
		}
		step(n)
	}
}

// TestAdanConstantGradient keeps v at 0, whatever else moves.
func TestAdanConstantGradient(t *testing.T) {
	a := new(memory.Arena)
	params := newParams(a, shapes, 1)
	o := optim.NewAdan()
	if err := o.Init(a, params); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 50; n++ {
		setGrads(params, func(p, i int) float64 { return math.Sin(float64(p + i)) })
		o.Step(optim.Step{N: n, LR: 0.01, GradScale: 0.3})
	}
	for _, b := range o.State() {
		if b.Name[0] != 'v' {
			continue
		}
		for i, x := range b.Data {
			if x != 0 {
				t.Fatalf("%s: element %d is %v", b.Name, i, x)
			}
		}
	}
}

// TestAdanClippedGradientIsKept clips the second step hard: the difference of
// the third is then between clipped gradients.
func TestAdanClippedGradientIsKept(t *testing.T) {
	a := new(memory.Arena)
	params := newParams(a, [][]int{{3}}, 1)
	o := optim.NewAdan()
	if err := o.Init(a, params); err != nil {
		t.Fatal(err)
	}
	for n, scale := range []float64{1, 0.125} {
		setGrads(params, func(_, i int) float64 { return float64(i + 1) })
		o.Step(optim.Step{N: n + 1, LR: 0.01, GradScale: scale})
	}
	for _, b := range o.State() {
		for i, x := range b.Data {
			if want := float32(i+1) * 0.125; b.Name == "last.p0" && x != want {
				t.Errorf("g₋[%d] is %v, want %v", i, x, want)
			}
		}
	}
}
