package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hasten/task/recipe"
	"hasten/task/text"
)

// A trained classifier predicts, is measured, and is made small.
func TestTextCommand(t *testing.T) {
	dir := t.TempDir()
	var b strings.Builder
	for i := range 400 {
		fmt.Fprintf(&b, "%s\tit is %s number %d\n", []string{"animal", "plant"}[i%2], []string{"a dog or cat", "an oak or rose"}[i%2], i)
	}
	data := filepath.Join(dir, "train.tsv")
	if err := os.WriteFile(data, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Open("text")
	if err == nil {
		err = r.Set("data="+data, "threads=1")
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := text.Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	model, small := filepath.Join(dir, "model"), filepath.Join(dir, "small")
	if _, err := text.Train(context.Background(), s, text.Options{Dir: model}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"predict", model, "my dog"}, 0, "animal\t"},
		{[]string{"predict", model, "my rose", "--top", "2", "--json"}, 0, `[{"label":"plant","probability":`},
		{[]string{"eval", model, "--data", data}, 0, "400 texts: 100.00 % right"},
		{[]string{"eval", model, "--data", data, "--json"}, 0, `"accuracy":1`},
		{[]string{"shrink", model, small, "--keep", "10"}, 0, ""},
		{[]string{"eval", small, "--data", data}, 0, "400 texts: 100.00 % right"},
		{[]string{"shrink", model, small}, exitUsage, ""},
		{[]string{"predict", model, "x", "--top", "0"}, exitUsage, ""},
		{[]string{"predict", filepath.Join(dir, "none"), "x"}, exitFailure, ""},
	} {
		got := hasten(t, append([]string{"text"}, c.args...)...)
		if got.status != c.status || !strings.Contains(got.out, c.want) {
			t.Errorf("%q: status %d, %q %s; want %d, %q", c.args, got.status, got.out, got.stderr, c.status, c.want)
		}
	}
}
