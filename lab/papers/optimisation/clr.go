package optimisation

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"hasten/engine/rng"
	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/lab/result"
	"hasten/learn/loop"
	"hasten/learn/schedule"
)

// CLR is paper 189.
func (Papers) CLR() experiment.Paper {
	return experiment.Paper{
		Card: card.Card{
			Number: 189, Slug: "clr",
			Title: "Cyclical Learning Rates for Training Neural Networks",
			Stage: "schedule", Tasks: []string{"vision"},
			Summary: `
A fixed or falling learning rate has to be found by trial. Here the rate moves up and down in triangles
between two bounds instead, with a half-cycle of two to ten epochs; variants halve the height after each cycle
or shrink it exponentially. The bounds come from one short run in which the rate rises linearly: the lower is
where accuracy begins to climb, the upper where it turns ragged or falls. Nothing else is computed, so a step
costs the same. It should pay when there is no time to tune a schedule, with the model judged at the end of a
cycle, where the rate is low.`,
			Use: "--set schedule=clr --set schedule.policy=triangular2 --set schedule.half=2",
			Limits: `
Accuracy swings within a cycle, so training should stop at a cycle's end after at least three cycles. The
range test costs a few epochs and its reading is noisy on small data.`,
			Claims: []card.Claim{
				{What: "iterations to 81.4% accuracy on CIFAR-10, against a fixed policy", Figure: "25k instead of 70k", Ratio: 2.8},
				{What: "gains with AlexNet and GoogLeNet on ImageNet, against fixed rates", Figure: "not stated"},
			},
		},
		Code: []string{"learn/schedule/clr.go", "learn/schedule/rangetest.go", "learn/loop/rangetest.go"},
		Breaks: []experiment.Break{
			{ // the height is halved from the first cycle on
				File: "learn/schedule/clr.go", Old: "math.Exp2(1 - c)", New: "math.Exp2(-c)",
				Test: "./learn/schedule -run TestCLRTable",
			},
			{ // raggedness goes unseen
				File: "learn/schedule/rangetest.go", Old: "ragged := b.scatter > 3*a.scatter", New: "ragged := false",
				Test: "./learn/schedule -run TestFindBounds",
			},
		},
		Run: clr,
	}
}

func clr(r *experiment.Run) error {
	r.Exact("largest difference from the triangles drawn by hand, three policies, quarters of a cycle", clrTable(), experiment.AtMost(1e-12))
	found := func(curves int, seed uint64) (n float64) {
		for i := range curves {
			c, lo, hi := syntheticCurve(i, seed)
			if b, err := schedule.FindBounds(c); err == nil && near(b.Lo, lo) && near(b.Hi, hi) {
				n++
			}
		}
		return n
	}
	r.Exact("synthetic range tests read within one grid point, of 20", found(20, 1), experiment.Equals(20))
	r.Print("synthetic range tests read within one grid point, of 1000 others", "", nil, []float64{found(1000, 2)})

	images, epochs, testEpochs := 20_000, 20, 2
	if r.Quick {
		images, epochs, testEpochs = 4_000, 14, 4
	}
	f, err := openFashion(images)
	if err != nil {
		return err
	}
	if err := clrOnFashion(r, f, "mlp", epochs, testEpochs, r.Seeds, nil); err != nil || r.Quick {
		return err
	}
	small, err := openFashion(3_000)
	if err != nil {
		return err
	}
	return clrOnFashion(r, small, "conv", 14, 4, r.Seeds[:1], []string{"model=conv", "model.width=8", "batch=32"})
}

// clrTable draws three cycles quarter by quarter, for half-cycles of even and
// odd lengths, and compares.
func clrTable() float64 {
	most := 0.0
	for _, half := range []float64{8, 7, 13, 2.5} {
		for quarter := range 13 {
			t := float64(quarter) * half / 2
			if t != math.Floor(t) {
				continue // between two steps
			}
			height := []float64{0, 0.5, 1, 0.5}[quarter%4]
			for policy, share := range map[string]float64{
				"triangular": 1, "triangular2": []float64{1, 0.5, 0.25, 0.125}[quarter/4], "exp_range": math.Pow(0.99, t),
			} {
				s := &schedule.CLR{Policy: policy, Half: half, Unit: "steps", Lo: 0.001, Hi: 0.006, Gamma: 0.99}
				most = max(most, math.Abs(s.Factor(schedule.Progress{Step: int(t)})-(0.001+0.005*height*share)))
			}
		}
	}
	return most
}

