// CLR: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.
//
//	c = ⌊1 + t/2s⌋        x = |t/s - 2c + 1|
//	η = lo + (hi - lo) · max(0, 1-x) · { 1         triangular
//	                                   { 1/2^(c-1) triangular2
//	                                   { γᵗ        exp_range
//
// c counts cycles from 1, t steps from 0, and s is half a cycle. A cycle begins
// and ends at lo, which is where a model is to be judged and a run to end.

package schedule

import (
	"fmt"
	"math"
)

// CLR moves the rate up and down between two bounds, which FindBounds reads off
// a range test. As every schedule it gives factors: Lo and Hi are the bounds as
// shares of the optimiser's own rate.
type CLR struct {
	Policy string  `set:"policy" choices:"triangular,triangular2,exp_range" help:"what becomes of the height: it stays, is halved after each cycle, or shrinks by gamma a step"`
	Half   float64 `set:"half" range:"[0,inf)" help:"length s of half a cycle, in units; 0: a sixth of the run, which then ends with its third cycle"`
	Unit   string  `set:"unit" choices:"epochs,steps" help:"what half counts"`
	Lo     float64 `set:"lo" range:"[0,inf)" help:"lower bound, as a factor on the optimiser's rate"`
	Hi     float64 `set:"hi" range:"[0,inf)" help:"upper bound, as a factor on the optimiser's rate"`
	Gamma  float64 `set:"gamma" range:"(0,1]" help:"what is left of the height after each step, for exp_range"`
	Auto   bool    `set:"auto" help:"find lo and hi by a range test before the run begins"`
}

var (
	_ ByEpochs    = (*CLR)(nil)
	_ ByRangeTest = (*CLR)(nil)
)

// NewCLR returns three cycles of triangular2 from a quarter of the optimiser's
// rate to all of it, the ratio the paper gives where no range test was made.
func NewCLR() *CLR {
	return &CLR{Policy: "triangular2", Unit: "epochs", Lo: 0.25, Hi: 1, Gamma: 0.99994}
}

// Validate holds that the bounds are in order.
func (s *CLR) Validate() error {
	if s.Lo > s.Hi {
		return fmt.Errorf("lo=%g: above hi=%g", s.Lo, s.Hi)
	}
	return nil
}

// CountsEpochs tells whether half a cycle is a number of epochs.
func (s *CLR) CountsEpochs() bool { return s.Half > 0 && s.Unit == "epochs" }

// WantsBounds tells whether a range test is called for.
func (s *CLR) WantsBounds() bool { return s.Auto }

// SetBounds takes the bounds that a range test found, for an optimiser of the
// given rate, and ends the call for one.
func (s *CLR) SetBounds(b Bounds, rate float64) {
	s.Lo, s.Hi, s.Auto = b.Lo/rate, b.Hi/rate, false
}

// Factor is the triangle's height at t.
func (s *CLR) Factor(p Progress) float64 {
	t := s.halves(p) // t/s of the formula
	c := math.Floor(1 + t/2)
	x := math.Abs(t - 2*c + 1)
	height := 1.0
	switch s.Policy {
	case "triangular2":
		height = math.Exp2(1 - c)
	case "exp_range":
		height = math.Pow(s.Gamma, float64(p.Step))
	}
	return s.Lo + (s.Hi-s.Lo)*max(0, 1-x)*height
}

// halves is the number of half-cycles gone by.
func (s *CLR) halves(p Progress) float64 {
	switch {
	case s.Half == 0:
		const cycles = 3
		return 2 * cycles * p.Done
	case s.Unit == "steps":
		return float64(p.Step) / s.Half
	}
	return p.Epochs / s.Half
}
