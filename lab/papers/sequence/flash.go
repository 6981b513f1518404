package sequence

import (
	"fmt"
	"math"

	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/rng"
	"hasten/engine/simd"
	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/model/attention"
)

// FlashAttention is paper 116.
func (Papers) FlashAttention() experiment.Paper {
	return experiment.Paper{
		Card: card.Card{
			Number: 116, Slug: "flash-attention", Title: "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", Stage: "kernel", Tasks: []string{"lm", "vision", "series"},
			Summary: `Attention over S tokens usually writes its S×S matrix of weights to memory and reads it back, several times. Here keys
and values come in blocks that fit the fast memory of a core, queries pass over each block in tiles, and every query carries
along the largest score and the sum of exponentials it has met, by which what it gathered is rescaled. The backward pass
computes the weights again from these. The result is exact, memory grows with S and not with its square, and the traffic
between slow and fast memory falls with the size of the latter. Blocks that a fixed sparse pattern leaves out are skipped.`,
			Use: "--set mixer=flash, or mixer=flash-block for the block-sparse form",
			Limits: `For short sequences the matrix of weights fits in a core's cache and little is gained. The order with queries outside,
of FlashAttention-2 and the default here, moves less and is easier to spread over cores. The butterfly is another model: its
tokens see fewer of those before them.`,
			Headline: "S 4096: forward and backward",
			Claims: []card.Claim{
				{What: "training time, GPT-2 against Hugging Face's", Figure: "3×", Ratio: 3},
				{What: "training time, BERT-large", Figure: "15% less", Ratio: 1.15},
				{What: "training time, long-range arena", Figure: "2.4×", Ratio: 2.4},
				{What: "memory", Figure: "linear in the length"},
			},
		},
		Code: []string{"model/attention/flash.go", "model/attention/dropout.go"},
		Breaks: []experiment.Break{
			{ // what was gathered before a new maximum is not rescaled
				File: "model/attention/forward.go", Old: "w.s, w.corr)\n\t\tst.tile", New: "w.s, nil)\n\t\tst.tile",
				Test: "./model/attention -run TestFlashMatchesTheWholeMatrix",
			},
			{ // every key block begins anew
				File: "model/attention/backward.go", Old: "add || k0 > first", New: "add",
				Test: "./model/attention -run TestFlashMatchesTheWholeMatrix",
			},
			{File: "model/attention/dropout.go", Old: "u < drop", New: "u <= drop/2", Test: "./model/attention -run TestDropout"},
		},
		Run: flashAttention,
	}
}

func flashAttention(r *experiment.Run) error {
	const d = 64
	flashExact(r)
	flashMemory(r, d)
	flashTraffic(r, d)
	lengths, repeats := []int{512, 2048, 4096, 8192}, 7
	if r.Quick {
		lengths, repeats = []int{512, 4096}, 3
	}
	for _, s := range lengths {
		r.Progress("timing at %d positions", s)
		p := newAttend(s, d)
		base, ours := r.Pair(repeats, p.materialised.forward, p.flashForward)
		both, oursBoth := r.Pair(repeats, func() { p.materialised.forward(); p.materialised.backward() }, func() { p.flashForward(); p.flashBackward() })
		name := fmt.Sprintf("S %d: forward", s)
		if s >= 4096 {
			r.Ratio(name, "s", base, ours, experiment.SpeedupAtLeast(1.1))
			r.Ratio(name+" and backward", "s", both, oursBoth, experiment.SpeedupAtLeast(1))
		} else {
			r.Print(name, "s", base, ours)
			r.Print(name+" and backward", "s", both, oursBoth)
		}
		if s == 4096 {
			flashSparse(r, p, repeats)
			order, _ := r.Pair(repeats, func() { attention.Forward(p.args, p.o, p.lse) }, p.flashForward)
			r.Print("S 4096: forward, queries outside (the default), beside materialised", "s", base, order)
		}
		if err := r.Context.Err(); err != nil {
			return err
		}
	}
	return nil
}

// attend is one head of attention over S positions, by both methods.
type attend struct {
	s, d         int
	q, k, v, do  []float32
	o            attention.View
	lse          []float32
	args         attention.Args
	grads        attention.Grads
	flash        attention.Flash
	materialised *wholeMatrix
}

