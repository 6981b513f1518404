package recipe

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hasten/engine/rng"
)

// texts are the settings without their lines.
func (r *Recipe) texts() map[string]string {
	m := map[string]string{}
	for k, s := range r.settings {
		m[k] = s.text
	}
	return m
}

func parse(t *testing.T, text string) *Recipe {
	t.Helper()
	r, err := Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const example = `# a comment
batch = 16
precision = "bf16"
time = "2m"
deep.er = true # is section deep

[optim]
use = "adamw"
lr = 1e-3
beta1 = 0.5
huge = 1e300
text = """
two
lines"""

[data]
use = "../some dir/#1.txt"
fraction = 0.0
`

func TestParse(t *testing.T) {
	want := map[string]string{
		"batch": "16", "precision": "bf16", "time": "2m", "deep.er": "true",
		"optim": "adamw", "optim.lr": "0.001", "optim.beta1": "0.5", "optim.huge": "1e+300", "optim.text": "two\nlines",
		"data": "../some dir/#1.txt", "data.fraction": "0",
	}
	if got := parse(t, example).texts(); !maps.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestParseErrors holds that errors are one line, with the name of the file and
// the line in it.
func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a = 1\nb = ", "recipe test.toml: line 2: "},
		{"a = 1\na = 2", "line 2: "},
		{"\n\nlr = [1, 2]", "recipe test.toml: line 3: lr: no setting takes"},
		{"[optim]\nlr = 1\nbetas = [0.9, 0.95]", "line 3: optim.betas: no setting takes"},
		{"[optim]\n\nlr = 2020-01-01", "line 3: optim.lr: no setting takes"},
		{"x = 1\n[[optim]]\nlr = 1", "line 2: optim: no setting takes"},
		{"[optim.adamw]\nlr = 1", "line 2: optim.adamw.lr: settings have at most two names"},
		{"a = {b = 1, c = {d = 1}}", "line 1: a.c.d: settings have at most two names"},
		{"x = 1\n\"a.b\" = 1", `line 2: "a.b" cannot be the name`},
		{"\"\" = 1", `line 1: "" cannot be the name`},
		{"[a]\n\"b c\" = 1", `line 2: "b c" cannot be the name`},
		{"a = \"\xff\"", "line 1: "},
		{"a = 1\nb = 0b\n", "line 2: "},
		{strings.Repeat("#", maxSize) + "\n", "is it a recipe?"},
	} {
		_, err := Parse("test.toml", []byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), "recipe test.toml: ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: %v; want %q", c.text, err, c.want)
		}
	}
}

func TestOpen(t *testing.T) {
	for _, name := range Builtin() {
		if r, err := Open(name); err != nil || r.Name != name || r.Get("task") == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "mine.toml")
	if err := os.WriteFile(path, []byte(example), 0o666); err != nil {
		t.Fatal(err)
	}
	if r, err := Open(path); err != nil || r.Get("batch") != "16" {
		t.Errorf("%v", err)
	}
	noise := make([]byte, 1<<20)
	s := rng.New(1, 1)
	for i := range noise {
		noise[i] = byte(s.Uint32())
	}
	if err := os.WriteFile(path, noise, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		path:                       "is it a recipe?",
		dir:                        "directory",
		filepath.Join(dir, "none"): "no built-in recipe of that name; built in: gpt",
	} {
		if _, err := Open(name); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		name string
		set  []string
		want map[string]string // what differs from before; "" for what is gone
	}{
		{"plain", []string{"batch=32"}, map[string]string{"batch": "32"}},
		{"spaces", []string{" batch = 32 "}, map[string]string{"batch": "32"}},
		{"option", []string{"optim.lr=1"}, map[string]string{"optim.lr": "1"}},
		{"use", []string{"optim.use=adamw"}, nil},
		{"value with =", []string{"data=a=b"}, map[string]string{"data": "a=b", "data.field": ""}},
		{"another part drops the options", []string{"optim=sgd"}, map[string]string{"optim": "sgd", "optim.lr": "", "optim.beta1": ""}},
		{"the same part keeps them", []string{"optim=adamw"}, nil},
		{"parts come first", []string{"optim.lr=7", "optim=sgd"}, map[string]string{"optim": "sgd", "optim.lr": "7", "optim.beta1": ""}},
		{"the last counts", []string{"batch=1", "batch=2"}, map[string]string{"batch": "2"}},
	} {
		r := parse(t, "batch = 16\n[optim]\nuse = \"adamw\"\nlr = 0.1\nbeta1 = 0.5\n[data]\nuse = \"x\"\nfield = \"body\"\n")
		want := r.texts()
		for k, v := range c.want {
			if want[k] = v; v == "" {
				delete(want, k)
			}
		}
		before := r.Clone()
		if err := r.Set(c.set...); err != nil {
			t.Fatal(err)
		}
		if got := r.texts(); !maps.Equal(got, want) {
			t.Errorf("%s: got  %q\nwant %q", c.name, got, want)
		}
		if before.Get("optim") != "adamw" || len(before.Options("optim")) != 2 {
			t.Errorf("%s: the clone was changed", c.name)
		}
	}
	for _, bad := range []string{"", "batch", "=1", ".lr=1", "optim.=1", "a.b.c=1", "a b=1", "data=\xff"} {
		r := parse(t, "batch = 16")
		if err := r.Set("batch=1", bad); err == nil || !strings.Contains(err.Error(), "--set") {
			t.Errorf("%q: error %v", bad, err)
		}
		if r.Get("batch") != "16" {
			t.Errorf("%q: half of it was set", bad)
		}
	}
}

