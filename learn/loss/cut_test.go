package loss_test

import (
	"fmt"
	"math"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
	"hasten/learn/loss"
)

// trained is a problem like that of a trained model: hidden values that favour
// few tokens, the targets among them.
func trained(n, d, v int) problem {
	p := problem{n, d, v, make([]float32, n*d), make([]float32, v*d), make([]int32, n)}
	s := rng.New(5, uint64(v))
	s.FillNormal(p.w, 0, 1)
	likely := max(v/8, 1)
	for r := range p.targets {
		// Far-off tokens, scattered over the vocabulary, share a direction that
		// all hidden values point away from.
		p.targets[r] = int32(s.IntN(likely) * 7 % v)
		s.FillNormal(p.x[r*d:(r+1)*d], 0, 0.1)
		p.x[r*d] = 6
		for k := 1; k < d; k++ {
			p.x[r*d+k] += 1.5 * p.w[int(p.targets[r])*d+k]
		}
	}
	for i := range v {
		p.w[i*d] = -3
	}
	for i := range likely {
		p.w[i*7%v*d] = 0
	}
	return p
}

// TestFilter holds that the filter skips tiles, and that what it leaves out is
// what it may: in every row, tokens whose softmax is below ε.
func TestFilter(t *testing.T) {
	const n, d, v, eps = 600, 8, 5000, 1.0 / 4096
	p := trained(n, d, v)
	mean, _, dx, dw := p.naive()
	for _, sort := range []bool{false, true} {
		c := &loss.Cut{Filter: eps, Head: true, Sort: sort}
		tape := grad.NewTape(new(memory.Arena))
		x, w := grad.Leaf(tensor.From(p.x, n, d)), grad.Leaf(tensor.From(p.w, v, d))
		y := c.CrossEntropy(tape, x, w, p.targets, nil)
		near(t, "loss", y.Data, []float64{mean}, 1e-5)
		tape.Backward(y)
		skipped, tiles := c.Skipped()
		if want := int64((n + 255) / 256 * ((v + 511) / 512)); tiles != want {
			t.Errorf("%d tiles, want %d", tiles, want)
		}
		if sort && skipped*2 < tiles {
			t.Errorf("sorted: only %d of %d tiles were skipped", skipped, tiles)
		}
		// Of a skipped tile's gradient at most ε/n is missing in each entry of G.
		near(t, "gradient of x", x.Grad, dx, 0.02)
		largest := 0.0
		for _, g := range p.x {
			largest = max(largest, math.Abs(float64(g)))
		}
		for i, g := range w.Grad {
			if missing := math.Abs(float64(g) - dw[i]); missing > eps*largest+1e-6 {
				t.Fatalf("sort %v: element %d of the head's gradient is off by %v", sort, i, missing)
			}
		}
	}
}

// TestTheHeadIsExactUnlessAsked filters the gradient of x alone.
func TestTheHeadIsExactUnlessAsked(t *testing.T) {
	p := trained(600, 8, 5000)
	_, _, dx, dw := p.naive()
	for _, sort := range []bool{false, true} {
		c := &loss.Cut{Filter: 1.0 / 4096, Sort: sort}
		tape := grad.NewTape(new(memory.Arena))
		x, w := grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d))
		tape.Backward(c.CrossEntropy(tape, x, w, p.targets, nil))
		near(t, "gradient of x", x.Grad, dx, 0.02)
		near(t, "gradient of w", w.Grad, dw, 1e-5)
		if skipped, _ := c.Skipped(); skipped == 0 {
			t.Error("nothing was skipped")
		}
	}
}

// TestSortedSkipsMore is what the order is for.
func TestSortedSkipsMore(t *testing.T) {
	p := trained(600, 8, 5000)
	var skipped [2]int64
	for i, sort := range []bool{false, true} {
		c := &loss.Cut{Filter: 1.0 / 4096, Sort: sort}
		tape := grad.NewTape(new(memory.Arena))
		tape.Backward(c.CrossEntropy(tape, grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d)), p.targets, nil))
		skipped[i], _ = c.Skipped()
	}
	if skipped[1] <= skipped[0] {
		t.Errorf("%d tiles skipped when sorted, %d when not", skipped[1], skipped[0])
	}
}

// TestTheTargetIsNeverSkipped has rows that think nothing of their targets.
func TestTheTargetIsNeverSkipped(t *testing.T) {
	const d, v = 2, 4096
	p := problem{1, d, v, []float32{1, 0}, make([]float32, v*d), []int32{v - 1}}
	for i := range v {
		p.w[i*d] = -30
	}
	p.w[0] = 30
	_, _, dx, dw := p.naive()
	for _, sort := range []bool{false, true} {
		c := &loss.Cut{Filter: 0.01, Head: true, Sort: sort}
		tape := grad.NewTape(new(memory.Arena))
		x, w := grad.Leaf(tensor.From(p.x, 1, d)), grad.Leaf(tensor.From(p.w, v, d))
		tape.Backward(c.CrossEntropy(tape, x, w, p.targets, nil))
		near(t, "gradient of x", x.Grad, dx, 1e-5)
		near(t, "gradient of w", w.Grad, dw, 1e-5)
		if skipped, tiles := c.Skipped(); skipped != tiles-2 {
			t.Errorf("%d of %d tiles skipped, want all but two", skipped, tiles)
		}
	}
}

// capped is the loss with soft cap and z-term, in float64.
func (p problem) capped(x, w []float64, c, z float64) float64 {
	total := 0.0
	for r, id := range p.targets {
		sum, at := 0.0, 0.0
		for v := range p.v {
			l := 0.0
			for k := range p.d {
				l += x[r*p.d+k] * w[v*p.d+k]
			}
			if c > 0 {
				l = c * math.Tanh(l/c)
			}
			sum += math.Exp(l)
			if v == int(id) {
				at = l
			}
		}
		lse := math.Log(sum)
		total += (lse - at + z*lse*lse) / float64(p.n)
	}
	return total
}

// TestSoftCapAndZ compares loss and gradients with differences of the naive
// loss.
func TestSoftCapAndZ(t *testing.T) {
	p := newProblem(6, 3, 11, 0)
	wide := func(x []float32) []float64 {
		y := make([]float64, len(x))
		for i := range x {
			y[i] = float64(x[i])
		}
		return y
	}
	slope := func(of []float64, f func() float64) []float64 {
		const h = 1e-5
		g := make([]float64, len(of))
		for i := range of {
			was := of[i]
			of[i] = was + h
			up := f()
			of[i] = was - h
			g[i] = (up - f()) / (2 * h)
			of[i] = was
		}
		return g
	}
	for _, o := range []struct{ cap, z float64 }{{3, 0}, {0, 0.01}, {5, 0.1}} {
		for _, sort := range []bool{false, true} {
			t.Run(fmt.Sprintf("cap=%v,z=%v,sort=%v", o.cap, o.z, sort), func(t *testing.T) {
				c := &loss.Cut{SoftCap: o.cap, Z: o.z, Sort: sort}
				tape := grad.NewTape(new(memory.Arena))
				x, w := grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d))
				y := c.CrossEntropy(tape, x, w, p.targets, nil)
				x64, w64 := wide(p.x), wide(p.w)
				f := func() float64 { return p.capped(x64, w64, o.cap, o.z) }
				near(t, "loss", y.Data, []float64{f()}, 1e-5)
				tape.Backward(y)
				near(t, "gradient of x", x.Grad, slope(x64, f), 1e-4)
				near(t, "gradient of w", w.Grad, slope(w64, f), 1e-4)
			})
		}
	}
}
