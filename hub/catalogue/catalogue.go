// Package catalogue finds papers: by words, by meaning, and by what was
// measured of them.
//
//	c, err := catalogue.New(entries)
//	found, err := c.Search(ctx, "less memory for long sequences", catalogue.Filter{Task: "lm"})
//
// Words are ranked by SQLite's full-text index (BM25). Meaning comes from word
// vectors that are trained on the cards themselves (see Learn); the two
// rankings are fused by reciprocal rank. Until vectors have been set, words
// alone decide.
package catalogue

import (
	"cmp"
	"database/sql"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"hasten/lab/card"
	"hasten/lab/result"
)

// Entry is a paper as the page knows it.
type Entry struct {
	card.Card
	Built    bool            // it has an experiment that can be run
	Code     []string        // the files of its mechanism, from the root of the source
	Measured *result.Result  // the committed result of a full run; nil: there is none
	Here     []result.Result // results made on this machine, newest first
}

// Planned is the standing of a paper that nothing was measured of.
const Planned = "planned"

// Result is what an entry is judged by: the committed result, else the newest
// full one of this machine, else nil. A quick run shows that an experiment
// works and is no judgement.
func (e *Entry) Result() *result.Result {
	if e.Measured != nil {
		return e.Measured
	}
	for i := range e.Here {
		if !e.Here[i].Quick {
			return &e.Here[i]
		}
	}
	return nil
}

// Verdict is holds, direction, no, or planned.
func (e *Entry) Verdict() string {
	if r := e.Result(); r != nil {
		return string(r.Verdict)
	}
	return Planned
}

// Headline is the measured figure to show first, nil if nothing was measured.
func (e *Entry) Headline() *result.Figure {
	if r := e.Result(); r != nil {
		return r.Headline(e.Card.Headline)
	}
	return nil
}

// Claim is what the paper claims: of its claims the one with the largest
// factor, or the first if none is a factor.
func (e *Entry) Claim() card.Claim {
	var best card.Claim
	for i, c := range e.Claims {
		if i == 0 || c.Ratio > best.Ratio {
			best = c
		}
	}
	return best
}

// Gain is a figure as a factor of improvement over its baseline: above 1 the
// method is better, whichever way the quantity counts. It is 0 where a factor
// would say nothing: without a baseline, or for a difference.
func Gain(f *result.Figure) float64 {
	if f == nil || f.Bar == nil || f.Value <= 0 || diverged(&f.Method) || f.Baseline != nil && diverged(f.Baseline) {
		return 0
	}
	switch {
	case f.Bar.Of == result.OfSpeedup, f.Bar.Of == result.OfRatio && f.Bar.Op == result.AtLeast:
		return f.Value
	case f.Bar.Of == result.OfRatio && f.Bar.Op == result.AtMost:
		return 1 / f.Value
	}
	return 0
}

func diverged(s *result.Spread) bool { return math.Abs(s.Median) >= result.Diverged }

// Stages are the parts of training that a paper changes, in one spelling.
func (e *Entry) Stages() []string {
	var all []string
	for s := range strings.FieldsFuncSeq(e.Stage, func(r rune) bool { return strings.ContainsRune(",+/", r) }) {
		s = strings.TrimSpace(s)
		if same, ok := spelling[s]; ok {
			s = same
		}
		if s != "" && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// spelling unites the names of stages that cards use for the same thing.
var spelling = map[string]string{
	"optim": "optimiser", "tune": "tuning", "init": "initialisation", "learn": "train", "inference": "infer",
	"distillation": "distill", "quantisation": "precision", "unsupervised training": "train", "training": "train",
}

// Filter narrows a search; an empty field leaves all.
type Filter struct {
	Family, Stage, Task, Verdict string
}

func (f Filter) passes(e *Entry) bool {
	return (f.Family == "" || f.Family == e.Family) &&
		(f.Stage == "" || slices.Contains(e.Stages(), f.Stage)) &&
		(f.Task == "" || slices.Contains(e.Tasks, f.Task)) &&
		(f.Verdict == "" || f.Verdict == e.Verdict())
}

// Facet is a value to filter by, and how many entries have it.
type Facet struct {
	Name  string
	Count int
}

// Facets are the values that entries can be filtered by, the most frequent
// first; verdicts from holds to planned.
type Facets struct {
	Families, Stages, Tasks, Verdicts []Facet
}

// Catalogue is a set of entries that can be searched. It is safe for
// concurrent use.
type Catalogue struct {
	entries atomic.Pointer[[]*Entry] // replaced as a whole when results arrive
	bySlug  map[string]int
	words   *sql.DB
	lexicon lexicon
	meaning atomic.Pointer[meaning]
}

// New indexes entries; their order is that of ties. Close the catalogue after
// use.
func New(entries []*Entry) (*Catalogue, error) {
	c := &Catalogue{bySlug: map[string]int{}}
	for i, e := range entries {
		c.bySlug[e.Slug] = i
	}
	entries = slices.Clone(entries)
	c.entries.Store(&entries)
	c.lexicon = count(entries)
	var err error
	c.words, err = index(entries)
	return c, err
}

// Close releases the index.
func (c *Catalogue) Close() error { return c.words.Close() }

// All lists the entries.
func (c *Catalogue) All() []*Entry { return *c.entries.Load() }

// Find returns the entry of a slug, nil if there is none.
func (c *Catalogue) Find(slug string) *Entry {
	if i, ok := c.bySlug[slug]; ok {
		return c.All()[i]
	}
	return nil
}

// Add puts a result of this machine first among those of its entry. It must
// not be called concurrently with itself.
func (c *Catalogue) Add(r result.Result) {
	i, ok := c.bySlug[r.Slug]
	if !ok {
		return
	}
	entries := slices.Clone(c.All())
	e := *entries[i]
	e.Here = append([]result.Result{r}, e.Here...)
	entries[i] = &e
	c.entries.Store(&entries)
}

// Facets counts the values of all entries.
func (c *Catalogue) Facets() Facets {
	families, stages, tasks, verdicts := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	for _, e := range c.All() {
		families[e.Family]++
		verdicts[e.Verdict()]++
		for _, s := range e.Stages() {
			stages[s]++
		}
		for _, t := range e.Tasks {
			tasks[t]++
		}
	}
	f := Facets{Families: facets(families), Stages: facets(stages), Tasks: facets(tasks), Verdicts: facets(verdicts)}
	slices.SortFunc(f.Verdicts, func(a, b Facet) int { return cmp.Compare(standing(a.Name), standing(b.Name)) })
	return f
}

func facets(counts map[string]int) []Facet {
	var all []Facet
	for name, n := range counts {
		all = append(all, Facet{name, n})
	}
	slices.SortFunc(all, func(a, b Facet) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Name, b.Name)) })
	return all
}

// standing orders verdicts, the best first.
func standing(verdict string) int {
	switch result.Verdict(verdict) {
	case result.Holds:
		return 0
	case result.Direction:
		return 1
	case result.No:
		return 2
	}
	return 3
}

// ByMeasure orders entries by what was measured to help most: by verdict, then
// by gain, then by number.
func ByMeasure(a, b *Entry) int {
	return cmp.Or(
		cmp.Compare(standing(a.Verdict()), standing(b.Verdict())),
		cmp.Compare(Gain(b.Headline()), Gain(a.Headline())),
		cmp.Compare(a.Number, b.Number))
}
