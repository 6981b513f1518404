package runs

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func log(t *testing.T, f *Folder, name string) Log {
	t.Helper()
	l, err := f.Log(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func same(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) })
}

func TestLogFollowsAFileThatGrows(t *testing.T) {
	dir, nan := t.TempDir(), math.NaN()
	f := Open(dir)
	write(t, dir, "a/log.jsonl", `{"step":1,"train_loss":4}`+"\n"+`{"step":2,"train_`)
	l := log(t, f, "a")
	if l.Records != 1 || !same(l.Columns["step"], []float64{1}) {
		t.Fatalf("%+v", l)
	}
	first := l
	write(t, dir, "a/log.jsonl", `loss":null,"val_loss":3}`+"\n"+`{"step":3,"memory/weights":7}`+"\n")
	l = log(t, f, "a")
	for name, want := range map[string][]float64{"step": {1, 2, 3}, "train_loss": {4, nan, nan}, "val_loss": {nan, 3, nan}, "memory/weights": {nan, nan, 7}} {
		if !same(l.Columns[name], want) {
			t.Errorf("%s: %v, want %v", name, l.Columns[name], want)
		}
	}
	if l.Version == first.Version || l.Last("val_loss") != 3 || !math.IsNaN(l.Last("lr")) {
		t.Errorf("version %d, last %g", l.Version, l.Last("val_loss"))
	}
	if again := log(t, f, "a"); again.Version != l.Version {
		t.Error("a new version of nothing new")
	}
	if len(first.Columns["step"]) != 1 {
		t.Error("a log that was handed out has changed")
	}
}

// A resumed run cuts its log off and writes on; between two looks it may have
// grown beyond what it was.
func TestLogThatWasCutOff(t *testing.T) {
	dir := t.TempDir()
	f := Open(dir)
	write(t, dir, "a/log.jsonl", "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n")
	log(t, f, "a")
	for _, text := range []string{"{\"step\":1}\n", "{\"step\":1}\n{\"step\":2}\n{\"step\":5}\n{\"step\":6}\n"} {
		version := log(t, f, "a").Version
		if err := os.WriteFile(filepath.Join(dir, "a", "log.jsonl"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		l := log(t, f, "a")
		if l.Records != strings.Count(text, "\n") || l.Version <= version {
			t.Errorf("%d records of %q, version %d after %d", l.Records, text, l.Version, version)
		}
	}
}

func TestBrokenLinesAreNamed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/log.jsonl", "{\"step\":1}\nx\nnull\n{\"step\":2}\n")
	l := log(t, Open(dir), "a")
	if l.Records != 2 || !strings.Contains(l.Broken, "line 2 ") {
		t.Errorf("%+v", l)
	}
	write(t, dir, "b/log.jsonl", strings.Repeat("y", maxLine+100))
	if _, err := Open(dir).Log("b"); err == nil || !strings.Contains(err.Error(), "line 1 ") {
		t.Errorf("%v", err)
	}
}

func TestListAndStates(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for i, name := range []string{"running", "deep/er/finished", "stopped", "too/deep/for/this"} {
		write(t, dir, name+"/log.jsonl", "{\"step\":1}\n")
		if name != "running" {
			at := old.Add(time.Duration(i) * time.Second)
			if err := os.Chtimes(filepath.Join(dir, name, "log.jsonl"), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, dir, "deep/er/finished/model.safetensors", "x")
	write(t, dir, "stopped/checkpoints/log.jsonl", "")
	write(t, dir, "file", "")
	all, err := Open(dir).List()
	got := ""
	for _, r := range all {
		got += fmt.Sprint(r.Name, ":", r.State, " ")
	}
	if want := "running:running stopped:stopped deep/er/finished:finished "; err != nil || got != want {
		t.Errorf("%s (%v), want %s", got, err, want)
	}
	if all, err := Open(filepath.Join(dir, "absent")).List(); len(all) > 0 || err != nil {
		t.Errorf("%v, %v", all, err)
	}
}

// No name leads out of the folder.
func TestNamesStayInside(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "outside/log.jsonl", "{\"step\":1}\n")
	write(t, dir, "runs/a/log.jsonl", "{\"step\":1}\n")
	names := []string{"../outside", "a/../../outside", "/etc", "", "a/", `..\outside`, `a\b`, "b", filepath.ToSlash(filepath.Join(dir, "outside"))}
	if runtime.GOOS != "windows" {
		for link, to := range map[string]string{"link": "../outside", "runs/c/log.jsonl": "../../outside/log.jsonl"} {
			path := filepath.Join(dir, "runs", strings.TrimPrefix(link, "runs/"))
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
		}
		names = append(names, "link", "c")
	}
	f := Open(filepath.Join(dir, "runs"))
	for _, name := range names {
		_, errLog := f.Log(name)
		_, errRaw := f.Raw(name)
		_, errFind := f.Find(name)
		for _, err := range []error{errLog, errRaw, errFind} {
			if !errors.Is(err, ErrNone) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if all, err := f.List(); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	raw, err := f.Raw("a")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if text, err := io.ReadAll(raw); err != nil || string(text) != "{\"step\":1}\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func FuzzLog(f *testing.F) {
	f.Add([]byte("{\"step\":1}\n{\"step\":null,\"x\":1e999}\n"), 5)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		if cut < 0 || cut > len(text) {
			return
		}
		var whole, parts tail
		whole.lines(text)
		rest := parts.lines(text[:cut])
		parts.lines(append(slices.Clone(rest), text[cut:]...))
		if whole.log.Records != parts.log.Records || whole.end != parts.end {
			t.Fatalf("%d and %d records", whole.log.Records, parts.log.Records)
		}
		for name, column := range whole.log.Columns {
			if len(column) != whole.log.Records || !same(column, parts.log.Columns[name]) {
				t.Fatalf("%q: %v and %v", name, column, parts.log.Columns[name])
			}
		}
	})
}
