package part_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"hasten/engine/part"
)

type shared struct {
	Seed int `set:"seed" help:"seed of the draws"`
}

type options struct {
	shared
	LR      float64       `set:"lr" range:"(0,inf)" help:"learning rate"`
	Beta    float32       `set:"beta" range:"[0,1)" help:"decay"`
	Layers  int           `set:"layers" range:"[1,12]" help:"blocks"`
	Steps   int64         `set:"steps" help:"steps"`
	Name    string        `set:"name" help:"any text"`
	Act     string        `set:"act" choices:"relu,silu" help:"activation"`
	Nesta   bool          `set:"nesterov" help:"look ahead"`
	Every   time.Duration `set:"every" range:"[0,3600]" help:"time between"`
	Free    float64       `set:"free" help:"any number"`
	Untaken int           // no option
}

func (o *options) Validate() error {
	if o.Steps < 0 {
		return errors.New("steps: below 0")
	}
	return nil
}

func newOptions() *options {
	return &options{LR: 0.1, Beta: 0.9, Layers: 2, Act: "silu", Every: 90 * time.Second}
}

func TestApply(t *testing.T) {
	o := newOptions()
	err := part.Apply(o, map[string]string{
		"lr": "3e-4", "beta": "0.1", "layers": "12", "steps": "9000000000", "name": "a=b c",
		"act": "relu", "nesterov": "true", "every": "1h", "seed": "-3", "free": "-Inf",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &options{shared: shared{-3}, LR: 3e-4, Beta: 0.1, Layers: 12, Steps: 9e9, Name: "a=b c", Act: "relu", Nesta: true, Every: time.Hour, Free: o.Free}
	if *o != *want || o.Free >= 0 {
		t.Errorf("got %+v, want %+v", o, want)
	}
	text := part.Values(o)
	for name, want := range map[string]string{
		"lr": "0.0003", "beta": "0.1", "steps": "9000000000", "every": "1h0m0s", "nesterov": "true", "seed": "-3", "free": "-Inf",
	} {
		if text[name] != want {
			t.Errorf("%s is written %q, want %q", name, text[name], want)
		}
	}
}

func TestApplyErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"lr", "fast", "lr=fast: want a number"},
		{"lr", "0", "lr=0: outside the range (0,inf)"},
		{"lr", "NaN", "lr=NaN: want a number"},
		{"lr", "1e999", "lr=1e999: want a number"},
		{"lr", "+Inf", "lr=+Inf: outside the range (0,inf)"},
		{"free", "nan", "free=NaN: want a number"},
		{"beta", "1", "beta=1: outside the range [0,1)"},
		{"beta", "1e39", "beta=1e39: want a number"}, // beyond float32
		{"layers", "0", "layers=0: outside the range [1,12]"},
		{"layers", "13", "layers=13: outside the range [1,12]"},
		{"layers", "1.5", "layers=1.5: want a whole number"},
		{"steps", "9999999999999999999", "steps=9999999999999999999: want a whole number"},
		{"steps", "-1", "steps: below 0"},
		{"act", "tanh", "act=tanh: want one of relu, silu"},
		{"act", "", "act=: want one of relu, silu"},
		{"nesterov", "yes", "nesterov=yes: want true or false"},
		{"every", "5", "every=5: want a duration such as 90s or 5m"},
		{"every", "61m", "every=1h1m0s: outside the range [0,3600]"},
		{"layer", "3", "layer: no such setting; did you mean layers? (there is seed, lr, beta, layers, steps, name, act, nesterov, every, free)"},
		{"warmup", "3", "warmup: no such setting; there is seed, lr, beta, layers, steps, name, act, nesterov, every, free"},
		{"Untaken", "3", "Untaken: no such setting; there is seed, lr, beta, layers, steps, name, act, nesterov, every, free"},
	} {
		err := part.Apply(newOptions(), map[string]string{c.name: c.text})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s=%s: error %q, want %q", c.name, c.text, err, c.want)
		}
	}
	if err := part.Apply(&options{}, nil); err == nil {
		t.Error("defaults outside their ranges pass")
	}
	if err := part.Apply(new(struct{}), map[string]string{"a": "1"}); err == nil || err.Error() != "a: it has no settings" {
		t.Errorf("error %q", err)
	}
	two := map[string]string{"lr": "x", "act": "x", "zzz": "x"}
	for range 10 { // the first in order of names, not of the map
		if err := part.Apply(newOptions(), two); err == nil || !strings.HasPrefix(err.Error(), "lr=x") {
			t.Fatalf("error %q", err)
		}
	}
}

type stepper interface{ step() int }

type plain struct{}

func (plain) step() int { return 1 }

func (o *options) step() int { return o.Layers }

func newTable() *part.Table[stepper] {
	return &part.Table[stepper]{Seam: "optim", Help: "the update", Parts: []part.Part[stepper]{
		{Name: "plain", Help: "nothing to set", New: func() stepper { return &plain{} }},
		{Name: "adan", Paper: "adan", Help: "all there is to set", New: func() stepper { return newOptions() }},
	}}
}

