package tabular

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/simd"
)

// naive is boosting as the papers write it: float64, no histograms, no bins,
// every division of every column tried, all outputs in one tree or a tree for
// each.
type naive struct {
	d         *Data
	k         int
	score     []float64 // [rows, k]
	rate      float64
	depth     int
	perOutput bool
	lambda    float64
	least     int // rows in a leaf
}

type naiveNode struct {
	column      int
	rows        []int // in it
	left, right *naiveNode
	values      []float64
}

func newNaive(d *Data, c Boosting, perOutput bool) *naive {
	n := &naive{d: d, k: d.Outputs(), rate: c.Rate, depth: c.Depth, perOutput: perOutput, lambda: c.Lambda, least: c.LeastRows}
	start := make([]float64, n.k)
	for r := range d.Inputs.Rows {
		for k := range n.k {
			start[k] += n.y(r, k) / float64(d.Inputs.Rows)
		}
	}
	for range d.Inputs.Rows {
		for k := range n.k {
			if d.Kind == Classification {
				n.score = append(n.score, math.Log(start[k]))
			} else {
				n.score = append(n.score, start[k])
			}
		}
	}
	return n
}

// y is the one-hot label, or the target.
func (n *naive) y(r, k int) float64 {
	switch {
	case n.d.Kind == Regression:
		return float64(n.d.Y[r*n.k+k])
	case int(n.d.Labels[r]) == k:
		return 1
	}
	return 0
}

// p is the softmax of a row's scores.
func (n *naive) p(r, k int) float64 {
	var sum float64
	for j := range n.k {
		sum += math.Exp(n.score[r*n.k+j] - n.score[r*n.k+k])
	}
	return 1 / sum
}

func (n *naive) residual(r, k int) float64 {
	if n.d.Kind == Regression {
		return n.y(r, k) - n.score[r*n.k+k]
	}
	return n.y(r, k) - n.p(r, k)
}

// round grows a round's trees, all on the residuals of its beginning. For
// classes many divisions are equally good: then it takes that of the model's
// trees, hints, if it is among them. For regression there is one best.
func (n *naive) round(hints []Tree) []*naiveNode {
	res := make([]float64, len(n.score))
	for i := range res {
		res[i] = n.residual(i/n.k, i%n.k)
	}
	all := make([]int, n.d.Inputs.Rows)
	for i := range all {
		all[i] = i
	}
	var trees []*naiveNode
	outputs := [][]int{nil}
	for k := range n.k {
		outputs[0] = append(outputs[0], k)
	}
	if n.perOutput {
		outputs = nil
		for k := range n.k {
			outputs = append(outputs, []int{k})
		}
	}
	for i, ks := range outputs {
		var h hint
		if n.d.Kind == Classification && i < len(hints) {
			h = hint{&hints[i], 0}
		}
		trees = append(trees, n.grow(res, all, ks, 0, h))
	}
	for i, t := range trees {
		n.add(t, outputs[i])
	}
	return trees
}

// squares is |Σ res|²/rows, summed over outputs.
func (n *naive) squares(res []float64, rows, ks []int) float64 {
	var all float64
	for _, k := range ks {
		var sum float64
		for _, r := range rows {
			sum += res[r*n.k+k]
		}
		all += sum * sum / float64(len(rows))
	}
	return all
}

// hint is a node of a model's tree.
type hint struct {
	tree *Tree
	id   int
}

func (h hint) node() *Node {
	if h.tree == nil || h.id < 0 || h.id >= len(h.tree.Nodes) {
		return nil
	}
	return &h.tree.Nodes[h.id]
}

func (n *naive) grow(res []float64, rows, ks []int, depth int, h hint) *naiveNode {
	t := &naiveNode{rows: rows, column: -1}
	best := n.squares(res, rows, ks) * (1 + 1e-5)
	if depth < n.depth {
		for c, col := range n.d.Inputs.Columns {
			limits := slices.Clone(col.Values)
			slices.Sort(limits)
			for _, limit := range slices.Compact(limits) {
				var left, right []int
				for _, r := range rows {
					if v := col.Values[r]; col.Categories == nil && v <= limit || col.Categories != nil && v == limit {
						left = append(left, r)
					} else {
						right = append(right, r)
					}
				}
				if min(len(left), len(right)) < max(n.least, 1) {
					continue
				}
				if s := n.squares(res, left, ks) + n.squares(res, right, ks); s > best*(1+1e-9) {
					best, t.column = s, c
					t.left, t.right = &naiveNode{rows: left}, &naiveNode{rows: right}
				}
			}
		}
	}
	if node := h.node(); t.column >= 0 || node != nil {
		var hints [2]hint
		if node != nil {
			var left, right []int
			for _, r := range rows {
				if node.says(n.d.Inputs.Columns[node.Column].Values[r]) {
					left = append(left, r)
				} else {
					right = append(right, r)
				}
			}
			if min(len(left), len(right)) >= n.least && n.squares(res, left, ks)+n.squares(res, right, ks) > best*(1-2e-5) {
				t.left, t.right = &naiveNode{rows: left}, &naiveNode{rows: right}
				hints = [2]hint{{h.tree, node.Left}, {h.tree, node.Right}}
			}
		}
		if t.left == nil {
			t.column = -1 // the model divides where nothing is gained: a leaf that will not compare
			return t
		}
		t.left = n.grow(res, t.left.rows, ks, depth+1, hints[0])
		t.right = n.grow(res, t.right.rows, ks, depth+1, hints[1])
		return t
	}
	for _, k := range ks {
		var sum, curve float64
		for _, r := range rows {
			sum += res[r*n.k+k]
			p := n.y(r, k) - res[r*n.k+k]
			curve += p * (1 - p)
		}
		v := sum / float64(len(rows))
		if n.d.Kind == Classification {
			v = 0
			if curve > 1e-30 {
				v = float64(n.k-1) / float64(n.k) * sum / (curve + n.lambda)
			}
		}
		t.values = append(t.values, n.rate*v)
	}
	return t
}

