package loss_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/precision"
	"hasten/engine/rng"
	"hasten/engine/tensor"
	"hasten/learn/loss"
)

type form func(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var

// forms are the forms of the loss; all must agree with the naive one.
var forms = map[string]form{
	"head":   loss.HeadCrossEntropy,
	"cut":    loss.CutCrossEntropy,
	"either": loss.CrossEntropy,
	"full":   new(loss.Full).CrossEntropy,
	"sorted": (&loss.Cut{Sort: true}).CrossEntropy,
	"kahan":  (&loss.Cut{Kahan: true}).CrossEntropy,
	"both":   (&loss.Cut{Sort: true, Kahan: true}).CrossEntropy,
	// So small a filter skips only what is 0 in float32.
	"filtered": (&loss.Cut{Sort: true, Filter: 1e-30}).CrossEntropy,
}

// problem is a head with its input.
type problem struct {
	n, d, v int
	x, w    []float32
	targets []int32
}

// newProblem draws one; every ignore-th target does not count.
func newProblem(n, d, v, ignore int) problem {
	p := problem{n, d, v, make([]float32, n*d), make([]float32, v*d), make([]int32, n)}
	s := rng.New(uint64(n*v), uint64(d))
	s.FillNormal(p.x, 0, 2)
	s.FillNormal(p.w, 0, 2)
	for i := range p.targets {
		p.targets[i] = int32(s.IntN(v))
		if ignore > 0 && i%ignore == 0 {
			p.targets[i] = loss.Ignore
		}
	}
	return p
}

// naive is the loss of every row, their mean, and its gradients, in float64
// and with all logits at once.
func (p problem) naive() (mean float64, rows, dx, dw []float64) {
	rows, dx, dw = make([]float64, p.n), make([]float64, p.n*p.d), make([]float64, p.v*p.d)
	counted := 0
	for _, id := range p.targets {
		if id != loss.Ignore {
			counted++
		}
	}
	for r, id := range p.targets {
		if id == loss.Ignore {
			continue
		}
		logits, largest := make([]float64, p.v), math.Inf(-1)
		for v := range logits {
			for k := range p.d {
				logits[v] += float64(p.x[r*p.d+k]) * float64(p.w[v*p.d+k])
			}
			largest = max(largest, logits[v])
		}
		sum := 0.0
		for _, l := range logits {
			sum += math.Exp(l - largest)
		}
		rows[r] = largest + math.Log(sum) - logits[id]
		mean += rows[r] / float64(counted)
		for v, l := range logits {
			g := math.Exp(l-largest) / sum
			if v == int(id) {
				g--
			}
			g /= float64(counted)
			for k := range p.d {
				dx[r*p.d+k] += g * float64(p.w[v*p.d+k])
				dw[v*p.d+k] += g * float64(p.x[r*p.d+k])
			}
		}
	}
	return mean, rows, dx, dw
}

// near compares within tol of the largest value.
func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	size := 1e-6
	for _, w := range want {
		size = max(size, math.Abs(w))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tol*size) {
			t.Fatalf("%s: element %d is %v, want %v (largest %.3g)", what, i, got[i], w, size)
		}
	}
}

// scaled is c·x.
func scaled(x []float64, c float64) []float64 {
	y := slices.Clone(x)
	for i := range y {
		y[i] *= c
	}
	return y
}

// sizes are awkward ones: alone, at the edges of blocks of 512 rows and of 2048
// tokens, beyond them, and a vocabulary so large that CrossEntropy is cut.
var sizes = []struct{ n, d, v, ignore int }{
	{1, 1, 1, 0}, {1, 3, 2, 0}, {7, 5, 3, 0}, {33, 16, 65, 4},
	{511, 3, 17, 0}, {512, 3, 17, 5}, {513, 3, 17, 0}, {1100, 4, 33, 3},
	{9, 4, 2047, 0}, {9, 4, 2048, 2}, {9, 4, 2049, 0}, {515, 2, 4100, 7},
	{5, 3, 16384, 2},
	{6, 4, 10, 1}, // nothing counts
}

