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
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"hasten/engine/part"
)

// Recipe is settings by dotted name, each in text form: "optim" is the part of
// a seam, "optim.lr" one of its options, "batch" a plain setting.
type Recipe struct {
	Name     string // where it came from: a file or a built-in name
	settings map[string]setting
}

// setting is a value in text form.
type setting struct {
	text string
	line int // of the file it comes from; 0: none
}

//go:embed builtin/*.toml
var builtin embed.FS

// maxSize is the largest recipe that is read, in bytes. The time that the TOML
// library takes grows with the third power of the nesting; this bounds it to a
// few seconds.
const maxSize = 16 << 10

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
	return Parse(name, text)
}

// Parse reads the text of a recipe; name is used in errors.
func Parse(name string, text []byte) (*Recipe, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("recipe %s: larger than %d bytes; is it a recipe?", name, maxSize)
	}
	r := &Recipe{Name: name, settings: map[string]setting{}}
	var tree map[string]toml.Primitive
	meta, err := toml.Decode(string(text), &tree)
	var p toml.ParseError
	if errors.As(err, &p) {
		err = fmt.Errorf("line %d: %.200s", p.Position.Line, strings.ReplaceAll(p.Message, "\n", " ")) // it quotes the text
	}
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		if err == nil {
			err = r.read(&meta, tree[key], key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	return r, nil
}

// read reads the value of a key: a setting, or a section of them.
func (r *Recipe) read(meta *toml.MetaData, value toml.Primitive, path ...string) error {
	var section map[string]toml.Primitive
	if meta.PrimitiveDecode(value, &section) == nil && section != nil {
		for _, name := range slices.Sorted(maps.Keys(section)) {
			if err := r.read(meta, section[name], append(path, name)...); err != nil {
				return err
			}
		}
		return nil
	}
	// The library tells a line only with an error.
	var refused toml.ParseError
	errors.As(meta.PrimitiveDecode(value, refusal{}), &refused)
	line := refused.Position.Line

	key, err := join(path...)
	if err != nil {
		return fmt.Errorf("line %d: %w", line, err)
	}
	var v any
	if err := meta.PrimitiveDecode(value, &v); err != nil {
		return err
	}
	text, ok := format(v)
	if !ok {
		return fmt.Errorf("line %d: %s: no setting takes a value of this kind; want text, a number, true or false", line, key)
	}
	r.settings[key] = setting{text, line}
	return nil
}

// refusal is a value that cannot be decoded.
type refusal struct{}

// UnmarshalTOML fails.
func (refusal) UnmarshalTOML(any) error { return errors.New("refused") }

// format is the text form of the values that a setting can have.
func format(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// join makes the name of a setting from that of its seam and its own.
func join(path ...string) (string, error) {
	for _, name := range path {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			return "", fmt.Errorf("%.100q cannot be the name of a setting", name)
		}
	}
	if len(path) == 2 && path[1] == "use" {
		path = path[:1]
	}
	if len(path) > 2 {
		return "", fmt.Errorf("%.100s: settings have at most two names", strings.Join(path, "."))
	}
	return strings.Join(path, "."), nil
}

// Set makes changes, each written key=value, those of parts before those of
// options. Naming another part of a seam drops the options of the one before.
func (r *Recipe) Set(assignments ...string) error {
	type change struct{ key, value string }
	var parts, options []change
	for _, a := range assignments {
		name, value, ok := strings.Cut(a, "=")
		key, err := join(strings.Split(strings.TrimSpace(name), ".")...)
		switch {
		case !ok || err != nil:
			return fmt.Errorf("--set %.100q: want seam=part, seam.option=value or setting=value", a)
		case !utf8.ValidString(value):
			return fmt.Errorf("--set %.100q: the value is not UTF-8", a)
		case strings.Contains(key, "."):
			options = append(options, change{key, strings.TrimSpace(value)})
		default:
			parts = append(parts, change{key, strings.TrimSpace(value)})
		}
	}
	for _, c := range parts {
		if r.Get(c.key) != c.value {
			r.drop(c.key)
		}
		r.Put(c.key, c.value)
	}
	for _, c := range options {
		r.Put(c.key, c.value)
	}
	return nil
}

// Put sets one setting, by its dotted name, and leaves all others as they are.
func (r *Recipe) Put(key, value string) { r.settings[key] = setting{text: value} }

// drop forgets the options of a seam.
func (r *Recipe) drop(seam string) {
	for option := range r.Options(seam) {
		delete(r.settings, seam+"."+option)
	}
}

// Get is a setting's text, or "" when it is not there.
func (r *Recipe) Get(key string) string { return r.settings[key].text }

// Options are the options given to a seam, without its name.
func (r *Recipe) Options(seam string) map[string]string {
	m := map[string]string{}
	for k, v := range r.settings {
		if option, ok := strings.CutPrefix(k, seam+"."); ok {
			m[option] = v.text
		}
	}
	return m
}

// Replace sets the part and all options of a seam, to write down what it was
// resolved to.
func (r *Recipe) Replace(seam, name string, options map[string]string) {
	r.drop(seam)
	r.Put(seam, name)
	for k, v := range options {
		r.Put(seam+"."+k, v)
	}
}

// Check reports the first setting that there is not. plain are the settings
// without options, seams those that name a part, which has options, and groups
// those that are nothing but options.
func (r *Recipe) Check(plain, seams, groups []string) error {
	for _, key := range slices.Sorted(maps.Keys(r.settings)) {
		name, _, isOption := strings.Cut(key, ".")
		known := slices.Concat(plain, seams)
		if isOption {
			known = slices.Concat(seams, groups)
		}
		if slices.Contains(known, name) {
			continue
		}
		where := ""
		if line := r.settings[key].line; line > 0 {
			where = fmt.Sprintf("line %d: ", line)
		}
		if slices.Contains(groups, name) {
			return fmt.Errorf("%s%s: a group of settings; want one of them, %s.NAME", where, key, name)
		}
		slices.Sort(known)
		return fmt.Errorf("%s%s: no such setting; %s", where, key, part.Instead(name, known))
	}
	return nil
}

// Clone returns a copy that can be changed apart.
func (r *Recipe) Clone() *Recipe { return &Recipe{r.Name, maps.Clone(r.settings)} }

// TOML writes the recipe; Parse reads it back to the same settings.
func (r *Recipe) TOML() []byte {
	tree := map[string]any{}
	for key, s := range r.settings {
		seam, option, isOption := strings.Cut(key, ".")
		if !isOption && len(r.Options(key)) == 0 {
			tree[key] = literal(s.text)
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
		section[option] = literal(s.text)
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
