package task

import (
	"context"
	"errors"
	"math"

	"hasten/learn/track"
	"hasten/task/recipe"
	"hasten/task/run"
	"hasten/task/tabular"
	"hasten/task/text"
)

// The jobs here do not train by a loop's steps. They are short: they keep no
// checkpoints, and their outcomes are put into the common form.

// errResume is the error of going on with such a job.
var errResume = errors.New("this job keeps no checkpoints to resume from: train again, into another --out")

// resolveText makes a recipe of a text classifier definite.
func resolveText(r *recipe.Recipe) (Job, error) {
	s, err := text.Resolve(r)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, o run.Options) (run.Outcome, error) {
		if o.Resume {
			return run.Outcome{}, errResume
		}
		out, err := text.Train(ctx, s, text.Options{Dir: o.Dir, Note: note(o)})
		last := track.Record{Step: int64(s.Epochs), Tokens: int64(out.Tokens), Seconds: out.Training, TrainLoss: out.Loss}
		if out.Valid != nil {
			measure(&last, "accuracy", out.Valid.Accuracy, "top5", out.Valid.Top5)
		}
		return outcome(&run.Plan{Recipe: s.Recipe, Unit: "tokens", Metric: "accuracy"}, run.Outcome{
			Dir: out.Dir, Last: last, Interrupted: out.Interrupted, Memory: out.Memory}), err
	}, nil
}

// resolveTabular makes a recipe of boosted trees definite.
func resolveTabular(r *recipe.Recipe) (Job, error) {
	s, err := tabular.Resolve(r)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, o run.Options) (run.Outcome, error) {
		if o.Resume {
			return run.Outcome{}, errResume
		}
		out, err := tabular.Train(ctx, s, tabular.Options{Dir: o.Dir, Note: note(o)})
		last := track.Record{Step: int64(len(out.Rounds)), Tokens: int64(out.Rows) * int64(len(out.Rounds)), Seconds: out.Training}
		if n := len(out.Rounds); n > 0 {
			last.TrainLoss = out.Rounds[n-1].Train
			if v := out.Rounds[n-1].Valid; !math.IsNaN(v) {
				last.ValLoss = v
			}
		}
		p := &run.Plan{Recipe: s.Recipe, Unit: "rows", Metric: "accuracy"}
		if v := out.Valid; v != nil {
			if v.RMSE > 0 {
				p.Metric = "r2"
				measure(&last, "r2", v.R2, "rmse", v.RMSE)
			} else {
				measure(&last, "accuracy", v.Accuracy, "log_loss", v.LogLoss)
			}
		}
		return outcome(p, run.Outcome{Dir: out.Dir, Last: last, Interrupted: out.Interrupted, Memory: out.Memory}), err
	}, nil
}

// note is what tells the watcher what is being done; it may have none.
func note(o run.Options) func(string) {
	w := o.Watch
	if w == nil {
		w = run.Silent{}
	}
	return w.Note
}

// measure adds two named values to a record.
func measure(r *track.Record, name1 string, v1 float64, name2 string, v2 float64) {
	r.Extra = append(r.Extra, track.Scalar{Name: name1, Value: v1}, track.Scalar{Name: name2, Value: v2})
}

// outcome completes an outcome.
func outcome(p *run.Plan, out run.Outcome) run.Outcome {
	out.Plan = p
	if out.Last.Seconds > 0 {
		out.Last.TokensPerS = float64(out.Last.Tokens) / out.Last.Seconds
	}
	return out
}
