package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"hasten/task/lm"
	"hasten/task/recipe"
)

// defaultRecipe is what `hasten train` trains: its time, its tokenizer, which
// cuts the peer's text too, and its context.
func defaultRecipe() (*lm.Settings, error) {
	r, err := recipe.Open("gpt")
	if err != nil {
		return nil, err
	}
	return lm.Resolve(r)
}

// cell is a model of the peer and its learning rate. Its layout is Llama's, as
// is that of hasten's default recipe.
type cell struct {
	Layers int     `json:"layers"`
	Heads  int     `json:"heads"`
	Dim    int     `json:"dim"`
	Ctx    int     `json:"ctx"`
	Batch  int     `json:"batch"`
	LR     float64 `json:"lr"`
	BF16   bool    `json:"bf16,omitempty"` // bfloat16 products, by autocast; else float32
}

func (c cell) String() string {
	s := fmt.Sprintf("%dx%d,ctx=%d,batch=%d,lr=%g", c.Layers, c.Dim, c.Ctx, c.Batch, c.LR)
	if c.BF16 {
		s += ",bf16"
	}
	return s
}

// precision is the name of the cell's number format.
func (c cell) precision() string {
	if c.BF16 {
		return "bf16"
	}
	return "f32"
}

// grid lists the cells that the peer may choose from.
func grid() []cell {
	var all []cell
	for _, c := range []cell{
		{Layers: 4, Heads: 4, Dim: 128, Ctx: 128, Batch: 16},
		{Layers: 4, Heads: 4, Dim: 256, Ctx: 128, Batch: 16},
		{Layers: 6, Heads: 6, Dim: 384, Ctx: 256, Batch: 8},
	} {
		for _, c.LR = range []float64{5e-4, 1e-3, 2e-3} {
			for _, c.BF16 = range []bool{false, true} {
				all = append(all, c)
			}
		}
	}
	return all
}

// qualityOptions say what is trained, and for how long.
type qualityOptions struct {
	Recipe        *lm.Settings // hasten's
	Cells         []cell
	Search, Final float64 // training seconds of the peer
	Time          time.Duration
	Seeds         []int
	Tokens        int // of validation in an evaluation
	Out           string
}

// point is an evaluation.
type point struct {
	Seconds     float64 `json:"seconds"` // spent training
	BitsPerByte float64 `json:"bits_per_byte"`
}

// Roles of training runs.
const (
	roleSearch = "search" // the peer, a cell of the grid
	roleFinal  = "final"  // the peer, its best cell
	roleHasten = "hasten"
)

// training says what a run is: equal ones need not be made twice.
type training struct {
	Role   string  `json:"role"`
	Cell   cell    `json:"cell,omitzero"`    // of the peer
	Hasten string  `json:"hasten,omitempty"` // version
	Seed   int     `json:"seed,omitempty"`   // of hasten
	Budget float64 `json:"budget"`           // training seconds
	Tokens int     `json:"valid_tokens"`     // in an evaluation
}

func (t training) String() string {
	if t.Role == roleHasten {
		return fmt.Sprintf("hasten, seed %d, %g s", t.Seed, t.Budget)
	}
	return fmt.Sprintf("PyTorch, %s, %s, %g s", t.Role, t.Cell, t.Budget)
}

// record is a line of the file of results: the machine, or a run.
type record struct {
	Host   *host     `json:"host,omitempty"`
	Run    *training `json:"run,omitempty"`
	Points []point   `json:"points,omitempty"`
}

// last is the evaluation at the end of a run.
func (r *record) last() point { return r.Points[len(r.Points)-1] }

// secondsTo is when a run's evaluations first were at a target or below it;
// +Inf if they never were. Nothing is interpolated.
func secondsTo(points []point, target float64) float64 {
	for _, p := range points {
		if p.BitsPerByte <= target {
			return p.Seconds
		}
	}
	return math.Inf(1)
}

// best is the run with the best last evaluation.
func best(runs []*record) *record {
	return slices.MinFunc(runs, func(a, b *record) int { return cmp.Compare(a.last().BitsPerByte, b.last().BitsPerByte) })
}

