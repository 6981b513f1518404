package matmul

import "hasten/engine/simd"

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
	case ReLU:
		simd.ReLU(x, x)
	case SiLU:
		simd.SiLU(x, x)
	case GELUTanh:
		simd.GELUTanh(x, x)
	case GELUErf:
		simd.GELUErf(x, x)
	}
}
