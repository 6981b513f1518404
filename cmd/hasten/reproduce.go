package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hasten/engine/atomicfile"
	"hasten/lab/experiment"
	"hasten/lab/papers"
	"hasten/lab/reproduce"
	"hasten/lab/result"
)

type reproduceFlags struct {
	family     string
	all        bool
	quick      bool
	force      bool
	here       bool
	seeds      int
	out        string
	scoreboard string
	limit      time.Duration
	json       *bool
}

func reproduceCommand() *cobra.Command {
	var f reproduceFlags
	c := &cobra.Command{
		Use:   "reproduce SLUG... | --family NAME | --all",
		Short: "Measure papers' claims on this machine, beside a fair baseline, in one run",
		Long: `Measure papers' claims on this machine: baseline and method side by side, in one run, with paired seeds.

A verdict is computed from the figures and their bars: holds, direction (better than the baseline, if less than the
bar), or no. A full run of a paper takes up to five minutes on two idle cores, a quick one up to 20 seconds; timings taken
beside other work are to be doubted. With --family and --all, what was measured already with the same code and
settings is not measured again.`,
		Example: `  hasten reproduce adan --quick
  hasten reproduce flash-attention adan --json
  hasten reproduce --all --out results --scoreboard results/scoreboard.md`,
		ValidArgsFunction: completeSlug,
	}
	fl := c.Flags()
	fl.StringVar(&f.family, "family", "", "all papers of a family that work")
	fl.BoolVar(&f.all, "all", false, "all papers that work")
	fl.BoolVar(&f.quick, "quick", false, "small settings: a look in 20 seconds instead of a measurement")
	fl.BoolVar(&f.force, "force", false, "with --family and --all: measure again what is up to date")
	fl.IntVar(&f.seeds, "seeds", 0, "number of paired seeds (default 3; 1 with --quick)")
	fl.StringVar(&f.out, "out", "", "directory to keep results in (default: hasten/results in the user's cache)")
	fl.StringVar(&f.scoreboard, "scoreboard", "", "write the scoreboard of the results in --out to this file")
	fl.DurationVar(&f.limit, "limit", 0, "stop an experiment after so long (default 12m; 2m with --quick)")
	fl.BoolVar(&f.here, strings.TrimPrefix(reproduce.Here, "--"), false, "run the experiment in this process")
	fl.MarkHidden("here")
	f.json = addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error { return runReproduce(c.Context(), &f, args) }
	return c
}

// completeSlug offers the papers that have an experiment.
func completeSlug(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	var fit []string
	for _, e := range papers.All() {
		if e.Experiment != nil && strings.HasPrefix(e.Slug, begun) {
			fit = append(fit, e.Slug+"\t"+e.Title)
		}
	}
	return fit, cobra.ShellCompDirectiveNoFileComp
}

// chosen are the papers of a call.
func (f *reproduceFlags) chosen(slugs []string) ([]experiment.Paper, error) {
	given := 0
	for _, is := range []bool{len(slugs) > 0, f.family != "", f.all} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New("name papers, or a --family, or --all; hasten papers list shows what there is")
	}
	var some []experiment.Paper
	for _, slug := range slugs {
		e, ok := papers.Find(slug)
		switch {
		case !ok:
			return nil, noPaper(slug)
		case e.Experiment == nil:
			return nil, fmt.Errorf("%s has no experiment yet: it is %s", slug, e.Status())
		}
		some = append(some, *e.Experiment)
	}
	var families []string
	for _, e := range papers.All() {
		families = append(families, e.Family)
		if e.Experiment != nil && (f.all || e.Family == f.family) {
			some = append(some, *e.Experiment)
		}
	}
	if f.family != "" && !slices.Contains(families, f.family) {
		slices.Sort(families)
		return nil, fmt.Errorf("no family %q; there is %s", f.family, strings.Join(slices.Compact(families), ", "))
	}
	if len(some) == 0 {
		return nil, errors.New("none of these papers has an experiment yet")
	}
	return some, nil
}

func runReproduce(ctx context.Context, f *reproduceFlags, args []string) error {
	some, err := f.chosen(args)
	if err != nil {
		return usageError{err}
	}
	o := experiment.Options{Quick: f.quick, Seeds: f.seeds, Watch: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	if f.here {
		if len(some) != 1 {
			return usageError{errors.New("--here takes one paper")}
		}
		expendable()
		res, err := experiment.Do(ctx, some[0], o)
		if err != nil {
			return err
		}
		return printJSON(res)
	}
	if f.out == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("%w; name a directory for results with --out", err)
		}
		f.out = filepath.Join(cache, "hasten", "results")
	}
	r := &reproduce.Runner{Dir: f.out, Options: o, Limit: f.limit}
	var failed []error
	for _, p := range some {
		res, err := f.one(ctx, r, p, len(args) > 0 || f.force)
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err != nil { // it costs only itself
			fmt.Fprintf(os.Stderr, "%v\n", err)
			failed = append(failed, err)
			continue
		}
		if *f.json {
			err = printJSON(res)
		} else {
			err = showMeasured(os.Stdout, res)
		}
		if err != nil {
			return err
		}
	}
	if f.scoreboard != "" {
		if err := writeScoreboard(f.scoreboard, f.out); err != nil {
			return err
		}
	}
	if len(failed) == 1 && len(some) == 1 {
		return failed[0]
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d experiments failed", len(failed), len(some))
	}
	return nil
}

// one measures a paper, unless a result of today's code is kept.
func (f *reproduceFlags) one(ctx context.Context, r *reproduce.Runner, p experiment.Paper, again bool) (result.Result, error) {
	if res, ok := r.Current(p); ok && !again {
		fmt.Fprintf(os.Stderr, "%s: up to date\n", p.Slug)
		return res, nil
	}
	fmt.Fprintf(os.Stderr, "%03d %s: %s\n", p.Number, p.Slug, p.Title)
	return r.Run(ctx, p)
}

// writeScoreboard writes the scoreboard of the results in a directory.
func writeScoreboard(path, dir string) error {
	entries := slices.Clone(papers.All())
	for i := range entries {
		e := &entries[i]
		e.Result = nil
		text, err := os.ReadFile(filepath.Join(dir, e.Slug+".json"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		res, err := result.Parse(text)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, e.Slug+".json"), err)
		}
		e.Result = &res
	}
	return atomicfile.WriteFile(path, func(w io.Writer) error {
		_, err := io.WriteString(w, reproduce.Scoreboard(entries))
		return err
	})
}

// showMeasured prints a result as a table.
func showMeasured(to io.Writer, r result.Result) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s: %s", r.Slug, r.Verdict)
	if r.Quick {
		fmt.Fprint(w, " (a quick look)")
	}
	if r.Reason != "" {
		fmt.Fprintf(w, "; %s", r.Reason)
	}
	fmt.Fprint(w, "\nfigure\tbaseline\tmethod\tmeasured\tbar\t\n")
	for _, f := range r.Figures {
		baseline, bar := "", ""
		if f.Baseline != nil {
			baseline = reproduce.Spread(*f.Baseline, f.Unit)
		}
		if f.Bar != nil {
			bar = f.Bar.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, baseline, reproduce.Spread(f.Method, f.Unit), f.Measured(), bar, f.Verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, n := range r.Notes {
		fmt.Fprintf(to, "note: %s\n", n)
	}
	_, err := fmt.Fprintf(to, "%.0f s, %d seeds, %s, %d threads, %s kernels\n", r.Seconds, len(r.Seeds), r.Host.CPU, r.Host.Threads, r.Host.SIMD)
	return err
}
