package run

import (
	"context"
	"errors"
	"fmt"

	"hasten/engine/part"
	"hasten/learn/loop"
	"hasten/learn/schedule"
	"hasten/task/recipe"
)

// The range test of a run has so many steps at least, or a tenth of the run's,
// and rises to so many times its learning rate; three further tests, each twice
// as long and as high, may follow where it does not show the bounds.
const (
	rangeSteps  = 100
	rangeTop    = 5
	rangePoints = 40
	rangeTests  = 4
)

// FindBounds makes the range test that a schedule asks for, on a job of its own,
// before a new run: then the schedule has its bounds, and the recipe says so
// instead of asking. fresh makes a job of a recipe.
func FindBounds(ctx context.Context, s schedule.Schedule, rate float64, r *recipe.Recipe, note func(string), fresh func(r *recipe.Recipe) (Job, error)) (err error) {
	a, ok := s.(schedule.ByRangeTest)
	if !ok || !a.WantsBounds() {
		return nil
	}
	note("range test: looking for the learning rates between which training goes well")
	plain := r.Clone()
	if err := plain.Set("schedule=constant", "checkpoint.time=0s", "checkpoint.every=0"); err != nil {
		return err
	}
	var jobs []Job
	defer func() {
		for _, j := range jobs {
			err = errors.Join(err, j.Close())
		}
	}()
	t := loop.RangeTest{Top: rangeTop * rate, Steps: rangeSteps, Points: rangePoints}
	b, _, steps, err := t.Search(ctx, rangeTests, func(t *loop.RangeTest) (*loop.Loop, error) {
		j, err := fresh(plain)
		if err != nil {
			return nil, err
		}
		l := j.Plan().Loop
		if len(jobs) == 0 {
			t.Steps = max(t.Steps, l.Budget.Steps/10)
		}
		jobs = append(jobs, j)
		return l, nil
	})
	if err != nil {
		return fmt.Errorf("%w; give the bounds with schedule.lo and schedule.hi instead of schedule.auto", err)
	}
	a.SetBounds(b, rate)
	r.Replace("schedule", r.Get("schedule"), part.Values(s))
	note(fmt.Sprintf("range test: from %.3g to %.3g, after %d steps", b.Lo, b.Hi, steps))
	return nil
}
