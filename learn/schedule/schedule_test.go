package schedule_test

import (
	"math"
	"testing"

	"hasten/learn/schedule"
)

// promises says of each part what its curve does with its default options.
var promises = map[string]struct {
	warmup int  // steps over which it rises
	cyclic bool // whether it rises again; else never after the warm-up
}{
	"cosine":   {warmup: 50},
	"linear":   {warmup: 50},
	"constant": {warmup: 50},
	"clr":      {cyclic: true},
}

// TestShared holds what every schedule promises, over budgets of several
// lengths: factors in [0, 1], a rise over the warm-up, never a rise after it
// unless it is cyclic, and the same answer to the same question, in whatever
// order it is asked.
func TestShared(t *testing.T) {
	for _, p := range schedule.Parts.Parts {
		t.Run(p.Name, func(t *testing.T) {
			promise, ok := promises[p.Name]
			if !ok {
				t.Fatal("it is not in the table of this test")
			}
			for _, steps := range []int{1, 2, 49, 50, 51, 1000} {
				s, again := p.New(), p.New()
				at := func(s schedule.Schedule, step int) float64 {
					done := float64(step) / float64(steps)
					return s.Factor(schedule.Progress{Step: step, Done: done, Epochs: 10 * done})
				}
				rises := 0
				for i := range steps + 1 {
					f := at(s, i)
					if !(f >= 0 && f <= 1) {
						t.Fatalf("step %d of %d: factor %v", i, steps, f)
					}
					if back := at(again, steps-i); back != at(s, steps-i) {
						t.Fatalf("step %d of %d: %v when asked first, %v later", steps-i, steps, back, at(s, steps-i))
					}
					if i > 0 && i < promise.warmup && steps >= 1000 && f <= at(s, i-1) {
						t.Errorf("step %d of %d: %v, no rise during the warm-up", i, steps, f)
					}
					if i >= max(promise.warmup, 1) && f > at(s, i-1) {
						rises++
					}
				}
				if rises > 0 != promise.cyclic && steps >= 1000 {
					t.Errorf("%d rises in %d steps, after the warm-up", rises, steps)
				}
			}
		})
	}
}

// TestShapes compares with values worked out by hand.
func TestShapes(t *testing.T) {
	warm := schedule.Warmup{Steps: 4}
	for _, c := range []struct {
		name string
		s    schedule.Schedule
		step int
		done float64
		want float64
	}{
		{"warm-up begins above 0", &schedule.Constant{Warmup: warm}, 0, 0, 0.25},
		{"warm-up", &schedule.Constant{Warmup: warm}, 2, 0, 0.75},
		{"warm-up is over", &schedule.Constant{Warmup: warm}, 3, 0, 1},
		{"constant to the end", &schedule.Constant{Warmup: warm}, 99, 1, 1},
		{"the zero Constant", &schedule.Constant{}, 0, 0, 1},

		{"cosine begins", &schedule.Cosine{Floor: 0.1}, 0, 0, 1},
		{"cosine, a third", &schedule.Cosine{Floor: 0.1}, 5, 1. / 3, 0.1 + 0.9*0.75},
		{"cosine, half", &schedule.Cosine{Floor: 0.1}, 5, 0.5, 0.55},
		{"cosine ends", &schedule.Cosine{Floor: 0.1}, 5, 1, 0.1},
		{"cosine times warm-up", &schedule.Cosine{Warmup: warm, Floor: 0.1}, 1, 0.5, 0.275},

		{"linear begins", &schedule.Linear{}, 0, 0, 1},
		{"linear, a quarter", &schedule.Linear{Floor: 0.2}, 9, 0.25, 0.8},
		{"linear ends", &schedule.Linear{Floor: 0.2}, 9, 1, 0.2},
		{"linear ends at 0", &schedule.Linear{}, 9, 1, 0},
	} {
		if got := c.s.Factor(schedule.Progress{Step: c.step, Done: c.done}); math.Abs(got-c.want) > 1e-15 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
