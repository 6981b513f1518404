package compact

import (
	"fmt"
	"math"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/tensor"
	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/model/attention"
	"hasten/model/block"
	"hasten/model/moe"
)

// ScatterMoE is paper 142.
func (Papers) ScatterMoE() experiment.Paper {
	return experiment.Paper{
		Card: card.Card{
			Number: 142, Slug: "scattermoe", Title: "Scattered Mixture-of-Experts Implementation", Stage: "model", Tasks: []string{"lm"},
			Summary: `
Dropless expert layers usually copy the tokens into expert order, pad the copy to whole blocks, multiply, and
copy back. Here one primitive does an expert-wise linear map straight from an index list: its tile loads
gather rows from where they lie and its stores scatter results to where they belong, so that only indices are
padded and no sorted copy of the input exists. The gate-weighted sum is part of the second product, and the
backward pass uses the same primitive. With scattered input and output it also routes attention heads. It
should pay with many small experts and several experts per token, where copies weigh most.`,
			Use: "--set ffn=moe --set ffn.experts=8 --set ffn.k=2 (ffn.dispatch=scatter is the default); --set mixer=moa --set mixer.experts=8 --set mixer.k=2",
			Limits: `
Copies cost in proportion to a row, products to a row times the width of an expert: with wide experts there is
little to gain. Rows are found in the products' tiles with AVX-512 in float32; elsewhere, and in bf16, a task
lays its rows out in a small buffer first. Precision policies other than f32 and bf16 leave experts in
float32. Experts have no biases. Such a model cannot be exported to other programs.`,
			Headline: "step of a layer, E=32, k=4, experts of 128: dropless, scatter",
			Claims: []card.Claim{
				{What: "training throughput, against MegaBlocks", Figure: "about 38% more", Ratio: 1.38},
				{What: "training memory, against MegaBlocks", Figure: "about 66%", Ratio: 1.52},
			},
		},
		Code: []string{"model/moe/scatter.go", "model/moe/plan.go", "model/moe/ffn.go", "model/moe/attention.go", "engine/matmul/scattered.go", "engine/simd/gather.go"},
		Breaks: []experiment.Break{
			{ // the sum over a token's experts is not weighted
				File: "model/moe/scatter.go", Old: "s.Weights, s.Weight = gates.Data, p.Order", New: "_ = gates.Data",
				Test: "./model/moe -run TestParallelLinear",
			},
			{ // the gates learn nothing
				File: "model/moe/scatter.go", Old: "a.dgates[place] += simd.Dot(v, row(&a.x, r, a.d))", New: "_ = place",
				Test: "./model/moe -run TestFFNEqualsALoopOverTokens",
			},
			{ // tokens are found in the order of the experts
				File: "model/moe/scatter.go", Old: "r.Index = p.Token", New: "r.Index = p.Order",
				Test: "./model/moe -run TestParallelLinear",
			},
			{ // the rows of a group's last tile belong to the next group
				File: "engine/matmul/scattered.go", Old: "row := r + min(i, n-1)", New: "row := r",
				Test: "./engine/matmul -run TestScatteredMatchesPlainLoops",
			},
		},
		Run: scatterMoE,
	}
}

