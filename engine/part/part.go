// Package part describes named implementations at a seam: the optimisers, the
// schedules, the mixers … that a user switches on by name.
//
// A part is a struct whose exported fields are its options, with their
// defaults filled in by its constructor:
//
//	type SGD struct {
//		LR       float64 `set:"lr" range:"(0,inf)" help:"learning rate"`
//		Momentum float64 `set:"momentum" range:"[0,1)" help:"momentum"`
//	}
//
//	var Parts = part.Table[Optimizer]{Seam: "optim", Parts: []part.Part[Optimizer]{
//		{Name: "sgd", Help: "…", New: func() Optimizer { return &SGD{LR: 0.1} }},
//	}}
//
// Tables are literal: a new part is one more row. From them come the command's
// settings and their checks, the lists of parts, and the documentation.
package part

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Part is one named implementation of T.
type Part[T any] struct {
	Name  string   // what a user writes after seam=
	Paper string   // slug of the paper it comes from, if any
	Help  string   // one line
	New   func() T // a value with its defaults; a pointer to a struct
}

// Table is the parts of a seam. The first part is the default.
type Table[T any] struct {
	Seam  string
	Help  string
	Parts []Part[T]
}

// Option is one setting of a part.
type Option struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"` // int, float, bool, string, duration
	Default string   `json:"default"`
	Range   string   `json:"range,omitempty"`
	Choices []string `json:"choices,omitempty"`
	Help    string   `json:"help"`
}

// Info is what can be said of a part without its type.
type Info struct {
	Seam    string   `json:"seam"`
	Name    string   `json:"name"`
	Paper   string   `json:"paper,omitempty"`
	Help    string   `json:"help"`
	Default bool     `json:"default,omitempty"`
	Options []Option `json:"options"`
}

// validator is a part that checks more than the ranges of its options.
type validator interface{ Validate() error }

// Names lists the parts by name.
func (t *Table[T]) Names() []string {
	names := make([]string, len(t.Parts))
	for i, p := range t.Parts {
		names[i] = p.Name
	}
	return names
}

// Info describes the parts of the table.
func (t *Table[T]) Info() []Info {
	all := make([]Info, len(t.Parts))
	for i, p := range t.Parts {
		all[i] = Info{Seam: t.Seam, Name: p.Name, Paper: p.Paper, Help: p.Help, Default: i == 0, Options: Options(p.New())}
	}
	return all
}

// Build returns the named part (the default for "") with the settings applied
// over its defaults, and checked. Errors name the seam, the setting and what
// would be right.
func (t *Table[T]) Build(name string, settings map[string]string) (T, error) {
	var zero T
	if name == "" {
		name = t.Parts[0].Name
	}
	i := slices.IndexFunc(t.Parts, func(p Part[T]) bool { return p.Name == name })
	if i < 0 {
		return zero, fmt.Errorf("%s=%s: no such part; %s", t.Seam, name, Instead(name, t.Names()))
	}
	v := t.Parts[i].New()
	if err := Apply(v, settings); err != nil {
		return zero, fmt.Errorf("%s=%s: %w", t.Seam, name, err)
	}
	return v, nil
}

// Options lists the settings of a struct given by pointer, with the values it
// has now as defaults.
func Options(v any) []Option {
	all := []Option{}
	for _, f := range fields(v) {
		all = append(all, f.option())
	}
	return all
}

// Values returns the settings of a struct given by pointer, in text form.
func Values(v any) map[string]string {
	m := map[string]string{}
	for _, f := range fields(v) {
		m[f.name()] = f.text()
	}
	return m
}

// Apply sets options of the struct v points to and checks all of them. After an
// error v may hold some of the settings.
func Apply(v any, settings map[string]string) error {
	fs := fields(v)
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		i := slices.IndexFunc(fs, func(f field) bool { return f.name() == name })
		if i < 0 {
			if len(fs) == 0 {
				return fmt.Errorf("%s: it has no settings", name)
			}
			var known []string
			for _, f := range fs {
				known = append(known, f.name())
			}
			return fmt.Errorf("%s: no such setting; %s", name, Instead(name, known))
		}
		if err := fs[i].set(settings[name]); err != nil {
			return err
		}
	}
	for _, f := range fs {
		if err := f.check(); err != nil {
			return err
		}
	}
	if c, ok := v.(validator); ok {
		return c.Validate()
	}
	return nil
}

// field is one tagged field of a part.
type field struct {
	reflect.StructField
	v reflect.Value
}

