package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"hasten/lab/card"
	"hasten/lab/papers"
	"hasten/lab/reproduce"
	"hasten/lab/result"
)

// paperLine is a paper as papers list --json prints it.
type paperLine struct {
	Number  int             `json:"number"`
	Slug    string          `json:"slug"`
	Title   string          `json:"title"`
	Family  string          `json:"family"`
	Status  card.Status     `json:"status"`
	Verdict *result.Verdict `json:"verdict"` // null: nothing was measured yet
	Figures []result.Figure `json:"figures"` // measured here
}

func lineOf(e *papers.Entry) paperLine {
	l := paperLine{Number: e.Number, Slug: e.Slug, Title: e.Title, Family: e.Family, Status: e.Status(), Figures: []result.Figure{}}
	if e.Result != nil {
		l.Verdict, l.Figures = &e.Result.Verdict, e.Result.Figures
	}
	return l
}

func papersCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "papers",
		Short: "The catalogue: published training speed-ups, and what was measured of them",
		Args:  cobra.NoArgs,
	}
	list := &cobra.Command{Use: "list", Short: "List all papers", Args: cobra.NoArgs}
	listJSON := addJSON(list)
	list.RunE = func(*cobra.Command, []string) error { return printPapers(papers.All(), *listJSON) }
	c.RunE = list.RunE

	search := &cobra.Command{Use: "search WORDS", Short: "List the papers that hold all words", Args: cobra.MinimumNArgs(1)}
	searchJSON := addJSON(search)
	search.RunE = func(_ *cobra.Command, args []string) error {
		return printPapers(papers.Search(strings.Join(args, " ")), *searchJSON)
	}

	show := &cobra.Command{Use: "show SLUG", Short: "Show a paper: its card, and what was measured", Args: cobra.ExactArgs(1)}
	showJSON := addJSON(show)
	show.RunE = func(_ *cobra.Command, args []string) error {
		e, ok := papers.Find(args[0])
		if !ok {
			return usageError{noPaper(args[0])}
		}
		if *showJSON {
			return printJSON(struct {
				card.Card
				Status card.Status    `json:"status"`
				Result *result.Result `json:"result"`
			}{e.Card, e.Status(), e.Result})
		}
		return showPaper(os.Stdout, &e)
	}

	scoreboard := &cobra.Command{Use: "scoreboard", Short: "Print what all papers claim and what was measured, as Markdown", Args: cobra.NoArgs}
	scoreboard.RunE = func(*cobra.Command, []string) error {
		fmt.Print(reproduce.Scoreboard(papers.All()))
		return nil
	}
	c.AddCommand(list, search, show, scoreboard)
	return c
}

func noPaper(slug string) error {
	return fmt.Errorf("no paper %q; hasten papers list names them, hasten papers search finds them", slug)
}

func showPaper(w io.Writer, e *papers.Entry) error {
	fmt.Fprintf(w, "%03d %s\n%s\n\n%s\n\n", e.Number, e.Slug, e.Title, e.Summary)
	for _, claim := range e.Claims {
		fmt.Fprintf(w, "claims       %s: %s\n", claim.What, claim.Figure)
	}
	if e.Experiment == nil {
		fmt.Fprintf(w, "switched on  %s (once it stands: it is %s)\n", e.Use, e.Status())
	} else {
		fmt.Fprintf(w, "switched on  %s\ncode         %s\n", e.Use, strings.Join(e.Experiment.Code, ", "))
	}
	fmt.Fprintf(w, "limits       %s\n", e.Limits)
	if e.Result == nil {
		_, err := fmt.Fprintln(w, "measured     nothing yet")
		return err
	}
	return showMeasured(w, *e.Result)
}

func printPapers(entries []papers.Entry, asJSON bool) error {
	if asJSON {
		lines := []paperLine{}
		for _, e := range entries {
			lines = append(lines, lineOf(&e))
		}
		return printJSON(lines)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, e := range entries {
		measured := string(e.Status())
		if e.Result != nil {
			f := e.Result.Headline(e.Card.Headline)
			measured = fmt.Sprintf("%s: %s %s", e.Verdict(), f.Name, f.Measured())
		}
		fmt.Fprintf(w, "%03d\t%s\t%s\t%s\t%s\n", e.Number, e.Slug, e.Family, measured, e.Title)
	}
	return w.Flush()
}
