package task_test

import (
	"strings"
	"testing"

	"hasten/task"
	"hasten/task/recipe"
)

// TestKinds finds the job of every built-in recipe, and holds that the settings
// each job names are ones it takes.
func TestKinds(t *testing.T) {
	served := map[string]bool{}
	for _, name := range recipe.Builtin() {
		r, err := recipe.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		k, err := task.Find(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		served[k.Name] = true
		if err := r.Set("data=somewhere"); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Resolve(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, o := range k.Options() {
			if o.Name == "" || o.Help == "" {
				t.Errorf("%s: an option %+v", k.Name, o)
			}
		}
	}
	for _, k := range task.Kinds {
		if !served[k.Name] || k.Help == "" || len(k.Parts()) == 0 {
			t.Errorf("%s: no built-in recipe, no help or no parts", k.Name)
		}
	}
}

func TestFind(t *testing.T) {
	for text, want := range map[string]string{"": "lm", `task = "tabular"`: "tabular", `task = "visoin"`: "did you mean vision?"} {
		r, err := recipe.Parse("r", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		k, err := task.Find(r)
		if err != nil && !strings.Contains(err.Error(), want) || err == nil && k.Name != want {
			t.Errorf("%q: %s, %v, want %s", text, k.Name, err, want)
		}
	}
}

// A part that several jobs have is listed once.
func TestParts(t *testing.T) {
	seen := map[string]int{}
	for _, p := range task.Parts() {
		seen[p.Seam+"="+p.Name]++
	}
	for _, want := range []string{"optim=adamw", "model=mlp", "model=llama", "sampler=infobatch"} {
		if seen[want] != 1 {
			t.Errorf("%s is listed %d times", want, seen[want])
		}
	}
}