// syntheticCurve is a range test with known bounds, 40 points 0.05 apart: flat,
// a climb, a plateau, and an end of one of four kinds.
func syntheticCurve(i int, seed uint64) (c schedule.Curve, lo, hi float64) {
	const points, grid, noise = 40, 0.05, 0.005
	s := rng.New(seed, uint64(i))
	from, to := 3+i%7, 21+i*5%12
	for k := range points {
		score := 0.1
		if past := float64(k - from); past > 0 && i%2 == 0 {
			score += min(0.6, 0.1*past)
		} else if past > 0 {
			score += 0.6 * (1 - math.Exp(-past/3))
		}
		if past := float64(k - to); past > 0 {
			switch i % 4 {
			case 0:
				score -= 0.03 * past // falls
			case 1:
				score = 0.1 // drops to chance
			case 2:
				z := s.Normal() // turns ragged: every point is visibly off
				score += math.Copysign(6*noise, z) + 20*noise*z
			case 3:
				score = math.NaN() // diverges
			}
		}
		c.Rates = append(c.Rates, grid*float64(k+1))
		c.Scores = append(c.Scores, score+noise*s.Normal())
	}
	return c, c.Rates[from], c.Rates[to]
}

// near tells whether rates are at most one point of the grid apart.
func near(a, b float64) bool { return math.Abs(a-b) <= 0.05+1e-9 }

