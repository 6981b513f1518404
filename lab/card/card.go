// Package card is the catalogue: one card for each of the 198 papers, in the
// project's own words.
//
// A card says what a paper does, how it is switched on, and what it claims.
// What is measured here is a result of an experiment; a paper without one is
// Planned.
package card

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/BurntSushi/toml"
)

// Card describes one paper.
type Card struct {
	Number  int      `toml:"number" json:"number"`
	Slug    string   `toml:"slug" json:"slug"`
	Title   string   `toml:"title" json:"title"`
	Family  string   `toml:"-" json:"family"`        // the name of its file
	Stage   string   `toml:"stage" json:"stage"`     // the part of training it changes
	Tasks   []string `toml:"tasks" json:"tasks"`     // the jobs it serves
	Summary string   `toml:"summary" json:"summary"` // one paragraph
	Use     string   `toml:"use" json:"use"`         // how it is, or will be, switched on
	Limits  string   `toml:"limits" json:"limits"`
	Claims  []Claim  `toml:"claim" json:"claims"`
}

// Claim is a figure the paper states.
type Claim struct {
	What   string  `toml:"what" json:"what"`
	Figure string  `toml:"figure" json:"figure"`
	Ratio  float64 `toml:"ratio" json:"ratio,omitempty"` // improvement as a factor; 0: the claim is no ratio
}

// Status says how far a paper has come here.
type Status string

// Planned is a paper that has a card and nothing more.
const Planned Status = "planned"

//go:embed cards/*.toml
var files embed.FS

// All lists the cards by number.
var All = sync.OnceValue(func() []Card {
	all, err := read(files)
	if err != nil {
		panic(err) // embedded, and held by the tests
	}
	return all
})

// read reads the cards of every family.
func read(fsys fs.FS) ([]Card, error) {
	names, err := fs.Glob(fsys, "cards/*.toml")
	if err != nil {
		return nil, err
	}
	var all []Card
	for _, name := range names {
		var f struct {
			Paper []Card `toml:"paper"`
		}
		meta, err := toml.DecodeFS(fsys, name, &f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if extra := meta.Undecoded(); len(extra) > 0 {
			return nil, fmt.Errorf("%s: no such field: %v", name, extra[0])
		}
		for _, c := range f.Paper {
			c.Family = strings.TrimSuffix(path.Base(name), ".toml")
			c.Summary = strings.Join(strings.Fields(c.Summary), " ")
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b Card) int { return cmp.Compare(a.Number, b.Number) })
	return all, nil
}

// Find returns the card of a slug.
func Find(slug string) (Card, bool) {
	i := slices.IndexFunc(All(), func(c Card) bool { return c.Slug == slug })
	if i < 0 {
		return Card{}, false
	}
	return All()[i], true
}

// Search lists the cards that hold every word of a query, or a longer word
// that begins with it; those that have them in their title or slug come first.
func Search(query string) []Card {
	words := split(query)
	var titles, others []Card
	for _, c := range All() {
		title := split(c.Title + " " + c.Slug)
		text := append(split(c.Summary+" "+c.Stage+" "+c.Family+" "+strings.Join(c.Tasks, " ")), title...)
		switch {
		case len(words) == 0:
		case holds(title, words):
			titles = append(titles, c)
		case holds(text, words):
			others = append(others, c)
		}
	}
	return append(titles, others...)
}

func holds(text, words []string) bool {
	for _, w := range words {
		if !slices.ContainsFunc(text, func(t string) bool { return strings.HasPrefix(t, w) }) {
			return false
		}
	}
	return true
}

// split is the words of a text, in lower case.
func split(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}
