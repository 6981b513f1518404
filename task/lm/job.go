package lm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"hasten/data/sample"
	"hasten/data/source"
	"hasten/data/store"
	"hasten/data/token"
	"hasten/engine/grad"
	"hasten/engine/memory"
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

	loader *sample.Loader[sample.Batch]
	valid  *sample.Windows // nil without validation data
	tape   *grad.Tape      // of evaluations
}

// NewJob reads the data, trains or opens the tokenizer, and builds the model.
// note is told what is being done, and may be nil.
func NewJob(s *Settings, note func(string)) (*Job, error) {
	if note == nil {
		note = func(string) {}
	}
	j := &Job{Settings: s}
	arena := new(memory.Arena)
	if err := j.openModel(arena); err != nil {
		return nil, err
	}
	if err := j.openData(note); err != nil {
		return nil, err
	}
	if err := j.build(arena); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

// Close stops the loader and closes the data.
func (j *Job) Close() error {
	if j.loader != nil {
		j.loader.Close()
	}
	return j.Data.Close()
}

// openModel opens the model the run starts from, if it names one.
func (j *Job) openModel(arena *memory.Arena) error {
	if j.From == "" {
		return nil
	}
	m, err := Open(arena, j.From)
	if err != nil {
		return err
	}
	j.Model, j.Tokenizer = m.GPT, m.Tokenizer
	m.Recompute = j.Settings.Model.Recompute
	return nil
}

// openData opens the corpus, settles the tokenizer, and gets the tokens.
func (j *Job) openData(note func(string)) error {
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
	if j.Tokenizer == nil {
		if j.From != "" {
			return fmt.Errorf("%s has no tokenizer.json: give token ids as data (data.format=u16)", j.From)
		}
		if j.Tokenizer, err = openTokenizer(j.Run.Tokenizer, corpus, note); err != nil {
			return err
		}
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
	train, err := j.windows(j.Data.Train, j.Order)
	if err != nil {
		return err
	}
	if j.Data.Valid != nil && j.Data.Valid.Len() > 0 {
		if j.valid, err = j.windows(j.Data.Valid, sample.Spread{N: int64(j.Evaluation.Windows)}); err != nil {
			return fmt.Errorf("validation: %w", err)
		}
	}
	j.loader = sample.NewLoader(train, 2)
	j.tape = grad.NewTape(arena)
	j.Loop = &loop.Loop{
		Task:      &Task{Model: j.Model, Batches: &loaded{loader: j.loader}},
		Optimizer: j.Optimizer, Schedule: j.Schedule, Policy: j.Precision,
		Budget:     loop.Budget{Steps: j.Steps, Time: j.Time, Target: j.Target},
		Accumulate: j.Accumulate, Clip: j.Clip,
		EvaluateEvery: j.Evaluation.Every, CheckpointEvery: j.Checkpoints.Every,
		Arena: arena, Seed: uint64(j.Seed),
	}
	if j.valid != nil {
		j.Loop.Evaluate = j.evaluate
	}
	return nil
}

func (j *Job) windows(t *store.Tokens, order sample.Order) (*sample.Windows, error) {
	w, err := sample.NewWindows(t, order, j.Batch, j.Model.Ctx)
	if err == nil && j.DataOptions.Packed {
		return w.WithSegments()
	}
	return w, err
}

// loaded turns what the loader prepares into batches of the task.
type loaded struct {
	loader *sample.Loader[sample.Batch]
	masks  maskMaker
}

// Next returns the next batch of the loader.
func (l *loaded) Next() (Batch, error) {
	b, err := l.loader.Next()
	if err != nil {
		return Batch{}, err
	}
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
	return l.loader.Restore(s)
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
