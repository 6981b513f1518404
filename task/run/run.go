// Package run carries out training runs: it is what every task that trains by
// gradients has in common.
//
// A task makes a Job: its data, its model, and a loop.Loop over them. Train
// does the rest: it locks the directory, goes on from a checkpoint, evaluates
// and saves when that is due, logs, draws the loss, and writes the model.
//
//	recipe ──task's Resolve──▶ settings ──task's job──▶ Job ──Train──▶ model directory
//	                                                     │
//	                                                     └──▶ Watcher: progress
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"hasten/engine/atomicfile"
	"hasten/engine/memory"
	"hasten/learn/loop"
	"hasten/learn/track"
	"hasten/task/recipe"
)

// The files of a run in its model directory, beside the model, the log and
// the events.
const (
	RecipeFile    = "recipe.toml" // the recipe, with every setting written out
	CheckpointDir = "checkpoints"
	CurveFile     = "loss.svg"
)

// modelFile is in every model directory, from here or elsewhere.
const modelFile = "config.json"

// Job is a run made ready by its task.
type Job interface {
	// Plan describes the run. It is asked for once, before the first step.
	Plan() *Plan
	// Begin writes into the model directory what going on with the run needs
	// beside recipe and checkpoints.
	Begin(dir string) error
	// Measure adds to the record of an evaluation what the task measures
	// beside the loss.
	Measure(r *track.Record)
	// Save writes the trained model into its directory.
	Save(dir string) error
	// Close ends what the job has running; the model stays usable.
	Close() error
}

// Plan is what a task says of its run.
type Plan struct {
	Loop   *loop.Loop     // not yet started; Train adds its hooks
	Recipe *recipe.Recipe // with every setting written out
	Title  string         // model and data, in one line
	Unit   string         // what the loop's items are, in the plural: tokens, images
	Params int            // trainable floats
	FLOPs  float64        // matrix arithmetic of a training step, for each item; 0: not known
	Metric string         // the value of a record that says how good the model is, such as bits_per_byte
	Keep   int            // checkpoints to keep
	Fixed  []string       // settings that must be as they were when the run is resumed
}

// Options say where a run is kept and who watches it.
type Options struct {
	Dir     string         // model directory; made if it is not there
	Resume  bool           // go on from the newest good checkpoint in Dir
	Watch   Watcher        // may be nil
	Threads int            // 0: one for each core
	Peak    func() float64 // FLOP/s the threads can reach, for the log; nil: not known
}

// Watcher is told of a run's progress. Its methods are called from the
// training goroutine and should return soon.
type Watcher interface {
	Note(text string)         // what is being done before and after training
	Begin(j Job, p *Plan)     // the first step comes next
	Step(s *loop.State)       // a step was taken
	Evaluated(r track.Record) // an evaluation was made
	Resumed(s *loop.State)    // the run goes on from a checkpoint
	Checkpoint(s *loop.State) // the run was saved
}

// Silent watches nothing. Embed it to watch some of the events.
type Silent struct{}

// Note ignores what is being done.
func (Silent) Note(string) {}

// Begin ignores the beginning.
func (Silent) Begin(Job, *Plan) {}

// Step ignores a step.
func (Silent) Step(*loop.State) {}

// Evaluated ignores an evaluation.
func (Silent) Evaluated(track.Record) {}

// Resumed ignores that the run goes on.
func (Silent) Resumed(*loop.State) {}

// Checkpoint ignores that the run was saved.
func (Silent) Checkpoint(*loop.State) {}

// Outcome is how a run ended.
type Outcome struct {
	Dir         string
	Last        track.Record // the last evaluation; where there is none, the last step
	Interrupted bool         // the context was cancelled before the budget was used up
	Memory      memory.Usage // of the run and of the process's workspace; PeakTotal is the sum of their peaks
	Job         Job          // closed; the model is as trained. nil likewise
	Plan        *Plan        // the job's; without a Loop where the task trains in another way
}

// ErrExists is the error of a new run in a directory that holds a model already.
var ErrExists = errors.New("holds a model or a training run already")

