// Package result holds what experiments measured: figures beside the bars they
// are held against, curves, the settings tried, and the machine it was done on.
//
//	experiment ──figures──▶ Result ──Judge──▶ verdict ──▶ measured/SLUG.json
//
// A verdict is computed from figures and bars and is never written by hand.
// Results of full runs are committed in measured/; All reads them. The page,
// the documents and the command draw on nothing else.
package result

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"sync"
	"time"
)

// Kind says how far a figure can be trusted to repeat.
type Kind string

// The kinds of figures.
const (
	Exact   Kind = "exact"   // the same on every machine: counts, bytes, differences from a reference
	Ratio   Kind = "ratio"   // a ratio of timings or sizes taken side by side in one run
	Outcome Kind = "outcome" // what training came to, over paired seeds
)

// Verdict is what a figure, or a whole result, comes to.
type Verdict string

// The verdicts. A figure without a bar has none.
const (
	Holds     Verdict = "holds"     // every bar holds
	Direction Verdict = "direction" // what is exact holds, and the rest is better than the baseline, if less than the bar
	No        Verdict = "no"        // not shown here; Result.Reason names the figure
)

// Figure is one measured quantity.
type Figure struct {
	Name     string  `json:"name"`
	Kind     Kind    `json:"kind"`
	Unit     string  `json:"unit,omitempty"`
	Baseline *Spread `json:"baseline,omitempty"` // nil: there is nothing beside it
	Method   Spread  `json:"method"`
	Ratio    float64 `json:"ratio,omitempty"` // median over pairs of method / baseline; 0: there is no baseline
	Bar      *Bar    `json:"bar,omitempty"`   // nil: shown, never a gate
	Value    float64 `json:"value"`           // what the bar is held against
	Verdict  Verdict `json:"verdict,omitempty"`
}

// Spread is a quantity measured several times: over seeds or repetitions.
type Spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Values []float64 `json:"values,omitempty"`
}

// Diverged stands for what is not a number or infinite, such as the loss of a
// run that diverged: JSON has neither, and it compares as the worst there is.
const Diverged = math.MaxFloat64

// finite puts Diverged for what is no finite number.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return Diverged
	}
	return x
}

// Of summarises values, of which there is at least one.
func Of(values ...float64) Spread {
	values = slices.Clone(values)
	for i, x := range values {
		values[i] = finite(x)
	}
	return Spread{Median: Median(values), Min: slices.Min(values), Max: slices.Max(values), Values: values}
}

// Median is the middle of the values, or the mean of the two in the middle;
// Diverged when there are none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return Diverged
	}
	s := slices.Sorted(slices.Values(values))
	return finite(s[(len(s)-1)/2]/2 + s[len(s)/2]/2)
}

// Curve is a quantity along a run.
type Curve struct {
	Arm   string    `json:"arm"`
	Seed  uint64    `json:"seed"`
	XName string    `json:"x_name"`
	YName string    `json:"y_name"`
	X     []float64 `json:"x"`
	Y     []float64 `json:"y"`
}

// Tuning is a search for a setting, such as the learning rate of an arm.
type Tuning struct {
	Arm    string    `json:"arm"`
	Grid   []float64 `json:"grid"`
	Losses []float64 `json:"losses"` // of each
	Best   float64   `json:"best"`
	Edge   bool      `json:"edge,omitempty"` // the best is the first or the last of the grid
}

// Host is the machine a result was measured on.
type Host struct {
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	CPU     string `json:"cpu"`
	Threads int    `json:"threads"`
	SIMD    string `json:"simd"` // level of the kernels in use
	Go      string `json:"go"`
	// Load is the number of processes that wanted to run during the minute
	// before; timings beside others' work are to be doubted. -1: not known.
	Load float64 `json:"load"`
}

// Result is what one run of an experiment came to.
type Result struct {
	Number  int       `json:"number"`
	Slug    string    `json:"slug"`
	Title   string    `json:"title"`
	Verdict Verdict   `json:"verdict"`
	Reason  string    `json:"reason,omitempty"` // why it is not Holds
	Figures []Figure  `json:"figures"`
	Curves  []Curve   `json:"curves,omitempty"`
	Tuning  []Tuning  `json:"tuning,omitempty"`
	Notes   []string  `json:"notes,omitempty"`
	Quick   bool      `json:"quick,omitempty"` // small settings: never committed
	Seeds   []uint64  `json:"seeds"`
	Seconds float64   `json:"seconds"`
	Date    time.Time `json:"date"`
	Version string    `json:"version"`
	Key     string    `json:"key"` // of the code and the settings it was measured with
	Host    Host      `json:"host"`
}

