package lm

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"hasten/engine/part"
	"hasten/learn/track"
	"hasten/model/net"
	"hasten/task/recipe"
	"hasten/task/run"
)

// Outcome is how a run ended.
type Outcome struct {
	run.Outcome
	Job *Job // closed; the model is as trained
}

// Train carries out a run and writes its model directory, as run.Train does. A
// run that is resumed goes on with the tokenizer it has already.
func Train(ctx context.Context, s *Settings, o run.Options) (Outcome, error) {
	o.Threads = s.Threads
	var j *Job
	out, err := run.Train(ctx, o, func(note func(string)) (run.Job, error) {
		tokenizer := ""
		if o.Resume && run.Has(o.Dir, tokenizerFile) {
			tokenizer = filepath.Join(o.Dir, tokenizerFile)
		}
		fresh := func(r *recipe.Recipe) (run.Job, error) {
			s, err := Resolve(r)
			if err != nil {
				return nil, err
			}
			return newJob(s, tokenizer, note)
		}
		err := run.FindBounds(ctx, s.Schedule, s.Optimizer.Rate(), s.Recipe, note, fresh)
		if err != nil {
			return nil, err
		}
		j, err = newJob(s, tokenizer, note)
		return j, err
	})
	return Outcome{out, j}, err
}

// Plan describes the run.
func (j *Job) Plan() *run.Plan {
	c := j.Model.Config
	p := &run.Plan{
		Loop: j.Loop, Recipe: j.Recipe, Unit: "tokens", Metric: "bits_per_byte",
		Title: fmt.Sprintf("%s: %d layers, %d heads, dim %d, context %d, %d parameters; %d training tokens",
			c.Arch, c.Layers, c.Heads, c.Dim, c.Ctx, j.Model.NumParams(), j.Data.Train.Len()),
		Params: j.Model.NumParams(), FLOPs: j.Model.FLOPs(1, c.Ctx), Keep: j.Checkpoints.Keep,
		Fixed: []string{"tokenizer", net.Parts.Seam},
	}
	for option := range part.Values(&j.Model.Config) {
		if option != "recompute" { // changes no result
			p.Fixed = append(p.Fixed, net.Parts.Seam+"."+option)
		}
	}
	slices.Sort(p.Fixed)
	return p
}

// Begin writes the tokenizer.
func (j *Job) Begin(dir string) error {
	if j.Tokenizer == nil {
		return nil
	}
	return saveTokenizer(dir, j.Tokenizer)
}

// Measure gives the validation loss in bits per byte.
func (j *Job) Measure(r *track.Record) { r.BitsPerByte = j.Data.Valid.BitsPerByte(r.ValLoss) }

// Save writes the model in Hugging Face layout, with the mean of the weights
// where the run has one. Where there are other ranks it ends them.
func (j *Job) Save(dir string) error {
	if err := j.ranks.end(); err != nil {
		return err
	}
	return j.weights.With(func() error { return Save(dir, j.Model, j.Tokenizer) })
}
