package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnotherPaper adds a made-up paper to a copy of the module: a mechanism, a
// row in its part table, a row in the table's test, a file with card and
// experiment, and its result. It must then be everywhere, with no other edit.
func TestAnotherPaper(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a copy of the module")
	}
	dir := copyModule(t)
	put := func(name, from string) {
		text, err := os.ReadFile(filepath.Join("testdata", "thirteenth", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	put("learn/optim/madeup.go", "mechanism.go.txt")
	put("lab/papers/optimisation/madeup.go", "paper.go.txt")
	replace(t, filepath.Join(dir, "learn/optim/optim.go"), "\t\t{Name: \"sgd\"",
		"\t\t{Name: \"made-up\", Paper: \"made-up\", Help: \"gradient descent without memory\", New: func() Optimizer { return &MadeUp{LR: 0.01} }},\n\t\t{Name: \"sgd\"")

	replace(t, filepath.Join(dir, "learn/optim/optim_test.go"), "var rows = []row{\n", `var rows = []row{
	{part: "made-up", quadratic: 0.1, rosenbrock: 1.8e-3, net: 0.15, twin: func(o optim.Optimizer) ref.Optimizer {
		return ref.Func(func(tensors []ref.Tensor, s optim.Step) {
			for _, x := range tensors {
				for i, g := range x.Grad {
					if x.Decay {
						x.Data[i] -= s.LR * o.(*optim.MadeUp).WeightDecay * x.Data[i]
					}
					x.Data[i] -= s.LR * s.GradScale * g
				}
			}
		})
	}},
`)

	hasten := filepath.Join(dir, "hasten-test")
	build := func() { output(t, dir, "go", "build", "-o", hasten, "./cmd/hasten") }
	build()
	if out := output(t, dir, hasten, "papers", "list", "--json"); !strings.Contains(out, `"slug":"made-up","title":"A Made-Up Paper on Descent","family":"optimisation","status":"planned","verdict":null`) {
		t.Error("before its result is there, the paper is not listed as planned")
	}
	var res struct{ Slug, Verdict string }
	out := output(t, dir, hasten, "reproduce", "made-up", "--json", "--out", filepath.Join(dir, "lab/result/measured"))
	if err := json.Unmarshal([]byte(out), &res); err != nil || res.Slug != "made-up" || res.Verdict != "holds" {
		t.Fatalf("reproduce: %v, %s", err, out)
	}
	build() // with the result

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"papers", "list", "--json"}, `"slug":"made-up","title":"A Made-Up Paper on Descent","family":"optimisation","status":"working","verdict":"holds"`},
		{[]string{"papers", "search", "made-up"}, "A Made-Up Paper"},
		{[]string{"papers", "show", "made-up"}, "learn/optim/madeup.go"},
		{[]string{"papers", "scoreboard"}, "| 199 | [made-up](#made-up)"},
		{[]string{"parts", "optim"}, "gradient descent without memory"},
		{[]string{"__complete", "train", "--set", "optim=made"}, "optim=made-up"},
		{[]string{"__complete", "reproduce", "made"}, "made-up"},
		{[]string{"reproduce", "made-up", "--quick", "--out", t.TempDir()}, "made-up: holds"},
	} {
		if out := output(t, dir, hasten, c.args...); !strings.Contains(out, c.want) {
			t.Errorf("hasten %s lacks %q:\n%.2000s", strings.Join(c.args, " "), c.want, out)
		}
	}
	model := filepath.Join(t.TempDir(), "model")
	output(t, dir, hasten, "train", "--set", "optim=made-up", "--steps", "2", "--set", "model.layers=1", "--set", "model.dim=32", "--set", "model.ctx=16", "--set", "evaluate.windows=1", "--data", filepath.Join(dir, "README.md"), "--set", "tokenizer=bytes", "--out", model)
	if text, err := os.ReadFile(filepath.Join(model, "recipe.toml")); err != nil || !strings.Contains(string(text), `"made-up"`) {
		t.Errorf("the recipe of the run does not name the part: %v\n%s", err, text)
	}
	output(t, dir, "go", "test", "./learn/optim", "./lab/result")
	output(t, dir, "go", "test", "-run", "^Test.*Whole|TestJoin|TestBreaks/made-up", "./lab/papers")
}

// copyModule copies the module's files, as far as Go needs them, to a new
// directory.
func copyModule(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && (rel == "runs" || rel != "." && strings.HasPrefix(e.Name(), ".")):
			return filepath.SkipDir
		case e.IsDir():
			return os.MkdirAll(filepath.Join(dir, rel), 0o777)
		case !e.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), text, 0o666)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func replace(t *testing.T, path, old, with string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s lacks %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, with, 1)), 0o666); err != nil {
		t.Fatal(err)
	}
}

func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}
