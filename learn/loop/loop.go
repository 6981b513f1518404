// Package loop is the training loop: data → model → loss → gradient → update.
//
// Loop.Run takes steps until its budget is used up. What happens around a step
// (evaluation, checkpoints, logs, and whatever a paper needs) hooks in by
// events, in the order they were added:
//
//	l.On(loop.AfterLoss, func(s *loop.State) error { … })
//
// The loop knows nothing of language models: a Task computes the loss of its
// own kind of batch. After its first steps it takes nothing from the Go heap.
//
// Save and Restore keep a run in a checkpoint: what follows is, bit for bit,
// what would have followed without them.
package loop

import (
	"context"
	"errors"
	"io"
	"time"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/precision"
	"hasten/engine/rng"
	"hasten/learn/optim"
	"hasten/learn/schedule"
)

// Task is what is learned: a source of batches, and the loss of one.
type Task interface {
	// Params are the parameters to train.
	Params() []*grad.Param
	// Next makes the next batch current and returns how many items (tokens,
	// images) are in it. io.EOF ends an epoch; the next call starts another.
	Next() (items int, err error)
	// Loss computes the mean loss of the current batch on the tape, and, where
	// the task can, the loss of each sample (else nil).
	Loss(t *grad.Tape) (mean *grad.Var, perSample []float32, err error)
}

// Sized is a task that knows how long an epoch is. Schedules and averages that
// count in epochs need one.
type Sized interface {
	EpochItems() int64 // items, as Next counts them, in an epoch
}

// Epochal is a task that knows how far through its data it is, where its epochs
// are not all of one length.
type Epochal interface {
	Epochs() float64 // epochs of data handed out, with fractions
}

// Event is a moment of a training run at which hooks are called.
type Event uint8

// The events, in the order they come in a step. Those from EpochStart to
// AfterBackward come for each of the step's batches.
const (
	EpochStart     Event = iota // before the first batch of an epoch
	BatchReady                  // a batch is there; State.Items says how large
	BeforeForward               // before the loss is computed
	AfterLoss                   // State.BatchLoss and PerSample are there; a hook may change State.LossWeight
	AfterBackward               // the gradients of this batch have been added
	BeforeStep                  // all batches are in; State.GradNorm is there, LR and GradScale may be changed
	AfterStep                   // the weights have moved; State.Loss is the mean over the step
	AfterEvaluate               // State.ValLoss is new (see Loop.EvaluateEvery)
	SaveCheckpoint              // a checkpoint is due (see Loop.CheckpointEvery)
	events
)

// State is where a run stands. Hooks may read all of it, and write what their
// event allows.
type State struct {
	Step     int           // steps taken
	Epoch    int           // epochs begun: 1 in the first
	Items    int           // items in the current batch
	Seen     int64         // items trained on
	Trained  time.Duration // time spent in steps; evaluations, checkpoints and the hooks of AfterStep do not count
	Progress float64       // share of the budget used, in [0, 1]; during a step, that at its beginning
	Epochs   float64       // epochs of data trained on, with fractions; 0 where the task is neither Sized nor Epochal; as Progress during a step

	BatchLoss  float64       // loss of the current batch
	PerSample  []float32     // loss of each of its samples, where the task tells
	LossWeight float64       // factor on the gradient of the current batch; 1/Accumulate
	Loss       float64       // mean loss of the last step's batches
	LR         float64       // learning rate of the step
	GradNorm   float64       // norm of the step's gradient, before clipping
	GradScale  float64       // factor on the gradient: below 1 when clipping
	ValLoss    float64       // of the last evaluation, 0 before the first
	Tape       *grad.Tape    // the tape of the pass under way
	StepTime   time.Duration // of the last step
}

// Hook is called at an event. An error ends the run at once.
type Hook func(s *State) error

// ErrStop is returned by a hook to end the run in good order, after the step
// under way.
var ErrStop = errors.New("stop training")

// Budget says when a run ends: at the first of its limits that is reached. A
// run of so many steps comes out the same, bit for bit, every time; one of so
// much time does not, since the clock says how far it comes and moves the
// schedule.
type Budget struct {
	Steps  int           // steps to take; 0: no limit
	Epochs int           // epochs to train, of a task that is Sized or Epochal; 0: no limit
	Time   time.Duration // State.Trained to reach, over all sessions of a resumed run; 0: no limit
	Target float64       // validation loss to reach; 0: none
}

