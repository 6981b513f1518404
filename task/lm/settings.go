package lm

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"hasten/engine/part"
	"hasten/engine/precision"
	"hasten/learn/average"
	"hasten/learn/loss"
	"hasten/learn/optim"
	"hasten/learn/schedule"
	"hasten/model/net"
	"hasten/scale/dist"
	"hasten/task/recipe"
	"hasten/task/run"
)

// Run are the plain settings of a language-model run. A batch is so many
// sequences, and the target a validation loss in nats per token.
type Run struct {
	Task      string `set:"task" choices:"lm" help:"the job"`
	Data      string `set:"data" help:"gosrc, a file, a directory, or - for standard input"`
	Tokenizer string `set:"tokenizer" help:"bytes, bpe:N (trained on the data), or a tokenizer.json"`
	From      string `set:"from" help:"model directory to start from, instead of random weights"`
	run.Common
}

// DataOptions say how the data is read: settings data.format and so on.
type DataOptions struct {
	Format   string  `set:"format" choices:",text,jsonl,csv,tsv,parquet,u8,u16,i32" help:"format; empty: by the file's name. u8, u16, i32: raw token ids"`
	Field    string  `set:"field" help:"field of a JSON line, or column, that holds the text"`
	Valid    string  `set:"valid" help:"file or directory of validation data; empty: a part of the data"`
	Fraction float64 `set:"fraction" range:"[0,1)" help:"share of the data kept for validation"`
	Replace  bool    `set:"replace" help:"put U+FFFD for bytes that are not UTF-8, instead of stopping"`
	Packed   bool    `set:"packed" help:"let no token see across the start of its document"`
}

// Evaluation says when and on how much validation data the model is evaluated.
type Evaluation struct {
	Every   int `set:"every" range:"[0,inf)" help:"steps between evaluations; 0: about twenty in a run"`
	Windows int `set:"windows" range:"[1,inf)" help:"windows of the context's length, evenly spread over the validation data"`
}

// Settings is a recipe made definite. It serves one run, whose state its parts
// hold.
type Settings struct {
	Run
	DataOptions DataOptions
	Evaluation  Evaluation
	Checkpoints run.Checkpoints
	Model       *net.Config
	Loss        loss.Head
	Optimizer   optim.Optimizer
	Schedule    schedule.Schedule
	Average     average.Average
	Precision   precision.Policy
	Sampler     sampler
	Dist        dist.Plan

	Recipe *recipe.Recipe // with every setting written out
}

// Parts describes the parts of all seams of a language-model run.
func Parts() []part.Info {
	return slices.Concat(net.Parts.Info(), net.Mixers.Info(), net.FFNs.Info(), loss.Parts.Info(), optim.Parts.Info(),
		schedule.Parts.Info(), average.Parts.Info(), precision.Parts.Info(), samplers.Info(), dist.Parts.Info())
}

// RunOptions describes the settings of a run that belong to no seam, by the
// names --set takes.
func RunOptions() []part.Option {
	s := defaults()
	return run.OptionsOf(&s.Run, s.groups())
}

// seams are the settings that name a part.
var seams = []string{net.Parts.Seam, net.Mixers.Seam, net.FFNs.Seam, loss.Parts.Seam, optim.Parts.Seam,
	schedule.Parts.Seam, average.Parts.Seam, precision.Parts.Seam, samplers.Seam, dist.Parts.Seam}

// defaults are the settings of a recipe that sets nothing.
func defaults() *Settings {
	return &Settings{
		Run:         Run{Task: "lm", Data: "gosrc", Tokenizer: "bpe:4096", Common: run.Common{Batch: 8, Accumulate: 1, Clip: 1}},
		DataOptions: DataOptions{Field: "text", Fraction: 0.05},
		Evaluation:  Evaluation{Windows: 64},
		Checkpoints: run.Checkpoints{Time: 5 * time.Minute, Keep: 2},
	}
}

// groups are the settings under common names.
func (s *Settings) groups() []run.Group {
	return []run.Group{{Name: "data", Options: &s.DataOptions}, {Name: "evaluate", Options: &s.Evaluation}, {Name: "checkpoint", Options: &s.Checkpoints}}
}

// Resolve makes a recipe definite: it fills in defaults and checks every
// setting, and every pair of settings that must agree, before anything runs.
func Resolve(r *recipe.Recipe) (*Settings, error) {
	s := defaults()
	s.Recipe = r.Clone()
	if err := s.resolve(); err != nil {
		return nil, fmt.Errorf("recipe %s: %w", r.Name, err)
	}
	return s, nil
}

// resolve reads the recipe, and writes every setting into it.
func (s *Settings) resolve() error {
	r := s.Recipe
	if err := run.Resolve(r, &s.Run, s.groups(), seams); err != nil {
		return err
	}
	var err error
	if s.Sampler, err = run.Build(r, &samplers); err != nil {
		return err
	}
	if s.Model, err = run.Build(r, &net.Parts); err != nil {
		return err
	}
	if s.Model.Mixer, err = run.Build(r, &net.Mixers); err != nil {
		return err
	}
	if s.Model.FFN, err = run.Build(r, &net.FFNs); err != nil {
		return err
	}
	if err = s.Model.CheckParts(); err != nil {
		return err
	}
	if s.Loss, err = run.Build(r, &loss.Parts); err != nil {
		return err
	}
	if s.Optimizer, err = run.Build(r, &optim.Parts); err != nil {
		return err
	}
	if s.Schedule, err = run.Build(r, &schedule.Parts); err != nil {
		return err
	}
	if s.Average, err = run.Build(r, &average.Parts); err != nil {
		return err
	}
	if s.Precision, err = run.Build(r, &precision.Parts); err != nil {
		return err
	}
	if s.Dist, err = run.Build(r, &dist.Parts); err != nil {
		return err
	}
	return s.agree()
}

// agree checks settings that bear on each other.
func (s *Settings) agree() error {
	_, weighs := s.Sampler.(*pruned)
	_, weighted := s.Loss.(loss.Weighted)
	switch {
	case weighs && !weighted:
		return fmt.Errorf("sampler=infobatch gives windows weights, which loss=%s does not take; set loss=rows", s.Recipe.Get(loss.Parts.Seam))
	case s.Steps == 0 && s.Time == 0 && s.Target == 0:
		return errors.New("the run would never end: set steps, time or target")
	case s.DataOptions.tokenIDs() && s.From == "":
		return fmt.Errorf("data.format=%s: raw tokens need a model that knows their vocabulary; set from=DIR", s.DataOptions.Format)
	case s.DataOptions.tokenIDs() && s.DataOptions.Packed:
		return errors.New("data.packed=true: raw tokens do not tell where documents begin")
	}
	return s.agreeRanks()
}

// tokenIDs tells whether the data is token ids and not text.
func (o *DataOptions) tokenIDs() bool {
	return o.Format == "u8" || o.Format == "u16" || o.Format == "i32"
}
