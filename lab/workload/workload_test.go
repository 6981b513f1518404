package workload_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hasten/lab/workload"
	"hasten/learn/loop"
	"hasten/task/lm"
	"hasten/task/recipe"
	"hasten/task/run"
	"hasten/task/vision"
)

// text is a file with some order in it.
func text(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("the cat sat on the mat.\na dog ran.\n", 200)), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// small are settings of a model that trains in no time.
func small(t *testing.T) []string {
	return []string{"data=" + text(t), "tokenizer=bytes", "model.layers=1", "model.heads=2", "model.dim=16", "model.ctx=16",
		"batch=4", "steps=20", "evaluate.windows=4", "schedule.warmup=2"}
}

// images is a directory of IDX files in two classes.
func images(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for part, n := range map[string]byte{"train": 60, "t10k": 20} {
		pixels, labels := []byte{0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 2, 0, 0, 0, 2}, []byte{0, 0, 8, 1, 0, 0, 0, n}
		for i := range n {
			pixels, labels = append(pixels, i%2*200, i, 3*i, 40), append(labels, i%2)
		}
		for name, content := range map[string][]byte{"images": pixels, "labels": labels} {
			if err := os.WriteFile(filepath.Join(dir, part+"-"+name), content, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// TestLM is the same run as that of the command.
func TestLM(t *testing.T) {
	settings := append(small(t), "evaluate.every=8")
	got, err := workload.Train(context.Background(), "lm-xs", 4, settings...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Open(filepath.Join("recipes", "lm-xs.toml"))
	if err == nil {
		err = r.Set(append(settings, "seed=4")...)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := lm.Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	want, err := lm.Train(context.Background(), s, run.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if got.Loss != want.Last.ValLoss || got.Metric != want.Last.BitsPerByte || got.Steps != 20 || got.Items != 20*4*16 || got.Seconds <= 0 || got.Diverged {
		t.Errorf("%+v, want %+v", got, want.Last)
	}
	steps := []int{8, 16, 20}
	for i, p := range got.Curve {
		if len(got.Curve) != 3 || p.Step != steps[i] || p.Items != int64(p.Step*64) || p.TrainLoss < got.Loss/3 || p.ValLoss == 0 || p.Metric == 0 {
			t.Fatalf("curve %+v", got.Curve)
		}
	}
	if w := got.Memory.Peak[0]; w < int64(4*got.Job.Plan().Params) {
		t.Errorf("%d bytes of weights for %d parameters", w, got.Job.Plan().Params)
	}
	other, err := workload.Train(context.Background(), "lm-xs", 5, settings...)
	if err != nil || other.Loss == got.Loss {
		t.Errorf("another seed comes to the same loss (%v)", err)
	}
}

func TestVision(t *testing.T) {
	dir := images(t)
	settings := []string{"data=" + dir, "epochs=5", "batch=10", "optim.lr=0.01", "schedule.warmup=0", "evaluate.every=1000000"}
	j, err := workload.New("vision", 1, settings...)
	if err != nil {
		t.Fatal(err)
	}
	epochs := 0
	j.Plan().Loop.On(loop.EpochStart, func(*loop.State) error { epochs++; return nil })
	got, err := workload.Do(context.Background(), j)
	if err != nil {
		t.Fatal(err)
	}
	if got.Metric < 0.9 || got.Items != 300 || len(got.Curve) != 1 || epochs != 5 || got.Job.(*vision.Job).Task.Data.Train.Len() != 60 {
		t.Errorf("%+v in %d epochs", got, epochs)
	}
	again, err := workload.Train(context.Background(), "vision", 1, settings...)
	if err != nil || again.Loss != got.Loss {
		t.Errorf("the second time: loss %v, want %v (%v)", again.Loss, got.Loss, err)
	}
	if again.Job.(*vision.Job).Data != got.Job.(*vision.Job).Data {
		t.Error("the images were read twice")
	}
	bare, err := workload.Train(context.Background(), "vision", 1, append(settings, "data.limit=7", "steps=3")...)
	if err != nil || bare.Job.(*vision.Job).Data.Train.Len() != 7 {
		t.Errorf("other settings share the images (%v)", err)
	}
}

func TestRecipes(t *testing.T) {
	files, err := filepath.Glob("recipes/*.toml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		r, err := recipe.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lm.Resolve(r); err != nil {
			t.Error(err)
		}
	}
}

func TestDiverged(t *testing.T) {
	got, err := workload.Train(context.Background(), "lm-xs", 1, append(small(t), "optim=sgd", "optim.lr=1e38", "clip=0")...)
	if err != nil || !got.Diverged || !math.IsInf(got.Loss, 1) || !math.IsNaN(got.Metric) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := workload.Train(ended, "lm-xs", 1, small(t)...); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	odd := filepath.Join(t.TempDir(), "odd.toml")
	if err := os.WriteFile(odd, []byte(`task = "sweep"`), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		setting, want string
	}{
		"lm-xs":   {"optim.lr=fast", "want a number"},
		"vision":  {"data=nowhere", "nowhere"},
		"nothing": {"steps=1", "no such file"},
		odd:       {"steps=1", `task "sweep"`},
	} {
		if _, err := workload.Train(context.Background(), name, 1, c.setting); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: %v, want %q", name, c.setting, err, c.want)
		}
	}
}

// Two arms of an experiment.
func Example() {
	for _, optimizer := range []string{"sgd", "adamw"} {
		r, err := workload.Train(context.Background(), "vision", 1, "data.limit=1000", "epochs=1", "optim="+optimizer)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: loss %.3f, accuracy %.3f after %d images\n", optimizer, r.Loss, r.Metric, r.Items)
	}
}
