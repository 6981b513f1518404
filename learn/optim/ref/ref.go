// Package ref has every optimiser of package optim a second time, for tests and
// for the exact bars of experiments: in float64, with plain loops, written from
// the paper's formulas and not from the fast code.
//
//	twin, tensors := ref.AdamW(o), ref.Tensors(params)
//	o.Step(s)             // moves params
//	twin.Step(tensors, s) // moves their copies by the same gradients
//	ref.Difference(params, tensors)
package ref

import (
	"math"

	"hasten/engine/grad"
	"hasten/learn/optim"
)

// Tensor is a copy of a parameter.
type Tensor struct {
	Dims       []int
	Decay      bool
	Data, Grad []float64
}

// Optimizer is the twin of an optim.Optimizer. It keeps state for the tensors
// of its first step, and is given the same ones ever after.
type Optimizer interface {
	Step(tensors []Tensor, s optim.Step)
}

// Func is a twin given by its step.
type Func func(tensors []Tensor, s optim.Step)

// Step calls f.
func (f Func) Step(tensors []Tensor, s optim.Step) { f(tensors, s) }

// Tensors copies parameters; their gradients follow by Gradients.
func Tensors(params []*grad.Param) []Tensor {
	all := make([]Tensor, len(params))
	for i, p := range params {
		all[i] = Tensor{Dims: p.Dims(), Decay: p.Decay, Data: make([]float64, p.Len()), Grad: make([]float64, p.Len())}
		for j, x := range p.Data {
			all[i].Data[j] = float64(x)
		}
	}
	return all
}

// Gradients copies the gradients of the parameters to their copies.
func Gradients(tensors []Tensor, params []*grad.Param) {
	for i, p := range params {
		for j, g := range p.Grad {
			tensors[i].Grad[j] = float64(g)
		}
	}
}

// Difference is the largest distance of a weight from its copy.
func Difference(params []*grad.Param, tensors []Tensor) float64 {
	var most float64
	for i, p := range params {
		for j, x := range p.Data {
			d := math.Abs(float64(x) - tensors[i].Data[j])
			if !(d <= most) { // NaN counts
				most = d
			}
		}
	}
	return most
}

// zeros is one array of state for each tensor.
func zeros(tensors []Tensor) [][]float64 {
	all := make([][]float64, len(tensors))
	for i := range all {
		all[i] = make([]float64, len(tensors[i].Data))
	}
	return all
}
