package moe

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/grad/gradtest"
	"hasten/engine/memory"
	"hasten/engine/precision"
	"hasten/engine/rng"
	"hasten/engine/tensor"
	"hasten/model/attention"
	"hasten/model/block"
)

func random(id uint64, dims ...int) tensor.Tensor {
	s := rng.New(3, id)
	x := tensor.New(dims...)
	s.FillNormal(x.Data, 0, 1)
	return x
}

// routed is the choice of one token by plain loops: experts and their weights.
func routed(logits []float64, r Router) (experts []int, weights, probs []float64) {
	var sum float64
	for _, l := range logits {
		probs = append(probs, math.Exp(l))
		sum += math.Exp(l)
	}
	for i := range probs {
		probs[i] /= sum
	}
	order := make([]int, len(logits))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return 0
	})
	experts = order[:r.K]
	sum = 1
	if r.Normalize && r.K > 1 {
		sum = 0
		for _, e := range experts {
			sum += probs[e]
		}
	}
	for _, e := range experts {
		weights = append(weights, probs[e]/sum)
	}
	return experts, weights, probs
}

func TestPlan(t *testing.T) {
	for _, c := range []struct{ n, experts, k int }{{1, 1, 1}, {7, 3, 3}, {50, 5, 2}, {64, 32, 4}, {3, 20, 1}} {
		tape := grad.NewTape(new(memory.Arena))
		logits := random(1, c.n, c.experts)
		for e := range c.experts { // ties go to the first
			logits.Row(0)[e] = 1
		}
		r := Router{K: c.k, Normalize: true}
		gates, p := Route(tape, tape.Input(logits), r, nil)
		want := int32(0)
		for e := range c.experts {
			if p.Starts[e] != want {
				t.Fatalf("%+v: expert %d starts at %d, want %d", c, e, p.Starts[e], want)
			}
			for token := range c.n {
				experts, weights, _ := routed(float64s(logits.Row(token)), r)
				j := slices.Index(experts, e)
				if j < 0 {
					continue
				}
				place := int32(token*c.k + j)
				if p.Order[want] != place || p.Token[want] != int32(token) || p.Row[place] != want || p.Expert[place] != int32(e) {
					t.Fatalf("%+v: row %d is place %d of token %d, want place %d of token %d", c, want, p.Order[want], p.Token[want], place, token)
				}
				if g := float64(gates.Data[place]); math.Abs(g-weights[j]) > 1e-6 {
					t.Fatalf("%+v: weight %g, want %g", c, g, weights[j])
				}
				want++
			}
		}
		if p.Starts[c.experts] != int32(c.n*c.k) {
			t.Errorf("%+v: %d rows", c, p.Starts[c.experts])
		}
	}
}

func TestNoNumbersAreRoutedToo(t *testing.T) {
	tape := grad.NewTape(new(memory.Arena))
	x := tensor.New(2, 4)
	for i := range x.Data {
		x.Data[i] = float32(math.NaN())
	}
	_, p := Route(tape, tape.Input(x), Router{K: 2}, nil)
	if !slices.Equal(p.Starts, []int32{0, 2, 4, 4, 4}) {
		t.Errorf("starts %v", p.Starts)
	}
}

