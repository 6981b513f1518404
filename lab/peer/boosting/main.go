// Command boosting compares hasten's condensed boosting with XGBoost on this
// machine, in turns, and writes what it measured as JSON:
//
//	go run ./lab/peer/boosting            from the root of the repository
//
// Both have the same rows, depth, learning rate, bins and threads. XGBoost
// grows a tree for every class and round, hasten one a round. Two arms of
// hasten are timed: one of as many rounds, and one of the fewest rounds, of a
// few tried, that come within half a point of XGBoost's accuracy on validation
// rows; test rows then tell the accuracies. It needs Debian's python3-xgboost,
// or another Python that HASTEN_PYTHON names,
// and a machine that does nothing else: XGBoost's threads wait for each other
// awake, so a core that another program takes costs it many times its share.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hasten/engine/atomicfile"
	"hasten/lab/peer"
	"hasten/lab/result"
	"hasten/lab/tables"
	"hasten/task/tabular"
)

//go:embed xgb.py
var script string

// What both sides have.
const (
	rounds = 100
	depth  = 5
	rate   = 0.1
	bins   = 256
	lambda = 1 // XGBoost's default
)

// points is how far apart accuracies may be that count as equal.
const points = 0.005

// tried are the rounds with which hasten looks for XGBoost's accuracy.
var tried = []int{100, 150, 200, 300, 400, 600, 800, 1200}

// table is one comparison.
type table struct {
	name string
	load func() (*tabular.Data, error)
}

var all = []table{
	{"digits", tables.Digits},
	{"mnist pixels, 10,000 rows", func() (*tabular.Data, error) { return tables.MNIST(16000) }},
	{"debpkg sections", func() (*tabular.Data, error) { return tables.Sections(20000) }},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "boosting:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	c := &cobra.Command{Use: "boosting", Short: "Compare boosted trees with XGBoost's", Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true}
	f := c.Flags()
	pairs := f.Int("pairs", 5, "pairs of runs of each comparison")
	out := f.String("out", "lab/peer/results/boosting.json", "file for the results")
	threads := f.Int("threads", 0, "threads of both; 0: one for each core")
	only := f.String("only", "", "measure only the table of this name")
	c.RunE = func(c *cobra.Command, _ []string) error {
		runtime.GOMAXPROCS(*threads) // 0 changes nothing
		r := report{Date: time.Now().UTC().Truncate(time.Second), Host: result.ThisHost(), Threads: runtime.GOMAXPROCS(0), Rounds: rounds, Depth: depth, Rate: rate, Bins: bins, Lambda: lambda}
		for _, t := range all {
			if *only != "" && *only != t.name {
				continue
			}
			row, err := measure(c.Context(), t, *pairs)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			r.Tables = append(r.Tables, row)
			fmt.Println(row)
		}
		return atomicfile.WriteFile(*out, func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(r)
		})
	}
	return c
}

// report is the file of results.
type report struct {
	Date    time.Time   `json:"date"`
	Host    result.Host `json:"host"`
	Threads int         `json:"threads"`
	Rounds  int         `json:"rounds"`
	Depth   int         `json:"depth"`
	Rate    float64     `json:"rate"`
	Bins    int         `json:"bins"`
	Lambda  float64     `json:"lambda"`
	Tables  []row       `json:"tables"`
}

// row is one table's results.
type row struct {
	Name    string `json:"name"`
	Rows    int    `json:"rows"` // of training
	Columns int    `json:"columns"`
	Classes int    `json:"classes"`
	XGBoost side   `json:"xgboost"`
	Same    side   `json:"hasten_same_rounds"`
	Equal   side   `json:"hasten_equal_accuracy"`
}

// side is what one side did. Seconds are of every run; fitting includes the
// binning.
type side struct {
	Version string    `json:"version,omitempty"`
	Rounds  int       `json:"rounds"`
	Fit     []float64 `json:"fit_seconds"`
	Predict []float64 `json:"predict_seconds"` // of the test rows
	Valid   float64   `json:"valid_accuracy"`
	Test    float64   `json:"test_accuracy"`
}

func (r row) String() string {
	x := median(r.XGBoost.Fit)
	show := func(s side) string {
		return fmt.Sprintf("%d rounds %.3f s (%.1f×), %.2f%%", s.Rounds, median(s.Fit), x/median(s.Fit), 100*s.Test)
	}
	return fmt.Sprintf("%s (%d rows, %d columns, %d classes): XGBoost %s; hasten %s; at equal accuracy %s; predicting %.1f×",
		r.Name, r.Rows, r.Columns, r.Classes, show(r.XGBoost), show(r.Same), show(r.Equal), median(r.XGBoost.Predict)/median(r.Equal.Predict))
}

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// parts of a table.
type parts struct{ train, valid, test *tabular.Data }

