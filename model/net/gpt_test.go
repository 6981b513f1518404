package net

import (
	"math"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
)

// small returns an initialised model of each layout.
func small(t *testing.T) map[string]*GPT {
	t.Helper()
	models := map[string]*GPT{}
	for name, c := range map[string]Config{
		"llama":         {Arch: "llama", Layers: 2, Heads: 4, KV: 2, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Theta: 10000},
		"llama untied":  {Arch: "llama", Layers: 2, Heads: 2, Dim: 32, Ctx: 24, Vocab: 50, Eps: 1e-5, Theta: 10000},
		"llama biased":  {Arch: "llama", Layers: 1, Heads: 2, Dim: 32, Ctx: 24, Vocab: 50, Eps: 1e-5, Theta: 10000, AttentionBias: true, MLPBias: true},
		"gpt2":          {Arch: "gpt2", Layers: 2, Heads: 4, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5},
		"gpt2 erf gelu": {Arch: "gpt2", Layers: 1, Heads: 4, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Activation: "gelu"},
		"gpt2 relu":     {Arch: "gpt2", Layers: 1, Heads: 4, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Activation: "relu"},
		"recompute":     {Arch: "llama", Layers: 2, Heads: 4, KV: 2, Dim: 32, Ctx: 24, Vocab: 50, Tied: true, Eps: 1e-5, Theta: 10000, Recompute: true},
	} {
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
	for name, m := range small(t) {
		if m.Activation == "relu" {
			continue // its kinks show in differences
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
	for name, m := range small(t) {
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
	for name, m := range small(t) {
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
	m := small(t)["recompute"]
	tokens, targets := randomTokens(48, m.Vocab), randomTokens(49, m.Vocab)[1:]
	run := func(recompute bool) (grads [][]float32, peak int64) {
		m.Recompute = recompute
		tape := grad.NewTape(m.params.Arena)
		for _, p := range m.Params() {
			p.ZeroGrad()
		}
		m.params.Arena.ResetPeak()
		tape.Backward(lossOf(m, tape, tokens, targets, 24))
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
				t.Fatalf("%s differs at %d", m.Params()[i].Name, j)
			}
		}
	}
	if peak >= plainPeak {
		t.Errorf("recomputing took %d bytes of activations, keeping them %d", peak, plainPeak)
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
