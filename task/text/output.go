package text

import (
	"math"
	"math/rand/v2"
	"slices"

	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/engine/simd"
)

// Loss is a way to train the output layer.
type Loss interface {
	// output makes an untrained output layer for labels that occur counts
	// times, the most frequent first.
	output(dim int, counts []int, arena *memory.Arena) output
}

// Losses are the ways to train the output layer.
var Losses = part.Table[Loss]{
	Seam: "loss",
	Help: "the loss and the output layer it trains",
	Parts: []part.Part[Loss]{
		{Name: "softmax", Help: "cross-entropy over all labels; for up to some thousands", New: func() Loss { return &Softmax{} }},
		{Name: "tree", Paper: "fasttext", Help: "softmax along the paths of a Huffman tree: its cost grows with the logarithm of the number of labels", New: func() Loss { return &Tree{} }},
		{Name: "negative", Paper: "fasttext", Help: "each label against a few random others", New: func() Loss { return &Negative{Samples: 5, Power: 0.5} }},
	},
}

// output is an output layer, shared by all threads.
type output interface {
	stepper(alone bool) stepper
	// size is the number of rows of the layer's matrix; row copies one of them,
	// of dim floats, into dst, and setRow from src.
	size() int
	row(i int, dst []float32)
	setRow(i int, src []float32)
	// probability is that of one label for h: [width(dim)].
	probability(h []float32, label int) float64
	// top is the k likeliest labels for h: [width(dim)], best first.
	top(h []float32, k int) []Prediction
}

// stepper trains an output layer in one thread.
type stepper interface {
	// begin names the random numbers of the steps that follow.
	begin(seed uint64)
	// step takes one step of gradient descent on the layer, sets g to -rate
	// times the gradient by h, and returns the label's probability.
	step(g, h []float32, label uint32, rate float32) (p float32)
	// exchange reconciles the thread's copies with the shared weights.
	exchange()
}

// Softmax is the cross-entropy over all labels:
//
//	p = softmax(B h); loss = -log p[y]; ∂loss/∂(B h) = p - y
type Softmax struct{}

func (*Softmax) output(dim int, counts []int, arena *memory.Arena) output {
	// The matrix is transposed: a product then runs along the labels, without
	// sums across a register, and no float is wasted on padding dim.
	columns := (len(counts) + 15) &^ 15
	b := arena.Floats(memory.Weights, dim*columns)
	return &softmax{newShared(b, columns, dim), len(counts)}
}

type softmax struct {
	b      *shared // [dim, labels up to a multiple of 16]
	labels int
}

func (s *softmax) stepper(alone bool) stepper {
	r := s.b.replica(alone)
	b := r.rows.Own
	if alone {
		b = s.b.table
	}
	return &softmaxStepper{r, b, s.labels, make([]float32, s.b.width)}
}

type softmaxStepper struct {
	*replica
	b      []float32
	labels int
	z      []float32 // logits, then -rate times their gradient
}

func (s *softmaxStepper) begin(uint64) {}

func (s *softmaxStepper) step(g, h []float32, label uint32, rate float32) float32 {
	dim := len(s.b) / len(s.z)
	simd.VecMat(s.z, h[:dim], s.b) // the columns without a label come out as 0
	z := s.z[:s.labels]
	sum := simd.ExpSum(z, z, simd.Max(z))
	p := z[label] / sum
	simd.Scale(z, -rate/sum)
	z[label] += rate
	simd.VecMatStep(g[:dim], h[:dim], s.b, s.z)
	return p
}

func (s *softmax) size() int { return s.labels }

func (s *softmax) row(i int, dst []float32) {
	for d := range dst {
		dst[d] = s.b.table[d*s.b.width+i]
	}
}

func (s *softmax) setRow(i int, src []float32) {
	for d, v := range src {
		s.b.table[d*s.b.width+i] = v
	}
}

func (s *softmax) top(h []float32, k int) []Prediction { return best(s.all(h), k) }

func (s *softmax) probability(h []float32, label int) float64 { return float64(s.all(h)[label]) }

// all is the probabilities of all labels.
func (s *softmax) all(h []float32) []float32 {
	dim := len(s.b.table) / s.b.width
	z := make([]float32, s.b.width)
	simd.VecMat(z, h[:dim], s.b.table)
	simd.SoftmaxRow(z[:s.labels], z[:s.labels])
	return z[:s.labels]
}

// best returns the k largest of the labels' probabilities.
func best(p []float32, k int) []Prediction {
	if k <= 0 {
		return nil
	}
	bound := newBound(k)
	for _, v := range p {
		if float64(v) > bound.least() {
			bound.add(float64(v))
		}
	}
	var found []Prediction
	for l, v := range p {
		if float64(v) >= bound.least() {
			found = append(found, Prediction{Label: l, Probability: float64(v)})
		}
	}
	slices.SortStableFunc(found, func(a, b Prediction) int {
		switch {
		case a.Probability > b.Probability:
			return -1
		case a.Probability < b.Probability:
			return 1
		}
		return 0
	})
	return found[:min(k, len(found))]
}

