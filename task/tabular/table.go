package tabular

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Column is one column of a table.
type Column struct {
	Name string `json:"name"`
	// Categories names the values of a column of categories; nil for numbers.
	Categories []string `json:"categories,omitempty"`
	// Values are numbers, or indices of Categories; NaN where nothing is known.
	Values []float32 `json:"-"`
}

// Table is named columns of one length.
type Table struct {
	Name    string // of the file, for errors
	Columns []Column
	Rows    int

	lines []int // where each row begins in the file; nil if it has no lines
}

// NewTable makes a table of columns that are in memory.
func NewTable(name string, columns ...Column) (*Table, error) {
	t := &Table{Name: name, Columns: columns}
	for i, c := range columns {
		if i == 0 {
			t.Rows = len(c.Values)
		}
		if len(c.Values) != t.Rows {
			return nil, fmt.Errorf("%s: column %q has %d rows, and %q has %d", name, c.Name, len(c.Values), columns[0].Name, t.Rows)
		}
		for r, v := range c.Values {
			if c.Categories != nil && v == v && (v != float32(int(v)) || v < 0 || int(v) >= len(c.Categories)) {
				return nil, fmt.Errorf("%s: row %d: column %q: %v is not the index of one of %d categories", name, r+1, c.Name, v, len(c.Categories))
			}
		}
	}
	return t, t.checkNames()
}

func (t *Table) checkNames() error {
	seen := map[string]int{}
	for i, c := range t.Columns {
		if c.Name == "" {
			return fmt.Errorf("%s: column %d has no name in the header; give it one, or set data.header=false if the first line is data", t.Name, i+1)
		}
		if before, ok := seen[c.Name]; ok {
			return fmt.Errorf("%s: columns %d and %d are both named %q; rename one, or set data.header=false if the first line is data", t.Name, before, i+1, c.Name)
		}
		seen[c.Name] = i + 1
	}
	return nil
}

// Column finds a column by name.
func (t *Table) Column(name string) (*Column, error) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("%s: no column %q; there is %s", t.Name, name, t.names())
	}
	return &t.Columns[i], nil
}