func TestReplaceAndPut(t *testing.T) {
	r := parse(t, "[optim]\nuse = \"adamw\"\nlr = 0.1\nold = 1")
	r.Replace("optim", "sgd", map[string]string{"lr": "2"})
	r.Put("optim.momentum", " 3 ")
	if got, want := r.texts(), (map[string]string{"optim": "sgd", "optim.lr": "2", "optim.momentum": " 3 "}); !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCheck(t *testing.T) {
	plain, seams, groups := []string{"batch", "data"}, []string{"optim"}, []string{"data", "evaluate"}
	for text, want := range map[string]string{
		"batch = 1\ndata.field = 2\noptim.x = 3\nevaluate.every = 4": "",
		"[data]\nuse = \"x\"\n[optim]\nuse = \"y\"":                  "",
		"batch = 1\nbetch = 2":                                       "line 2: betch: no such setting; did you mean batch? (there is batch, data, optim)",
		"[batch]\nx = 2":                                             "line 2: batch.x: no such setting; there is data, evaluate, optim",
		"\nevaluate = 2":                                             "line 2: evaluate: a group of settings",
		"[optm]\n\nlr = 2":                                           "line 3: optm.lr: no such setting; did you mean optim?",
	} {
		err := parse(t, text).Check(plain, seams, groups)
		if (want == "") != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	r := parse(t, "batch = 1")
	r.Set("betch=2")
	if err := r.Check(plain, seams, groups); err == nil || !strings.HasPrefix(err.Error(), "betch: no such") {
		t.Errorf("%v", err)
	}
}

// checkRoundTrip writes a recipe and reads it back.
func checkRoundTrip(t *testing.T, r *Recipe) {
	t.Helper()
	text := r.TOML()
	if len(text) > maxSize {
		return
	}
	again, err := Parse("again", text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if !maps.Equal(again.texts(), r.texts()) {
		t.Fatalf("got  %q\nwant %q\nfrom %s", again.texts(), r.texts(), text)
	}
	if !bytes.Equal(again.TOML(), text) {
		t.Fatalf("writing twice gives\n%s\nand\n%s", text, again.TOML())
	}
}

func TestRoundTrip(t *testing.T) {
	checkRoundTrip(t, parse(t, example))
	for _, value := range []string{
		"", " ", "0", "-0", "007", "1e5", "1e-05", "1e+300", "1E5", "inf", "-inf", "nan", "+1", "0x10", "1_000", ".5", "5.",
		"9223372036854775807", "9223372036854775808", "true", "True", "a\nb", "\"", "'''", "\\u0000", "\x00\x7f", "é😀", "2020-01-01", "[1]", "C:\\x",
	} {
		r := parse(t, "")
		r.Put("plain", value)
		r.Put("seam", value)
		r.Put("seam.option", value)
		checkRoundTrip(t, r)
	}
}

// FuzzParse holds that no text makes Parse panic, and that what it reads
// survives TOML.
func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	for _, name := range Builtin() {
		r, err := Open(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.TOML())
	}
	f.Add([]byte("a = -0.0\nb = nan\nc = -inf\nd = 0x_1\n[e]\nf.use = 1"))
	f.Add([]byte("a.use = 1\n\"a\".b = '''x'''\n[[c]]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 2000 && bytes.ContainsAny(text, "{.") {
			return // deep nesting is slow, and bounded by maxSize alone
		}
		r, err := Parse("fuzz", text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("error of more than a line: %q", err)
			}
			return
		}
		checkRoundTrip(t, r)
		r.Set(fmt.Sprintf("%s=%s", text[:min(5, len(text))], text))
		checkRoundTrip(t, r)
	})
}

// TestNesting reads the texts that take the TOML library longest, at a third of
// the size that is allowed.
func TestNesting(t *testing.T) {
	const n = maxSize / 12
	for _, text := range []string{
		strings.Repeat("a.", 2*n) + "a = 1", "a = " + strings.Repeat("{a=", n), "a = " + strings.Repeat("{a=\n", n), "a = " + strings.Repeat("[", 4*n),
		"a = " + strings.Repeat("[", 2*n) + strings.Repeat("]", 2*n), "[" + strings.Repeat("a.", 2*n) + "a]\nb = 1",
	} {
		if _, err := Parse("nested", []byte(text)); err == nil || len(err.Error()) > 300 {
			t.Errorf("%.20q…: error %.400v", text, err)
		}
	}
}
