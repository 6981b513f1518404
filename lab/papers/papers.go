// Package papers is the catalogue: every paper with its card, and, where it
// works here, its experiment and what that measured.
package papers

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/lab/papers/compact"
	"hasten/lab/papers/data"
	"hasten/lab/papers/diffusion"
	"hasten/lab/papers/optimisation"
	"hasten/lab/papers/perception"
	"hasten/lab/papers/scale"
	"hasten/lab/papers/scenes"
	"hasten/lab/papers/sequence"
	"hasten/lab/result"
)

// Entry is a paper of the catalogue.
type Entry struct {
	card.Card
	Experiment *experiment.Paper // nil: there is none yet
	Result     *result.Result    // of the committed full run; nil: there is none
}

// families are the papers that work here, by the name of their family.
var families = map[string]any{
	"compact": compact.Papers{}, "data": data.Papers{}, "diffusion": diffusion.Papers{}, "optimisation": optimisation.Papers{},
	"perception": perception.Papers{}, "scale": scale.Papers{}, "scenes": scenes.Papers{}, "sequence": sequence.Papers{},
}

// All lists the catalogue by number.
var All = sync.OnceValue(func() []Entry {
	all, err := join(card.Planned(), families, result.All())
	if err != nil {
		panic(err) // of the source; held by the tests
	}
	return all
})

// join puts cards, experiments and results together.
func join(planned []card.Card, families map[string]any, results map[string]result.Result) ([]Entry, error) {
	var all []Entry
	for _, c := range planned {
		all = append(all, Entry{Card: c})
	}
	for family, v := range families {
		for _, p := range experiment.Collect(v) {
			p.Family = family
			p.Summary = card.Plain(p.Summary)
			p.Limits = card.Plain(p.Limits)
			all = append(all, Entry{Card: p.Card, Experiment: &p})
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) })
	for i := range all {
		e := &all[i]
		if i > 0 && (e.Number == all[i-1].Number || e.Slug == all[i-1].Slug) {
			return nil, fmt.Errorf("paper %d %s has two cards: one that works takes its card out of lab/card/cards", e.Number, e.Slug)
		}
		if r, ok := results[e.Slug]; ok {
			e.Result = &r
		}
	}
	for slug := range results {
		i := slices.IndexFunc(all, func(e Entry) bool { return e.Slug == slug })
		if i < 0 || all[i].Experiment == nil {
			return nil, fmt.Errorf("lab/result/measured/%s.json is the result of no experiment", slug)
		}
	}
	return all, nil
}

// Find returns the entry of a slug.
func Find(slug string) (Entry, bool) {
	i := slices.IndexFunc(All(), func(e Entry) bool { return e.Slug == slug })
	if i < 0 {
		return Entry{}, false
	}
	return All()[i], true
}

// Status is Working for a paper with an experiment and a committed result of
// it, else Planned.
func (e *Entry) Status() card.Status {
	if e.Experiment != nil && e.Result != nil {
		return card.Working
	}
	return card.StatusPlanned
}

// Verdict is that of the committed result, "" without one.
func (e *Entry) Verdict() result.Verdict {
	if e.Result == nil {
		return ""
	}
	return e.Result.Verdict
}

// Search lists the entries whose cards hold every word of a query: see
// card.Search.
func Search(query string) []Entry {
	var found []Entry
	cards := make([]card.Card, len(All()))
	for i, e := range All() {
		cards[i] = e.Card
	}
	for _, i := range card.Search(cards, query) {
		found = append(found, All()[i])
	}
	return found
}
