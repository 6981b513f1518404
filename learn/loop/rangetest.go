package loop

import (
	"context"
	"errors"
	"math"

	"hasten/learn/schedule"
)

// RangeTest is a short run in which the learning rate rises steadily, to see
// between which rates training goes well (Smith, "Cyclical Learning Rates for
// Training Neural Networks", WACV 2017).
type RangeTest struct {
	Top    float64 // the last learning rate; the first is Top/Steps
	Steps  int     // a few epochs
	Points int     // of the curve; at most Steps
	// Score tells how good the model is, higher being better, such as its
	// accuracy on held-out data. Without it, the score is the loss of the batches
	// trained on since the last point, with the sign changed.
	Score func(s *State) (float64, error)
}

// Run trains l, a loop that was made for the test and is of no use after it,
// and returns what schedule.FindBounds reads. A run that diverges is no error:
// its score is no number from there on.
func (r RangeTest) Run(ctx context.Context, l *Loop) (schedule.Curve, error) {
	l.Schedule = &schedule.Ramp{Top: r.Top / l.Optimizer.Rate(), Steps: r.Steps}
	l.Budget = Budget{Steps: r.Steps}
	l.Evaluate, l.CheckpointEvery, l.CheckpointTime = nil, 0, 0

	var c schedule.Curve
	var loss float64
	since := 0 // steps since the last point
	l.On(AfterStep, func(s *State) error {
		loss += s.Loss
		since++
		if s.Step*r.Points/r.Steps == len(c.Rates) {
			return nil
		}
		score := -loss / float64(since)
		if r.Score != nil {
			var err error
			if score, err = r.Score(s); err != nil {
				return err
			}
		}
		loss, since = 0, 0
		c.Rates, c.Scores = append(c.Rates, s.LR), append(c.Scores, score)
		return nil
	})
	var diverged *Diverged
	if err := l.Run(ctx); err != nil && !errors.As(err, &diverged) {
		return c, err
	}
	if err := ctx.Err(); err != nil {
		return c, err
	}
	for len(c.Rates) < r.Points {
		step := (len(c.Rates) + 1) * r.Steps / r.Points
		c.Rates, c.Scores = append(c.Rates, r.Top*float64(step)/float64(r.Steps)), append(c.Scores, math.NaN())
	}
	return c, nil
}

// Search makes range tests until one shows the bounds: the first as r says, each
// other twice as long, and rising twice as high, as the one before. fresh makes
// the loop of a test, and may set its Score. It returns the last curve too, and
// how many steps all tests took.
func (r RangeTest) Search(ctx context.Context, tests int, fresh func(r *RangeTest) (*Loop, error)) (b schedule.Bounds, c schedule.Curve, steps int, err error) {
	for range tests {
		var l *Loop
		if l, err = fresh(&r); err != nil {
			return b, c, steps, err
		}
		if c, err = r.Run(ctx, l); err != nil {
			return b, c, steps, err
		}
		steps += r.Steps
		if b, err = schedule.FindBounds(c); err == nil {
			return b, c, steps, nil
		}
		r.Top, r.Steps = 2*r.Top, 2*r.Steps
	}
	return b, c, steps, err
}
