package text_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"hasten/task/recipe"
	"hasten/task/text"
)

func Example() {
	dir, err := os.MkdirTemp("", "text-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "train.tsv")
	os.WriteFile(data, []byte("animal\ta barking dog\nplant\ta tall oak\nanimal\tthe dog sleeps\nplant\tthe old oak\n"), 0o666)

	r, err := recipe.Open("text")
	if err != nil {
		panic(err)
	}
	r.Set("data="+data, "data.fraction=0", "epochs=50", "threads=1")
	s, err := text.Resolve(r)
	if err != nil {
		panic(err)
	}
	model := filepath.Join(dir, "model")
	if _, err := text.Train(context.Background(), s, text.Options{Dir: model}); err != nil {
		panic(err)
	}
	m, err := text.Open(model)
	if err != nil {
		panic(err)
	}
	best := m.Predict([]byte("My dog!"), 1)[0]
	fmt.Println(m.Labels()[best.Label], best.Probability > 0.9)
	// Output: animal true
}
