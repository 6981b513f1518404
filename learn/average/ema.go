package average

import (
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
	"hasten/learn/loop"
	"hasten/learn/optim"
)

// EMA is the exponential mean of the weights over the steps,
//
//	E ← αE + (1-α)θ
//
// with α rising to Decay as (1+t)/(10+t) over the first steps t = 0, 1, …, so
// that the beginning of the run is soon forgotten.
type EMA struct {
	Decay float64 `set:"decay" range:"[0,1)" help:"share of the old mean that a step leaves, α"`

	params []*grad.Param
	mean   [][]float32
	count  []float32 // steps seen
	state  []optim.Buffer
}

var _ Average = (*EMA)(nil)

// NewEMA returns the mean over about a thousand steps.
func NewEMA() *EMA { return &EMA{Decay: 0.999} }

// Init takes one copy of the parameters.
func (w *EMA) Init(a *memory.Arena, params []*grad.Param) error {
	w.params = params
	w.count = make([]float32, 1)
	w.state = []optim.Buffer{{Name: "ema.count", Data: w.count}}
	for _, p := range params {
		x := a.Floats(memory.Weights, p.Len())
		w.mean = append(w.mean, x)
		w.state = append(w.state, optim.Buffer{Name: "ema." + p.Name, Data: x})
	}
	return nil
}

// State is the mean and the number of steps.
func (w *EMA) State() []optim.Buffer { return w.state }

type emaArgs struct {
	mean, data []float32
	keep       float32
}

var emaLoop par.Loop[emaArgs]

// grain is the number of weights in a piece of work.
const grain = 16384

// Observe takes in the weights of the step.
func (w *EMA) Observe(*loop.State) {
	t := float64(w.count[0])
	keep := min(w.Decay, (1+t)/(10+t))
	for i, p := range w.params {
		if t == 0 {
			copy(w.mean[i], p.Data)
			continue
		}
		emaLoop.Run(par.Pieces(p.Len(), grain), emaArgs{w.mean[i], p.Data, float32(keep)}, func(a *emaArgs, i int) {
			lo, hi := par.Bounds(i, grain, len(a.mean))
			simd.Lerp(a.mean[lo:hi], a.data[lo:hi], a.keep)
		})
	}
	if w.count[0] < 1<<24 { // beyond it float32 counts no further, and the warm-up is long over
		w.count[0]++
	}
}

// Ready tells whether a step was seen.
func (w *EMA) Ready() bool { return w.count[0] > 0 }

// Mean is E.
func (w *EMA) Mean(param int, dst []float32) { copy(dst, w.mean[param]) }
