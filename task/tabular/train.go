package tabular

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"hasten/engine/atomicfile"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/task/run"
)

// LogFile is the file of a model directory with a line of JSON for every
// round: a Round.
const LogFile = "log.jsonl"

// Options say where a run is kept and who watches it. Functions may be nil.
type Options struct {
	Dir   string       // model directory; made if it is not there
	Note  func(string) // told what is being done, in a line
	Watch func(Round)  // told of every round
}

// Outcome is how a run ended.
type Outcome struct {
	Dir         string
	Model       *Model
	Rows        int      // trained on
	Rounds      []Round  // of training
	Reading     float64  // seconds of reading the data
	Training    float64  // seconds of binning and boosting
	Valid       *Metrics // nil without validation data
	Interrupted bool     // the context was cancelled: the model is what was learned by then
	Memory      memory.Usage
}

// Train reads the data, trains a model and writes its directory: model.json,
// recipe.toml, log.jsonl. Cancelling the context ends training in good order;
// the model learned so far is written.
func Train(ctx context.Context, s *Settings, o Options) (out Outcome, err error) {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return out, err
	}
	lock, err := atomicfile.Acquire(o.Dir)
	if err != nil {
		return out, err
	}
	defer lock.Release()
	if run.Has(o.Dir, ModelFile) {
		return out, fmt.Errorf("%s %w; name another directory with --out", o.Dir, run.ErrExists)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(s.Threads)) // 0 changes nothing

	out.Dir = o.Dir
	begin := time.Now()
	train, valid, err := s.data(o.Note)
	if err != nil {
		return out, err
	}
	out.Rows, out.Reading = train.Inputs.Rows, time.Since(begin).Seconds()
	o.Note(fmt.Sprintf("%s of %s: %d rows, %d columns, %d outputs", train.Kind, strings.Join(train.Targets, ", "), out.Rows, len(train.Inputs.Columns), train.Outputs()))

	begin = time.Now()
	arena := new(memory.Arena)
	out.Model, err = Fit(ctx, train, s.Booster, FitOptions{Seed: uint64(s.Seed), Valid: valid, Arena: arena, Watch: func(r Round) {
		out.Rounds = append(out.Rounds, r)
		if o.Watch != nil {
			o.Watch(r)
		}
	}})
	if err != nil {
		return out, err
	}
	out.Training, out.Memory = time.Since(begin).Seconds(), arena.Usage()
	out.Interrupted = ctx.Err() != nil && len(out.Rounds) < s.Booster.common().Rounds
	if valid != nil {
		m, err := out.Model.Evaluate(valid)
		if err != nil {
			return out, err
		}
		out.Valid = &m
	}
	return out, out.save(s)
}

// save writes the model directory.
func (out *Outcome) save(s *Settings) error {
	return errors.Join(
		out.Model.Save(out.Dir),
		atomicfile.WriteFile(filepath.Join(out.Dir, run.RecipeFile), func(w io.Writer) error {
			_, err := w.Write(s.Recipe.TOML())
			return err
		}),
		atomicfile.WriteFile(filepath.Join(out.Dir, LogFile), func(w io.Writer) error {
			e := json.NewEncoder(w)
			for _, r := range out.Rounds {
				if err := e.Encode(r); err != nil {
					return err
				}
			}
			return nil
		}))
}

// MarshalJSON writes a round without validation data without its loss there,
// which JSON has no word for.
func (r Round) MarshalJSON() ([]byte, error) {
	type plain Round
	line := struct {
		plain
		Valid *float64 `json:"valid,omitempty"`
	}{plain: plain(r)}
	if !math.IsNaN(r.Valid) {
		line.Valid = &r.Valid
	}
	return json.Marshal(line)
}

// data reads training and validation data; the second may be nil.
func (s *Settings) data(note func(string)) (train, valid *Data, err error) {
	note("reading " + s.Data)
	t, err := Read(s.Data, s.DataOptions.read())
	if err != nil {
		return nil, nil, err
	}
	d, err := Frame(t, list(s.Target), list(s.DataOptions.Ignore), Kind(s.Kind))
	if err != nil {
		return nil, nil, err
	}
	switch {
	case s.DataOptions.Valid != "":
		note("reading " + s.DataOptions.Valid)
		o := s.DataOptions.read()
		o.Categories = nil // as in the training data
		o.Like, o.Also = d.Inputs.Columns, d.Targets
		t, err := Read(s.DataOptions.Valid, o)
		if err != nil {
			return nil, nil, err
		}
		valid, err := d.frameLike(t)
		return d, valid, err
	case s.DataOptions.Fraction == 0:
		return d, nil, nil
	}
	in, out := divide(d.Inputs.Rows, s.DataOptions.Fraction, uint64(s.Seed))
	if len(in) == 0 || len(out) == 0 {
		return nil, nil, fmt.Errorf("%s: %d rows are too few to keep %g of them for validation; set data.fraction=0", s.Data, d.Inputs.Rows, s.DataOptions.Fraction)
	}
	return d.Take(in), d.Take(out), nil
}

// divide draws the rows of validation: share of them, rounded.
func divide(rows int, share float64, seed uint64) (train, valid []int32) {
	const stream = 1 << 40 // apart from those of rounds
	s := rng.New(seed, stream)
	chosen := make([]bool, rows)
	for _, r := range s.Permutation(rows)[:int(math.Round(share*float64(rows)))] {
		chosen[r] = true
	}
	for r, v := range chosen {
		if v {
			valid = append(valid, int32(r))
		} else {
			train = append(train, int32(r))
		}
	}
	return train, valid
}

// frameLike divides another table as d's was, with its classes.
func (d *Data) frameLike(t *Table) (*Data, error) {
	inputs, err := like(d.Inputs.Columns, t)
	if err != nil {
		return nil, err
	}
	out := &Data{Inputs: inputs, Kind: d.Kind, Targets: d.Targets, Classes: d.Classes}
	if d.Kind == Regression {
		return out, out.regress(t)
	}
	return out, out.classify(t, d.Classes)
}

// Frame divides a table for a model: for its validation. The table needs the
// model's targets.
func (m *Model) Frame(t *Table) (*Data, error) {
	d := &Data{Inputs: &Table{Columns: m.Columns}, Kind: m.Kind, Targets: m.Targets, Classes: m.Classes}
	return d.frameLike(t)
}

// Read reads the table of a file that the model is to predict. It need not
// have the targets; if it has, they are read.
func (m *Model) Read(path string, o ReadOptions) (*Table, error) {
	o.Like, o.Also = m.Columns, m.Targets
	return Read(path, o)
}
