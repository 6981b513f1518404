package main

import (
	"context"
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
	"hasten/task/lm"
	"hasten/task/recipe"
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
		r, err = lm.ResumeRecipe(f.out)
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
	s, err := lm.Resolve(r)
	if err != nil {
		return usageError{err}
	}
	if f.out == "" {
		f.out = filepath.Join(runsDir, filepath.Base(r.Name)+"-"+time.Now().Format("20060102-150405"))
	}
	w := newProgress(*f.json, term.IsTerminal(int(os.Stderr.Fd())))
	out, err := lm.Train(ctx, s, lm.TrainOptions{Dir: f.out, Resume: f.resume, Watch: w})
	w.finish()
	if errors.Is(err, lm.ErrExists) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if out.Interrupted {
		fmt.Fprintf(os.Stderr, "Stopped. Everything is saved; go on with:\n  hasten train --resume --out %s\n", out.Dir)
		return errInterrupted
	}
	if *f.json {
		return printDone(out)
	}
	return showResult(ctx, out)
}

// done is the last line of train --json.
type done struct {
	Done bool   `json:"done"`
	Dir  string `json:"dir"`
	evaluationLine
	Params       int     `json:"params"`
	ArenaPeakMiB float64 `json:"arena_peak_mib"`
	RSSMiB       float64 `json:"rss_mib"`
}

func printDone(out lm.Outcome) error {
	return printJSON(done{true, out.Dir, evaluation(out.Last), out.Job.Model.NumParams(), float64(out.Memory.PeakTotal) / (1 << 20), bench.MaxRSS() / (1 << 20)})
}

// showResult prints where the model lies and a sample of it.
func showResult(ctx context.Context, out lm.Outcome) error {
	j := out.Job
	fmt.Printf("\nTrained %d steps, %d tokens in %s: ", out.Last.Step, out.Last.Tokens, time.Duration(out.Last.Seconds*float64(time.Second)).Round(time.Second))
	if math.IsNaN(out.Last.BitsPerByte) || out.Last.BitsPerByte == 0 {
		fmt.Printf("training loss %.4f\n", j.Loop.State.Loss)
	} else {
		fmt.Printf("validation loss %.4f, %.4f bits per byte\n", out.Last.ValLoss, out.Last.BitsPerByte)
	}
	fmt.Printf("Memory at most: ")
	for _, k := range memory.Kinds() {
		if b := out.Memory.Peak[k]; b > 0 {
			fmt.Printf("%v %d MiB, ", k, b>>20)
		}
	}
	fmt.Printf("together %d MiB\n", out.Memory.PeakTotal>>20)
	if j.Tokenizer != nil {
		fmt.Printf("\nA sample:\n\n")
		prompt := "func "
		fmt.Print(prompt)
		ids := j.Tokenizer.Encode(nil, []byte(prompt))
		err := lm.Generate(ctx, j.Model, ids, lm.Sampling{Tokens: 120, Temperature: 0.8, TopP: 0.95, Seed: uint64(j.Seed), Stop: j.Tokenizer.End()}, printer(j.Tokenizer))
		if err != nil {
			return err
		}
		fmt.Println()
	}
	fmt.Printf("\nThe model is in %s\n  hasten sample %s --prompt 'func main() {'\n  hasten eval %s --data FILE\n", out.Dir, out.Dir, out.Dir)
	return nil
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
