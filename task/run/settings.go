package run

import (
	"cmp"
	"fmt"
	"time"

	"hasten/engine/part"
	"hasten/task/recipe"
)

// Common are the plain settings of every run; a task embeds them in its own.
type Common struct {
	Batch      int           `set:"batch" range:"[1,65536]" help:"samples in a batch"`
	Accumulate int           `set:"accumulate" range:"[1,65536]" help:"batches that make one step"`
	Steps      int           `set:"steps" range:"[0,inf)" help:"steps to train; 0: no limit"`
	Time       time.Duration `set:"time" range:"[0,inf)" help:"time to train, evaluations not counted; 0: no limit"`
	Target     float64       `set:"target" range:"[0,inf)" help:"validation loss at which to stop; 0: none"`
	Clip       float64       `set:"clip" range:"[0,inf)" help:"largest norm of the gradient; 0: no clipping"`
	Seed       int           `set:"seed" range:"[0,inf)" help:"seed of all random numbers"`
	Threads    int           `set:"threads" range:"[0,4096]" help:"threads; 0: one for each core. Results do not depend on it"`
}

// Checkpoints says when a run is saved: besides, it is when it ends or is
// interrupted.
type Checkpoints struct {
	Every int           `set:"every" range:"[0,inf)" help:"steps between checkpoints; 0: by time alone"`
	Time  time.Duration `set:"time" range:"[0,inf)" help:"training time between checkpoints; 0: by steps alone"`
	Keep  int           `set:"keep" range:"[1,inf)" help:"checkpoints to keep"`
}

// Group is a set of settings under a common name, such as checkpoint.every.
type Group struct {
	Name    string
	Options any // pointer to a struct of settings
}

// Resolve applies a recipe to a task's plain settings, a pointer to a struct,
// and to its groups, checks them, and writes every value back. seams are the
// further settings that the recipe may have; Build reads them.
func Resolve(r *recipe.Recipe, plain any, groups []Group, seams []string) error {
	var names, groupNames []string
	given := map[string]string{}
	for _, o := range part.Options(plain) {
		names = append(names, o.Name)
		if v := r.Get(o.Name); v != "" {
			given[o.Name] = v
		}
	}
	for _, g := range groups {
		groupNames = append(groupNames, g.Name)
	}
	if err := r.Check(names, seams, groupNames); err != nil {
		return err
	}
	if err := part.Apply(plain, given); err != nil {
		return err
	}
	for key, v := range part.Values(plain) {
		r.Put(key, v)
	}
	for _, g := range groups {
		if err := part.Apply(g.Options, r.Options(g.Name)); err != nil {
			return fmt.Errorf("%s: %w", g.Name, err)
		}
		for key, v := range part.Values(g.Options) {
			r.Put(g.Name+"."+key, v)
		}
	}
	return nil
}

// Build builds the part that a recipe names at a seam, and writes all its
// options into the recipe.
func Build[T any](r *recipe.Recipe, table *part.Table[T]) (T, error) {
	name := cmp.Or(r.Get(table.Seam), table.Parts[0].Name)
	v, err := table.Build(name, r.Options(table.Seam))
	if err == nil {
		r.Replace(table.Seam, name, part.Values(v))
	}
	return v, err
}

// OptionsOf lists plain settings and those of groups, by the names --set takes.
func OptionsOf(plain any, groups []Group) []part.Option {
	all := part.Options(plain)
	for _, g := range groups {
		for _, o := range part.Options(g.Options) {
			o.Name = g.Name + "." + o.Name
			all = append(all, o)
		}
	}
	return all
}
