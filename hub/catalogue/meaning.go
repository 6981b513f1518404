package catalogue

import (
	"cmp"
	"math"
	"slices"

	"hasten/engine/rng"
	"hasten/engine/simd"
)

// Word vectors: skip-gram with negative sampling over words and their character
// n-grams, so that a word that was never seen ("optimizer") lies near those it
// is spelled like ("optimiser").
//
//	h_w   = mean of the vectors of w and of its n-grams
//	loss  = -log σ(h_w·o_c) - Σ_n log σ(-h_w·o_n)    c: a neighbour of w, n: words drawn by frequency^¾
//
// Source: Bojanowski, Grave, Joulin, Mikolov, "Enriching Word Vectors with
// Subword Information", TACL 2017. A text is the sum of its words' directions,
// each weighted by its rarity, less what all texts have in common (Arora,
// Liang, Ma, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings",
// ICLR 2017).
//
// The settings were chosen by how well sentences about a paper, written by
// others, find its card.
const (
	dim       = 64
	buckets   = 1 << 15 // of n-grams, by hash
	minGram   = 3
	maxGram   = 5
	window    = 30      // how far on either side a neighbour may be
	contexts  = 5       // neighbours drawn for a word
	negatives = 5       // words drawn for a neighbour
	rate      = 0.2     // falls to 0 along the training
	frequent  = 1e-4    // words above this share are skipped now and then
	passes    = 20      // over the text, at most
	visits    = 1 << 20 // words trained on, about, at most: seconds
)

// Vectors are trained vectors of words and n-grams. They are immutable.
type Vectors struct {
	ids   map[string]int32
	words []float32 // [len(ids), dim]
	grams []float32 // [buckets, dim]
}

// lexicon says in how many entries each word occurs.
type lexicon struct {
	entries int
	in      map[string]int
}

func count(entries []*Entry) lexicon {
	l := lexicon{len(entries), map[string]int{}}
	seen := map[string]int{}
	for i, e := range entries {
		for _, w := range fields(text(e)) {
			if seen[w] != i+1 {
				seen[w] = i + 1
				l.in[w]++
			}
		}
	}
	return l
}

// text is all that is said of an entry.
func text(e *Entry) string { return e.Slug + " " + e.Title + " " + e.Summary + " " + rest(e) }

// rarity is the weight of a word.
func (l lexicon) rarity(w string) float32 {
	return float32(math.Log(float64(l.entries+1) / float64(l.in[w]+1)))
}

// telling drops words that more than a third of all entries hold, unless there
// are no others: they cost time and tell nothing.
func (l lexicon) telling(words []string) []string {
	rare := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return 3*l.in[w] > l.entries })
	if len(rare) == 0 {
		return words
	}
	return rare
}

// Texts are the texts of entries, to learn vectors from.
func Texts(entries []*Entry) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = text(e)
	}
	return all
}

// Learn trains vectors on texts: the same ones for the same texts. It takes a
// second or two on one core. stop, if not nil, ends it early when closed; it
// then returns nil.
func Learn(texts []string, stop <-chan struct{}) *Vectors {
	t := newTrainer(texts)
	if !t.train(stop) {
		return nil
	}
	return &t.Vectors
}

// trainer is vectors in the making.
type trainer struct {
	Vectors
	random  rng.Stream
	corpus  [][]int32 // ids of words, by text
	grams   [][]int32 // rows of n-grams, by word
	keep    []float32 // probability of a word to take part
	noise   []int32   // words, as often as they are drawn
	outputs []float32 // [words, dim]
	h, dh   []float32
	tokens  int
}

func newTrainer(texts []string) *trainer {
	t := &trainer{random: rng.New(1, 0), h: make([]float32, dim), dh: make([]float32, dim)}
	t.ids = map[string]int32{}
	var counts []int
	for _, text := range texts {
		var line []int32
		for _, w := range fields(text) {
			id, ok := t.ids[w]
			if !ok {
				id = int32(len(counts))
				t.ids[w] = id
				counts = append(counts, 0)
				t.grams = append(t.grams, grams(w))
			}
			counts[id]++
			line = append(line, id)
			t.tokens++
		}
		t.corpus = append(t.corpus, line)
	}
	for id, n := range counts {
		share := float64(n) / float64(t.tokens)
		t.keep = append(t.keep, float32(math.Sqrt(frequent/share)+frequent/share))
		for range max(1, int(math.Pow(float64(n), 0.75))) {
			t.noise = append(t.noise, int32(id))
		}
	}
	t.words = make([]float32, len(counts)*dim)
	t.Vectors.grams = make([]float32, buckets*dim)
	t.outputs = make([]float32, len(counts)*dim)
	t.random.FillUniform(t.words, -1.0/dim, 1.0/dim)
	t.random.FillUniform(t.Vectors.grams, -1.0/dim, 1.0/dim)
	return t
}

// train reports whether it came to its end.
func (t *trainer) train(stop <-chan struct{}) bool {
	n := min(passes, max(1, visits/max(t.tokens, 1)))
	done, total := 0, n*t.tokens
	var line []int32
	for range n {
		for _, words := range t.corpus {
			select {
			case <-stop:
				return false
			default:
			}
			line = line[:0]
			for _, w := range words {
				if t.random.Float32() < t.keep[w] {
					line = append(line, w)
				}
			}
			lr := rate * (1 - float32(done)/float32(total))
			for i := range line {
				t.center(line, i, lr)
			}
			done += len(words)
		}
	}
	return true
}

