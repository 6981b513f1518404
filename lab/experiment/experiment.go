// Package experiment measures papers: a Paper joins a card with the experiment
// that holds the paper's claims against a fair baseline.
//
//	func (Papers) Adan() experiment.Paper {
//		return experiment.Paper{Card: card.Card{…}, Code: …, Run: adan}
//	}
//
//	func adan(r *experiment.Run) error {
//		adamw, ours := r.Pair(7, stepAdamW, stepAdan)
//		r.Ratio("step time", "s", adamw, ours, experiment.RatioAtMost(1.7))
//		…
//	}
//
// The papers of a family are the methods of its package's type Papers, so that
// a new paper is a new file and no other edit. Do runs an experiment and
// returns its result; the verdict is computed from the figures and their bars.
package experiment

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"hasten/lab/card"
	"hasten/lab/result"
)

// Paper is a paper that works here: its card, its code, its experiment.
type Paper struct {
	card.Card
	Code   []string         // the files of the mechanism, from the module's root
	Run    func(*Run) error // measures the claims
	Breaks []Break          // how the verdict was shown able to fail
}

// Break is a change to the mechanism that its tests must notice.
type Break struct {
	File string // from the module's root
	Old  string // text that occurs once in it
	New  string // what breaks the mechanism in its place
	Test string // arguments of go test that must then fail, such as "./learn/optim -run TestAdan"
}

// Collect lists the papers of a family: what the methods of v return, which is
// a value of the family's type Papers.
func Collect(v any) []Paper {
	var all []Paper
	r := reflect.ValueOf(v)
	for i := range r.NumMethod() {
		method, ok := r.Method(i).Interface().(func() Paper)
		if !ok {
			panic(fmt.Sprintf("experiment: %v.%s is not a func() Paper", r.Type(), r.Type().Method(i).Name))
		}
		all = append(all, method())
	}
	return all
}

// Bar is what a figure must reach.
type Bar = result.Bar

// Bars on the value of the method itself.
func Equals(v float64) Bar  { return Bar{Of: result.OfValue, Op: result.Equals, Bound: v} }
func AtMost(v float64) Bar  { return Bar{Of: result.OfValue, Op: result.AtMost, Bound: v} }
func AtLeast(v float64) Bar { return Bar{Of: result.OfValue, Op: result.AtLeast, Bound: v} }

// Bars on method / baseline, on baseline / method, and on method - baseline:
// on their medians over pairs.
func RatioAtMost(v float64) Bar    { return Bar{Of: result.OfRatio, Op: result.AtMost, Bound: v} }
func RatioAtLeast(v float64) Bar   { return Bar{Of: result.OfRatio, Op: result.AtLeast, Bound: v} }
func SpeedupAtLeast(v float64) Bar { return Bar{Of: result.OfSpeedup, Op: result.AtLeast, Bound: v} }
func DifferenceAtMost(v float64) Bar {
	return Bar{Of: result.OfDifference, Op: result.AtMost, Bound: v}
}
func DifferenceAtLeast(v float64) Bar {
	return Bar{Of: result.OfDifference, Op: result.AtLeast, Bound: v}
}

// Run is an experiment under way: what it may use and what it has measured.
type Run struct {
	Context context.Context
	Quick   bool     // small settings: within 20 seconds on two cores, else within 5 minutes
	Seeds   []uint64 // of the paired runs: three, or one when quick

	result *result.Result
	watch  func(string)
}

// Exact reports a figure that is the same on every machine: a count, a number
// of bytes, a difference from a reference.
func (r *Run) Exact(name string, value float64, bar Bar) {
	r.add(result.Figure{Name: name, Kind: result.Exact, Method: result.Of(value), Bar: &bar})
}

// Ratio reports two arms that were measured side by side, such as the timings
// of Pair. The bar is held against the median over pairs.
func (r *Run) Ratio(name, unit string, baseline, method []float64, bar Bar) {
	r.compare(result.Ratio, name, unit, baseline, method, &bar)
}

// Rate reports a figure of one arm that depends on the machine, such as
// samples a second, or a ratio that was formed elsewhere.
func (r *Run) Rate(name, unit string, values []float64, bar Bar) {
	r.compare(result.Ratio, name, unit, nil, values, &bar)
}

// Outcome reports what training came to, by seed. Without a baseline (nil) the
// bar is on the method alone.
func (r *Run) Outcome(name, unit string, baseline, method []float64, bar Bar) {
	r.compare(result.Outcome, name, unit, baseline, method, &bar)
}

// Print reports what a reader should see and nothing is demanded of. baseline
// may be nil.
func (r *Run) Print(name, unit string, baseline, method []float64) {
	r.compare(result.Outcome, name, unit, baseline, method, nil)
}

func (r *Run) compare(kind result.Kind, name, unit string, baseline, method []float64, bar *Bar) {
	if len(method) == 0 || baseline != nil && len(baseline) == 0 {
		panic(fmt.Sprintf("experiment: %q was not measured", name))
	}
	f := result.Figure{Name: name, Kind: kind, Unit: unit, Method: result.Of(method...), Bar: bar}
	if baseline != nil {
		s := result.Of(baseline...)
		f.Baseline = &s
	}
	r.add(f)
}

