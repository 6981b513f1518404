package grad_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

// sampleNet uses every operation that has a per-sample rule, and its table
// twice.
type sampleNet struct {
	params                                                   []*grad.Param
	table, second, pos, gain, bias, w1, b1, w2, mat, g2, row *grad.Param
	unused                                                   *grad.Param
	ids, targets                                             []int32
	length                                                   int
}

func newSampleNet(a *memory.Arena, samples, length int) *sampleNet {
	stream := rng.New(8, 0)
	n := &sampleNet{length: length}
	param := func(p **grad.Param, name string, mean float64, dims ...int) {
		*p = grad.NewParam(a, name, dims...)
		stream.FillNormal((*p).Data, mean, 0.5)
		n.params = append(n.params, *p)
	}
	const v, d, h = 9, 6, 10
	param(&n.table, "table", 0, v, d)
	param(&n.second, "second", 0, v, d)
	param(&n.pos, "pos", 0, length+1, d)
	param(&n.gain, "gain", 1, d)
	param(&n.bias, "bias", 0, d)
	param(&n.w1, "w1", 0, h, d)
	param(&n.b1, "b1", 0, h)
	param(&n.w2, "w2", 0, d, h)
	param(&n.mat, "mat", 0, d, d)
	param(&n.g2, "g2", 1, d)
	param(&n.row, "row", 0, d)
	param(&n.unused, "unused", 0, 3)
	for range samples * length {
		n.ids = append(n.ids, int32(stream.IntN(v)))
		n.targets = append(n.targets, int32(stream.IntN(v)))
	}
	return n
}

// losses are those of the rows of samples lo to hi.
func (n *sampleNet) losses(t *tape, lo, hi int) *val {
	lo, hi = lo*n.length, hi*n.length
	x := grad.Embedding(t, n.table.Var, n.ids[lo:hi])
	x = grad.Add(t, x, grad.Embedding(t, n.second.Var, n.ids[lo:hi]))
	x = grad.AddPositions(t, x, n.pos.Var, n.length)
	h := grad.LayerNorm(t, x, n.gain.Var, n.bias.Var, 1e-5)
	h = grad.Reshape(t, h, hi-lo, h.Cols()) // a view: what it shows must be kept
	h = grad.SiLU(t, grad.Linear(t, h, n.w1.Var, n.b1.Var))
	x = grad.LinearAdd(t, h, n.w2.Var, nil, x)
	x = grad.MatMul(t, x, n.mat.Var)
	x = grad.MulRow(t, grad.RMSNorm(t, x, n.g2.Var, 1e-5), n.row.Var)
	x = grad.AddRow(t, x, n.row.Var)
	return grad.CrossEntropyRows(t, grad.Linear(t, x, n.table.Var, nil), n.targets[lo:hi])
}

func (n *sampleNet) width() int {
	w := 0
	for _, p := range n.params {
		w += p.Len()
	}
	return w
}

// separately returns the gradients of one backward pass for each sample.
func (n *sampleNet) separately(t *tape, samples int) [][]float32 {
	var all [][]float32
	for s := range samples {
		for _, p := range n.params {
			p.ZeroGrad()
		}
		t.Backward(grad.Sum(t, n.losses(t, s, s+1)))
		t.Reset()
		var g []float32
		for _, p := range n.params {
			p.SettleGrad()
			g = append(g, p.Grad...)
		}
		all = append(all, g)
	}
	return all
}

func closeTo(t *testing.T, what string, got, want []float32) {
	t.Helper()
	size := 0.0
	for _, w := range want {
		size = max(size, math.Abs(float64(w)))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i] - w)); !(d <= 5e-6*size) {
			t.Errorf("%s: element %d is %v, want %v", what, i, got[i], w)
			return
		}
	}
}

