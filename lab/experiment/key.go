package experiment

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// module is the path of this module.
const module = "hasten"

// Key names the code and the settings that a result depends on. Where the
// module's source is at hand it is a hash of the experiment's file and of all
// packages of the module that this reaches, so that a result stays up to date
// when other code changes; a binary on its own goes by its version.
func Key(p Paper, o Options) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "quick %v seeds %d\n", o.Quick, o.seeds())
	file, _ := runtime.FuncForPC(reflect.ValueOf(p.Run).Pointer()).FileLine(reflect.ValueOf(p.Run).Pointer())
	root, ok := moduleRoot(file)
	if !ok {
		fmt.Fprintf(h, "version %s\n", version())
		return hex.EncodeToString(h.Sum(nil)[:12]), nil
	}
	rel, err := filepath.Rel(root, file)
	if err != nil {
		return "", err
	}
	s := &sources{root: os.DirFS(root), seen: map[string]bool{}}
	if err := s.file(filepath.ToSlash(rel)); err != nil {
		return "", err
	}
	if err := s.shared(path.Dir(filepath.ToSlash(rel))); err != nil {
		return "", err
	}
	for _, c := range p.Code {
		if err := s.file(c); err != nil {
			return "", fmt.Errorf("%s: Code: %w", p.Slug, err)
		}
	}
	slices.Sort(s.files)
	for _, f := range slices.Compact(s.files) {
		text, err := fs.ReadFile(s.root, f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %x\n", f, sha256.Sum256(text))
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// moduleRoot is the folder above a source file that holds this module's go.mod.
func moduleRoot(file string) (string, bool) {
	if !filepath.IsAbs(file) {
		return "", false // built with -trimpath
	}
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module "+module+"\n") {
			return dir, true
		}
		if dir == filepath.Dir(dir) {
			return "", false
		}
	}
}

// sources collects the files that a file depends on.
type sources struct {
	root  fs.FS
	seen  map[string]bool // packages and files that were visited
	files []string
}

// file adds a file and the packages it imports.
func (s *sources) file(name string) error {
	if s.seen[name] {
		return nil
	}
	s.seen[name] = true
	s.files = append(s.files, name)
	imports, err := s.imports(name)
	if err != nil {
		return err
	}
	for _, i := range imports {
		if err := s.pkg(i); err != nil {
			return err
		}
	}
	return nil
}

// shared adds the files of a family's package that are no papers.
func (s *sources) shared(dir string) error {
	names, err := fs.Glob(s.root, path.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := fs.ReadFile(s.root, name)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, "_test.go") || strings.Contains(string(text), "func (Papers)") {
			continue
		}
		if err := s.file(name); err != nil {
			return err
		}
	}
	return nil
}

// pkg adds all files of a package, and of what it imports.
func (s *sources) pkg(dir string) error {
	if s.seen[dir] || outside[dir] {
		return nil
	}
	s.seen[dir] = true
	entries, err := fs.ReadDir(s.root, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasSuffix(name, "_test.go") || !strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".s") {
			continue
		}
		if err := s.file(path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// outside are the packages that say how results are kept and shown; no figure
// depends on them.
var outside = map[string]bool{"lab/card": true, "lab/result": true}

var importCache sync.Map // of []string by file

// imports are the folders of the module's packages that a Go file imports.
func (s *sources) imports(name string) ([]string, error) {
	if !strings.HasSuffix(name, ".go") {
		return nil, nil
	}
	if v, ok := importCache.Load(name); ok {
		return v.([]string), nil
	}
	text, err := fs.ReadFile(s.root, name)
	if err != nil {
		return nil, err
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		if dir, ok := strings.CutPrefix(p, module+"/"); ok {
			dirs = append(dirs, dir)
		}
	}
	importCache.Store(name, dirs)
	return dirs, nil
}

// version is the revision that the binary was built from, as far as it knows.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v = s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