func TestBuild(t *testing.T) {
	table := newTable()
	for _, c := range []struct {
		name     string
		settings map[string]string
		want     int
		err      string
	}{
		{"", nil, 1, ""},
		{"plain", map[string]string{}, 1, ""},
		{"adan", nil, 2, ""},
		{"adan", map[string]string{"layers": "7"}, 7, ""},
		{"adam", nil, 0, "optim=adam: no such part; did you mean adan? (there is plain, adan)"},
		{"lion", nil, 0, "optim=lion: no such part; there is plain, adan"},
		{"adan", map[string]string{"layers": "70"}, 0, "optim=adan: layers=70: outside the range [1,12]"},
		{"plain", map[string]string{"lr": "1"}, 0, "optim=plain: lr: it has no settings"},
	} {
		v, err := table.Build(c.name, c.settings)
		if c.err != "" {
			if err == nil || err.Error() != c.err || v != nil {
				t.Errorf("%s: %v, error %q, want %q", c.name, v, err, c.err)
			}
			continue
		}
		if err != nil || v.step() != c.want {
			t.Errorf("%s %v: %v, error %v", c.name, c.settings, v, err)
		}
	}
	if v, _ := table.Build("adan", nil); v.step() != 2 {
		t.Error("settings of one part reached the next of its name")
	}
}

func TestInfo(t *testing.T) {
	info := newTable().Info()
	if len(info) != 2 || !info[0].Default || info[1].Default || info[1].Paper != "adan" || info[1].Seam != "optim" {
		t.Fatalf("%+v", info)
	}
	if info[0].Options == nil || len(info[0].Options) != 0 {
		t.Errorf("options of a part without: %#v (JSON must show [])", info[0].Options)
	}
	want := []part.Option{
		{Name: "seed", Type: "int", Default: "0", Help: "seed of the draws"},
		{Name: "lr", Type: "float", Default: "0.1", Range: "(0,inf)", Help: "learning rate"},
		{Name: "beta", Type: "float", Default: "0.9", Range: "[0,1)", Help: "decay"},
		{Name: "layers", Type: "int", Default: "2", Range: "[1,12]", Help: "blocks"},
		{Name: "steps", Type: "int", Default: "0", Help: "steps"},
		{Name: "name", Type: "string", Help: "any text"},
		{Name: "act", Type: "string", Default: "silu", Choices: []string{"relu", "silu"}, Help: "activation"},
		{Name: "nesterov", Type: "bool", Default: "false", Help: "look ahead"},
		{Name: "every", Type: "duration", Default: "1m30s", Range: "[0,3600]", Help: "time between"},
		{Name: "free", Type: "float", Default: "0", Help: "any number"},
	}
	if !reflect.DeepEqual(info[1].Options, want) {
		t.Errorf("options\n%+v, want\n%+v", info[1].Options, want)
	}
}

func TestInstead(t *testing.T) {
	known := []string{"adamw", "adan", "sgd", "lr", "weight-decay"}
	for name, want := range map[string]string{
		"adamW": "adamw", "adamm": "adamw", "adanw": "adamw", "weigth-decay": "weight-decay", "weight_decay": "weight-decay",
		"LR": "lr", "sdg": "sgd", "x": "", "": "", "muon": "", "learning": "",
	} {
		got := part.Instead(name, known)
		if all := "there is adamw, adan, sgd, lr, weight-decay"; want == "" && got != all ||
			want != "" && got != "did you mean "+want+"? ("+all+")" {
			t.Errorf("%q: %s; want %q", name, got, want)
		}
	}
}

func TestMistakesInAPartPanic(t *testing.T) {
	for want, v := range map[string]any{
		"part: field X has type []int; options are int, float, bool, string, duration": &struct {
			X []int `set:"x"`
		}{},
		`part: range "0..1" is not an interval`: &struct {
			X int `set:"x" range:"0..1"`
		}{},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != want {
					t.Errorf("panic %q, want %q", got, want)
				}
			}()
			part.Apply(v, map[string]string{"x": "1"})
		}()
	}
}

// Whatever a user writes, Apply does not panic, and what it takes is written
// back as text that sets the same.
func FuzzApply(f *testing.F) {
	for _, name := range []string{"seed", "lr", "beta", "layers", "steps", "name", "act", "nesterov", "every", "free", "else"} {
		for _, text := range []string{"", "1", "0x10", "-0", "1e-320", "inf", "nan", "t", "1h1ns", "relu", "9223372036854775807", "0.1"} {
			f.Add(name, text)
		}
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		o := newOptions()
		if part.Apply(o, map[string]string{name: text}) != nil {
			return
		}
		values := part.Values(o)
		again := newOptions()
		if err := part.Apply(again, values); err != nil {
			t.Fatalf("%s=%q is written as %v, which is refused: %v", name, text, values, err)
		}
		if *again != *o || !maps.Equal(values, part.Values(again)) {
			t.Fatalf("%s=%q: %+v came back as %+v", name, text, o, again)
		}
	})
}

// SGD is a part of the seam "optim".
type SGD struct {
	LR       float64 `set:"lr" range:"(0,inf)" help:"learning rate"`
	Momentum float64 `set:"momentum" range:"[0,1)" help:"decay of the momentum buffer"`
}

func Example() {
	parts := part.Table[*SGD]{Seam: "optim", Parts: []part.Part[*SGD]{
		{Name: "sgd", Help: "gradient descent with momentum", New: func() *SGD { return &SGD{LR: 0.1, Momentum: 0.9} }},
	}}
	sgd, err := parts.Build("sgd", map[string]string{"lr": "0.02"})
	fmt.Println(sgd.LR, sgd.Momentum, err)
	_, err = parts.Build("sgd", map[string]string{"momentum": "1"})
	fmt.Println(err)
	_, err = parts.Build("sgd", map[string]string{"momemtum": "0.5"})
	fmt.Println(err)
	// Output:
	// 0.02 0.9 <nil>
	// optim=sgd: momentum=1: outside the range [0,1)
	// optim=sgd: momemtum: no such setting; did you mean momentum? (there is lr, momentum)
}
