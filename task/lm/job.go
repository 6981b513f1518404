package lm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"hasten/data/sample"
	"hasten/data/source"
	"hasten/data/store"
	"hasten/data/token"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/learn/average"
	"hasten/learn/loop"
	"hasten/model/attention"
	"hasten/model/net"
)

// Job is a run made ready: its data, its model and its loop.
type Job struct {
	*Settings
	Model     *net.GPT
	Tokenizer token.Tokenizer // nil when the data is token ids and none is known
	Data      *store.Dataset
	Loop      *loop.Loop

	weights *average.Weights
	feed    feed
	valid   *sample.Windows // nil without validation data
	tape    *grad.Tape      // of evaluations
	rank    int
	ranks   *ranks // the other ranks; nil: there are none
}

// NewJob reads the data, trains or opens the tokenizer, and builds the model.
// note is told what is being done, and may be nil.
func NewJob(s *Settings, note func(string)) (*Job, error) { return newJob(s, "", note) }

// newJob is NewJob with the path of the tokenizer that the run has already, or
// "".
func newJob(s *Settings, tokenizer string, note func(string)) (*Job, error) {
	if note == nil {
		note = func(string) {}
	}
	j := &Job{Settings: s}
	arena := new(memory.Arena)
	if err := j.openModel(arena); err != nil {
		return nil, err
	}
	if err := j.openData(tokenizer, note); err != nil {
		return nil, err
	}
	if err := j.build(arena); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// Close ends the other ranks and the preparing of batches, and closes the data.
func (j *Job) Close() error {
	err := j.ranks.end()
	if j.feed != nil {
		j.feed.close()
	}
	return errors.Join(err, j.Data.Close())
}

// openModel opens the model the run starts from, if it names one. Its shape and
// its parts then replace the recipe's.
func (j *Job) openModel(arena *memory.Arena) error {
	if j.From == "" {
		return nil
	}
	m, err := Open(arena, j.From)
	if err != nil {
		return err
	}
	m.Recompute = j.Settings.Model.Recompute
	j.Model, j.Tokenizer, j.Settings.Model = m.GPT, m.Tokenizer, &m.Config
	j.Recipe.Replace(net.Parts.Seam, m.Arch, part.Values(&m.Config))
	j.Recipe.Replace(net.Mixers.Seam, net.MixerName(m.Config.Mixer), part.Values(m.Config.Mixer))
	j.Recipe.Replace(net.FFNs.Seam, net.FFNName(m.Config.FFN), part.Values(m.Config.FFN))
	return nil
}

// openData opens the corpus, settles the tokenizer, and gets the tokens.
func (j *Job) openData(tokenizer string, note func(string)) error {
	if j.DataOptions.tokenIDs() {
		return j.openTokenIDs()
	}
	o := j.DataOptions
	fraction := o.Fraction
	if fraction == 0 {
		fraction = -1
	}
	corpus, err := source.Open(j.Run.Data, source.Options{Format: o.Format, Field: o.Field, Valid: o.Valid, ValidFraction: fraction, Replace: o.Replace})
	if err != nil {
		return err
	}
	defer corpus.Close()
	switch {
	case j.Tokenizer != nil:
	case j.From != "":
		err = fmt.Errorf("%s has no tokenizer.json: give token ids as data (data.format=u16)", j.From)
	case tokenizer != "":
		j.Tokenizer, err = token.Open(tokenizer)
	default:
		j.Tokenizer, err = openTokenizer(j.Run.Tokenizer, corpus, note)
	}
	if err != nil {
		return err
	}
	note("reading and tokenising " + corpus.Name())
	j.Data, err = loadTokens(corpus, j.Tokenizer)
	return err
}

// loadTokens tokenises a corpus, or finds it tokenised in the cache.
func loadTokens(corpus *source.Source, t token.Tokenizer) (*store.Dataset, error) {
	h := sha256.New()
	if _, err := t.WriteTo(h); err != nil {
		return nil, err
	}
	return store.Load(corpus, t, store.LoadOptions{Vocab: t.VocabSize(), EOS: t.End(), Tokenizer: hex.EncodeToString(h.Sum(nil))})
}

// openTokenIDs opens files of raw token ids.
func (j *Job) openTokenIDs() error {
	kind, err := store.ParseKind(j.DataOptions.Format)
	if err != nil {
		return err
	}
	j.Data = new(store.Dataset)
	if j.Data.Train, err = store.OpenRaw(j.Run.Data, kind, j.Model.Vocab); err != nil {
		return err
	}
	if j.DataOptions.Valid != "" {
		if j.Data.Valid, err = store.OpenRaw(j.DataOptions.Valid, kind, j.Model.Vocab); err != nil {
			return errors.Join(err, j.Data.Train.Close())
		}
	}
	return nil
}

// build makes the model and the loop.
func (j *Job) build(arena *memory.Arena) error {
	if j.Model == nil {
		config := *j.Settings.Model
		config.Vocab = j.Tokenizer.VocabSize()
		m, err := net.NewGPT(arena, config)
		if err != nil {
			return err
		}
		m.Init(uint64(j.Seed))
		j.Model = m
	}
	var err error
	if j.feed, err = j.Sampler.batches(j, arena); err != nil {
		return err
	}
	if j.Data.Valid != nil && j.Data.Valid.Len() > 0 {
		if j.valid, err = j.windows(j.Data.Valid, sample.Spread{N: int64(j.Evaluation.Windows)}, j.Batch); err != nil {
			return fmt.Errorf("validation: %w", err)
		}
	}
	if j.valid == nil && j.Target > 0 {
		return errors.New("a target needs validation data: set data.valid or data.fraction")
	}
	j.tape = grad.NewTape(arena)
	j.Loop = &loop.Loop{
		Task:      &Task{Model: j.Model, Head: j.Loss, Batches: j.feed, Epoch: j.feed.epochTokens()},
		Optimizer: j.Optimizer, Schedule: j.Schedule, Policy: j.Precision,
		Budget:     loop.Budget{Steps: j.Steps, Time: j.Time, Target: j.Target},
		Accumulate: j.Accumulate, Clip: j.Clip,
		EvaluateEvery: j.Evaluation.Every, CheckpointEvery: j.Checkpoints.Every, CheckpointTime: j.Checkpoints.Time,
		Arena: arena, Seed: uint64(j.Seed),
	}
	j.feed.attach(j.Loop)
	if j.valid != nil {
		j.Loop.Evaluate = j.evaluate
	}
	if j.weights, err = average.Attach(j.Loop, j.Average); err != nil {
		return err
	}
	return j.spread()
}

func (j *Job) windows(t *store.Tokens, order sample.Order, batch int) (*sample.Windows, error) {
	w, err := sample.NewWindows(t, order, batch, j.Model.Ctx)
	if err == nil && j.DataOptions.Packed {
		return w.WithSegments()
	}
	return w, err
}

// maskMaker makes the masks of packed batches, in memory it keeps.
type maskMaker struct {
	documents *attention.Documents
	mask      attention.Mask
}

func (m *maskMaker) batch(b *sample.Batch) (Batch, error) {
	out := Batch{Tokens: b.Tokens, Targets: b.Targets, T: b.T}
	if b.Segments == nil {
		return out, nil
	}
	if m.documents == nil {
		m.documents = new(attention.Documents)
		m.mask = attention.And(attention.Causal{}, m.documents)
	}
	out.Mask = m.mask
	return out, m.documents.Reset(b.T, b.Segments)
}
