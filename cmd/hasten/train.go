package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hasten/engine/memory"
	"hasten/lab/bench"
	"hasten/task"
	"hasten/task/lm"
	"hasten/task/recipe"
	runs "hasten/task/run"
)

// runsDir is where runs go that name no directory.
const runsDir = "runs"

type trainFlags struct {
	set     []string
	data    string
	out     string
	resume  bool
	steps   int
	time    time.Duration
	target  float64
	seed    int
	json    *bool
	changed func(flag string) bool
}

func trainCommand() *cobra.Command {
	var f trainFlags
	c := &cobra.Command{
		Use:   "train [RECIPE]",
		Short: "Train a model; without arguments, a small GPT on the Go toolchain's source",
		Long: `Train a model and write it to a directory in Hugging Face layout.

RECIPE is a built-in name or a TOML file; without one it is gpt, the main job.
Any setting can be changed with --set; hasten parts lists what there is.`,
		Example: `  hasten train
  hasten train --data mybook.txt --time 10m
  hasten train --data notes.jsonl --set data.field=body --set tokenizer=bpe:8192
  hasten train --set model=gpt2 --set model.layers=6 --set precision=bf16 --out runs/mine
  hasten train --resume --out runs/mine`,
		Args: cobra.MaximumNArgs(1),
	}
	fl := c.Flags()
	fl.StringArrayVar(&f.set, "set", nil, "change a setting: seam=part, seam.option=value or setting=value")
	fl.StringVar(&f.data, "data", "", "gosrc, a file, a directory, or - for standard input")
	fl.StringVar(&f.out, "out", "", "model directory (default runs/RECIPE-DATE)")
	fl.BoolVar(&f.resume, "resume", false, "go on from the newest checkpoint of --out (default: the newest run)")
	fl.IntVar(&f.steps, "steps", 0, "stop after so many steps")
	fl.DurationVar(&f.time, "time", 0, "stop after so much training, such as 90s or 10m")
	fl.Float64Var(&f.target, "target", 0, "stop at this validation loss, in nats per token")
	fl.IntVar(&f.seed, "seed", 0, "seed of all random numbers")
	f.json = addJSON(c)
	c.ValidArgsFunction = completeRecipe
	c.RegisterFlagCompletionFunc("set", completeSet)
	f.changed = fl.Changed
	c.RunE = func(c *cobra.Command, args []string) error { return train(c.Context(), &f, args) }
	return c
}

// recipe finds the recipe of a call, with its changes.
func (f *trainFlags) recipe(args []string) (*recipe.Recipe, error) {
	name := "gpt"
	if len(args) == 1 {
		name = args[0]
	}
	var r *recipe.Recipe
	var err error
	if f.resume && len(args) == 0 {
		r, err = runs.OpenRecipe(f.out)
	} else {
		r, err = recipe.Open(name)
	}
	if err != nil {
		return nil, err
	}
	changes := append([]string(nil), f.set...)
	add := func(flag, value string) {
		if f.changed(flag) {
			changes = append(changes, flag+"="+value)
		}
	}
	if f.changed("steps") || f.changed("time") || f.changed("target") {
		// A budget on the command line replaces the recipe's.
		changes = append([]string{"steps=0", "time=0s", "target=0"}, changes...)
		if r.Get("epochs") != "" {
			changes = append([]string{"epochs=0"}, changes...)
		}
	}
	add("data", f.data)
	add("steps", fmt.Sprint(f.steps))
	add("time", f.time.String())
	add("target", fmt.Sprint(f.target))
	add("seed", fmt.Sprint(f.seed))
	if err := r.Set(changes...); err != nil {
		return nil, usageError{err}
	}
	return r, nil
}