// Loop trains. The exported fields are set before Start.
type Loop struct {
	Task      Task
	Optimizer optim.Optimizer
	Schedule  schedule.Schedule // nil: the full rate throughout
	Policy    precision.Policy  // nil: F32
	Budget    Budget

	Accumulate int     // batches that make one step; 0: 1
	Clip       float64 // largest norm of the gradient; 0: no clipping

	Evaluate        func(s *State) (loss float64, err error) // nil: no evaluations
	EvaluateEvery   int                                      // steps between evaluations; the last step is evaluated in any case
	CheckpointEvery int                                      // steps between SaveCheckpoint events; 0: none by steps
	CheckpointTime  time.Duration                            // time trained between them; 0: none by time

	// Extra is state beyond the weights and the optimiser's that a checkpoint
	// keeps, such as that of an average.
	Extra []optim.Buffer

	Arena *memory.Arena // nil: memory.Default
	Seed  uint64        // of what is drawn on the tape, such as dropout

	State State

	hooks    [events][]Hook
	tape     *grad.Tape
	norms    *optim.Norms
	started  bool
	stopping bool          // a hook has said ErrStop
	saved    time.Duration // State.Trained at the last checkpoint
}

// On adds a hook for an event, after those added before.
func (l *Loop) On(e Event, h Hook) { l.hooks[e] = append(l.hooks[e], h) }

