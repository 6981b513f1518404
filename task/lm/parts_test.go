package lm

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/model/format/hf"
	"hasten/model/net"
	"hasten/task/run"
)

// TestModelsWithPartsComeBack saves a model of each part of the blocks, opens it
// and lets it say the same. Only the parts that the layouts have can go out to
// other programs.
func TestModelsWithPartsComeBack(t *testing.T) {
	for _, arch := range []string{"llama", "gpt2"} {
		c := net.Config{Arch: arch, Layers: 2, Heads: 4, Dim: 32, Ctx: 16, Vocab: 50, Tied: true, Eps: 1e-5, Theta: 10000}
		configs := map[string]net.Config{}
		for _, p := range net.Mixers.Parts {
			c := c
			c.Mixer = p.New()
			configs["mixer "+p.Name] = c
		}
		for _, p := range net.FFNs.Parts {
			c := c
			c.FFN = p.New()
			configs["ffn "+p.Name] = c
		}
		for name, c := range configs {
			m, err := net.NewGPT(new(memory.Arena), c)
			if err != nil {
				t.Fatal(err)
			}
			m.Init(5)
			dir := t.TempDir()
			if err := Save(dir, m, nil); err != nil {
				t.Fatal(err)
			}
			back, err := Open(new(memory.Arena), dir)
			if err != nil {
				t.Fatal(err)
			}
			tokens := []int32{3, 1, 4, 1, 5, 9, 2, 6}
			says := func(m *net.GPT) []float32 {
				tape := grad.NewTape(new(memory.Arena))
				return slices.Clone(m.Hidden(tape, tokens, len(tokens), nil).Data)
			}
			was, is := says(m), says(back.GPT)
			if m.Standard() { // as a model of the layout, in its own order of additions
				for i := range was {
					if math.Abs(float64(was[i]-is[i])) > 1e-4 {
						t.Fatalf("%s %s came back as another model", arch, name)
					}
				}
			} else if !slices.Equal(was, is) {
				t.Errorf("%s %s came back as another model", arch, name)
			} else if net.MixerName(back.Config.Mixer) != net.MixerName(m.Config.Mixer) || net.FFNName(back.Config.FFN) != net.FFNName(m.Config.FFN) {
				t.Errorf("%s %s came back as %T and %T", arch, name, back.Config.Mixer, back.Config.FFN)
			}
			_, err = ExportGGUF(filepath.Join(dir, "m.gguf"), "m", back, "f32")
			if refused := err != nil && strings.Contains(err.Error(), "llama.cpp cannot compute"); refused == m.Standard() {
				t.Errorf("%s %s as GGUF: %v", arch, name, err)
			}
		}
	}
}

// TestPartsFromTheRecipe trains, goes on from what it trained, and samples.
func TestPartsFromTheRecipe(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	dir, next := t.TempDir(), t.TempDir()
	set := []string{"ffn=moe", "ffn.experts=4", "mixer=moa", "mixer.experts=3", "mixer.k=1"}
	if _, err := Train(context.Background(), settings(t, text, set...), run.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	_, err := Train(context.Background(), settings(t, text, "from="+dir), run.Options{Dir: next})
	if err != nil {
		t.Fatal(err)
	}
	recipe, err := os.ReadFile(filepath.Join(next, run.RecipeFile))
	if err != nil || !strings.Contains(string(recipe), `use = "moe"`) || !strings.Contains(string(recipe), `use = "moa"`) || !strings.Contains(string(recipe), "experts = 3") {
		t.Errorf("%v, the recipe:\n%s", err, recipe)
	}
	m, err := Open(new(memory.Arena), next)
	if err != nil {
		t.Fatal(err)
	}
	drawn := 0
	err = Generate(context.Background(), m.GPT, []int32{'t', 'h'}, Sampling{Tokens: 40, Temperature: 1, Stop: -1}, func(int32) error { drawn++; return nil })
	if err != nil || drawn != 40 {
		t.Errorf("%d tokens drawn, %v", drawn, err)
	}

	// A file whose options and tensors disagree is refused.
	path := filepath.Join(next, hf.ConfigName)
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for old, bad := range map[string]string{
		`"experts": "4"`: `"experts": "5"`,
		`"use": "moe"`:   `"use": "mole"`,
		`"k": "1"`:       `"k": "7"`,
	} {
		if err := os.WriteFile(path, []byte(strings.Replace(string(config), old, bad, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(new(memory.Arena), next); err == nil || !strings.Contains(err.Error(), next) {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}
