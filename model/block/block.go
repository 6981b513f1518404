// Package block defines the two seams of a transformer block: the mixer, where
// tokens meet (attention, recurrences, state spaces), and the ffn, which each
// token passes by itself (dense, experts, structured maps).
//
//	x = Mixer.Forward(norm1(x)) + x
//	x = FFN.Forward(norm2(x)) + x
//
// A part of a seam is a struct of options, a MixerPart or an FFNPart. A model
// asks it once for each of its blocks for the layer there, and gives it the
// Site: the shape of the model, and the way to make named parameters. The tables
// of parts are those of package net.
package block

import (
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/model/attention"
)

// MixerPart is a part of the seam "mixer". Its exported fields are its options,
// see package part; a model's file says no more of it than these.
type MixerPart interface {
	// NewMixer makes the layer of one block. The error says which options do
	// not go with the shape of the model.
	NewMixer(s *Site) (Mixer, error)
}

// FFNPart is a part of the seam "ffn", like MixerPart.
type FFNPart interface {
	// NewFFN makes the layer of one block.
	NewFFN(s *Site) (FFN, error)
}

// Mixer lets the tokens of a sequence see those before them.
type Mixer interface {
	// Forward computes mix(x) + residual. x: [B·Length, Dim], normalised, which
	// nobody else reads: the layer calls Forget on it after its last use.
	// residual and result: like x.
	Forward(t *grad.Tape, x, residual *grad.Var, s Segments) *grad.Var

	// NewState returns the state of a sequence of which nothing was seen yet.
	NewState(a *memory.Arena) State

	// Step computes Forward for the tokens that follow those a state has seen,
	// and lets the state see them. x: [tokens, Dim]. Nothing is recorded. The
	// mask is causal.
	Step(t *grad.Tape, x, residual *grad.Var, s State) *grad.Var

	// MACs is the number of multiply-adds of the matrix products that a token
	// takes forward, on average over a sequence of the given length. Causal
	// attention counts the visible half.
	MACs(length int) float64
}

// FFN computes each token by itself.
type FFN interface {
	// Forward computes f(x) + residual. x: [tokens, Dim], normalised, which
	// nobody else reads: the layer calls Forget on it after its last use.
	// residual and result: like x.
	Forward(t *grad.Tape, x, residual *grad.Var) *grad.Var

	// MACs is the number of multiply-adds of the matrix products that a token
	// takes forward.
	MACs() float64
}

// Segments says what belongs together in a forward pass.
type Segments struct {
	Length int            // tokens of a sequence; sequences follow one another
	Mask   attention.Mask // what sees what within a sequence; never nil
}

// State is what a mixer remembers of one sequence while it is decoded.
type State interface {
	Bytes() int64 // of memory
	Reset()       // forgets all that was seen
	Close()       // gives back the memory; the state must not be used any more
}
