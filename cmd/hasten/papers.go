package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"hasten/lab/card"
)

// paperLine is a paper as papers list --json prints it.
type paperLine struct {
	Number  int         `json:"number"`
	Slug    string      `json:"slug"`
	Title   string      `json:"title"`
	Family  string      `json:"family"`
	Status  card.Status `json:"status"`
	Verdict *string     `json:"verdict"` // null: nothing was measured yet
	Figures []string    `json:"figures"` // measured here
}

func papersCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "papers",
		Short: "The catalogue: 198 published training speed-ups",
		Args:  cobra.NoArgs,
	}
	list := &cobra.Command{Use: "list", Short: "List all papers", Args: cobra.NoArgs}
	listJSON := addJSON(list)
	list.RunE = func(*cobra.Command, []string) error { return printPapers(card.All(), *listJSON) }
	c.RunE = list.RunE

	search := &cobra.Command{Use: "search WORDS", Short: "List the papers that hold all words", Args: cobra.MinimumNArgs(1)}
	searchJSON := addJSON(search)
	search.RunE = func(_ *cobra.Command, args []string) error {
		return printPapers(card.Search(strings.Join(args, " ")), *searchJSON)
	}

	show := &cobra.Command{Use: "show SLUG", Short: "Show a paper's card", Args: cobra.ExactArgs(1)}
	showJSON := addJSON(show)
	show.RunE = func(_ *cobra.Command, args []string) error {
		p, ok := card.Find(args[0])
		if !ok {
			return usageError{fmt.Errorf("no paper %q; hasten papers list names them, hasten papers search finds them", args[0])}
		}
		if *showJSON {
			return printJSON(struct {
				card.Card
				Status card.Status `json:"status"`
			}{p, card.Planned})
		}
		fmt.Printf("%03d %s\n%s\n\n%s\n\n", p.Number, p.Slug, p.Title, p.Summary)
		for _, claim := range p.Claims {
			fmt.Printf("claims      %s: %s\n", claim.What, claim.Figure)
		}
		fmt.Printf("measured    nothing yet: %s\nswitched on %s (once it stands)\nlimits      %s\n", card.Planned, p.Use, p.Limits)
		return nil
	}
	c.AddCommand(list, search, show)
	return c
}

func printPapers(cards []card.Card, asJSON bool) error {
	if asJSON {
		lines := []paperLine{}
		for _, c := range cards {
			lines = append(lines, paperLine{c.Number, c.Slug, c.Title, c.Family, card.Planned, nil, []string{}})
		}
		return printJSON(lines)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, c := range cards {
		fmt.Fprintf(w, "%03d\t%s\t%s\t%s\t%s\n", c.Number, c.Slug, c.Family, card.Planned, c.Title)
	}
	return w.Flush()
}