func (r *Run) add(f result.Figure) {
	if slices.ContainsFunc(r.result.Figures, func(g result.Figure) bool { return g.Name == f.Name }) {
		panic(fmt.Sprintf("experiment: two figures %q", f.Name))
	}
	f.Settle()
	r.result.Figures = append(r.result.Figures, f)
	line := f.Name + ": " + f.Measured()
	if f.Bar != nil {
		line += fmt.Sprintf(" (%s: %s)", f.Bar, f.Verdict)
	}
	r.Progress("%s", line)
}

// Curve stores a quantity along a run. Long curves are thinned to a few
// hundred points.
func (r *Run) Curve(arm string, seed uint64, xName, yName string, x, y []float64) {
	const most = 200
	c := result.Curve{Arm: arm, Seed: seed, XName: xName, YName: yName}
	stride := max(1, (len(x)+most-1)/most)
	for i := range x {
		if i%stride == 0 || i == len(x)-1 {
			c.X, c.Y = append(c.X, short(x[i])), append(c.Y, short(y[i]))
		}
	}
	r.result.Curves = append(r.result.Curves, c)
}

// short rounds to six digits: more are noise, and take room.
func short(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return result.Diverged
	}
	if x == 0 {
		return 0
	}
	p := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(x))))
	if math.IsInf(p, 0) || p == 0 {
		return x
	}
	return math.Round(x*p) / p
}

// Note adds what a reader of the figures must know.
func (r *Run) Note(format string, args ...any) {
	r.result.Notes = append(r.result.Notes, fmt.Sprintf(format, args...))
}

// Progress says, in one line, what is being done.
func (r *Run) Progress(format string, args ...any) {
	if r.watch != nil {
		r.watch(fmt.Sprintf(format, args...))
	}
}

// Tune finds the best of a grid of settings for an arm, lowest loss first, and
// stores the grid and its losses with the result. A run that diverged has an
// infinite loss or none.
func (r *Run) Tune(arm string, grid []float64, loss func(setting float64) (float64, error)) (best float64, err error) {
	t := result.Tuning{Arm: arm, Grid: slices.Clone(grid)}
	at := 0
	for i, x := range grid {
		r.Progress("%s: trying %g", arm, x)
		l, err := loss(x)
		if err != nil {
			return 0, err
		}
		if math.IsNaN(l) || math.IsInf(l, 0) {
			l = result.Diverged
		}
		t.Losses = append(t.Losses, l)
		if l < t.Losses[at] {
			at = i
		}
	}
	t.Best, t.Edge = grid[at], at == 0 || at == len(grid)-1
	r.result.Tuning = append(r.result.Tuning, t)
	return t.Best, nil
}

// Pair times two arms n times each, in turns, after a run of each that does not
// count. Which of them goes first alternates. It returns seconds.
func (r *Run) Pair(n int, baseline, method func()) (base, ours []float64) {
	t := r.Pairs(n, baseline, method)
	return t[0], t[1]
}

// Pairs is Pair for any number of arms.
func (r *Run) Pairs(n int, arms ...func()) [][]float64 {
	timed := make([]func() time.Duration, len(arms))
	for i, arm := range arms {
		timed[i] = func() time.Duration {
			begin := time.Now()
			arm()
			return time.Since(begin)
		}
	}
	return r.Timed(n, timed...)
}

// Timed is Pairs for arms that say themselves how much of their time counts.
func (r *Run) Timed(n int, arms ...func() time.Duration) [][]float64 {
	for _, arm := range arms {
		arm()
	}
	all := make([][]float64, len(arms))
	for i := range n {
		for k := range arms {
			a := (i + k) % len(arms)
			all[a] = append(all[a], arms[a]().Seconds())
		}
	}
	return all
}

// Options say how an experiment is run.
type Options struct {
	Quick bool
	Seeds int                   // number of paired seeds; 0: three, or one when quick
	Watch func(progress string) // may be nil
}

// Do runs the experiment of a paper and judges what it measured. A panic of the
// experiment comes back as an error.
func Do(ctx context.Context, p Paper, o Options) (res result.Result, err error) {
	begin := time.Now()
	res = result.Result{
		Number: p.Number, Slug: p.Slug, Title: p.Title, Quick: o.Quick,
		Date: begin.UTC().Truncate(time.Second), Version: version(), Host: result.ThisHost(),
	}
	if res.Key, err = Key(p, o); err != nil {
		return res, err
	}
	for i := range o.seeds() {
		res.Seeds = append(res.Seeds, uint64(i+1))
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s: the experiment broke off: %v (%s)", p.Slug, v, panicPlace())
		}
	}()
	r := &Run{Context: ctx, Quick: o.Quick, Seeds: res.Seeds, result: &res, watch: o.Watch}
	if err := errors.Join(p.Run(r), ctx.Err()); err != nil {
		return res, fmt.Errorf("%s: %w", p.Slug, err)
	}
	res.Seconds = time.Since(begin).Seconds()
	res.Judge()
	return res, nil
}

func (o Options) seeds() int {
	switch {
	case o.Seeds > 0:
		return o.Seeds
	case o.Quick:
		return 1
	}
	return 3
}

// panicPlace is the line of this module that a panic being recovered came from.
func panicPlace() string {
	pc := make([]uintptr, 64)
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc)])
	panicking := false
	for {
		f, more := frames.Next()
		if panicking && strings.HasPrefix(f.Function, module+"/") {
			return fmt.Sprintf("%s, line %d", f.Function, f.Line)
		}
		panicking = panicking || strings.HasPrefix(f.Function, "runtime.")
		if !more {
			return "place unknown"
		}
	}
}