func (n *naive) add(t *naiveNode, ks []int) {
	if t.left != nil {
		n.add(t.left, ks)
		n.add(t.right, ks)
		return
	}
	for _, r := range t.rows {
		for i, k := range ks {
			n.score[r*n.k+k] += t.values[i]
		}
	}
}

// leaves lists the rows and the values of the leaves, from left to right.
func (t *naiveNode) leaves(visit func(rows []int, values []float64)) {
	if t.left == nil {
		visit(t.rows, t.values)
		return
	}
	t.left.leaves(visit)
	t.right.leaves(visit)
}

// sample is a small table with what tables have: few values, many values,
// categories.
func sample(rows, outputs int, kind Kind, seed uint64) *Data {
	s := rng.New(seed, 9)
	d := &Data{Kind: kind, Targets: []string{"y"}, Inputs: &Table{Name: "sample", Rows: rows}}
	columns := []Column{{Name: "few"}, {Name: "many"}, {Name: "colour", Categories: []string{"red", "green", "blue", "white"}}, {Name: "more"}}
	for range rows {
		columns[0].Values = append(columns[0].Values, float32(s.IntN(5)))
		columns[1].Values = append(columns[1].Values, float32(s.Normal()))
		columns[2].Values = append(columns[2].Values, float32(s.IntN(4)))
		columns[3].Values = append(columns[3].Values, float32(s.Float64()))
	}
	d.Inputs.Columns = columns
	for k := range outputs {
		d.Classes = append(d.Classes, fmt.Sprint("k", k))
	}
	d.Targets = d.Classes
	for r := range rows {
		x := []float64{float64(columns[0].Values[r]), float64(columns[1].Values[r]), float64(columns[2].Values[r]), float64(columns[3].Values[r])}
		z := x[0] - 2*math.Sin(2*x[1]) + 3*x[3]*x[3] + 0.3*s.Normal()
		if x[2] == 2 {
			z += 4
		}
		if kind == Classification {
			d.Labels = append(d.Labels, int32(int(3*z+60)%outputs))
			continue
		}
		for k := range outputs {
			d.Y = append(d.Y, float32(z*math.Cos(float64(k))+x[k%4]))
		}
	}
	if kind == Classification {
		d.Targets = []string{"y"}
	} else {
		d.Classes = nil
	}
	return d
}

// modelLeaves groups the rows of d by the leaf of a model's tree.
func modelLeaves(t *Tree, d *Data) map[int][]int {
	leaves := map[int][]int{}
	for r := range d.Inputs.Rows {
		id := 0
		if len(t.Nodes) == 0 {
			id = ^0
		}
		for id >= 0 {
			n := &t.Nodes[id]
			id = n.Right
			if n.says(d.Inputs.Columns[n.Column].Values[r]) {
				id = n.Left
			}
		}
		leaves[^id] = append(leaves[^id], r)
	}
	return leaves
}

// says is the answer to the node's question.
func (n *Node) says(v float32) bool {
	switch {
	case n.Is != nil:
		return v == float32(*n.Is)
	case n.At == nil:
		return v != v
	case v != v:
		return n.Missing
	}
	return v <= *n.At
}

// compare holds a model's trees against the naive ones: the same leaves with
// the same rows and the same values.
func compare(t *testing.T, m *Model, d *Data, n *naive, rounds int) {
	t.Helper()
	at := 0
	for round := range rounds {
		for _, want := range n.round(m.Trees[at:]) {
			if at == len(m.Trees) {
				t.Fatalf("%d trees, want more", at)
			}
			tree := &m.Trees[at]
			at++
			got := modelLeaves(tree, d)
			leaf := 0
			want.leaves(func(rows []int, values []float64) {
				if !slices.Equal(got[leaf], rows) {
					t.Fatalf("round %d, leaf %d: rows %v, want %v", round, leaf, got[leaf], rows)
				}
				for i, v := range values {
					if g := float64(tree.Values[leaf*len(values)+i]); math.Abs(g-v) > 2e-5*(1+math.Abs(v)) {
						t.Fatalf("round %d, leaf %d, output %d: %v, want %v", round, leaf, i, g, v)
					}
				}
				leaf++
			})
			if leaf*len(want.first()) != len(tree.Values) {
				t.Fatalf("round %d: %d values, want %d leaves", round, len(tree.Values), leaf)
			}
		}
	}
	if at != len(m.Trees) {
		t.Fatalf("%d trees, want %d", len(m.Trees), at)
	}
}