// center takes one step on the neighbours of the word at i.
func (t *trainer) center(line []int32, i int, lr float32) {
	w := line[i]
	t.Vectors.vector(t.h, w, t.grams[w])
	clear(t.dh)
	lo := max(0, i-window)
	hi := min(len(line), i+window+1)
	for range min(contexts, hi-lo-1) {
		j := lo + t.random.IntN(hi-lo)
		if j == i {
			continue
		}
		t.pair(line[j], 1, lr)
		for range negatives {
			if n := t.noise[t.random.IntN(len(t.noise))]; n != line[j] {
				t.pair(n, 0, lr)
			}
		}
	}
	simd.AddTo(row(t.words, w), t.dh)
	for _, g := range t.grams[w] {
		simd.AddTo(row(t.Vectors.grams, g), t.dh)
	}
}

// pair moves the vectors of a centre and a word together (label 1) or apart (0).
func (t *trainer) pair(word int32, label, lr float32) {
	o := row(t.outputs, word)
	p := 1 / (1 + float32(math.Exp(-float64(simd.Dot(t.h, o)))))
	step := lr * (label - p)
	simd.Axpy(step, o, t.dh)
	simd.Axpy(step, t.h, o)
}

func row(table []float32, i int32) []float32 { return table[int(i)*dim : int(i+1)*dim] }

// grams are the rows of a word's n-grams: those of "<word>", by hash (FNV-1a).
func grams(word string) []int32 {
	runes := []rune("<" + word + ">")
	var all []int32
	for n := minGram; n <= maxGram; n++ {
		for i := 0; i+n <= len(runes) && n < len(runes); i++ {
			h := uint32(2166136261)
			for _, b := range []byte(string(runes[i : i+n])) {
				h = (h ^ uint32(b)) * 16777619
			}
			all = append(all, int32(h%buckets))
		}
	}
	return all
}

// vector sets dst to the mean vector of a word, -1 for one that was never
// seen, and its n-grams.
func (v *Vectors) vector(dst []float32, word int32, grams []int32) {
	clear(dst)
	n := len(grams)
	if word >= 0 {
		n++
		simd.AddTo(dst, row(v.words, word))
	}
	for _, g := range grams {
		simd.AddTo(dst, row(v.grams, g))
	}
	if n > 0 {
		simd.Scale(dst, 1/float32(n))
	}
}

// word sets dst to the direction of a word: a vector of length 1.
func (v *Vectors) word(dst []float32, w string) {
	id, ok := v.ids[w]
	if !ok {
		id = -1
	}
	v.vector(dst, id, grams(w))
	normalize(dst)
}

func normalize(x []float32) {
	if n := simd.SumSq(x); n > 0 {
		simd.Scale(x, float32(1/math.Sqrt(n)))
	}
}

// meaning is what entries are about, as directions.
type meaning struct {
	vectors *Vectors
	common  []float32 // the mean of all entries
	entries []float32 // [entries, dim], each of length 1
}

// SetVectors lets searches go by meaning, too.
func (c *Catalogue) SetVectors(v *Vectors) {
	all := c.All()
	m := &meaning{v, make([]float32, dim), make([]float32, len(all)*dim)}
	directions := map[string][]float32{}
	for i, e := range all {
		r := row(m.entries, int32(i))
		for _, w := range fields(text(e)) {
			d, ok := directions[w]
			if !ok {
				d = make([]float32, dim)
				v.word(d, w)
				directions[w] = d
			}
			simd.Axpy(c.lexicon.rarity(w), d, r)
		}
		normalize(r)
		simd.Axpy(1/float32(len(all)), r, m.common)
	}
	for i := range all {
		r := row(m.entries, int32(i))
		simd.Axpy(-1, m.common, r)
		normalize(r)
	}
	c.meaning.Store(m)
}

// Of the entries in order of nearness, those count as meant that come close to
// the nearest one.
const (
	nearMost  = 30  // of them at most
	nearShare = 0.6 // of the nearest one's cosine
	nearLeast = 0.2 // cosine
)

// nearest ranks the entries whose meaning is near that of a query.
func (m *meaning) nearest(l lexicon, words []string) []int {
	q, d := make([]float32, dim), make([]float32, dim)
	for _, w := range l.telling(words) {
		m.vectors.word(d, w)
		simd.Axpy(l.rarity(w), d, q)
	}
	normalize(q)
	simd.Axpy(-1, m.common, q)
	normalize(q)
	n := len(m.entries) / dim
	cosine := make([]float32, n)
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
		cosine[i] = simd.Dot(q, row(m.entries, int32(i)))
	}
	least := max(nearLeast, nearShare*simd.Max(cosine))
	ids = slices.DeleteFunc(ids, func(i int) bool { return cosine[i] < least })
	slices.SortFunc(ids, func(a, b int) int { return cmp.Or(cmp.Compare(cosine[b], cosine[a]), a-b) })
	return ids[:min(len(ids), nearMost)]
}