func TestPerSampleGradients(t *testing.T) {
	for _, c := range []struct{ samples, length int }{{1, 1}, {5, 1}, {4, 3}, {3, 40}} {
		t.Run(fmt.Sprintf("%d samples of %d rows", c.samples, c.length), func(t *testing.T) {
			tp := grad.NewTape(new(memory.Arena))
			n := newSampleNet(tp.Arena, c.samples, c.length)
			start := tp.Arena.Usage()
			each := n.separately(tp, c.samples)

			for _, p := range n.params {
				for i := range p.Grad {
					p.Grad[i] = 7
				}
			}
			bk, err := tp.BackwardPerSample(grad.Sum(tp, n.losses(tp, 0, c.samples)), c.samples)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range n.params {
				for _, g := range p.Grad {
					if g != 7 {
						t.Fatalf("%s: the gradient was touched", p.Name)
					}
				}
			}
			all := make([]float32, c.samples*n.width())
			bk.Gradients(all, n.params)
			for s, want := range each {
				closeTo(t, fmt.Sprintf("gradient of sample %d", s), all[s*n.width():(s+1)*n.width()], want)
			}
			n.checkNorms(t, bk, each)
			n.checkWeighted(t, bk, each)
			tp.Reset()
			if u := tp.Arena.Usage(); u.Live != start.Live {
				t.Errorf("live after Reset %v, before %v", u.Live, start.Live)
			}
		})
	}
}

// checkNorms compares the norms of each parameter alone, and of all.
func (n *sampleNet) checkNorms(t *testing.T, bk *grad.PerSample, each [][]float32) {
	t.Helper()
	total := make([]float64, len(each))
	got := make([]float64, len(each))
	off := 0
	for _, p := range n.params {
		bk.SquaredNorms(got, []*grad.Param{p})
		for s, g := range each {
			want := 0.0
			for _, v := range g[off : off+p.Len()] {
				want += float64(v) * float64(v)
			}
			total[s] += want
			if math.Abs(got[s]-want) > 1e-5*want {
				t.Errorf("%s, sample %d: squared norm %v, want %v", p.Name, s, got[s], want)
			}
		}
		off += p.Len()
	}
	bk.SquaredNorms(got, n.params)
	for s, want := range total {
		if math.Abs(got[s]-want) > 1e-5*want {
			t.Errorf("sample %d: squared norm %v, want %v", s, got[s], want)
		}
	}
}

func (n *sampleNet) checkWeighted(t *testing.T, bk *grad.PerSample, each [][]float32) {
	t.Helper()
	c := make([]float32, len(each))
	for s := range c {
		c[s] = float32(s) - 1.5
	}
	for _, weights := range [][]float32{c, nil} {
		for _, p := range n.params {
			p.ZeroGrad()
			p.SettleGrad()
		}
		bk.AddWeighted(weights, n.params[1:])
		if slices.ContainsFunc(n.params[0].Grad, func(g float32) bool { return g != 0 }) {
			t.Error("a parameter that was not asked for has a gradient")
		}
		bk.AddWeighted(weights, n.params[:1])
		var got []float32
		for _, p := range n.params {
			got = append(got, p.Grad...)
		}
		want := make([]float32, n.width())
		for s, g := range each {
			for i, v := range g {
				if weights == nil {
					want[i] += v
				} else {
					want[i] += weights[s] * v
				}
			}
		}
		closeTo(t, fmt.Sprintf("weighted sum (%v)", weights), got, want)
	}
}

func TestPerSampleOrdinaryGradientAndNoGarbage(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	n := newSampleNet(tp.Arena, 6, 2)
	squares, c := make([]float64, 6), make([]float32, 6)
	step := func() {
		for _, p := range n.params {
			p.ZeroGrad()
		}
		bk, err := tp.BackwardPerSample(grad.Mean(tp, n.losses(tp, 0, 6)), 6)
		if err != nil {
			t.Fatal(err)
		}
		bk.SquaredNorms(squares, n.params)
		for s := range c {
			c[s] = float32(1 / (math.Sqrt(squares[s]) + 0.01))
		}
		bk.AddWeighted(c, n.params)
		tp.Reset()
	}
	for range 5 {
		step()
	}
	if a := testing.AllocsPerRun(10, step); a > 0 {
		t.Errorf("%v allocations per step", a)
	}
}

