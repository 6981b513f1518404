package schedule_test

import (
	"fmt"
	"math"
	"testing"

	"hasten/engine/rng"
	"hasten/learn/schedule"
)

// TestCLRTable compares with values worked out by hand, in quarters of a cycle,
// between 0.2 and 1 and with a half-cycle of 8 steps; and for lengths that do
// not come out even.
func TestCLRTable(t *testing.T) {
	const gamma = 0.99
	at := func(policy string, half float64, step int) float64 {
		s := &schedule.CLR{Policy: policy, Half: half, Unit: "steps", Lo: 0.2, Hi: 1, Gamma: gamma}
		return s.Factor(schedule.Progress{Step: step})
	}
	triangle := []float64{0, 0.5, 1, 0.5} // heights at the quarters of a cycle
	for quarter := range 17 {
		cycle := quarter / 4
		h := triangle[quarter%4]
		step := 4 * quarter
		for policy, height := range map[string]float64{
			"triangular": h, "triangular2": h / float64(int(1)<<cycle), "exp_range": h * math.Pow(gamma, float64(step)),
		} {
			if got, want := at(policy, 8, step), 0.2+0.8*height; math.Abs(got-want) > 1e-12 {
				t.Errorf("%s, quarter %d: %v, want %v", policy, quarter, got, want)
			}
		}
	}
	for _, c := range []struct {
		policy string
		half   float64
		step   int
		height float64
	}{
		{"triangular", 7, 3, 3. / 7}, {"triangular", 7, 7, 1}, {"triangular", 7, 13, 1. / 7}, {"triangular", 7, 14, 0}, {"triangular", 7, 20, 6. / 7},
		{"triangular2", 7, 13, 1. / 7}, {"triangular2", 7, 15, 1. / 14}, {"triangular2", 7, 21, 0.5}, {"triangular2", 7, 35, 0.25},
		{"triangular", 1, 1, 1}, {"triangular", 1, 2, 0}, {"triangular", 2.5, 5, 0}, {"triangular", 2.5, 3, 0.8},
		{"exp_range", 7, 7, math.Pow(gamma, 7)}, {"exp_range", 7, 21, math.Pow(gamma, 21)},
	} {
		if got, want := at(c.policy, c.half, c.step), 0.2+0.8*c.height; math.Abs(got-want) > 1e-12 {
			t.Errorf("%s, half a cycle of %v, step %d: %v, want %v", c.policy, c.half, c.step, got, want)
		}
	}
}

// TestCLRUnits holds that half a cycle is the same in steps, in epochs, and as
// a share of the run.
func TestCLRUnits(t *testing.T) {
	steps := &schedule.CLR{Policy: "triangular2", Half: 50, Unit: "steps", Hi: 1}
	epochs := &schedule.CLR{Policy: "triangular2", Half: 2, Unit: "epochs", Hi: 1}
	share := &schedule.CLR{Policy: "triangular2", Hi: 1}
	if steps.CountsEpochs() || share.CountsEpochs() || !epochs.CountsEpochs() {
		t.Error("CountsEpochs")
	}
	for i := range 301 {
		p := schedule.Progress{Step: i, Epochs: float64(i) / 25, Done: float64(i) / 300}
		a, b, c := steps.Factor(p), epochs.Factor(p), share.Factor(p)
		if math.Abs(a-b) > 1e-12 || math.Abs(a-c) > 1e-12 {
			t.Fatalf("step %d: %v in steps, %v in epochs, %v by share", i, a, b, c)
		}
	}
}

// TestCLRBounds refuses bounds in disorder, and turns rates into factors.
func TestCLRBounds(t *testing.T) {
	if _, err := schedule.Parts.Build("clr", map[string]string{"lo": "2"}); err == nil {
		t.Error("lo=2 above hi=1 is taken")
	}
	s := schedule.NewCLR()
	s.Auto = true
	s.SetBounds(schedule.Bounds{Lo: 0.01, Hi: 0.08}, 0.04)
	if s.Lo != 0.25 || s.Hi != 2 || s.Auto {
		t.Errorf("%+v", s)
	}
}