func scatterMoE(r *experiment.Run) error {
	if err := moeExact(r); err != nil {
		return err
	}
	if err := moaExact(r); err != nil {
		return err
	}
	tokens, dim, hidden, pairs := 2048, 512, 512, 9
	sweep := []moeSize{{8, 1}, {8, 2}, {8, 4}, {32, 1}, {32, 2}, {32, 4}, {32, 8}, {64, 4}}
	if r.Quick {
		pairs, sweep = 5, []moeSize{{8, 2}, {32, 4}}
	}
	if err := moeMemory(r, tokens, dim, hidden); err != nil {
		return err
	}
	for _, c := range sweep {
		r.Progress("E=%d, k=%d", c.experts, c.k)
		if err := r.Context.Err(); err != nil {
			return err
		}
		t, err := moeTimes(r, tokens, dim, hidden, c, pairs)
		if err != nil {
			return err
		}
		bar := experiment.SpeedupAtLeast(0.95)
		if c.experts == 32 && c.k == 4 {
			bar = experiment.SpeedupAtLeast(1.1)
		}
		name := fmt.Sprintf("step of a layer, E=%d, k=%d, experts of %d: dropless, scatter", c.experts, c.k, hidden/c.k)
		r.Ratio(name, "s", t["dropless"], t["scatter"], bar)
		r.Print(fmt.Sprintf("E=%d, k=%d: padded, scatter", c.experts, c.k), "s", t["padded"], t["scatter"])
	}
	if !r.Quick {
		usual := (8*dim/3 + 63) / 64 * 64
		t, err := moeTimes(r, tokens, dim, usual, moeSize{32, 4}, pairs)
		if err != nil {
			return err
		}
		r.Print(fmt.Sprintf("E=32, k=4, experts of %d, as wide together as the dense layer: dropless, scatter", usual/4), "s", t["dropless"], t["scatter"])
	}
	r.Note("%d tokens, D %d; the width of an expert is %d/k, so that the active arithmetic is the same throughout. All arms multiply by the same kernels, on the same plans.", tokens, dim, hidden)
	r.Note("Dropless dispatch here pads nothing; MegaBlocks pads the rows of every expert to whole blocks. It is the stronger baseline.")
	return nil
}

// moeSize is a number of experts, and of those that a token passes.
type moeSize struct{ experts, k int }

// moeArm is a layer by itself: experts with a dispatch, on random tokens.
type moeArm struct {
	layer       block.FFN
	params      []*grad.Param
	arena       *memory.Arena
	tape        *grad.Tape
	x, residual *grad.Var
	cot         []float32 // the loss is Σ cot·y
	y           []float32 // of the last step
}

func newMoEArm(o *moe.FFN, tokens, dim, hidden int) (*moeArm, error) {
	a := &moeArm{arena: new(memory.Arena)}
	p := &block.Params{Arena: a.arena}
	shape := block.Shape{Layers: 1, Heads: 1, KV: 1, Dim: dim, Hidden: hidden, Ctx: 1, Gated: true}
	var err error
	if a.layer, err = o.NewFFN(&block.Site{Shape: shape, Params: p, Auxiliary: new(block.Auxiliary)}); err != nil {
		return nil, err
	}
	p.Init(1)
	a.params, a.tape = p.All, grad.NewTape(a.arena)
	a.x, a.residual = leaf(1, tokens, dim), leaf(2, tokens, dim)
	a.cot = normal(3, tokens*dim)
	return a, nil
}

// leaf is a value of normal numbers whose gradient is wanted.
func leaf(id uint64, rows, cols int) *grad.Var {
	return grad.Leaf(tensor.From(normal(id, rows*cols), rows, cols))
}

func routing(experts, k int) moe.Routing {
	return moe.Routing{Experts: experts, K: k, Normalize: true}
}

// forward is the forward pass.
func (a *moeArm) forward() *grad.Var { return a.layer.Forward(a.tape, a.x, a.residual) }

// step is a forward and a backward pass.
func (a *moeArm) step() {
	for _, p := range a.params {
		p.ZeroGrad()
	}
	clear(a.x.Grad)
	clear(a.residual.Grad)
	y := a.forward()
	a.y = append(a.y[:0], y.Data...)
	a.tape.SetGrad(y, a.cot)
	a.tape.BackwardFrom()
	a.tape.Reset()
}

// moeTimes times a step with each dispatch.
func moeTimes(r *experiment.Run, tokens, dim, hidden int, c moeSize, pairs int) (map[string][]float64, error) {
	names := []string{"dropless", "scatter", "padded"}
	var arms []func()
	for _, name := range names {
		a, err := newMoEArm(&moe.FFN{Routing: routing(c.experts, c.k), Dispatch: name}, tokens, dim, hidden)
		if err != nil {
			return nil, err
		}
		arms = append(arms, a.step)
	}
	times := map[string][]float64{}
	for i, t := range r.Pairs(pairs, arms...) {
		times[names[i]] = t
	}
	return times, nil
}

