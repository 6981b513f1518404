package lm_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hasten/engine/memory"
	"hasten/task/lm"
	"hasten/task/recipe"
	"hasten/task/run"
)

// Build, train, save and sample a model.
func Example() {
	dir, _ := os.MkdirTemp("", "hasten")
	defer os.RemoveAll(dir)
	text, model := filepath.Join(dir, "text.txt"), filepath.Join(dir, "model")
	os.WriteFile(text, []byte(strings.Repeat("the quick brown fox jumps over the lazy dog\n", 200)), 0o644)

	r, err := recipe.Parse("example", []byte(`
		tokenizer = "bytes"
		steps = 80
		[model]
		layers = 2
		dim = 32
		ctx = 32
		[optim]
		lr = 0.02
		[schedule]
		warmup = 10`))
	check(err)
	check(r.Set("data=" + text))
	settings, err := lm.Resolve(r)
	check(err)
	out, err := lm.Train(context.Background(), settings, run.Options{Dir: model})
	check(err)
	fmt.Println(out.Last.Step, "steps; below half a bit per byte:", out.Last.BitsPerByte < 0.5)

	m, err := lm.Open(new(memory.Arena), model)
	check(err)
	ids := m.Tokenizer.Encode(nil, []byte("the quick"))
	check(lm.Generate(context.Background(), m.GPT, ids, lm.Sampling{Tokens: 34, Stop: -1}, func(id int32) error {
		ids = append(ids, id)
		return nil
	}))
	fmt.Printf("%s\n", m.Tokenizer.Decode(nil, ids))
	// Output:
	// 80 steps; below half a bit per byte: true
	// the quick brown fox jumps over the lazy dog
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
