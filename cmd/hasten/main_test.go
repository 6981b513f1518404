package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"hasten/data/token"
)

// The test binary is the command when this is set.
const asCommand = "HASTEN_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command prepares the command with a working directory and a cache of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, args...)
	c.Dir = t.TempDir()
	cache := filepath.Join(c.Dir, "cache")
	c.Env = append(os.Environ(), asCommand+"=1", "XDG_CACHE_HOME="+cache, "HOME="+c.Dir, "LocalAppData="+cache)
	return c
}

type outcome struct {
	status      int
	out, stderr string
}

func finish(t *testing.T, c *exec.Cmd) outcome {
	t.Helper()
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	err := c.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	if strings.Contains(stderr.String(), "goroutine ") || strings.Contains(stderr.String(), "internal error") {
		t.Errorf("%v: %s", c.Args[1:], stderr.String())
	}
	return outcome{c.ProcessState.ExitCode(), out.String(), stderr.String()}
}

func hasten(t *testing.T, args ...string) outcome {
	t.Helper()
	return finish(t, command(t, args...))
}

// corpus writes a small text with something to learn.
func corpus(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for i := range 4000 {
		b.WriteString([]string{"the cat sat on the mat.\n", "a dog ran after the cat.\n", "the mat was red.\n"}[i*i%3])
	}
	path := filepath.Join(t.TempDir(), "corpus.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// tiny are the settings of a model that trains in no time.
var tiny = []string{
	"--set", "tokenizer=bytes", "--set", "model.layers=1", "--set", "model.heads=2", "--set", "model.dim=32",
	"--set", "model.ctx=32", "--set", "batch=4", "--set", "evaluate.windows=4",
}

func trainArgs(args ...string) []string { return append(append([]string{"train"}, tiny...), args...) }

func TestTrainSampleEvalExport(t *testing.T) {
	text, dir := corpus(t), filepath.Join(t.TempDir(), "model")
	r := hasten(t, trainArgs("--data", text, "--steps", "40", "--json", "--out", dir, "--set", "schedule.warmup=5", "--set", "optim.lr=0.01")...)
	if r.status != 0 {
		t.Fatalf("train: status %d: %s", r.status, r.stderr)
	}
	var first, last map[string]any
	lines := 0
	for s := bufio.NewScanner(strings.NewReader(r.out)); s.Scan(); lines++ {
		var m map[string]any
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			t.Fatalf("train --json printed %q: %v", s.Text(), err)
		}
		if first == nil {
			first = m
		}
		last = m
	}
	for _, key := range []string{"step", "tokens", "seconds", "train_loss", "val_loss", "bits_per_byte", "tokens_per_s"} {
		if _, ok := first[key].(float64); !ok {
			t.Errorf("the first line has no number %q: %v", key, first)
		}
	}
	if last["done"] != true || last["dir"] != dir || last["step"] != 40.0 || last["tokens"] != 40.0*4*32 {
		t.Errorf("the last line is %v", last)
	}
	if first["val_loss"].(float64) < last["val_loss"].(float64)+0.5 {
		t.Errorf("loss went from %v to %v", first["val_loss"], last["val_loss"])
	}
	for _, name := range []string{"model.safetensors", "config.json", "tokenizer.json", "recipe.toml", "log.jsonl", "loss.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}

	r = hasten(t, "eval", dir, "--data", text, "--json")
	var e struct {
		Loss   float64  `json:"loss"`
		Bits   *float64 `json:"bits_per_byte"`
		Tokens int64    `json:"tokens"`
	}
	if err := json.Unmarshal([]byte(r.out), &e); err != nil || r.status != 0 {
		t.Fatalf("eval: status %d, %q, %v: %s", r.status, r.out, err, r.stderr)
	}
	// With bytes for tokens, bits per byte are nats over ln 2, but for the
	// token that ends the document.
	if e.Bits == nil || math.Abs(*e.Bits-e.Loss/math.Ln2) > 1e-3 || e.Tokens == 0 {
		t.Errorf("eval: %s", r.out)
	}

	sample := func(extra ...string) string {
		r := hasten(t, append([]string{"sample", dir, "--prompt", "the cat", "--tokens", "20"}, extra...)...)
		if r.status != 0 || !strings.HasPrefix(r.out, "the cat") {
			t.Fatalf("sample: status %d, %q: %s", r.status, r.out, r.stderr)
		}
		return r.out
	}
	if a, b := sample("--seed", "4"), sample("--seed", "4"); a != b {
		t.Errorf("two samples of one seed differ: %q, %q", a, b)
	}
	r = hasten(t, "sample", dir, "--prompt", "the cat", "--tokens", "5", "--json")
	var s struct{ Prompt, Text string }
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || s.Prompt != "the cat" || s.Text == "" {
		t.Errorf("sample --json: %q, %v", r.out, err)
	}

	// The saved recipe repeats the run to the bit.
	again := filepath.Join(t.TempDir(), "again")
	if r := hasten(t, "train", filepath.Join(dir, "recipe.toml"), "--out", again); r.status != 0 {
		t.Fatalf("train recipe.toml: %s", r.stderr)
	}
	sameFile(t, filepath.Join(dir, "model.safetensors"), filepath.Join(again, "model.safetensors"))
}

// TestTrainOtherTasks trains each other kind of job on a few lines.
func TestTrainOtherTasks(t *testing.T) {
	dir := t.TempDir()
	var texts, table strings.Builder
	table.WriteString("size,weight,kind\n")
	images, labels := []byte{0, 0, 8, 3, 0, 0, 0, 200, 0, 0, 0, 2, 0, 0, 0, 2}, []byte{0, 0, 8, 1, 0, 0, 0, 200}
	for i := range 200 {
		fmt.Fprintf(&texts, "%s\tthe %s number %d\n", []string{"cat", "dog"}[i%2], []string{"cat sat", "dog ran"}[i%2], i)
		fmt.Fprintf(&table, "%d,%d,%s\n", i%7+10*(i%2), i%5, []string{"small", "large"}[i%2])
		images, labels = append(images, byte(i%2*200), byte(i), 40, 40), append(labels, byte(i%2))
	}
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("train-images", string(images))
	write("train-labels", string(labels))
	for _, args := range [][]string{
		{"vision", "--data", dir, "--steps", "40", "--set", "batch=20", "--set", "optim.lr=0.01"},
		{"text", "--data", write("texts.tsv", texts.String()), "--set", "epochs=20", "--set", "model.buckets=1000"},
		{"tabular", "--data", write("table.csv", table.String()), "--set", "booster.rounds=10"},
	} {
		out := filepath.Join(dir, "model-"+args[0])
		r := hasten(t, append([]string{"train", "--json", "--out", out}, args...)...)
		lines := strings.Split(strings.TrimSpace(r.out), "\n")
		var done map[string]any
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &done); err != nil || r.status != 0 || done["done"] != true || done["dir"] != out {
			t.Errorf("%s: status %d, %v: %s%s", args[0], r.status, err, r.out, r.stderr)
			continue
		}
		if a, _ := done["accuracy"].(float64); a < 0.9 {
			t.Errorf("%s: %v", args[0], done)
		}
		if _, err := os.Stat(filepath.Join(out, "recipe.toml")); err != nil {
			t.Error(err)
		}
		if r := hasten(t, append([]string{"train", "--out", out}, args...)...); r.status != exitUsage || !strings.Contains(r.stderr, "already") {
			t.Errorf("%s again: status %d: %s", args[0], r.status, r.stderr)
		}
	}
}

func TestExportGGUF(t *testing.T) {
	text, dir := corpus(t), filepath.Join(t.TempDir(), "model")
	args := trainArgs("--data", text, "--steps", "1", "--out", dir, "--set", "tokenizer=bpe:300")
	if r := hasten(t, args...); r.status != 0 {
		t.Fatal(r.stderr)
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	if r := hasten(t, "export", dir, "--gguf", path, "--dtype", "f32"); r.status != 0 || strings.TrimSpace(r.out) != path {
		t.Fatalf("status %d, %q: %s", r.status, r.out, r.stderr)
	}
	b, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(b, []byte("GGUF")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestInterruptAndResume(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted alone on windows")
	}
	text := corpus(t)
	dirs := t.TempDir()
	broken, whole := filepath.Join(dirs, "broken"), filepath.Join(dirs, "whole")
	args := func(dir string) []string {
		return trainArgs("--data", text, "--steps", "400", "--json", "--out", dir, "--set", "evaluate.every=10")
	}
	c := command(t, args(broken)...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan() // the first evaluation: training is under way
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	c.Wait()
	if got := c.ProcessState.ExitCode(); got != exitInterrupted || !strings.Contains(stderr.String(), "--resume --out "+broken) {
		t.Fatalf("after Ctrl-C: status %d: %s", got, stderr.String())
	}
	if r := hasten(t, "train", "--resume", "--out", broken); r.status != 0 || !strings.Contains(r.stderr, "going on from step") {
		t.Fatalf("resume: status %d: %s", r.status, r.stderr)
	}
	if r := hasten(t, args(whole)...); r.status != 0 {
		t.Fatal(r.stderr)
	}
	sameFile(t, filepath.Join(broken, "model.safetensors"), filepath.Join(whole, "model.safetensors"))
}

func TestWrongUsage(t *testing.T) {
	text := corpus(t)
	dir := filepath.Join(t.TempDir(), "there")
	if r := hasten(t, trainArgs("--data", text, "--steps", "1", "--out", dir)...); r.status != 0 {
		t.Fatal(r.stderr)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string // in the message
	}{
		{[]string{"nonsense"}, exitUsage, "unknown command"},
		{[]string{"train", "--nonsense"}, exitUsage, "unknown flag"},
		{[]string{"train", "a", "b"}, exitUsage, "accepts at most 1"},
		{[]string{"train", "--set", "optim=nonsense"}, exitUsage, "adamw"},
		{[]string{"train", "--set", "optim.nonsense=1"}, exitUsage, "lr"},
		{[]string{"train", "--set", "optim.lr=fast"}, exitUsage, "want a number"},
		{[]string{"train", "--set", "optim.lr=-1"}, exitUsage, "range"},
		{[]string{"train", "--set", "nonsense=1"}, exitUsage, "no such setting"},
		{[]string{"train", "--set", "model.heads=7"}, exitUsage, "multiple"},
		{[]string{"train", "--steps", "0"}, exitUsage, "never end"},
		{[]string{"train", "nonsense.toml"}, exitFailure, "no such file"},
		{trainArgs("--data", text, "--steps", "1", "--out", dir), exitUsage, "--resume"},
		{trainArgs("--data", "nonsense.txt", "--steps", "1"), exitFailure, "nonsense.txt"},
		{[]string{"sample"}, exitUsage, "accepts 1 arg"},
		{[]string{"sample", "nonsense"}, exitFailure, "nonsense"},
		{[]string{"sample", dir, "--temperature", "-1"}, exitUsage, "temperature"},
		{[]string{"eval", "nonsense"}, exitFailure, "nonsense"},
		{[]string{"eval", dir, "--data", text, "--ctx", "99"}, exitFailure, "context is 32"},
		{[]string{"export", dir}, exitUsage, "--gguf"},
		{[]string{"bench"}, exitUsage, "gemm"},
		{[]string{"bench", "gemm", "--form", "xx"}, exitUsage, "nn, nt or tn"},
		{[]string{"bench", "gpt", "--layers", "0"}, exitUsage, "layers"},
		{[]string{"parts", "nonsense"}, exitUsage, "optim"},
		{[]string{"papers", "show", "nonsense"}, exitUsage, "papers search"},
		{[]string{"data", "nonsense"}, exitUsage, "nonsense"},
		{[]string{"data", "tokenize"}, exitUsage, "out"},
	} {
		r := hasten(t, c.args...)
		if r.status != c.status || !strings.Contains(r.stderr, c.want) || strings.Count(strings.TrimSpace(r.stderr), "\n") > 1 {
			t.Errorf("hasten %s: status %d, want %d and %q in: %s", strings.Join(c.args, " "), r.status, c.status, c.want, r.stderr)
		}
	}
	c := command(t, "version")
	c.Env = append(c.Env, "HASTEN_SIMD=nonsense")
	if r := finish(t, c); r.status != exitUsage || !strings.Contains(r.stderr, "HASTEN_SIMD") {
		t.Errorf("HASTEN_SIMD=nonsense: status %d: %s", r.status, r.stderr)
	}
}

func TestJSONOfTheOtherCommands(t *testing.T) {
	for _, c := range []struct {
		args []string
		keys []string
	}{
		{[]string{"version", "--json"}, []string{"version", "go", "platform", "simd"}},
		{[]string{"doctor", "--json"}, []string{"cores", "simd", "f32_gflops_per_core", "copy_gb_per_s", "data"}},
		{[]string{"bench", "gemm", "--n", "64", "--json"}, []string{"gflops", "peak_share"}},
		{[]string{"bench", "attention", "--ctx", "64", "--json"}, []string{"forward_gflops", "backward_gflops"}},
		{[]string{"bench", "gpt", "--layers", "1", "--heads", "2", "--dim", "32", "--ctx", "32", "--batch", "2", "--vocab", "64", "--steps", "2"},
			[]string{"tokens_per_s", "step_ms", "params", "rss_mib", "arena_peak_mib", "peak_share"}},
	} {
		r := hasten(t, c.args...)
		var m map[string]any
		if err := json.Unmarshal([]byte(r.out), &m); err != nil || r.status != 0 {
			t.Errorf("%v: status %d, %v: %s%s", c.args, r.status, err, r.out, r.stderr)
			continue
		}
		for _, k := range c.keys {
			if _, ok := m[k]; !ok {
				t.Errorf("%v: no %q in %s", c.args, k, r.out)
			}
		}
	}
	for _, args := range [][]string{{"parts", "--json"}, {"parts", "optim", "--json"}, {"data", "--json"}, {"papers", "list", "--json"}, {"papers", "search", "attention", "--json"}} {
		r := hasten(t, args...)
		var list []map[string]any
		if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list) == 0 || list[0]["name"] == "" {
			t.Errorf("%v: %v: %s", args, err, r.out)
		}
	}
}

func TestCompletion(t *testing.T) {
	for begun, want := range map[string]string{"optim=": "optim=sgd", "optim.lr": "optim.lr=0.001", "batch": "batch=8", "data.f": "data.field=text", "model=m": "model=mlp", "sampler.r": "sampler.r=0.5", "booster": "booster=cgb"} {
		r := hasten(t, "__complete", "train", "--set", begun)
		if !strings.Contains(r.out, want) {
			t.Errorf("completing --set %s: %q", begun, r.out)
		}
	}
	if r := hasten(t, "__complete", "train", ""); !strings.Contains(r.out, "gpt") {
		t.Errorf("completing train: %q", r.out)
	}
}

// TestPrinterHoldsBackHalfCharacters feeds the bytes of characters one by one.
func TestPrinterHoldsBackHalfCharacters(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = write
	defer func() { os.Stdout = stdout }()
	emit := printer(token.Bytes{})
	buf := make([]byte, 16)
	for i, want := range []string{"a", "", "", "€", "", "é"} {
		if err := emit(int32("a€é"[i])); err != nil {
			t.Fatal(err)
		}
		if want == "" {
			continue
		}
		read.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := read.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("after byte %d: %q, %v; want %q", i, buf[:n], err, want)
		}
	}
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ", a, b)
	}
}
