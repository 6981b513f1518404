// Package compare measures what parts do for a job of the user's own: time to
// the quality that the plain recipe reaches.
//
//	recipe ──▶ plain            ──┐
//	       ──▶ plain + part     ──┼─ equal seeds, equal budgets, in turns ─▶ Report
//	       ──▶ plain + all parts ─┘
//
// The rules are those of Dahl et al., "Benchmarking Neural Network Training
// Algorithms" (2023): the target is fixed by the baseline, every arm gets the
// same number of trials to tune its learning rate, what counts is the time (and
// the steps, samples) until the target is reached, and the hardware is stated.
package compare

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hasten/lab/result"
	"hasten/learn/track"
	"hasten/task"
	"hasten/task/recipe"
	"hasten/task/run"
)

// Options say what is compared, and how.
type Options struct {
	Recipe *recipe.Recipe
	With   []string // settings such as optim=adan, optim.lr=0.01: those of one seam are one part
	Seeds  int      // equal for all arms; 0: 3
	// Trials is how many learning rates every arm, the plain one included, may
	// try before the runs that count, on a seed that is not used again: its own
	// rate, then a third and three times it, and so on outwards. 0 or 1: its own.
	Trials int
	Note   func(string) // is told what is being done; may be nil
}

// Arm is one way to do the job.
type Arm struct {
	Name     string         `json:"name"`
	Settings []string       `json:"settings"` // changes to the recipe
	Tuning   *result.Tuning `json:"tuning,omitempty"`
	Runs     []Run          `json:"runs"` // by seed
}

// Run is one training run of an arm.
type Run struct {
	Seed    uint64         `json:"seed"`
	Final   float64        `json:"final"` // validation loss at the end
	Steps   int64          `json:"steps"`
	Samples int64          `json:"samples"` // tokens, images … trained on
	Seconds float64        `json:"seconds"` // of training
	Peak    int64          `json:"peak_bytes"`
	Reached bool           `json:"reached"` // the target
	At      At             `json:"at"`      // where it was reached, or where the run ended
	Records []track.Record `json:"-"`       // the evaluations
}

// At is a place in a run.
type At struct {
	Steps   int64   `json:"steps"`
	Samples int64   `json:"samples"`
	Seconds float64 `json:"seconds"`
}

// Report is what a comparison came to.
type Report struct {
	Recipe string      `json:"recipe"`
	Unit   string      `json:"unit"`   // what samples are
	Target float64     `json:"target"` // validation loss: the median of the plain runs' last
	Trials int         `json:"trials"`
	Arms   []Arm       `json:"arms"` // the plain one first
	Host   result.Host `json:"host"`
}

// Plain is the name of the arm without any part.
const Plain = "plain"

