package experiment

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"hasten/lab/card"
	"hasten/lab/result"
)

func paper(run func(*Run) error) Paper {
	return Paper{Card: card.Card{Number: 7, Slug: "made-up"}, Run: run}
}

func TestDo(t *testing.T) {
	var lines []string
	p := paper(func(r *Run) error {
		best, err := r.Tune("baseline", []float64{1, 2, 3, 4}, func(x float64) (float64, error) {
			if x == 4 {
				return math.NaN(), nil
			}
			return math.Abs(x - 2.9), nil
		})
		if err != nil || best != 3 {
			t.Errorf("best %v, %v", best, err)
		}
		r.Exact("count", 4, Equals(4))
		r.Ratio("time", "s", []float64{2, 4}, []float64{1, 2}, SpeedupAtLeast(2))
		r.Rate("rate", "1/s", []float64{3}, AtLeast(2))
		r.Outcome("loss", "nats", []float64{1}, []float64{1.01}, RatioAtMost(1.05))
		r.Print("shown", "", nil, []float64{1})
		r.Curve("a", 1, "step", "loss", make([]float64, 1000), make([]float64, 1000))
		r.Note("a note of %d words", 5)
		return nil
	})
	res, err := Do(context.Background(), p, Options{Quick: true, Watch: func(l string) { lines = append(lines, l) }})
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict != result.Holds || len(res.Figures) != 5 || !res.Quick || !slices.Equal(res.Seeds, []uint64{1}) || res.Key == "" || res.Seconds <= 0 {
		t.Errorf("%+v", res)
	}
	if tuned := res.Tuning[0]; tuned.Edge || tuned.Best != 3 || tuned.Losses[3] != result.Diverged || len(tuned.Losses) != 4 {
		t.Errorf("%+v", tuned)
	}
	if c := res.Curves[0]; len(c.X) > 201 || len(c.X) < 100 {
		t.Errorf("a curve of %d points", len(c.X))
	}
	if len(lines) != 4+5 || !strings.Contains(lines[4], "count: 4 (= 4: holds)") {
		t.Errorf("progress %q", lines)
	}
	if full, _ := Do(context.Background(), p, Options{}); len(full.Seeds) != 3 || full.Key == res.Key {
		t.Errorf("full: seeds %v, key %s and %s", full.Seeds, full.Key, res.Key)
	}
}

func TestTheEdgeOfAGridIsTold(t *testing.T) {
	res, err := Do(context.Background(), paper(func(r *Run) error {
		_, err := r.Tune("a", []float64{1, 2}, func(x float64) (float64, error) { return x, nil })
		return err
	}), Options{})
	if err != nil || !res.Tuning[0].Edge {
		t.Errorf("%+v, %v", res.Tuning, err)
	}
}

// What goes wrong in an experiment comes back as an error that names it.
func TestDoFails(t *testing.T) {
	failure := errors.New("no data")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		run  func(*Run) error
		want string
	}{
		{"error", context.Background(), func(*Run) error { return failure }, "no data"},
		{"panic", context.Background(), func(*Run) error { var a []int; _ = a[len(a)]; return nil }, "broke off"},
		{"cancelled", ended, func(*Run) error { return nil }, "canceled"},
		{"twice", context.Background(), func(r *Run) error { r.Exact("a", 1, Equals(1)); r.Exact("a", 1, Equals(1)); return nil }, "two figures"},
		{"nothing measured", context.Background(), func(r *Run) error { r.Print("a", "", nil, nil); return nil }, "not measured"},
	} {
		_, err := Do(c.ctx, paper(c.run), Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "made-up") {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.name == "panic" && !strings.Contains(err.Error(), "TestDoFails") {
			t.Errorf("the place of the panic is missing: %v", err)
		}
	}
}

// Arms take turns, and each goes first equally often.
func TestPairsTakeTurns(t *testing.T) {
	var order string
	r := &Run{}
	times := r.Pairs(3, func() { order += "a" }, func() { order += "b" }, func() { order += "c" })
	if order != "abc"+"abc"+"bca"+"cab" {
		t.Errorf("order %s", order)
	}
	if len(times) != 3 || len(times[0]) != 3 {
		t.Errorf("%v", times)
	}
}

type family struct{}

func (family) One() Paper { return Paper{Card: card.Card{Number: 1}} }
func (family) Two() Paper { return Paper{Card: card.Card{Number: 2}} }

type wrong struct{}

func (wrong) Three() int { return 3 }

func TestCollect(t *testing.T) {
	if all := Collect(family{}); len(all) != 2 || all[0].Number != 1 || all[1].Number != 2 {
		t.Errorf("%+v", all)
	}
	defer func() {
		if recover() == nil {
			t.Error("a method that is no paper was taken")
		}
	}()
	Collect(wrong{})
}

// A key changes with what the experiment reaches, and with nothing else.
func TestSources(t *testing.T) {
	fsys := fstest.MapFS{}
	add := func(name, text string) { fsys[name] = &fstest.MapFile{Data: []byte(text)} }
	add("lab/papers/f/adan.go", "package f\nimport \"hasten/learn\"\nfunc (Papers) Adan()")
	add("lab/papers/f/other.go", "package f\nimport \"hasten/unrelated\"\nfunc (Papers) Other()")
	add("lab/papers/f/shared.go", "package f\nimport \"hasten/task\"")
	add("learn/a.go", "package learn\nimport (\n\t\"fmt\"\n\t\"hasten/engine\"\n)")
	add("learn/a_test.go", "package learn\nimport \"hasten/unrelated\"")
	add("engine/a.go", "package engine")
	add("engine/a_amd64.s", "TEXT")
	add("engine/notes.txt", "")
	add("task/a.go", "package task\nimport \"hasten/lab/card\"")
	add("unrelated/a.go", "package unrelated")
	add("lab/card/a.go", "package card")
	s := &sources{root: fsys, seen: map[string]bool{}}
	if err := errors.Join(s.file("lab/papers/f/adan.go"), s.shared("lab/papers/f")); err != nil {
		t.Fatal(err)
	}
	slices.Sort(s.files)
	want := []string{"engine/a.go", "engine/a_amd64.s", "lab/papers/f/adan.go", "lab/papers/f/shared.go", "learn/a.go", "task/a.go"}
	if !slices.Equal(s.files, want) {
		t.Errorf("%q, want %q", s.files, want)
	}
	dir := t.TempDir()
	if _, ok := moduleRoot(filepath.Join(dir, "a.go")); ok {
		t.Error("found a module where there is none")
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module hasten\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if root, ok := moduleRoot(filepath.Join(dir, "lab", "a.go")); !ok || root != dir {
		t.Errorf("root %s", root)
	}
	if _, ok := moduleRoot("hasten/lab/a.go"); ok {
		t.Error("a trimmed path has no module")
	}
}

func TestShort(t *testing.T) {
	for x, want := range map[float64]float64{0: 0, 1.23456789: 1.23457, -123456789: -123457000, math.NaN(): result.Diverged, 1e-300: 1e-300} {
		if got := short(x); math.Abs(got-want) > 1e-9*math.Abs(want) {
			t.Errorf("%v becomes %v, want %v", x, got, want)
		}
	}
}
