package net

import (
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/model/moe"
)

// jumps are parts with discrete choices, whose loss jumps where a choice turns:
// differences do not approach its gradient.
var jumps = map[string]bool{"mixer moa": true, "ffn moe": true}

// small returns an initialised model of each layout.
func small(t *testing.T) map[string]*GPT {
	t.Helper()
	return initialised(t, map[string]Config{
		"llama":         {Arch: "llama", Layers: 2, Heads: 4, KV: 2, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Theta: 10000},
		"llama untied":  {Arch: "llama", Layers: 2, Heads: 2, Dim: 32, Ctx: 24, Vocab: 50, Eps: 1e-5, Theta: 10000},
		"llama biased":  {Arch: "llama", Layers: 1, Heads: 2, Dim: 32, Ctx: 24, Vocab: 50, Eps: 1e-5, Theta: 10000, AttentionBias: true, MLPBias: true},
		"gpt2":          {Arch: "gpt2", Layers: 2, Heads: 4, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5},
		"gpt2 erf gelu": {Arch: "gpt2", Layers: 1, Heads: 4, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Activation: "gelu"},
		"gpt2 relu":     {Arch: "gpt2", Layers: 1, Heads: 4, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Activation: "relu"},
		"recompute":     {Arch: "llama", Layers: 2, Heads: 4, KV: 2, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Theta: 10000, Recompute: true},
	})
}

// everything returns these, and models of each part of the blocks.
func everything(t *testing.T) map[string]*GPT {
	t.Helper()
	models := withParts(t)
	maps.Copy(models, small(t))
	return models
}

// withParts returns models of each part of the blocks, in both layouts.
func withParts(t *testing.T) map[string]*GPT {
	t.Helper()
	configs := map[string]Config{}
	for _, arch := range []string{"llama", "gpt2"} {
		c := Config{Arch: arch, Layers: 2, Heads: 4, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Theta: 10000}
		for _, p := range Mixers.Parts {
			c := c
			c.Mixer = p.New()
			configs[arch+" mixer "+p.Name] = c
		}
		for _, p := range FFNs.Parts {
			c := c
			c.FFN = p.New()
			configs[arch+" ffn "+p.Name] = c
		}
	}
	return initialised(t, configs)
}

func initialised(t *testing.T, configs map[string]Config) map[string]*GPT {
	t.Helper()
	models := map[string]*GPT{}
	for name, c := range configs {
		m, err := NewGPT(new(memory.Arena), c)
		if err != nil {
			t.Fatal(err)
		}
		m.Init(3)
		// Biases and gains away from 0 and 1, so that errors in them show.
		s := rng.New(5, 0)
		for _, p := range m.Params() {
			for i := range p.Data {
				p.Data[i] += float32(0.05 * s.Normal())
			}
		}
		models[name] = m
	}
	return models
}

func randomTokens(n, vocab int) []int32 {
	s := rng.New(9, 0)
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(s.IntN(vocab))
	}
	return ids
}

func lossOf(m *GPT, t *grad.Tape, tokens, targets []int32, length int) *grad.Var {
	return grad.CrossEntropy(t, grad.Linear(t, m.Hidden(t, tokens, length, nil), m.Head.Var, nil), targets)
}

// TestGradientsAgainstDifferences compares the derivative of the loss along
// random directions, one for each parameter, with central differences. They
// are differences of float32 losses, so they can only be coarse; the exact
// checks of every operation are in package grad.
func TestGradientsAgainstDifferences(t *testing.T) {
	for name, m := range everything(t) {
		if _, part, _ := strings.Cut(name, " "); m.Activation == "relu" || jumps[part] {
			continue // kinks show in differences
		}
		tokens, targets := randomTokens(48, m.Vocab), randomTokens(49, m.Vocab)[1:]
		tape := grad.NewTape(m.params.Arena)
		for _, p := range m.Params() {
			p.ZeroGrad()
		}
		tape.Backward(lossOf(m, tape, tokens, targets, 24))
		tape.Reset()
		at := func() float64 {
			var l float64
			tape.NoGrad(func() { l = float64(lossOf(m, tape, tokens, targets, 24).Data[0]) })
			tape.Reset()
			return l
		}
		for i, p := range m.Params() {
			s := rng.New(11, uint64(i))
			dir := make([]float32, p.Len())
			s.FillNormal(dir, 0, 1)
			var want, norm float64
			for j, g := range p.Grad {
				want += float64(g) * float64(dir[j])
				norm += float64(g) * float64(g)
			}
			const eps = 2e-3
			old := append([]float32(nil), p.Data...)
			shift := func(by float32) float64 {
				for j := range p.Data {
					p.Data[j] = old[j] + by*dir[j]
				}
				return at()
			}
			got := (shift(eps) - shift(-eps)) / (2 * eps)
			copy(p.Data, old)
			if tol := 3e-4 + 0.02*math.Sqrt(norm); math.Abs(got-want) > tol {
				t.Errorf("%s: along a direction of %s: differences give %.5f, the gradient %.5f (tolerance %.5f)", name, p.Name, got, want, tol)
			}
		}
	}
}

