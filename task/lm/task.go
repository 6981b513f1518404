package lm

import (
	"encoding/json"

	"hasten/engine/grad"
	"hasten/learn/loss"
	"hasten/model/attention"
	"hasten/model/net"
)

// Batch is B sequences of T tokens and, at each position, the token that
// follows.
type Batch struct {
	Tokens, Targets []int32 // [B·T]; a target of loss.Ignore does not count
	T               int
	Weights         []float32      // [B] factor on the loss of each sequence; nil: all 1
	Mask            attention.Mask // nil: causal
}

// Batches gives the batches of training, in an order that a seed fixes.
type Batches interface {
	// Next returns the next batch, which stays valid until the next call. It
	// returns io.EOF where an epoch ends; the call after goes on.
	Next() (Batch, error)
	// Position and Seek keep the place for a checkpoint.
	Position() (json.RawMessage, error)
	Seek(json.RawMessage) error
}

// Task is next-token prediction: what loop.Loop trains.
type Task struct {
	Model   *net.GPT
	Head    loss.Head // nil: loss.Auto
	Batches Batches
	Epoch   int64 // tokens in an epoch; 0: not known

	batch   Batch
	losses  []float32 // of each token
	weights []float32 // of each token, where the batch has weights
	rows    []float32 // of each sequence
}

// Params are the model's.
func (t *Task) Params() []*grad.Param { return t.Model.Params() }

// Next takes the next batch; the items are tokens.
func (t *Task) Next() (int, error) {
	b, err := t.Batches.Next()
	t.batch = b
	return len(b.Tokens), err
}

// EpochItems is the number of tokens in an epoch, 0 where it is not known.
func (t *Task) EpochItems() int64 { return t.Epoch }

// Loss is the mean cross-entropy in nats per token, plus the terms that parts of
// the model add; the samples are sequences, of which it is the cross-entropy.
func (t *Task) Loss(tape *grad.Tape) (*grad.Var, []float32, error) {
	b := &t.batch
	t.losses = resize(t.losses, len(b.Tokens))
	h := t.Model.Hidden(tape, b.Tokens, b.T, b.Mask)
	if t.Head == nil {
		t.Head = &loss.Auto{}
	}
	mean := t.crossEntropy(tape, h)
	t.rows = resize(t.rows, len(b.Tokens)/b.T)
	for i := range t.rows {
		t.rows[i] = rowMean(t.losses[i*b.T:(i+1)*b.T], b.Targets[i*b.T:(i+1)*b.T])
	}
	return t.Model.WithAuxiliary(tape, mean), t.rows, nil
}

// crossEntropy is the head's loss, with the weights of the batch if it has any.
func (t *Task) crossEntropy(tape *grad.Tape, h *grad.Var) *grad.Var {
	b, w := &t.batch, t.Model.Head.Var
	if b.Weights == nil {
		return t.Head.CrossEntropy(tape, h, w, b.Targets, t.losses)
	}
	t.weights = resize(t.weights, len(b.Tokens))
	for i := range t.weights {
		t.weights[i] = b.Weights[i/b.T]
	}
	return t.Head.(loss.Weighted).WeightedCrossEntropy(tape, h, w, b.Targets, t.weights, t.losses)
}

// Position is the place in the data.
func (t *Task) Position() (json.RawMessage, error) { return t.Batches.Position() }

// Seek goes to a place in the data.
func (t *Task) Seek(p json.RawMessage) error { return t.Batches.Seek(p) }

// rowMean is the mean loss of the positions that count.
func rowMean(losses []float32, targets []int32) float32 {
	var sum float64
	n := 0
	for i, l := range losses {
		if targets[i] != loss.Ignore {
			sum += float64(l)
			n++
		}
	}
	return float32(sum / float64(max(n, 1)))
}

func resize(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n)
	}
	return x[:n]
}
