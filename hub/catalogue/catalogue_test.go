package catalogue

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"hasten/engine/rng"
	"hasten/lab/card"
	"hasten/lab/papers"
	"hasten/lab/result"
)

// real are the cards of the catalogue, with nothing measured.
func real() []*Entry {
	var all []*Entry
	for _, e := range papers.All() {
		all = append(all, &Entry{Card: e.Card})
	}
	return all
}

// learned are vectors trained on the real cards, once for all tests.
var learned = sync.OnceValue(func() *Vectors { return Learn(Texts(real()), nil) })

func open(t testing.TB, entries []*Entry, v *Vectors) *Catalogue {
	t.Helper()
	c, err := New(entries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if v != nil {
		c.SetVectors(v)
	}
	return c
}

func slugs(t testing.TB, c *Catalogue, query string, f Filter) []string {
	t.Helper()
	hits, err := c.Search(context.Background(), query, f)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, h := range hits {
		all = append(all, h.Slug)
	}
	return all
}

func TestSearchByWordsAndMeaning(t *testing.T) {
	c := open(t, real(), learned())
	for _, q := range []struct {
		query string
		among int    // the first so many results
		want  string // slug
	}{
		{"adan", 1, "adan"},
		{"LARS", 1, "lars"},
		{"flash-attention", 2, "flash-attention"},
		{"less memory for long sequences", 5, "flash-attention"},
		{"large batch training of convnets", 3, "lars"},
		{"gradient compression between machines", 5, "lgreco"},
		{"optimizer", 8, "adan"}, // the cards spell it with an s
		{"throw away easy samples", 10, "infobatch"},
		{"int8 pretraining", 3, "jetfire"},
		{"text to speech", 3, "fastspeech2"},
	} {
		found := slugs(t, c, q.query, Filter{})
		if !slices.Contains(found[:min(q.among, len(found))], q.want) {
			t.Errorf("%q: %s is not among the first %d: %v", q.query, q.want, q.among, found[:min(10, len(found))])
		}
	}
}

// Without vectors, words alone decide; with them, a query finds papers that
// hold none of its words.
func TestMeaningAddsWhatWordsMiss(t *testing.T) {
	const query = "quantisaton" // misspelt: no card has it
	c := open(t, real(), nil)
	if found := slugs(t, c, query, Filter{}); len(found) > 0 {
		t.Fatalf("words find %v", found)
	}
	c.SetVectors(learned())
	hits, err := c.Search(t.Context(), query, Filter{})
	if err != nil || len(hits) == 0 {
		t.Fatalf("%v, %v", hits, err)
	}
	for _, h := range hits[:min(3, len(hits))] {
		if h.Words || !h.Meaning || !strings.Contains(strings.ToLower(text(h.Entry)), "quanti") {
			t.Errorf("found %s (words %v, meaning %v)", h.Slug, h.Words, h.Meaning)
		}
	}
}

// What people type must not be taken for the index's own syntax.
func TestQueriesAreNoSyntax(t *testing.T) {
	c := open(t, real(), nil)
	for _, q := range []string{`"`, `""`, `*`, `a*`, `NOT`, `adan AND`, `name:adan`, `{name} : x`, `NEAR(a b)`, `^adan`, `'; DROP TABLE paper; --`, "\x00", "\xff\xfe", "-", "注意", strings.Repeat("memory ", 10000)} {
		if _, err := c.Search(t.Context(), q, Filter{}); err != nil {
			t.Errorf("%.40q: %v", q, err)
		}
	}
	if found := slugs(t, c, "adan NOT momentum", Filter{}); len(found) == 0 || found[0] != "adan" {
		t.Errorf("found %v", found)
	}
}

// judged is an entry with one measured figure.
func judged(number int, slug string, bar result.Bar, baseline, method float64) *Entry {
	base := result.Of(baseline)
	r := &result.Result{Slug: slug, Figures: []result.Figure{{Name: "time", Kind: result.Ratio, Baseline: &base, Method: result.Of(method), Bar: &bar}}}
	r.Figures[0].Settle()
	r.Judge()
	return &Entry{Card: card.Card{Number: number, Slug: slug, Family: "f", Stage: "model+loss", Tasks: []string{"lm"}}, Measured: r}
}

func speedup(v float64) result.Bar {
	return result.Bar{Of: result.OfSpeedup, Op: result.AtLeast, Bound: v}
}

func TestOrderAndFilters(t *testing.T) {
	entries := []*Entry{
		{Card: card.Card{Number: 1, Slug: "planned", Family: "g", Stage: "optim", Tasks: []string{"vision"}}},
		judged(2, "no", speedup(2), 1, 2),
		judged(3, "little", speedup(1.1), 1.2, 1),
		judged(4, "much", speedup(2), 3, 1),
		judged(5, "memory", result.Bar{Of: result.OfRatio, Op: result.AtMost, Bound: 0.6}, 2, 1),
		judged(6, "direction", speedup(9), 8, 1),
	}
	c := open(t, entries, nil)
	for _, q := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "much memory little direction no planned"},
		{Filter{Verdict: "holds"}, "much memory little"},
		{Filter{Verdict: "planned"}, "planned"},
		{Filter{Stage: "optimiser"}, "planned"},
		{Filter{Stage: "loss", Verdict: "no"}, "no"},
		{Filter{Family: "g", Task: "lm"}, ""},
	} {
		if got := strings.Join(slugs(t, c, "", q.f), " "); got != q.want {
			t.Errorf("%+v: %s, want %s", q.f, got, q.want)
		}
	}
	f := c.Facets()
	if want := []Facet{{"holds", 3}, {"direction", 1}, {"no", 1}, {"planned", 1}}; !slices.Equal(f.Verdicts, want) {
		t.Errorf("verdicts %v", f.Verdicts)
	}
	if want := []Facet{{"loss", 5}, {"model", 5}, {"optimiser", 1}}; !slices.Equal(f.Stages, want) {
		t.Errorf("stages %v", f.Stages)
	}
}

