package lm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"hasten/engine/atomicfile"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/learn/loop"
	"hasten/learn/track"
	"hasten/model/format/hf"
	"hasten/model/net"
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
	Interrupted bool         // the context was cancelled before the budget was used up
	Memory      memory.Usage // of the run and of the process's workspace; PeakTotal is the sum of their peaks
	Job         *Job         // closed; the model is as trained
}

// ErrExists is the error of a new run in a directory that holds a model already.
var ErrExists = errors.New("holds a model or a training run already")

// checkpointDir is the folder of checkpoints in a model directory.
const checkpointDir = "checkpoints"

// Train carries out a run and writes its model directory. Cancelling the
// context ends it in good order, with a checkpoint. When it fails, the error
// names the newest checkpoint, if there is one.
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
	if err := errors.Join(atomicfile.Sweep(o.Dir), atomicfile.Sweep(filepath.Join(o.Dir, checkpointDir))); err != nil {
		return out, err
	}
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(o.Dir, name))
		return err == nil
	}
	if !o.Resume && (has(recipeFile) || has(hf.ConfigName)) {
		return out, fmt.Errorf("%s %w: add --resume to go on with a run, or name another --out", o.Dir, ErrExists)
	}
	tokenizer := ""
	if o.Resume && has(tokenizerFile) {
		tokenizer = filepath.Join(o.Dir, tokenizerFile)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(s.width()))

	j, err := newJob(s, tokenizer, o.Watch.Note)
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
	if err := r.train(ctx); err != nil {
		return out, fmt.Errorf("%w%s", err, r.savedNote())
	}
	out.Last, out.Memory = r.last, usage(j.Loop.Arena)
	out.Interrupted = ctx.Err() != nil && !j.Loop.Finished()
	return out, nil
}

// usage is what an arena and that of the process hold.
func usage(a *memory.Arena) memory.Usage {
	u, p := a.Usage(), memory.Default.Usage()
	for _, k := range memory.Kinds() {
		u.Live[k] += p.Live[k]
		u.Peak[k] += p.Peak[k]
	}
	u.LiveTotal += p.LiveTotal
	u.PeakTotal += p.PeakTotal
	return u
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
	if err := os.MkdirAll(filepath.Join(r.dir, checkpointDir), 0o777); err != nil {
		return nil, err
	}
	if o.Resume {
		if err := r.resume(); err != nil {
			return nil, err
		}
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
		err = Save(r.dir, r.Model, r.Tokenizer)
	}
	return err
}

// resume restores the newest good checkpoint.
func (r *run) resume() error {
	if err := r.checkModel(); err != nil {
		return err
	}
	path, torn, err := atomicfile.Newest(filepath.Join(r.dir, checkpointDir))
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
	if s.ValLoss > 0 && r.valid != nil {
		r.last = r.evaluation(s)
	}
	r.watch.Resumed(s)
	return nil
}

// checkModel makes sure that the model is the one the run began with, where the
// sizes of its tensors would not tell.
func (r *run) checkModel() error {
	began, err := ResumeRecipe(r.dir)
	if err != nil {
		return err
	}
	keys := []string{"tokenizer", net.Parts.Seam}
	for option := range part.Values(&r.Model.Config) {
		if option != "recompute" { // changes no result
			keys = append(keys, net.Parts.Seam+"."+option)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
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
	r.last = r.evaluation(s)
	r.watch.Evaluated(r.last)
	return r.log.Log(r.last)
}

// evaluation is what the state says of the last evaluation.
func (r *run) evaluation(s *loop.State) track.Record {
	e := r.record(s)
	e.ValLoss = s.ValLoss
	e.BitsPerByte = r.Data.Valid.BitsPerByte(s.ValLoss)
	return e
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
		return fmt.Errorf("the checkpoint of step %d was not saved: %w", s.Step, err)
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
