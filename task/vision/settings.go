package vision

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"hasten/data/sample"
	"hasten/engine/part"
	"hasten/engine/precision"
	"hasten/learn/average"
	"hasten/learn/optim"
	"hasten/learn/schedule"
	"hasten/task/recipe"
	"hasten/task/run"
)

// Run are the plain settings of a run.
type Run struct {
	Task string `set:"task" choices:"vision" help:"the job"`
	Data string `set:"data" help:"fashion, mnist, a directory of IDX files, or one with a folder of images for each class"`
	run.Common
	Epochs int `set:"epochs" range:"[0,inf)" help:"epochs to train; 0: no limit"`
}

// DataOptions say how the data is read: settings data.valid and so on.
type DataOptions struct {
	Valid    string  `set:"valid" help:"directory of validation data; empty: with the data, or a part of it"`
	Fraction float64 `set:"fraction" range:"[0,1)" help:"share of the images kept for validation, where the data has none apart"`
	Limit    int     `set:"limit" range:"[0,inf)" help:"train on the first so many images; 0: all"`
	Size     int     `set:"size" range:"[0,4096]" help:"side to which images from folders are scaled; 0: they are of one size"`
}

// Evaluation says when the model is evaluated, and in which pieces.
type Evaluation struct {
	Every int `set:"every" range:"[0,inf)" help:"steps between evaluations; 0: about twenty in a run"`
	Batch int `set:"batch" range:"[1,65536]" help:"images computed at a time; the result does not depend on it but for rounding"`
}

// Settings is a recipe made definite. It serves one run, whose state its parts
// hold.
type Settings struct {
	Run
	DataOptions DataOptions
	Evaluation  Evaluation
	Checkpoints run.Checkpoints
	Model       Config
	Optimizer   optim.Optimizer
	Schedule    schedule.Schedule
	Average     average.Average
	Precision   precision.Policy
	Selector    sample.Selector

	Recipe *recipe.Recipe // with every setting written out
}

// Parts describes the parts of all seams of a run.
func Parts() []part.Info {
	return slices.Concat(Models.Info(), optim.Parts.Info(), schedule.Parts.Info(), average.Parts.Info(), precision.Parts.Info(), sample.Selectors.Info())
}

// RunOptions describes the settings of a run that belong to no seam, by the
// names --set takes.
func RunOptions() []part.Option {
	s := defaults()
	return run.OptionsOf(&s.Run, s.groups())
}

// seams are the settings that name a part.
var seams = []string{Models.Seam, optim.Parts.Seam, schedule.Parts.Seam, average.Parts.Seam, precision.Parts.Seam, sample.Selectors.Seam}

// defaults are the settings of a recipe that sets nothing.
func defaults() *Settings {
	return &Settings{
		Run:         Run{Task: "vision", Data: "fashion", Common: run.Common{Batch: 128, Accumulate: 1}},
		DataOptions: DataOptions{Fraction: 0.1},
		Evaluation:  Evaluation{Batch: 256},
		Checkpoints: run.Checkpoints{Time: 5 * time.Minute, Keep: 2},
	}
}

// groups are the settings under common names.
func (s *Settings) groups() []run.Group {
	return []run.Group{{Name: "data", Options: &s.DataOptions}, {Name: "evaluate", Options: &s.Evaluation}, {Name: "checkpoint", Options: &s.Checkpoints}}
}

// Resolve makes a recipe definite: it fills in defaults and checks every
// setting before anything runs.
func Resolve(r *recipe.Recipe) (*Settings, error) {
	s := defaults()
	s.Recipe = r.Clone()
	if err := s.resolve(); err != nil {
		return nil, fmt.Errorf("recipe %s: %w", r.Name, err)
	}
	return s, nil
}

func (s *Settings) resolve() (err error) {
	r := s.Recipe
	if err := run.Resolve(r, &s.Run, s.groups(), seams); err != nil {
		return err
	}
	if s.Model, err = run.Build(r, &Models); err != nil {
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
	if s.Selector, err = run.Build(r, &sample.Selectors); err != nil {
		return err
	}
	if s.Steps == 0 && s.Epochs == 0 && s.Time == 0 && s.Target == 0 {
		return errors.New("the run would never end: set epochs, steps, time or target")
	}
	return nil
}