// Train carries out the run of the job that prepare makes, and writes its model
// directory. Cancelling the context ends it in good order, with a checkpoint.
// When it fails, the error names the newest checkpoint, if there is one.
func Train(ctx context.Context, o Options, prepare func(note func(string)) (Job, error)) (out Outcome, err error) {
	if o.Watch == nil {
		o.Watch = Silent{}
	}
	out.Dir = o.Dir
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return out, err
	}
	lock, err := atomicfile.Acquire(o.Dir)
	if err != nil {
		return out, err
	}
	defer lock.Release()
	if err := errors.Join(atomicfile.Sweep(o.Dir), atomicfile.Sweep(filepath.Join(o.Dir, CheckpointDir))); err != nil {
		return out, err
	}
	if !o.Resume && (Has(o.Dir, RecipeFile) || Has(o.Dir, modelFile)) {
		return out, fmt.Errorf("%s %w: add --resume to go on with a run, or name another --out", o.Dir, ErrExists)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(o.Threads)) // 0 changes nothing

	j, err := prepare(o.Watch.Note)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	out.Job, out.Plan = j, j.Plan()
	r, err := begin(j, out.Plan, o)
	if err != nil {
		return out, err
	}
	o.Watch.Begin(j, out.Plan)
	if err := r.train(ctx); err != nil {
		return out, fmt.Errorf("%w%s", err, r.savedNote())
	}
	if out.Last = r.last; out.Last.Step == 0 {
		out.Last = r.record(&r.Loop.State)
	}
	out.Memory = Usage(r.Loop.Arena)
	out.Interrupted = ctx.Err() != nil && !r.Loop.Finished()
	return out, nil
}

