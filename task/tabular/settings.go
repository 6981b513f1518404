package tabular

import (
	"errors"
	"fmt"
	"strings"

	"hasten/engine/part"
	"hasten/task/recipe"
	"hasten/task/run"
)

// Run are the plain settings of a run.
type Run struct {
	Task    string `set:"task" choices:"tabular" help:"the job"`
	Data    string `set:"data" help:"a table: .csv, .tsv or .parquet; the first two may be compressed (.gz, .zst)"`
	Target  string `set:"target" help:"column to predict, or several with commas between; empty: the last"`
	Kind    string `set:"kind" choices:",classification,regression" help:"what to predict; empty: classes if the target is text or few whole numbers"`
	Seed    int    `set:"seed" range:"[0,inf)" help:"seed of all random numbers"`
	Threads int    `set:"threads" range:"[0,4096]" help:"threads; 0: one for each core. Results do not depend on it"`
}

// DataOptions say how tables are read: settings data.format and so on.
type DataOptions struct {
	Format     string  `set:"format" choices:",csv,tsv,parquet" help:"format; empty: by the file's name"`
	Header     bool    `set:"header" help:"the first line has the columns' names; else they are c1, c2, …"`
	Ignore     string  `set:"ignore" help:"columns to leave out, with commas between"`
	Categories string  `set:"categories" help:"columns whose numbers name categories, with commas between"`
	Valid      string  `set:"valid" help:"table of validation data; empty: a part of the data"`
	Fraction   float64 `set:"fraction" range:"[0,1)" help:"share of the rows kept for validation; 0: none"`
}

func (o *DataOptions) read() ReadOptions {
	return ReadOptions{Format: o.Format, NoHeader: !o.Header, Categories: list(o.Categories)}
}

// Settings is a recipe made definite.
type Settings struct {
	Run
	DataOptions DataOptions
	Booster     Booster

	Recipe *recipe.Recipe // with every setting written out
}

// Parts describes the parts of all seams.
func Parts() []part.Info { return Boosters.Info() }

// RunOptions describes the settings of a run that belong to no seam.
func RunOptions() []part.Option {
	s := defaults()
	return run.OptionsOf(&s.Run, s.groups())
}

func defaults() *Settings {
	return &Settings{Run: Run{Task: "tabular"}, DataOptions: DataOptions{Header: true, Fraction: 0.2}}
}

func (s *Settings) groups() []run.Group { return []run.Group{{Name: "data", Options: &s.DataOptions}} }

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

func (s *Settings) resolve() error {
	err := run.Resolve(s.Recipe, &s.Run, s.groups(), []string{Boosters.Seam})
	if err != nil {
		return err
	}
	if s.Booster, err = run.Build(s.Recipe, &Boosters); err != nil {
		return err
	}
	switch {
	case s.Data == "":
		return errors.New("no data: name a table with --data, such as train.csv")
	case s.Booster.common().Patience > 0 && s.DataOptions.Valid == "" && s.DataOptions.Fraction == 0:
		return errors.New("booster.patience needs validation data: set data.fraction or data.valid")
	}
	return nil
}

// list splits names with commas between.
func list(names string) []string {
	var all []string
	for name := range strings.SplitSeq(names, ",") {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}