// Judge computes the verdict of a result from its figures.
func (r *Result) Judge() {
	r.Verdict, r.Reason = Holds, ""
	bars := 0
	for _, f := range r.Figures {
		if f.Bar == nil {
			continue
		}
		bars++
		if f.Verdict == No || f.Verdict == Direction && r.Verdict == Holds {
			if r.Verdict != No {
				r.Reason = fmt.Sprintf("%s: %s, want %s", f.Name, f.Measured(), f.Bar)
			}
			r.Verdict = f.Verdict
		}
	}
	if bars == 0 {
		r.Verdict, r.Reason = No, "nothing was held against a bar"
	}
}

// Measured is what the bar was held against, in words; without a bar, how the
// method compares with the baseline, if there is one.
func (f *Figure) Measured() string {
	switch {
	case f.Bar == nil && f.Baseline == nil:
		return Number(f.Method.Median) + unit(f.Unit)
	case f.Bar == nil && f.Unit == "%":
		return fmt.Sprintf("%+.4g", f.Method.Median-f.Baseline.Median) + unit(f.Unit)
	case f.Bar == nil:
		return Number(f.Ratio) + "×"
	}
	switch f.Bar.Of {
	case OfRatio, OfSpeedup:
		return Number(f.Value) + "×"
	case OfDifference:
		return fmt.Sprintf("%+.4g", f.Value) + unit(f.Unit)
	}
	return Number(f.Value) + unit(f.Unit)
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " " + u
}

// Number prints a figure to four digits.
func Number(x float64) string {
	switch {
	case math.Abs(x) >= Diverged:
		return "diverged"
	case math.Abs(x) >= 1e4 && math.Abs(x) < 1e15 && x == math.Trunc(x):
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.4g", x)
}

//go:embed measured
var committed embed.FS

// All lists the committed results by slug.
var All = sync.OnceValue(func() map[string]Result {
	all, err := read(committed)
	if err != nil {
		panic(err) // embedded, and held by the tests
	}
	return all
})

// read reads the results of full runs from a folder "measured".
func read(fsys fs.FS) (map[string]Result, error) {
	names, err := fs.Glob(fsys, "measured/*.json")
	if err != nil {
		return nil, err
	}
	all := map[string]Result{}
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		r, err := Parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if r.Quick {
			return nil, fmt.Errorf("%s: the result of a quick run", name)
		}
		if path.Base(name) != r.Slug+".json" {
			return nil, fmt.Errorf("%s: it is the result of %s", name, r.Slug)
		}
		all[r.Slug] = r
	}
	return all, nil
}

// Parse reads a result and holds it against itself: the verdicts must be those
// that its figures come to.
func Parse(text []byte) (Result, error) {
	var r Result
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fmt.Errorf("not a result: %w", err)
	}
	was := r.Verdict
	for i, f := range r.Figures {
		if f.Settle(); f.Verdict != r.Figures[i].Verdict || !close(f.Value, r.Figures[i].Value) {
			return r, fmt.Errorf("figure %q: value %v, verdict %q; from its measurements follow %v, %q", f.Name, r.Figures[i].Value, r.Figures[i].Verdict, f.Value, f.Verdict)
		}
	}
	if r.Judge(); was != r.Verdict {
		return r, fmt.Errorf("verdict %q; from its figures follows %q", was, r.Verdict)
	}
	return r, nil
}

func close(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b))
}

// Headline is the figure to show first: where the result does not hold, the one
// that is the reason; else the one of that name, or of those with a bar the first
// outcome, else the first ratio, else the first of all.
func (r *Result) Headline(name string) *Figure {
	if i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Verdict != "" && f.Verdict == r.Verdict }); i >= 0 && r.Verdict != Holds {
		return &r.Figures[i]
	}
	if i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Name == name }); i >= 0 {
		return &r.Figures[i]
	}
	rank := map[Kind]int{Ratio: 1, Outcome: 2}
	var best *Figure
	for i := range r.Figures {
		f := &r.Figures[i]
		if f.Bar != nil && (best == nil || cmp.Compare(rank[f.Kind], rank[best.Kind]) > 0) {
			best = f
		}
	}
	return best
}