func TestNoOutputSeesALaterToken(t *testing.T) {
	for name, m := range everything(t) {
		tokens := randomTokens(24, m.Vocab)
		hidden := func() []float32 {
			tape := grad.NewTape(m.params.Arena)
			defer tape.Reset()
			return append([]float32(nil), m.Hidden(tape, tokens, 24, nil).Data...)
		}
		before := hidden()
		const at = 13
		tokens[at] = (tokens[at] + 1) % int32(m.Vocab)
		after := hidden()
		changed := false
		for i := range before {
			if i < at*m.Dim && before[i] != after[i] {
				t.Fatalf("%s: token %d changed the output at %d", name, at, i/m.Dim)
			}
			changed = changed || before[i] != after[i]
		}
		if !changed {
			t.Errorf("%s: token %d changed nothing", name, at)
		}
	}
}

func TestDecodingEqualsTheForwardPass(t *testing.T) {
	for name, m := range everything(t) {
		tokens := randomTokens(24, m.Vocab)
		tape := grad.NewTape(m.params.Arena)
		h := m.Hidden(tape, tokens, 24, nil)
		d := m.NewDecoder()
		steps := [][]int32{tokens[:7], tokens[7:8], tokens[8:20], tokens[20:21], tokens[21:22], tokens[22:24]}
		seen := 0
		for _, s := range steps {
			logits, err := d.Feed(s...)
			if err != nil {
				t.Fatal(err)
			}
			seen += len(s)
			for v := range m.Vocab {
				var want float64
				for i, x := range h.Row(seen - 1) {
					want += float64(x) * float64(m.Head.Row(v)[i])
				}
				if math.Abs(want-float64(logits[v])) > 2e-4 {
					t.Fatalf("%s: after %d tokens, logit %d is %g, the forward pass gives %g", name, seen, v, logits[v], want)
				}
			}
		}
		// Beyond the context it goes on from the newer half.
		if _, err := d.Feed(tokens[0]); err != nil || len(d.seen) != m.Ctx/2+1 {
			t.Errorf("%s: beyond the context: %d tokens kept, %v", name, len(d.seen), err)
		}
		if _, err := d.Feed(int32(m.Vocab)); err == nil {
			t.Errorf("%s: a token outside the vocabulary was taken", name)
		}
		d.Close()
		tape.Reset()
	}
}

func TestRecomputingChangesNothingButMemory(t *testing.T) {
	models := everything(t)
	for _, name := range []string{"recompute", "llama mixer moa", "llama ffn moe"} {
		recomputing(t, name, models[name])
	}
}

func recomputing(t *testing.T, name string, m *GPT) {
	t.Helper()
	tokens, targets := randomTokens(48, m.Vocab), randomTokens(49, m.Vocab)[1:]
	run := func(recompute bool) (grads [][]float32, peak int64) {
		m.Recompute = recompute
		tape := grad.NewTape(m.params.Arena)
		for _, p := range m.Params() {
			p.ZeroGrad()
		}
		m.params.Arena.ResetPeak()
		tape.Backward(m.WithAuxiliary(tape, lossOf(m, tape, tokens, targets, 24)))
		tape.Reset()
		for _, p := range m.Params() {
			p.SettleGrad()
			grads = append(grads, append([]float32(nil), p.Grad...))
		}
		return grads, m.params.Arena.Usage().Peak[memory.Activations]
	}
	plain, plainPeak := run(false)
	again, peak := run(true)
	for i := range plain {
		for j := range plain[i] {
			if plain[i][j] != again[i][j] {
				t.Fatalf("%s: %s differs at %d", name, m.Params()[i].Name, j)
			}
		}
	}
	if peak >= plainPeak {
		t.Errorf("%s: recomputing took %d bytes of activations, keeping them %d", name, peak, plainPeak)
	}
}

