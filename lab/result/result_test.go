package result

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/fstest"
)

func bar(of Measure, op Op, bound float64) *Bar { return &Bar{of, op, bound} }

// TestVerdicts goes through every kind of bar, reached, missed in the right
// direction, and missed.
func TestVerdicts(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		name             string
		kind             Kind
		baseline, method []float64
		bar              *Bar
		value            float64
		want             Verdict
	}{
		{"value reached", Exact, nil, []float64{3}, bar(OfValue, Equals, 3), 3, Holds},
		{"value missed", Exact, nil, []float64{2}, bar(OfValue, Equals, 3), 2, No},
		{"at most", Exact, nil, []float64{1e-7}, bar(OfValue, AtMost, 1e-6), 1e-7, Holds},
		{"not a number", Exact, nil, []float64{math.NaN()}, bar(OfValue, AtMost, 1e-6), Diverged, No},
		{"ratio reached", Ratio, []float64{2, 4, 6}, []float64{1, 2, 3}, bar(OfRatio, AtMost, 0.5), 0.5, Holds},
		{"ratio on the way", Ratio, []float64{10}, []float64{8}, bar(OfRatio, AtMost, 0.7), 0.8, Direction},
		{"ratio missed", Ratio, []float64{10}, []float64{11}, bar(OfRatio, AtMost, 0.7), 1.1, No},
		{"ratio that allows a cost", Ratio, []float64{10}, []float64{18}, bar(OfRatio, AtMost, 1.7), 1.8, No},
		{"exact ratio on the way", Exact, []float64{10}, []float64{8}, bar(OfRatio, AtMost, 0.7), 0.8, No},
		{"pairs, not medians", Ratio, []float64{1, 10, 100}, []float64{2, 20, 200}, bar(OfRatio, AtLeast, 2), 2, Holds},
		{"unequal numbers", Ratio, []float64{1, 3}, []float64{4}, bar(OfRatio, AtLeast, 2), 2, Holds},
		{"speedup", Ratio, []float64{3}, []float64{2}, bar(OfSpeedup, AtLeast, 1.4), 1.5, Holds},
		{"speedup on the way", Ratio, []float64{3}, []float64{2}, bar(OfSpeedup, AtLeast, 2), 1.5, Direction},
		{"difference", Outcome, []float64{90, 91, 92}, []float64{90, 90.6, 92}, bar(OfDifference, AtLeast, -0.5), 0, Holds},
		{"difference missed", Outcome, []float64{90}, []float64{89}, bar(OfDifference, AtLeast, -0.5), -1, No},
		{"difference on the way", Outcome, []float64{90}, []float64{91}, bar(OfDifference, AtLeast, 2), 1, Direction},
		{"diverged", Outcome, []float64{1}, []float64{inf}, bar(OfRatio, AtMost, 2), Diverged, No},
		{"no bar", Outcome, []float64{1}, []float64{5}, nil, 5, ""},
	} {
		f := Figure{Name: c.name, Kind: c.kind, Method: Of(c.method...), Bar: c.bar}
		if c.baseline != nil {
			b := Of(c.baseline...)
			f.Baseline = &b
		}
		f.Settle()
		if f.Verdict != c.want || math.Abs(f.Value-c.value) > 1e-12*math.Abs(c.value) {
			t.Errorf("%s: value %v, verdict %q; want %v, %q", c.name, f.Value, f.Verdict, c.value, c.want)
		}
		if _, err := json.Marshal(f); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func figure(name string, v Verdict) Figure {
	value := map[Verdict]float64{Holds: 2, Direction: 1.2, No: 0.5}[v]
	one := Of(1)
	f := Figure{Name: name, Kind: Ratio, Baseline: &one, Method: Of(value), Bar: bar(OfRatio, AtLeast, 1.5)}
	f.Settle()
	return f
}

func TestJudge(t *testing.T) {
	shown := Figure{Name: "shown", Method: Of(1)}
	for _, c := range []struct {
		figures []Figure
		want    Verdict
		reason  string
	}{
		{[]Figure{figure("a", Holds), shown, figure("b", Holds)}, Holds, ""},
		{[]Figure{figure("a", Holds), figure("b", Direction), figure("c", Direction)}, Direction, "b: 1.2×, want ≥ 1.5×"},
		{[]Figure{figure("a", Direction), figure("b", No), figure("c", Direction), figure("d", No)}, No, "b: 0.5×, want ≥ 1.5×"},
		{[]Figure{shown}, No, "nothing was held against a bar"},
	} {
		r := Result{Figures: c.figures}
		if r.Judge(); r.Verdict != c.want || r.Reason != c.reason {
			t.Errorf("%d figures: %q because %q; want %q because %q", len(c.figures), r.Verdict, r.Reason, c.want, c.reason)
		}
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 2, 3}, Diverged: nil, 7: {7}} {
		if got := Median(values); got != want {
			t.Errorf("median of %v: %v, want %v", values, got, want)
		}
	}
}

// A committed result cannot claim what its figures do not show.
func TestParseRefuses(t *testing.T) {
	good := Result{Slug: "x", Figures: []Figure{figure("a", Direction)}}
	good.Judge()
	text, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(text); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"verdict":  {`"verdict":"direction","reason"`, `"verdict":"holds","reason"`},
		"figure":   {`"value":1.2`, `"value":1.6`},
		"a figure": {`"value":1.2,"verdict":"direction"`, `"value":1.2,"verdict":"holds"`},
		"field":    {`"slug"`, `"slog"`},
	} {
		broken := strings.Replace(string(text), change[0], change[1], 1)
		if broken == string(text) {
			t.Fatalf("%s: nothing to change in %s", what, text)
		}
		if _, err := Parse([]byte(broken)); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func TestCommittedResults(t *testing.T) {
	for slug, r := range All() {
		if r.Quick || r.Headline("") == nil || r.Key == "" || r.Seconds <= 0 || r.Host.CPU == "" {
			t.Errorf("%s: not the result of a full run", slug)
		}
	}
	quick, _ := json.Marshal(Result{Slug: "x", Quick: true, Verdict: No, Reason: "nothing was held against a bar"})
	for name, text := range map[string]string{"measured/x.json": string(quick), "measured/y.json": strings.Replace(string(quick), `"quick":true,`, "", 1), "measured/z.json": "{"} {
		if _, err := read(fstest.MapFS{name: {Data: []byte(text)}}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	r := Result{Slug: "x", Figures: []Figure{figure("a", No)}}
	r.Judge()
	text, _ := json.Marshal(r)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := Parse(text); err == nil {
			r.Headline("a")
		}
	})
}

func TestHeadline(t *testing.T) {
	exact := Figure{Name: "exact", Kind: Exact, Method: Of(1), Bar: bar(OfValue, Equals, 1)}
	exact.Settle()
	for _, c := range []struct {
		figures    []Figure
		name, want string
	}{
		{[]Figure{exact, figure("ratio", Holds)}, "", "ratio"},
		{[]Figure{exact, figure("ratio", Holds)}, "exact", "exact"},
		{[]Figure{exact, figure("ratio", Holds), figure("missed", No)}, "ratio", "missed"},
		{[]Figure{figure("near", Direction), figure("ratio", Holds)}, "ratio", "near"},
		{[]Figure{exact}, "not there", "exact"},
	} {
		r := Result{Figures: c.figures}
		r.Judge()
		if got := r.Headline(c.name); got.Name != c.want {
			t.Errorf("%d figures, %q preferred: %s, want %s", len(c.figures), c.name, got.Name, c.want)
		}
	}
}
