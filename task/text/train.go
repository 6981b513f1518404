package text

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"hasten/engine/atomicfile"
	"hasten/engine/memory"
	"hasten/engine/simd"
	"hasten/task/run"
)

// Options say where a run is kept and who watches it. Functions may be nil.
type Options struct {
	Dir      string         // model directory; made if it is not there
	Note     func(string)   // told what is being done, in a line
	Progress func(Progress) // told several times a second how far training is
}

// Progress is how far training is.
type Progress struct {
	Done     float64 // share of all tokens to be seen, 0 … 1
	Tokens   int     // seen
	Seconds  float64 // of training
	Rate     float64 // the learning rate
	Finished bool
}

// Outcome is how a run ended.
type Outcome struct {
	Dir         string
	Model       *Model
	Texts       int     // trained on
	Tokens      int     // seen: words, ends of texts and labels, over all epochs
	Reading     float64 // seconds of reading, hashing and numbering the data
	Training    float64 // seconds of training
	Loss        float64 // mean over the last epoch, in nats
	Valid       *Score  // nil without validation data
	Interrupted bool    // the context was cancelled: the model is what was learned by then
	Memory      memory.Usage
}

// ErrDiverged is the error of a run whose learning rate was too high.
var ErrDiverged = errors.New("training diverged")

// Train trains a model and writes its directory. Cancelling the context ends
// training in good order; the model learned so far is written.
func Train(ctx context.Context, s *Settings, o Options) (out Outcome, err error) {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	out.Dir = o.Dir
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return out, err
	}
	lock, err := atomicfile.Acquire(o.Dir)
	if err != nil {
		return out, err
	}
	defer lock.Release()
	if _, err := os.Stat(filepath.Join(o.Dir, configFile)); err == nil {
		return out, fmt.Errorf("%s %w; name another directory with --out", o.Dir, run.ErrExists)
	}
	if out, err = Fit(ctx, s, o); err != nil {
		return out, err
	}
	o.Note("writing the model")
	if err := out.Model.Save(o.Dir); err != nil {
		return out, err
	}
	if s.Recipe != nil {
		path := filepath.Join(o.Dir, run.RecipeFile)
		err := atomicfile.WriteFile(path, func(w io.Writer) error {
			_, err := w.Write(s.Recipe.TOML())
			return err
		})
		if err != nil {
			return out, err
		}
	}
	if out.Interrupted {
		return out, nil
	}
	out.Valid, err = out.validate(ctx, s, o.Note)
	return out, err
}

// validate measures the model on the validation data, if there is any.
func (out *Outcome) validate(ctx context.Context, s *Settings, note func(string)) (*Score, error) {
	path, p := s.DataOptions.Valid, everything
	if path == "" {
		if s.DataOptions.Fraction == 0 {
			return nil, nil
		}
		path, p = s.Data, validation
	}
	note("measuring on " + path)
	score, err := out.Model.evaluate(ctx, path, &s.DataOptions, p)
	if err != nil || score.Texts == 0 {
		return nil, err
	}
	return &score, nil
}

// Fit reads the data and trains a model, without writing anything.
func Fit(ctx context.Context, s *Settings, o Options) (Outcome, error) {
	out := Outcome{Dir: o.Dir}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	begin := time.Now()
	o.Note("reading " + s.Data)
	p := training
	if s.DataOptions.Valid != "" || s.DataOptions.Fraction == 0 {
		p = everything
	}
	b, err := s.readAll(ctx, p)
	if err != nil {
		return out, err
	}
	if len(b.examples) == 0 {
		return out, fmt.Errorf("%s: no labelled text in it to train on", s.Data)
	}
	d, c, labels, counts := b.finish(uint64(s.Seed))
	arena := new(memory.Arena)
	t := newTrainer(s, d, c, counts, arena)
	out.Reading = time.Since(begin).Seconds()
	o.Note(fmt.Sprintf("%d texts, %d words, %d labels; %d embeddings of %d floats", len(c.examples), d.words.len(), len(labels), d.rows, s.Model.Dim))

	begin = time.Now()
	out.Texts = len(c.examples)
	if out.Tokens, out.Loss, err = t.train(ctx, o.Progress); err != nil {
		return out, err
	}
	out.Training = time.Since(begin).Seconds()
	out.Interrupted = ctx.Err() != nil && out.Tokens < c.tokens()*s.Epochs
	out.Memory = arena.Usage()
	out.Model = &Model{dict: d, input: t.input.table, output: t.output, labels: labels, counts: counts, loss: s.Loss}
	return out, nil
}

