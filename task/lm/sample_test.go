package lm

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/model/net"
)

// TestCuts holds which tokens each setting leaves, and in which proportion they
// are drawn, on logits whose probabilities are known.
func TestCuts(t *testing.T) {
	p := []float64{0.1, 0.4, 0, 0.25, 0.05, 0.2, 0} // of tokens 0 … 6
	logits := make([]float32, len(p))
	for i := range p {
		logits[i] = float32(math.Log(p[i])) + 7 // -Inf for 0
	}
	for _, c := range []struct {
		name string
		s    Sampling
		left []int32 // tokens that may be drawn
	}{
		{"all", Sampling{Temperature: 1}, []int32{0, 1, 3, 4, 5}},
		{"top 1", Sampling{Temperature: 1, TopK: 1}, []int32{1}},
		{"top 3", Sampling{Temperature: 1, TopK: 3}, []int32{1, 3, 5}},
		{"top 99", Sampling{Temperature: 1, TopK: 99}, []int32{0, 1, 3, 4, 5}},
		{"p 0.3", Sampling{Temperature: 1, TopP: 0.3}, []int32{1}},
		{"p 0.6", Sampling{Temperature: 1, TopP: 0.6}, []int32{1, 3}},
		{"p 0.7", Sampling{Temperature: 1, TopP: 0.7}, []int32{1, 3, 5}},
		{"p 0.94", Sampling{Temperature: 1, TopP: 0.94}, []int32{0, 1, 3, 5}},
		{"p 1", Sampling{Temperature: 1, TopP: 1}, []int32{0, 1, 3, 4, 5}},
		{"p of what top k leaves", Sampling{Temperature: 1, TopK: 2, TopP: 0.61}, []int32{1}}, // 0.4 of 0.65
		{"min p 0.3", Sampling{Temperature: 1, MinP: 0.3}, []int32{1, 3, 5}},                  // 0.12
		{"min p 0.6", Sampling{Temperature: 1, MinP: 0.6}, []int32{1, 3}},                     // 0.24
		{"min p 1", Sampling{Temperature: 1, MinP: 1}, []int32{1}},
		{"min p at a high temperature", Sampling{Temperature: 100, MinP: 0.5}, []int32{0, 1, 3, 4, 5}},
		{"temperature 2", Sampling{Temperature: 2}, []int32{0, 1, 3, 4, 5}},
		{"temperature 0", Sampling{TopK: 3}, []int32{1}},
		{"hardly any temperature", Sampling{Temperature: 1e-300}, []int32{1}},
	} {
		const draws = 20_000
		counts := make([]float64, len(p))
		picker := newPicker(len(p), c.s)
		for range draws {
			counts[picker.pick(logits)]++
		}
		want, sum := make([]float64, len(p)), 0.0
		for _, id := range c.left {
			want[id] = 1
			if c.s.Temperature > 0 {
				want[id] = math.Pow(p[id]/0.4, 1/c.s.Temperature)
			}
			sum += want[id]
		}
		for id := range p {
			share := want[id] / sum
			if share == 0 && counts[id] > 0 {
				t.Errorf("%s: token %d was drawn", c.name, id)
			}
			if off := math.Abs(counts[id]/draws - share); off > 5*math.Sqrt(share*(1-share)/draws) {
				t.Errorf("%s: token %d was drawn in %.4f of draws, want %.4f", c.name, id, counts[id]/draws, share)
			}
		}
	}
}

// TestTies gives equal logits: the smaller id is the more likely one.
func TestTies(t *testing.T) {
	logits := []float32{1, 3, 3, 3, 2}
	for _, s := range []Sampling{{}, {Temperature: 1, TopK: 1}, {Temperature: 1, TopP: 0.1}} {
		if id := newPicker(5, s).pick(logits); id != 1 {
			t.Errorf("%+v: token %d", s, id)
		}
	}
}

