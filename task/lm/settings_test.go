package lm

import (
	"maps"
	"strings"
	"testing"

	"hasten/engine/part"
	"hasten/task/recipe"
)

// TestResolve holds that what is resolved resolves to itself: with every
// built-in recipe of the task, every part of every seam, and nothing but a budget.
func TestResolve(t *testing.T) {
	recipes := map[string]*recipe.Recipe{}
	for _, name := range recipe.Builtin() {
		r, err := recipe.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if r.Get("task") == "lm" {
			recipes[name] = r
		}
	}
	for _, p := range Parts() {
		r, err := recipe.Parse(p.Seam+"="+p.Name, nil)
		if err == nil {
			err = r.Set("steps=1", p.Seam+"="+p.Name)
		}
		if err != nil {
			t.Fatal(err)
		}
		recipes[r.Name] = r
	}
	for name, r := range recipes {
		before := string(r.TOML())
		s, err := Resolve(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(r.TOML()) != before {
			t.Errorf("%s: Resolve changed what it was given", name)
		}
		again, err := recipe.Parse("again", s.Recipe.TOML())
		if err != nil {
			t.Fatal(err)
		}
		twice, err := Resolve(again)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(twice.Recipe.TOML()) != string(s.Recipe.TOML()) {
			t.Errorf("%s: resolved again:\n%s\nfirst:\n%s", name, twice.Recipe.TOML(), s.Recipe.TOML())
		}
		for _, o := range RunOptions() {
			if s.Recipe.Get(o.Name) == "" && o.Type != "string" {
				t.Errorf("%s: %s is not written down", name, o.Name)
			}
		}
	}
}

// TestSettingsReachTheRun sets every plain setting and every option of a group
// to another value than its own, and finds it there.
func TestSettingsReachTheRun(t *testing.T) {
	other := map[string]string{"int": "3", "float": "0.25", "bool": "true", "string": "x", "duration": "7s"}
	values := func(s *Settings) map[string]string {
		m := part.Values(&s.Run)
		for _, g := range s.groups() {
			for k, v := range part.Values(g.Options) {
				m[g.Name+"."+k] = v
			}
		}
		return m
	}
	want := values(defaults())
	var set []string
	for _, o := range RunOptions() {
		v := other[o.Type]
		if len(o.Choices) > 0 {
			v = o.Choices[len(o.Choices)-1]
		}
		if o.Name == "data.format" {
			v = "jsonl"
		}
		want[o.Name] = v
		set = append(set, o.Name+"="+v)
	}
	r, err := recipe.Parse("all", nil)
	if err == nil {
		err = r.Set(set...)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(s); !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for k, v := range want {
		if s.Recipe.Get(k) != v {
			t.Errorf("the recipe says %s=%s, want %s", k, s.Recipe.Get(k), v)
		}
	}
}

func TestResolveErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "the run would never end: set steps, time or target"},
		{"steps = 1\n\nbetch = 3", "line 3: betch: no such setting; did you mean batch? (there is accumulate, average, batch, clip, data"},
		{"steps = 1\n[optm]\nlr = 3", "line 3: optm.lr: no such setting"},
		{"steps = 1\nevaluate = 3", "line 2: evaluate: a group of settings; want one of them, evaluate.NAME"},
		{"steps = 1\n[batch]\nsize = 3", "line 3: batch.size: no such setting"},
		{"steps = 1.5", "steps=1.5: want "},
		{"steps = \"many\"", "steps=many: want "},
		{"steps = -1", "steps=-1: outside the range [0,inf)"},
		{"time = 3", "time=3: want "},
		{"time = \"-3s\"", "time=-3s: outside the range"},
		{"steps = 1\nbatch = 0", "batch=0: outside the range"},
		{"steps = 1\nclip = nan", "clip=NaN: "},
		{"steps = 1\ntask = \"vision\"", "task=vision: want one of lm"},
		{"steps = 1\noptim = \"adamx\"", "optim=adamx: no such part"},
		{"steps = 1\noptim = \"sgd\"\noptim.beta1 = 1", "line 3: "}, // TOML: optim is no table
		{"steps = 1\n[optim]\nuse = \"sgd\"\nbeta1 = 0.5", "optim=sgd: beta1: no such setting"},
		{"steps = 1\n[optim]\nbeta1 = 1", "optim=adamw: beta1=1: outside the range [0,1)"},
		{"steps = 1\n[optim]\nbeta1 = true", "optim=adamw: beta1=true: want "},
		{"steps = 1\n[model]\ndim = 30\nheads = 4", "model=llama: dim=30 is not a multiple of heads=4"},
		{"steps = 1\n[checkpoint]\nkeep = 0", "checkpoint: keep=0: outside the range [1,inf)"},
		{"steps = 1\n[data]\nformat = \"pdf\"", "data: format=pdf: want one of"},
		{"steps = 1\nsampler = \"infobatch\"\nloss = \"cut\"", "which loss=cut does not take; set loss=rows"},
		{"steps = 1\n[data]\nformat = \"u16\"", "raw tokens need a model that knows their vocabulary; set from=DIR"},
		{"steps = 1\nfrom = \"x\"\n[data]\nformat = \"u16\"\npacked = true", "raw tokens do not tell where documents begin"},
	} {
		r, err := recipe.Parse("bad.toml", []byte(c.text))
		if err == nil {
			_, err = Resolve(r)
		}
		wantError(t, c.text, err, c.want, "recipe bad.toml: ")
	}
}

// TestParts holds that every seam of a run is in the list.
func TestParts(t *testing.T) {
	listed := map[string]bool{}
	for _, p := range Parts() {
		listed[p.Seam] = true
		if p.Help == "" || strings.Contains(p.Help, "\n") {
			t.Errorf("%s=%s has no help of one line", p.Seam, p.Name)
		}
	}
	for _, seam := range seams {
		if !listed[seam] {
			t.Errorf("%s is not listed", seam)
		}
	}
}
