package tabular

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"hasten/engine/par"
	"hasten/engine/simd"
)

// Prediction is what a model says of the rows of a table.
type Prediction struct {
	Rows, Outputs int
	Values        []float32 // [Rows, Outputs]: probabilities of classes, or targets
	Labels        []int32   // classification: [Rows], the likeliest class
}

// Predict computes the outputs for every row. The table must have the model's
// columns, by name; others are ignored. A category that training has not seen
// counts as missing.
func (m *Model) Predict(t *Table) (*Prediction, error) {
	t, err := like(m.Columns, t)
	if err != nil {
		return nil, err
	}
	p := &Prediction{Rows: t.Rows, Outputs: m.Outputs(), Values: make([]float32, t.Rows*m.Outputs())}
	m.predictor.run(m, t, p.Values)
	if m.Kind == Classification {
		p.Labels = make([]int32, p.Rows)
		for r := range p.Labels {
			row := p.Values[r*p.Outputs:][:p.Outputs]
			for k, v := range row {
				if v > row[p.Labels[r]] {
					p.Labels[r] = int32(k)
				}
			}
			simd.Scale(row, 1/simd.ExpSum(row, row, simd.Max(row)))
		}
	}
	return p, nil
}

// like returns a table's columns in the order and with the categories of
// others.
func like(columns []Column, t *Table) (*Table, error) {
	out := &Table{Name: t.Name, Rows: t.Rows, lines: t.lines}
	for _, want := range columns {
		c, err := t.Column(want.Name)
		if err != nil {
			return nil, err
		}
		if (c.Categories == nil) != (want.Categories == nil) {
			kinds := map[bool]string{true: "numbers", false: "categories"}
			return nil, fmt.Errorf("%s: column %q holds %s, and the model was trained on %s there", t.Name, want.Name, kinds[c.Categories == nil], kinds[want.Categories == nil])
		}
		values := c.Values
		if c.Categories != nil && !sameStrings(c.Categories, want.Categories) {
			values = recode(c, want.Categories)
		}
		out.Columns = append(out.Columns, Column{want.Name, want.Categories, values})
	}
	return out, nil
}