func generate(t *testing.T, m *net.GPT, prompt []int32, s Sampling) []int32 {
	t.Helper()
	var ids []int32
	if err := Generate(context.Background(), m, prompt, s, func(id int32) error { ids = append(ids, id); return nil }); err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestGenerate draws texts longer than the context, of both layouts.
func TestGenerate(t *testing.T) {
	for _, layout := range net.Parts.Names() {
		dir, _ := newModel(t, layout, 40)
		m, err := Open(new(memory.Arena), dir)
		if err != nil {
			t.Fatal(err)
		}
		prompt := []int32{3, 1, 4, 1, 5}
		s := Sampling{Tokens: 30, Temperature: 1, Seed: 1, Stop: -1}
		first := generate(t, m.GPT, prompt, s)
		if len(first) != 30 || !slices.Equal(generate(t, m.GPT, prompt, s), first) {
			t.Errorf("%s: a seed does not reproduce its text", layout)
		}
		s.Seed = 2
		if slices.Equal(generate(t, m.GPT, prompt, s), first) {
			t.Errorf("%s: two seeds give one text", layout)
		}

		// The most likely token, again and again.
		d := m.NewDecoder()
		var want []int32
		next := prompt
		for range 8 {
			logits, err := d.Feed(next...)
			if err != nil {
				t.Fatal(err)
			}
			top := int32(slices.Index(logits, slices.Max(logits)))
			want = append(want, top)
			next = []int32{top}
		}
		d.Close()
		if got := generate(t, m.GPT, prompt, Sampling{Tokens: 8, Stop: -1}); !slices.Equal(got, want) {
			t.Errorf("%s: temperature 0 gives %v, want %v", layout, got, want)
		}
		stop := slices.Index(want, want[3])
		if got := generate(t, m.GPT, prompt, Sampling{Tokens: 8, Stop: want[3]}); !slices.Equal(got, want[:stop]) {
			t.Errorf("%s: stopped at token %d: %v, want %v", layout, want[3], got, want[:stop])
		}
	}
}

func TestGenerateErrors(t *testing.T) {
	dir, _ := newModel(t, "llama", 40)
	m, err := Open(new(memory.Arena), dir)
	if err != nil {
		t.Fatal(err)
	}
	bad := errors.New("no more room")
	emit := func(int32) error { return bad }
	one := Sampling{Tokens: 1}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		prompt []int32
		s      Sampling
		want   string
	}{
		{"emit", context.Background(), []int32{1}, one, "no more room"},
		{"cancelled", cancelled, []int32{1}, one, "canceled"},
		{"no prompt", context.Background(), nil, one, "no token"},
		{"prompt beyond the vocabulary", context.Background(), []int32{40}, one, "token 40"},
		{"tokens", context.Background(), []int32{1}, Sampling{Tokens: -1}, "tokens=-1"},
		{"temperature", context.Background(), []int32{1}, Sampling{Temperature: math.NaN()}, "temperature=NaN"},
		{"top k", context.Background(), []int32{1}, Sampling{TopK: -1}, "top-k=-1"},
		{"top p", context.Background(), []int32{1}, Sampling{TopP: 1.5}, "top-p=1.5"},
		{"min p", context.Background(), []int32{1}, Sampling{MinP: math.NaN()}, "min-p=NaN"},
	} {
		wantError(t, c.name, Generate(c.ctx, m.GPT, c.prompt, c.s, emit), c.want)
	}
}

// TestPickIsCalm draws from logits that are no numbers: some token, no panic.
func TestPickIsCalm(t *testing.T) {
	s := rng.New(1, 1)
	for range 200 {
		logits := make([]float32, 9)
		for i := range logits {
			logits[i] = [...]float32{0, 1e38, -1e38, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[s.IntN(6)]
		}
		for _, c := range []Sampling{{}, {Temperature: 1}, {Temperature: 1, TopK: 3, MinP: 0.1, TopP: 0.5}, {Temperature: math.Inf(1)}} {
			if id := newPicker(9, c).pick(logits); id < 0 || id > 8 {
				t.Fatalf("token %d", id)
			}
		}
	}
}