// TestFindBounds draws curves with known bounds: flat, a climb to a plateau
// along a line or a saturating curve, and then a slow fall, a sudden one, or
// raggedness.
func TestFindBounds(t *testing.T) {
	const points, noise = 40, 0.005
	s := rng.New(1, 1)
	for i := range 20 {
		lo, hi := 3+i%7, 21+i*5%12
		climb, end := []string{"line", "saturating"}[i%2], []string{"falls", "drops", "ragged", "diverges"}[i%4]
		var c schedule.Curve
		for k := range points {
			score := 0.1
			if past := float64(k - lo); past > 0 && climb == "line" {
				score += min(0.6, 0.1*past)
			} else if past > 0 {
				score += 0.6 * (1 - math.Exp(-past/3))
			}
			if past := float64(k - hi); past > 0 {
				switch end {
				case "falls":
					score -= 0.03 * past
				case "drops":
					score = 0.1
				case "ragged":
					z := s.Normal() // every point is visibly off
					score += math.Copysign(6*noise, z) + 20*noise*z
				case "diverges":
					score = math.NaN()
				}
			}
			c.Rates = append(c.Rates, 0.05*float64(k+1))
			c.Scores = append(c.Scores, score+noise*s.Normal())
		}
		t.Run(fmt.Sprintf("%d %s %s", i, climb, end), func(t *testing.T) {
			b, err := schedule.FindBounds(c)
			if err != nil {
				t.Fatal(err)
			}
			const step = 0.05 + 1e-9
			if wanted := c.Rates[lo]; math.Abs(b.Lo-wanted) > step {
				t.Errorf("lower bound %v, want %v; %+v", b.Lo, wanted, b)
			}
			if wanted := c.Rates[hi]; math.Abs(b.Hi-wanted) > step {
				t.Errorf("upper bound %v, want %v; %+v", b.Hi, wanted, b)
			}
			if !(b.LoConfidence > 0.5 && b.LoConfidence <= 1 && b.HiConfidence > 0.5 && b.HiConfidence <= 1) {
				t.Errorf("confidence %+v", b)
			}
		})
	}
}

// TestFindBoundsNotSeen gives curves that do not show a bound.
func TestFindBoundsNotSeen(t *testing.T) {
	s := rng.New(2, 1)
	curve := func(n int, f func(k int) float64) (c schedule.Curve) {
		for k := range n {
			c.Rates = append(c.Rates, float64(k+1))
			c.Scores = append(c.Scores, f(k)+0.01*s.Normal())
		}
		return c
	}
	climbing := func(k int) float64 { return 1 - math.Exp(-float64(k)/8) }
	for name, c := range map[string]schedule.Curve{
		"too few points": curve(11, climbing),
		"no climb":       curve(40, func(int) float64 { return 0.5 }),
		"only a fall":    curve(40, func(k int) float64 { return -float64(k) }),
		"no turn":        curve(40, climbing),
		"no number":      curve(40, func(int) float64 { return math.NaN() }),
		"lengths":        {Rates: make([]float64, 40), Scores: make([]float64, 39)},
	} {
		if b, err := schedule.FindBounds(c); err == nil {
			t.Errorf("%s: %+v", name, b)
		}
	}
	for _, c := range []struct {
		name string
		f    func(k int) float64
		lo   float64
		sure bool
	}{
		{"a climb from the first point on", climbing, 1, true},
		{"good from the first point on", func(int) float64 { return 1 }, 31. / 4, false},
	} {
		b, err := schedule.FindBounds(curve(40, func(k int) float64 { return c.f(k) - max(0, 0.2*float64(k-30)) }))
		if err != nil || math.Abs(b.Lo-c.lo) > 1 || b.LoConfidence > 0 != c.sure || math.Abs(b.Hi-31) > 1 {
			t.Errorf("%s: %+v, %v", c.name, b, err)
		}
	}
}

// TestRamp rises evenly to its top.
func TestRamp(t *testing.T) {
	s := &schedule.Ramp{Top: 10, Steps: 4}
	for step, want := range []float64{2.5, 5, 7.5, 10, 10} {
		if got := s.Factor(schedule.Progress{Step: step}); got != want {
			t.Errorf("step %d: %v, want %v", step, got, want)
		}
	}
}
