package vision

import (
	"encoding/json"
	"fmt"

	"hasten/data/sample"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

// Task is image classification: what loop.Loop trains. The items are images,
// and so are the samples.
type Task struct {
	Model  Model
	Data   *Dataset
	Stream *sample.Stream

	arena   *memory.Arena
	x       []float32 // [B, H, W, C]
	labels  []int32   // [B]
	weights []float32 // [B]; nil: all 1
	losses  []float32 // [B]

	accuracy float64 // of the last evaluation; here, so that a checkpoint has it
}

// newTask makes room for batches of a size.
func newTask(a *memory.Arena, m Model, d *Dataset, s *sample.Stream, batch int) *Task {
	return &Task{Model: m, Data: d, Stream: s, arena: a, labels: make([]int32, batch),
		x: a.Floats(memory.Data, batch*d.Train.Size()), losses: a.Floats(memory.Data, batch)}
}

// Params are the model's.
func (t *Task) Params() []*grad.Param { return t.Model.Params() }

// Next gathers the images of the next batch.
func (t *Task) Next() (int, error) {
	ids, weights, err := t.Stream.Next()
	if err != nil {
		return 0, err
	}
	n := len(ids)
	t.labels, t.weights = t.labels[:n], weights
	gather(t.x[:n*t.Data.Train.Size()], t.labels, &t.Data.Train, ids, t.Data.Mean, t.Data.Std)
	return n, nil
}

// Loss is the mean over the batch of each image's cross-entropy, in nats, times
// its weight. The losses of the images are told without their weights.
func (t *Task) Loss(tape *grad.Tape) (*grad.Var, []float32, error) {
	n := len(t.labels)
	rows := losses(tape, t.Model, t.Data, t.x, t.labels)
	t.losses = t.losses[:n]
	copy(t.losses, rows.Data)
	if t.weights != nil {
		rows = grad.Mul(tape, rows, tape.Input(tensor.Tensor{Shape: tensor.Of(n), Data: t.weights}))
	}
	return grad.Scale(tape, grad.Sum(tape, rows), 1/float32(n)), t.losses, nil
}

// losses are the cross-entropies of images. x: [N, H, W, C], or longer; result:
// [N].
func losses(tape *grad.Tape, m Model, d *Dataset, x []float32, labels []int32) *grad.Var {
	return grad.CrossEntropyRows(tape, logits(tape, m, d, x, len(labels)), labels)
}

func logits(tape *grad.Tape, m Model, d *Dataset, x []float32, n int) *grad.Var {
	s := tensor.Of(n, d.Train.H, d.Train.W, d.Train.C)
	return m.Logits(tape, tape.Input(tensor.Tensor{Shape: s, Data: x[:s.Len()]}))
}

// EpochItems is the number of training images.
func (t *Task) EpochItems() int64 { return int64(t.Data.Train.Len()) }

// Epochs is how far the sampler has come: its epochs may leave images out.
func (t *Task) Epochs() float64 { return t.Stream.Epochs() }

// position is what a checkpoint keeps beside weights and buffers.
type position struct {
	Stream   json.RawMessage `json:"stream"`
	Accuracy float64         `json:"accuracy"`
}

// Position is the place in the data.
func (t *Task) Position() (json.RawMessage, error) {
	s, err := t.Stream.Position()
	if err != nil {
		return nil, err
	}
	return json.Marshal(position{s, t.accuracy})
}

// Seek goes to a place in the data.
func (t *Task) Seek(p json.RawMessage) error {
	var at position
	if err := json.Unmarshal(p, &at); err != nil {
		return fmt.Errorf("the position in the data: %w", err)
	}
	t.accuracy = at.Accuracy
	return t.Stream.Seek(at.Stream)
}

// Score is how good a model is on some images.
type Score struct {
	Loss     float64 // mean cross-entropy, in nats
	Accuracy float64 // share of images whose class has the highest score
}

// Evaluate computes a model's score over images, so many at a time. mean and
// std are those of the model's training data.
func Evaluate(tape *grad.Tape, m Model, d *Dataset, images *Images, batch int) Score {
	batch = min(batch, images.Len())
	x := tape.Arena.Dirty(memory.Data, batch*images.Size())
	defer tape.Arena.Free(memory.Data, x)
	ids, labels := make([]int32, batch), make([]int32, batch)
	var sum float64
	right := 0
	for lo := 0; lo < images.Len(); lo += batch {
		n := min(batch, images.Len()-lo)
		for i := range n {
			ids[i] = int32(lo + i)
		}
		gather(x[:n*images.Size()], labels[:n], images, ids[:n], d.Mean, d.Std)
		tape.NoGrad(func() {
			scores := logits(tape, m, d, x, n)
			for _, l := range grad.CrossEntropyRows(tape, scores, labels[:n]).Data {
				sum += float64(l)
			}
			for i, l := range labels[:n] {
				row := scores.Data[i*scores.Cols() : (i+1)*scores.Cols()]
				if row[l] == simd.Max(row) && first(row, row[l]) == int(l) {
					right++
				}
			}
		})
		tape.Reset()
	}
	n := float64(images.Len())
	return Score{sum / n, float64(right) / n}
}

// first is the place of the first value equal to v.
func first(row []float32, v float32) int {
	for i, x := range row {
		if x == v {
			return i
		}
	}
	return -1
}
