package matmul

import "math"

// Activation is applied to every element of a product before it is stored.
type Activation uint8

const (
	Identity Activation = iota
	ReLU                // max(x, 0)
	SiLU                // x / (1 + e⁻ˣ)
	GELUTanh            // x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))
	GELUErf             // x/2 · (1 + erf(x/√2))
)

// apply replaces x by act(x).
func (act Activation) apply(x []float32) {
	switch act {
	case Identity:
	case ReLU:
		for i, v := range x {
			x[i] = max(v, 0)
		}
	case SiLU:
		for i, v := range x {
			x[i] = float32(float64(v) / (1 + math.Exp(-float64(v))))
		}
	case GELUTanh:
		for i, v := range x {
			u := float64(v)
			x[i] = float32(u / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(u+0.044715*u*u*u))))
		}
	case GELUErf:
		for i, v := range x {
			u := float64(v)
			x[i] = float32(u / 2 * (1 + math.Erf(u/math.Sqrt2)))
		}
	}
}
