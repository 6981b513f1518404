package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hasten/lab/peer"
)

func testHost() *host {
	return &host{CPU: "A CPU", Cores: 2, Threads: 2, Platform: "linux/amd64", Hasten: "v1", Go: "go1.26", Date: time.Unix(0, 0).UTC(),
		Peer: peer.Version{Python: "3.11", Torch: "1.13", NumPy: "1.24", BLAS: "libopenblas", Threads: 2}}
}

// The work of both sides of a comparison is described by the same flags.
func TestComparisons(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range comparisons() {
		ours, theirs := strings.Join(c.hasten, " "), strings.Join(c.peer, " ")
		_, ours, _ = strings.Cut(ours, "--json ")
		_, theirs, _ = strings.Cut(theirs, " ")
		if seen[c.Name] || ours != theirs {
			t.Errorf("%s: %s; PyTorch: %s; seen %v", c.Name, ours, theirs, seen[c.Name])
		}
		seen[c.Name] = true
	}
	if len(seen) != 2*4+9+4 {
		t.Errorf("%d comparisons", len(seen))
	}
}

func TestParseCost(t *testing.T) {
	for text, want := range map[string]cost{
		`{"tokens_per_s": 12.5, "best_tokens_per_s": 99, "rss_mib": 3}`: {12.5, 3},
		`{"gflops": 7, "peak_share": 0.5}`:                              {7, 0},
		`{"rss_mib": 3}`:                                                {},
		`tokens`:                                                        {},
	} {
		if got, err := parseCost([]byte(text)); want.Rate > 0 && (got != want || err != nil) || want.Rate == 0 && err == nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestSecondsTo(t *testing.T) {
	points := []point{{10, 3}, {20, 2}, {30, 2.5}, {40, 1}}
	for target, want := range map[float64]float64{3.5: 10, 3: 10, 2.4: 20, 2: 20, 1.5: 40, 0.9: math.Inf(1)} {
		if got := secondsTo(points, target); got != want {
			t.Errorf("%g bits per byte after %g s, want %g", target, got, want)
		}
	}
}

// A search that was interrupted goes on: complete runs are kept, a line that
// was not written whole is dropped.
func TestJournalGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results", "quality.jsonl")
	open := func() *journal {
		t.Helper()
		j, err := openJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.settle(testHost()); err != nil {
			t.Fatal(err)
		}
		return j
	}
	one := training{Role: roleSearch, Cell: grid()[0], Budget: 5, Tokens: 4096}
	trained := 0
	train := func() ([]point, error) { trained++; return []point{{5, float64(trained)}}, nil }
	for range 3 {
		if r, err := open().run(one, train); err != nil || r.last().BitsPerByte != 1 {
			t.Fatal(r, err)
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(`{"run":{"role":"sea`)
		f.Close()
	}
	for i, change := range []func(*training){
		func(r *training) { r.Budget = 6 },
		func(r *training) { r.Cell.LR = 7 },
		func(r *training) { r.Tokens = 1024 },
		func(r *training) { r.Role = roleFinal },
	} {
		other := one
		change(&other)
		if r, err := open().run(other, train); err != nil || r.last().BitsPerByte != float64(i+2) {
			t.Errorf("change %d: %v, %v", i, r, err)
		}
	}
	if _, err := open().run(training{}, func() ([]point, error) { return nil, errors.New("no peer") }); err == nil || len(open().records) != 1+5 {
		t.Errorf("after a failure: %v, %d records", err, len(open().records))
	}
	another := testHost()
	another.CPU = "another"
	if _, err := open().settle(another); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("another machine: %v", err)
	}
	another = testHost()
	another.Hasten, another.Load = "v2", 9
	if _, err := open().settle(another); err != nil {
		t.Errorf("another hasten: %v", err)
	}
	if err := os.WriteFile(path, []byte("{\"host\":{}}\n{\"run\":{}}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a run without evaluations: %v", err)
	}
}

// Tables go into their places, again and again, and nothing else changes.
func TestFill(t *testing.T) {
	dir := t.TempDir()
	doc, speed, quality := filepath.Join(dir, "doc.md"), filepath.Join(dir, "speed.json"), filepath.Join(dir, "quality.jsonl")
	const text = "before\n<!-- speed -->\nnot yet\n<!-- end of speed -->\nbetween\n<!-- quality -->\n<!-- end of quality -->\nafter\n"
	read := func() string {
		t.Helper()
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := os.WriteFile(doc, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := fill(doc, speed, quality); err != nil || read() != text {
		t.Fatalf("without results: %v\n%s", err, read())
	}
	report := &speedReport{testHost(), []outcome{
		{Name: "gpt", Unit: "tokens/s", Pairs: []pair{{cost{30, 10}, cost{10, 40}}, {cost{44, 10}, cost{11, 40}}, {cost{20, 10}, cost{10, 40}}}},
		{Name: "gemm", Unit: "GFLOP/s", Failed: "no int8"},
	}}
	if err := writeJSON(speed, report); err != nil {
		t.Fatal(err)
	}
	j := &journal{path: quality}
	final := training{Role: roleFinal, Cell: grid()[2], Budget: 600}
	for _, r := range []*record{
		{Host: testHost()},
		{Run: &training{Role: roleSearch, Cell: grid()[2], Budget: 180}, Points: []point{{180, 2.5}}},
		{Run: &final, Points: []point{{300, 2.25}, {600, 2}}},
		{Run: &training{Role: roleHasten, Hasten: "v1", Seed: 1, Budget: 120}, Points: []point{{1, 1}}},
		{Run: &training{Role: roleHasten, Hasten: "v2", Seed: 1, Budget: 120}, Points: []point{{50, 2.1}, {60, 2}, {120, 1.5}}},
		{Run: &training{Role: roleHasten, Hasten: "v2", Seed: 2, Budget: 120}, Points: []point{{50, 1.9}, {120, 1.5}}},
		{Run: &training{Role: roleHasten, Hasten: "v2", Seed: 3, Budget: 120}, Points: []point{{50, 2.2}, {120, 2.1}}},
	} {
		if err := j.add(r); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := fill(doc, speed, quality); err != nil {
			t.Fatal(err)
		}
	}
	got := read()
	for _, want := range []string{
		"before\n<!-- speed -->\n", "<!-- end of speed -->\nbetween\n<!-- quality -->\n", "<!-- end of quality -->\nafter\n",
		"| gpt | 30 | 10 | tokens/s | **3.00×** (2.00–4.00) | 10 : 40 | 4.00× |\n",
		"| gemm | – | – | GFLOP/s | not measured: no int8 | | |\n",
		"| 4 × 128, 128, 16, 0.001, f32 | 180 | 2.5000 |\n",
		"| seed 1 | 120 | 1.5000 | 60.0 | **10.0×** |\n",
		"| seed 3 | 120 | 2.1000 | not reached | – |\n",
		"| median | | | 60.0 | **10.0×** |\n",
	} {
		if strings.Count(got, want) != 1 {
			t.Errorf("not once: %q", want)
		}
	}
	if t.Failed() || strings.Contains(got, "not yet") {
		t.Errorf("%s", got)
	}
	if err := os.WriteFile(doc, []byte("<!-- speed -->\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := fill(doc, speed, quality); err == nil || !strings.Contains(err.Error(), "end of speed") {
		t.Errorf("a document without places: %v", err)
	}
}