func newAttend(s, d int) *attend {
	p := &attend{s: s, d: d, q: make([]float32, s*d), k: make([]float32, s*d), v: make([]float32, s*d), do: make([]float32, s*d), lse: make([]float32, s)}
	for i, x := range [][]float32{p.q, p.k, p.v, p.do} {
		g := rng.New(116, uint64(i))
		g.FillNormal(x, 0, 1)
	}
	view := func(x []float32) attention.View { return attention.View{Data: x, Row: d} }
	fresh := func() attention.View { return view(make([]float32, s*d)) }
	p.o = fresh()
	p.args = attention.Args{Batch: 1, Queries: s, Keys: s, Heads: 1, KVHeads: 1, Dim: d, Q: view(p.q), K: view(p.k), V: view(p.v)}
	p.grads = attention.Grads{O: p.o, LSE: p.lse, DO: view(p.do), DQ: fresh(), DK: fresh(), DV: fresh()}
	p.materialised = newWholeMatrix(p)
	return p
}

func (p *attend) flashForward()  { p.flash.Forward(p.args, p.o, p.lse) }
func (p *attend) flashBackward() { p.flash.Backward(p.args, p.grads) }

// wholeMatrix is the baseline: product, softmax in place, product, with the
// engine's own kernels.
type wholeMatrix struct {
	*attend
	o, dq, dk, dv []float32
	p, dp         []float32 // [s, s]; dp comes with the first backward pass
}

func newWholeMatrix(a *attend) *wholeMatrix {
	n := a.s * a.d
	return &wholeMatrix{attend: a, o: make([]float32, n), dq: make([]float32, n), dk: make([]float32, n), dv: make([]float32, n), p: make([]float32, a.s*a.s)}
}

const softmaxRows = 16

var softmaxLoop, softmaxBackLoop par.Loop[*wholeMatrix]

func (w *wholeMatrix) forward() {
	s, d := w.s, w.d
	matmul.Mul(matmul.Args{M: s, N: s, K: d, A: w.q, B: w.k, TransB: true, C: w.p, Alpha: float32(1 / math.Sqrt(float64(d)))})
	softmaxLoop.Run(par.Pieces(s, softmaxRows), w, func(w **wholeMatrix, i int) {
		lo, hi := par.Bounds(i, softmaxRows, (*w).s)
		for r := lo; r < hi; r++ {
			row := (*w).p[r*(*w).s : (r+1)*(*w).s]
			simd.SoftmaxRow(row, row)
		}
	})
	matmul.Mul(matmul.Args{M: s, N: d, K: s, A: w.p, B: w.v, C: w.o})
}

func (w *wholeMatrix) backward() {
	s, d := w.s, w.d
	if w.dp == nil {
		w.dp = make([]float32, s*s)
	}
	matmul.Mul(matmul.Args{M: s, N: d, K: s, A: w.p, TransA: true, B: w.do, C: w.dv})
	matmul.Mul(matmul.Args{M: s, N: s, K: d, A: w.do, B: w.v, TransB: true, C: w.dp})
	softmaxBackLoop.Run(par.Pieces(s, softmaxRows), w, func(w **wholeMatrix, i int) {
		lo, hi := par.Bounds(i, softmaxRows, (*w).s)
		for r := lo; r < hi; r++ {
			p, dp := (*w).p[r*(*w).s:(r+1)*(*w).s], (*w).dp[r*(*w).s:(r+1)*(*w).s]
			simd.SoftmaxRowBackward(dp, p, dp)
		}
	})
	scale := float32(1 / math.Sqrt(float64(d)))
	matmul.Mul(matmul.Args{M: s, N: d, K: s, A: w.dp, B: w.k, C: w.dq, Alpha: scale})
	matmul.Mul(matmul.Args{M: s, N: d, K: s, A: w.dp, TransA: true, B: w.q, C: w.dk, Alpha: scale})
}

// flashSparse times the butterfly against its share of the tiles.
func flashSparse(r *experiment.Run, p *attend, repeats int) {
	sparse := p.args
	sparse.Mask = attention.Butterfly{Block: 256}
	var all, some attention.Stats
	counted := p.args
	counted.Stats = &all
	p.flash.Forward(counted, p.o, p.lse)
	counted = sparse
	counted.Stats = &some
	p.flash.Forward(counted, p.o, p.lse)
	fraction := float64(some.Tiles) / float64(all.Tiles)
	full, block := r.Pair(repeats, p.flashForward, func() { p.flash.Forward(sparse, p.o, p.lse) })
	r.Print("S 4096: forward over the butterfly, against all blocks", "s", full, block)
	over := make([]float64, len(full))
	for i := range full {
		over[i] = block[i] / full[i] / fraction
	}
	r.Rate(fmt.Sprintf("time of the butterfly over its %.1f%% of the tiles", 100*fraction), "×", over, experiment.AtMost(1.2))
}

