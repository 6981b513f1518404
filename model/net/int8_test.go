package net

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/precision"
	"hasten/engine/rng"
	"hasten/model/attention"
	"hasten/model/block"
)

// passOf is the loss of one pass with a policy, and the gradients of all
// parameters. draw names the stream for rounding.
func passOf(m *GPT, p precision.Policy, draw uint64) (loss float32, grads [][]float32) {
	tape := grad.NewTape(m.params.Arena)
	tape.Policy, tape.Rand = p, rng.New(4, draw)
	for _, x := range m.Params() {
		x.ZeroGrad()
	}
	// 40 tokens: the second tile of rows is cut.
	tokens, targets := randomTokens(40, m.Vocab), randomTokens(41, m.Vocab)[1:]
	y := lossOf(m, tape, tokens, targets, 20)
	loss = y.Data[0]
	tape.Backward(y)
	tape.Reset()
	for _, x := range m.Params() {
		x.SettleGrad()
		grads = append(grads, slices.Clone(x.Grad))
	}
	return loss, grads
}

// TestInt8FlowFollowsFloat32: in every layout the loss is near that in float32,
// and the gradient of every parameter, averaged over draws of the rounding, points
// where the float32 gradient does.
func TestInt8FlowFollowsFloat32(t *testing.T) {
	models := small(t)
	models["wide parts"] = small(t)["llama"]
	for _, b := range models["wide parts"].Blocks {
		b.Mixer, b.FFN = wideMixer{b.Mixer}, wideFFN{b.FFN}
	}
	for name, m := range models {
		want, wantGrads := passOf(m, precision.F32{}, 0)
		var sums [][]float32
		const draws = 8
		for i := range draws {
			loss, grads := passOf(m, &precision.Jetfire{}, uint64(i))
			if math.Abs(float64(loss-want)) > 0.02 {
				t.Fatalf("%s: loss %v, in float32 %v", name, loss, want)
			}
			if sums == nil {
				sums = grads
				continue
			}
			for j, g := range grads {
				for k, v := range g {
					sums[j][k] += v
				}
			}
		}
		for i, p := range m.Params() {
			if c := cosine(sums[i], wantGrads[i]); c < 0.98 {
				t.Errorf("%s: gradient of %s: cosine with float32's %.4f", name, p.Name, c)
			}
			a, b := norm(sums[i])/draws, norm(wantGrads[i])
			if math.Abs(a-b) > 0.1*b {
				t.Errorf("%s: gradient of %s has norm %.4g, in float32 %.4g", name, p.Name, a, b)
			}
		}
	}
}

// wideMixer and wideFFN hide that a layer can stay in int8.
type (
	wideMixer struct{ block.Mixer }
	wideFFN   struct{ block.FFN }
)

func norm(x []float32) float64 {
	var s float64
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return math.Sqrt(s)
}

func cosine(a, b []float32) float64 {
	var s float64
	for i := range a {
		s += float64(a[i]) * float64(b[i])
	}
	return s / (norm(a)*norm(b) + 1e-30)
}

// TestInt8FlowIsTheSameForAnyWidth, and leaves nothing behind.
func TestInt8FlowIsTheSameForAnyWidth(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for name, m := range small(t) {
		live := m.params.Arena.Usage().LiveTotal
		var first [][]float32
		for width := 1; width <= 3; width++ {
			runtime.GOMAXPROCS(width)
			_, grads := passOf(m, &precision.Jetfire{}, 1)
			if first == nil {
				first = grads
			}
			for i, g := range grads {
				if !slices.Equal(g, first[i]) {
					t.Errorf("%s: gradient of %s differs with %d threads", name, m.Params()[i].Name, width)
				}
			}
		}
		if now := m.params.Arena.Usage().LiveTotal; now != live {
			t.Errorf("%s: %d bytes left behind", name, now-live)
		}
	}
}

// TestInt8RecomputeChangesNothing: a checkpointed block rounds as it did before.
func TestInt8RecomputeChangesNothing(t *testing.T) {
	m := small(t)["recompute"]
	_, with := passOf(m, &precision.Jetfire{}, 1)
	m.Recompute = false
	_, without := passOf(m, &precision.Jetfire{}, 1)
	for i := range with {
		if !slices.Equal(with[i], without[i]) {
			t.Errorf("gradient of %s differs", m.Params()[i].Name)
		}
	}
}