func (l *Loop) fire(e Event) error {
	for _, h := range l.hooks[e] {
		err := h(&l.State)
		if errors.Is(err, ErrStop) {
			l.stopping = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// tapeStream is the random stream of operations on the tape, such as dropout.
const tapeStream = 0x74617065

// Start prepares the first step; Run calls it if need be. A checkpoint is
// restored between Start and Run.
func (l *Loop) Start() error {
	if l.started {
		return nil
	}
	l.started = true
	l.Accumulate = max(l.Accumulate, 1)
	if l.Arena == nil {
		l.Arena = memory.Default
	}
	if l.Schedule == nil {
		l.Schedule = &schedule.Constant{}
	}
	if l.Policy == nil {
		l.Policy = precision.F32{}
	}
	if l.Budget.Epochs > 0 && !l.TellsEpochs() {
		return errors.New("a budget of epochs, and this task does not tell how long one is: set steps or time")
	}
	if s, ok := l.Schedule.(schedule.ByEpochs); ok && s.CountsEpochs() && !l.TellsEpochs() {
		return errors.New("the schedule counts in epochs, and this task does not tell how long one is: let it count in steps")
	}
	if s, ok := l.Schedule.(schedule.ByRangeTest); ok && s.WantsBounds() {
		return errors.New("the schedule's bounds are to come from a range test, and none was made: set schedule.lo and schedule.hi, and schedule.auto=false")
	}
	params := l.Task.Params()
	l.tape = grad.NewTape(l.Arena)
	l.tape.Policy = l.Policy
	l.State.Tape = l.tape
	l.norms = optim.NewNorms(params)
	return l.Optimizer.Init(l.Arena, params)
}

// Run trains until the budget is used up, the context ends, or a hook says
// ErrStop; these three return nil, after whole steps. State tells how far it came.
func (l *Loop) Run(ctx context.Context) error {
	if err := l.Start(); err != nil {
		return err
	}
	l.locate()
	for ctx.Err() == nil && !l.stopping && !l.Finished() {
		if err := l.step(); err != nil {
			return err
		}
		if err := l.after(); err != nil {
			return err
		}
	}
	return nil
}

// progress is the share of the budget used. Where there are several limits, the
// one that is nearest counts.
func (l *Loop) progress() float64 {
	share := 0.0
	if l.Budget.Steps > 0 {
		share = float64(l.State.Step) / float64(l.Budget.Steps)
	}
	if l.Budget.Epochs > 0 {
		share = max(share, l.epochs()/float64(l.Budget.Epochs))
	}
	if l.Budget.Time > 0 {
		share = max(share, float64(l.State.Trained)/float64(l.Budget.Time))
	}
	return min(share, 1)
}

// locate brings State.Progress and State.Epochs up to date.
func (l *Loop) locate() {
	l.State.Progress = l.progress()
	l.State.Epochs = l.epochs()
}

// epochs is the number of epochs trained on, 0 where the task does not tell.
func (l *Loop) epochs() float64 {
	if e, ok := l.Task.(Epochal); ok {
		return e.Epochs()
	}
	if s, ok := l.Task.(Sized); ok && s.EpochItems() > 0 {
		return float64(l.State.Seen) / float64(s.EpochItems())
	}
	return 0
}

// TellsEpochs says whether State.Epochs will be known.
func (l *Loop) TellsEpochs() bool {
	_, epochal := l.Task.(Epochal)
	s, sized := l.Task.(Sized)
	return epochal || sized && s.EpochItems() > 0
}

// Finished tells whether the budget is used up.
func (l *Loop) Finished() bool {
	reached := l.State.ValLoss > 0 && l.State.ValLoss <= l.Budget.Target
	return reached || l.progress() == 1
}

// step takes one training step.
func (l *Loop) step() error {
	begin := time.Now()
	s := &l.State
	for _, p := range l.Task.Params() {
		p.ZeroGrad()
	}
	s.LR = l.Optimizer.Rate() * l.Schedule.Factor(schedule.Progress{Step: s.Step, Done: s.Progress, Epochs: s.Epochs})
	// Random numbers depend on the seed and the step alone.
	l.tape.Rand = rng.New(l.Seed, tapeStream).Split(uint64(s.Step))
	var sum float64
	for range l.Accumulate {
		if err := l.accumulate(); err != nil {
			return err
		}
		sum += s.BatchLoss
		s.Seen += int64(s.Items)
	}
	s.Loss = sum / float64(l.Accumulate)
	if err := l.update(); err != nil {
		return err
	}
	s.Step++
	s.StepTime = time.Since(begin)
	s.Trained += s.StepTime
	l.locate()
	return l.fire(AfterStep)
}

// accumulate adds the gradients of one batch.
func (l *Loop) accumulate() error {
	s := &l.State
	if err := l.next(); err != nil {
		return err
	}
	if err := l.fire(BeforeForward); err != nil {
		return err
	}
	defer l.tape.Reset()
	loss, perSample, err := l.Task.Loss(l.tape)
	if err != nil {
		return err
	}
	s.PerSample = perSample
	s.BatchLoss = float64(loss.Data[0])
	s.LossWeight = 1 / float64(l.Accumulate)
	if !finite(s.BatchLoss) {
		return l.lossDiverged("loss", s.Step+1)
	}
	if err := l.fire(AfterLoss); err != nil {
		return err
	}
	l.tape.BackwardScaled(loss, float32(s.LossWeight))
	return l.fire(AfterBackward)
}

// next makes the next batch current, beginning a new epoch where one ends.
func (l *Loop) next() error {
	s := &l.State
	if s.Epoch == 0 {
		if err := l.epoch(); err != nil {
			return err
		}
	}
	items, err := l.Task.Next()
	if errors.Is(err, io.EOF) {
		if err := l.epoch(); err != nil {
			return err
		}
		if items, err = l.Task.Next(); errors.Is(err, io.EOF) {
			return errors.New("the training data holds no batch")
		}
	}
	if err != nil {
		return err
	}
	s.Items = items
	return l.fire(BatchReady)
}

func (l *Loop) epoch() error {
	l.State.Epoch++
	return l.fire(EpochStart)
}

// update moves the weights.
func (l *Loop) update() error {
	s := &l.State
	s.GradNorm = l.norms.Global()
	if !finite(s.GradNorm) {
		return &Diverged{Step: s.Step + 1, What: "gradient", Param: l.norms.FirstBad(), LR: s.LR}
	}
	s.GradScale = 1
	if l.Clip > 0 && s.GradNorm > l.Clip {
		s.GradScale = l.Clip / s.GradNorm
	}
	if err := l.fire(BeforeStep); err != nil {
		return err
	}
	l.Optimizer.Step(optim.Step{N: s.Step + 1, LR: s.LR, GradScale: s.GradScale})
	return nil
}

// after evaluates and saves when that is due.
func (l *Loop) after() error {
	s := &l.State
	if l.Evaluate != nil && (l.progress() == 1 || l.EvaluateEvery > 0 && s.Step%l.EvaluateEvery == 0) {
		loss, err := l.Evaluate(s)
		if err != nil {
			return err
		}
		s.ValLoss = loss
		if !finite(loss) {
			return l.lossDiverged("validation loss", s.Step)
		}
		if err := l.fire(AfterEvaluate); err != nil {
			return err
		}
	}
	bySteps := l.CheckpointEvery > 0 && s.Step%l.CheckpointEvery == 0
	byTime := l.CheckpointTime > 0 && s.Trained-l.saved >= l.CheckpointTime
	if bySteps || byTime {
		l.saved = s.Trained
		return l.fire(SaveCheckpoint)
	}
	return nil
}
