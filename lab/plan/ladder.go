// Package plan chooses the size, batch and steps of a run before it is made: it
// trains a ladder of small models on the user's data, fits the laws of package
// law to their losses and a throughput to their times, and looks where the two
// put the best loss within a budget.
//
//	recipe ──Climb──▶ Ladder (losses by size and step, seconds by size and batch)
//	       ──Fit────▶ Model (laws, throughput) ──Time, Compute──▶ Choice
//
// Every run of a ladder keeps its learning rate, after a warm-up, so that each
// of its evaluations is the end of a run of so many steps; and each size has a
// rate of its own, tuned at some sizes and interpolated between.
package plan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"

	"hasten/lab/workload"
	"hasten/learn/loop"
	"hasten/scale/law"
	"hasten/task/lm"
)

// Options say what a ladder is made of.
type Options struct {
	Recipe   string   // as for workload.Train
	Settings []string // changes to it
	Shapes   []Shape  // of the rungs, rising
	Steps    int      // of the highest rung; see StepsOf
	Seed     uint64
	Rates    *Rates // nil: tuned at the lowest and the middle rung
	Note     func(format string, args ...any)
}

// Rung is a run of a ladder.
type Rung struct {
	Shape
	N      float64     `json:"n"` // weights outside the embeddings
	Rate   float64     `json:"rate"`
	Points []law.Point `json:"points"`
	Step   float64     `json:"step_seconds"` // the median
	Loss   float64     `json:"loss"`         // at the end
}

// Noise is a gradient noise scale, in tokens, at a loss.
type Noise struct {
	Loss  float64 `json:"loss"`
	Scale float64 `json:"scale"`
}

// Timing is how long a step takes.
type Timing struct {
	N       float64 `json:"n"`
	Batch   float64 `json:"batch"` // tokens
	Seconds float64 `json:"seconds"`
}

// Ladder is what was measured.
type Ladder struct {
	Rungs   []Rung   `json:"rungs"`
	Rates   Rates    `json:"rates"`
	Noise   []Noise  `json:"noise"` // along the middle rung
	Timings []Timing `json:"timings"`
	Batch   float64  `json:"batch"`     // tokens in a step
	Windows int      `json:"sequences"` // in a batch
	Tokens  float64  `json:"tokens"`    // of training data
	Steps   int      `json:"steps"`     // of the highest rung
	Seconds float64  `json:"seconds"`   // it all took
}

// Evaluations is how often a run of a ladder is evaluated.
const Evaluations = 8

// Climb trains a ladder.
func Climb(ctx context.Context, o Options) (*Ladder, error) {
	if len(o.Shapes) < 3 {
		return nil, fmt.Errorf("a ladder of %d rungs: a law needs three", len(o.Shapes))
	}
	begin := time.Now()
	l := &Ladder{Steps: o.Steps}
	if o.Rates == nil {
		var err error
		if o.Rates, err = Tune(ctx, o, o.Tuned(), o.Steps/2); err != nil {
			return nil, err
		}
	}
	l.Rates = *o.Rates
	for i, s := range o.Shapes {
		rate := l.Rates.At(s.Weights())
		steps := o.StepsOf(s)
		o.note("rung %d of %d: %v, %s weights, %d steps, learning rate %.2g", i+1, len(o.Shapes), s, Count(s.Weights()), steps, rate)
		j, err := o.job(s, steps, rate, fmt.Sprint("evaluate.every=", steps/Evaluations))
		if err != nil {
			return nil, err
		}
		if i == len(o.Shapes)/2 {
			l.measureNoise(j)
		}
		r, err := run(ctx, j)
		if err != nil {
			return nil, err
		}
		r.Shape, r.Rate = s, rate
		l.Rungs = append(l.Rungs, r)
		l.Windows, l.Batch = j.Batch*j.Accumulate, float64(j.Batch*j.Accumulate*j.Model.Ctx)
		l.Tokens = float64(j.Data.Train.Len())
		l.Timings = append(l.Timings, Timing{r.N, l.Batch, r.Step})
	}
	if err := l.timeBatches(ctx, o); err != nil {
		return nil, err
	}
	l.Seconds = time.Since(begin).Seconds()
	return l, nil
}

// Tuned are the rungs whose learning rate is searched: the lowest and the
// middle one. The best steady rate falls with the length of a run, so that
// those of trials half as long are a little high for all.
func (o *Options) Tuned() []Shape { return []Shape{o.Shapes[0], o.Shapes[len(o.Shapes)/2]} }

