package loop

import (
	"fmt"
	"math"

	"hasten/engine/simd"
)

// Diverged is the error of a run whose loss, gradient or weights are no longer
// numbers. No checkpoint of such a state is written: the last one is good.
type Diverged struct {
	Step  int     // the step that could not be taken, or after which it showed; from 1
	What  string  // "loss", "gradient", "validation loss" or "weight"
	Param string  // a parameter: with the first bad gradient or weight, or else with the largest weight
	Max   float64 // that largest weight, where all weights are finite
	LR    float64 // of the step
}

func (d *Diverged) Error() string {
	where := ""
	switch {
	case d.What == "gradient" || d.What == "weight":
		where = " of " + d.Param
	case d.Max > 0:
		where = fmt.Sprintf(" (the largest weight is %.3g, in %s)", d.Max, d.Param)
	case d.Param != "":
		where = fmt.Sprintf(" (nor are the weights of %s)", d.Param)
	}
	return fmt.Sprintf("step %d: the %s%s is not a finite number; "+
		"go on from the last checkpoint, or begin anew, with a lower learning rate (now %.3g), a longer warm-up, or a smaller clip",
		d.Step, d.What, where, d.LR)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// lossDiverged says what can be said of a loss that is no number: whether the
// weights still are, and which of them is the largest.
func (l *Loop) lossDiverged(what string, step int) error {
	d := &Diverged{Step: step, What: what, LR: l.State.LR}
	for _, p := range l.Task.Params() {
		most := float64(simd.AbsMax(p.Data))
		if !finite(most) {
			d.Param, d.Max = p.Name, 0
			break
		}
		if most > d.Max {
			d.Param, d.Max = p.Name, most
		}
	}
	return d
}

// checkWeights makes sure that what is about to be saved can be gone on from.
func (l *Loop) checkWeights() error {
	for _, p := range l.Task.Params() {
		if !simd.Finite(p.Data) {
			return &Diverged{Step: l.State.Step, What: "weight", Param: p.Name, LR: l.State.LR}
		}
	}
	return nil
}