// moeMemory reads from the arenas what a layer keeps and what it takes.
func moeMemory(r *experiment.Run, tokens, dim, hidden int) error {
	const experts, k = 32, 4
	kept, peak := map[string]float64{}, map[string]float64{}
	for _, name := range []string{"dropless", "scatter"} {
		a, err := newMoEArm(&moe.FFN{Routing: routing(experts, k), Dispatch: name}, tokens, dim, hidden)
		if err != nil {
			return err
		}
		a.step()
		before := a.arena.Usage()
		a.forward()
		kept[name] = float64(a.arena.Usage().Live[memory.Activations]-before.Live[memory.Activations]) / 4
		a.tape.Reset()
		a.arena.ResetPeak()
		memory.Default.ResetPeak()
		workspace := memory.Default.Usage().LiveTotal
		a.step()
		peak[name] = float64(a.arena.Usage().PeakTotal - before.LiveTotal + memory.Default.Usage().PeakTotal - workspace)
	}
	// The logits and probabilities, the plan with its weights, H and the result.
	need := tokens*(2*experts+5*k+2*hidden+dim) + (experts+1+15)/16*16
	r.Exact("floats kept for the backward pass beyond logits, probabilities, plan, H and result", kept["scatter"]-float64(need), experiment.Equals(0))
	r.Exact("peak of the layer's bytes, of those of dropless dispatch (E=32, k=4)", peak["scatter"]/peak["dropless"], experiment.AtMost(0.75))
	r.Print("peak of the layer: dropless, scatter (E=32, k=4)", "MB", []float64{peak["dropless"] / 1e6}, []float64{peak["scatter"] / 1e6})
	return nil
}

// moeExact compares a layer, and its gradients, with a loop over the tokens.
func moeExact(r *experiment.Run) error {
	const tokens, dim, hidden, experts, k = 300, 40, 48, 8, 3
	a, err := newMoEArm(&moe.FFN{Routing: routing(experts, k), Hidden: hidden, Dispatch: "scatter"}, tokens, dim, hidden)
	if err != nil {
		return err
	}
	for _, p := range a.params { // away from the small weights of a fresh model
		for i := range p.Data {
			p.Data[i] *= 10
		}
	}
	a.step()
	l := moeLoop{dim: dim, hidden: hidden, experts: experts, k: k,
		router: doubled(a.params[0].Data), up: doubled(a.params[1].Data), down: doubled(a.params[2].Data)}
	l.dRouter, l.dUp, l.dDown = make([]float64, len(l.router)), make([]float64, len(l.up)), make([]float64, len(l.down))
	y, dx := doubled(a.residual.Data), make([]float64, tokens*dim)
	for t := range tokens {
		l.token(doubled(a.x.Row(t)), doubled(a.cot[t*dim:(t+1)*dim]), y[t*dim:(t+1)*dim], dx[t*dim:(t+1)*dim])
	}
	worst := 0.0
	for _, c := range []struct {
		got  []float32
		want []float64
	}{{a.x.Grad, dx}, {a.residual.Grad, doubled(a.cot)}, {a.params[0].Grad, l.dRouter}, {a.params[1].Grad, l.dUp}, {a.params[2].Grad, l.dDown}} {
		worst = max(worst, off(c.got, c.want))
	}
	r.Exact("output: difference from a loop over tokens in float64, of the largest", off(a.y, y), experiment.AtMost(1e-5))
	r.Exact("gradients of tokens, residual, router and both matrices: likewise", worst, experiment.AtMost(1e-5))
	return nil
}