// TestAgainstNaive compares loss, row losses and gradients with the naive
// form: of both inputs together, of each alone, and added to what is there.
func TestAgainstNaive(t *testing.T) {
	for _, size := range sizes {
		p := newProblem(size.n, size.d, size.v, size.ignore)
		mean, rows, dx, dw := p.naive()
		for name, f := range forms {
			t.Run(fmt.Sprintf("%s/n=%d,d=%d,v=%d,ignore=%d", name, size.n, size.d, size.v, size.ignore), func(t *testing.T) {
				a := new(memory.Arena)
				tape := grad.NewTape(a)
				for _, wanted := range []string{"x w", "x", "w"} {
					x, w := grad.Const(tensor.From(p.x, p.n, p.d)), grad.Const(tensor.From(p.w, p.v, p.d))
					if strings.Contains(wanted, "x") {
						x = grad.Leaf(x.Tensor)
					}
					if strings.Contains(wanted, "w") {
						w = grad.Leaf(w.Tensor)
					}
					const scale = -0.75
					for pass := 1.0; pass <= 2; pass++ {
						perRow := make([]float32, p.n)
						y := f(tape, x, w, p.targets, perRow)
						near(t, "loss", y.Data, []float64{mean}, 1e-5)
						near(t, "row losses", perRow, rows, 1e-5)
						tape.BackwardScaled(y, scale)
						tape.Reset()
						if x.Grad != nil {
							near(t, "gradient of x for "+wanted, x.Grad, scaled(dx, scale*pass), 1e-5)
						}
						if w.Grad != nil {
							near(t, "gradient of w for "+wanted, w.Grad, scaled(dw, scale*pass), 1e-5)
						}
					}
				}
				tape.NoGrad(func() {
					near(t, "loss without gradients", f(tape, grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d)), p.targets, nil).Data, []float64{mean}, 1e-5)
				})
				tape.Reset()
				if live := a.Usage().LiveTotal; live != 0 {
					t.Errorf("%d bytes live after Reset", live)
				}
			})
		}
	}
}

// TestNoRows has an empty batch: no loss, and gradients of 0.
func TestNoRows(t *testing.T) {
	for name, f := range forms {
		tape := grad.NewTape(new(memory.Arena))
		w := grad.NewParam(tape.Arena, "w", 5, 3)
		for i := range w.Grad {
			w.Grad[i] = 7
		}
		y := f(tape, grad.Leaf(tensor.New(0, 3)), w.Var, nil, nil)
		mean := y.Data[0]
		tape.Backward(y)
		if mean != 0 || slices.ContainsFunc(w.Grad, func(g float32) bool { return g != 0 }) {
			t.Errorf("%s: loss %v, gradient %v", name, mean, w.Grad)
		}
	}
}

// TestTied has one matrix as embedding and as head: its gradient is the sum of
// both uses.
func TestTied(t *testing.T) {
	p := newProblem(40, 6, 31, 0)
	ids := make([]int32, p.n)
	for r := range ids {
		ids[r] = int32(r * 7 % p.v)
		copy(p.x[r*p.d:(r+1)*p.d], p.w[int(ids[r])*p.d:])
	}
	mean, _, dx, dw := p.naive()
	for r, id := range ids {
		for k := range p.d {
			dw[int(id)*p.d+k] += dx[r*p.d+k]
		}
	}
	for name, f := range forms {
		tape := grad.NewTape(new(memory.Arena))
		w := grad.NewParam(tape.Arena, "w", p.v, p.d)
		copy(w.Data, p.w)
		y := f(tape, grad.Embedding(tape, w.Var, ids), w.Var, p.targets, nil)
		near(t, name+": loss", y.Data, []float64{mean}, 1e-5)
		tape.Backward(y)
		near(t, name+": gradient", w.Grad, dw, 1e-5)
	}
}

// TestLargeLogits has logits far beyond the range of exp.
func TestLargeLogits(t *testing.T) {
	p := newProblem(20, 8, 2100, 0)
	for i := range p.x {
		p.x[i] *= 50
	}
	mean, rows, dx, dw := p.naive()
	for name, f := range forms {
		tape := grad.NewTape(new(memory.Arena))
		x, w, perRow := grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d)), make([]float32, p.n)
		y := f(tape, x, w, p.targets, perRow)
		near(t, name+": loss", y.Data, []float64{mean}, 1e-5)
		tape.Backward(y)
		near(t, name+": row losses", perRow, rows, 1e-5)
		// Rounding of logits of some hundreds is all that is left here.
		near(t, name+": gradient of x", x.Grad, dx, 1e-4)
		near(t, name+": gradient of w", w.Grad, dw, 1e-4)
	}
}

// TestBadNumbersShow holds that a loss of values that are no numbers is none.
func TestBadNumbersShow(t *testing.T) {
	for name, f := range forms {
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			p := newProblem(4, 3, 9, 0)
			p.x[4] = float32(bad)
			tape := grad.NewTape(new(memory.Arena))
			y := f(tape, grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d)), p.targets, nil)
			if l := float64(y.Data[0]); !math.IsNaN(l) && !math.IsInf(l, 0) {
				t.Errorf("%s: the loss is %v with %v in x", name, l, bad)
			}
		}
	}
}