// StepsOf is the length of a rung: it grows with the root of how much smaller
// the rung is than the highest. So the low ones, which cost little, show what
// many steps do; from runs of one length the two terms of L(N,S) are hard to
// tell apart.
func (o *Options) StepsOf(s Shape) int {
	steps := float64(o.Steps) * math.Sqrt(o.Shapes[len(o.Shapes)-1].Weights()/s.Weights())
	return int(math.Ceil(steps/Evaluations)) * Evaluations
}

func (o *Options) note(format string, args ...any) {
	if o.Note != nil {
		o.Note(format, args...)
	}
}

// Train makes a run of one shape outside the ladder, evaluated as its rungs are.
func (o *Options) Train(ctx context.Context, s Shape, steps int, rate float64) (Rung, error) {
	j, err := o.job(s, steps, rate, fmt.Sprint("evaluate.every=", max(steps/Evaluations, 1)))
	if err != nil {
		return Rung{}, err
	}
	r, err := run(ctx, j)
	r.Shape, r.Rate = s, rate
	return r, err
}

// job prepares a run with a steady rate, after a warm-up that all runs beside
// the ladder share.
func (o *Options) job(s Shape, steps int, rate float64, more ...string) (*lm.Job, error) {
	settings := slices.Concat(o.Settings, s.Settings(), []string{
		"schedule=constant", fmt.Sprint("schedule.warmup=", min(50, o.Steps/4)), fmt.Sprint("optim.lr=", rate),
		fmt.Sprint("steps=", steps), "time=0s", "target=0",
	}, more)
	j, err := workload.New(o.Recipe, o.Seed, settings...)
	if err != nil {
		return nil, err
	}
	job, ok := j.(*lm.Job)
	if !ok {
		return nil, errors.Join(errors.New("plans are made for language models: task=lm"), j.Close())
	}
	if err := check(job.Recipe); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	if job.Data.Valid == nil || job.Data.Valid.Len() == 0 {
		return nil, errors.Join(errors.New("a plan needs validation data: set data.valid or data.fraction"), j.Close())
	}
	return job, nil
}

// run carries out a run.
func run(ctx context.Context, j *lm.Job) (Rung, error) {
	weights := j.Model.NumParams() - j.Model.Token.Len()
	if !j.Model.Tied {
		weights -= j.Model.Head.Len()
	}
	r := Rung{N: float64(weights)}
	var seconds []float64
	j.Loop.On(loop.AfterStep, func(s *loop.State) error {
		seconds = append(seconds, s.StepTime.Seconds())
		return nil
	})
	out, err := workload.Do(ctx, j)
	if err != nil {
		return r, err
	}
	if r.Loss = out.Loss; out.Diverged {
		return r, nil
	}
	for _, p := range out.Curve {
		r.Points = append(r.Points, law.Point{N: r.N, S: float64(p.Step), D: float64(p.Items), Loss: p.ValLoss})
	}
	seconds = seconds[min(2, len(seconds)-1):] // the first find their buffers
	slices.Sort(seconds)
	r.Step = stat.Quantile(0.5, stat.Empirical, seconds, nil)
	return r, nil
}

// measureNoise measures the gradient noise at the evaluations of a run, on
// batches that it does not train on.
func (l *Ladder) measureNoise(j *lm.Job) {
	const batches = 12
	j.Loop.On(loop.AfterEvaluate, func(s *loop.State) error {
		scale, err := law.Noise(j.Loop.Task, s.Tape, batches)
		l.Noise = append(l.Noise, Noise{s.ValLoss, scale})
		return err
	})
}

// timeBatches times steps of the middle rung with smaller and larger batches.
func (l *Ladder) timeBatches(ctx context.Context, o Options) error {
	const steps = 8
	s := o.Shapes[len(o.Shapes)/2]
	for _, windows := range []int{l.Windows / 4, l.Windows * 4} {
		if windows == 0 {
			continue
		}
		j, err := o.job(s, steps, l.Rates.At(s.Weights()), fmt.Sprint("batch=", windows), "accumulate=1", "evaluate.windows=1")
		if err != nil {
			return err
		}
		r, err := run(ctx, j)
		if err != nil {
			return err
		}
		l.Timings = append(l.Timings, Timing{r.N, float64(windows * j.Model.Ctx), r.Step})
	}
	return nil
}