func measure(ctx context.Context, t table, pairs int) (row, error) {
	d, err := t.load()
	if err != nil {
		return row{}, err
	}
	var p parts
	rest, test := tables.Fold(d, 0, 5, 1)
	p.test = test
	p.train, p.valid = tables.Fold(rest, 0, 5, 1)
	r := row{Name: t.name, Rows: p.train.Inputs.Rows, Columns: len(p.train.Inputs.Columns), Classes: d.Outputs()}
	x, err := newXGBoost(ctx, p, r)
	if err != nil {
		return r, err
	}
	defer x.close()
	if err := x.run(&r.XGBoost); err != nil { // a run that does not count
		return r, err
	}
	want := r.XGBoost.Valid - points
	r.XGBoost = side{}
	r.Same.Rounds, r.Equal.Rounds = rounds, 0
	for _, n := range tried {
		s := side{Rounds: n}
		if err := p.hasten(ctx, &s); err != nil {
			return r, err
		}
		if s.Valid >= want {
			r.Equal.Rounds = n
			break
		}
	}
	if r.Equal.Rounds == 0 {
		return r, errors.New("hasten did not come near XGBoost's accuracy")
	}
	for range pairs {
		if err := errors.Join(x.run(&r.XGBoost), p.hasten(ctx, &r.Same), p.hasten(ctx, &r.Equal)); err != nil {
			return r, err
		}
	}
	return r, nil
}

// hasten fits and predicts once.
func (p parts) hasten(ctx context.Context, s *side) error {
	b, err := tabular.Boosters.Build("cgb", map[string]string{
		"rounds": strconv.Itoa(s.Rounds), "depth": strconv.Itoa(depth), "rate": fmt.Sprint(rate), "lambda": fmt.Sprint(lambda),
	})
	if err != nil {
		return err
	}
	runtime.GC() // of what was before
	begin := time.Now()
	m, err := tabular.Fit(ctx, p.train, b, tabular.FitOptions{})
	if err != nil {
		return err
	}
	s.Fit = append(s.Fit, time.Since(begin).Seconds())
	begin = time.Now()
	if _, err := m.Predict(p.test.Inputs); err != nil {
		return err
	}
	s.Predict = append(s.Predict, time.Since(begin).Seconds())
	valid, err := m.Evaluate(p.valid)
	if err != nil {
		return err
	}
	test, err := m.Evaluate(p.test)
	s.Valid, s.Test = valid.Accuracy, test.Accuracy
	return err
}

// xgboost is the Python program, with a table in files.
type xgboost struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	dir     string
	job     map[string]any
}

func newXGBoost(ctx context.Context, p parts, r row) (*xgboost, error) {
	dir, err := os.MkdirTemp("", "boosting")
	if err != nil {
		return nil, err
	}
	x := &xgboost{dir: dir, job: map[string]any{
		"table": dir, "columns": r.Columns, "classes": r.Classes, "depth": depth, "rate": rate, "bins": bins, "rounds": rounds, "threads": runtime.GOMAXPROCS(0),
	}}
	for name, d := range map[string]*tabular.Data{"train": p.train, "valid": p.valid, "test": p.test} {
		if err := write(filepath.Join(dir, name), d); err != nil {
			return nil, err
		}
	}
	python := "/usr/bin/python3"
	if named := os.Getenv(peer.PythonVariable); named != "" {
		python = named
	}
	x.command = exec.CommandContext(ctx, python, "-c", script)
	x.command.Stderr = os.Stderr
	out, err := x.command.StdoutPipe()
	if err == nil {
		x.in, err = x.command.StdinPipe()
	}
	if err != nil {
		return nil, err
	}
	x.out = bufio.NewReader(out)
	return x, x.command.Start()
}

// write writes a table's numbers row by row, and its labels.
func write(path string, d *tabular.Data) error {
	n, k := d.Inputs.Rows, len(d.Inputs.Columns)
	x := make([]float32, n*k)
	for j, c := range d.Inputs.Columns {
		for r, v := range c.Values {
			x[r*k+j] = v
		}
	}
	for name, values := range map[string]any{path + ".x": x, path + ".y": d.Labels} {
		err := atomicfile.WriteFile(name, func(w io.Writer) error { return binary.Write(w, binary.NativeEndian, values) })
		if err != nil {
			return err
		}
	}
	return nil
}

// run has XGBoost fit and predict once.
func (x *xgboost) run(s *side) error {
	if err := json.NewEncoder(x.in).Encode(x.job); err != nil {
		return err
	}
	line, err := x.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("xgb.py: %w; to get XGBoost: apt-get install python3-xgboost", err)
	}
	var a struct {
		Fit, Predict, Valid, Test float64
		Version                   string
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("xgb.py: %w", err)
	}
	s.Fit, s.Predict = append(s.Fit, a.Fit), append(s.Predict, a.Predict)
	s.Valid, s.Test, s.Version, s.Rounds = a.Valid, a.Test, a.Version, rounds
	return nil
}

func (x *xgboost) close() {
	x.in.Close()
	x.command.Wait()
	os.RemoveAll(x.dir)
}