func TestGain(t *testing.T) {
	for _, q := range []struct {
		bar              result.Bar
		baseline, method float64
		want             float64
	}{
		{speedup(1), 3, 2, 1.5},
		{result.Bar{Of: result.OfRatio, Op: result.AtMost, Bound: 1}, 4, 1, 4},
		{result.Bar{Of: result.OfRatio, Op: result.AtLeast, Bound: 1}, 1, 4, 4},
		{result.Bar{Of: result.OfDifference, Op: result.AtLeast, Bound: 1}, 1, 4, 0},
		{result.Bar{Of: result.OfValue, Op: result.AtLeast, Bound: 1}, 1, 4, 0},
		{speedup(1), math.Inf(1), 2, 0}, // the baseline diverged
	} {
		if got := Gain(judged(1, "x", q.bar, q.baseline, q.method).Headline()); math.Abs(got-q.want) > 1e-12 {
			t.Errorf("%+v of %g and %g: %g, want %g", q.bar, q.baseline, q.method, got, q.want)
		}
	}
}

// A result of this machine is shown first; it is a verdict only if it is a full
// one and there is no committed one.
func TestResultsOfThisMachine(t *testing.T) {
	entries := []*Entry{{Card: card.Card{Number: 1, Slug: "a"}}, judged(2, "b", speedup(2), 1, 2)}
	c := open(t, entries, nil)
	good := *judged(1, "a", speedup(2), 4, 1).Measured
	quick := good
	quick.Quick = true
	c.Add(quick)
	if v := c.Find("a").Verdict(); v != Planned {
		t.Errorf("after a quick run: %s", v)
	}
	c.Add(good)
	c.Add(quick)
	if e := c.Find("a"); e.Verdict() != "holds" || len(e.Here) != 3 || !e.Here[0].Quick {
		t.Errorf("after a full run: %s, %d results", e.Verdict(), len(e.Here))
	}
	good.Slug = "b"
	c.Add(good)
	if e := c.Find("b"); e.Verdict() != "no" || len(e.Here) != 1 {
		t.Errorf("beside a committed one: %s, %d results", e.Verdict(), len(e.Here))
	}
	if entries[0].Here != nil {
		t.Error("Add changed an entry that others may be reading")
	}
	good.Slug = "unknown"
	c.Add(good)
}

