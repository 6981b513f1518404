package tabular

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"hasten/engine/atomicfile"
)

// ModelFile is the file of a model directory that holds the model. It is
// JSON: the exported fields of Model, by their names in the tags. A row's
// output k is Start[k] plus, of every tree, the value that the leaf it falls
// into has for k; for classes these are logits.
const ModelFile = "model.json"

// format names the file's format.
const format = "hasten tabular 1"

// allOutputs is the Output of a tree whose leaves have a value for each.
const allOutputs = -1

// Model is boosted trees.
type Model struct {
	Format  string    `json:"format"`
	Kind    Kind      `json:"kind"`
	Targets []string  `json:"targets"`
	Classes []string  `json:"classes,omitempty"`
	Columns []Column  `json:"columns"` // inputs
	Start   []float32 `json:"start"`
	Trees   []Tree    `json:"trees"`

	predictor *predictor
}

// Tree is a binary tree. The root is node 0; a tree without nodes is leaf 0.
type Tree struct {
	Output int       `json:"output"` // the output it adds to; -1: its leaves have a value for each
	Nodes  []Node    `json:"nodes"`
	Values []float32 `json:"values"` // [leaves, 1 or outputs]
}

// Node asks about one column, of numbers or of categories. Rows that say yes
// go left. With neither At nor Is, it asks whether the value is missing.
type Node struct {
	Column  int      `json:"column"`
	At      *float32 `json:"at,omitempty"`      // is the number at most this?
	Is      *int     `json:"is,omitempty"`      // is it this of the column's categories?
	Missing bool     `json:"missing,omitempty"` // the answer for what is missing; it counts for numbers
	Left    int      `json:"left"`              // a node; below zero, ^the index of a leaf
	Right   int      `json:"right"`
}

// Outputs is the number of values computed for a row.
func (m *Model) Outputs() int { return len(m.Start) }

// export turns the nodes at hand into those of a model.
func (g *grower) export() []Node {
	nodes := make([]Node, len(g.nodes))
	for i, n := range g.nodes {
		out := Node{Column: n.column, Left: int(n.left), Right: int(n.right)}
		switch b := &g.columns[n.column]; {
		case b.isCodes && n.shift > 0:
			out.Is = &b.codes[n.shift-1]
		case b.isCodes || n.shift+n.at == missingBin: // what is missing against the rest
		default:
			out.At, out.Missing = &b.limits[n.shift+n.at-1], n.shift == 0
		}
		nodes[i] = out
	}
	return nodes
}

// Save writes the model into a directory, which must exist.
func (m *Model) Save(dir string) error {
	return atomicfile.WriteFile(filepath.Join(dir, ModelFile), func(w io.Writer) error {
		b := bufio.NewWriter(w)
		if err := json.NewEncoder(b).Encode(m); err != nil {
			return err
		}
		return b.Flush()
	})
}

// Open reads a model directory.
func Open(dir string) (*Model, error) {
	path := filepath.Join(dir, ModelFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := parseModel(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func parseModel(text []byte) (*Model, error) {
	m := &Model{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, err
	}
	if m.Format != format {
		return nil, fmt.Errorf("format %.40q: want %q", m.Format, format)
	}
	outputs := len(m.Targets)
	if m.Kind == Classification {
		outputs = len(m.Classes)
	}
	if m.Kind != Classification && m.Kind != Regression || outputs == 0 || outputs != len(m.Start) || len(m.Targets) == 0 {
		return nil, fmt.Errorf("%q with %d targets, %d classes and %d starts: these do not agree", m.Kind, len(m.Targets), len(m.Classes), len(m.Start))
	}
	for i := range m.Trees {
		if err := m.check(&m.Trees[i]); err != nil {
			return nil, fmt.Errorf("tree %d: %w", i, err)
		}
	}
	return m, m.compile()
}

// check makes sure that a tree can be walked.
func (m *Model) check(t *Tree) error {
	width := m.Outputs()
	if t.Output >= 0 {
		width = 1
	}
	if t.Output < allOutputs || t.Output >= m.Outputs() {
		return fmt.Errorf("output %d of %d", t.Output, m.Outputs())
	}
	leaves := len(t.Values) / width
	if leaves == 0 || leaves*width != len(t.Values) {
		return fmt.Errorf("%d values are no leaves of %d", len(t.Values), width)
	}
	for i, n := range t.Nodes {
		if n.Column < 0 || n.Column >= len(m.Columns) {
			return fmt.Errorf("node %d: column %d of %d", i, n.Column, len(m.Columns))
		}
		categories := m.Columns[n.Column].Categories
		if n.At != nil && (n.Is != nil || categories != nil || math.IsNaN(float64(*n.At))) || n.Is != nil && (*n.Is < 0 || *n.Is >= len(categories)) {
			return fmt.Errorf("node %d: its question does not suit column %q", i, m.Columns[n.Column].Name)
		}
		for _, child := range []int{n.Left, n.Right} {
			// A child comes after its parent, so no walk is endless.
			if child >= 0 && (child <= i || child >= len(t.Nodes)) || child < 0 && ^child >= leaves {
				return fmt.Errorf("node %d: child %d", i, child)
			}
		}
	}
	return nil
}
