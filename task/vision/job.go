package vision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"hasten/data/sample"
	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/engine/precision"
	"hasten/learn/average"
	"hasten/learn/loop"
	"hasten/learn/optim"
	"hasten/learn/track"
	"hasten/task/recipe"
	"hasten/task/run"
)

// Job is a run made ready: its data, its model and its loop.
type Job struct {
	*Settings
	Model Model
	Data  *Dataset
	Loop  *loop.Loop
	Task  *Task

	weights *average.Weights
	tape    *grad.Tape // of evaluations
}

// Outcome is how a run ended.
type Outcome struct {
	run.Outcome
	Job *Job // closed; the model is as trained
}

// Train carries out a run and writes its model directory, as run.Train does.
func Train(ctx context.Context, s *Settings, o run.Options) (Outcome, error) {
	o.Threads = s.Threads
	var j *Job
	out, err := run.Train(ctx, o, func(note func(string)) (run.Job, error) {
		note("reading " + s.Run.Data)
		fresh := func(r *recipe.Recipe) (run.Job, error) {
			s, err := Resolve(r)
			if err != nil {
				return nil, err
			}
			return NewJob(s)
		}
		err := run.FindBounds(ctx, s.Schedule, s.Optimizer.Rate(), s.Recipe, note, fresh)
		if err != nil {
			return nil, err
		}
		j, err = NewJob(s)
		return j, err
	})
	return Outcome{out, j}, err
}

// NewJob reads the data and builds the model.
func NewJob(s *Settings) (*Job, error) {
	d, err := Load(s.Run.Data, s.LoadOptions())
	if err != nil {
		return nil, err
	}
	return NewJobOn(s, d)
}

// LoadOptions say how the data of the run is read.
func (s *Settings) LoadOptions() LoadOptions { return LoadOptions(s.DataOptions) }

// NewJobOn is NewJob on data that has been read already. Jobs may share it.
func NewJobOn(s *Settings, d *Dataset) (*Job, error) {
	if s.Target > 0 && d.Valid.Len() == 0 {
		return nil, errors.New("a target needs validation data: set data.valid or data.fraction")
	}
	arena := new(memory.Arena)
	m, err := s.Model.New(arena, d.shape(s.Precision), uint64(s.Seed))
	if err != nil {
		return nil, err
	}
	j := &Job{Settings: s, Model: m, Data: d, tape: grad.NewTape(arena)}
	j.tape.Policy = s.Precision
	if err := s.Selector.Init(arena, d.Train.Len(), uint64(s.Seed)); err != nil {
		return nil, err
	}
	j.Task = newTask(arena, m, d, sample.NewStream(s.Selector, s.Batch, j.done), s.Batch)
	j.Loop = &loop.Loop{
		Task: j.Task, Optimizer: s.Optimizer, Schedule: s.Schedule, Policy: s.Precision,
		Budget:     loop.Budget{Steps: s.Steps, Epochs: s.Epochs, Time: s.Time, Target: s.Target},
		Accumulate: s.Accumulate, Clip: s.Clip,
		EvaluateEvery: s.Evaluation.Every, CheckpointEvery: s.Checkpoints.Every, CheckpointTime: s.Checkpoints.Time,
		Arena: arena, Seed: uint64(s.Seed),
	}
	if j.Loop.EvaluateEvery == 0 && s.Steps == 0 && s.Time == 0 && s.Epochs > 0 {
		const evaluations = 20
		j.Loop.EvaluateEvery = max(1, s.Epochs*d.Train.Len()/(s.Batch*s.Accumulate*evaluations))
	}
	state := s.Selector.State()
	for _, name := range slices.Sorted(maps.Keys(state)) {
		j.Loop.Extra = append(j.Loop.Extra, optim.Buffer{Name: name, Data: state[name]})
	}
	j.Loop.On(loop.AfterLoss, func(s *loop.State) error {
		j.Task.Stream.Observe(s.PerSample)
		return nil
	})
	j.Loop.On(loop.EpochStart, run.Trim(arena))
	j.Loop.On(loop.EpochStart, run.Trim(memory.Default))
	if d.Valid.Len() > 0 {
		j.Loop.Evaluate = j.evaluate
	}
	j.weights, err = average.Attach(j.Loop, s.Average)
	return j, err
}

// shape is what a model of the data sees and tells.
func (d *Dataset) shape(p precision.Policy) Shape {
	s := Shape{H: d.Train.H, W: d.Train.W, C: d.Train.C, Classes: len(d.Classes)}
	if _, ok := p.(*precision.BF16); ok {
		s.Format = matmul.BF16
	}
	return s
}

// done is the share of the run that is over when an epoch is planned. A step of
// several batches may end one epoch and begin the next: then the loop's own
// figure is behind.
func (j *Job) done() float64 {
	done := j.Loop.State.Progress
	if j.Epochs > 0 {
		done = max(done, j.Task.Epochs()/float64(j.Epochs))
	}
	return min(done, 1)
}

// evaluate measures the model on the validation images.
func (j *Job) evaluate(*loop.State) (float64, error) {
	s := Evaluate(j.tape, j.Model, j.Data, &j.Data.Valid, j.Evaluation.Batch)
	j.Task.accuracy = s.Accuracy
	return s.Loss, nil
}

// Plan describes the run.
func (j *Job) Plan() *run.Plan {
	t := j.Data.Train
	p := &run.Plan{
		Loop: j.Loop, Recipe: j.Recipe, Unit: "images", Metric: "accuracy",
		FLOPs: 3 * j.Model.FLOPs(), Keep: j.Checkpoints.Keep, Fixed: []string{Models.Seam},
	}
	for _, w := range j.Model.Params() {
		p.Params += w.Len()
	}
	p.Title = fmt.Sprintf("%s: %d parameters; %d training images of %d×%d×%d in %d classes", j.Recipe.Get(Models.Seam), p.Params, t.Len(), t.H, t.W, t.C, len(j.Data.Classes))
	for option := range part.Values(j.Settings.Model) {
		p.Fixed = append(p.Fixed, Models.Seam+"."+option)
	}
	slices.Sort(p.Fixed)
	return p
}

// Begin has nothing to write.
func (j *Job) Begin(string) error { return nil }

// Measure gives the accuracy on the validation images.
func (j *Job) Measure(r *track.Record) {
	r.Extra = append(r.Extra, track.Scalar{Name: "accuracy", Value: j.Task.accuracy})
}

// Save writes the model, with the mean of its weights where one is kept.
func (j *Job) Save(dir string) error {
	return j.weights.With(func() error { return save(dir, j) })
}

// Close has nothing to end.
func (j *Job) Close() error { return nil }
