package optimisation

import (
	"errors"
	"fmt"
	"math"

	"hasten/engine/grad"
	"hasten/lab/experiment"
	"hasten/learn/loop"
	"hasten/learn/schedule"
	"hasten/task/lm"
	"hasten/task/recipe"
	"hasten/task/vision"
)

// fashion is the workload of most papers here: classify articles of clothing,
// from part of Fashion-MNIST's training images. Others of them are held out, to
// choose settings by; the test images give the figures.
type fashion struct {
	train *vision.Dataset // its Valid are the images held out
	test  vision.Images
}

// openFashion reads so many training images, and holds a quarter as many out.
func openFashion(images int) (*fashion, error) {
	d, err := vision.Load("fashion", vision.LoadOptions{})
	if err != nil {
		return nil, err
	}
	all, held := d.Train, images/4
	f := &fashion{train: d, test: d.Valid}
	d.Train, d.Valid = cut(&all, 0, images), cut(&all, images, images+held)
	return f, nil
}

// cut is the images from lo to hi.
func cut(m *vision.Images, lo, hi int) vision.Images {
	c := *m
	c.Pixels, c.Labels = m.Pixels[lo*m.Size():hi*m.Size()], m.Labels[lo:hi]
	return c
}

// job prepares a run with settings over those of the built-in recipe: an MLP
// 784-256-256-10, batches of 128.
func (f *fashion) job(settings ...string) (*vision.Job, error) {
	r, err := recipe.Open("vision")
	if err != nil {
		return nil, err
	}
	if err := r.Set(settings...); err != nil {
		return nil, err
	}
	s, err := vision.Resolve(r)
	if err != nil {
		return nil, err
	}
	j, err := vision.NewJobOn(s, f.train)
	if err != nil {
		return nil, err
	}
	j.Loop.Evaluate = nil // it is scored by epochs
	return j, nil
}

// scorer computes the scores of a job's model, as its weights are when asked.
type scorer struct {
	*fashion
	job  *vision.Job
	tape *grad.Tape
}

func (f *fashion) scorer(j *vision.Job) *scorer {
	return &scorer{f, j, grad.NewTape(j.Loop.Arena)}
}

func (s *scorer) held() vision.Score   { return s.of(&s.train.Valid) }
func (s *scorer) tested() vision.Score { return s.of(&s.test) }

func (s *scorer) of(images *vision.Images) vision.Score {
	return vision.Evaluate(s.tape, s.job.Model, s.train, images, 500)
}

// epochScore is how good a model was at the end of an epoch.
type epochScore struct{ held, test vision.Score }

// history is a run, epoch by epoch; empty for one that diverged.
type history []epochScore

// best is the epoch with the lowest loss on the images held out.
func (h history) best() epochScore {
	best := epochScore{vision.Score{Loss: math.Inf(1)}, vision.Score{Loss: math.Inf(1)}}
	for _, e := range h {
		if e.held.Loss < best.held.Loss {
			best = e
		}
	}
	return best
}

// curve stores the test loss of each epoch.
func (h history) curve(r *experiment.Run, arm string, seed uint64) {
	var x, y []float64
	for i, e := range h {
		x, y = append(x, float64(i+1)), append(y, e.test.Loss)
	}
	r.Curve(arm, seed, "epoch", "test loss", x, y)
}

// run trains and scores the model at the end of each epoch; on the test images
// too, if test.
func (f *fashion) run(r *experiment.Run, test bool, settings ...string) (history, error) {
	return f.runOn(r, nil, test, settings...)
}

// runOn is run with a schedule in the place of the settings' one.
func (f *fashion) runOn(r *experiment.Run, on schedule.Schedule, test bool, settings ...string) (history, error) {
	j, err := f.job(settings...)
	if err != nil {
		return nil, err
	}
	if on != nil {
		j.Loop.Schedule = on
	}
	s := f.scorer(j)
	var h history
	atEpochs(j.Loop, func(*loop.State) error {
		e := epochScore{held: s.held()}
		if test {
			e.test = s.tested()
		}
		h = append(h, e)
		return nil
	})
	if diverged, err := train(r, j.Loop); err != nil || diverged {
		return nil, err
	}
	return h, nil
}

// atEpochs calls a hook at the end of each epoch.
func atEpochs(l *loop.Loop, hook loop.Hook) {
	ended := 0
	l.On(loop.AfterStep, func(s *loop.State) error {
		if int(s.Epochs) == ended {
			return nil
		}
		ended = int(s.Epochs)
		return hook(s)
	})
}

// train runs a loop to its end, and tells whether it diverged.
func train(r *experiment.Run, l *loop.Loop) (diverged bool, err error) {
	var d *loop.Diverged
	if err := l.Run(r.Context); errors.As(err, &d) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	return false, r.Context.Err()
}

// tuningSeed is the seed of runs that choose a setting; those that are reported
// have others.
const tuningSeed = 1000

// must stops at an error that only a mistake in the experiment can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// set writes settings as the command line does.
func set(key string, value any) string { return fmt.Sprintf("%s=%v", key, value) }

// gosrc prepares the byte-level language model of the family, 4 layers of 128,
// on the Go toolchain's source. It must be closed.
func gosrc(settings ...string) (*lm.Job, error) {
	r, err := recipe.Open("gpt")
	if err != nil {
		return nil, err
	}
	if err := r.Set(append([]string{"tokenizer=bytes", "time=0s", "batch=8", "evaluate.windows=64"}, settings...)...); err != nil {
		return nil, err
	}
	s, err := lm.Resolve(r)
	if err != nil {
		return nil, err
	}
	return lm.NewJob(s, nil)
}

// stepDecay is the schedule that a fixed rate is most often improved by: a
// tenth of it from half of the run on, a hundredth from three quarters on.
type stepDecay struct{}

func (stepDecay) Factor(p schedule.Progress) float64 {
	switch {
	case p.Done >= 0.75:
		return 0.01
	case p.Done >= 0.5:
		return 0.1
	}
	return 1
}
