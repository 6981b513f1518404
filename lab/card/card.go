// Package card says what a paper does, in the project's own words, how it is
// switched on, and what it claims.
//
// The cards of papers that do not work here yet lie in cards/, a file for each
// family; one that works has its card beside its experiment in lab/papers,
// where both are joined to the catalogue.
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
	// Headline names the measured figure to show first; "": the first outcome.
	Headline string `toml:"-" json:"-"`
}

// Claim is a figure the paper states.
type Claim struct {
	What   string  `toml:"what" json:"what"`
	Figure string  `toml:"figure" json:"figure"`
	Ratio  float64 `toml:"ratio" json:"ratio,omitempty"` // improvement as a factor; 0: the claim is no ratio
}

// Status says how far a paper has come here.
type Status string

// The statuses.
const (
	StatusPlanned Status = "planned" // there is a card, but no experiment or no result of it
	Working       Status = "working" // its experiment was run in full, and the result committed
)

//go:embed cards/*.toml
var files embed.FS

// Planned lists the cards of the papers that do not work yet, by number.
var Planned = sync.OnceValue(func() []Card {
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
			c.Summary, c.Limits = Plain(c.Summary), Plain(c.Limits)
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b Card) int { return cmp.Compare(a.Number, b.Number) })
	return all, nil
}

// Search lists the cards, by index, that hold every word of a query, or a
// longer word that begins with it; those that have them in their title or slug
// come first.
func Search(cards []Card, query string) []int {
	words := split(query)
	var titles, others []int
	for i, c := range cards {
		title := split(c.Title + " " + c.Slug)
		text := append(split(c.Summary+" "+c.Stage+" "+c.Family+" "+strings.Join(c.Tasks, " ")), title...)
		switch {
		case len(words) == 0:
		case holds(title, words):
			titles = append(titles, i)
		case holds(text, words):
			others = append(others, i)
		}
	}
	return append(titles, others...)
}

// Plain puts a text of several lines on one.
func Plain(text string) string { return strings.Join(strings.Fields(text), " ") }

// Check names what a card lacks.
func (c *Card) Check() error {
	n := len(strings.Fields(c.Summary))
	switch {
	case c.Title == "" || c.Slug == "" || c.Stage == "" || c.Use == "" || c.Limits == "":
		return fmt.Errorf("%s: title, slug, stage, use or limits is missing", c.Slug)
	case n < 45 || n > 130:
		return fmt.Errorf("%s: a summary of %d words; 45 to 130 are wanted", c.Slug, n)
	case len(c.Claims) == 0:
		return fmt.Errorf("%s: no claim", c.Slug)
	case len(c.Tasks) == 0 || len(c.Tasks) > 5:
		return fmt.Errorf("%s: %d tasks; 1 to 5 are wanted", c.Slug, len(c.Tasks))
	}
	for _, task := range c.Tasks {
		if !slices.Contains(tasks, task) {
			return fmt.Errorf("%s: no task %q; tasks are %s", c.Slug, task, strings.Join(tasks, " "))
		}
	}
	for _, claim := range c.Claims {
		if claim.What == "" || claim.Figure == "" || claim.Ratio < 0 {
			return fmt.Errorf("%s: claim %+v", c.Slug, claim)
		}
	}
	return nil
}

// tasks are the jobs that a paper can serve.
var tasks = strings.Fields("lm text retrieval recsys vision detect video flow scene diffusion gan speech audio graph tabular series pde rl robust multimodal")

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
