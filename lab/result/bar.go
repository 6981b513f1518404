package result

import (
	"fmt"
	"math"
)

// Bar is what a figure must reach.
type Bar struct {
	Of    Measure `json:"of"`
	Op    Op      `json:"op"`
	Bound float64 `json:"bound"`
}

// Measure is what of a figure a bar is held against.
type Measure string

// The measures. Those of two arms are medians over pairs: of the same seed, or
// of the same repetition.
const (
	OfValue      Measure = "value"      // the method's own
	OfRatio      Measure = "ratio"      // method / baseline
	OfSpeedup    Measure = "speedup"    // baseline / method
	OfDifference Measure = "difference" // method - baseline
)

// Op is a comparison.
type Op string

// The comparisons.
const (
	AtMost  Op = "<="
	AtLeast Op = ">="
	Equals  Op = "="
)

func (b *Bar) String() string {
	unit := ""
	switch b.Of {
	case OfRatio, OfSpeedup:
		unit = "×"
	case OfDifference:
		return fmt.Sprintf("%s %+.4g", sign[b.Op], b.Bound)
	}
	return fmt.Sprintf("%s %s%s", sign[b.Op], Number(b.Bound), unit)
}

var sign = map[Op]string{AtMost: "≤", AtLeast: "≥", Equals: "="}

// Settle computes a figure's ratio, value and verdict from its measurements.
func (f *Figure) Settle() {
	f.Ratio = 0
	if f.Baseline != nil {
		f.Ratio = Median(f.pairs(func(b, m float64) float64 { return m / b }))
	}
	if f.Bar == nil {
		f.Value, f.Verdict = f.Method.Median, ""
		return
	}
	even := math.NaN() // where method and baseline are equally good
	switch f.Bar.Of {
	case OfRatio:
		f.Value, even = f.Ratio, 1
	case OfSpeedup:
		f.Value, even = Median(f.pairs(func(b, m float64) float64 { return b / m })), 1
	case OfDifference:
		f.Value, even = Median(f.pairs(func(b, m float64) float64 { return m - b })), 0
	default:
		f.Value = f.Method.Median
	}
	switch {
	case f.Bar.reached(f.Value):
		f.Verdict = Holds
	case f.Kind != Exact && (f.Bar.Op == AtMost && f.Value < even || f.Bar.Op == AtLeast && f.Value > even):
		f.Verdict = Direction
	default:
		f.Verdict = No
	}
}

func (b *Bar) reached(x float64) bool {
	switch b.Op {
	case AtMost:
		return x <= b.Bound
	case AtLeast:
		return x >= b.Bound
	}
	return x == b.Bound
}

// pairs applies an operation to each pair of measurements, or to the medians
// where the arms were not measured equally often.
func (f *Figure) pairs(op func(baseline, method float64) float64) []float64 {
	if f.Baseline == nil {
		return nil
	}
	b, m := f.Baseline.Values, f.Method.Values
	if len(b) == 0 || len(b) != len(m) {
		return []float64{finite(op(f.Baseline.Median, f.Method.Median))}
	}
	all := make([]float64, len(b))
	for i := range b {
		all[i] = finite(op(b[i], m[i]))
	}
	return all
}