// flashMemory reads from the arena what attention takes beyond its inputs,
// outputs and their gradients.
func flashMemory(r *experiment.Run, d int) {
	extra := func(s int) float64 {
		p := newAttend(s, d)
		memory.Default.ResetPeak()
		before := memory.Default.Usage().LiveTotal
		p.flashForward()
		p.flashBackward()
		return float64(memory.Default.Usage().PeakTotal-before) + 4*float64(len(p.lse))
	}
	at2, at4 := extra(2048), extra(4096)
	r.Exact("S 4096: bytes beyond inputs and outputs, over those of the whole matrix and its gradient", at4/(2*4*4096*4096), experiment.AtMost(1.0/20))
	r.Exact("those bytes at S 4096 over those at S 2048", at4/at2, experiment.AtMost(2.01))
}

// flashTraffic counts the bytes that pass between slow and fast memory.
func flashTraffic(r *experiment.Run, d int) {
	const s = 4096
	p := newAttend(s, d)
	bytes := func(m int) float64 {
		var st attention.Stats
		a := p.args
		a.Stats = &st
		a.Queries = attention.Tile // one tile, so that keys are read once for each
		attention.Flash{Cache: m}.Forward(a, p.o, nil)
		return float64(st.Bytes) - 8*s*float64(d) // without keys and values, which are read once
	}
	const m = 4 * 4 * 64 * 64 // one tile of keys
	r.Exact("traffic of queries and outputs with fast memory M over that with 2M", bytes(m)/bytes(2*m), experiment.Equals(2))
	r.Exact("the same with M over 16M", bytes(m)/bytes(16*m), experiment.Equals(16))
}

// flashExact compares with the whole matrix in float64: an odd length, a causal
// mask over documents, several blocks of keys; and once more with dropout.
func flashExact(r *experiment.Run) {
	const s, d = 197, 20
	p := newAttend(s, d)
	documents := make([]int32, s)
	for i := range documents {
		documents[i] = int32(i / 71)
	}
	mask, err := attention.NewDocuments(s, documents)
	if err != nil {
		panic(err)
	}
	p.args.Mask = attention.And(attention.Causal{}, mask)
	p.flash.Cache = 4 * 4 * d * 64
	p.flashForward()
	p.flashBackward()
	o, dq, dk, dv := p.naive(func(q, k int) bool { return k <= q && documents[k] == documents[q] })
	worst := 0.0
	for _, pair := range []struct {
		got  []float32
		want []float64
	}{{p.o.Data, o}, {p.grads.DQ.Data, dq}, {p.grads.DK.Data, dk}, {p.grads.DV.Data, dv}} {
		worst = max(worst, farthest(pair.got, pair.want))
	}
	r.Exact("o, dq, dk, dv: difference from float64, S 197, causal within documents", worst, experiment.AtMost(1e-4))

	// Dropout: a value of ones gives the share that is kept, and the gradient of
	// the values says which: both passes must have dropped the same weights.
	p.args.Mask = attention.Causal{}
	p.args.Dropout = attention.Dropout{P: 0.3, Stream: rng.New(1, 116)}
	for i := range p.v {
		p.v[i], p.do[i] = 1, 1
	}
	p.flashForward()
	p.flashBackward()
	var kept, back float64
	for i := range s {
		kept += float64(p.o.Data[i*d])
		back += float64(p.grads.DV.Data[i*d])
	}
	r.Exact("dropout: sum of outputs over sum of value gradients, of ones, less 1", math.Abs(kept/back-1), experiment.AtMost(1e-4))
}

// naive is attention with the whole matrix in float64.
func (p *attend) naive(sees func(q, k int) bool) (o, dq, dk, dv []float64) {
	s, d := p.s, p.d
	n := s * d
	o, dq, dk, dv = make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	w, dw := make([]float64, s), make([]float64, s)
	scale := 1 / math.Sqrt(float64(d))
	for i := range s {
		sum := 0.0
		for k := range s {
			z := 0.0
			for e := range d {
				z += float64(p.q[i*d+e]) * float64(p.k[k*d+e])
			}
			if w[k] = 0; sees(i, k) {
				w[k] = math.Exp(z * scale)
			}
			sum += w[k]
		}
		mean := 0.0
		for k := range s {
			w[k] /= sum
			dw[k] = 0
			for e := range d {
				o[i*d+e] += w[k] * float64(p.v[k*d+e])
				dv[k*d+e] += w[k] * float64(p.do[i*d+e])
				dw[k] += float64(p.do[i*d+e]) * float64(p.v[k*d+e])
			}
			mean += w[k] * dw[k]
		}
		for k := range s {
			ds := w[k] * (dw[k] - mean) * scale
			for e := range d {
				dq[i*d+e] += ds * float64(p.k[k*d+e])
				dk[k*d+e] += ds * float64(p.q[i*d+e])
			}
		}
	}
	return o, dq, dk, dv
}
