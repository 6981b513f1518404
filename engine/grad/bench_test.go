package grad_test

import (
	"testing"

	"hasten/engine/grad"
)

// benchmarkModel has 16 samples of 32 rows, and 2 million parameters.
func benchmarkModel() (*model, *grad.Tape) {
	m := newModelOf(4, 16*32, 128, 256, 1024)
	return m, grad.NewTape(m.arena)
}

// BenchmarkStep is an ordinary forward and backward pass: what the others cost
// is measured against it.
func BenchmarkStep(b *testing.B) {
	m, tp := benchmarkModel()
	for b.Loop() {
		m.step(tp)
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	m, tp := benchmarkModel()
	m.wrap = func(t *tape, x *val, s grad.Segment) *val { return t.Checkpoint(x, s) }
	for b.Loop() {
		m.step(tp)
	}
}

func BenchmarkHVP(b *testing.B) {
	m, tp := benchmarkModel()
	v := m.randoms(1)
	for b.Loop() {
		grad.HVP(tp, m.loss, m.params, v)
	}
}

func BenchmarkPerSample(b *testing.B) {
	for _, c := range []struct {
		name    string
		samples int
	}{{"16samples", 16}, {"512samples", 512}} {
		m, tp := benchmarkModel()
		squares, weights := make([]float64, c.samples), make([]float32, c.samples)
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				m.zeroGrads()
				p, err := tp.BackwardPerSample(m.loss(tp), c.samples)
				if err != nil {
					b.Fatal(err)
				}
				p.SquaredNorms(squares, m.params)
				p.AddWeighted(weights, m.params)
				tp.Reset()
			}
		})
	}
}