func (t *Table) names() string {
	const most = 12
	var names []string
	for _, c := range t.Columns[:min(most, len(t.Columns))] {
		names = append(names, strconv.Quote(c.Name))
	}
	if more := len(t.Columns) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// at says where a row is, for errors.
func (t *Table) at(row int) string {
	if t.lines != nil {
		return fmt.Sprintf("%s:%d", t.Name, t.lines[row])
	}
	return fmt.Sprintf("%s: row %d", t.Name, row+1)
}

// Take returns the table of some rows, in the order given.
func (t *Table) Take(rows []int32) *Table {
	out := &Table{Name: t.Name, Rows: len(rows)}
	for _, c := range t.Columns {
		values := make([]float32, len(rows))
		for i, r := range rows {
			values[i] = c.Values[r]
		}
		out.Columns = append(out.Columns, Column{c.Name, c.Categories, values})
	}
	if t.lines != nil {
		for _, r := range rows {
			out.lines = append(out.lines, t.lines[r])
		}
	}
	return out
}

// Kind is what a model predicts.
type Kind string

// The kinds.
const (
	Classification Kind = "classification"
	Regression     Kind = "regression"
)

// Data is a table divided into what is known and what is to be predicted.
type Data struct {
	Inputs  *Table
	Kind    Kind
	Targets []string  // the columns to be predicted
	Classes []string  // classification: their names
	Labels  []int32   // classification: [Rows], indices of Classes
	Y       []float32 // regression: [Rows, Targets]
}

// Outputs is the number of values a model computes for a row: classes, or
// targets.
func (d *Data) Outputs() int {
	if d.Kind == Classification {
		return len(d.Classes)
	}
	return len(d.Targets)
}

// Take returns the data of some rows.
func (d *Data) Take(rows []int32) *Data {
	out := *d
	out.Inputs = d.Inputs.Take(rows)
	out.Labels, out.Y = nil, nil
	k := len(d.Targets)
	for _, r := range rows {
		if d.Kind == Classification {
			out.Labels = append(out.Labels, d.Labels[r])
		} else {
			out.Y = append(out.Y, d.Y[int(r)*k:][:k]...)
		}
	}
	return &out
}

// fewClasses is the most whole numbers that are taken for classes where the
// kind is not given.
const fewClasses = 20

// Frame divides a table. targets names the columns to predict, several for
// regression only; none means the last column. ignore names columns that are
// left out. An empty kind is inferred: text and up to 20 different whole
// numbers are classes, anything else is to be regressed.
func Frame(t *Table, targets, ignore []string, kind Kind) (*Data, error) {
	if t.Rows == 0 || len(t.Columns) == 0 {
		return nil, fmt.Errorf("%s: no rows in it", t.Name)
	}
	if len(targets) == 0 {
		targets = []string{t.Columns[len(t.Columns)-1].Name}
	}
	for _, name := range append(targets[:len(targets):len(targets)], ignore...) {
		if _, err := t.Column(name); err != nil {
			return nil, err
		}
	}
	d := &Data{Kind: kind, Targets: targets, Inputs: &Table{Name: t.Name, Rows: t.Rows, lines: t.lines}}
	for _, c := range t.Columns {
		if !slices.Contains(targets, c.Name) && !slices.Contains(ignore, c.Name) {
			d.Inputs.Columns = append(d.Inputs.Columns, c)
		}
	}
	if len(d.Inputs.Columns) == 0 {
		return nil, fmt.Errorf("%s: no columns are left to predict %s from", t.Name, strings.Join(targets, ", "))
	}
	if d.Kind == "" {
		d.Kind = Regression
		if len(targets) == 1 {
			c, _ := t.Column(targets[0])
			d.Kind = inferKind(c)
		}
	}
	if d.Kind == Regression {
		return d, d.regress(t)
	}
	if len(targets) > 1 {
		return nil, fmt.Errorf("%s: %d targets (%s): classification predicts one; train a model for each, or set kind=regression", t.Name, len(targets), strings.Join(targets, ", "))
	}
	return d, d.classify(t, nil)
}

func inferKind(c *Column) Kind {
	if c.Categories != nil {
		return Classification
	}
	seen := map[float32]bool{}
	for _, v := range c.Values {
		if v == v {
			seen[v] = true
		}
		if v == v && v != float32(math.Trunc(float64(v))) || len(seen) > fewClasses {
			return Regression
		}
	}
	return Classification
}

// regress fills Y.
func (d *Data) regress(t *Table) error {
	k := len(d.Targets)
	d.Y = make([]float32, t.Rows*k)
	for j, name := range d.Targets {
		c, err := t.Column(name)
		if err != nil {
			return err
		}
		if c.Categories != nil {
			return fmt.Errorf("%s: column %q holds text (%q), which cannot be regressed; set kind=classification, or name another target", t.Name, name, c.Categories[0])
		}
		for r, v := range c.Values {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("%s: column %q: the target must be a finite number, and this is %v; fill it in or remove the row", t.at(r), name, v)
			}
			d.Y[r*k+j] = v
		}
	}
	return nil
}

// classify fills Labels, and Classes if they are not given.
func (d *Data) classify(t *Table, classes []string) error {
	c, err := t.Column(d.Targets[0])
	if err != nil {
		return err
	}
	names := func(v float32) string { return strconv.FormatFloat(float64(v), 'g', -1, 32) }
	if c.Categories != nil {
		names = func(v float32) string { return c.Categories[int(v)] }
	}
	d.Classes = classes
	if classes == nil {
		d.Classes = distinct(c, names)
		if len(d.Classes) < 2 {
			return fmt.Errorf("%s: column %q: every row has the class %q; nothing can be learned", t.Name, c.Name, strings.Join(d.Classes, ""))
		}
		if limit := t.Rows / 2; len(d.Classes) > max(limit, 2) {
			return fmt.Errorf("%s: column %q has %d different values in %d rows: hardly classes; set kind=regression, or name another target", t.Name, c.Name, len(d.Classes), t.Rows)
		}
	}
	index := map[string]int32{}
	for i, name := range d.Classes {
		index[name] = int32(i)
	}
	d.Labels = make([]int32, t.Rows)
	for r, v := range c.Values {
		if v != v {
			return fmt.Errorf("%s: column %q: the target is missing; fill it in or remove the row", t.at(r), c.Name)
		}
		i, ok := index[names(v)]
		if !ok {
			return fmt.Errorf("%s: column %q: the model knows no class %q", t.at(r), c.Name, names(v))
		}
		d.Labels[r] = i
	}
	return nil
}

// distinct lists the values that occur: numbers by size, text by the alphabet.
func distinct(c *Column, name func(float32) string) []string {
	seen := map[float32]bool{}
	for _, v := range c.Values {
		if v == v {
			seen[v] = true
		}
	}
	var values []float32
	for v := range seen {
		values = append(values, v)
	}
	slices.Sort(values)
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = name(v)
	}
	if c.Categories != nil {
		slices.Sort(all)
	}
	return all
}