func sameStrings(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// recode turns indices of a column's categories into those of others.
func recode(c *Column, categories []string) []float32 {
	index := map[string]float32{}
	for i, name := range categories {
		index[name] = float32(i)
	}
	codes := make([]float32, len(c.Categories))
	for i, name := range c.Categories {
		v, ok := index[name]
		if !ok {
			v = nan
		}
		codes[i] = v
	}
	values := make([]float32, len(c.Values))
	for i, v := range c.Values {
		values[i] = nan
		if v == v {
			values[i] = codes[int(v)]
		}
	}
	return values
}

// predictor is a model's trees in the form in which rows walk through them
// fast: a step is always the same few instructions, whatever is asked, and
// leaves are nodes that lead to themselves, so the rows of a group take all
// steps together.
type predictor struct {
	columns []int // those that are asked about
	nodes   []step
	trees   []walk
	buffers sync.Pool // of keys, [blockRows, columns]
}

// step goes to left if key-shift ≤ at, as unsigned numbers that wrap around,
// else to the node after left. See split.
type step struct {
	column, shift, at, left uint32
}

// walk is the way through a tree: depth steps from node first on.
type walk struct {
	first uint32
	depth int
	leaf  []int32
}

// compile builds the predictor.
func (m *Model) compile() error {
	m.Format = format
	p := &predictor{}
	used := make([]int, len(m.Columns)) // 1 + index in columns
	for i := range m.Trees {
		t := &m.Trees[i]
		for _, n := range t.Nodes {
			if used[n.Column] == 0 {
				p.columns = append(p.columns, n.Column)
				used[n.Column] = len(p.columns)
			}
		}
		if err := p.add(t, used); err != nil {
			return fmt.Errorf("tree %d: %w", i, err)
		}
	}
	m.predictor = p
	return nil
}

// add lays a tree out, the children of a node side by side.
func (p *predictor) add(t *Tree, used []int) error {
	w := walk{first: uint32(len(p.nodes))}
	type entry struct{ child, depth int }
	start := entry{child: 0}
	if len(t.Nodes) == 0 {
		start.child = ^0
	}
	queue := []entry{start}
	for i := 0; i < len(queue); i++ {
		if len(queue) > 2*len(t.Nodes)+1 {
			return errors.New("a node is the child of two")
		}
		e := queue[i]
		w.depth = max(w.depth, e.depth)
		if e.child < 0 {
			p.nodes = append(p.nodes, step{at: math.MaxUint32, left: w.first + uint32(i)})
			w.leaf = append(w.leaf, int32(^e.child))
			continue
		}
		n := &t.Nodes[e.child]
		s := step{column: uint32(used[n.Column] - 1), left: w.first + uint32(len(queue))}
		switch {
		case n.Is != nil:
			s.shift = key(float32(*n.Is))
		case n.At != nil:
			s.at = key(*n.At)
			if !n.Missing {
				s.shift = 1
				s.at--
			}
		}
		p.nodes = append(p.nodes, s)
		w.leaf = append(w.leaf, -1)
		queue = append(queue, entry{n.Left, e.depth + 1}, entry{n.Right, e.depth + 1})
	}
	p.trees = append(p.trees, w)
	return nil
}

// blockRows is how many rows walk through all trees together.
const blockRows = 64

type predictArgs struct {
	m   *Model
	t   *Table
	out []float32
}

var predictLoop par.Loop[predictArgs]

// run writes the scores of a table's rows into out [rows, outputs].
func (p *predictor) run(m *Model, t *Table, out []float32) {
	predictLoop.Run(par.Pieces(t.Rows, blockRows), predictArgs{m, t, out}, func(a *predictArgs, i int) {
		lo, hi := par.Bounds(i, blockRows, a.t.Rows)
		p, k := a.m.predictor, a.m.Outputs()
		keys, ok := p.buffers.Get().(*[]uint32)
		if !ok {
			all := make([]uint32, blockRows*max(len(p.columns), 1))
			keys = &all
		}
		p.keys(*keys, a.t, lo, hi)
		out := a.out[lo*k : hi*k]
		for r := range hi - lo {
			copy(out[r*k:], a.m.Start)
		}
		var at [blockRows]uint32
		for i := range p.trees {
			p.walk(&p.trees[i], *keys, hi-lo, &at)
			addLeaves(out, &a.m.Trees[i], &p.trees[i], k, at[:hi-lo])
		}
		p.buffers.Put(keys)
	})
}

// keys writes the keys of rows lo … hi, [rows, columns].
func (p *predictor) keys(keys []uint32, t *Table, lo, hi int) {
	width := len(p.columns)
	for j, c := range p.columns {
		for r, v := range t.Columns[c].Values[lo:hi] {
			keys[r*width+j] = key(v)
		}
	}
}

// walk finds the nodes where rows end, four rows at a time, whose steps do not
// wait for each other.
func (p *predictor) walk(w *walk, keys []uint32, rows int, at *[blockRows]uint32) {
	width, nodes := len(p.columns), p.nodes
	if w.depth == 0 {
		for r := range rows {
			at[r] = w.first
		}
		return
	}
	r := 0
	for ; r+4 <= rows; r += 4 {
		k := keys[r*width : (r+4)*width]
		k0, k1, k2, k3 := k[:width], k[width:2*width], k[2*width:3*width], k[3*width:]
		i0, i1, i2, i3 := w.first, w.first, w.first, w.first
		for range w.depth {
			i0 = nodes[i0].next(k0)
			i1 = nodes[i1].next(k1)
			i2 = nodes[i2].next(k2)
			i3 = nodes[i3].next(k3)
		}
		at[r], at[r+1], at[r+2], at[r+3] = i0, i1, i2, i3
	}
	for ; r < rows; r++ {
		i := w.first
		for range w.depth {
			i = nodes[i].next(keys[r*width:][:width])
		}
		at[r] = i
	}
}

func (s *step) next(keys []uint32) uint32 {
	n := s.left
	if keys[s.column]-s.shift > s.at {
		n++
	}
	return n
}

// addLeaves adds the values of the leaves that rows ended in.
func addLeaves(out []float32, t *Tree, w *walk, outputs int, at []uint32) {
	if t.Output >= 0 {
		for r, i := range at {
			out[r*outputs+t.Output] += t.Values[w.leaf[i-w.first]]
		}
		return
	}
	for r, i := range at {
		simd.AddTo(out[r*outputs:][:outputs], t.Values[int(w.leaf[i-w.first])*outputs:])
	}
}