// Do carries out a comparison. All arms are checked before any is run.
func Do(ctx context.Context, o Options) (*Report, error) {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Seeds == 0 {
		o.Seeds = 3
	}
	arms, err := armsOf(o.With)
	if err != nil {
		return nil, err
	}
	for _, a := range arms {
		if _, _, err := resolve(o.Recipe, a.Settings, 1); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	dir, err := os.MkdirTemp("", "hasten-compare-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c := &comparison{Options: o, dir: dir, report: Report{Recipe: o.Recipe.Name, Trials: max(o.Trials, 1), Arms: arms, Host: result.ThisHost()}}
	if err := c.tune(ctx); err != nil {
		return nil, err
	}
	if err := c.runs(ctx); err != nil {
		return nil, err
	}
	c.report.settle()
	return &c.report, nil
}

// armsOf makes the arms: plain, each part alone, and all together.
func armsOf(with []string) ([]Arm, error) {
	arms := []Arm{{Name: Plain}}
	var seams []string
	parts := map[string][]string{}
	for _, s := range with {
		key, _, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("%q: want seam=part, or seam.option=value", s)
		}
		seam, _, _ := strings.Cut(key, ".")
		if parts[seam] == nil {
			seams = append(seams, seam)
		}
		parts[seam] = append(parts[seam], s)
	}
	if len(seams) == 0 {
		return nil, errors.New("nothing to compare with: name parts, such as optim=adan")
	}
	var all []string
	for _, seam := range seams {
		arms = append(arms, Arm{Name: strings.Join(parts[seam], " "), Settings: parts[seam]})
		all = append(all, parts[seam]...)
	}
	if len(seams) > 1 {
		arms = append(arms, Arm{Name: "all together", Settings: all})
	}
	return arms, nil
}

// resolve makes the recipe of an arm definite. It returns the whole recipe
// beside the job.
func resolve(r *recipe.Recipe, settings []string, seed uint64) (task.Job, *recipe.Recipe, error) {
	r = r.Clone()
	if err := r.Set(append(slices.Clone(settings), fmt.Sprintf("seed=%d", seed), "target=0")...); err != nil {
		return nil, nil, err
	}
	kind, err := task.Find(r)
	if err != nil {
		return nil, nil, err
	}
	job, err := kind.Resolve(r)
	return job, r, err
}

// comparison is one under way.
type comparison struct {
	Options
	dir    string
	count  int // runs made
	report Report
}

// rateKey is the setting that trials change.
const rateKey = "optim.lr"

// tuningSeed is used for trials and for nothing else.
const tuningSeed = 1000

// tune gives every arm its trials.
func (c *comparison) tune(ctx context.Context) error {
	if c.Trials < 2 {
		return nil
	}
	for i := range c.report.Arms {
		a := &c.report.Arms[i]
		own, err := c.rate(a)
		if err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		t := result.Tuning{Arm: a.Name}
		best := 0
		for _, x := range trialRates(own, c.Trials) {
			c.Note(fmt.Sprintf("%s: trial with %s=%.3g", a.Name, rateKey, x))
			run, err := c.train(ctx, append(slices.Clone(a.Settings), setting(x)), tuningSeed)
			if err != nil && ctx.Err() != nil {
				return err
			}
			loss := run.Final
			if err != nil || math.IsNaN(loss) { // diverged: a bad rate, not a failure
				c.Note(fmt.Sprint(err))
				loss = result.Diverged
			}
			t.Grid, t.Losses = append(t.Grid, x), append(t.Losses, loss)
			if loss < t.Losses[best] {
				best = len(t.Losses) - 1
			}
		}
		t.Best = t.Grid[best]
		t.Edge = t.Best == slices.Min(t.Grid) || t.Best == slices.Max(t.Grid)
		a.Tuning = &t
		a.Settings = append(a.Settings, setting(t.Best))
	}
	return nil
}

func setting(rate float64) string {
	return rateKey + "=" + strconv.FormatFloat(rate, 'g', -1, 64)
}

// trialRates are n rates around one: itself, a third, three times, a ninth …
func trialRates(own float64, n int) []float64 {
	rates := []float64{own}
	for i := 1; len(rates) < n; i++ {
		power := math.Pow(3, float64((i+1)/2))
		if i%2 == 1 {
			power = 1 / power
		}
		rates = append(rates, own*power)
	}
	return rates
}

// rate is the learning rate that an arm has by itself.
func (c *comparison) rate(a *Arm) (float64, error) {
	kind, err := task.Find(c.Recipe)
	if err != nil {
		return 0, err
	}
	r := c.Recipe.Clone()
	if err := r.Set(a.Settings...); err != nil {
		return 0, err
	}
	if text := r.Get(rateKey); text != "" {
		return strconv.ParseFloat(text, 64)
	}
	for _, p := range kind.Parts() {
		if p.Seam != "optim" || p.Name != r.Get("optim") && !(p.Default && r.Get("optim") == "") {
			continue
		}
		for _, o := range p.Options {
			if o.Name == "lr" {
				return strconv.ParseFloat(o.Default, 64)
			}
		}
	}
	return 0, fmt.Errorf("there is no %s to tune; use one trial", rateKey)
}

// runs makes the runs that count: for each seed every arm, beginning with
// another each time.
func (c *comparison) runs(ctx context.Context) error {
	n := len(c.report.Arms)
	for seed := range c.Seeds {
		for k := range n {
			a := &c.report.Arms[(seed+k)%n]
			c.Note(fmt.Sprintf("%s, seed %d", a.Name, seed+1))
			run, err := c.train(ctx, a.Settings, uint64(seed+1))
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				c.Note(fmt.Sprintf("%s, seed %d: %v", a.Name, seed+1, err))
				run.Final = result.Diverged // it reaches nothing
			}
			run.Seed = uint64(seed + 1)
			a.Runs = append(a.Runs, run)
		}
	}
	return nil
}

// train makes one run and deletes what it leaves.
func (c *comparison) train(ctx context.Context, settings []string, seed uint64) (Run, error) {
	job, _, err := resolve(c.Recipe, settings, seed)
	if err != nil {
		return Run{}, err
	}
	c.count++
	dir := filepath.Join(c.dir, strconv.Itoa(c.count))
	defer os.RemoveAll(dir)
	w := &watcher{note: c.Note}
	out, err := job(ctx, run.Options{Dir: dir, Watch: w})
	r := Run{Final: out.Last.ValLoss, Steps: out.Last.Step, Samples: out.Last.Tokens, Seconds: out.Last.Seconds, Peak: out.Memory.PeakTotal, Records: w.records}
	switch {
	case err != nil:
		return r, err
	case ctx.Err() != nil:
		return r, ctx.Err()
	case r.Final == 0:
		return r, errors.New("the run was not evaluated: a comparison needs validation data (data.valid or data.fraction)")
	}
	c.report.Unit = out.Plan.Unit
	return r, nil
}

// watcher keeps the evaluations of a run.
type watcher struct {
	run.Silent
	note    func(string)
	records []track.Record
}

// Evaluated keeps an evaluation.
func (w *watcher) Evaluated(r track.Record) {
	w.records = append(w.records, r)
	w.note(fmt.Sprintf("  step %d, %.1f s: validation loss %.4f", r.Step, r.Seconds, r.ValLoss))
}

// settle fixes the target and finds where each run reached it.
func (p *Report) settle() {
	var finals []float64
	for _, r := range p.Arms[0].Runs {
		finals = append(finals, r.Final)
	}
	p.Target = result.Median(finals)
	for i := range p.Arms {
		for k := range p.Arms[i].Runs {
			r := &p.Arms[i].Runs[k]
			r.At = At{r.Steps, r.Samples, r.Seconds}
			at := slices.IndexFunc(r.Records, func(e track.Record) bool { return e.ValLoss <= p.Target })
			if r.Reached = at >= 0; r.Reached {
				e := r.Records[at]
				r.At = At{e.Step, e.Tokens, e.Seconds}
			}
		}
	}
}
