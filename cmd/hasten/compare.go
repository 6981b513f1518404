package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"hasten/engine/atomicfile"
	"hasten/lab/compare"
	"hasten/task/recipe"
)

func compareCommand() *cobra.Command {
	var set, with []string
	var data, plot string
	var seeds, trials, steps int
	var limit time.Duration
	c := &cobra.Command{
		Use:   "compare [RECIPE] --with SEAM=PART[,SEAM=PART...]",
		Short: "Time to target of your own job, with and without parts",
		Long: `Train a recipe as it is, with each part alone, and with all of them, and compare the time each takes to the quality
that the plain recipe ends with. Settings of one seam (optim=adan,optim.lr=0.01) are one part.

The target is fixed by the plain recipe, seeds and budgets are equal, arms take turns, and every arm may tune its learning
rate with the same number of trials. A comparison makes (1 + parts + 1) × (seeds + trials) runs of the recipe's length.`,
		Example: `  hasten compare gpt --steps 300 --with optim=adan
  hasten compare my.toml --data notes.txt --with average=lawa,schedule=clr --seeds 5 --plot curves.svg`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeRecipe,
	}
	fl := c.Flags()
	fl.StringSliceVar(&with, "with", nil, "parts to compare: seam=part, seam.option=value")
	fl.StringArrayVar(&set, "set", nil, "change the recipe for all arms")
	fl.StringVar(&data, "data", "", "data for all arms")
	fl.IntVar(&steps, "steps", 0, "steps of every run")
	fl.DurationVar(&limit, "time", 0, "training time of every run")
	fl.IntVar(&seeds, "seeds", 3, "paired seeds")
	fl.IntVar(&trials, "trials", 3, "learning rates that every arm may try first")
	fl.StringVar(&plot, "plot", "", "write a picture of the losses to this SVG file")
	c.RegisterFlagCompletionFunc("set", completeSet)
	c.RegisterFlagCompletionFunc("with", completeSet)
	asJSON := addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if seeds < 1 || trials < 0 {
			return usageError{fmt.Errorf("--seeds is at least 1, --trials at least 0")}
		}
		name := "gpt"
		if len(args) == 1 {
			name = args[0]
		}
		r, err := recipe.Open(name)
		if err != nil {
			return err
		}
		changes := append([]string{}, set...)
		if fl.Changed("data") {
			changes = append(changes, "data="+data)
		}
		if fl.Changed("steps") || fl.Changed("time") {
			changes = append(changes, "time="+limit.String(), fmt.Sprintf("steps=%d", steps))
		}
		if err := r.Set(changes...); err != nil {
			return usageError{err}
		}
		report, err := compare.Do(c.Context(), compare.Options{
			Recipe: r, With: with, Seeds: seeds, Trials: trials, Note: func(s string) { fmt.Fprintln(os.Stderr, s) },
		})
		if c.Context().Err() != nil {
			return errInterrupted
		}
		if err != nil {
			return err
		}
		if plot != "" {
			if err := atomicfile.WriteFile(plot, func(w io.Writer) error { return report.Draw(w) }); err != nil {
				return err
			}
		}
		if *asJSON {
			return printJSON(report)
		}
		return report.Write(os.Stdout)
	}
	return c
}
