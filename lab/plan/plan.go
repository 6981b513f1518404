package plan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/mat"

	"hasten/scale/law"
)

// Throughput is seconds a step of a model of n weights on batches of so many
// tokens: Step + (Token + Weight·n)·batch.
type Throughput struct {
	Step   float64 `json:"step"`
	Token  float64 `json:"token"`
	Weight float64 `json:"weight"`
}

// Seconds is how long a step takes.
func (t Throughput) Seconds(n, batch float64) float64 { return t.Step + (t.Token+t.Weight*n)*batch }

// FitThroughput fits a throughput to timings by least squares of relative
// errors, with no constant below 0.
func FitThroughput(timings []Timing) (Throughput, error) {
	var best [3]float64
	least := math.Inf(1)
	for set := 1; set < 8; set++ { // the constants that are not 0
		var columns []int
		for k := range 3 {
			if set>>k&1 == 1 {
				columns = append(columns, k)
			}
		}
		if len(timings) < len(columns) {
			continue
		}
		a, y := mat.NewDense(len(timings), len(columns), nil), mat.NewVecDense(len(timings), nil)
		for i, t := range timings {
			row := [3]float64{1, t.Batch, t.Batch * t.N}
			for j, k := range columns {
				a.Set(i, j, row[k]/t.Seconds)
			}
			y.SetVec(i, 1)
		}
		var x, off mat.VecDense
		if x.SolveVec(a, y) != nil || slices.Min(x.RawVector().Data) < 0 {
			continue
		}
		off.MulVec(a, &x)
		off.SubVec(&off, y)
		if e := mat.Norm(&off, 2); e < least {
			least, best = e, [3]float64{}
			for j, k := range columns {
				best[k] = x.AtVec(j)
			}
		}
	}
	if math.IsInf(least, 0) {
		return Throughput{}, errors.New("no throughput fits the timings")
	}
	return Throughput{best[0], best[1], best[2]}, nil
}

// Model is what a ladder tells of runs not yet made.
type Model struct {
	Laws       law.Laws   `json:"laws"`
	Throughput Throughput `json:"throughput"`
	Ladder     *Ladder    `json:"ladder"`

	smin []law.Point // the points of the ladder, with Smin for S
}

// Fit fits laws and throughput to a ladder.
func Fit(l *Ladder) (*Model, error) {
	for _, r := range l.Rungs {
		if len(r.Points) == 0 {
			return nil, fmt.Errorf("the rung of %v diverged at a learning rate of %.2g", r.Shape, r.Rate)
		}
	}
	m := &Model{Ladder: l, smin: l.Points()}
	var loss, scale []float64
	for _, n := range l.Noise {
		loss, scale = append(loss, n.Loss), append(scale, n.Scale)
	}
	// Where the noise was not to be measured, all batches count as large.
	if batch, err := law.FitBatch(loss, scale); err == nil {
		m.Laws.Batch = batch
	}
	for i, p := range m.smin {
		m.smin[i].S = m.Laws.Batch.Smin(p.S, l.Batch, p.Loss)
	}
	var err error
	if m.Laws.Size, err = law.FitSizeSteps(m.smin); err != nil {
		return nil, err
	}
	m.Throughput, err = FitThroughput(l.Timings)
	return m, err
}

// A law is stretched to half the lowest rung's size and to ten times the
// highest's.
const below, above = 0.5, 10

// Choice is a run that a model advises.
type Choice struct {
	law.Choice
	Shape
	Interval law.Interval `json:"interval"` // of the loss, in nine of ten cases
	Rate     float64      `json:"rate"`
	Windows  int          `json:"sequences"` // in a batch
	Seconds  float64      `json:"seconds"`   // to expect
	Stop     float64      `json:"stop"`      // the early stop: the loss a tenth above the converged one
	Limit    bool         `json:"limit"`     // the best size may lie beyond those looked at
	Overfits bool         `json:"overfits"`  // the data is so little for this size that its repetition costs some of the loss
}

// Time chooses size, batch and steps for so many seconds of training.
func (m *Model) Time(seconds float64) (Choice, error) {
	var best law.Choice
	// The noise tells what other batches do, but not for any that are far off.
	for windows := max(m.Ladder.Windows/2, 1); windows <= 4*m.Ladder.Windows; windows *= 2 {
		batch := m.tokens(windows)
		c := m.plan(batch, func(n float64) float64 { return seconds / m.Throughput.Seconds(n, batch) })
		if best.N == 0 || c.Loss < best.Loss {
			best = c
		}
	}
	s := ShapeOf(best.N)
	return m.choice(s, best.Batch, seconds/m.Throughput.Seconds(s.Weights(), best.Batch))
}