func float64s(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// TestRouteGradients holds the weights, and the term of the balance, against
// plain loops.
func TestRouteGradients(t *testing.T) {
	const n, experts = 8, 5
	for _, r := range []Router{{K: 1}, {K: 1, Normalize: true}, {K: 3}, {K: 3, Normalize: true}, {K: 2, Normalize: true, Balance: 0.7}} {
		gradtest.Check(t, gradtest.Case{
			Name: fmt.Sprintf("%+v", r), Shapes: [][]int{{n, experts}}, NoSecond: true,
			Op: func(t *grad.Tape, in []*grad.Var) *grad.Var {
				aux := new(block.Auxiliary)
				gates, _ := Route(t, in[0], r, aux)
				weights := t.Input(random(2, n, r.K))
				return aux.Join(t, grad.Sum(t, grad.Mul(t, gates, weights)))
			},
			Ref: func(in [][]float64) []float64 {
				weights := random(2, n, r.K)
				var sum float64
				share, mean := make([]float64, experts), make([]float64, experts)
				for i := range n {
					chosen, g, probs := routed(in[0][i*experts:(i+1)*experts], r)
					for j, e := range chosen {
						sum += g[j] * float64(weights.Row(i)[j])
						share[e] += 1 / float64(n*r.K)
					}
					for e, p := range probs {
						mean[e] += p / n
					}
				}
				for e := range share {
					sum += r.Balance * experts * share[e] * mean[e]
				}
				return []float64{sum}
			},
		})
	}
}

// fixed is a plan for tokens that chose by fixed logits.
func fixed(t *grad.Tape, n, experts, k int) Plan {
	_, p := Route(t, t.Input(random(5, n, experts)), Router{K: k}, nil)
	return p
}

// times is x·wᵀ for the matrix of one expert.
func times(w []float64, out int, x []float64) []float64 {
	y := make([]float64, out)
	for o := range y {
		for i, v := range x {
			y[o] += w[o*len(x)+i] * v
		}
	}
	return y
}

func TestParallelLinear(t *testing.T) {
	const n, experts, k, in, out = 13, 5, 2, 6, 7
	for _, from := range []Layout{Grouped, Places, Tokens} {
		for _, to := range []Layout{Grouped, Places, Tokens} {
			if from == Tokens && to == Tokens {
				continue
			}
			shape := func(l Layout, d int) []int {
				return map[Layout][]int{Grouped: {n * k, d}, Places: {n, k * d}, Tokens: {n, d}}[l]
			}
			shapes := [][]int{shape(from, in), {experts, out, in}}
			if to == Tokens {
				shapes = append(shapes, []int{n, k}, []int{n, out})
			}
			gradtest.Check(t, gradtest.Case{
				Name: fmt.Sprintf("layout %d to %d", from, to), Shapes: shapes, NoSecond: true,
				Op: func(t *grad.Tape, v []*grad.Var) *grad.Var {
					p := fixed(t, n, experts, k)
					v = append(v, nil, nil)
					return ParallelLinear(t, v[0], v[1], &p, from, to, v[2], v[3])
				},
				Ref: func(v [][]float64) []float64 {
					p := fixed(grad.NewTape(new(memory.Arena)), n, experts, k)
					row := func(l Layout, place int) int {
						return map[Layout]int{Grouped: int(p.Row[place]), Places: place, Tokens: place / k}[l]
					}
					y := make([]float64, shape(to, out)[0]*shape(to, out)[1])
					if to == Tokens {
						copy(y, v[3])
					}
					for place := range n * k {
						x := v[0][row(from, place)*in:][:in]
						for o, s := range times(v[1][int(p.Expert[place])*in*out:], out, x) {
							if to == Tokens {
								s *= v[2][place]
							}
							y[row(to, place)*out+o] += s
						}
					}
					return y
				},
			})
		}
	}
}

// layerOf is an ffn over given values: router, up, down.
func layerOf(o *FFN, gated bool, v []*grad.Var) *ffn {
	return &ffn{
		router: router{block.Linear{Weight: &grad.Param{Var: v[0]}}, Router{K: o.K, Normalize: o.Normalize}, nil},
		up:     &grad.Param{Var: v[1]}, down: &grad.Param{Var: v[2]}, gated: gated, act: "gelu", dispatch: o.Dispatch,
	}
}

func silu(x float64) float64 { return x / (1 + math.Exp(-x)) }

// TestFFNEqualsALoopOverTokens holds the layer, value and all gradients, against
// a loop over tokens and their experts.
func TestFFNEqualsALoopOverTokens(t *testing.T) {
	const n, dim, hidden, experts = 11, 5, 6, 4
	for _, dispatch := range []string{"scatter", "dropless", "padded"} {
		for _, gated := range []bool{true, false} {
			for _, k := range []int{1, 3} {
				o := &FFN{Routing: Routing{Experts: experts, K: k, Normalize: true}, Dispatch: dispatch}
				up := hidden
				if gated {
					up = 2 * hidden
				}
				gradtest.Check(t, gradtest.Case{
					Name:   fmt.Sprintf("%s, gated %v, k %d", dispatch, gated, k),
					Shapes: [][]int{{n, dim}, {n, dim}, {experts, dim}, {experts, up, dim}, {experts, dim, hidden}}, NoSecond: true, Tol: 1e-5,
					Op: func(t *grad.Tape, v []*grad.Var) *grad.Var {
						// What is to be forgotten must be wanted, which it is in a model.
						x := grad.Add(t, v[0], grad.Leaf(tensor.New(n, dim)))
						return layerOf(o, gated, v[2:]).Forward(t, x, v[1])
					},
					Ref: func(v [][]float64) []float64 {
						y := slices.Clone(v[1])
						for i := range n {
							x := v[0][i*dim:][:dim]
							chosen, weights, _ := routed(times(v[2], experts, x), Router{K: k, Normalize: true})
							for j, e := range chosen {
								h := times(v[3][e*up*dim:][:up*dim], up, x)
								a := make([]float64, hidden)
								for c := range a {
									if a[c] = h[c] / 2 * (1 + math.Erf(h[c]/math.Sqrt2)); gated {
										a[c] = silu(h[c]) * h[hidden+c]
									}
								}
								for d, s := range times(v[4][e*dim*hidden:][:dim*hidden], dim, a) {
									y[i*dim+d] += weights[j] * s
								}
							}
						}
						return y
					},
				})
			}
		}
	}
}

// rotated is a head at a position, rotated as RoPE does.
func rotated(x []float64, position int) []float64 {
	y, half := make([]float64, len(x)), len(x)/2
	for i := range half {
		sin, cos := math.Sincos(float64(position) * math.Pow(100, -float64(2*i)/float64(len(x))))
		y[i], y[i+half] = x[i]*cos-x[i+half]*sin, x[i+half]*cos+x[i]*sin
	}
	return y
}

// TestAttentionEqualsALoopOverTokens does the same for the mixture of attention.
func TestAttentionEqualsALoopOverTokens(t *testing.T) {
	const n, length, dim, size, experts = 10, 5, 8, 4, 3
	for _, h := range []heads{{1, 2, 2, size}, {2, 1, 1, size}, {2, 2, 1, size}} {
		width := h.query * size
		rotary := grad.NewRotary(length, size, 100)
		gradtest.Check(t, gradtest.Case{
			Name:   fmt.Sprintf("%+v", h),
			Shapes: [][]int{{n, dim}, {n, dim}, {experts, dim}, {experts, width, dim}, {2 * h.kv * size, dim}, {experts, dim, width}},
			Low:    -1, High: 1, NoSecond: true, Tol: 1e-5,
			Op: func(t *grad.Tape, v []*grad.Var) *grad.Var {
				m := mixer{
					router: router{block.Linear{Weight: &grad.Param{Var: v[2]}}, Router{K: h.k, Normalize: true}, nil},
					query:  &grad.Param{Var: v[3]}, kv: block.Linear{Weight: &grad.Param{Var: v[4]}}, out: &grad.Param{Var: v[5]},
					heads: h, rotary: rotary,
				}
				x := grad.Add(t, v[0], grad.Leaf(tensor.New(n, dim)))
				return m.Forward(t, x, v[1], block.Segments{Length: length, Mask: attention.Causal{}})
			},
			Ref: func(v [][]float64) []float64 {
				y := slices.Clone(v[1])
				kv := make([][]float64, n)
				for i := range n {
					kv[i] = times(v[4], 2*h.kv*size, v[0][i*dim:][:dim])
				}
				for i := range n {
					x := v[0][i*dim:][:dim]
					chosen, weights, _ := routed(times(v[2], experts, x), Router{K: h.k, Normalize: true})
					for j, e := range chosen {
						q := times(v[3][e*width*dim:][:width*dim], width, x)
						var o []float64
						for head := range h.query {
							q := rotated(q[head*size:][:size], i%length)
							shared := head / (h.query / h.kv)
							var sum float64
							mix := make([]float64, size)
							for s := i - i%length; s <= i; s++ {
								var dot float64
								for c, k := range rotated(kv[s][shared*size:][:size], s%length) {
									dot += q[c] * k
								}
								w := math.Exp(dot / math.Sqrt(size))
								sum += w
								for c := range mix {
									mix[c] += w * kv[s][(h.kv+shared)*size+c]
								}
							}
							for _, m := range mix {
								o = append(o, m/sum)
							}
						}
						for d, s := range times(v[5][e*dim*width:][:dim*width], dim, o) {
							y[i*dim+d] += weights[j] * s
						}
					}
				}
				return y
			},
		})
	}
}

// bench is a layer of some size with inputs that need gradients.
type bench struct {
	ffn
	arena       *memory.Arena
	tape        *grad.Tape
	params      []*grad.Param
	x, residual *grad.Var
	cot         []float32
}

func newBench(t *testing.T, n int, o *FFN, s block.Shape) *bench {
	t.Helper()
	b := &bench{arena: new(memory.Arena)}
	params := &block.Params{Arena: b.arena}
	f, err := o.NewFFN(&block.Site{Shape: s, Params: params, Auxiliary: new(block.Auxiliary)})
	if err != nil {
		t.Fatal(err)
	}
	params.Init(4)
	b.ffn, b.params = *f.(*ffn), params.All
	b.tape = grad.NewTape(b.arena)
	b.x, b.residual = grad.Leaf(random(11, n, s.Dim)), grad.Leaf(random(12, n, s.Dim))
	b.cot = random(13, n, s.Dim).Data
	return b
}

// step is a forward and a backward pass; it returns the value.
func (b *bench) step() []float32 {
	for _, p := range b.params {
		p.ZeroGrad()
	}
	clear(b.x.Grad)
	clear(b.residual.Grad)
	y := b.Forward(b.tape, grad.Scale(b.tape, b.x, 1), b.residual)
	out := y.Data
	b.tape.SetGrad(y, b.cot)
	b.tape.BackwardFrom()
	b.tape.Reset()
	return out
}

func (b *bench) all() map[string][]float32 {
	m := map[string][]float32{"y": slices.Clone(b.step()), "x": slices.Clone(b.x.Grad), "residual": slices.Clone(b.residual.Grad)}
	for _, p := range b.params {
		m[p.Name] = slices.Clone(p.Grad)
	}
	return m
}

func apart(a, b []float32) float64 {
	var diff, size float64
	for i := range a {
		diff = max(diff, math.Abs(float64(a[i])-float64(b[i])))
		size = max(size, math.Abs(float64(b[i])))
	}
	return diff / max(size, 1e-30)
}

// TestDispatchesAgree compares them on batches of many rows, even and uneven:
// the router favours some experts, in the last case one that all tokens choose.
func TestDispatchesAgree(t *testing.T) {
	shape := block.Shape{Layers: 1, Heads: 1, KV: 1, Dim: 40, Hidden: 60, Ctx: 1, Gated: true}
	for _, favour := range []float32{0, 0.4, 40} {
		var want map[string][]float32
		for _, dispatch := range []string{"dropless", "padded", "scatter"} {
			o := &FFN{Routing: Routing{Experts: 6, K: 2, Normalize: true}, Dispatch: dispatch}
			b := newBench(t, 1100, o, shape)
			for i := range b.x.Rows() { // the last expert sees the same thing in all tokens
				b.x.Row(i)[0] = 1
			}
			for e := range 6 {
				b.router.Linear.Weight.Row(e)[0] += favour * float32(e)
			}
			got := b.all()
			for name, w := range want {
				if d := apart(got[name], w); !(d <= 1e-5) {
					t.Errorf("favour %g, %s: %s is off by %.1e", favour, dispatch, name, d)
				}
			}
			want = got
		}
	}
}

func TestDeterministicAndWithoutAllocation(t *testing.T) {
	shape := block.Shape{Layers: 1, Heads: 1, KV: 1, Dim: 40, Hidden: 60, Ctx: 1, Gated: true}
	for _, dispatch := range []string{"scatter", "dropless", "padded"} {
		b := newBench(t, 1100, &FFN{Routing: Routing{Experts: 6, K: 2, Normalize: true, Balance: 0.1}, Dispatch: dispatch}, shape)
		old := runtime.GOMAXPROCS(1)
		one := b.all()
		runtime.GOMAXPROCS(4)
		for name, got := range b.all() {
			if !slices.Equal(got, one[name]) {
				t.Errorf("%s: %s depends on the number of threads", dispatch, name)
			}
		}
		runtime.GOMAXPROCS(2)
		if a := testing.AllocsPerRun(10, func() { b.step() }); a > 0 {
			t.Errorf("%s: %.1f allocations in a step", dispatch, a)
		}
		runtime.GOMAXPROCS(old)
	}
}

// TestNoSortedCopyIsKept counts what the forward pass leaves for the backward
// pass, and the peak of both beside that of copies.
func TestNoSortedCopyIsKept(t *testing.T) {
	const n, k, dim, hidden, experts = 512, 4, 128, 64, 16
	shape := block.Shape{Layers: 1, Heads: 1, KV: 1, Dim: dim, Hidden: k * hidden, Ctx: 1, Gated: true}
	peak := map[string]int64{}
	for _, dispatch := range []string{"dropless", "scatter"} {
		b := newBench(t, n, &FFN{Routing: Routing{Experts: experts, K: k, Normalize: true}, Dispatch: dispatch}, shape)
		x := grad.Scale(b.tape, b.x, 1)
		before := b.arena.Usage().Live[memory.Activations]
		b.Forward(b.tape, x, b.residual)
		kept := (b.arena.Usage().Live[memory.Activations] - before) / 4
		b.tape.Reset()
		round := func(n int) int64 { return int64(n+15) / 16 * 16 }
		// Logits and probabilities, plan, weights, H and the result.
		want := 2*round(n*experts) + round(experts+1+4*n*k) + round(n*k) + round(2*n*k*hidden) + round(n*dim)
		if dispatch == "dropless" {
			want += 2 * round(n*k*dim) // the rows that go in and those that come out
		}
		if kept != want {
			t.Errorf("%s keeps %d floats for the backward pass, want %d", dispatch, kept, want)
		}
		b.step()
		b.arena.ResetPeak()
		memory.Default.ResetPeak()
		still := b.arena.Usage().LiveTotal
		b.step()
		peak[dispatch] = b.arena.Usage().PeakTotal - still + memory.Default.Usage().PeakTotal - memory.Default.Usage().LiveTotal
	}
	if ratio := float64(peak["scatter"]) / float64(peak["dropless"]); ratio > 0.75 {
		t.Errorf("the peak is %.2f of that with copies (%d and %d bytes)", ratio, peak["scatter"], peak["dropless"])
	}
}

func TestExpertsInBF16(t *testing.T) {
	const n, experts, k, dim = 200, 5, 2, 24
	run := func(policy precision.Policy) [][]float32 {
		tape := grad.NewTape(new(memory.Arena))
		tape.Policy = policy
		p := fixed(tape, n, experts, k)
		x, w, gates := grad.Leaf(random(21, n, k*dim)), grad.Leaf(random(22, experts, dim, dim)), grad.Leaf(random(23, n, k))
		y := ParallelLinear(tape, x, w, &p, Places, Tokens, gates, nil)
		out := [][]float32{slices.Clone(y.Data), x.Grad, w.Grad, gates.Grad}
		tape.SetGrad(y, random(24, n, dim).Data)
		tape.BackwardFrom()
		return out
	}
	want := run(precision.F32{})
	for i, got := range run(&precision.BF16{}) {
		if d := apart(got, want[i]); !(d < 0.01) || d == 0 {
			t.Errorf("value %d in bf16 is off by %.1e", i, d)
		}
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	s := &block.Site{Shape: block.Shape{Layers: 1, Heads: 4, KV: 2, Dim: 8, Hidden: 8, Ctx: 4}, Params: new(block.Params)}
	for _, c := range []struct {
		experts, k int
		mixes      bool
	}{{3, 4, false}, {8, 4, false}, {8, 3, false}, {8, 2, true}, {8, 1, true}} {
		o := NewAttention()
		o.Experts, o.K = c.experts, c.k
		if _, err := o.NewMixer(s); (err == nil) != c.mixes {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := (&FFN{Routing: Routing{Experts: 2, K: 3}}).NewFFN(s); err == nil {
		t.Error("3 of 2 experts")
	}
}