// Has tells whether a model directory has a file.
func Has(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// Usage is what an arena and that of the process hold together.
func Usage(a *memory.Arena) memory.Usage {
	u, p := a.Usage(), memory.Default.Usage()
	for _, k := range memory.Kinds() {
		u.Live[k] += p.Live[k]
		u.Peak[k] += p.Peak[k]
	}
	u.LiveTotal += p.LiveTotal
	u.PeakTotal += p.PeakTotal
	return u
}

// Trim is a hook for the start of epochs that gives up an arena's kept buffers
// when they have become twice those of the first epoch: where epochs differ in
// length, their last batches have many sizes.
func Trim(a *memory.Arena) loop.Hook {
	var usual int64
	return func(s *loop.State) error {
		switch held := a.Held(); {
		case usual == 0 && s.Step > 0:
			usual = held
		case usual > 0 && held > 2*usual:
			a.Trim()
		}
		return nil
	}
}

// run is a training run under way.
type run struct {
	*Plan
	job   Job
	dir   string
	watch Watcher
	log   *track.Logger
	peak  float64 // FLOP/s, 0 where not known
	last  track.Record
	saved int // step of the newest checkpoint, 0 if there is none
}

// begin prepares the loop of a job: hooks, logs, and the checkpoint to go on
// from.
func begin(j Job, p *Plan, o Options) (*run, error) {
	r := &run{Plan: p, job: j, dir: o.Dir, watch: o.Watch}
	if err := r.Loop.Start(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(r.dir, CheckpointDir), 0o777); err != nil {
		return nil, err
	}
	if o.Resume {
		if err := r.resume(); err != nil {
			return nil, err
		}
	}
	if err := j.Begin(r.dir); err != nil {
		return nil, err
	}
	if err := saveRecipe(r.dir, r.Recipe); err != nil {
		return nil, err
	}
	if o.Peak != nil {
		r.peak = o.Peak()
	}
	var err error
	if r.log, err = openLog(r.dir, o.Resume, r.Loop.State.Step); err != nil {
		return nil, err
	}
	l := r.Loop
	if l.EvaluateEvery == 0 {
		l.On(loop.AfterStep, r.chooseEvery)
	}
	l.On(loop.AfterStep, r.stepped)
	l.On(loop.AfterEvaluate, r.evaluated)
	l.On(loop.SaveCheckpoint, r.save)
	return r, nil
}

// train runs the loop and writes what is left of it.
func (r *run) train(ctx context.Context) error {
	err := r.Loop.Run(ctx)
	logged := errors.Join(r.log.Close(), drawCurve(r.dir, filepath.Base(r.dir)))
	if err == nil { // else that comes first
		err = logged
	}
	if err == nil {
		err = r.save(&r.Loop.State)
	}
	if err == nil && (ctx.Err() == nil || r.Loop.Finished()) {
		err = r.job.Save(r.dir)
	}
	return err
}

// resume restores the newest good checkpoint.
func (r *run) resume() error {
	if err := r.checkFixed(); err != nil {
		return err
	}
	path, torn, err := atomicfile.Newest(filepath.Join(r.dir, CheckpointDir))
	for _, t := range torn {
		r.watch.Note("skipped: " + t.String())
	}
	if errors.Is(err, atomicfile.ErrNone) && len(torn) == 0 {
		r.watch.Note("no checkpoint yet: the run begins anew")
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.Loop.Restore(path); err != nil {
		return err
	}
	s := &r.Loop.State
	r.saved = s.Step
	if s.ValLoss > 0 && r.Loop.Evaluate != nil {
		r.last = r.evaluation(s)
	}
	r.watch.Resumed(s)
	return nil
}

// checkFixed makes sure that the model is the one the run began with, where the
// sizes of its tensors would not tell.
func (r *run) checkFixed() error {
	began, err := OpenRecipe(r.dir)
	if err != nil {
		return err
	}
	for _, key := range r.Fixed {
		if was, is := began.Get(key), r.Recipe.Get(key); was != "" && was != is {
			return fmt.Errorf("the run in %s has %s=%s, not %s: it goes on with the model it began with, another one needs another --out", r.dir, key, was, is)
		}
	}
	return nil
}

// chooseEvery sets the steps between evaluations to about a twentieth of the
// run: at once where the number of steps is known, else when the pace is.
func (r *run) chooseEvery(s *loop.State) error {
	const evaluations, paceSteps = 20, 5
	every, budget := &r.Loop.EvaluateEvery, r.Loop.Budget
	switch {
	case *every > 0 || budget.Time > 0 && s.Step < paceSteps:
	case budget.Steps > 0:
		*every = max(1, budget.Steps/evaluations)
	case budget.Time > 0:
		*every = max(1, int(budget.Time/max(s.Trained/time.Duration(s.Step), 1))/evaluations)
	default:
		*every = 100
	}
	return nil
}

func (r *run) stepped(s *loop.State) error {
	r.watch.Step(s)
	return r.log.Log(r.record(s))
}

func (r *run) evaluated(s *loop.State) error {
	r.last = r.evaluation(s)
	r.watch.Evaluated(r.last)
	return r.log.Log(r.last)
}

// evaluation is what the state says of the last evaluation, what the task
// measured, and the memory in use.
func (r *run) evaluation(s *loop.State) track.Record {
	e := r.record(s)
	e.ValLoss = s.ValLoss
	r.job.Measure(&e)
	use := Usage(r.Loop.Arena)
	for _, k := range memory.Kinds() {
		e.Extra = append(e.Extra, track.Scalar{Name: "memory/" + k.String(), Value: float64(use.Live[k])})
	}
	e.Extra = append(e.Extra, track.Scalar{Name: "memory/peak", Value: float64(use.PeakTotal)})
	return e
}

// record is what the state says of the last step.
func (r *run) record(s *loop.State) track.Record {
	e := track.Record{
		Step: int64(s.Step), Tokens: s.Seen, Seconds: s.Trained.Seconds(), TrainLoss: s.Loss,
		LR: s.LR, GradNorm: s.GradNorm, TokensPerS: float64(s.Seen) / s.Trained.Seconds(),
	}
	if r.peak > 0 {
		e.PeakShare = r.FLOPs * e.TokensPerS / r.peak
	}
	return e
}

// save writes a checkpoint and drops old ones.
func (r *run) save(s *loop.State) error {
	if s.Step == r.saved {
		return nil
	}
	dir := filepath.Join(r.dir, CheckpointDir)
	path := filepath.Join(dir, fmt.Sprintf("step-%08d", s.Step))
	if err := atomicfile.WriteDir(path, r.Loop.Save); err != nil {
		return fmt.Errorf("the checkpoint of step %d was not saved: %w", s.Step, err)
	}
	r.saved = s.Step
	r.watch.Checkpoint(s)
	return atomicfile.Keep(dir, r.Keep)
}

// savedNote tells the user of the last good checkpoint.
func (r *run) savedNote() string {
	if r.saved == 0 {
		return ""
	}
	return fmt.Sprintf(" (step %d is saved in %s; go on from it with --resume)", r.saved, filepath.Join(r.dir, CheckpointDir))
}

// OpenRecipe reads the recipe of the run in a directory.
func OpenRecipe(dir string) (*recipe.Recipe, error) {
	path := filepath.Join(dir, RecipeFile)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("nothing to resume in %s: %w", dir, err)
	}
	return recipe.Open(path)
}

func saveRecipe(dir string, r *recipe.Recipe) error {
	return atomicfile.WriteFile(filepath.Join(dir, RecipeFile), func(w io.Writer) error {
		_, err := w.Write(r.TOML())
		return err
	})
}

// openLog begins the log of a run, or goes on with that of a resumed one.
func openLog(dir string, resumed bool, step int) (*track.Logger, error) {
	if resumed {
		return track.Resume(dir, int64(step))
	}
	return track.Create(dir)
}

// drawCurve draws the losses in the log of a run.
func drawCurve(dir, title string) error {
	records, err := track.ReadLog(filepath.Join(dir, track.LogName))
	if err != nil || len(records) == 0 {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, CurveFile), func(w io.Writer) error {
		return track.Draw(w, title, track.ByTokens, track.LossCurves(records)...)
	})
}