// Compute chooses size and steps for so many floating-point operations, by
// C = 6·N·B·S, at the ladder's batch: the smaller the batch, the less
// arithmetic, and the longer the run.
func (m *Model) Compute(flops float64) (Choice, error) {
	batch := m.Ladder.Batch
	steps := func(n float64) float64 { return flops / law.FLOPs(n, batch) }
	s := ShapeOf(m.plan(batch, steps).N)
	return m.choice(s, batch, steps(s.Weights()))
}

// plan looks at the sizes that the law is stretched to.
func (m *Model) plan(batch float64, steps func(n float64) float64) law.Choice {
	lo, hi := m.bounds()
	return m.Laws.Plan(lo, hi, batch, steps)
}

func (m *Model) bounds() (lo, hi float64) {
	rungs := m.Ladder.Rungs
	return below * rungs[0].N, above * rungs[len(rungs)-1].N
}

// tokens are those of a batch of windows.
func (m *Model) tokens(windows int) float64 {
	return m.Ladder.Batch / float64(m.Ladder.Windows) * float64(windows)
}

// choice describes a run.
func (m *Model) choice(s Shape, batch, steps float64) (Choice, error) {
	steps = math.Floor(steps)
	if steps < 1 {
		return Choice{}, errors.New("the budget is too small for a step")
	}
	n := s.Weights()
	loss := m.Laws.Loss(n, steps, batch)
	c := Choice{
		Choice: law.Choice{N: n, Batch: batch, Steps: steps, Loss: loss, Converged: m.Laws.Size.Converged(n)},
		Shape:  s, Windows: int(math.Round(batch / m.tokens(1))), Seconds: steps * m.Throughput.Seconds(n, batch),
	}
	// The best rate of Adam goes with the root of what a step achieves.
	achieved := func(batch float64) float64 { return 1 + m.Laws.Batch.Critical(loss)/batch }
	c.Rate = m.Ladder.Rates.At(n) * math.Sqrt(achieved(m.Ladder.Batch)/achieved(batch))
	c.Stop = 1.1 * c.Converged
	lo, hi := m.bounds()
	c.Limit = n < 1.2*lo || n > hi/1.2
	c.Overfits = batch*steps > m.Ladder.Tokens && law.Overfits(n, m.Ladder.Tokens)
	const refits = 200
	var err error
	c.Interval, err = law.Bootstrap(m.smin, refits, func(l law.SizeSteps) float64 {
		return law.Laws{Size: l, Batch: m.Laws.Batch}.Loss(n, steps, batch)
	})
	return c, err
}

// Report is a finished plan.
type Report struct {
	Budget float64 `json:"budget_seconds"`
	Share  float64 `json:"share"` // of it for the ladder, about
	Model  *Model  `json:"model"`
	Choice Choice  `json:"choice"`
	Train  string  `json:"train"` // the command to run
}

// ErrBudget is the error of a budget too small for a ladder.
var ErrBudget = errors.New("the budget is too small for a ladder")

// Make climbs the ladder that a share of the budget allows, and plans a run for
// the rest. Of o, Shapes, Steps and Rates may be left to it.
func Make(ctx context.Context, budget time.Duration, share float64, o Options) (*Report, error) {
	r := &Report{Budget: budget.Seconds(), Share: share}
	if o.Shapes == nil {
		if err := o.fit(ctx, share*r.Budget); err != nil {
			return nil, err
		}
	}
	l, err := Climb(ctx, o)
	if err != nil {
		return nil, err
	}
	if r.Model, err = Fit(l); err != nil {
		return nil, err
	}
	if r.Choice, err = r.Model.Time(r.Budget - l.Seconds); err != nil {
		return nil, err
	}
	r.Train = r.Choice.train(o)
	return r, nil
}

// fit chooses rungs and steps for a ladder of so many seconds: the highest five
// whose runs can have 500 steps, and else those from 25,000 weights on.
func (o *Options) fit(ctx context.Context, seconds float64) error {
	const rungs, usual, fewest = 5, 500, 100
	begin := time.Now()
	var shapes []Shape
	var each []float64 // seconds a step
	for n := 25e3; ; n *= 2 {
		s := ShapeOf(n)
		j, err := o.job(s, 4, 1e-4, "evaluate.windows=1")
		if err != nil {
			return err
		}
		r, err := run(ctx, j)
		if err != nil {
			return err
		}
		shapes, each = append(shapes, s), append(each, r.Step)
		if len(shapes) < rungs {
			continue
		}
		// The runs, four trials of each tuned rung, half as long as the highest
		// run, and a third for evaluations and noise.
		low := len(shapes) - rungs
		cost := 2*each[low] + 2*each[low+rungs/2]
		for i := low; i < len(shapes); i++ {
			cost += each[i] * math.Sqrt(s.Weights()/shapes[i].Weights())
		}
		cost *= 4.0 / 3
		left := seconds - time.Since(begin).Seconds()
		steps := int(left / cost)
		if low == 0 && steps < fewest {
			return fmt.Errorf("%w: one of %d rungs, the highest with %d steps, takes about %.0f s here, and has %.0f s", ErrBudget, rungs, fewest, fewest*cost, seconds)
		}
		if low > 0 && steps < usual {
			return nil // the rungs before
		}
		if o.Shapes, o.Steps = slices.Clone(shapes[low:]), steps; steps < usual {
			return nil
		}
	}
}

