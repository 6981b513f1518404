package bench

import (
	"fmt"
	"runtime"

	"hasten/engine/rng"
	"hasten/model/attention"
)

// AttentionOptions is the shape of a causal attention layer to be timed.
type AttentionOptions struct {
	Batch, Heads, KV, Size, Length int // KV 0: as many as heads
	Threads                        int
}

// AttentionResult is what the layer costs: medians of several runs. FLOPs are
// those of the visible pairs: 4·E a pair forward, 10·E backward.
type AttentionResult struct {
	ForwardMS      float64 `json:"forward_ms"`
	ForwardGFLOPS  float64 `json:"forward_gflops"`
	ForwardShare   float64 `json:"forward_peak_share"`
	BackwardMS     float64 `json:"backward_ms"`
	BackwardGFLOPS float64 `json:"backward_gflops"`
	BackwardShare  float64 `json:"backward_peak_share"`
}

// Attention times causal attention, forward and backward.
func Attention(o AttentionOptions) (AttentionResult, error) {
	if o.KV == 0 {
		o.KV = o.Heads
	}
	if o.Batch < 1 || o.Heads < 1 || o.KV < 1 || o.Heads%o.KV != 0 || o.Size < 1 || o.Length < 1 {
		return AttentionResult{}, fmt.Errorf("attention of %d sequences of %d, %d heads of %d, %d key-value heads: want at least 1 of each, and heads a multiple of kv",
			o.Batch, o.Length, o.Heads, o.Size, o.KV)
	}
	if o.Threads > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(o.Threads))
	}
	r := rng.New(1, 0)
	view := func(heads int) attention.View {
		x := make([]float32, o.Batch*o.Length*heads*o.Size)
		r.FillNormal(x, 0, 1)
		return attention.View{Data: x, Row: heads * o.Size}
	}
	a := attention.Args{
		Batch: o.Batch, Queries: o.Length, Keys: o.Length, Heads: o.Heads, KVHeads: o.KV, Dim: o.Size,
		Q: view(o.Heads), K: view(o.KV), V: view(o.KV), Mask: attention.Causal{},
	}
	g := attention.Grads{O: view(o.Heads), DO: view(o.Heads), DQ: view(o.Heads), DK: view(o.KV), DV: view(o.KV),
		LSE: make([]float32, o.Batch*o.Heads*o.Length)}
	forward := medianTime(func() { attention.Forward(a, g.O, g.LSE) })
	backward := medianTime(func() { attention.Backward(a, g) })
	pairs := float64(o.Batch*o.Heads) * float64(o.Length) * float64(o.Length+1) / 2
	f, b := 4*pairs*float64(o.Size)/forward, 10*pairs*float64(o.Size)/backward
	peak := MachinePeak()
	return AttentionResult{1e3 * forward, f / 1e9, f / peak, 1e3 * backward, b / 1e9, b / peak}, nil
}