func TestPerSampleConvolution(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	stream := rng.New(2, 2)
	w, b := grad.NewParam(tp.Arena, "w", 6, 3, 2, 2), grad.NewParam(tp.Arena, "b", 6)
	x := tensor.New(4, 5, 6, 4)
	for _, v := range [][]float32{w.Data, b.Data, x.Data} {
		stream.FillNormal(v, 0, 1)
	}
	loss := func(x tensor.Tensor) *val {
		return grad.Sum(tp, grad.Square(tp, grad.Conv(tp, grad.Const(x), w.Var, b.Var, &strided)))
	}
	params := []*grad.Param{w, b}
	bk, err := tp.BackwardPerSample(loss(x), 4)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 4*(w.Len()+b.Len()))
	bk.Gradients(got, params)
	tp.Reset()
	for s := range 4 {
		w.ZeroGrad()
		b.ZeroGrad()
		size := len(x.Data) / 4
		tp.Backward(loss(tensor.From(x.Data[s*size:(s+1)*size], 1, 5, 6, 4)))
		tp.Reset()
		want := slices.Concat(w.Grad, b.Grad)
		closeTo(t, fmt.Sprintf("sample %d", s), got[s*len(want):(s+1)*len(want)], want)
	}
}

// gate is σ(x + b) for every row; its backward pass reads its output.
func gate(t *tape, x, b *val) *val {
	y := t.New(x.Shape)
	for i, v := range x.Data {
		y.Data[i] = float32(refSigmoid(float64(v + b.Data[i%len(b.Data)])))
	}
	t.Record(y, gateBack, x, b).KeepOut().PerSample(1)
	return y
}

func gateBack(n *grad.Node) {
	dx, db := n.GradOf(0), n.GradOf(1)
	for i, d := range n.Out.Grad {
		d *= n.Out.Data[i] * (1 - n.Out.Data[i])
		if dx != nil {
			dx[i] += d
		}
		if db != nil {
			db[i%len(db)] += d
		}
	}
}

func TestPerSampleOfAnOperationThatReadsItsOutput(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	b := grad.NewParam(tp.Arena, "b", 2)
	x := tensor.From([]float32{1, -1, 2, -2, 3, -3}, 3, 2)
	y := gate(tp, grad.Const(x), b.Var)
	want := slices.Clone(y.Data)
	for i, v := range want {
		want[i] = v * (1 - v)
	}
	bk, err := tp.BackwardPerSample(grad.Sum(tp, y), 3)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 6)
	bk.Gradients(got, []*grad.Param{b})
	tp.Reset()
	closeTo(t, "gradients", got, want)
}

func TestPerSampleErrors(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	w := grad.NewParam(tp.Arena, "w", 4, 4)
	x := grad.Const(tensor.New(6, 4))
	for want, build := range map[string]func() *val{
		"per-sample gradients: grad.mul has no rule for a parameter [4×4]": func() *val {
			return grad.Linear(tp, x, grad.Mul(tp, w.Var, w.Var), nil)
		},
		"per-sample gradients: grad.linear takes a weight [4×4] that is computed, not a parameter": func() *val {
			return grad.Linear(tp, x, grad.Linear(tp, grad.Const(tensor.New(4, 4)), w.Var, nil), nil)
		},
		"per-sample gradients: grad.linear of [5×4] cannot be cut into 2 samples": func() *val {
			return grad.Linear(tp, grad.Const(tensor.New(5, 4)), w.Var, nil)
		},
		"per-sample gradients: the parameters inside a checkpointed segment cannot be seen": func() *val {
			return tp.Checkpoint(x, func(t *tape, x *val) *val { return grad.Linear(t, x, w.Var, nil) })
		},
	} {
		if _, err := tp.BackwardPerSample(grad.Sum(tp, build()), 2); err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		tp.Reset()
	}
}
