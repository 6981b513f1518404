package sample

import (
	"encoding/json"
	"fmt"
	"io"

	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/engine/rng"
)

// Selector says, epoch by epoch, which samples training sees, in which order,
// and how much each of them counts. Samples are numbered from 0.
//
// It is told the loss of every sample that was trained on, as the training step
// itself computed it, so that a choice by loss costs no pass of its own.
type Selector interface {
	// Init is called once, before anything else: there are n samples, and
	// random choices are those of the seed. Buffers come from the arena.
	Init(a *memory.Arena, n int, seed uint64) error
	// Plan chooses the samples of epoch e, from 0 on, which begins when the
	// share done of the run, in [0, 1], is over. It is a function of its
	// arguments, of the seed and of State; it stays valid until the next call.
	Plan(e int, done float64) Plan
	// Observe is told the losses of samples of the epoch under way. They have
	// no effect on its plan.
	Observe(ids []int32, losses []float32)
	// EndEpoch makes what was observed count for the plans that follow.
	EndEpoch() error
	// State lists the buffers that a checkpoint keeps, by name; they are
	// restored by writing into them.
	State() map[string][]float32
	// String tells the settings, for comparison when a run is resumed.
	fmt.Stringer
}

// Plan is the samples of an epoch in the order they are trained on.
type Plan struct {
	IDs     []int32
	Weights []float32 // factor on the loss of each; nil: all 1
}

// Selectors are the samplers of tasks whose data is a set of samples, the
// default first.
var Selectors = part.Table[Selector]{
	Seam: "sampler",
	Help: "which samples training sees, and in which order",
	Parts: []part.Part[Selector]{
		{Name: "shuffled", Help: "every sample once an epoch, in random order", New: func() Selector { return &Every{Shuffle: true} }},
		{Name: "sequential", Help: "every sample once an epoch, as they come", New: func() Selector { return &Every{} }},
		{Name: "random", Help: "samples drawn independently", New: func() Selector { return &Draws{} }},
		{Name: "infobatch", Paper: "infobatch", Help: "skip some of the well-learnt samples, count the others of them for more", New: func() Selector { return NewInfoBatch() }},
	},
}

// Streams of random numbers of selectors, apart from other uses of a seed.
const (
	shuffleStream = 0x5eed05ff + iota
	drawStream
	pruneStream
)

// shuffle puts ids into an order that seed and epoch choose.
func shuffle(ids []int32, s rng.Stream) {
	for i := len(ids) - 1; i > 0; i-- {
		k := s.IntN(i + 1)
		ids[i], ids[k] = ids[k], ids[i]
	}
}

// Every sees each sample once an epoch.
type Every struct {
	Shuffle bool

	stateless
}

// Plan is all samples.
func (s *Every) Plan(e int, _ float64) Plan {
	for i := range s.ids {
		s.ids[i] = int32(i)
	}
	if s.Shuffle {
		shuffle(s.ids, rng.New(s.seed, shuffleStream).Split(uint64(e)))
	}
	return Plan{IDs: s.ids}
}

func (s *Every) String() string {
	if s.Shuffle {
		return fmt.Sprintf("shuffled, %d samples, seed %d", len(s.ids), s.seed)
	}
	return fmt.Sprintf("sequential, %d samples", len(s.ids))
}

// Draws draws each sample of an epoch from all, independently.
type Draws struct{ stateless }

// Plan is as many samples as there are, drawn with replacement.
func (s *Draws) Plan(e int, _ float64) Plan {
	r := rng.New(s.seed, drawStream).Split(uint64(e))
	for i := range s.ids {
		s.ids[i] = int32(r.IntN(len(s.ids)))
	}
	return Plan{IDs: s.ids}
}

func (s *Draws) String() string {
	return fmt.Sprintf("random, %d samples, seed %d", len(s.ids), s.seed)
}

// stateless is what selectors that learn nothing have in common.
type stateless struct {
	ids  []int32
	seed uint64
}

// Init takes the number of samples and the seed.
func (s *stateless) Init(_ *memory.Arena, n int, seed uint64) error {
	s.ids, s.seed = make([]int32, n), seed
	return nil
}

