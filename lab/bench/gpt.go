// Package bench measures throughput, beside what the machine can do at most.
package bench

import (
	"context"
	"encoding/json"
	"runtime"
	"slices"
	"time"

	"hasten/engine/memory"
	"hasten/engine/precision"
	"hasten/engine/rng"
	"hasten/learn/loop"
	"hasten/learn/optim"
	"hasten/learn/schedule"
	"hasten/model/net"
	"hasten/task/lm"
)

// GPTOptions is the shape of a training step to be timed.
type GPTOptions struct {
	Config    net.Config
	Batch     int
	Steps     int // counted steps; two more come first
	Threads   int // 0: as many as there are
	Precision string
}

// GPTResult is what training steps cost: medians over the counted steps.
type GPTResult struct {
	TokensPerS   float64 `json:"tokens_per_s"`
	BestPerS     float64 `json:"best_tokens_per_s"`
	StepMS       float64 `json:"step_ms"`
	Params       int     `json:"params"`
	RSSMiB       float64 `json:"rss_mib"`        // largest resident memory of the process
	ArenaPeakMiB float64 `json:"arena_peak_mib"` // largest live bytes of weights, gradients, state, activations, workspace
	PeakShare    float64 `json:"peak_share"`     // of the measured peak of the threads used, in f32
	Precision    string  `json:"precision"`
	Threads      int     `json:"threads"`
}

// fixedBatch is one random batch, again and again: the work of a step does not
// depend on the tokens.
type fixedBatch struct{ batch lm.Batch }

func (f *fixedBatch) Next() (lm.Batch, error)            { return f.batch, nil }
func (f *fixedBatch) Position() (json.RawMessage, error) { return json.RawMessage("null"), nil }
func (f *fixedBatch) Seek(json.RawMessage) error         { return nil }

// GPT times whole training steps: forward, loss, backward, clipping, AdamW.
func GPT(o GPTOptions) (GPTResult, error) {
	if o.Threads > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(o.Threads))
	}
	arena := new(memory.Arena)
	m, err := net.NewGPT(arena, o.Config)
	if err != nil {
		return GPTResult{}, err
	}
	m.Init(1)
	policy, err := precision.Parts.Build(o.Precision, nil)
	if err != nil {
		return GPTResult{}, err
	}
	n := o.Batch * m.Ctx
	b := lm.Batch{Tokens: make([]int32, n), Targets: make([]int32, n), T: m.Ctx}
	r := rng.New(1, 0)
	for i := range b.Tokens {
		b.Tokens[i] = int32(r.IntN(m.Vocab))
	}
	for i := range b.Targets {
		b.Targets[i] = b.Tokens[(i+1)%n]
	}
	var times []float64
	l := &loop.Loop{
		Task: &lm.Task{Model: m, Batches: &fixedBatch{b}}, Optimizer: optim.NewAdamW(), Schedule: &schedule.Constant{},
		Policy: policy, Clip: 1, Arena: arena, Budget: loop.Budget{Steps: o.Steps + 2},
	}
	l.On(loop.AfterStep, func(s *loop.State) error {
		times = append(times, s.StepTime.Seconds())
		return nil
	})
	if err := l.Run(context.Background()); err != nil {
		return GPTResult{}, err
	}
	times = times[2:]
	slices.Sort(times)
	median := times[len(times)/2]
	peak := Peak(200*time.Millisecond) * float64(min(runtime.GOMAXPROCS(0), runtime.NumCPU()))
	return GPTResult{
		TokensPerS: float64(n) / median, BestPerS: float64(n) / times[0], StepMS: 1e3 * median, Params: m.NumParams(),
		RSSMiB: MaxRSS() / (1 << 20), ArenaPeakMiB: float64(arena.Usage().PeakTotal+memory.Default.Usage().PeakTotal) / (1 << 20),
		PeakShare: m.FLOPs(n, m.Ctx) / median / peak,
		Precision: o.Precision, Threads: runtime.GOMAXPROCS(0),
	}, nil
}
