package source

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Go returns gosrc, the source of the Go toolchain at goroot; with goroot
// empty, of the toolchain that FindGo finds.
//
// It holds every .go file under GOROOT/src that is in no directory called
// testdata and is not marked "// Code generated … DO NOT EDIT." (as go/ast's
// IsGenerated sees it), in the order of their slash-separated paths relative
// to GOROOT/src, compared byte by byte. A file is validation when the first
// byte of the SHA-256 of that path is below 13: about one in twenty.
func Go(goroot string) (*Source, error) {
	opts, err := Options{}.check()
	if err != nil {
		return nil, err
	}
	return goSource(goroot, opts)
}

func goSource(goroot string, opts Options) (*Source, error) {
	if goroot == "" {
		var err error
		if goroot, err = FindGo(); err != nil {
			return nil, err
		}
	}
	root, err := filepath.EvalSymlinks(filepath.Join(goroot, "src")) // Debian's src is a link
	if err != nil {
		return nil, fmt.Errorf("gosrc: %s holds no Go source: %w", goroot, err)
	}
	s := &Source{name: "gosrc", opts: opts}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "testdata":
			return fs.SkipDir
		case !d.Type().IsRegular() || filepath.Ext(path) != ".go":
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := newFile(path, filepath.ToSlash(rel), info)
		if f.size == 0 {
			return nil
		}
		switch skip, err := generated(path); {
		case err != nil:
			return err
		case skip:
			s.skip("generated", f.name)
			return nil
		}
		if sha256.Sum256([]byte(f.name))[0] < 13 {
			f.split = allValid
		}
		s.files = append(s.files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("gosrc: %w", err)
	}
	if len(s.files) == 0 {
		return nil, fmt.Errorf("gosrc: no .go file under %s", root)
	}
	slices.SortFunc(s.files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return s, nil
}

// generated reports whether a Go file is marked as generated.
func generated(path string) (bool, error) {
	text, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(text, []byte("// Code generated ")) {
		return false, err
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.PackageClauseOnly|parser.ParseComments)
	return err == nil && ast.IsGenerated(f), nil
}

// FindGo returns the root of the Go installation: $GOROOT, or what the go
// command on $PATH says, or a usual place.
func FindGo() (string, error) {
	if root := os.Getenv("GOROOT"); root != "" {
		if !hasGo(root) {
			return "", fmt.Errorf("GOROOT=%s: no Go source in %s", root, filepath.Join(root, "src"))
		}
		return root, nil
	}
	if out, err := exec.Command("go", "env", "GOROOT").Output(); err == nil {
		if root := strings.TrimSpace(string(out)); hasGo(root) {
			return root, nil
		}
	}
	for _, root := range []string{"/usr/local/go", "/usr/lib/go", "/usr/lib/golang", "/opt/homebrew/opt/go/libexec", `C:\Program Files\Go`} {
		if hasGo(root) {
			return root, nil
		}
	}
	return "", errors.New("gosrc: no Go toolchain found; install Go, or set GOROOT to where it is, or name other data: a file, a directory, or - for standard input")
}

func hasGo(root string) bool {
	info, err := os.Stat(filepath.Join(root, "src", "runtime"))
	return root != "" && err == nil && info.IsDir()
}