// Points are the losses that the law is fitted to: those after an eighth of the
// highest rung's steps, which leaves out the warm-up.
func (l *Ladder) Points() []law.Point {
	var all []law.Point
	for _, r := range l.Rungs {
		for _, p := range r.Points {
			if p.S > float64(l.Steps)/Evaluations {
				all = append(all, p)
			}
		}
	}
	return all
}

// Rates is a learning rate for every size: exp(A + B·ln N).
type Rates struct {
	A      float64 `json:"a"`
	B      float64 `json:"b"`
	Trials []Trial `json:"trials"`
}

// Trial is a short run that tuned the rate of a size.
type Trial struct {
	N        float64 `json:"n"`
	Rate     float64 `json:"rate"`
	Loss     float64 `json:"loss"`
	Diverged bool    `json:"diverged"` // and there is no Loss
}

// At is the rate of a model of n weights.
func (r Rates) At(n float64) float64 { return math.Exp(r.A + r.B*math.Log(n)) }

// usual is a rate to begin with, for batches of about two thousand tokens.
func usual(n float64) float64 { return 0.005 * math.Pow(1e5/n, 0.25) }

// Tune finds the best rate of two sizes, in short runs, and the power law
// through them.
func Tune(ctx context.Context, o Options, shapes []Shape, steps int) (*Rates, error) {
	r := new(Rates)
	var x, y []float64
	for _, s := range shapes {
		best, err := o.tune(ctx, s, steps, r)
		if err != nil {
			return nil, err
		}
		x, y = append(x, math.Log(s.Weights())), append(y, math.Log(best))
	}
	r.A, r.B = stat.LinearRegression(x, y, nil, false)
	// Larger models never want much larger rates, nor rates that fall faster
	// than 1/√N: trials are few, and what they are off by would be stretched.
	if b := min(max(r.B, -0.5), 0); b != r.B {
		r.A, r.B = stat.Mean(y, nil)-b*stat.Mean(x, nil), b
	}
	return r, nil
}

// tune tries rates of one size, a factor of two apart, until the best lies
// between others, and returns where a parabola through those has its lowest
// point.
func (o *Options) tune(ctx context.Context, s Shape, steps int, r *Rates) (float64, error) {
	const most = 6 // trials
	loss := map[int]float64{}
	try := func(power int) error {
		rate := usual(s.Weights()) * math.Exp2(float64(power))
		j, err := o.job(s, steps, rate, fmt.Sprint("evaluate.every=", steps))
		if err != nil {
			return err
		}
		run, err := run(ctx, j)
		if err != nil {
			return err
		}
		loss[power] = run.Loss
		if math.IsInf(run.Loss, 0) {
			r.Trials = append(r.Trials, Trial{N: run.N, Rate: rate, Diverged: true})
			return nil
		}
		r.Trials = append(r.Trials, Trial{N: run.N, Rate: rate, Loss: run.Loss})
		o.note("learning rate %.2g of %v: loss %.4f after %d steps", rate, s, run.Loss, steps)
		return nil
	}
	best := 0
	for _, power := range []int{0, -1, 1} {
		if err := try(power); err != nil {
			return 0, err
		}
		if loss[power] < loss[best] {
			best = power
		}
	}
	for len(loss) < most {
		next := best
		if _, ok := loss[best-1]; !ok {
			next = best - 1
		} else if _, ok := loss[best+1]; !ok {
			next = best + 1
		} else {
			break
		}
		if err := try(next); err != nil {
			return 0, err
		}
		if loss[next] < loss[best] {
			best = next
		}
	}
	if math.IsInf(loss[best], 0) {
		return 0, fmt.Errorf("every learning rate diverges at %v: the recipe has settings that cannot work", s)
	}
	return usual(s.Weights()) * math.Exp2(float64(best)+vertex(loss, best)), nil
}

// vertex is where the parabola through the losses at best-1, best and best+1
// is lowest, less best: between -½ and ½, as best is the lowest of them.
func vertex(loss map[int]float64, best int) float64 {
	below, okBelow := loss[best-1]
	above, okAbove := loss[best+1]
	bend := below - 2*loss[best] + above
	if !okBelow || !okAbove || math.IsInf(bend, 0) || !(bend > 0) {
		return 0
	}
	return (below - above) / (2 * bend)
}

// Count writes a number of weights, tokens or operations in short.
func Count(x float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if x >= unit.size {
			return fmt.Sprintf("%.3g%s", x/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.3g", x)
}