func TestLearningRepeatsAndStops(t *testing.T) {
	texts := Texts(real())[:20]
	a, b := Learn(texts, nil), Learn(texts, nil)
	if !slices.Equal(a.words, b.words) || !slices.Equal(a.grams, b.grams) {
		t.Error("the same texts gave other vectors")
	}
	stop := make(chan struct{})
	close(stop)
	if Learn(texts, stop) != nil {
		t.Error("it did not stop")
	}
	if v := Learn(nil, nil); v == nil {
		t.Error("nothing to learn from")
	}
}

func TestVectorsSurviveMarshalling(t *testing.T) {
	v := Learn(Texts(real())[:10], nil)
	text, err := v.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var back Vectors
	if err := back.UnmarshalBinary(text); err != nil || !slices.Equal(v.words, back.words) || !slices.Equal(v.grams, back.grams) || len(v.ids) != len(back.ids) {
		t.Errorf("%v", err)
	}
	for w, id := range v.ids {
		if back.ids[w] != id {
			t.Fatalf("%s is %d, was %d", w, back.ids[w], id)
		}
	}
	for _, bad := range [][]byte{nil, text[:len(text)-1], text[:100], append(slices.Clone(text), 0)} {
		if err := new(Vectors).UnmarshalBinary(bad); err == nil {
			t.Errorf("%d of %d bytes: no error", len(bad), len(text))
		}
	}
}

// synthetic are n papers of words drawn from a vocabulary that the i-th of
// them alone completes by its own word.
func synthetic(n int) []*Entry {
	s := rng.New(7, 0)
	var vocabulary []string
	for _, e := range real() {
		vocabulary = append(vocabulary, fields(e.Summary)...)
	}
	all := make([]*Entry, n)
	for i := range all {
		words := make([]string, 90)
		for k := range words {
			words[k] = vocabulary[s.IntN(len(vocabulary))]
		}
		words[s.IntN(len(words))] = fmt.Sprintf("unique%dq", i)
		all[i] = &Entry{Card: card.Card{Number: i + 1, Slug: fmt.Sprintf("paper-%d", i), Title: strings.Join(words[:8], " "), Family: fmt.Sprint("family", i%7),
			Stage: "model", Tasks: []string{"lm"}, Summary: strings.Join(words, " ")}}
	}
	return all
}

func TestTenThousandPapers(t *testing.T) {
	all := synthetic(10000)
	c := open(t, all, learned())
	for _, i := range []int{0, 17, 9999} {
		word := fmt.Sprintf("unique%dq", i)
		if found := slugs(t, c, word, Filter{}); len(found) == 0 || found[0] != all[i].Slug {
			t.Errorf("%s: paper %d is not the first of %d found", word, i, len(found))
		}
		if found := slugs(t, c, "sparse "+word+" attention", Filter{}); !slices.Contains(found[:min(10, len(found))], all[i].Slug) {
			t.Errorf("%s and others: paper %d is not among the first of %d found", word, i, len(found))
		}
	}
	for _, h := range mustSearch(t, c, "memory of optimiser states", Filter{Family: "family3"}) {
		if h.Family != "family3" {
			t.Fatalf("%s is of %s", h.Slug, h.Family)
		}
	}
	if n := len(slugs(t, c, "", Filter{Family: "family3"})); n != 1429 {
		t.Errorf("%d papers of a seventh", n)
	}
}

func mustSearch(t testing.TB, c *Catalogue, q string, f Filter) []Hit {
	hits, err := c.Search(context.Background(), q, f)
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

// The promise is less than 20 ms at 10,000 papers.
func BenchmarkSearch10000(b *testing.B) {
	c := open(b, synthetic(10000), learned())
	for _, q := range []string{"less memory for long sequences", "adan", "training of models with attention and gradients", "unique77q"} {
		b.Run(q, func(b *testing.B) {
			for b.Loop() {
				mustSearch(b, c, q, Filter{})
			}
		})
	}
}