// train is the command that carries out a choice: of a setting that is made
// twice the last counts.
func (c *Choice) train(o Options) string {
	all := slices.Concat(o.Settings, c.Settings(), []string{
		fmt.Sprint("batch=", c.Windows), "accumulate=1", "schedule=constant", fmt.Sprintf("optim.lr=%.2g", c.Rate),
	})
	key := func(setting string) string {
		name, _, _ := strings.Cut(setting, "=")
		return name
	}
	var b strings.Builder
	fmt.Fprintf(&b, "hasten train %s --steps %.0f", o.Recipe, c.Steps)
	for i, s := range all {
		again := slices.ContainsFunc(all[i+1:], func(later string) bool { return key(later) == key(s) })
		if again {
			continue
		}
		if strings.ContainsAny(s, " '\"$\\*?;&|<>()") {
			s = "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
		fmt.Fprintf(&b, " --set %s", s)
	}
	return b.String()
}

// stretch is how far a choice lies beyond the ladder: in size, and in steps,
// those with other batches for as many of the ladder's.
func (m *Model) stretch(c *Choice) (size, steps float64) {
	var n, longest float64
	for _, p := range m.smin {
		n, longest = max(n, p.N), max(longest, p.S)
	}
	return c.N / n, m.Laws.Batch.Smin(c.Steps, c.Batch, c.Loss) / longest
}

// Write prints a plan.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	m, l, c := r.Model, r.Model.Ladder, &r.Choice
	fmt.Fprintf(&b, "Ladder of %d sizes in %.0f s of a budget of %.0f s:\n\n", len(l.Rungs), l.Seconds, r.Budget)
	fmt.Fprintf(&b, "  %8s  %-16s  %9s  %6s  %9s  %8s\n", "weights", "shape", "rate", "steps", "loss", "ms/step")
	for _, g := range l.Rungs {
		fmt.Fprintf(&b, "  %8s  %-16s  %9.2g  %6.0f  %9.4f  %8.1f\n", Count(g.N), g.Shape, g.Rate, g.Points[len(g.Points)-1].S, g.Loss, 1000*g.Step)
	}
	s := m.Laws.Size
	fmt.Fprintf(&b, "\nLaw, N weights outside the embeddings, S steps at a large batch, in nats per token:\n")
	fmt.Fprintf(&b, "  L(N,S) = (%.3g/N)^%.3f + (%.3g/S)^%.3f\n", s.Nc, s.AlphaN, s.Sc, s.AlphaS)
	fmt.Fprintf(&b, "  the paper's exponents, for text of the web over seven orders of magnitude: %.3f and %.2f\n", law.PaperNS.AlphaN, law.PaperNS.AlphaS)
	if m.Laws.Batch.Star > 0 {
		fmt.Fprintf(&b, "  critical batch at the planned loss, by the gradient's noise: %s tokens\n", Count(m.Laws.Batch.Critical(c.Loss)))
	}
	fmt.Fprintf(&b, "  a step takes %.2g s + batch·(%.2g + %.2g·N) s here; other work on the machine changes that, and not the losses\n", m.Throughput.Step, m.Throughput.Token, m.Throughput.Weight)
	fmt.Fprintf(&b, "\nPlan for the %.0f s left: %s weights (%v), %d sequences of a batch (%s tokens), %.0f steps\n", r.Budget-l.Seconds, Count(c.N), c.Shape, c.Windows, Count(c.Batch), c.Steps)
	fmt.Fprintf(&b, "  loss to expect %.4f, in nine of ten cases between %.4f and %.4f, at a steady rate; one that falls ends a little lower\n", c.Loss, c.Interval.Lo, c.Interval.Hi)
	fmt.Fprintf(&b, "  this size would converge to %.3f by the law; training past %.3f, a tenth above, is better spent on a larger one\n", c.Converged, c.Stop)
	if size, steps := m.stretch(c); size > 4 || steps > 4 {
		fmt.Fprintf(&b, "  the law is stretched to %.1f times the ladder's largest size and %.1f times its longest run: a larger --share would tell more\n", size, steps)
	}
	if c.Limit {
		b.WriteString("  the best size may lie beyond those that the ladder lets judge\n")
	}
	if c.Overfits {
		fmt.Fprintf(&b, "  %s tokens of data are seen %.1f times, and are few for this size: expect overfitting, and a loss above this\n", Count(l.Tokens), c.Batch*c.Steps/l.Tokens)
	}
	fmt.Fprintf(&b, "\n%s\n", r.Train)
	_, err := io.WriteString(w, b.String())
	return err
}
