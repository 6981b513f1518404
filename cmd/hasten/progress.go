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
	"hasten/task/lm"
)

// progress shows a training run on standard error: a bar on a terminal, a line
// for each evaluation elsewhere. With JSON it prints a line for each evaluation
// on standard output.
type progress struct {
	json, terminal bool
	bar            *progressbar.ProgressBar
	job            *lm.Job
	peak           float64 // FLOP/s of all threads, 0 while unknown
	last           track.Record
	shown          time.Time
	rate           float64 // tokens a second, smoothed
	seen           int64
}

func newProgress(json, terminal bool) *progress { return &progress{json: json, terminal: terminal} }

// Note implements lm.Watcher.
func (p *progress) Note(text string) { fmt.Fprintln(os.Stderr, text) }

// Begin implements lm.Watcher.
func (p *progress) Begin(j *lm.Job) {
	p.job = j
	c := j.Model.Config
	fmt.Fprintf(os.Stderr, "%s: %d layers, %d heads, dim %d, context %d, %d parameters; %d training tokens\n",
		c.Arch, c.Layers, c.Heads, c.Dim, c.Ctx, j.Model.NumParams(), j.Data.Train.Len())
	p.peak = bench.MachinePeak()
	p.seen = j.Loop.State.Seen
	if p.terminal {
		p.bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetWidth(20),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish())
	}
}

// Step implements lm.Watcher.
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
		text += fmt.Sprintf("  val %.3f  %.3f bits/byte", p.last.ValLoss, p.last.BitsPerByte)
	}
	text += fmt.Sprintf("  %.0f tokens/s", p.rate)
	if p.peak > 0 {
		c := p.job.Model
		text += fmt.Sprintf("  %.0f%% of peak", 100*c.FLOPs(1, c.Ctx)*p.rate/p.peak)
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

// Evaluated implements lm.Watcher.
func (p *progress) Evaluated(r track.Record) {
	p.last = r
	if p.json {
		printJSON(evaluation(r))
	}
	if p.terminal {
		return
	}
	fmt.Fprintf(os.Stderr, "step %6d  loss %.4f  val %.4f  %s  %.0f tokens/s  %s left\n", r.Step, r.TrainLoss, r.ValLoss,
		bits(r.BitsPerByte), r.TokensPerS, timeLeft(&p.job.Loop.State).Round(time.Second))
}

// evaluationLine is an evaluation as train --json prints it.
type evaluationLine struct {
	Step        int64    `json:"step"`
	Tokens      int64    `json:"tokens"`
	Seconds     float64  `json:"seconds"` // spent training
	TrainLoss   float64  `json:"train_loss"`
	ValLoss     float64  `json:"val_loss"`
	BitsPerByte *float64 `json:"bits_per_byte"` // null where the text is not known
	TokensPerS  float64  `json:"tokens_per_s"`
	LR          float64  `json:"lr"`
	GradNorm    float64  `json:"grad_norm"`
}

func evaluation(r track.Record) evaluationLine {
	e := evaluationLine{Step: r.Step, Tokens: r.Tokens, Seconds: r.Seconds, TrainLoss: r.TrainLoss, ValLoss: r.ValLoss,
		TokensPerS: r.TokensPerS, LR: r.LR, GradNorm: r.GradNorm}
	if !math.IsNaN(r.BitsPerByte) {
		e.BitsPerByte = &r.BitsPerByte
	}
	return e
}

func bits(b float64) string {
	if math.IsNaN(b) {
		return "bits/byte unknown"
	}
	return fmt.Sprintf("%.4f bits/byte", b)
}

// Resumed implements lm.Watcher.
func (p *progress) Resumed(s *loop.State) {
	fmt.Fprintf(os.Stderr, "going on from step %d\n", s.Step)
}

// Checkpoint implements lm.Watcher.
func (p *progress) Checkpoint(*loop.State) {}

// finish clears the bar.
func (p *progress) finish() {
	if p.bar != nil {
		p.bar.Clear()
	}
}
