// Package tables has tables to learn from, for the experiments and the
// comparisons with other programs: two of scikit-learn's, handwritten digits as
// pixels, Debian's packages, and one that is computed.
package tables

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"hasten/data/source"
	"hasten/engine/rng"
	"hasten/task/tabular"
)

// sklearn is where Debian's package keeps its data.
const sklearn = "/usr/lib/python3/dist-packages/sklearn/datasets/data"

// sklearnTable reads one of scikit-learn's tables, whose last column is the
// class. Some begin with a line that is no data.
func sklearnTable(name string, skip int) (*tabular.Data, error) {
	f, err := os.Open(filepath.Join(sklearn, name))
	if err != nil {
		return nil, fmt.Errorf("scikit-learn's tables: %w; to get them: apt-get install python3-sklearn", err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	c := csv.NewReader(r)
	c.FieldsPerRecord = -1
	records, err := c.ReadAll()
	if err != nil || len(records) <= skip {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	records = records[skip:]
	columns := make([]tabular.Column, len(records[0]))
	for i := range columns {
		columns[i].Name = fmt.Sprint("c", i+1)
		for _, record := range records {
			v, err := strconv.ParseFloat(record[i], 32)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			columns[i].Values = append(columns[i].Values, float32(v))
		}
	}
	t, err := tabular.NewTable(name, columns...)
	if err != nil {
		return nil, err
	}
	return tabular.Frame(t, nil, nil, tabular.Classification)
}

// Digits is 1,797 images of 8×8 pixels in 10 classes.
func Digits() (*tabular.Data, error) { return sklearnTable("digits.csv.gz", 0) }

// Wine is 178 wines with 13 measurements, from 3 growers.
func Wine() (*tabular.Data, error) { return sklearnTable("wine_data.csv", 1) }

// MNIST is so many of the training images of handwritten digits, 28×28 pixels
// in 10 classes.
func MNIST(rows int) (*tabular.Data, error) {
	set, _ := source.Lookup("mnist")
	dir, err := set.Find()
	if err != nil {
		return nil, err
	}
	images, err := source.ReadIDX(filepath.Join(dir, "train-images-idx3-ubyte.gz"))
	if err != nil {
		return nil, err
	}
	labels, err := source.ReadIDX(filepath.Join(dir, "train-labels-idx1-ubyte.gz"))
	if err != nil {
		return nil, err
	}
	const pixels = 28 * 28
	if images.Len() < rows*pixels || labels.Len() < rows {
		return nil, fmt.Errorf("%s: %d pixels and %d labels, want those of %d images", dir, images.Len(), labels.Len(), rows)
	}
	columns := make([]tabular.Column, pixels+1)
	for i := range columns {
		values := make([]float32, rows)
		for r := range values {
			if i < pixels {
				values[r] = float32(images.Data[r*pixels+i])
			} else {
				values[r] = float32(labels.Data[r])
			}
		}
		columns[i] = tabular.Column{Name: fmt.Sprint("p", i), Values: values}
	}
	t, err := tabular.NewTable("mnist", columns...)
	if err != nil {
		return nil, err
	}
	return tabular.Frame(t, nil, nil, tabular.Classification)
}

// Fold divides data: part fold of folds, at random, is for testing.
func Fold(d *tabular.Data, fold, folds int, seed uint64) (train, test *tabular.Data) {
	s := rng.New(seed, 2)
	var in, out []int32
	for i, r := range s.Permutation(d.Inputs.Rows) {
		if i%folds == fold {
			out = append(out, int32(r))
		} else {
			in = append(in, int32(r))
		}
	}
	return d.Take(in), d.Take(out)
}

// Of the packages' sections, those count that have enough packages to learn
// from; of the words, the commonest.
const (
	leastPackages = 20
	commonWords   = 120
)

// Sections is about rows of Debian's packages: which section is it in, told
// from the commonest words of name, description and dependencies, and their
// lengths?
func Sections(rows int) (*tabular.Data, error) {
	all, err := source.Packages()
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, p := range all {
		count[p.Section]++
	}
	all = slices.DeleteFunc(all, func(p source.Package) bool { return count[p.Section] < leastPackages })
	s := rng.New(16, 0)
	order := s.Permutation(len(all))[:min(rows, len(all))]
	slices.Sort(order)

	words := make([]map[string]bool, len(order))
	seen := map[string]int{}
	for i, at := range order {
		words[i] = packageWords(&all[at])
		for w := range words[i] {
			seen[w]++
		}
	}
	var common []string
	for w := range seen {
		common = append(common, w)
	}
	slices.SortFunc(common, func(a, b string) int {
		if seen[a] != seen[b] {
			return seen[b] - seen[a]
		}
		return strings.Compare(a, b)
	})
	common = common[:min(commonWords, len(common))]

	n := len(order)
	columns := []tabular.Column{{Name: "name length"}, {Name: "description length"}, {Name: "dependencies"}, {Name: "digits in name"}, {Name: "section"}}
	for i := range columns {
		columns[i].Values = make([]float32, n)
	}
	names := map[string]float32{}
	for i, at := range order {
		p := &all[at]
		v := []float32{float32(len(p.Name)), float32(len(p.Description)), float32(strings.Count(p.Depends, ",")), float32(strings.Count(strings.Map(digit, p.Name), "0"))}
		for j, x := range v {
			columns[j].Values[i] = x
		}
		if _, ok := names[p.Section]; !ok {
			names[p.Section] = float32(len(names))
			columns[4].Categories = append(columns[4].Categories, p.Section)
		}
		columns[4].Values[i] = names[p.Section]
	}
	for _, w := range common {
		values := make([]float32, n)
		for i := range values {
			if words[i][w] {
				values[i] = 1
			}
		}
		columns = append(columns, tabular.Column{Name: "word " + w, Values: values})
	}
	t, err := tabular.NewTable("debpkg", columns...)
	if err != nil {
		return nil, err
	}
	return tabular.Frame(t, []string{"section"}, nil, tabular.Classification)
}

// digit writes every digit as 0.
func digit(r rune) rune {
	if unicode.IsDigit(r) {
		return '0'
	}
	return r
}

// packageWords is the words of a package, each marked with where it stands.
func packageWords(p *source.Package) map[string]bool {
	words := map[string]bool{}
	split := func(mark, text string, at func(rune) bool) {
		for _, w := range strings.FieldsFunc(strings.ToLower(text), at) {
			words[mark+w] = true
		}
	}
	letters := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	split("n:", p.Name, letters)
	split("d:", p.Description, letters)
	for d := range strings.SplitSeq(p.Depends, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(d), " ")
		words["needs:"+name] = true
	}
	return words
}

// Design is a table of welded beams: from six numbers of a design follow eight
// of its behaviour, with a little noise of measurement.
//
// The formulas are those of the welded-beam problem: K. M. Ragsdell and D. T.
// Phillips, "Optimal design of a class of welded structures using geometric
// programming", Journal of Engineering for Industry 98, 1976.
func Design(rows int) (*tabular.Data, error) {
	inputs := []struct {
		name   string
		lo, hi float64
	}{{"weld height", 0.1, 2}, {"weld length", 0.5, 10}, {"bar height", 1, 10}, {"bar width", 0.1, 2}, {"load", 2000, 8000}, {"overhang", 8, 20}}
	outputs := []string{"weld stress", "bending stress", "deflection", "buckling load", "cost", "primary shear", "torsion", "margin"}
	columns := make([]tabular.Column, len(inputs)+len(outputs))
	for i := range columns {
		if i < len(inputs) {
			columns[i].Name = inputs[i].name
		} else {
			columns[i].Name = outputs[i-len(inputs)]
		}
		columns[i].Values = make([]float32, rows)
	}
	s := rng.New(16, 1)
	for r := range rows {
		var x [6]float64
		for i, in := range inputs {
			x[i] = in.lo + (in.hi-in.lo)*s.Float64()
			columns[i].Values[r] = float32(x[i])
		}
		for i, y := range beam(x[0], x[1], x[2], x[3], x[4], x[5]) {
			columns[len(inputs)+i].Values[r] = float32(y + 0.02*s.Normal())
		}
	}
	t, err := tabular.NewTable("welded beams", columns...)
	if err != nil {
		return nil, err
	}
	return tabular.Frame(t, outputs, nil, tabular.Regression)
}

// beam is the behaviour of a design of lengths in inches and a load in pounds,
// in logarithms where values spread over orders of magnitude.
func beam(h, l, t, b, p, overhang float64) [8]float64 {
	const e, g = 30e6, 12e6 // moduli of steel, psi
	primary := p / (math.Sqrt2 * h * l)
	radius := math.Sqrt(l*l/4 + (h+t)*(h+t)/4)
	polar := 2 * math.Sqrt2 * h * l * (l*l/12 + (h+t)*(h+t)/4)
	torsion := p * (overhang + l/2) * radius / polar
	weld := math.Sqrt(primary*primary + 2*primary*torsion*l/(2*radius) + torsion*torsion)
	bending := 6 * p * overhang / (b * t * t)
	deflection := 4 * p * overhang * overhang * overhang / (e * t * t * t * b)
	buckling := 4.013 * e * math.Sqrt(t*t*math.Pow(b, 6)/36) / (overhang * overhang) * (1 - t/(2*overhang)*math.Sqrt(e/(4*g)))
	cost := 1.10471*h*h*l + 0.04811*t*b*(overhang+l)
	margin := math.Min(math.Log(13600/weld), math.Log(30000/bending))
	return [8]float64{math.Log(weld), math.Log(bending), math.Log(deflection), math.Log(buckling), math.Log(cost), math.Log(primary), math.Log(torsion), margin}
}
