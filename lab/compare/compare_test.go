package compare

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hasten/lab/result"
	"hasten/learn/track"
	"hasten/task/recipe"
)

func TestArms(t *testing.T) {
	arms, err := armsOf([]string{"optim=sgd", "schedule=constant", "optim.lr=0.1"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Arm{
		{Name: "plain"},
		{Name: "optim=sgd optim.lr=0.1", Settings: []string{"optim=sgd", "optim.lr=0.1"}},
		{Name: "schedule=constant", Settings: []string{"schedule=constant"}},
		{Name: "all together", Settings: []string{"optim=sgd", "optim.lr=0.1", "schedule=constant"}},
	}
	if !reflect.DeepEqual(arms, want) {
		t.Errorf("%+v", arms)
	}
	if one, _ := armsOf([]string{"optim=sgd"}); len(one) != 2 {
		t.Errorf("one part makes %d arms", len(one))
	}
	for _, bad := range [][]string{nil, {"optim"}} {
		if _, err := armsOf(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestTrialRates(t *testing.T) {
	got := trialRates(9, 5)
	for i, want := range []float64{9, 3, 27, 1, 81} {
		if math.Abs(got[i]-want) > 1e-12 {
			t.Fatalf("%v", got)
		}
	}
}

// The target is the plain arm's, and a run that misses it is not given a time.
func TestSettle(t *testing.T) {
	run := func(losses ...float64) Run {
		r := Run{Steps: int64(len(losses)), Samples: int64(10 * len(losses)), Seconds: float64(len(losses)) / 2, Final: losses[len(losses)-1]}
		for i, l := range losses {
			r.Records = append(r.Records, track.Record{Step: int64(i + 1), Tokens: int64(10 * (i + 1)), Seconds: float64(i+1) / 2, ValLoss: l})
		}
		return r
	}
	p := Report{Unit: "tokens", Arms: []Arm{
		{Name: Plain, Runs: []Run{run(5, 4, 3, 2), run(5, 4, 3, 1.9), run(5, 4, 3, 2.1)}},
		{Name: "fast", Runs: []Run{run(4, 2, 1, 1), run(4, 2, 1, 1), run(4, 3, 2, 1)}},
		{Name: "slow", Runs: []Run{run(5, 5, 5, 5), run(5, 5, 5, 5), run(5, 4, 3, 2)}},
	}}
	p.settle()
	if p.Target != 2 || p.Arms[0].reached() != 2 || p.Arms[1].reached() != 3 || p.Arms[2].reached() != 1 {
		t.Fatalf("%+v", p)
	}
	if at := p.Arms[1].Runs[0].At; at != (At{2, 20, 1}) {
		t.Errorf("%+v", at)
	}
	if at := p.Arms[2].Runs[0].At; at != (At{4, 40, 2}) {
		t.Errorf("%+v", at)
	}
	seconds := func(at *At) float64 { return at.Seconds }
	if got := p.Arms[1].toTarget(seconds); got != 1 {
		t.Errorf("fast takes %v", got)
	}
	if got := p.Arms[2].toTarget(seconds); got < result.Diverged {
		t.Errorf("slow takes %v", got)
	}
	var table, picture bytes.Buffer
	if err := p.Write(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"target 2.0000", "2.00×", "not reached", "1 of 3"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
	if err := p.Draw(&picture); err != nil || !strings.Contains(picture.String(), "<svg") {
		t.Errorf("no picture: %v", err)
	}
}

const tiny = `
tokenizer = "bytes"
steps = 12
batch = 2
[model]
layers = 1
heads = 1
dim = 8
ctx = 16
[evaluate]
every = 4
windows = 2
`

// A comparison of a whole small job: all arms, their trials, one table.
func TestDo(t *testing.T) {
	data := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(data, []byte(strings.Repeat("All work and no play makes a dull test. ", 200)), 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Parse("tiny", []byte(tiny))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Set("data=" + data); err != nil {
		t.Fatal(err)
	}
	o := Options{Recipe: r, With: []string{"optim=sgd", "schedule=constant"}, Seeds: 2, Trials: 2}
	p, err := Do(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Arms) != 4 || p.Unit != "tokens" || p.Target <= 0 {
		t.Fatalf("%+v", p)
	}
	for _, a := range p.Arms {
		if len(a.Runs) != 2 || a.Tuning == nil || len(a.Tuning.Grid) != 2 {
			t.Errorf("%s: %+v", a.Name, a)
			continue
		}
		for _, run := range a.Runs {
			if run.Steps != 12 || run.Samples != 12*2*16 || len(run.Records) != 3 || run.Peak == 0 || run.Final == 0 {
				t.Errorf("%s: %+v", a.Name, run)
			}
		}
	}
	if a, b := p.Arms[0].Runs[0].Final, p.Arms[1].Runs[0].Final; a == b {
		t.Error("the part changes nothing")
	}
	for name, with := range map[string]string{"no such part": "optim=nonsense", "no such seam": "optum=sgd"} {
		o.With = []string{with}
		if _, err := Do(context.Background(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