// Observe learns nothing.
func (s *stateless) Observe([]int32, []float32) {}

// EndEpoch changes nothing.
func (s *stateless) EndEpoch() error { return nil }

// State is empty.
func (s *stateless) State() map[string][]float32 { return nil }

// Stream hands out the epochs of a selector in batches. It prepares nothing
// ahead: an epoch is planned when its first batch is asked for, after the
// losses of the last batch before it have been observed.
type Stream struct {
	selector Selector
	batch    int
	done     func() float64

	epoch   int     // under way; -1 before the first
	began   float64 // share of the run that was over when it began
	at      int     // samples of it handed out
	ended   bool    // its end has been told
	plan    Plan
	current []int32 // the last batch
}

// NewStream returns a stream of batches of so many samples; the last of an
// epoch may be smaller. done tells the share of the run that is over.
func NewStream(s Selector, batch int, done func() float64) *Stream {
	return &Stream{selector: s, batch: batch, done: done, epoch: -1}
}

// Next returns the samples of the next batch and the factors on their losses
// (nil: all 1), which stay valid until the next call. It returns io.EOF where
// an epoch ends; the call after goes on.
func (s *Stream) Next() (ids []int32, weights []float32, err error) {
	if s.epoch >= 0 && s.at == len(s.plan.IDs) && !s.ended {
		s.ended = true
		return nil, nil, io.EOF
	}
	if s.epoch < 0 || s.ended {
		if err := s.begin(); err != nil {
			return nil, nil, err
		}
	}
	lo, hi := s.at, min(s.at+s.batch, len(s.plan.IDs))
	s.at = hi
	s.current = s.plan.IDs[lo:hi]
	if s.plan.Weights != nil {
		weights = s.plan.Weights[lo:hi]
	}
	return s.current, weights, nil
}

// begin plans the next epoch.
func (s *Stream) begin() error {
	if s.epoch >= 0 {
		if err := s.selector.EndEpoch(); err != nil {
			return err
		}
	}
	s.began = s.done()
	s.epoch++
	s.at, s.ended = 0, false
	s.plan = s.selector.Plan(s.epoch, s.began)
	return nil
}

// Observe is told the losses of the batch that Next returned last.
func (s *Stream) Observe(losses []float32) { s.selector.Observe(s.current, losses) }

// Epochs is the number of epochs handed out, with the share of the one under
// way.
func (s *Stream) Epochs() float64 {
	if s.epoch < 0 {
		return 0
	}
	return float64(s.epoch) + float64(s.at)/float64(len(s.plan.IDs))
}

// State lists the selector's buffers.
func (s *Stream) State() map[string][]float32 { return s.selector.State() }

// place is a stream's position.
type place struct {
	Sampler string  `json:"sampler"`
	Epoch   int     `json:"epoch"`
	Began   float64 `json:"began"`
	At      int     `json:"at"`
}

// Position describes, as JSON, where Next goes on.
func (s *Stream) Position() (json.RawMessage, error) {
	return json.Marshal(place{s.selector.String(), s.epoch, s.began, s.at})
}

// Seek goes to a position, after the buffers of State have been restored. It
// fails if the selector has other settings than that of the position.
func (s *Stream) Seek(position json.RawMessage) error {
	var p place
	if err := json.Unmarshal(position, &p); err != nil {
		return fmt.Errorf("the position in the data: %w", err)
	}
	if p.Sampler != s.selector.String() {
		return fmt.Errorf("the saved run drew its samples by %q, this one draws them by %q; resume with the same data and sampler", p.Sampler, s.selector)
	}
	s.epoch, s.began, s.at, s.ended, s.current = -1, 0, 0, false, nil
	if p.Epoch == -1 {
		return nil
	}
	plan := s.selector.Plan(max(p.Epoch, 0), p.Began)
	if p.Epoch < 0 || p.At < 0 || p.At > len(plan.IDs) {
		return fmt.Errorf("the position in the data: sample %d of epoch %d, which has %d", p.At, p.Epoch, len(plan.IDs))
	}
	s.epoch, s.began, s.at, s.plan = p.Epoch, p.Began, p.At, plan
	return nil
}
