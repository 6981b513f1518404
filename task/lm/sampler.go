package lm

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"hasten/data/sample"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/learn/loop"
	"hasten/learn/optim"
	"hasten/task/run"
)

// sampler draws the windows of training.
type sampler interface {
	// batches makes the batches of a run. What they keep in memory comes from
	// the arena.
	batches(j *Job, a *memory.Arena) (feed, error)
}

// feed is the batches of a run.
type feed interface {
	Batches
	// epochTokens is the number of tokens in an epoch, 0 where it varies.
	epochTokens() int64
	// attach lets them follow the loop.
	attach(l *loop.Loop)
	close()
}

// samplers are the ways to draw training windows, the default first.
var samplers = part.Table[sampler]{
	Seam: "sampler",
	Help: "the order in which training sees the data",
	Parts: []part.Part[sampler]{
		{Name: "random", Help: "windows at random places, independently", New: func() sampler { return &ordered{randomOrder} }},
		{Name: "shuffled", Help: "every window once an epoch, in random order", New: func() sampler { return &ordered{shuffledOrder} }},
		{Name: "sequential", Help: "windows in file order", New: func() sampler { return &ordered{sequentialOrder} }},
		{Name: "infobatch", Paper: "infobatch", Help: "skip some of the well-learnt windows, count the others of them for more", New: func() sampler { return &pruned{*sample.NewInfoBatch()} }},
	},
}

func randomOrder(seed uint64) sample.Order   { return sample.Random{Seed: seed} }
func shuffledOrder(seed uint64) sample.Order { return sample.Shuffled{Seed: seed} }
func sequentialOrder(uint64) sample.Order    { return sample.Sequential{} }

// ordered draws windows in an order that is known beforehand: batches are
// prepared while the model computes.
type ordered struct {
	order func(seed uint64) sample.Order
}

func (o *ordered) batches(j *Job, _ *memory.Arena) (feed, error) {
	w, err := j.windows(j.Data.Train, j.ofRank(o.order(uint64(j.Seed))), j.Batch/j.Dist.Ranks())
	if err != nil {
		return nil, err
	}
	return &loaded{loader: sample.NewLoader(w, 2), batch: int64(j.Batch), epoch: w.Epoch(), length: int64(j.Model.Ctx)}, nil
}

// loaded turns what the loader prepares into batches of the task. The samplers
// have no end; an epoch is as many windows as the data holds side by side, in
// whichever order they are drawn, and ends before the batch that would begin
// after them.
type loaded struct {
	loader *sample.Loader[sample.Batch]
	masks  maskMaker

	batch, epoch int64 // windows in each
	length       int64 // tokens in a window
	next         int64 // number of the next batch
	ended        int64 // epochs whose end has been told
}

// Next returns the next batch of the loader.
func (l *loaded) Next() (Batch, error) {
	if ended := l.next * l.batch / l.epoch; ended > l.ended {
		l.ended = ended
		return Batch{}, io.EOF
	}
	b, err := l.loader.Next()
	if err != nil {
		return Batch{}, err
	}
	l.next++
	return l.masks.batch(b)
}

// Position is the loader's.
func (l *loaded) Position() (json.RawMessage, error) { return json.Marshal(l.loader.State()) }

// Seek moves the loader.
func (l *loaded) Seek(p json.RawMessage) error {
	var s sample.State
	if err := json.Unmarshal(p, &s); err != nil {
		return fmt.Errorf("the position in the data: %w", err)
	}
	l.next = s.Next
	l.ended = max(s.Next-1, 0) * l.batch / l.epoch // as the batch before found it
	return l.loader.Restore(s)
}

func (l *loaded) epochTokens() int64 { return l.epoch * l.length }
func (l *loaded) attach(*loop.Loop)  {}
func (l *loaded) close()             { l.loader.Close() }

// pruned sees the windows that InfoBatch chooses.
type pruned struct{ sample.InfoBatch }

func (p *pruned) batches(j *Job, a *memory.Arena) (feed, error) {
	w, err := j.windows(j.Data.Train, sample.Sequential{}, j.Batch)
	if err != nil {
		return nil, err
	}
	if w.Epoch() > math.MaxInt32 {
		return nil, fmt.Errorf("sampler=infobatch: %d windows are too many to remember; use a longer context", w.Epoch())
	}
	if err := p.Init(a, int(w.Epoch()), uint64(j.Seed)); err != nil {
		return nil, err
	}
	c := &chosen{selector: &p.InfoBatch, windows: w}
	c.stream = sample.NewStream(c.selector, j.Batch, func() float64 { return c.state.Progress })
	return c, nil
}

// chosen is the windows that a selector chooses, as batches of the task.
type chosen struct {
	selector sample.Selector
	windows  *sample.Windows
	stream   *sample.Stream
	state    *loop.State // of the run

	batch sample.Batch
	masks maskMaker
}

// Next reads the windows of the next batch.
func (c *chosen) Next() (Batch, error) {
	ids, weights, err := c.stream.Next()
	if err != nil {
		return Batch{}, err
	}
	if err := c.windows.Pick(ids, &c.batch); err != nil {
		return Batch{}, err
	}
	b, err := c.masks.batch(&c.batch)
	b.Weights = weights
	return b, err
}

// Position is the stream's.
func (c *chosen) Position() (json.RawMessage, error) { return c.stream.Position() }

// Seek moves the stream.
func (c *chosen) Seek(p json.RawMessage) error { return c.stream.Seek(p) }

// attach lets the selector see the losses, and checkpoints keep its state.
func (c *chosen) attach(l *loop.Loop) {
	c.state = &l.State
	state := c.selector.State()
	for _, name := range slices.Sorted(maps.Keys(state)) {
		l.Extra = append(l.Extra, optim.Buffer{Name: name, Data: state[name]})
	}
	l.On(loop.AfterLoss, func(s *loop.State) error {
		c.stream.Observe(s.PerSample)
		return nil
	})
	l.On(loop.EpochStart, run.Trim(l.Arena))
	l.On(loop.EpochStart, run.Trim(memory.Default))
}

func (c *chosen) epochTokens() int64 { return 0 }
func (c *chosen) close()             {}