func (t *naiveNode) first() []float64 {
	for t.left != nil {
		t = t.left
	}
	return t.values
}

// Every booster's trees are those of its definition, tree for tree. With one
// output, both boosters are ordinary boosting.
func TestAgainstNaive(t *testing.T) {
	defer simd.Use(simd.Best())
	for _, level := range simd.Levels() {
		simd.Use(level)
		for _, c := range []struct {
			kind    Kind
			outputs int
		}{{Regression, 1}, {Regression, 2}, {Regression, 8}, {Classification, 2}, {Classification, 3}, {Classification, 10}, {Classification, 20}} {
			for _, p := range Boosters.Parts {
				t.Run(fmt.Sprintf("%v/%s of %d/%s", level, c.kind, c.outputs, p.Name), func(t *testing.T) {
					d := sample(200, c.outputs, c.kind, uint64(c.outputs))
					b := p.New()
					b.common().Rounds, b.common().Depth, b.common().Lambda = 4, 3, 0.5
					b.common().LeastRows = 7 // small leaves tie
					if c.kind == Regression {
						b.common().Lambda = 0
					}
					m, err := Fit(context.Background(), d, b, FitOptions{})
					if err != nil {
						t.Fatal(err)
					}
					compare(t, m, d, newNaive(d, *b.common(), p.Name == "gbdt" && !together(d)), 4)
				})
			}
		}
	}
}

// Condensed boosting has a tree a round, the other a tree a round and class.
func TestNumberOfTrees(t *testing.T) {
	d := sample(100, 5, Classification, 1)
	for name, want := range map[string]int{"cgb": 7, "gbdt": 35} {
		b, err := Boosters.Build(name, map[string]string{"rounds": "7"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := Fit(context.Background(), d, b, FitOptions{})
		if err != nil || len(m.Trees) != want {
			t.Errorf("%s: %d trees, want %d; %v", name, len(m.Trees), want, err)
		}
	}
}

func TestClassStep(t *testing.T) {
	for _, c := range []struct {
		sum, curve float64
		k          int
		want       float64
	}{{2, 4, 2, 0.25}, {-3, 2, 4, -1.125}, {1, 0, 3, 0}, {0, 0, 3, 0}} {
		if got := classStep(c.sum, c.curve, c.k); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// With one output the two boosters are the same, and so are they with two
// classes.
func TestBoostersAgree(t *testing.T) {
	for _, d := range []*Data{sample(300, 1, Regression, 3), sample(300, 2, Classification, 4)} {
		var models []*Model
		for _, p := range Boosters.Parts {
			b := p.New()
			b.common().Rounds, b.common().Subsample = 10, 0.7
			m, err := Fit(context.Background(), d, b, FitOptions{Seed: 5})
			if err != nil {
				t.Fatal(err)
			}
			models = append(models, m)
		}
		sameModel(t, models[0], models[1])
	}
}

func sameModel(t *testing.T, a, b *Model) {
	t.Helper()
	if len(a.Trees) != len(b.Trees) {
		t.Fatalf("%d trees and %d", len(a.Trees), len(b.Trees))
	}
	for i := range a.Trees {
		x, y := a.Trees[i], b.Trees[i]
		if !slices.Equal(x.Values, y.Values) || len(x.Nodes) != len(y.Nodes) {
			t.Fatalf("tree %d differs", i)
		}
	}
}

// The model does not depend on the number of threads.
func TestThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	d := clouds(9000, 40, 5, 2, 2) // more than one piece of everything
	for _, p := range Boosters.Parts {
		var models []*Model
		for _, threads := range []int{1, 2, 5} {
			runtime.GOMAXPROCS(threads)
			b := p.New()
			b.common().Rounds, b.common().Subsample = 3, 0.9
			m, err := Fit(context.Background(), d, b, FitOptions{Seed: 1})
			if err != nil {
				t.Fatal(err)
			}
			models = append(models, m)
		}
		sameModel(t, models[0], models[1])
		sameModel(t, models[0], models[2])
	}
}

// Nothing is left in the arena, and a second fit takes nothing new from it.
func TestArena(t *testing.T) {
	a := new(memory.Arena)
	d := sample(200, 3, Classification, 1)
	for range 2 {
		b := &Condensed{defaultBoosting()}
		b.Rounds = 3
		if _, err := Fit(context.Background(), d, b, FitOptions{Arena: a}); err != nil {
			t.Fatal(err)
		}
		if live := a.Usage().LiveTotal; live != 0 {
			t.Fatalf("%d bytes are still in use", live)
		}
	}
}