// Tree is the softmax along the paths of a Huffman tree. At inner node n the
// second child has the probability σ(b_n·h), and a label the product of those
// along its path:
//
//	loss = -Σ log σ(±b_n·h); ∂loss/∂(b_n·h) = σ(b_n·h) - [second child]
type Tree struct{}

func (*Tree) output(dim int, counts []int, arena *memory.Arena) output {
	t := newTree(counts)
	w := width(dim)
	b := arena.Floats(memory.Weights, len(t.children)*w)
	return &treeOutput{t, newShared(b, w, min(maxHot, len(t.children)))}
}

type treeOutput struct {
	*tree
	*shared
}

func (t *treeOutput) stepper(alone bool) stepper {
	longest := 0
	for l := range t.labels {
		nodes, _ := t.path(l)
		longest = max(longest, len(nodes))
	}
	return &treeStepper{t.replica(alone), t.tree, make([]float32, longest)}
}

type treeStepper struct {
	*replica
	tree *tree
	z    []float32
}

func (s *treeStepper) begin(uint64) {}

func (s *treeStepper) step(g, h []float32, label uint32, rate float32) float32 {
	nodes, codes := s.tree.path(int(label))
	z := s.z[:len(nodes)]
	s.rows.Dot(z, nodes, h)
	simd.Sigmoid(z, z)
	p := float32(1)
	for i, code := range codes {
		p *= 1 - code + z[i]*(2*code-1)
		z[i] = rate * (code - z[i])
	}
	clear(g)
	s.rows.Step(g, nodes, z, h)
	return p
}

func (t *treeOutput) top(h []float32, k int) []Prediction {
	return t.tree.top(k, func(node uint32) float32 { return t.logit(h, int(node)) })
}

func (t *treeOutput) probability(h []float32, label int) float64 {
	nodes, codes := t.path(label)
	logp := 0.0
	for i, n := range nodes {
		logp -= softplus(float64(1-2*codes[i]) * float64(t.logit(h, int(n))))
	}
	return math.Exp(logp)
}

// Negative trains each label against a few others, drawn in proportion to a
// power of how often they occur:
//
//	loss = -log σ(b_y·h) - Σ log σ(-b_n·h) over the drawn labels n
//
// The scores σ(b·h) of the labels do not add up to one.
type Negative struct {
	Samples int     `set:"samples" range:"[1,1000]" help:"other labels for each text"`
	Power   float64 `set:"power" range:"[0,1]" help:"labels are drawn in proportion to this power of their frequency"`
}

// drawTable is the size of the table that labels are drawn from, if there are
// not more labels.
const drawTable = 1 << 20

func (n *Negative) output(dim int, counts []int, arena *memory.Arena) output {
	w := width(dim)
	b := arena.Floats(memory.Weights, len(counts)*w)
	var total float64
	for _, c := range counts {
		total += math.Pow(float64(c), n.Power)
	}
	var draw []uint32
	for l, c := range counts {
		for range int(math.Ceil(math.Pow(float64(c), n.Power) / total * drawTable)) {
			draw = append(draw, uint32(l))
		}
	}
	return &negative{newShared(b, w, min(maxHot, len(counts))), n.Samples, draw}
}

type negative struct {
	*shared // [labels, width]
	samples int
	draw    []uint32
}

func (n *negative) stepper(alone bool) stepper {
	s := &negativeStepper{replica: n.replica(alone), layer: n, random: rand.NewPCG(0, 0)}
	s.drawn, s.z = make([]uint32, 0, n.samples+1), make([]float32, n.samples+1)
	return s
}

type negativeStepper struct {
	*replica
	layer  *negative
	random *rand.PCG
	drawn  []uint32
	z      []float32
}

func (s *negativeStepper) begin(seed uint64) { s.random.Seed(seed, blockStream) }

func (s *negativeStepper) step(g, h []float32, label uint32, rate float32) float32 {
	rows := append(s.drawn[:0], label)
	for range s.layer.samples { // one that happens to be the label itself is left out
		if other := s.layer.draw[s.random.Uint64()%uint64(len(s.layer.draw))]; other != label {
			rows = append(rows, other)
		}
	}
	z := s.z[:len(rows)]
	s.rows.Dot(z, rows, h)
	simd.Sigmoid(z, z)
	p := z[0]
	for i, score := range z {
		z[i] = -rate * score
		if i > 0 {
			p *= 1 - score
		}
	}
	z[0] += rate
	clear(g)
	s.rows.Step(g, rows, z, h)
	return p
}

func (n *negative) probability(h []float32, label int) float64 {
	return math.Exp(-softplus(-float64(n.logit(h, label))))
}

func (n *negative) top(h []float32, k int) []Prediction {
	z := make([]float32, n.size())
	for l := range z {
		z[l] = n.logit(h, l)
	}
	simd.Sigmoid(z, z)
	return best(z, k)
}
