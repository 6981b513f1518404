// Package optim moves the weights: given gradients, an Optimizer updates every
// parameter of a model in one pass over memory.
//
// An optimiser is a struct whose exported fields are its options. A new one is
// one file with its formula and its code, one row in Parts, and a plain twin in
// float64 in package ref; the shared tests then run over it too.
package optim

import (
	"math"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/part"
	"hasten/engine/simd"
)

// Step is what an optimiser is told about the step it takes.
type Step struct {
	N         int     // 1 for the first step of the run
	LR        float64 // learning rate of this step, after the schedule
	GradScale float64 // factor on every gradient: below 1 when clipping
}

// Optimizer updates parameters from their gradients.
type Optimizer interface {
	// Rate is the optimiser's learning rate before the schedule.
	Rate() float64
	// Init takes state buffers of kind memory.Optimizer for the parameters.
	// It is called once, before the first step.
	Init(a *memory.Arena, params []*grad.Param) error
	// Step updates the parameters given to Init from their Grad; one that no
	// backward pass has reached since ZeroGrad has the gradient 0. It allocates
	// nothing, and its results are the same for any number of threads.
	Step(s Step)
	// State lists the buffers that a checkpoint must keep for the run to go on
	// exactly as it would have; they are restored by writing into them.
	State() []Buffer
}

// Buffer is a named piece of optimiser state.
type Buffer struct {
	Name string // such as "m.blocks.0.attn.out.weight"
	Data []float32
}

// Parts are the optimisers, the default first.
var Parts = part.Table[Optimizer]{
	Seam: "optim",
	Help: "optimiser: how gradients move the weights",
	Parts: []part.Part[Optimizer]{
		{Name: "adamw", Help: "Adam with decoupled weight decay", New: func() Optimizer { return NewAdamW() }},
		{Name: "adan", Paper: "adan", Help: "adaptive Nesterov momentum, from the change of the gradient", New: func() Optimizer { return NewAdan() }},
		{Name: "sgd", Help: "stochastic gradient descent with momentum", New: func() Optimizer { return NewSGD() }},
	},
}

// settle makes every gradient readable, for the start of a step.
func settle(params []*grad.Param) {
	for _, p := range params {
		p.SettleGrad()
	}
}

// chunk is a range of one parameter: the unit of work of an update.
type chunk struct{ param, lo, hi int }

// chunkSize is the number of floats in a chunk: with four arrays in use it
// still fits in a core's own cache.
const chunkSize = 16384

// chunks cuts parameters into ranges.
func chunks(params []*grad.Param) []chunk {
	var all []chunk
	for i, p := range params {
		for lo := 0; lo < p.Len(); lo += chunkSize {
			all = append(all, chunk{i, lo, min(lo+chunkSize, p.Len())})
		}
	}
	return all
}

// like returns one zeroed buffer of kind memory.Optimizer for each parameter,
// and their State entries under the given prefix.
func like(a *memory.Arena, params []*grad.Param, prefix string) (data [][]float32, state []Buffer) {
	for _, p := range params {
		x := a.Floats(memory.Optimizer, p.Len())
		data = append(data, x)
		state = append(state, Buffer{prefix + "." + p.Name, x})
	}
	return data, state
}

// Norms measures the gradients of a set of parameters; it keeps its workspace
// between calls.
type Norms struct {
	params []*grad.Param
	chunks []chunk
	sums   []float64
}

// NewNorms prepares to measure the gradients of params.
func NewNorms(params []*grad.Param) *Norms {
	c := chunks(params)
	return &Norms{params, c, make([]float64, len(c))}
}

var normLoop par.Loop[*Norms]

// Global is the Euclidean norm of all gradients taken as one vector.
func (n *Norms) Global() float64 {
	settle(n.params)
	normLoop.Run(len(n.chunks), n, func(n **Norms, i int) {
		c := (*n).chunks[i]
		(*n).sums[i] = simd.SumSq((*n).params[c.param].Grad[c.lo:c.hi])
	})
	var sum float64
	for _, s := range n.sums {
		sum += s
	}
	return math.Sqrt(sum)
}

// FirstBad names the first parameter whose gradient holds a NaN or an
// infinity, or "" if there is none.
func (n *Norms) FirstBad() string {
	for _, p := range n.params {
		if !simd.Finite(p.Grad) {
			return p.Name
		}
	}
	return ""
}
