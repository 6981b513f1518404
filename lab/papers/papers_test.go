package papers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/lab/result"
)

// families of the 198 papers and how many each has at least.
var sizes = map[string]int{
	"compact": 26, "data": 27, "diffusion": 14, "optimisation": 26, "perception": 30, "scale": 22, "scenes": 25, "sequence": 28,
}

func TestTheCatalogueIsWhole(t *testing.T) {
	count := map[string]int{}
	for i, e := range All() {
		if e.Number != i+1 {
			t.Fatalf("entry %d has number %d (%s)", i+1, e.Number, e.Slug)
		}
		if err := e.Check(); err != nil {
			t.Error(err)
		}
		count[e.Family]++
	}
	for family, n := range sizes {
		if count[family] < n {
			t.Errorf("%s: %d papers, want %d", family, count[family], n)
		}
	}
}

// Every paper that works names its code, and how its tests were shown able to
// fail.
func TestExperimentsAreWhole(t *testing.T) {
	for _, e := range All() {
		if e.Experiment == nil {
			continue
		}
		if e.Result == nil {
			t.Logf("%s has no committed result yet", e.Slug)
		}
		if len(e.Experiment.Breaks) == 0 {
			t.Errorf("%s: no Breaks", e.Slug)
		}
		if len(e.Experiment.Code) == 0 {
			t.Errorf("%s: no Code", e.Slug)
		}
		for _, file := range e.Experiment.Code {
			if _, err := os.Stat(filepath.Join("../..", file)); err != nil {
				t.Errorf("%s: %v", e.Slug, err)
			}
		}
	}
}

type one struct{}

func (one) Adan() experiment.Paper {
	return experiment.Paper{Card: card.Card{Number: 1, Slug: "adan"}}
}

func TestJoin(t *testing.T) {
	results := map[string]result.Result{"adan": {Slug: "adan", Verdict: result.Direction}}
	all, err := join([]card.Card{{Number: 2, Slug: "other"}}, map[string]any{"optimisation": one{}}, results)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	if e := all[0]; e.Status() != card.Working || e.Verdict() != result.Direction || e.Family != "optimisation" {
		t.Errorf("%+v", e)
	}
	if e := all[1]; e.Status() != card.StatusPlanned || e.Verdict() != "" {
		t.Errorf("%+v", e)
	}
	if all, _ := join(nil, map[string]any{"optimisation": one{}}, nil); all[0].Status() != card.StatusPlanned {
		t.Error("working without a result")
	}
	for what, err := range map[string]error{
		"two cards":     second(join([]card.Card{{Number: 1, Slug: "adan"}}, map[string]any{"optimisation": one{}}, nil)),
		"no experiment": second(join([]card.Card{{Number: 1, Slug: "adan"}}, nil, results)),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second(_ []Entry, err error) error { return err }
