package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"hasten/lab/plan"
)

func planCommand() *cobra.Command {
	var set []string
	var data string
	var budget time.Duration
	var share float64
	var seed int
	c := &cobra.Command{
		Use:   "plan [RECIPE] --budget TIME",
		Short: "Choose model size, batch and steps for a budget of time",
		Long: `Train a ladder of small language models on your data, fit scaling laws to their losses, and choose the size,
batch and steps that end best within the budget. It prints the law, the loss to expect, and the hasten train
line to run.

The ladder takes a share of the budget; what is left is the run's. Sizes count weights outside the embeddings.
The predicted loss is that of a steady learning rate. Times are those of this machine as it is: when it does
other work meanwhile, the chosen steps are fewer than it could take.`,
		Example: `  hasten plan --budget 10m
  hasten plan my.toml --data notes.txt --budget 1h --share 0.1
  hasten plan --budget 20m --set tokenizer=bytes --json`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeRecipe,
	}
	fl := c.Flags()
	fl.DurationVar(&budget, "budget", 0, "time for ladder and run together, such as 10m")
	fl.Float64Var(&share, "share", 0.2, "share of the budget for the ladder")
	fl.StringArrayVar(&set, "set", nil, "change a setting of the recipe")
	fl.StringVar(&data, "data", "", "gosrc, a file, a directory")
	fl.IntVar(&seed, "seed", 1, "seed of all random numbers")
	c.RegisterFlagCompletionFunc("set", completeSet)
	c.MarkFlagRequired("budget")
	asJSON := addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if budget <= 0 || !(share > 0 && share < 1) || seed < 0 {
			return usageError{fmt.Errorf("--budget is above 0, --share between 0 and 1, --seed not below 0")}
		}
		o := plan.Options{Recipe: "gpt", Settings: set, Seed: uint64(seed), Note: func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, format+"\n", args...)
		}}
		if len(args) == 1 {
			o.Recipe = args[0]
		}
		if data != "" {
			o.Settings = append(o.Settings, "data="+data)
		}
		report, err := plan.Make(c.Context(), budget, share, o)
		switch {
		case c.Context().Err() != nil:
			return errInterrupted
		case errors.Is(err, plan.ErrBudget):
			return usageError{fmt.Errorf("%w; give a larger --budget or --share", err)}
		case err != nil:
			return err
		}
		if *asJSON {
			return printJSON(report)
		}
		return report.Write(os.Stdout)
	}
	return c
}
