package lm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hasten/engine/rng"
	"hasten/learn/loop"
	"hasten/learn/track"
	"hasten/task/recipe"
	"hasten/task/run"
)

// TestMain is the test program, or a training run in a process of its own that
// a test has started and may kill.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	os.Exit(m.Run())
}

// corpus is a text of about n bytes, with some order in it to learn.
func corpus(seed uint64, n int) string {
	words := strings.Fields("the a cat dog bird sees hears likes big small old red and then near under tree house river")
	s := rng.New(seed, 0)
	var b strings.Builder
	for b.Len() < n {
		for range 3 + s.IntN(6) {
			b.WriteString(words[s.IntN(len(words))] + " ")
		}
		b.WriteString("end.\n")
	}
	return b.String()
}

// write puts a file into a new directory and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// tiny is a run of twelve steps of a very small model.
const tiny = `
tokenizer = "bytes"
batch = 2
steps = 12
seed = 3
[model]
layers = 2
heads = 2
dim = 16
hidden = 24
ctx = 16
[optim]
lr = 0.01
[schedule]
warmup = 3
[evaluate]
every = 4
windows = 4
[checkpoint]
every = 3
keep = 9
`

// settings are those of the tiny run on a text, with changes.
func settings(t *testing.T, data string, changes ...string) *Settings {
	t.Helper()
	r, err := recipe.Parse("tiny", []byte(tiny))
	if err == nil {
		err = r.Set(append([]string{"data=" + data}, changes...)...)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// watcher calls functions where they are set.
type watcher struct {
	run.Silent
	begin      func(j *Job)
	step       func(s *loop.State)
	evaluated  func(r track.Record)
	checkpoint func(s *loop.State)
	notes      []string
}

func (w *watcher) Note(text string) { w.notes = append(w.notes, text) }

func (w *watcher) Begin(j run.Job, _ *run.Plan) {
	if w.begin != nil {
		w.begin(j.(*Job))
	}
}

func (w *watcher) Step(s *loop.State) {
	if w.step != nil {
		w.step(s)
	}
}

func (w *watcher) Evaluated(r track.Record) {
	if w.evaluated != nil {
		w.evaluated(r)
	}
}

func (w *watcher) Checkpoint(s *loop.State) {
	if w.checkpoint != nil {
		w.checkpoint(s)
	}
}

// train runs to the end and returns the directory.
func train(t *testing.T, s *Settings) string {
	t.Helper()
	dir := t.TempDir()
	finish(t, s, run.Options{Dir: dir})
	return dir
}

// finish runs with options, to the end.
func finish(t *testing.T, s *Settings, o run.Options) Outcome {
	t.Helper()
	out, err := Train(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	if out.Interrupted || !out.Job.Loop.Finished() {
		t.Fatalf("the run ended after step %d", out.Job.Loop.State.Step)
	}
	return out
}

// content is a file of a run.
func content(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sameModel holds two model directories to be equal, bit for bit.
func sameModel(t *testing.T, what, got, want string) {
	t.Helper()
	for _, name := range []string{"model.safetensors", "config.json", "tokenizer.json"} {
		if content(t, got, name) != content(t, want, name) {
			t.Errorf("%s: %s differs", what, name)
		}
	}
}

// losses are what the log of a run says, but for what the clock and the
// process's memory say.
func losses(t *testing.T, dir string) string {
	t.Helper()
	records, err := track.ReadLog(filepath.Join(dir, track.LogName))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range records {
		r.Seconds, r.TokensPerS, r.Extra = 0, 0, nil
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}

// wantError holds an error to be of one line and to say so much.
func wantError(t *testing.T, what string, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	text := err.Error()
	if strings.Contains(text, "\n") || len(text) > 1500 {
		t.Errorf("%s: error of more than a line: %.3000q", what, text)
	}
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("%s: error %q does not say %q", what, text, s)
		}
	}
}