// measureQuality makes the runs that are not in the file yet and returns the
// records of all runs that were asked for, in order.
func measureQuality(ctx context.Context, s *sides, o qualityOptions) ([]*record, error) {
	j, err := openJournal(o.Out)
	if err != nil {
		return nil, err
	}
	h, err := s.host(ctx)
	if err != nil {
		return nil, err
	}
	hostRecord, err := j.settle(h)
	if err != nil {
		return nil, err
	}
	data, err := s.tokenize(ctx, o.Recipe.Tokenizer)
	if err != nil {
		return nil, err
	}
	records := []*record{hostRecord}
	for _, c := range o.Cells {
		t := training{Role: roleSearch, Cell: c, Budget: o.Search, Tokens: o.Tokens}
		r, err := j.run(t, func() ([]point, error) { return s.trainPeer(ctx, t, data) })
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	t := training{Role: roleFinal, Cell: best(records[1:]).Run.Cell, Budget: o.Final, Tokens: o.Tokens}
	r, err := j.run(t, func() ([]point, error) { return s.trainPeer(ctx, t, data) })
	if err != nil {
		return nil, err
	}
	records = append(records, r)
	for _, seed := range o.Seeds {
		t := training{Role: roleHasten, Hasten: h.Hasten, Seed: seed, Budget: o.Time.Seconds(), Tokens: o.Tokens}
		r, err := j.run(t, func() ([]point, error) { return s.trainHasten(ctx, t, o.Recipe.Model.Ctx) })
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// tokenize writes the token ids that the peer reads.
func (s *sides) tokenize(ctx context.Context, tokenizer string) (t lm.Tokenized, err error) {
	out, err := s.run(ctx, "data", "tokenize", "--tokenizer", tokenizer, "--out", filepath.Join(s.dir, "tokens"))
	if err != nil {
		return t, err
	}
	if err = json.Unmarshal(out, &t); err == nil && t.Valid.TextBytes == 0 {
		err = errors.New("there is no validation text")
	}
	if err != nil {
		err = fmt.Errorf("hasten data tokenize: %w", err)
	}
	return t, err
}

// trainPeer trains PyTorch's model.
func (s *sides) trainPeer(ctx context.Context, t training, data lm.Tokenized) ([]point, error) {
	c := t.Cell
	args := []string{"train", "--arch", "llama", "--train", data.Train.Path, "--val", data.Valid.Path, "--dtype", data.DType,
		"--seconds", fmt.Sprint(t.Budget), "--lr", fmt.Sprint(c.LR), "--precision", c.precision()}
	for _, n := range []struct {
		flag  string
		value int
	}{
		{"layers", c.Layers}, {"heads", c.Heads}, {"dim", c.Dim}, {"ctx", c.Ctx}, {"batch", c.Batch}, {"vocab", data.Vocab}, {"windows", t.Tokens / c.Ctx},
	} {
		args = append(args, "--"+n.flag, strconv.Itoa(n.value))
	}
	out, err := s.torch.Run(ctx, args...)
	if err != nil {
		return nil, err
	}
	perToken := float64(data.Valid.Tokens) / float64(data.Valid.TextBytes) / math.Ln2
	var points []point
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var e struct {
			Seconds float64
			Loss    float64 `json:"val_loss"`
		}
		if err := d.Decode(&e); err != nil {
			return nil, fmt.Errorf("torch_gpt.py train: %w", err)
		}
		points = append(points, point{e.Seconds, e.Loss * perToken})
	}
	return points, nil
}

// trainHasten trains hasten's default recipe.
func (s *sides) trainHasten(ctx context.Context, t training, context int) ([]point, error) {
	dir := filepath.Join(s.dir, fmt.Sprintf("seed-%d", t.Seed))
	defer os.RemoveAll(dir)
	out, err := s.run(ctx, "train", "--json", "--out", dir, "--seed", strconv.Itoa(t.Seed), "--time", fmt.Sprintf("%gs", t.Budget),
		"--set", fmt.Sprintf("evaluate.windows=%d", t.Tokens/context), "--set", fmt.Sprintf("threads=%d", s.threads))
	if err != nil {
		return nil, err
	}
	var points []point
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var e struct {
			Done bool
			point
		}
		if err := d.Decode(&e); err != nil {
			return nil, fmt.Errorf("hasten train: %w", err)
		}
		if !e.Done { // the last line repeats the last evaluation
			points = append(points, e.point)
		}
	}
	return points, nil
}

// journal is the file of results: JSON lines, to which each run is added when
// it is complete.
type journal struct {
	path    string
	records []*record
}

// openJournal reads what is there. A last line that was not written whole is
// dropped.
func openJournal(path string) (*journal, error) {
	j := &journal{path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, os.MkdirAll(filepath.Dir(path), 0o777)
	}
	if err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if torn := lines[len(lines)-1]; len(torn) > 0 {
		if err := os.Truncate(path, int64(len(text)-len(torn))); err != nil {
			return nil, err
		}
	}
	for i, line := range lines[:len(lines)-1] {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, i+1, err)
		}
		if (r.Host == nil) == (r.Run == nil) || r.Run != nil && len(r.Points) == 0 {
			return nil, fmt.Errorf("%s, line %d: neither a host nor a run with its evaluations", path, i+1)
		}
		j.records = append(j.records, &r)
	}
	return j, nil
}

// settle makes sure that all of the file is from one machine and one PyTorch.
// Runs of hasten have their version with them.
func (j *journal) settle(h *host) (*record, error) {
	for _, r := range j.records {
		if r.Host == nil {
			continue
		}
		was := *r.Host
		if was.CPU != h.CPU || was.Cores != h.Cores || was.Threads != h.Threads || was.Platform != h.Platform || was.Peer != h.Peer {
			return nil, fmt.Errorf("%s is of another machine, PyTorch or number of threads: name another --out. It is of %+v; this is %+v", j.path, was, *h)
		}
		return r, nil
	}
	r := &record{Host: h}
	return r, j.add(r)
}

// run returns the record of a run, and trains only if it is not there.
func (j *journal) run(t training, train func() ([]point, error)) (*record, error) {
	for _, r := range j.records {
		if r.Run != nil && *r.Run == t {
			return r, nil
		}
	}
	fmt.Fprintf(os.Stderr, "%s …", t)
	points, err := train()
	if err == nil && len(points) == 0 {
		err = errors.New("no evaluations")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr)
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	r := &record{Run: &t, Points: points}
	fmt.Fprintf(os.Stderr, " %.4f bits per byte\n", r.last().BitsPerByte)
	return r, j.add(r)
}

// add writes a record to the end of the file.
func (j *journal) add(r *record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		j.records = append(j.records, r)
	}
	return err
}
