package card

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// families is the number of papers in each.
var families = map[string]int{
	"compact": 26, "data": 27, "diffusion": 14, "optimisation": 26, "perception": 30, "scale": 22, "scenes": 25, "sequence": 28,
}

var tasks = strings.Fields("lm text retrieval recsys vision detect video flow scene diffusion gan speech audio graph tabular series pde rl robust multimodal")

func TestEveryPaperHasACard(t *testing.T) {
	all := All()
	count := map[string]int{}
	slugs := map[string]bool{}
	for i, c := range all {
		if c.Number != i+1 {
			t.Fatalf("card %d has number %d (%s)", i+1, c.Number, c.Slug)
		}
		count[c.Family]++
		if slugs[c.Slug] {
			t.Errorf("two cards for %s", c.Slug)
		}
		slugs[c.Slug] = true
	}
	if len(all) != 198 {
		t.Errorf("%d cards, want 198", len(all))
	}
	for family, n := range families {
		if count[family] != n {
			t.Errorf("%s: %d cards, want %d", family, count[family], n)
		}
	}
}

func TestCardsAreWhole(t *testing.T) {
	for _, c := range All() {
		if n := len(strings.Fields(c.Summary)); n < 45 || n > 130 {
			t.Errorf("%s: a summary of %d words", c.Slug, n)
		}
		if c.Title == "" || c.Stage == "" || c.Use == "" || c.Limits == "" || len(c.Claims) == 0 || len(c.Tasks) == 0 || len(c.Tasks) > 5 {
			t.Errorf("%s: something is missing: %+v", c.Slug, c)
		}
		for _, task := range c.Tasks {
			if !slices.Contains(tasks, task) {
				t.Errorf("%s: no task %q", c.Slug, task)
			}
		}
		for _, claim := range c.Claims {
			if claim.What == "" || claim.Figure == "" || claim.Ratio < 0 {
				t.Errorf("%s: claim %+v", c.Slug, claim)
			}
		}
	}
}

func TestSearch(t *testing.T) {
	for query, want := range map[string]string{"adan": "adan", "Flash ATTENTION": "flash-attention", "cut cross-entropy": "cut-cross-entropy"} {
		found := Search(query)
		if len(found) == 0 || !slices.ContainsFunc(found, func(c Card) bool { return c.Slug == want }) {
			t.Errorf("searching %q finds %d cards, without %s", query, len(found), want)
		}
	}
	if found := Search("nosuchword"); found != nil {
		t.Errorf("found %v", found)
	}
	if found := Search(" "); found != nil {
		t.Errorf("nothing searched, found %d", len(found))
	}
	if _, ok := Find("adan"); !ok {
		t.Error("adan is not there")
	}
}

func TestBrokenCardsAreErrors(t *testing.T) {
	for name, text := range map[string]string{"syntax": "[[paper]", "field": "[[paper]]\nnumbr = 3\n", "type": "[[paper]]\nnumber = \"x\"\n"} {
		fsys := fstest.MapFS{"cards/x.toml": {Data: []byte(text)}}
		if _, err := read(fsys); err == nil || !strings.Contains(err.Error(), "cards/x.toml") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
