// Package workload trains what experiments compare: any task of hasten from a
// recipe, in memory, with its curve and its costs. An arm of an experiment is
// one line:
//
//	base, err := workload.Train(r.Context, "vision", seed, "epochs=4")
//	ours, err := workload.Train(r.Context, "vision", seed, "epochs=4", "optim=adan")
//	r.Outcome("validation loss", "nats", []float64{base.Loss}, []float64{ours.Loss}, …)
//
// An experiment that looks inside a run makes its job by New, hooks into the
// loop, and calls Do.
package workload

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"math"
	"path"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"hasten/engine/memory"
	"hasten/learn/loop"
	"hasten/learn/track"
	"hasten/task/lm"
	"hasten/task/recipe"
	"hasten/task/run"
	"hasten/task/vision"
)

// Point is an evaluation.
type Point struct {
	Step      int
	Items     int64   // trained on so far: tokens, images
	Seconds   float64 // of training so far; evaluations do not count
	TrainLoss float64 // mean over the steps since the point before
	ValLoss   float64
	Metric    float64 // the task's own measure: bits per byte, accuracy
}

// Run is how a run went.
type Run struct {
	Curve    []Point
	Loss     float64 // validation loss at the end; without validation data the last TrainLoss. +Inf if the run diverged
	Metric   float64 // the task's own measure at the end, NaN if the run diverged
	Steps    int
	Items    int64 // tokens, images trained on
	Seconds  float64
	Memory   memory.Usage // of the run and of the kernels' workspace
	Diverged bool
	Job      run.Job // closed; *lm.Job, *vision.Job
}

// Train carries out a run without a model directory. recipe is lm-xs or lm-s
// (see the folder recipes), the name of a built-in recipe, or a file; settings
// are changes to it, as after --set. Every run is evaluated at its end; one of
// lm not before, unless evaluate.every says so. A run that diverges is no error.
func Train(ctx context.Context, recipe string, seed uint64, settings ...string) (Run, error) {
	j, err := New(recipe, seed, settings...)
	if err != nil {
		return Run{}, err
	}
	return Do(ctx, j)
}

// New prepares the run that Train carries out.
func New(name string, seed uint64, settings ...string) (run.Job, error) {
	r, err := open(name)
	if err != nil {
		return nil, err
	}
	if err := r.Set(append(slices.Clone(settings), "seed="+strconv.FormatUint(seed, 10))...); err != nil {
		return nil, err
	}
	switch task := r.Get("task"); task {
	case "lm":
		s, err := lm.Resolve(r)
		if err != nil {
			return nil, err
		}
		return lm.NewJob(s, nil)
	case "vision":
		s, err := vision.Resolve(r)
		if err != nil {
			return nil, err
		}
		d, err := images(s)
		if err != nil {
			return nil, err
		}
		return vision.NewJobOn(s, d)
	default:
		return nil, fmt.Errorf("workload %s: task %q is none of those that train by steps: lm, vision", name, task)
	}
}

// recipes are the workloads that several experiments share.
//
//go:embed recipes/*.toml
var recipes embed.FS

func open(name string) (*recipe.Recipe, error) {
	text, err := recipes.ReadFile(path.Join("recipes", name+".toml"))
	if err != nil {
		return recipe.Open(name)
	}
	return recipe.Parse(name, text)
}

// loaded keeps the images that runs have read: those of one experiment share
// them.
var loaded struct {
	sync.Mutex
	data map[string]*vision.Dataset
}

func images(s *vision.Settings) (*vision.Dataset, error) {
	o := s.LoadOptions()
	key := fmt.Sprintf("%s %+v", s.Run.Data, o)
	loaded.Lock()
	defer loaded.Unlock()
	if d := loaded.data[key]; d != nil {
		return d, nil
	}
	d, err := vision.Load(s.Run.Data, o)
	if err != nil {
		return nil, err
	}
	if loaded.data == nil {
		loaded.data = map[string]*vision.Dataset{}
	}
	loaded.data[key] = d
	return d, nil
}

// Do carries out a run that New has prepared, and closes it.
func Do(ctx context.Context, j run.Job) (r Run, err error) {
	defer func() { err = errors.Join(err, j.Close()) }()
	p := j.Plan()
	if threads, err := strconv.Atoi(p.Recipe.Get("threads")); err == nil {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads)) // 0 changes nothing
	}
	r.Job = j
	var sum float64 // of the losses of steps since the last point
	steps := 0
	p.Loop.On(loop.AfterStep, func(s *loop.State) error {
		sum += s.Loss
		steps++
		return nil
	})
	point := func(s *loop.State) Point {
		e := track.Record{Step: int64(s.Step), ValLoss: s.ValLoss}
		at := Point{Step: s.Step, Items: s.Seen, Seconds: s.Trained.Seconds(), TrainLoss: sum / float64(max(steps, 1)), ValLoss: s.ValLoss, Metric: math.NaN()}
		if s.ValLoss > 0 {
			j.Measure(&e)
			at.Metric = e.Value(p.Metric)
		}
		sum, steps = 0, 0
		return at
	}
	p.Loop.On(loop.AfterEvaluate, func(s *loop.State) error {
		r.Curve = append(r.Curve, point(s))
		return nil
	})
	memory.Default.ResetPeak() // what runs before this one took does not count
	err = p.Loop.Run(ctx)
	s := &p.Loop.State
	r.Steps, r.Items, r.Seconds, r.Memory = s.Step, s.Seen, s.Trained.Seconds(), run.Usage(p.Loop.Arena)
	var diverged *loop.Diverged
	switch {
	case errors.As(err, &diverged):
		r.Diverged, r.Loss, r.Metric = true, math.Inf(1), math.NaN()
		return r, nil
	case err != nil:
		return r, err
	case ctx.Err() != nil:
		return r, ctx.Err()
	}
	if len(r.Curve) == 0 || r.Curve[len(r.Curve)-1].Step != s.Step {
		r.Curve = append(r.Curve, point(s))
	}
	last := r.Curve[len(r.Curve)-1]
	r.Loss, r.Metric = last.ValLoss, last.Metric
	if p.Loop.Evaluate == nil {
		r.Loss = last.TrainLoss
	}
	return r, nil
}
