package data

import (
	"context"
	"math"
	"time"

	"hasten/engine/conv"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/learn/optim"
)

// charCNN is a convolutional network over the characters of a text, the usual
// deep baseline for short texts: embeddings of bytes, two convolutions with a
// pooling between them, the maximum over all positions, and a linear layer.
//
//	bytes [B, T] → [B, T, 16] → conv 5, ReLU → [B, T, 64] → max 2 → conv 5, ReLU → [B, T/2, 128] → max → labels
//
// It is trained by AdamW with a linearly falling rate, in batches of 64.
type charCNN struct {
	arena  *memory.Arena
	tape   *grad.Tape
	params []*grad.Param
	labels int

	conv1, conv2 conv.Conv
	pool1, pool2 conv.Pool
	ids, targets []int32
}

const (
	charLength = 64 // bytes of a text that are looked at: nine of ten have no more
	charBatch  = 64
)

func newCharCNN(labels int, seed uint64) *charCNN {
	n := &charCNN{arena: new(memory.Arena), labels: labels}
	n.tape = grad.NewTape(n.arena)
	add := func(name string, std float64, dims ...int) {
		p := grad.NewParam(n.arena, name, dims...)
		s := rng.New(seed, uint64(len(n.params)))
		s.FillNormal(p.Data, 0, std)
		n.params = append(n.params, p)
	}
	he := func(in int) float64 { return math.Sqrt(2 / float64(in)) }
	add("embedding", 0.5, 256, 16)
	add("conv1.weight", he(5*16), 64, 5, 16)
	add("conv1.bias", 0, 64)
	add("conv2.weight", he(5*64), 128, 5, 64)
	add("conv2.bias", 0, 128)
	add("head.weight", 1/math.Sqrt(128), labels, 128)
	add("head.bias", 0, labels)
	half := charLength / 2
	n.conv1.W, n.conv2.W = conv.Same(charLength, 5, 1, 1), conv.Same(half, 5, 1, 1)
	n.pool1.W, n.pool2.W = conv.Axis{Size: charLength, Kernel: 2, Stride: 2}, conv.Whole(half)
	n.ids, n.targets = make([]int32, charBatch*charLength), make([]int32, charBatch)
	return n
}

// logits computes the logits of a batch of texts; zero bytes follow short ones.
func (n *charCNN) logits(texts []*labelled) *grad.Var {
	t := n.tape
	ids := n.ids[:len(texts)*charLength]
	clear(ids)
	for i, x := range texts {
		for j := range min(len(x.text), charLength) {
			ids[i*charLength+j] = int32(x.text[j])
		}
	}
	v := func(i int) *grad.Var { return n.params[i].Var }
	x := grad.Reshape(t, grad.Embedding(t, v(0), ids), len(texts), charLength, 16)
	x = grad.ReLU(t, grad.Conv(t, x, v(1), v(2), &n.conv1))
	x = grad.MaxPool(t, x, &n.pool1)
	x = grad.ReLU(t, grad.Conv(t, x, v(3), v(4), &n.conv2))
	x = grad.MaxPool(t, x, &n.pool2)
	return grad.Linear(t, grad.Reshape(t, x, len(texts), 128), v(5), v(6))
}

// train goes through the texts in a new order each epoch, and returns the
// seconds it took.
func (n *charCNN) train(ctx context.Context, texts []labelled, epochs int, lr float64, seed uint64) (float64, error) {
	begin := time.Now()
	o := optim.NewAdamW()
	if err := o.Init(n.arena, n.params); err != nil {
		return 0, err
	}
	order := rng.New(seed, 100)
	batch := make([]*labelled, charBatch)
	steps := epochs * (len(texts) / charBatch)
	step := 0
	for range epochs {
		shuffled := order.Permutation(len(texts))
		for at := 0; at+charBatch <= len(shuffled); at += charBatch {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			for i := range batch {
				batch[i] = &texts[shuffled[at+i]]
				n.targets[i] = int32(batch[i].label)
			}
			loss := grad.CrossEntropy(n.tape, n.logits(batch), n.targets)
			for _, p := range n.params {
				p.ZeroGrad()
			}
			n.tape.Backward(loss)
			n.tape.Reset()
			step++
			o.Step(optim.Step{N: step, LR: lr * (1 - float64(step-1)/float64(steps)), GradScale: 1})
		}
	}
	return time.Since(begin).Seconds(), nil
}

// accuracy is the percentage of texts whose label has the largest logit.
func (n *charCNN) accuracy(texts []labelled) float64 {
	right := 0
	batch := make([]*labelled, 0, charBatch)
	n.tape.NoGrad(func() {
		for i := range texts {
			batch = append(batch, &texts[i])
			if len(batch) < charBatch && i < len(texts)-1 {
				continue
			}
			z := n.logits(batch)
			for j, x := range batch {
				best := 0
				row := z.Data[j*n.labels:][:n.labels]
				for l := range row {
					if row[l] > row[best] {
						best = l
					}
				}
				if best == x.label {
					right++
				}
			}
			n.tape.Reset()
			batch = batch[:0]
		}
	})
	return 100 * float64(right) / float64(len(texts))
}
