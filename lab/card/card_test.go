package card

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestPlannedCardsAreWhole(t *testing.T) {
	for _, c := range Planned() {
		if err := c.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestCheck(t *testing.T) {
	whole := Card{Slug: "s", Title: "t", Stage: "x", Use: "u", Limits: "l", Tasks: []string{"lm"}, Summary: strings.Repeat("word ", 50), Claims: []Claim{{What: "w", Figure: "2×"}}}
	if err := whole.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(c *Card){
		"use": func(c *Card) { c.Use = "" }, "summary": func(c *Card) { c.Summary = "short" }, "task": func(c *Card) { c.Tasks = []string{"cooking"} },
		"no claim": func(c *Card) { c.Claims = nil }, "claim": func(c *Card) { c.Claims = []Claim{{What: "w"}} }, "tasks": func(c *Card) { c.Tasks = nil },
	} {
		c := whole
		if spoil(&c); c.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSearch(t *testing.T) {
	cards := []Card{
		{Slug: "adan", Title: "Adan: Adaptive Nesterov Momentum", Summary: "An optimiser."},
		{Slug: "flash-attention", Title: "FlashAttention", Summary: "Attention in tiles, as adaptive as any."},
	}
	for query, want := range map[string][]int{"ADAPTIVE": {0, 1}, "attention tiles": {1}, "optim": {0}, "nosuchword": nil, " ": nil} {
		if got := Search(cards, query); !slices.Equal(got, want) {
			t.Errorf("searching %q finds %v, want %v", query, got, want)
		}
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
