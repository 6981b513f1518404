// Package task is the table of the jobs that `hasten train` can do. A recipe
// names its job by the setting task; Find gives its row.
package task

import (
	"cmp"
	"context"
	"fmt"

	"hasten/engine/part"
	"hasten/task/lm"
	"hasten/task/recipe"
	"hasten/task/run"
	"hasten/task/tabular"
	"hasten/task/text"
	"hasten/task/vision"
)

// Kind is one kind of job.
type Kind struct {
	Name    string // as in task = "lm"
	Help    string // one line
	Parts   func() []part.Info
	Options func() []part.Option // settings that belong to no seam
	// Resolve makes a recipe definite and checks it before anything runs. What
	// it returns carries the job out, and is for one use.
	Resolve func(r *recipe.Recipe) (Job, error)
}

// Job trains and writes a model directory.
type Job func(ctx context.Context, o run.Options) (run.Outcome, error)

// Kinds are the jobs, the default first.
var Kinds = []Kind{
	{Name: "lm", Help: "language models on text", Parts: lm.Parts, Options: lm.RunOptions,
		Resolve: func(r *recipe.Recipe) (Job, error) {
			s, err := lm.Resolve(r)
			return func(ctx context.Context, o run.Options) (run.Outcome, error) {
				out, err := lm.Train(ctx, s, o)
				return out.Outcome, err
			}, err
		}},
	{Name: "vision", Help: "image classification", Parts: vision.Parts, Options: vision.RunOptions,
		Resolve: func(r *recipe.Recipe) (Job, error) {
			s, err := vision.Resolve(r)
			return func(ctx context.Context, o run.Options) (run.Outcome, error) {
				out, err := vision.Train(ctx, s, o)
				return out.Outcome, err
			}, err
		}},
	{Name: "text", Help: "classification of texts", Parts: text.Parts, Options: text.RunOptions, Resolve: resolveText},
	{Name: "tabular", Help: "boosted trees on tables", Parts: tabular.Parts, Options: tabular.RunOptions, Resolve: resolveTabular},
}

// Find returns the kind of job that a recipe asks for.
func Find(r *recipe.Recipe) (Kind, error) {
	name := cmp.Or(r.Get("task"), Kinds[0].Name)
	var names []string
	for _, k := range Kinds {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, fmt.Errorf("task=%s: no such job; %s", name, part.Instead(name, names))
}

// Parts describes the parts of all jobs; one that several have is there once.
func Parts() []part.Info {
	var all []part.Info
	seen := map[[2]string]bool{}
	for _, k := range Kinds {
		for _, p := range k.Parts() {
			if key := [2]string{p.Seam, p.Name}; !seen[key] {
				seen[key] = true
				all = append(all, p)
			}
		}
	}
	return all
}