func TestConfigsThatCannotBe(t *testing.T) {
	for _, c := range []Config{
		{Arch: "llama", Layers: 1, Heads: 3, Dim: 32, Ctx: 8, Vocab: 5, Eps: 1e-5, Theta: 1e4},
		{Arch: "llama", Layers: 1, Heads: 4, KV: 3, Dim: 32, Ctx: 8, Vocab: 5, Eps: 1e-5, Theta: 1e4},
		{Arch: "llama", Layers: 1, Heads: 32, Dim: 32, Ctx: 8, Vocab: 5, Eps: 1e-5, Theta: 1e4},
		{Arch: "gpt2", Layers: 1, Heads: 4, KV: 2, Dim: 32, Ctx: 8, Vocab: 5, Eps: 1e-5},
		{Arch: "gpt2", Layers: 1, Heads: 4, Dim: 32, Ctx: 8, Eps: 1e-5},
	} {
		if _, err := NewGPT(new(memory.Arena), c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// TestPartsAreDeterministicAndTakeNothingFromTheHeap trains a model of each part:
// its gradients do not depend, to the bit, on the number of threads.
func TestPartsAreDeterministicAndTakeNothingFromTheHeap(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for name, m := range withParts(t) {
		tokens, targets := randomTokens(96, m.Vocab), randomTokens(97, m.Vocab)[1:]
		tape := grad.NewTape(m.params.Arena)
		step := func() {
			for _, p := range m.Params() {
				p.ZeroGrad()
			}
			tape.Backward(m.WithAuxiliary(tape, lossOf(m, tape, tokens, targets, 24)))
			tape.Reset()
		}
		gradients := func() (all []float32) {
			step()
			for _, p := range m.Params() {
				all = append(all, p.Grad...)
			}
			return all
		}
		runtime.GOMAXPROCS(1)
		one := gradients()
		runtime.GOMAXPROCS(3)
		if !slices.Equal(one, gradients()) {
			t.Errorf("%s: the gradients depend on the number of threads", name)
		}
		runtime.GOMAXPROCS(2)
		n := testing.AllocsPerRun(5, step)
		for range 2 { // the pool of workers may still grow
			n = min(n, testing.AllocsPerRun(5, step))
		}
		if n > 0 {
			t.Errorf("%s: %.1f allocations in a step", name, n)
		}
	}
}

// TestBalanceReachesTheRouter holds that a term of the loss deep in the model
// counts, by its weight, and as much as the loss is scaled.
func TestBalanceReachesTheRouter(t *testing.T) {
	tokens, targets := randomTokens(48, 50), randomTokens(49, 50)[1:]
	router := func(balance float64, scale float32) (loss float64, grads []float32) {
		part := moe.NewFFN()
		part.Balance = balance
		m, err := NewGPT(new(memory.Arena), Config{Arch: "llama", Layers: 1, Heads: 4, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Theta: 10000, FFN: part})
		if err != nil {
			t.Fatal(err)
		}
		m.Init(3)
		tape := grad.NewTape(m.params.Arena)
		l := m.WithAuxiliary(tape, lossOf(m, tape, tokens, targets, 24))
		loss = float64(l.Data[0])
		tape.BackwardScaled(l, scale)
		for _, p := range m.Params() {
			if strings.Contains(p.Name, "router") {
				grads = append(grads, p.Grad...)
			}
		}
		return loss, grads
	}
	loss0, none := router(0, 1)
	loss1, one := router(1, 1)
	loss2, two := router(2, 2)
	if term := loss1 - loss0; term < 0.9 || term > 2 || math.Abs(loss2-loss1-term) > 1e-5 {
		t.Errorf("losses %g, %g, %g for weights 0, 1, 2", loss0, loss1, loss2)
	}
	for i := range none { // gradients: l, l+b, 2(l+2b)
		if want := 2*float64(one[i]) + 2*float64(one[i]-none[i]); math.Abs(float64(two[i])-want) > 1e-4*(1e-2+math.Abs(want)) {
			t.Fatalf("gradient %d: %g, %g, %g", i, none[i], one[i], two[i])
		}
	}
	if slices.Equal(none, one) {
		t.Error("the balance has no gradient")
	}
}

// TestPartsAndTheirNames holds that every part has a type of its own, by which
// it is found in its table.
func TestPartsAndTheirNames(t *testing.T) {
	for i, p := range Mixers.Parts {
		if got := MixerName(p.New()); got != p.Name {
			t.Errorf("the mixer %s is called %s", p.Name, got)
		}
		if c := (&Config{Mixer: p.New()}); c.Standard() != (i == 0 || p.Name == "flash") {
			t.Errorf("mixer %s: standard %v", p.Name, c.Standard())
		}
	}
	for i, p := range FFNs.Parts {
		if got := FFNName(p.New()); got != p.Name {
			t.Errorf("the ffn %s is called %s", p.Name, got)
		}
		if c := (&Config{FFN: p.New()}); c.Standard() != (i == 0) {
			t.Errorf("ffn %s: standard %v", p.Name, c.Standard())
		}
	}
}
