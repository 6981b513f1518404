package source

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pierrec/lz4/v4"
)

// Package is one of Debian's packages, as apt lists it.
type Package struct {
	Name        string
	Section     string // such as "python" or "non-free/games"
	Description string // one line
	Depends     string // what it needs, as written: "libc6 (>= 2.34), …"
}

// Packages returns the packages of the data set debpkg that have a name, a
// section and a description, in the order of their names. Of several versions
// of a package it has one.
func Packages() ([]Package, error) {
	named, _ := Lookup("debpkg")
	dir, err := named.Find()
	if err != nil {
		return nil, err
	}
	return packagesIn(dir)
}

// packagesIn reads the lists in a directory.
func packagesIn(dir string) ([]Package, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*_Packages*"))
	if err != nil {
		return nil, err
	}
	all := map[string]Package{}
	for _, path := range paths {
		if err := readPackages(path, all); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no package in its lists; fetch them with apt-get update", dir)
	}
	names := slices.Sorted(maps.Keys(all))
	list := make([]Package, len(names))
	for i, name := range names {
		list[i] = all[name]
	}
	return list, nil
}

// readPackages adds the packages of one list that are not there yet.
func readPackages(path string, all map[string]Package) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = f
	switch ext := filepath.Ext(path); {
	case ext == ".lz4":
		r = lz4.NewReader(f)
	case ext == ".gz":
		if r, err = gzip.NewReader(f); err != nil {
			return err
		}
	case !strings.HasSuffix(path, "_Packages"):
		return fmt.Errorf("cannot read lists compressed as %s; only .lz4 and .gz", ext)
	}
	var p Package
	add := func() {
		if _, ok := all[p.Name]; !ok && p.Name != "" && p.Section != "" && p.Description != "" {
			all[p.Name] = p
		}
		p = Package{}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20) // some packages provide very much
	for lines.Scan() {
		line := lines.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case line == "":
			add()
		case field == "Package":
			p.Name = value
		case field == "Section":
			p.Section = value
		case field == "Description":
			p.Description = value
		case field == "Pre-Depends" || field == "Depends":
			p.Depends = strings.TrimPrefix(p.Depends+", "+value, ", ")
		}
	}
	add()
	return lines.Err()
}
