package grad

import (
	"testing"

	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

// TestForgettingChangesNothingButMemory trains a step of a small net with and
// without forgetting, and compares gradients to the bit.
func TestForgettingChangesNothingButMemory(t *testing.T) {
	const rows, cols, hidden = 64, 24, 40
	run := func(forget bool) (grads [][]float32, peak int64) {
		a := new(memory.Arena)
		gain, bias := NewParam(a, "gain", cols), NewParam(a, "bias", cols)
		up, down := NewParam(a, "up", 2*hidden, cols), NewParam(a, "down", cols, hidden)
		s := rng.New(1, 0)
		params := []*Param{gain, bias, up, down}
		for _, p := range params {
			s.FillNormal(p.Data, 0.5, 0.5)
		}
		x := tensor.New(rows, cols)
		s.FillNormal(x.Data, 0, 1)
		tape := NewTape(a)
		for range 2 { // the second pass uses nodes and values again
			for _, p := range params {
				p.ZeroGrad()
			}
			a.ResetPeak()
			h := Const(x)
			for range 3 {
				n := LayerNorm(tape, h, gain.Var, bias.Var, 1e-5)
				m := RMSNorm(tape, n, gain.Var, 1e-5) // made from what is forgotten too
				u := Linear(tape, m, up.Var, nil)
				g := SwiGLU(tape, GELUTanh(tape, u))
				h = LinearAdd(tape, g, down.Var, nil, h)
				if forget {
					tape.Forget(n)
					tape.Forget(m)
					tape.Forget(g)
					tape.Forget(u) // a product has no Again: it stays
				}
			}
			tape.Backward(Mean(tape, Square(tape, h)))
			tape.Reset()
		}
		for _, p := range params {
			grads = append(grads, p.Grad)
		}
		if live := a.Usage().Live[memory.Activations]; live != 0 {
			t.Errorf("forget %v: %d bytes of activations are left", forget, live)
		}
		return grads, a.Usage().Peak[memory.Activations]
	}
	plain, most := run(false)
	forgot, peak := run(true)
	for i := range plain {
		for j := range plain[i] {
			if plain[i][j] != forgot[i][j] {
				t.Fatalf("gradient %d differs at %d: %g, %g", i, j, plain[i][j], forgot[i][j])
			}
		}
	}
	if peak >= most {
		t.Errorf("forgetting took %d bytes, keeping %d", peak, most)
	}
}

func TestForgettingWithoutGradients(t *testing.T) {
	a := new(memory.Arena)
	tape := NewTape(a)
	tape.NoGrad(func() {
		x := tape.New(tensor.Of(4, 8))
		y := SiLU(tape, x)
		live := a.Usage().LiveTotal
		tape.Forget(y)
		if got := a.Usage().LiveTotal; got >= live {
			t.Errorf("%d bytes live after forgetting, %d before", got, live)
		}
	})
	tape.Reset()
	if live := a.Usage().LiveTotal; live != 0 {
		t.Errorf("%d bytes are left", live)
	}
}