func train(ctx context.Context, f *trainFlags, args []string) error {
	if f.resume && f.out == "" {
		newest, err := newestRun()
		if err != nil {
			return err
		}
		f.out = newest
	}
	r, err := f.recipe(args)
	if err != nil {
		return err
	}
	kind, err := task.Find(r)
	if err != nil {
		return usageError{err}
	}
	job, err := kind.Resolve(r)
	if err != nil {
		return usageError{err}
	}
	if f.out == "" {
		f.out = filepath.Join(runsDir, filepath.Base(r.Name)+"-"+time.Now().Format("20060102-150405"))
	}
	w := newProgress(*f.json, term.IsTerminal(int(os.Stderr.Fd())))
	out, err := job(ctx, runs.Options{Dir: f.out, Resume: f.resume, Watch: w, Peak: bench.MachinePeak})
	w.finish()
	if errors.Is(err, runs.ErrExists) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if out.Interrupted && out.Plan.Loop == nil {
		fmt.Fprintf(os.Stderr, "Stopped. The model as far as it was trained is in %s\n", out.Dir)
		return errInterrupted
	}
	if out.Interrupted {
		fmt.Fprintf(os.Stderr, "Stopped. Everything is saved; go on with:\n  hasten train --resume --out %s\n", out.Dir)
		return errInterrupted
	}
	if *f.json {
		return printDone(out)
	}
	showResult(out)
	if j, ok := out.Job.(*lm.Job); ok {
		return showSample(ctx, out.Dir, j)
	}
	return nil
}

// printDone prints the last line of train --json: the last evaluation, and what
// the run took.
func printDone(out runs.Outcome) error {
	line := map[string]any{}
	b, err := json.Marshal(out.Last)
	if err == nil {
		err = json.Unmarshal(b, &line)
	}
	if err != nil {
		return err
	}
	line["done"], line["dir"], line["params"] = true, out.Dir, out.Plan.Params
	line["arena_peak_mib"], line["rss_mib"] = float64(out.Memory.PeakTotal)/(1<<20), bench.MaxRSS()/(1<<20)
	return printJSON(line)
}

// showResult prints how the run ended and where the model lies.
func showResult(out runs.Outcome) {
	fmt.Printf("\nTrained %d steps, %d %s in %s: ", out.Last.Step, out.Last.Tokens, out.Plan.Unit, time.Duration(out.Last.Seconds*float64(time.Second)).Round(time.Second))
	if out.Last.ValLoss == 0 {
		fmt.Printf("training loss %.4f", out.Last.TrainLoss)
	} else {
		fmt.Printf("validation loss %.4f", out.Last.ValLoss)
	}
	if !math.IsNaN(out.Last.Value(out.Plan.Metric)) {
		fmt.Printf(", %s", metric(out.Plan, &out.Last))
	}
	fmt.Println()
	fmt.Printf("Memory at most: ")
	for _, k := range memory.Kinds() {
		if b := out.Memory.Peak[k]; b > 0 {
			fmt.Printf("%v %d MiB, ", k, b>>20)
		}
	}
	fmt.Printf("together %d MiB\n\nThe model is in %s\n", out.Memory.PeakTotal>>20, out.Dir)
}

// showSample prints a sample of a language model, and what to do with it.
func showSample(ctx context.Context, dir string, j *lm.Job) error {
	fmt.Printf("  hasten sample %s --prompt 'func main() {'\n  hasten eval %s --data FILE\n", dir, dir)
	if j.Tokenizer == nil {
		return nil
	}
	prompt := "func "
	fmt.Printf("\nA sample:\n\n%s", prompt)
	ids := j.Tokenizer.Encode(nil, []byte(prompt))
	err := lm.Generate(ctx, j.Model, ids, lm.Sampling{Tokens: 120, Temperature: 0.8, TopP: 0.95, Seed: uint64(j.Seed), Stop: j.Tokenizer.End()}, printer(j.Tokenizer))
	fmt.Println()
	return err
}

// newestRun is the run directory that was changed last.
func newestRun() (string, error) {
	entries, err := os.ReadDir(runsDir)
	if err != nil {
		return "", usageError{fmt.Errorf("nothing to resume: %w; name the run with --out", err)}
	}
	var newest string
	var at time.Time
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && info.ModTime().After(at) {
			newest, at = filepath.Join(runsDir, e.Name()), info.ModTime()
		}
	}
	if newest == "" {
		return "", usageError{fmt.Errorf("nothing to resume: %s is empty; name the run with --out", runsDir)}
	}
	return newest, nil
}