// TestBF16 lets the policy round operands: both forms see the same roundings of
// the logits, and stay near the exact loss.
func TestBF16(t *testing.T) {
	p := newProblem(60, 32, 2500, 6)
	mean, _, dx, dw := p.naive()
	for name, f := range forms {
		tape := grad.NewTape(new(memory.Arena))
		tape.Policy = precision.BF16{}
		x, w := grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d))
		y := f(tape, x, w, p.targets, nil)
		near(t, name+": loss", y.Data, []float64{mean}, 0.01)
		tape.Backward(y)
		near(t, name+": gradient of x", x.Grad, dx, 0.1)
		near(t, name+": gradient of w", w.Grad, dw, 0.1)
	}
}

// TestThreads holds that the number of threads changes no bit.
func TestThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	p := newProblem(700, 24, 2300, 9)
	for name, f := range forms {
		var want [][]float32
		for _, threads := range []int{1, 2, 3} {
			runtime.GOMAXPROCS(threads)
			tape := grad.NewTape(new(memory.Arena))
			x, w, perRow := grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d)), make([]float32, p.n)
			y := f(tape, x, w, p.targets, perRow)
			got := [][]float32{{y.Data[0]}, perRow, x.Grad, w.Grad} // gradients to be filled
			tape.Backward(y)
			if want == nil {
				want = got
			}
			for i := range want {
				if !slices.Equal(got[i], want[i]) {
					t.Errorf("%s: output %d differs with %d threads", name, i, threads)
				}
			}
		}
	}
}

// TestAllocatesNothing counts allocations of a pass after the first.
func TestAllocatesNothing(t *testing.T) {
	p := newProblem(600, 16, 2200, 0)
	for name, f := range forms {
		tape := grad.NewTape(new(memory.Arena))
		x, w, perRow := grad.Leaf(tensor.From(p.x, p.n, p.d)), grad.Leaf(tensor.From(p.w, p.v, p.d)), make([]float32, p.n)
		pass := func() {
			tape.Backward(f(tape, x, w, p.targets, perRow))
			tape.Reset()
		}
		pass()
		if got := testing.AllocsPerRun(5, pass); got != 0 {
			t.Errorf("%s: %v allocations a pass", name, got)
		}
	}
}

// TestMemory reads from the arena what each form takes beyond its inputs and
// their gradients.
func TestMemory(t *testing.T) {
	const n, d, v = 1024, 4, 20480
	p := newProblem(n, d, v, 0)
	peak := func(f form) int64 {
		tape := grad.NewTape(new(memory.Arena))
		y := f(tape, grad.Leaf(tensor.From(p.x, n, d)), grad.Leaf(tensor.From(p.w, v, d)), p.targets, nil)
		tape.Backward(y)
		return tape.Arena.Usage().PeakTotal
	}
	const small = 256 // the loss and its gradient
	if got, most := peak(loss.CutCrossEntropy), int64(4*(512*2048+3*n)+small); got > most {
		t.Errorf("cut takes %d bytes, more than %d", got, most)
	}
	if got, want := peak(loss.HeadCrossEntropy), int64(4*(512*v+n*d+v*d+n)); got < want || got > want+small {
		t.Errorf("head takes %d bytes, want %d", got, want)
	}
	if got, want := peak(loss.CrossEntropy), peak(loss.CutCrossEntropy); got != want {
		t.Errorf("at %d tokens CrossEntropy takes %d bytes, and %d when cut", v, got, want)
	}
}

// TestPanics tells what does not fit.
func TestPanics(t *testing.T) {
	for name, f := range forms {
		for _, c := range []struct {
			targets []int32
			perRow  []float32
			want    string
		}{
			{[]int32{0, 5}, nil, "target 5 at row 1"},
			{[]int32{-2, 0}, nil, "target -2 at row 0"},
			{[]int32{0}, nil, "with 1 targets"},
			{[]int32{0, 1}, make([]float32, 3), "3 losses"},
		} {
			func() {
				defer func() {
					if text := fmt.Sprint(recover()); !strings.Contains(text, c.want) {
						t.Errorf("%s: %q, want %q in it", name, text, c.want)
					}
				}()
				f(grad.NewTape(new(memory.Arena)), grad.Leaf(tensor.New(2, 3)), grad.Leaf(tensor.New(5, 3)), c.targets, c.perRow)
			}()
		}
	}
}
