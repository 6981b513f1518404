package text

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"hasten/engine/memory"
)

// Difference trains with one thread, and again as the paper's formulas say, in
// plain loops and float64. It returns the largest difference between their
// weights, and the largest weight. The loss is compared too: its relative
// difference counts as one of weights. The data must be so small that an epoch
// is one block (512 texts), and its texts must have one label each.
func Difference(s *Settings) (largest, weight float64, err error) {
	b := newBuilder(s.Model)
	if err := read(s.Data, &s.DataOptions, everything, func(x *sample) error { b.add(x.labels, x.text); return nil }); err != nil {
		return 0, 0, err
	}
	if n := len(b.examples); n == 0 || n > stale || len(b.corpus.labels) != n || s.Threads != 1 {
		return 0, 0, fmt.Errorf("%s: want 1 to %d texts with one label each, and one thread", s.Data, stale)
	}
	d, c, _, counts := b.finish(uint64(s.Seed))
	t := newTrainer(s, d, c, counts, new(memory.Arena))
	ref := newReference(t)
	var yes func(step int, label uint32) ([]uint32, []float64)
	switch o := t.output.(type) {
	case *treeOutput:
		yes = func(_ int, label uint32) ([]uint32, []float64) { return naivePath(counts, int(label)) }
	case *negative:
		// The draws are those of the stepper: what is compared is what is done
		// with them.
		random := rand.NewPCG(0, 0)
		yes = func(step int, label uint32) ([]uint32, []float64) {
			if step%len(c.examples) == 0 {
				random.Seed(uint64(s.Seed)<<40+uint64(step/len(c.examples)), blockStream)
			}
			rows, want := []uint32{label}, []float64{1}
			for range o.samples {
				if other := o.draw[random.Uint64()%uint64(len(o.draw))]; other != label {
					rows, want = append(rows, other), append(want, 0)
				}
			}
			return rows, want
		}
	}
	tokens, loss, err := t.train(context.Background(), nil)
	if err == nil && tokens != s.Epochs*c.tokens() {
		err = errors.New("not all texts were seen")
	}
	if err != nil {
		return 0, 0, err
	}
	ref.train(c, s.Epochs, s.Rate, yes)
	largest = math.Abs(loss-ref.loss) / ref.loss
	row := make([]float32, s.Model.Dim)
	compare := func(want [][]float64, get func(i int)) {
		for i := range want {
			get(i)
			for j, v := range want[i] {
				weight = max(weight, math.Abs(v))
				largest = max(largest, math.Abs(float64(row[j])-v))
			}
		}
	}
	compare(ref.in, func(i int) { copy(row, t.input.table[i*t.input.width:]) })
	compare(ref.out, func(i int) { t.output.row(i, row) })
	return largest, weight, nil
}

// reference trains as the paper's formulas say, in float64, in plain loops, one
// weight after another; labels are scored one at a time and the gradient by
// the average is collected first.
type reference struct {
	dim  int
	in   [][]float64
	out  [][]float64
	loss float64
}

func newReference(t *trainer) *reference {
	r := &reference{dim: t.dim}
	for i := range t.rows {
		row := make([]float64, t.dim)
		for d := range row {
			row[d] = float64(t.input.table[i*t.input.width+d])
		}
		r.in = append(r.in, row)
	}
	for range t.output.size() {
		r.out = append(r.out, make([]float64, t.dim))
	}
	return r
}

// train goes through the corpus. yes gives, for a label, rows of the output
// layer and what they should say, 1 for yes and 0 for no; nil means softmax.
func (r *reference) train(c *corpus, epochs int, rate float64, yes func(step int, label uint32) (rows []uint32, want []float64)) {
	total := float64(epochs * c.tokens())
	seen := 0
	for epoch := range epochs {
		r.loss = 0
		var begin example
		for i, end := range c.examples {
			rows, label := c.rows[begin.rows:end.rows], c.labels[begin.labels]
			eta := rate * (1 - float64(seen)/total)
			seen += end.tokens - begin.tokens
			begin = end
			h, g := make([]float64, r.dim), make([]float64, r.dim)
			for _, x := range rows {
				for d := range h {
					h[d] += r.in[x][d] / float64(len(rows))
				}
			}
			dot := func(o int) (z float64) {
				for d := range h {
					z += h[d] * r.out[o][d]
				}
				return z
			}
			update := func(o int, e float64) { // e = ∂loss/∂z
				for d := range h {
					g[d] -= eta * e * r.out[o][d]
					r.out[o][d] -= eta * e * h[d]
				}
			}
			if yes == nil {
				p := make([]float64, len(r.out))
				sum := 0.0
				for o := range p {
					p[o] = math.Exp(dot(o))
					sum += p[o]
				}
				for o := range p {
					p[o] /= sum
				}
				r.loss -= math.Log(p[label])
				for o := range p {
					e := p[o]
					if o == int(label) {
						e--
					}
					update(o, e)
				}
			} else {
				o, want := yes(epoch*len(c.examples)+i, label)
				z := make([]float64, len(o))
				for j := range o {
					z[j] = 1 / (1 + math.Exp(-dot(int(o[j]))))
					r.loss -= math.Log(1 - math.Abs(want[j]-z[j]))
				}
				for j := range o {
					update(int(o[j]), z[j]-want[j])
				}
			}
			for _, x := range rows {
				for d := range h {
					r.in[x][d] += g[d] / float64(len(rows))
				}
			}
		}
	}
	r.loss /= float64(len(c.examples))
}

// naivePath is the path to a label in the Huffman tree, built by merging the
// two rarest of a list again and again. Node numbers count down from the last.
func naivePath(counts []int, label int) (nodes []uint32, codes []float64) {
	type tree struct{ count, order, number, label int }
	var all []tree
	for l, c := range counts {
		all = append(all, tree{c, -l, -1, l}) // of equals, labels first, the last label before the others
	}
	holds := map[int]map[int]float64{} // inner node → labels under it → side
	members := func(x tree) []int {
		if x.number < 0 {
			return []int{x.label}
		}
		var m []int
		for l := range holds[x.number] {
			m = append(m, l)
		}
		return m
	}
	for number := len(counts) - 2; number >= 0; number-- {
		slices.SortStableFunc(all, func(a, b tree) int {
			if a.count != b.count {
				return a.count - b.count
			}
			return a.order - b.order
		})
		under := map[int]float64{}
		for side, x := range all[:2] {
			for _, l := range members(x) {
				under[l] = float64(side)
			}
		}
		holds[number] = under
		all = append(all[2:], tree{all[0].count + all[1].count, len(counts) - number, number, -1})
	}
	for number := range len(counts) - 1 {
		if side, ok := holds[number][label]; ok {
			nodes, codes = append(nodes, uint32(number)), append(codes, side)
		}
	}
	return nodes, codes
}