func fields(v any) []field {
	r := reflect.ValueOf(v)
	if r.Kind() != reflect.Pointer || r.Elem().Kind() != reflect.Struct {
		return nil
	}
	return structFields(r.Elem())
}

func structFields(r reflect.Value) []field {
	var all []field
	for i := range r.NumField() {
		sf := r.Type().Field(i)
		if sf.Anonymous && sf.Type.Kind() == reflect.Struct {
			all = append(all, structFields(r.Field(i))...)
		} else if sf.Tag.Get("set") != "" {
			all = append(all, field{sf, r.Field(i)})
		}
	}
	return all
}

func (f field) name() string { return f.Tag.Get("set") }

func (f field) kind() string {
	if f.Type == reflect.TypeFor[time.Duration]() {
		return "duration"
	}
	switch f.Type.Kind() {
	case reflect.Int, reflect.Int64:
		return "int"
	case reflect.Float64, reflect.Float32:
		return "float"
	case reflect.Bool:
		return "bool"
	case reflect.String:
		return "string"
	}
	// A mistake in the part, which its first use in any test shows.
	panic(fmt.Sprintf("part: field %s has type %v; options are int, float, bool, string, duration", f.Name, f.Type))
}

func (f field) option() Option {
	o := Option{Name: f.name(), Type: f.kind(), Default: f.text(), Range: f.Tag.Get("range"), Help: f.Tag.Get("help")}
	if c := f.Tag.Get("choices"); c != "" {
		o.Choices = strings.Split(c, ",")
	}
	return o
}

func (f field) text() string {
	switch f.kind() {
	case "duration":
		return f.v.Interface().(time.Duration).String()
	case "int":
		return strconv.FormatInt(f.v.Int(), 10)
	case "float":
		return strconv.FormatFloat(f.v.Float(), 'g', -1, f.Type.Bits())
	case "bool":
		return strconv.FormatBool(f.v.Bool())
	}
	return f.v.String()
}

func (f field) set(text string) error {
	var err error
	want := ""
	switch f.kind() {
	case "duration":
		want = "a duration such as 90s or 5m"
		var d time.Duration
		if d, err = time.ParseDuration(text); err == nil {
			f.v.SetInt(int64(d))
		}
	case "int":
		want = "a whole number"
		var n int64
		if n, err = strconv.ParseInt(text, 10, f.Type.Bits()); err == nil {
			f.v.SetInt(n)
		}
	case "float":
		want = "a number"
		var x float64
		if x, err = strconv.ParseFloat(text, f.Type.Bits()); err == nil {
			f.v.SetFloat(x)
		}
	case "bool":
		want = "true or false"
		var b bool
		if b, err = strconv.ParseBool(text); err == nil {
			f.v.SetBool(b)
		}
	case "string":
		f.v.SetString(text)
	}
	if err != nil {
		return fmt.Errorf("%s=%s: want %s", f.name(), text, want)
	}
	return nil
}

// check holds a field against its range or choices.
func (f field) check() error {
	if o := f.option(); len(o.Choices) > 0 && !slices.Contains(o.Choices, f.text()) {
		return fmt.Errorf("%s=%s: want one of %s", f.name(), f.text(), strings.Join(o.Choices, ", "))
	}
	var x float64
	switch f.kind() {
	case "int":
		x = float64(f.v.Int())
	case "float":
		x = f.v.Float()
	case "duration":
		x = time.Duration(f.v.Int()).Seconds()
	}
	if math.IsNaN(x) {
		return fmt.Errorf("%s=%s: want a number", f.name(), f.text())
	}
	r := f.Tag.Get("range")
	if r == "" {
		return nil
	}
	lo, hi := bounds(r)
	tooLow := x < lo || x == lo && r[0] == '('
	tooHigh := x > hi || x == hi && r[len(r)-1] == ')'
	if tooLow || tooHigh {
		return fmt.Errorf("%s=%s: outside the range %s", f.name(), f.text(), r)
	}
	return nil
}

// bounds reads an interval such as "[0,1)" or "(0,inf)".
func bounds(r string) (lo, hi float64) {
	a, b, ok := strings.Cut(strings.Trim(r, "[]()"), ",")
	var err1, err2 error
	lo, err1 = strconv.ParseFloat(a, 64)
	hi, err2 = strconv.ParseFloat(b, 64)
	if !ok || err1 != nil || err2 != nil {
		panic(fmt.Sprintf("part: range %q is not an interval", r))
	}
	return lo, hi
}
