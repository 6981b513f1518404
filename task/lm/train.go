package lm

import (
	"context"
	"errors"
	"fmt"
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

// TrainOptions say where a run is kept and who watches it.
type TrainOptions struct {
	Dir    string // model directory; made if it is not there
	Resume bool   // go on from the newest good checkpoint in Dir
	Watch  Watcher
}

// Watcher is told of a run's progress. Its methods are called from the
// training goroutine and should return soon.
type Watcher interface {
	Note(text string)         // what is being done before and after training
	Begin(j *Job)             // the first step comes next
	Step(s *loop.State)       // a step was taken
	Evaluated(r track.Record) // an evaluation was made
	Resumed(s *loop.State)    // the run goes on from a checkpoint
	Checkpoint(s *loop.State) // the run was saved
}

// Outcome is how a run ended.
type Outcome struct {
	Dir         string
	Last        track.Record // the last evaluation
	Interrupted bool         // the context was cancelled; a checkpoint was saved
	Memory      memory.Usage
	Job         *Job // closed; the model is as trained
}

// ErrExists is the error of a new run in a directory that holds one already.
var ErrExists = errors.New("holds a training run already")

// checkpointDir is the folder of checkpoints in a model directory.
const checkpointDir = "checkpoints"

// Train carries out a run and writes its model directory. Cancelling the
// context ends it in good order, with a checkpoint.
func Train(ctx context.Context, s *Settings, o TrainOptions) (out Outcome, err error) {
	if o.Watch == nil {
		o.Watch = silent{}
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
	if _, err := os.Stat(filepath.Join(o.Dir, recipeFile)); err == nil && !o.Resume {
		return out, fmt.Errorf("%s %w: add --resume to go on with it, or name another --out", o.Dir, ErrExists)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(s.width()))

	j, err := NewJob(s, o.Watch.Note)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	out.Job = j
	r, err := newRun(j, o)
	if err != nil {
		return out, err
	}
	o.Watch.Begin(j)
	err = j.Loop.Run(ctx)
	out.Last, out.Memory = r.last, j.Loop.Arena.Usage()
	err = errors.Join(err, r.log.Close(), drawCurve(o.Dir, filepath.Base(o.Dir)))
	if err != nil {
		return out, fmt.Errorf("%w%s", err, r.savedNote())
	}
	out.Interrupted = ctx.Err() != nil && j.Loop.State.Progress < 1
	if out.Interrupted || j.Checkpoints.Every > 0 {
		if err := r.save(&j.Loop.State); err != nil {
			return out, err
		}
	}
	if out.Interrupted {
		return out, nil
	}
	return out, Save(o.Dir, j.Model, j.Tokenizer)
}

// run is a training run under way.
type run struct {
	*Job
	dir   string
	watch Watcher
	log   *track.Logger
	last  track.Record
	saved int // step of the newest checkpoint, 0 if there is none
}

// newRun prepares the loop of a job: hooks, logs, and the checkpoint to go on
// from.
func newRun(j *Job, o TrainOptions) (*run, error) {
	r := &run{Job: j, dir: o.Dir, watch: o.Watch}
	if err := j.Loop.Start(); err != nil {
		return nil, err
	}
	if err := r.resume(o.Resume); err != nil {
		return nil, err
	}
	if j.Tokenizer != nil {
		if err := saveTokenizer(o.Dir, j.Tokenizer); err != nil {
			return nil, err
		}
	}
	if err := saveRecipe(o.Dir, j.Recipe); err != nil {
		return nil, err
	}
	var err error
	if r.log, err = openLog(o.Dir, o.Resume, j.Loop.State.Step); err != nil {
		return nil, err
	}
	l := j.Loop
	if j.Evaluation.Every == 0 {
		l.On(loop.AfterStep, r.chooseEvery)
	}
	l.On(loop.AfterStep, r.stepped)
	l.On(loop.AfterEvaluate, r.evaluated)
	l.On(loop.SaveCheckpoint, r.save)
	return r, nil
}

// resume restores the newest good checkpoint.
func (r *run) resume(asked bool) error {
	dir := filepath.Join(r.dir, checkpointDir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if !asked {
		return nil
	}
	path, torn, err := atomicfile.Newest(dir)
	for _, t := range torn {
		r.watch.Note("skipped: " + t.String())
	}
	if errors.Is(err, atomicfile.ErrNone) {
		r.watch.Note("no checkpoint yet: the run begins anew")
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.Loop.Restore(path); err != nil {
		return err
	}
	r.saved = r.Loop.State.Step
	r.watch.Resumed(&r.Loop.State)
	return nil
}

// chooseEvery sets the steps between evaluations to about a twentieth of the
// run: at once where the number of steps is known, else when the pace is.
func (r *run) chooseEvery(s *loop.State) error {
	const evaluations, paceSteps = 20, 5
	every := &r.Loop.EvaluateEvery
	switch {
	case *every > 0 || r.Time > 0 && s.Step < paceSteps:
	case r.Steps > 0:
		*every = max(1, r.Steps/evaluations)
	case r.Time > 0:
		*every = max(1, int(r.Time/max(s.Trained/time.Duration(s.Step), 1))/evaluations)
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
	r.last = r.record(s)
	r.last.ValLoss = s.ValLoss
	r.last.BitsPerByte = r.Data.Valid.BitsPerByte(s.ValLoss)
	r.watch.Evaluated(r.last)
	return r.log.Log(r.last)
}

// record is what the state says of the last step.
func (r *run) record(s *loop.State) track.Record {
	return track.Record{
		Step: int64(s.Step), Tokens: s.Seen, Seconds: s.Trained.Seconds(), TrainLoss: s.Loss,
		LR: s.LR, GradNorm: s.GradNorm, TokensPerS: float64(s.Seen) / s.Trained.Seconds(),
	}
}

// save writes a checkpoint and drops old ones.
func (r *run) save(s *loop.State) error {
	if s.Step == r.saved {
		return nil
	}
	dir := filepath.Join(r.dir, checkpointDir)
	path := filepath.Join(dir, fmt.Sprintf("step-%08d", s.Step))
	if err := atomicfile.WriteDir(path, r.Loop.Save); err != nil {
		return fmt.Errorf("the checkpoint of step %d was not saved: %w%s", s.Step, err, r.savedNote())
	}
	r.saved = s.Step
	r.watch.Checkpoint(s)
	return atomicfile.Keep(dir, r.Checkpoints.Keep)
}

// savedNote tells the user of the last good checkpoint.
func (r *run) savedNote() string {
	if r.saved == 0 {
		return ""
	}
	return fmt.Sprintf(" (step %d is saved in %s; go on from it with --resume)", r.saved, filepath.Join(r.dir, checkpointDir))
}

// ResumeRecipe reads the recipe of the run in a directory.
func ResumeRecipe(dir string) (*recipe.Recipe, error) {
	path := filepath.Join(dir, recipeFile)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("nothing to resume in %s: %w", dir, err)
	}
	return recipe.Open(path)
}

// silent watches nothing.
type silent struct{}

func (silent) Note(string)            {}
func (silent) Begin(*Job)             {}
func (silent) Step(*loop.State)       {}
func (silent) Evaluated(track.Record) {}
func (silent) Resumed(*loop.State)    {}
func (silent) Checkpoint(*loop.State) {}