// TestInt8AccumulatesGradients: two passes without ZeroGrad add up.
func TestInt8AccumulatesGradients(t *testing.T) {
	m := small(t)["gpt2"]
	_, once := passOf(m, &precision.Jetfire{}, 1)
	tape := grad.NewTape(m.params.Arena)
	tape.Policy, tape.Rand = &precision.Jetfire{}, rng.New(4, 1)
	tokens, targets := randomTokens(40, m.Vocab), randomTokens(41, m.Vocab)[1:]
	tape.Backward(lossOf(m, tape, tokens, targets, 20))
	tape.Reset()
	for i, p := range m.Params() {
		for j, v := range p.Grad {
			if d := math.Abs(float64(v - 2*once[i][j])); d > 1e-5*(1+norm(once[i])) {
				t.Fatalf("gradient of %s: %v after two passes, %v after one", p.Name, v, once[i][j])
			}
		}
	}
}

// TestInt8KeepsAQuarter reads from the arena what a pass keeps of a block for its
// backward pass: bytes, of which float32 keeps four times as many, but for
// what attention keeps for each head.
func TestInt8KeepsAQuarter(t *testing.T) {
	kept := func(layers int, p precision.Policy) int64 {
		m, err := NewGPT(new(memory.Arena), Config{Arch: "llama", Layers: layers, Heads: 1, Dim: 128, Ctx: 64, Vocab: 32, Tied: true, Eps: 1e-5, Theta: 1e4})
		if err != nil {
			t.Fatal(err)
		}
		m.Init(1)
		tape := grad.NewTape(m.params.Arena)
		tape.Policy = p
		m.Hidden(tape, randomTokens(8192, m.Vocab), 64, nil)
		live := m.params.Arena.Usage().Live[memory.Activations]
		tape.Reset()
		return live
	}
	f32 := kept(2, precision.F32{}) - kept(1, precision.F32{})
	int8 := kept(2, &precision.Jetfire{}) - kept(1, &precision.Jetfire{})
	if share := float64(int8) / float64(f32); share > 0.28 {
		t.Errorf("a block keeps %d bytes, %.3f of the %d in float32", int8, share, f32)
	}
}

func TestInt8AllocatesNothing(t *testing.T) {
	for _, name := range []string{"llama", "gpt2"} {
		m := small(t)[name]
		tape := grad.NewTape(m.params.Arena)
		tape.Policy = &precision.Jetfire{}
		tokens := randomTokens(48, m.Vocab)
		var mask attention.Mask = attention.Causal{}
		if n := testing.AllocsPerRun(20, func() {
			y := m.Hidden(tape, tokens, 24, mask)
			tape.SetGrad(y, y.Data)
			tape.BackwardFrom()
			tape.Reset()
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkBlock is forward and backward of two blocks of width 512 on 4096 tokens.
func BenchmarkBlock(b *testing.B) {
	for _, arch := range []string{"gpt2", "llama"} {
		for _, p := range []precision.Policy{precision.F32{}, precision.BF16{}, &precision.Jetfire{}} {
			b.Run(fmt.Sprintf("%s/%T", arch, p), func(b *testing.B) {
				m, err := NewGPT(new(memory.Arena), Config{Arch: arch, Layers: 2, Heads: 8, Dim: 512, Ctx: 256, Vocab: 256, Tied: true, Eps: 1e-5, Theta: 1e4})
				if err != nil {
					b.Fatal(err)
				}
				m.Init(1)
				tape := grad.NewTape(m.params.Arena)
				tape.Policy = p
				tokens := randomTokens(4096, m.Vocab)
				best, forward := time.Hour, time.Hour
				for b.Loop() {
					start := time.Now()
					y := m.Hidden(tape, tokens, 256, nil)
					forward = min(forward, time.Since(start))
					tape.SetGrad(y, y.Data)
					tape.BackwardFrom()
					tape.Reset()
					best = min(best, time.Since(start))
				}
				b.ReportMetric(best.Seconds()*1e3, "best-ms")
				b.ReportMetric(forward.Seconds()*1e3, "forward-ms")
			})
		}
	}
}
