package main

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strings"

	"hasten/data/source"
	"hasten/engine/rng"
)

// set is a data set as two files in fasttext's format.
type set struct {
	train, test   string
	texts, labels int
}

// sets make the data sets, in files that begin with the given path.
var sets = map[string]func(path string) (set, error){
	"sections": func(path string) (set, error) {
		return packages(path, 10, func(p source.Package) string { return p.Section })
	},
	// Every package is a class, so the texts trained on are those measured on.
	"names": func(path string) (set, error) {
		return packages(path, 0, func(p source.Package) string { return p.Name })
	},
	"gosrc": goSource,
}

// writer writes texts to the two files of a set.
type writer struct {
	set
	files   [2]*bufio.Writer
	close   [2]*os.File
	classes map[string]bool
}

func newWriter(path string) (*writer, error) {
	w := &writer{set: set{train: path + ".train", test: path + ".test"}, classes: map[string]bool{}}
	for i, name := range []string{w.train, w.test} {
		f, err := os.Create(name)
		if err != nil {
			return nil, err
		}
		w.close[i], w.files[i] = f, bufio.NewWriter(f)
	}
	return w, nil
}

// add writes a text; part is 0 for training and 1 for the test.
func (w *writer) add(part int, label, text string) {
	if part == 0 {
		w.texts++
		w.classes[label] = true
	}
	fmt.Fprintf(w.files[part], "__label__%s %s\n", strings.Join(strings.Fields(label), "_"), strings.Join(strings.Fields(strings.ToLower(text)), " "))
}

func (w *writer) finish() (set, error) {
	w.labels = len(w.classes)
	for i, f := range w.files {
		if err := f.Flush(); err != nil {
			return w.set, err
		}
		if err := w.close[i].Close(); err != nil {
			return w.set, err
		}
	}
	return w.set, nil
}

// packages writes the descriptions of Debian's packages in random order, with
// every held-th in the test, or with held 0 all of them in both.
func packages(path string, held int, label func(source.Package) string) (set, error) {
	all, err := source.Packages()
	if err != nil {
		return set{}, err
	}
	w, err := newWriter(path)
	if err != nil {
		return set{}, err
	}
	random := rng.New(1, 0)
	for i, k := range random.Permutation(len(all)) {
		p := all[k]
		if held == 0 || i%held != 0 {
			w.add(0, label(p), p.Description)
		}
		if held == 0 || i%held == 0 {
			w.add(1, label(p), p.Description)
		}
	}
	return w.finish()
}

// goSource writes pieces of ten lines of the Go toolchain's source, in random
// order, labelled with the first two directories of their file.
func goSource(name string) (set, error) {
	s, err := source.Open("gosrc", source.Options{})
	if err != nil {
		return set{}, err
	}
	defer s.Close()
	type piece struct {
		label, text string
		part        int
	}
	var all []piece
	for d, err := range s.Documents() {
		if err != nil {
			return set{}, err
		}
		dirs := strings.SplitN(path.Dir(d.Name), "/", 3)
		label := strings.Join(dirs[:min(2, len(dirs))], "/")
		lines := strings.Split(string(d.Text), "\n")
		for i := 0; i < len(lines); i += 10 {
			p := piece{label: label, text: strings.Join(lines[i:min(i+10, len(lines))], " ")}
			if d.Valid {
				p.part = 1
			}
			if strings.TrimSpace(p.text) != "" {
				all = append(all, p)
			}
		}
	}
	w, err := newWriter(name)
	if err != nil {
		return set{}, err
	}
	random := rng.New(1, 0)
	for _, k := range random.Permutation(len(all)) {
		w.add(all[k].part, all[k].label, all[k].text)
	}
	return w.finish()
}
