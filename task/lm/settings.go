package lm

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"hasten/data/sample"
	"hasten/engine/part"
	"hasten/engine/precision"
	"hasten/learn/optim"
	"hasten/learn/schedule"
	"hasten/model/net"
	"hasten/task/recipe"
)

// Run are the plain settings of a language-model run.
type Run struct {
	Task       string        `set:"task" choices:"lm" help:"the job"`
	Data       string        `set:"data" help:"gosrc, a file, a directory, or - for standard input"`
	Tokenizer  string        `set:"tokenizer" help:"bytes, bpe:N (trained on the data), or a tokenizer.json"`
	From       string        `set:"from" help:"model directory to start from, instead of random weights"`
	Batch      int           `set:"batch" range:"[1,65536]" help:"sequences in a batch"`
	Accumulate int           `set:"accumulate" range:"[1,65536]" help:"batches that make one step"`
	Steps      int           `set:"steps" range:"[0,inf)" help:"steps to train; 0: no limit"`
	Time       time.Duration `set:"time" range:"[0,inf)" help:"time to train, evaluations not counted; 0: no limit"`
	Target     float64       `set:"target" range:"[0,inf)" help:"validation loss, in nats per token, at which to stop; 0: none"`
	Clip       float64       `set:"clip" range:"[0,inf)" help:"largest norm of the gradient; 0: no clipping"`
	Seed       int           `set:"seed" range:"[0,inf)" help:"seed of all random numbers"`
	Threads    int           `set:"threads" range:"[0,4096]" help:"threads; 0: one for each core. Results do not depend on it"`
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

// Checkpoints says when a run is saved: besides, it is when it ends or is
// interrupted.
type Checkpoints struct {
	Every int           `set:"every" range:"[0,inf)" help:"steps between checkpoints; 0: by time alone"`
	Time  time.Duration `set:"time" range:"[0,inf)" help:"training time between checkpoints; 0: by steps alone"`
	Keep  int           `set:"keep" range:"[1,inf)" help:"checkpoints to keep"`
}

// Settings is a recipe made definite. It serves one run, whose state its parts
// hold.
type Settings struct {
	Run
	DataOptions DataOptions
	Evaluation  Evaluation
	Checkpoints Checkpoints
	Model       *net.Config
	Optimizer   optim.Optimizer
	Schedule    schedule.Schedule
	Precision   precision.Policy
	Order       sample.Order

	Recipe *recipe.Recipe // with every setting written out
}

// orders are the ways to draw training windows.
var orders = part.Table[ordering]{
	Seam: "sampler",
	Help: "the order in which training sees the data",
	Parts: []part.Part[ordering]{
		{Name: "random", Help: "windows at random places, independently", New: func() ordering { return randomOrder }},
		{Name: "shuffled", Help: "every window once an epoch, in random order", New: func() ordering { return shuffledOrder }},
		{Name: "sequential", Help: "windows in file order", New: func() ordering { return sequentialOrder }},
	},
}

// ordering makes the order of a seed.
type ordering func(seed uint64) sample.Order

func randomOrder(seed uint64) sample.Order   { return sample.Random{Seed: seed} }
func shuffledOrder(seed uint64) sample.Order { return sample.Shuffled{Seed: seed} }
func sequentialOrder(uint64) sample.Order    { return sample.Sequential{} }

// Parts describes the parts of all seams of a language-model run.
func Parts() []part.Info {
	var all []part.Info
	all = append(all, net.Parts.Info()...)
	all = append(all, net.Mixers.Info()...)
	all = append(all, net.FFNs.Info()...)
	all = append(all, optim.Parts.Info()...)
	all = append(all, schedule.Parts.Info()...)
	all = append(all, precision.Parts.Info()...)
	all = append(all, orders.Info()...)
	return all
}

// RunOptions describes the settings of a run that belong to no seam, by the
// names --set takes.
func RunOptions() []part.Option {
	s := defaults()
	all := part.Options(&s.Run)
	for _, g := range s.groups() {
		for _, o := range part.Options(g.options) {
			o.Name = g.name + "." + o.Name
			all = append(all, o)
		}
	}
	return all
}

// seams are the settings that name a part.
var seams = []string{net.Parts.Seam, net.Mixers.Seam, net.FFNs.Seam, optim.Parts.Seam, schedule.Parts.Seam, precision.Parts.Seam, orders.Seam}

// defaults are the settings of a recipe that sets nothing.
func defaults() *Settings {
	return &Settings{
		Run:         Run{Task: "lm", Data: "gosrc", Tokenizer: "bpe:4096", Batch: 8, Accumulate: 1, Clip: 1},
		DataOptions: DataOptions{Field: "text", Fraction: 0.05},
		Evaluation:  Evaluation{Windows: 64},
		Checkpoints: Checkpoints{Time: 5 * time.Minute, Keep: 2},
	}
}

// group is a set of settings under a common name.
type group struct {
	name    string
	options any
}

// groups are those of s.
func (s *Settings) groups() []group {
	return []group{{"data", &s.DataOptions}, {"evaluate", &s.Evaluation}, {"checkpoint", &s.Checkpoints}}
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
	var plain, groups []string
	run := map[string]string{}
	for _, o := range part.Options(&s.Run) {
		plain = append(plain, o.Name)
		if v := r.Get(o.Name); v != "" {
			run[o.Name] = v
		}
	}
	for _, g := range s.groups() {
		groups = append(groups, g.name)
	}
	if err := r.Check(plain, seams, groups); err != nil {
		return err
	}
	if err := part.Apply(&s.Run, run); err != nil {
		return err
	}
	for key, v := range part.Values(&s.Run) {
		r.Put(key, v)
	}
	for _, g := range s.groups() {
		if err := part.Apply(g.options, r.Options(g.name)); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		for key, v := range part.Values(g.options) {
			r.Put(g.name+"."+key, v)
		}
	}
	order, err := build(r, &orders)
	if err != nil {
		return err
	}
	s.Order = order(uint64(s.Seed))
	if s.Model, err = build(r, &net.Parts); err != nil {
		return err
	}
	if s.Model.Mixer, err = build(r, &net.Mixers); err != nil {
		return err
	}
	if s.Model.FFN, err = build(r, &net.FFNs); err != nil {
		return err
	}
	if err = s.Model.CheckParts(); err != nil {
		return err
	}
	if s.Optimizer, err = build(r, &optim.Parts); err != nil {
		return err
	}
	if s.Schedule, err = build(r, &schedule.Parts); err != nil {
		return err
	}
	if s.Precision, err = build(r, &precision.Parts); err != nil {
		return err
	}
	return s.agree()
}

// build builds the part of a seam and writes all its options into the recipe.
func build[T any](r *recipe.Recipe, table *part.Table[T]) (T, error) {
	name := cmp.Or(r.Get(table.Seam), table.Parts[0].Name)
	v, err := table.Build(name, r.Options(table.Seam))
	if err == nil {
		r.Replace(table.Seam, name, part.Values(v))
	}
	return v, err
}

// agree checks settings that bear on each other.
func (s *Settings) agree() error {
	switch {
	case s.Steps == 0 && s.Time == 0 && s.Target == 0:
		return errors.New("the run would never end: set steps, time or target")
	case s.DataOptions.tokenIDs() && s.From == "":
		return fmt.Errorf("data.format=%s: raw tokens need a model that knows their vocabulary; set from=DIR", s.DataOptions.Format)
	case s.DataOptions.tokenIDs() && s.DataOptions.Packed:
		return errors.New("data.packed=true: raw tokens do not tell where documents begin")
	}
	return nil
}

// tokenIDs tells whether the data is token ids and not text.
func (o *DataOptions) tokenIDs() bool {
	return o.Format == "u8" || o.Format == "u16" || o.Format == "i32"
}
