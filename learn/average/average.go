// Package average keeps a mean of the weights of a run, which is often better
// than the weights themselves: they jump about a minimum, and their mean lies
// nearer to it.
//
// The mean is for evaluation and for saving. Training goes on from the raw
// weights, and takes the same steps, bit for bit, as without it:
//
//	w, err := average.Attach(l, average.NewLAWA()) // before l.Start; l.Evaluate then sees the mean
//	err = l.Run(ctx)
//	err = w.With(func() error { return save(model) })
//
// Files averages what runs have left on disk.
package average

import (
	"errors"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/learn/loop"
	"hasten/learn/optim"
	"hasten/learn/schedule"
)

// Average follows the weights of a run.
type Average interface {
	// Init takes buffers of kind memory.Weights for the parameters.
	Init(a *memory.Arena, params []*grad.Param) error
	// Observe is called after every step. It allocates nothing, and leaves the
	// weights as they are.
	Observe(s *loop.State)
	// Ready tells whether there is a mean yet.
	Ready() bool
	// Mean writes the mean of a parameter, by its index, to dst.
	Mean(param int, dst []float32)
	// State lists the buffers that a checkpoint must keep.
	State() []optim.Buffer
}

// Parts are the averages, the default first. An average that counts in epochs
// is a schedule.ByEpochs too.
var Parts = part.Table[Average]{
	Seam: "average",
	Help: "mean of the weights over the run, for evaluation and saving",
	Parts: []part.Part[Average]{
		{Name: "none", Help: "the weights as they are", New: func() Average { return new(None) }},
		{Name: "lawa", Paper: "lawa", Help: "mean of the latest snapshots, one an epoch", New: func() Average { return NewLAWA() }},
		{Name: "ema", Help: "exponential mean over the steps", New: func() Average { return NewEMA() }},
	},
}

// Weights gives access to the mean of a run.
type Weights struct {
	average Average
	arena   *memory.Arena
	params  []*grad.Param
	raw     [][]float32 // the weights to go on from, while the mean is in place
}

// Attach lets an average follow a run, from before the loop's start: from then
// on l.Evaluate, as it stands now, sees the mean, and checkpoints keep what the
// average needs to go on.
func Attach(l *loop.Loop, a Average) (*Weights, error) {
	if l.Arena == nil {
		l.Arena = memory.Default
	}
	if e, ok := a.(schedule.ByEpochs); ok && e.CountsEpochs() && !l.TellsEpochs() {
		return nil, errors.New("the average takes its snapshots once an epoch, and this task does not tell how long one is: set average.every to a number of steps")
	}
	w := &Weights{average: a, arena: l.Arena, params: l.Task.Params()}
	if err := a.Init(w.arena, w.params); err != nil {
		return nil, err
	}
	l.Extra = append(l.Extra, a.State()...)
	l.On(loop.AfterStep, func(s *loop.State) error { a.Observe(s); return nil })
	if evaluate := l.Evaluate; evaluate != nil {
		l.Evaluate = func(s *loop.State) (loss float64, err error) {
			err = w.With(func() error { loss, err = evaluate(s); return err })
			return loss, err
		}
	}
	return w, nil
}

// With calls f while the parameters hold their mean, if there is one yet, and
// then puts the raw weights back.
func (w *Weights) With(f func() error) error {
	if !w.average.Ready() {
		return f()
	}
	for i, p := range w.params {
		raw := w.arena.Dirty(memory.Workspace, p.Len())
		copy(raw, p.Data)
		w.raw = append(w.raw, raw)
		w.average.Mean(i, p.Data)
	}
	defer func() {
		for i, p := range w.params {
			copy(p.Data, w.raw[i])
			w.arena.Free(memory.Workspace, w.raw[i])
		}
		w.raw = w.raw[:0]
	}()
	return f()
}

// None keeps no mean.
type None struct{}

// Init takes nothing.
func (*None) Init(*memory.Arena, []*grad.Param) error { return nil }

// Observe does nothing.
func (*None) Observe(*loop.State) {}

// Ready is false.
func (*None) Ready() bool { return false }

// Mean has nothing to give.
func (*None) Mean(int, []float32) {}

// State is empty.
func (*None) State() []optim.Buffer { return nil }