func doubled(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// off is the largest difference, as a part of the largest value.
func off(got []float32, want []float64) float64 {
	var diff, size float64
	for i, w := range want {
		diff, size = max(diff, math.Abs(float64(got[i])-w)), max(size, math.Abs(w))
	}
	return diff / size
}

// moeLoop computes experts token by token, with their gradients worked out by
// hand.
type moeLoop struct {
	dim, hidden, experts, k int
	router, up, down        []float64 // [E, dim], [E, 2·hidden, dim], [E, dim, hidden]
	dRouter, dUp, dDown     []float64
}

// choose gives the k experts of the largest logits, their weights, which sum to
// 1, the probabilities of all, and the share of the chosen in those.
func choose(router, x []float64, experts, k int) (chosen []int, weights, probs []float64, share float64) {
	probs = apply(router, experts, x)
	var sum float64
	for i, l := range probs {
		probs[i] = math.Exp(l)
		sum += probs[i]
	}
	for i := range probs {
		probs[i] /= sum
	}
	taken := make([]bool, experts)
	for range k {
		best := -1
		for e, p := range probs {
			if !taken[e] && (best < 0 || p > probs[best]) {
				best = e
			}
		}
		taken[best] = true
		chosen = append(chosen, best)
		share += probs[best]
	}
	for _, e := range chosen {
		weights = append(weights, probs[e]/share)
	}
	return chosen, weights, probs, share
}

// apply is w·x for w [rows, len(x)].
func apply(w []float64, rows int, x []float64) []float64 {
	y := make([]float64, rows)
	for i := range y {
		for j, v := range x {
			y[i] += w[i*len(x)+j] * v
		}
	}
	return y
}

// applyBack adds wᵀ·dy to dx and dy·xᵀ to dw.
func applyBack(w, dw, x, dx, dy []float64) {
	for i, d := range dy {
		for j, v := range x {
			dw[i*len(x)+j] += d * v
			dx[j] += d * w[i*len(x)+j]
		}
	}
}

func (l *moeLoop) token(x, dy, y, dx []float64) {
	chosen, weights, probs, share := choose(l.router, x, l.experts, l.k)
	dWeights := make([]float64, l.k)
	for j, e := range chosen {
		up := l.up[e*2*l.hidden*l.dim:][:2*l.hidden*l.dim]
		down := l.down[e*l.dim*l.hidden:][:l.dim*l.hidden]
		h := apply(up, 2*l.hidden, x)
		a := make([]float64, l.hidden)
		for i := range a {
			a[i] = h[i] / (1 + math.Exp(-h[i])) * h[l.hidden+i]
		}
		weighted := make([]float64, l.dim)
		for i, o := range apply(down, l.dim, a) {
			y[i] += weights[j] * o
			dWeights[j] += dy[i] * o
			weighted[i] = weights[j] * dy[i]
		}
		da, dh := make([]float64, l.hidden), make([]float64, 2*l.hidden)
		applyBack(down, l.dDown[e*l.dim*l.hidden:], a, da, weighted)
		for i, d := range da {
			s := 1 / (1 + math.Exp(-h[i]))
			dh[i] = d * h[l.hidden+i] * (s + h[i]*s*(1-s))
			dh[l.hidden+i] = d * h[i] * s
		}
		applyBack(up, l.dUp[e*2*l.hidden*l.dim:], x, dx, dh)
	}
	var mean float64
	for j, d := range dWeights {
		mean += d * weights[j]
	}
	dProbs := make([]float64, l.experts)
	for j, e := range chosen {
		dProbs[e] = (dWeights[j] - mean) / share
	}
	var all float64
	for e, d := range dProbs {
		all += d * probs[e]
	}
	dLogits := make([]float64, l.experts)
	for e, d := range dProbs {
		dLogits[e] = probs[e] * (d - all)
	}
	applyBack(l.router, l.dRouter, x, dx, dLogits)
}

// moaExact compares the mixture of attention with loops over tokens: its values,
// and its derivatives along a direction for each of its inputs with differences
// of the loops.
func moaExact(r *experiment.Run) error {
	const tokens, length, dim, heads, experts, k = 24, 12, 32, 4, 6, 2
	arena := new(memory.Arena)
	p := &block.Params{Arena: arena}
	part := &moe.Attention{Routing: routing(experts, k)}
	m, err := part.NewMixer(&block.Site{Shape: block.Shape{Layers: 1, Heads: heads, KV: heads, Dim: dim, Ctx: length}, Params: p, Auxiliary: new(block.Auxiliary)})
	if err != nil {
		return err
	}
	p.Init(2)
	in := [][]float64{doubled(normal(11, tokens*dim))}
	for _, w := range p.All {
		for i := range w.Data {
			w.Data[i] *= 10
		}
		in = append(in, doubled(w.Data))
	}
	x, residual, cot := leaf(11, tokens, dim), grad.Leaf(tensor.New(tokens, dim)), normal(12, tokens*dim)
	tape := grad.NewTape(arena)
	y := m.Forward(tape, x, residual, block.Segments{Length: length, Mask: attention.Causal{}})
	loop := moaLoop{dim: dim, length: length, heads: heads / k, experts: experts, k: k}
	r.Exact("mixture of attention: difference from a loop over tokens in float64, of the largest", off(y.Data, loop.values(in)), experiment.AtMost(1e-5))
	tape.SetGrad(y, cot)
	tape.BackwardFrom()
	tape.Reset()
	worst := 0.0
	for i, g := range [][]float32{x.Grad, p.All[0].Grad, p.All[1].Grad, p.All[2].Grad, p.All[3].Grad} {
		direction := doubled(normal(20+uint64(i), len(g)))
		var along, size float64
		for j, d := range direction {
			along += float64(g[j]) * d
			size += math.Abs(float64(g[j]) * d)
		}
		worst = max(worst, math.Abs(along-loop.along(in, i, direction, cot))/size)
	}
	r.Exact("mixture of attention: derivatives of all inputs along a direction, likewise", worst, experiment.AtMost(1e-5))
	return nil
}

// moaLoop computes a mixture of attention token by token.
type moaLoop struct{ dim, length, heads, experts, k int }

// along differences Σ cot·y along a direction of input i, to fourth order.
func (l *moaLoop) along(in [][]float64, i int, direction []float64, cot []float32) float64 {
	at := func(h float64) float64 {
		moved := append([][]float64(nil), in...)
		moved[i] = make([]float64, len(direction))
		for j, d := range direction {
			moved[i][j] = in[i][j] + h*d
		}
		var sum float64
		for j, v := range l.values(moved) {
			sum += float64(cot[j]) * v
		}
		return sum
	}
	const h = 1e-4
	return (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
}

// values is y. in: tokens, router, query, keys and values, output.
func (l *moaLoop) values(in [][]float64) []float64 {
	x, router, query, kv, out := in[0], in[1], in[2], in[3], in[4]
	size := l.dim / (l.heads * l.k)
	width := l.heads * size // of an expert, and of the shared keys
	n := len(x) / l.dim
	y := make([]float64, len(x))
	shared := make([][]float64, n)
	for t := range n {
		shared[t] = apply(kv, 2*width, x[t*l.dim:(t+1)*l.dim])
	}
	for t := range n {
		token := x[t*l.dim : (t+1)*l.dim]
		chosen, weights, _, _ := choose(router, token, l.experts, l.k)
		for j, e := range chosen {
			q := apply(query[e*width*l.dim:][:width*l.dim], width, token)
			o := make([]float64, width)
			for head := range l.heads {
				at := head * size
				var sum float64
				for s := t - t%l.length; s <= t; s++ {
					var dot float64
					for c := range size {
						dot += q[at+c] * shared[s][at+c]
					}
					w := math.Exp(dot / math.Sqrt(float64(size)))
					sum += w
					for c := range size {
						o[at+c] += w * shared[s][width+at+c]
					}
				}
				for c := range size {
					o[at+c] /= sum
				}
			}
			for i, v := range apply(out[e*l.dim*width:][:l.dim*width], l.dim, o) {
				y[t*l.dim+i] += weights[j] * v
			}
		}
	}
	return y
}
