// Package recipe describes a training run as settings.
//
// A recipe is a small TOML file and changes to it made on the command line:
//
//	batch = 16                 batch=16
//	precision = "bf16"         precision=bf16
//	[optim]
//	use = "adamw"              optim=adamw
//	lr = 1e-3                  optim.lr=1e-3
//
// A plain key is a setting of the run; a section is a seam, whose "use" names
// the part and whose other keys are that part's options. What a run resolved
// its recipe to is saved beside the model, and replays the run.
package recipe

import (
	"bytes"
	"embed"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Recipe is settings by dotted name, each in text form: "optim" is the part of
// a seam, "optim.lr" one of its options, "batch" a plain setting.
type Recipe struct {
	Name     string // where it came from: a file or a built-in name
	settings map[string]string
}

//go:embed builtin/*.toml
var builtin embed.FS

// maxSize is the largest recipe file that is read.
const maxSize = 1 << 20

// Builtin lists the built-in recipes by name.
func Builtin() []string {
	entries, err := builtin.ReadDir("builtin")
	if err != nil {
		panic(err) // embedded at build time
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".toml"))
	}
	return names
}

// Open reads a built-in recipe by name, or a TOML file.
func Open(name string) (*Recipe, error) {
	if slices.Contains(Builtin(), name) {
		text, err := builtin.ReadFile(path.Join("builtin", name+".toml"))
		if err != nil {
			return nil, err
		}
		return Parse(name, text)
	}
	f, err := os.Open(name)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("recipe %s: no such file, and no built-in recipe of that name; built in: %s", name, strings.Join(Builtin(), ", "))
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	if len(text) > maxSize {
		return nil, fmt.Errorf("recipe %s: larger than %d bytes; is it a recipe?", name, maxSize)
	}
	return Parse(name, text)
}

// Parse reads the text of a recipe; name is used in errors.
func Parse(name string, text []byte) (*Recipe, error) {
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		if p, ok := err.(toml.ParseError); ok {
			return nil, fmt.Errorf("recipe %s, line %d: %s", name, p.Position.Line, p.Message)
		}
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	r := &Recipe{Name: name, settings: map[string]string{}}
	for key, value := range tree {
		section, ok := value.(map[string]any)
		if !ok {
			if err := r.put(key, value); err != nil {
				return nil, err
			}
			continue
		}
		for option, value := range section {
			full := key + "." + option
			if option == "use" {
				full = key
			}
			if err := r.put(full, value); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

func (r *Recipe) put(key string, value any) error {
	switch v := value.(type) {
	case string:
		r.settings[key] = v
	case int64:
		r.settings[key] = strconv.FormatInt(v, 10)
	case float64:
		r.settings[key] = strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		r.settings[key] = strconv.FormatBool(v)
	default:
		return fmt.Errorf("recipe %s: %s has a value of a kind that no setting takes (%T); want text, a number, true or false", r.Name, key, value)
	}
	return nil
}

// Set makes changes, each written key=value, those of parts before those of
// options. Naming another part of a seam drops the options of the one before.
func (r *Recipe) Set(assignments ...string) error {
	type change struct{ key, value string }
	var parts, options []change
	for _, a := range assignments {
		key, value, ok := strings.Cut(a, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || key == "" || strings.Count(key, ".") > 1 || strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") {
			return fmt.Errorf("--set %s: want seam=part, seam.option=value or setting=value", a)
		}
		if strings.Contains(key, ".") {
			options = append(options, change{key, value})
		} else {
			parts = append(parts, change{key, value})
		}
	}
	for _, c := range parts {
		if r.settings[c.key] != c.value {
			for option := range r.Options(c.key) {
				delete(r.settings, c.key+"."+option)
			}
		}
		r.settings[c.key] = c.value
	}
	for _, c := range options {
		r.settings[c.key] = c.value
	}
	return nil
}

// Get is a setting's text, or "" when it is not there.
func (r *Recipe) Get(key string) string { return r.settings[key] }

// Default sets what is not set yet.
func (r *Recipe) Default(key, value string) {
	if _, ok := r.settings[key]; !ok {
		r.settings[key] = value
	}
}

// Options are the options given to a seam, without its name.
func (r *Recipe) Options(seam string) map[string]string {
	m := map[string]string{}
	for k, v := range r.settings {
		if option, ok := strings.CutPrefix(k, seam+"."); ok {
			m[option] = v
		}
	}
	return m
}

// Replace sets the part and all options of a seam, to write down what it was
// resolved to.
func (r *Recipe) Replace(seam, name string, options map[string]string) {
	for k := range r.Options(seam) {
		delete(r.settings, seam+"."+k)
	}
	r.settings[seam] = name
	for k, v := range options {
		r.settings[seam+"."+k] = v
	}
}

// Check reports the first setting that is neither among the plain ones nor of
// one of the seams.
func (r *Recipe) Check(plain, seams []string) error {
	for _, key := range r.keys() {
		seam, _, isOption := strings.Cut(key, ".")
		if slices.Contains(seams, seam) || !isOption && slices.Contains(plain, key) {
			continue
		}
		known := append(slices.Clone(plain), seams...)
		slices.Sort(known)
		return fmt.Errorf("recipe %s: %s: no such setting; there is %s", r.Name, key, strings.Join(known, ", "))
	}
	return nil
}

func (r *Recipe) keys() []string {
	keys := make([]string, 0, len(r.settings))
	for k := range r.settings {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Clone returns a copy that can be changed apart.
func (r *Recipe) Clone() *Recipe {
	c := &Recipe{Name: r.Name, settings: map[string]string{}}
	for k, v := range r.settings {
		c.settings[k] = v
	}
	return c
}

// TOML writes the recipe; Parse reads it back to the same settings.
func (r *Recipe) TOML() []byte {
	tree := map[string]any{}
	for _, key := range r.keys() {
		seam, option, isOption := strings.Cut(key, ".")
		if !isOption && len(r.Options(key)) == 0 {
			tree[key] = literal(r.settings[key])
			continue
		}
		section, ok := tree[seam].(map[string]any)
		if !ok {
			section = map[string]any{}
			tree[seam] = section
		}
		if !isOption {
			option = "use"
		}
		section[option] = literal(r.settings[key])
	}
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(tree); err != nil {
		panic(err) // a map of plain values always encodes
	}
	return b.Bytes()
}

// literal gives a setting the TOML type that reads best, if its text comes
// back unchanged.
func literal(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(n, 10) == text {
		return n
	}
	if x, err := strconv.ParseFloat(text, 64); err == nil && strconv.FormatFloat(x, 'g', -1, 64) == text && !math.IsInf(x, 0) && !math.IsNaN(x) {
		return x
	}
	if text == "true" || text == "false" {
		return text == "true"
	}
	return text
}
