// Command measure compares hasten with PyTorch on this machine.
//
//	go run ./lab/peer/measure            training steps and matrix products, interleaved
//	go run ./lab/peer/measure quality    training seconds to the peer's best quality
//	go run ./lab/peer/measure fill       puts the results into docs/benchmarks.md
//
// Every timing is a process of its own. It is run from the root of the
// repository, on a machine that does nothing else.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/spf13/cobra"
)

// Where results are kept, from the root of the repository.
const (
	speedFile   = "lab/peer/results/speed.json"
	qualityFile = "lab/peer/results/quality.jsonl"
	docFile     = "docs/benchmarks.md"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	c := speedCommand()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.CompletionOptions.HiddenDefaultCmd = true
	c.AddCommand(qualityCommand(), fillCommand())
	return c
}

func speedCommand() *cobra.Command {
	c := &cobra.Command{Use: "measure", Short: "Compare training steps and matrix products with PyTorch's", Args: cobra.NoArgs}
	f := c.Flags()
	only := f.String("only", "", "regular expression: measure the comparisons whose name it matches")
	list := f.Bool("list", false, "list the comparisons and stop")
	rounds := f.Int("rounds", 5, "pairs of runs of each comparison")
	threads := f.Int("threads", 0, "threads of both; 0: one for each core")
	binary := f.String("hasten", "", "hasten to measure (default: built from this repository)")
	out := f.String("out", speedFile, "file for the results")
	c.RunE = func(c *cobra.Command, _ []string) error {
		chosen, err := choose(comparisons(), *only, func(c comparison) string { return c.Name })
		if err != nil {
			return err
		}
		if *list {
			for _, c := range chosen {
				fmt.Println(c.Name)
			}
			return nil
		}
		if *rounds < 1 {
			return fmt.Errorf("--rounds %d: want at least 1", *rounds)
		}
		s, err := newSides(c.Context(), *binary, *threads)
		if err != nil {
			return err
		}
		defer s.close()
		r, err := measureSpeed(c.Context(), s, chosen, *rounds, *out)
		if err != nil {
			return err
		}
		fmt.Print(speedTables(r))
		return nil
	}
	return c
}

func qualityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "quality",
		Short: "Measure the training seconds in which hasten reaches the peer's quality",
		Long: `Search the peer's best model and learning rate in runs of --seconds, train the
best for --final seconds, then train hasten's default recipe and note when it
reaches the same bits per byte on the same validation text. Runs that --out holds
already are not made again, so an interrupted search goes on.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	var o qualityOptions
	only := f.String("only", "", "regular expression: search only the cells whose name it matches, such as lr=0.001$")
	list := f.Bool("list", false, "list the cells and stop")
	f.Float64Var(&o.Search, "seconds", 180, "training seconds of a run of the search")
	f.Float64Var(&o.Final, "final", 600, "training seconds of the best cell")
	f.DurationVar(&o.Time, "time", 0, "training time of hasten; 0: the recipe's")
	f.IntSliceVar(&o.Seeds, "seeds", []int{1, 2, 3}, "seeds of hasten's runs")
	f.IntVar(&o.Tokens, "valid-tokens", 1<<16, "validation tokens of an evaluation, of either side")
	threads := f.Int("threads", 0, "threads of both; 0: one for each core")
	binary := f.String("hasten", "", "hasten to measure (default: built from this repository)")
	f.StringVar(&o.Out, "out", qualityFile, "file for the results; what it holds is kept")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if o.Cells, err = choose(grid(), *only, cell.String); err != nil {
			return err
		}
		if *list {
			for _, c := range o.Cells {
				fmt.Println(c)
			}
			return nil
		}
		if o.Recipe, err = defaultRecipe(); err != nil {
			return err
		}
		if o.Time == 0 {
			o.Time = o.Recipe.Time
		}
		const fewest = 4096 // tokens: sixteen windows of the longest context in the grid
		if o.Search <= 0 || o.Final <= 0 || o.Time <= 0 || o.Tokens < fewest {
			return fmt.Errorf("--seconds, --final and --time must be above 0, --valid-tokens at least %d", fewest)
		}
		s, err := newSides(c.Context(), *binary, *threads)
		if err != nil {
			return err
		}
		defer s.close()
		records, err := measureQuality(c.Context(), s, o)
		if err != nil {
			return err
		}
		fmt.Print(qualityTables(records))
		return nil
	}
	return c
}

func fillCommand() *cobra.Command {
	c := &cobra.Command{Use: "fill", Short: "Put the tables of the results into the documentation", Args: cobra.NoArgs}
	f := c.Flags()
	doc := f.String("doc", docFile, "file with the places of the tables")
	speed := f.String("speed", speedFile, "results of measure")
	quality := f.String("quality", qualityFile, "results of measure quality")
	c.RunE = func(*cobra.Command, []string) error { return fill(*doc, *speed, *quality) }
	return c
}

// choose keeps the things whose name an expression matches.
func choose[T any](all []T, expression string, name func(T) string) ([]T, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("--only: %w", err)
	}
	var some []T
	for _, x := range all {
		if re.MatchString(name(x)) {
			some = append(some, x)
		}
	}
	if some == nil {
		return nil, fmt.Errorf("--only %s matches nothing; --list shows what there is", expression)
	}
	return some, nil
}
