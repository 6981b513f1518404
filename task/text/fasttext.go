package text

import (
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/rng"
	"hasten/engine/simd"
)

// Bag of Tricks for Efficient Text Classification
// Armand Joulin, Edouard Grave, Piotr Bojanowski, Tomas Mikolov, EACL 2017
//
// A text of N words and n-grams x₁ … x_N is classified by the average of their
// embeddings, A, and a linear layer B:
//
//	h = 1/N Σ A[xₙ]        minimise  -1/M Σ y·log f(B h)
//
// f is a softmax over the labels, or one along the paths of a Huffman tree. One
// text at a time, with the learning rate η falling linearly to 0 over all words
// to be seen, and no momentum:
//
//	g = -η ∂loss/∂h
//	B ← B - η ∂loss/∂B          A[xₙ] ← A[xₙ] + g/N   for n = 1 … N
//
// Threads take turns at nothing: each goes through its own texts and updates
// the rows it needs, without locks. Rarely do two touch one row at once.
//
// The rows that every text touches are an exception: on today's processors the
// cache lines would spend their time travelling between cores. Of those, and of
// a small output layer, each thread trains a copy and adds what it changed to
// the shared weights every few hundred texts (replica).

// width is the number of floats of a row: dim, rounded up to whole registers
// and cache lines. What is behind dim is always zero.
func width(dim int) int { return (dim + 15) &^ 15 }

// trainer is the weights and what is needed to train them.
type trainer struct {
	*Settings
	corpus *corpus
	input  *shared
	output output
	rows   int
	dim    int
}

// newTrainer makes untrained weights: embeddings uniform in ±1/dim, the output
// layer zero.
func newTrainer(s *Settings, d *dictionary, c *corpus, counts []int, arena *memory.Arena) *trainer {
	dim, w := s.Model.Dim, width(s.Model.Dim)
	t := &trainer{Settings: s, corpus: c, dim: dim, rows: d.rows}
	table := arena.Floats(memory.Weights, d.rows*w)
	initLoop.Run(par.Pieces(d.rows, initGrain), initArgs{table, dim, rng.New(uint64(s.Seed), initStream)}, initRows)
	t.input = newShared(table, w, c.hot)
	t.output = s.Loss.output(dim, counts, arena)
	return t
}

// worker is one thread's view of the weights, and its workspace.
type worker struct {
	*trainer
	input  *replica
	output stepper
	h, g   []float32 // [width(dim)]
}

// worker returns a view of the weights for one of so many threads.
func (t *trainer) worker(threads int) *worker {
	alone := threads == 1
	w := &worker{trainer: t, input: t.input.replica(alone), output: t.output.stepper(alone)}
	w.h, w.g = make([]float32, width(t.dim)), make([]float32, width(t.dim))
	return w
}

// far is how many texts ahead rows are asked for from memory.
const far = 3

// block trains on the texts from … to, whose first text is preceded by `before`
// tokens of the total that the learning rate falls over. It returns the sum of
// their losses.
func (w *worker) block(from, to, before, total int, seed uint64) (loss float64) {
	c := w.corpus
	var at example
	if from > 0 {
		at = c.examples[from-1]
	}
	begin := at.tokens
	w.output.begin(seed)
	ahead := c.examples[min(from+far, len(c.examples))-1].rows
	var sum logSum
	for i := from; i < to; i++ {
		next := c.examples[min(i+far, len(c.examples)-1)].rows
		w.input.rows.Prefetch(c.rows[ahead:next])
		ahead = next

		end := c.examples[i]
		rows, labels := c.rows[at.rows:end.rows], c.labels[at.labels:end.labels]
		rate := w.Rate * float64(total-before-(at.tokens-begin)) / float64(total)
		at = end
		if len(rows) == 0 {
			continue
		}
		label := labels[0]
		if len(labels) > 1 { // one of them, another in another epoch
			label = labels[rng.New(seed, uint64(i)).At(0)%uint32(len(labels))]
		}
		sum.add(w.step(rows, label, float32(rate)))
	}
	w.input.exchange()
	w.output.exchange()
	return sum.total()
}

// step takes one step of gradient descent on one text, and returns the
// probability that the label had before it.
func (w *worker) step(rows []uint32, label uint32, rate float32) float32 {
	share := 1 / float32(len(rows))
	w.input.rows.Sum(w.h, rows)
	simd.Scale(w.h, share)
	p := w.output.step(w.g, w.h, label, rate)
	simd.Scale(w.g, share)
	w.input.rows.Add(rows, w.g)
	return p
}

type initArgs struct {
	table []float32
	dim   int
	s     rng.Stream
}

const initGrain = 1024

var initLoop par.Loop[initArgs]

// initRows fills a piece of the rows, each with the numbers of its own place in
// the stream, four from a block.
func initRows(a *initArgs, piece int) {
	w := width(a.dim)
	from, to := par.Bounds(piece, initGrain, len(a.table)/w)
	scale := 2 / float32(a.dim) / (1 << 24)
	for i := from; i < to; i++ {
		row := a.table[i*w:][:a.dim]
		var block [4]uint32
		for j := range row {
			if j%4 == 0 {
				block = a.s.Block(uint64(i*w+j) / 4)
			}
			row[j] = scale * (float32(block[j%4]>>8) - 1<<23)
		}
	}
}
