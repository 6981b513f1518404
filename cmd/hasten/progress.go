package main

import (
	"fmt"
	"math"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"hasten/lab/bench"
	"hasten/learn/loop"
	"hasten/learn/track"
	runs "hasten/task/run"
)

// progress shows a training run on standard error: a bar on a terminal, a line
// for each evaluation elsewhere. With JSON it prints the record of each
// evaluation on standard output, as it is in the log.
type progress struct {
	json, terminal bool
	bar            *progressbar.ProgressBar
	plan           *runs.Plan
	peak           float64 // FLOP/s of all threads, 0 while unknown
	last           track.Record
	shown          time.Time
	rate           float64 // items a second, smoothed
	seen           int64
}

func newProgress(json, terminal bool) *progress { return &progress{json: json, terminal: terminal} }

// Note implements runs.Watcher.
func (p *progress) Note(text string) { fmt.Fprintln(os.Stderr, text) }

// Begin implements runs.Watcher.
func (p *progress) Begin(_ runs.Job, plan *runs.Plan) {
	p.plan = plan
	fmt.Fprintln(os.Stderr, plan.Title)
	p.peak = bench.MachinePeak()
	p.seen = plan.Loop.State.Seen
	if p.terminal {
		p.bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetWidth(20),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish())
	}
}

// Step implements runs.Watcher.
func (p *progress) Step(s *loop.State) {
	now := float64(s.Seen-p.seen) / s.StepTime.Seconds()
	p.seen = s.Seen
	if p.rate == 0 {
		p.rate = now
	}
	p.rate = 0.9*p.rate + 0.1*now
	if p.bar == nil || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = time.Now()
	p.bar.Describe(p.line(s))
	p.bar.Set(int(1000 * s.Progress))
}

// line is what the bar says.
func (p *progress) line(s *loop.State) string {
	text := fmt.Sprintf("step %d  loss %.3f", s.Step, s.Loss)
	if p.last.Step > 0 {
		text += fmt.Sprintf("  val %.3f  %s", p.last.ValLoss, metric(p.plan, &p.last))
	}
	text += fmt.Sprintf("  %.0f %s/s", p.rate, p.plan.Unit)
	if p.peak > 0 && p.plan.FLOPs > 0 {
		text += fmt.Sprintf("  %.0f%% of peak", 100*p.plan.FLOPs*p.rate/p.peak)
	}
	if left := timeLeft(s); left > 0 {
		text += "  " + left.Round(time.Second).String() + " left"
	}
	return text
}

// timeLeft is how long the run will still take at its pace so far.
func timeLeft(s *loop.State) time.Duration {
	if s.Progress <= 0 {
		return 0
	}
	return time.Duration(float64(s.Trained) * (1 - s.Progress) / s.Progress)
}

// Evaluated implements runs.Watcher.
func (p *progress) Evaluated(r track.Record) {
	p.last = r
	if p.json {
		printJSON(r)
	}
	if p.terminal {
		return
	}
	fmt.Fprintf(os.Stderr, "step %6d  loss %.4f  val %.4f  %s  %.0f %s/s  %s left\n", r.Step, r.TrainLoss, r.ValLoss,
		metric(p.plan, &r), r.TokensPerS, p.plan.Unit, timeLeft(&p.plan.Loop.State).Round(time.Second))
}

// metric is a run's own measure of quality, as a text.
func metric(p *runs.Plan, r *track.Record) string {
	v := r.Value(p.Metric)
	if p.Metric == "bits_per_byte" {
		return bits(v)
	}
	return fmt.Sprintf("%s %.4g", p.Metric, v)
}

func bits(b float64) string {
	if math.IsNaN(b) {
		return "bits/byte unknown"
	}
	return fmt.Sprintf("%.4f bits/byte", b)
}

// Resumed implements runs.Watcher.
func (p *progress) Resumed(s *loop.State) {
	fmt.Fprintf(os.Stderr, "going on from step %d\n", s.Step)
}

// Checkpoint implements runs.Watcher.
func (p *progress) Checkpoint(*loop.State) {}

// finish clears the bar.
func (p *progress) finish() {
	if p.bar != nil {
		p.bar.Clear()
	}
}
