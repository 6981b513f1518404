package lm

import (
	"context"
	"math"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/learn/loop"
)

// TestInfoBatch trains for some epochs on few windows: the first sees all, the
// ones after it fewer, with weights, and those after delta all again. Each
// window that is chosen is the one of its number.
func TestInfoBatch(t *testing.T) {
	tokens := someTokens(16*40+1, 40)
	from, _ := newModel(t, "llama", 40)
	j, err := NewJob(settings(t, write(t, "ids.bin", u16(tokens)), "from="+from, "data.format=u16", "sampler=infobatch", "sampler.delta=0.8", "batch=8", "steps=60"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	task := j.Loop.Task.(*Task)
	windows, heavy := map[int]int{}, map[int]int{}
	j.Loop.On(loop.AfterLoss, func(s *loop.State) error {
		c := j.feed.(*chosen)
		var mean float64
		for r, at := range c.batch.Starts {
			if at%16 != 0 || task.batch.Tokens[r*16] != tokens[at] || task.batch.Targets[r*16+15] != tokens[at+16] {
				t.Fatalf("row %d is not the window at %d", r, at)
			}
			w := task.batch.Weights[r]
			if w != 1 && w != 2 {
				t.Fatalf("a window of weight %v", w)
			}
			if w == 2 {
				heavy[s.Epoch]++
			}
			mean += float64(w) * float64(s.PerSample[r]) / float64(len(c.batch.Starts))
		}
		windows[s.Epoch] += len(c.batch.Starts)
		if math.Abs(mean-s.BatchLoss) > 1e-5 {
			t.Fatalf("the loss is %v, want %v", s.BatchLoss, mean)
		}
		return nil
	})
	if err := j.Loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	last := j.Loop.State.Epoch
	if windows[1] != 40 || heavy[1] != 0 || windows[2] >= 40 || heavy[2] < 39-windows[2] || heavy[2] > 41-windows[2] || windows[last-1] != 40 || heavy[last-1] != 0 {
		t.Errorf("epochs of %v windows, of which %v have a weight", windows, heavy)
	}
}

// TestWeights holds the gradient of a weighted batch against the weighted sum
// of those of its sequences.
func TestWeights(t *testing.T) {
	from, _ := newModel(t, "gpt2", 40)
	m, err := Open(new(memory.Arena), from)
	if err != nil {
		t.Fatal(err)
	}
	tokens := someTokens(49, 40)
	gradient := func(b Batch) (all []float64) {
		for _, p := range m.Params() {
			p.ZeroGrad()
		}
		tape := grad.NewTape(new(memory.Arena))
		task := &Task{Model: m.GPT, batch: b}
		mean, _, err := task.Loss(tape)
		if err != nil {
			t.Fatal(err)
		}
		tape.Backward(mean)
		for _, p := range m.Params() {
			for _, g := range p.Grad {
				all = append(all, float64(g))
			}
		}
		return all
	}
	weights := []float32{2, 0.5, 1}
	got := gradient(Batch{Tokens: tokens[:48], Targets: tokens[1:], T: 16, Weights: weights})
	want := make([]float64, len(got))
	for i, w := range weights {
		for k, g := range gradient(Batch{Tokens: tokens[i*16 : (i+1)*16], Targets: tokens[i*16+1 : i*16+17], T: 16}) {
			want[k] += float64(w) * g / 3
		}
	}
	for k := range want {
		if math.Abs(got[k]-want[k]) > 1e-5 {
			t.Fatalf("gradient %d is %v, want %v", k, got[k], want[k])
		}
	}
}
