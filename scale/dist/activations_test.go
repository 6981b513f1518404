package dist

import (
	"fmt"
	"slices"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

// Activations saved in parts give the gradients of whole ones, to the bit, and
// take their share of the memory.
func TestActivations(t *testing.T) {
	const layers, rows, width = 3, 8, 16
	pass := func(checkpoint func(*grad.Tape, *grad.Var, grad.Segment) *grad.Var) (gradients [][]float32, saved int64) {
		arena := new(memory.Arena)
		tape := grad.NewTape(arena)
		random := rng.New(1, 1)
		input := tensor.New(rows, width)
		random.FillNormal(input.Data, 0, 1)
		var params []*grad.Param
		for i := range layers + 1 {
			p := grad.NewParam(arena, fmt.Sprint(i), width, width)
			random.FillNormal(p.Data, 0, 0.3)
			params = append(params, p)
		}
		for range 2 { // the second pass finds what the first has left
			x := grad.Linear(tape, tape.Input(input), params[layers].Var, nil)
			before := arena.Usage().Live[memory.Activations] - 4*rows*width // of x, which is saved
			for _, p := range params[:layers] {
				x = checkpoint(tape, x, func(t *grad.Tape, x *grad.Var) *grad.Var {
					return grad.LinearAdd(t, grad.Tanh(t, x), p.Var, nil, x)
				})
			}
			saved = arena.Usage().Live[memory.Activations] - before - 4*rows*width // of the last x, which is not
			for _, p := range params {
				p.ZeroGrad()
			}
			tape.Backward(grad.Mean(tape, x))
			tape.Reset()
		}
		for _, p := range params {
			gradients = append(gradients, p.Grad)
		}
		if live := arena.Usage().Live[memory.Activations]; live != 0 {
			t.Errorf("%d bytes of activations are left", live)
		}
		return gradients, saved
	}
	want, all := pass((*grad.Tape).Checkpoint)
	for _, ranks := range []int{1, 2, 4} {
		err := Run(ranks, func(c *Comm) error {
			a := &Activations{Group: c}
			got, saved := pass(a.Checkpoint)
			for i := range want {
				if !slices.Equal(got[i], want[i]) {
					return fmt.Errorf("gradient %d is %v, want %v", i, got[i], want[i])
				}
			}
			if saved != all/int64(ranks) || all != layers*4*rows*width {
				return fmt.Errorf("%d bytes saved, of %d", saved, all)
			}
			return a.Err()
		})
		if err != nil {
			t.Errorf("%d ranks: %v", ranks, err)
		}
	}
}
