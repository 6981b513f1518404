package reproduce

import (
	"fmt"
	"strings"

	"hasten/lab/card"
	"hasten/lab/papers"
	"hasten/lab/result"
)

// Scoreboard is the catalogue's results as a page of Markdown: what every paper
// claims, and what was measured here.
func Scoreboard(entries []papers.Entry) string {
	var b strings.Builder
	count := map[result.Verdict]int{}
	working := 0
	for _, e := range entries {
		if e.Status() == card.Working {
			working++
			count[e.Verdict()]++
		}
	}
	fmt.Fprintf(&b, `# Scoreboard

Written by `+"`hasten reproduce`"+` from the results in `+"`lab/result/measured`"+`; not edited by hand. Measure again with
`+"`hasten reproduce SLUG`"+`.

%d of %d papers work: %d hold every bar, %d point the right way without reaching it, %d do not show here what they claim.
A verdict is computed from figures and bars: *holds*: every bar; *direction*: all that is exact, and the rest is better than
the baseline if less than the bar; *no*: not shown here.

| # | paper | it claims | headline, measured here | bar | verdict |
|---:|---|---|---|---|---|
`, working, len(entries), count[result.Holds], count[result.Direction], count[result.No])
	for _, e := range entries {
		if e.Status() != card.Working {
			continue
		}
		f := e.Result.Headline(e.Card.Headline)
		fmt.Fprintf(&b, "| %d | [%s](#%s) | %s: %s | %s: %s | %s | **%s** |\n", e.Number, e.Slug, e.Slug,
			cell(e.Claims[0].What), cell(e.Claims[0].Figure), cell(f.Name), cell(f.Measured()), f.Bar, e.Verdict())
	}
	for _, e := range entries {
		if e.Status() == card.Working {
			section(&b, &e)
		}
	}
	return b.String()
}

// section prints all figures of a paper.
func section(b *strings.Builder, e *papers.Entry) {
	r := e.Result
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n**%s**", e.Slug, e.Title, r.Verdict)
	if r.Reason != "" {
		fmt.Fprintf(b, ": %s", r.Reason)
	}
	fmt.Fprintf(b, ". Measured %s in %.0f s on %s, %d threads, %s kernels, %d seeds.\n\n", r.Date.Format("2006-01-02"), r.Seconds, r.Host.CPU, r.Host.Threads, r.Host.SIMD, len(r.Seeds))
	fmt.Fprint(b, "| figure | kind | baseline | method | measured | bar | |\n|---|---|---:|---:|---:|---|---|\n")
	for _, f := range r.Figures {
		baseline, bar := "", ""
		if f.Baseline != nil {
			baseline = Spread(*f.Baseline, f.Unit)
		}
		if f.Bar != nil {
			bar = f.Bar.String()
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", cell(f.Name), f.Kind, baseline, Spread(f.Method, f.Unit), f.Measured(), bar, f.Verdict)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(b, "\n- %s", strings.Join(strings.Fields(n), " "))
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(b)
	}
}

// Spread prints a median and, where there are several values, their range.
func Spread(s result.Spread, unit string) string {
	text := result.Number(s.Median)
	if s.Min != s.Max {
		text += fmt.Sprintf(" (%s–%s)", result.Number(s.Min), result.Number(s.Max))
	}
	if unit != "" {
		text += " " + unit
	}
	return text
}

// cell keeps a text within a cell of a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}