// readAll reads the texts of a portion of the data, with all threads.
func (s *Settings) readAll(ctx context.Context, p portion) (*builder, error) {
	builders := make([]*builder, s.width())
	err := readParts(s.Data, &s.DataOptions, p, len(builders), func(part int) func(*sample) error {
		b := newBuilder(s.Model)
		builders[part] = b
		return func(t *sample) error {
			b.add(t.labels, t.text)
			if len(b.examples)&1023 == 0 {
				return ctx.Err()
			}
			return nil
		}
	})
	if err != nil {
		return nil, err
	}
	for _, b := range builders[1:] {
		if b != nil {
			builders[0].merge(b)
		}
	}
	return builders[0], nil
}

// tokens is the number of tokens of all texts.
func (c *corpus) tokens() int { return c.examples[len(c.examples)-1].tokens }

// stale is how many texts the threads together may train on before each sees
// what the others changed in the rows that all use.
const stale = 512

// train carries out all epochs, and returns the number of tokens seen and the
// mean loss of the last epoch (as far as it went). Threads claim blocks of
// texts in order, so a slow one holds up nobody.
func (t *trainer) train(ctx context.Context, progress func(Progress)) (tokens int, loss float64, err error) {
	c, threads := t.corpus, t.width()
	size := max(stale/threads, 16)
	blocks := (len(c.examples) + size - 1) / size
	total := c.tokens() * t.Epochs
	var claimed, seen atomic.Int64
	var diverged atomic.Bool
	losses := make([]float64, blocks) // of the last epoch

	var wg sync.WaitGroup
	for range threads {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := t.worker(threads)
			for ctx.Err() == nil && !diverged.Load() {
				i := int(claimed.Add(1)) - 1
				epoch, b := i/blocks, i%blocks
				if epoch >= t.Epochs {
					return
				}
				from, to := b*size, min((b+1)*size, len(c.examples))
				before := 0
				if from > 0 {
					before = c.examples[from-1].tokens
				}
				l := w.block(from, to, epoch*c.tokens()+before, total, uint64(t.Seed)<<40+uint64(i))
				if math.IsNaN(l) {
					diverged.Store(true)
				}
				if epoch == t.Epochs-1 {
					losses[b] = l
				}
				seen.Add(int64(c.examples[to-1].tokens - before))
			}
		}()
	}
	stop := make(chan struct{})
	var watching sync.WaitGroup
	if progress != nil {
		watching.Add(1)
		go func() {
			defer watching.Done()
			t.watch(&seen, total, progress, stop)
		}()
	}
	wg.Wait()
	close(stop)
	watching.Wait()
	if diverged.Load() || !simd.Finite(t.input.table) {
		return int(seen.Load()), math.NaN(), fmt.Errorf("%w: the weights are no longer finite numbers; lower lr (now %g)", ErrDiverged, t.Rate)
	}
	for _, l := range losses {
		loss += l
	}
	return int(seen.Load()), loss / float64(len(c.examples)), nil
}

// watch reports progress until stop is closed.
func (t *trainer) watch(seen *atomic.Int64, total int, progress func(Progress), stop <-chan struct{}) {
	begin := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for finished := false; !finished; {
		select {
		case <-tick.C:
		case <-stop:
			finished = true
		}
		n := int(seen.Load())
		done := float64(n) / float64(total)
		progress(Progress{done, n, time.Since(begin).Seconds(), t.Rate * (1 - done), finished})
	}
}