// clrOnFashion compares three cycles between the bounds that a range test
// finds with the best of five fixed rates, under SGD with momentum. The range
// test is charged to the cycles; the fixed rates' search is not charged.
func clrOnFashion(r *experiment.Run, f *fashion, name string, epochs, testEpochs int, seeds []uint64, model []string) error {
	const half = 2 // epochs; a cycle is twice as long
	cycles := 3
	run := func(s schedule.Schedule, epochs int, lr float64, seed uint64, test bool) (history, error) {
		return f.runOn(r, s, test, slices.Concat(model, []string{"optim=sgd", set("epochs", epochs), set("optim.lr", lr), set("seed", seed)})...)
	}
	constant := &schedule.Constant{}
	at := ", " + name
	lr, err := r.Tune("fixed rate"+at, []float64{0.01, 0.03, 0.1, 0.3, 1}, func(lr float64) (float64, error) {
		h, err := run(constant, epochs, lr, tuningSeed, false)
		return 1 - h.mostAccurate().held.Accuracy, err
	})
	if err != nil {
		return err
	}
	bounds, charged, err := f.rangeTest(r, name, testEpochs, model)
	if errors.Is(err, schedule.ErrSteady) && name != "mlp" {
		r.Note("No cycles for this net: %v. Its range test was repeated with higher rates, as far as the time allows.", err)
		return nil
	}
	if err != nil {
		return err
	}
	r.Print("bounds found, lower and upper"+at, "", []float64{bounds.Lo}, []float64{bounds.Hi})
	r.Print("confidence in the bounds, lower and upper"+at, "", []float64{bounds.LoConfidence}, []float64{bounds.HiConfidence})

	between := func(factor float64) *schedule.CLR {
		s := schedule.NewCLR()
		s.Half = half
		s.SetBounds(bounds, 1/factor)
		return s
	}
	var fixed, cyclic, fixedAt, cyclicAt, halved, doubled, steps []float64
	for _, seed := range seeds {
		r.Progress("%s, seed %d", name, seed)
		h, err := run(constant, epochs, lr, seed, true)
		if err != nil {
			return err
		}
		h.curve(r, "fixed"+at, seed)
		best, epoch := h.mostAccurate(), slices.Index(h, h.mostAccurate())+1
		fixed, fixedAt = append(fixed, 100*best.test.Accuracy), append(fixedAt, float64(epoch))

		if h, err = run(between(1), 2*half*cycles, 1, seed, true); err != nil {
			return err
		}
		h.curve(r, "clr"+at, seed)
		reached := 2 * half * (cycles + 1) // one cycle more than there were
		for c := cycles; c >= 1; c-- {
			if end := 2 * half * c; len(h) >= end && h[end-1].test.Accuracy >= best.test.Accuracy {
				reached = end
			}
		}
		cyclicAt, cyclic = append(cyclicAt, float64(reached)+charged), append(cyclic, h.atEnd())

		for factor, accuracy := range map[float64]*[]float64{0.5: &halved, 2: &doubled} {
			if h, err = run(between(factor), 2*half*cycles, 1, seed, true); err != nil {
				return err
			}
			*accuracy = append(*accuracy, h.atEnd())
		}
		if h, err = run(stepDecay{}, 2*half*cycles, lr, seed, true); err != nil {
			return err
		}
		steps = append(steps, h.atEnd())
	}
	const what = "epochs to the best fixed rate's test accuracy at a cycle's end, range test included"
	if name == "mlp" {
		r.Outcome(what+at, "", fixedAt, cyclicAt, experiment.RatioAtMost(0.7))
	} else {
		r.Print(what+at, "", fixedAt, cyclicAt)
	}
	if result.Median(halved) > result.Median(cyclic) {
		r.Note("%s: half the bounds do better than those the range test found. A net bears a rate for the few steps of the test that harms it over a whole cycle; the test's upper bound is rather the edge of divergence here.", name)
	}
	r.Print("test accuracy, best fixed rate and three cycles"+at, "%", fixed, cyclic)
	r.Print("test accuracy after three cycles, bounds halved"+at, "%", cyclic, halved)
	r.Print("test accuracy after three cycles, bounds doubled"+at, "%", cyclic, doubled)
	r.Print(fmt.Sprintf("test accuracy of step decay in %d epochs%s", 2*half*cycles, at), "%", steps, cyclic)
	return nil
}

// rangeTest finds the bounds for SGD by tests of so many epochs and more, up to
// the rate 0.5 and more. It returns the epochs they took besides.
func (f *fashion) rangeTest(r *experiment.Run, name string, length int, model []string) (schedule.Bounds, float64, error) {
	r.Progress("%s: range test", name)
	perEpoch := 0.0 // steps
	fresh := func(t *loop.RangeTest) (*loop.Loop, error) {
		j, err := f.job(slices.Concat(model, []string{"optim=sgd", set("epochs", length), set("seed", tuningSeed)})...)
		if err != nil {
			return nil, err
		}
		if perEpoch == 0 {
			perEpoch = float64(f.train.Train.Len()) / float64(j.Batch)
			t.Steps = int(float64(length) * perEpoch)
		}
		score := f.scorer(j)
		t.Score = func(*loop.State) (float64, error) { return score.held().Accuracy, nil }
		return j.Loop, nil
	}
	b, c, steps, err := loop.RangeTest{Top: 0.5, Points: 40}.Search(r.Context, 4, fresh)
	if err != nil {
		return b, 0, fmt.Errorf("%s: %w", name, err)
	}
	r.Curve("range test, "+name, tuningSeed, "learning rate", "accuracy on held-out images", c.Rates, c.Scores)
	return b, float64(steps) / perEpoch, nil
}

// mostAccurate is the epoch with the highest accuracy on the images held out.
func (h history) mostAccurate() epochScore {
	var best epochScore
	for _, e := range h {
		if e.held.Accuracy > best.held.Accuracy {
			best = e
		}
	}
	return best
}

// atEnd is the test accuracy in the end, in percent; 0 if the run diverged.
func (h history) atEnd() float64 {
	if len(h) == 0 {
		return 0
	}
	return 100 * h[len(h)-1].test.Accuracy
}
