package lm

import (
	"context"
	"errors"
	"fmt"
	"math"

	"hasten/data/sample"
	"hasten/data/source"
	"hasten/data/store"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/learn/loop"
	"hasten/learn/loss"
	"hasten/model/net"
)

// evaluate is the mean loss over the run's validation windows.
func (j *Job) evaluate(*loop.State) (float64, error) {
	e, err := meanLoss(context.Background(), j.tape, j.Model, j.valid)
	return e.Loss, err
}

// Evaluated is the outcome of an evaluation.
type Evaluated struct {
	Loss        float64 // mean nats per token
	BitsPerByte float64 // NaN where the text is not known
	Tokens      int64   // targets that were counted
}

// EvalOptions say what a model is evaluated on.
type EvalOptions struct {
	Data    string         // gosrc, a file, a directory, -; of gosrc the validation files, of other data all
	Options source.Options // how to read it; Format u8, u16 and i32 are raw token ids
	Windows int            // so many windows, evenly spread; 0: all
	Context int            // tokens in a window; 0: the model's context
	Batch   int            // windows computed at a time; 0: 8
}

// Evaluate measures a model's loss over consecutive windows that do not
// overlap, each predicted from its own beginning.
func Evaluate(ctx context.Context, m *Model, o EvalOptions) (Evaluated, error) {
	length := o.Context
	if length == 0 {
		length = m.Ctx
	}
	if length < 1 || length > m.Ctx {
		return Evaluated{}, fmt.Errorf("windows of %d tokens: the model's context is %d", length, m.Ctx)
	}
	tokens, close, err := openTokens(m, o)
	if err != nil {
		return Evaluated{}, err
	}
	defer close()
	batch := o.Batch
	if batch == 0 {
		batch = 8
	}
	w, err := sample.NewWindows(tokens, sample.Spread{N: int64(o.Windows)}, batch, length)
	if err != nil {
		return Evaluated{}, err
	}
	e, err := meanLoss(ctx, grad.NewTape(new(memory.Arena)), m.GPT, w)
	e.BitsPerByte = tokens.BitsPerByte(e.Loss)
	return e, err
}

// openTokens opens the data of an evaluation as one stream of tokens.
func openTokens(m *Model, o EvalOptions) (*store.Tokens, func() error, error) {
	if d := (DataOptions{Format: o.Options.Format}); d.tokenIDs() {
		kind, err := store.ParseKind(d.Format)
		if err != nil {
			return nil, nil, err
		}
		t, err := store.OpenRaw(o.Data, kind, m.Vocab)
		if err != nil {
			return nil, nil, err
		}
		return t, t.Close, nil
	}
	if m.Tokenizer == nil {
		return nil, nil, errors.New("the model has no tokenizer.json: give token ids as data (--format u16)")
	}
	if o.Data != "gosrc" {
		o.Options.ValidFraction = -1 // all of it
	}
	corpus, err := source.Open(o.Data, o.Options)
	if err != nil {
		return nil, nil, err
	}
	defer corpus.Close()
	d, err := loadTokens(corpus, m.Tokenizer)
	if err != nil {
		return nil, nil, err
	}
	if o.Data != "gosrc" {
		return d.Train, d.Close, nil
	}
	if d.Valid == nil {
		return nil, nil, errors.Join(errors.New("gosrc has no validation files"), d.Close())
	}
	return d.Valid, d.Close, nil
}

// meanLoss is the mean cross-entropy of a model over all windows of a sampler
// that ends.
func meanLoss(ctx context.Context, tape *grad.Tape, m *net.GPT, w *sample.Windows) (Evaluated, error) {
	loader := sample.NewLoader(w, 2)
	defer loader.Close()
	var masks maskMaker
	var sum float64
	e := Evaluated{BitsPerByte: math.NaN()}
	for ctx.Err() == nil {
		b, err := loader.Next()
		if errors.Is(err, sample.ErrEnd) {
			e.Loss = sum / float64(max(e.Tokens, 1))
			return e, nil
		}
		if err != nil {
			return e, err
		}
		batch, err := masks.batch(b)
		if err != nil {
			return e, err
		}
		tape.NoGrad(func() {
			h := m.Hidden(tape, batch.Tokens, batch.T, batch.Mask)
			sum += float64(loss.CrossEntropy(tape, h, m.Head.Var, batch.Targets, nil).Data[0]) * float64(len(batch.Tokens))
		})
		tape.Reset()
		e.Tokens += int64(len(batch.Tokens))
	}
	return e, ctx.Err()
}
