// Package schedule says how the learning rate moves through a run: a Schedule
// gives, at each step, the factor on the optimiser's own rate.
package schedule

import (
	"math"

	"hasten/engine/part"
)

// Progress is how far a run has come when a step begins.
type Progress struct {
	Step int // steps already taken: 0 before the first
	// Done is the share of the budget that is used, in [0, 1]: of its steps or
	// of its training time, whichever is further. The last step of n begins at
	// (n-1)/n. With a budget of time it follows the clock, so that two runs do
	// not take quite the same rates; without steps and time it stays 0.
	Done float64
	// Epochs is how often the data has been gone through, with fractions: 1.5
	// in the middle of the second epoch. It stays 0 where the task does not tell
	// how long an epoch is.
	Epochs float64
}

// Schedule gives the factor on the learning rate.
type Schedule interface {
	// Factor is at least 0 and finite; it may be above 1 where the options say
	// so. It is a function of p alone, so that a resumed run goes on as it would
	// have.
	Factor(p Progress) float64
}

// ByEpochs is a schedule that may need Progress.Epochs: a run whose task cannot
// tell them then does not begin.
type ByEpochs interface {
	CountsEpochs() bool
}

// ByRangeTest is a schedule that may want bounds from a range test: until it has
// them, a run with it does not begin.
type ByRangeTest interface {
	WantsBounds() bool
	SetBounds(b Bounds, rate float64) // rate is the optimiser's own
}

// Parts are the schedules, the default first.
var Parts = part.Table[Schedule]{
	Seam: "schedule",
	Help: "learning rate over the run",
	Parts: []part.Part[Schedule]{
		{Name: "cosine", Help: "warm-up, then half a cosine down to a floor", New: func() Schedule { return &Cosine{Warmup: Warmup{50}, Floor: 0.1} }},
		{Name: "linear", Help: "warm-up, then a straight line down to a floor", New: func() Schedule { return &Linear{Warmup: Warmup{50}} }},
		{Name: "constant", Help: "warm-up, then the full rate", New: func() Schedule { return &Constant{Warmup: Warmup{50}} }},
		{Name: "clr", Paper: "clr", Help: "up and down in triangles between two bounds", New: func() Schedule { return NewCLR() }},
	},
}

// Warmup raises the rate linearly over the first steps.
type Warmup struct {
	Steps int `set:"warmup" range:"[0,inf)" help:"steps over which the rate rises to its full value"`
}

// Ramp is the factor of warm-up at a step: (step+1)/Steps, at most 1.
func (w Warmup) Ramp(step int) float64 {
	if step+1 >= w.Steps {
		return 1
	}
	return float64(step+1) / float64(w.Steps)
}

// Constant keeps the full rate after warm-up.
type Constant struct{ Warmup }

// Factor is the warm-up's.
func (s *Constant) Factor(p Progress) float64 { return s.Ramp(p.Step) }

// Cosine falls from 1 to Floor along half a cosine over the whole budget:
//
//	Floor + (1-Floor)·(1 + cos(π·done))/2
//
// Source: Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts.
type Cosine struct {
	Warmup
	Floor float64 `set:"floor" range:"[0,1]" help:"factor at the end of the run"`
}

// Factor is the warm-up's times the cosine's.
func (s *Cosine) Factor(p Progress) float64 {
	return s.Ramp(p.Step) * (s.Floor + (1-s.Floor)*0.5*(1+math.Cos(math.Pi*p.Done)))
}

// Linear falls from 1 to Floor along a straight line over the whole budget.
type Linear struct {
	Warmup
	Floor float64 `set:"floor" range:"[0,1]" help:"factor at the end of the run"`
}

// Factor is the warm-up's times the line's.
func (s *Linear) Factor(p Progress) float64 {
	return s.Ramp(p.Step) * (1 - (1-s.Floor)*p.Done)
}
