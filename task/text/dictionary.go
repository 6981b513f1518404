package text

import (
	"cmp"
	"slices"
	"unicode/utf8"

	"hasten/engine/rng"
)

// none is the row of what has none.
const none = ^uint32(0)

// dictionary knows the rows of the embedding table: of words, and of hashed
// n-grams. Only what occurs in the training texts has a row. The paper's table
// has one for every bucket (10M of them), nearly all of which are never
// touched; here buckets are but numbers, and the table is as large as the
// data's variety.
type dictionary struct {
	*Features
	words vocabulary
	row   []uint32 // of every word
	grams buckets  // row of every bucket that has one
	rows  int
}

// scan is the workspace for one text.
type scan struct {
	text  []byte   // as separated
	words []int    // numbers in the vocabulary, -1 for unknown ones
	hash  []uint64 // of the words
	grams []uint32 // buckets of n-grams

	word   []byte // <word>
	starts []int  // of the characters in it
}

// split finds the words and the n-grams of a text; add puts unknown words into
// the vocabulary.
func (f *Features) split(s *scan, v *vocabulary, text []byte, add bool) {
	if f.Words == "letters" {
		s.text = separate(s.text[:0], text)
		text = s.text
	}
	s.words, s.hash, s.grams = s.words[:0], s.hash[:0], s.grams[:0]
	for at := 0; ; {
		from, to, h := next(text, at)
		word := text[from:to]
		if from == to {
			word, h = endWord, endHash
		}
		i := -1
		if add {
			i = v.add(word, h)
		} else {
			i = v.find(h)
		}
		s.words, s.hash = append(s.words, i), append(s.hash, h)
		if from == to {
			break
		}
		if f.MaxChars > 0 && f.Buckets > 0 {
			f.characters(s, word)
		}
		at = to
	}
	s.grams = f.ngrams(s.grams, s.hash)
}

var (
	endWord = []byte(endOfText)
	endHash = hash(endWord)
)

// ngrams appends the buckets of the sequences of 2 … NGrams words.
func (f *Features) ngrams(dst []uint32, words []uint64) []uint32 {
	if f.Buckets == 0 {
		return dst
	}
	for i, h := range words {
		for j := i + 1; j < min(i+f.NGrams, len(words)); j++ {
			h = (h ^ h>>31) * 0x9e3779b97f4a7c15 // a word's place in the sequence matters
			h += words[j]
			dst = append(dst, f.bucket(h))
		}
	}
	return dst
}

// characters appends the buckets of the sequences of MinChars … MaxChars
// characters in <word>; the brackets, which tell beginning and end, are none
// by themselves.
func (f *Features) characters(s *scan, word []byte) {
	s.word = append(append(append(s.word[:0], '<'), word...), '>')
	s.starts = s.starts[:0]
	for i, c := range s.word {
		if utf8.RuneStart(c) {
			s.starts = append(s.starts, i)
		}
	}
	s.starts = append(s.starts, len(s.word))
	last := len(s.starts) - 2
	for i := range last + 1 {
		h := uint64(fnvOffset)
		for j := i; j <= min(last, i+f.MaxChars-1); j++ {
			for _, c := range s.word[s.starts[j]:s.starts[j+1]] {
				h = (h ^ uint64(c)) * fnvPrime
			}
			if n := j - i + 1; n >= f.MinChars && !(n == 1 && (i == 0 || i == last)) {
				s.grams = append(s.grams, f.bucket(h))
			}
		}
	}
}

// bucket is the place of a hash in the table of n-grams.
func (f *Features) bucket(h uint64) uint32 {
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return uint32((h >> 32) * uint64(f.Buckets) >> 32)
}

// appendRows appends the rows of a text's words and n-grams that have one.
func (d *dictionary) appendRows(dst []uint32, s *scan, text []byte) []uint32 {
	d.split(s, &d.words, text, false)
	for _, w := range s.words {
		if w >= 0 && d.row[w] != none {
			dst = append(dst, d.row[w])
		}
	}
	for _, b := range s.grams {
		if r := d.grams.find(b); r != none {
			dst = append(dst, r)
		}
	}
	return dst
}

// corpus is the training texts as rows of the embedding table.
type corpus struct {
	rows     []uint32
	labels   []uint32
	examples []example
	hot      int // rows that at least one text in hotShare has: the first ones
}

// example says where a text's rows and labels end; they begin where those of
// the text before end. tokens counts words, ends of texts and labels up to
// here.
type example struct{ rows, labels, tokens int }

// hotShare and maxHot say which rows are so common that each thread trains a
// copy of its own: see replica.
const (
	hotShare = 64
	maxHot   = 512
)

// builder makes the dictionary and the corpus from the training texts. Until
// all are read, rows are not numbered: corpus.rows holds words, and the buckets
// of n-grams with gramBit.
type builder struct {
	corpus
	dict    *dictionary
	labels  vocabulary
	perName []int    // texts of each label
	count   []uint32 // of each word
	scan    scan
}

// gramBit tells n-grams from words.
const gramBit = 1 << 31

func newBuilder(f *Features) *builder {
	return &builder{dict: &dictionary{Features: f}}
}

// add takes in one text.
func (b *builder) add(labels [][]byte, text []byte) {
	s := &b.scan
	b.dict.split(s, &b.dict.words, text, true)
	for _, w := range s.words {
		if w == len(b.count) {
			b.count = append(b.count, 0)
		}
		b.count[w]++
		b.rows = append(b.rows, uint32(w))
	}
	for _, g := range s.grams {
		b.rows = append(b.rows, g|gramBit)
	}
	for _, l := range labels {
		i := b.labels.add(l, hash(l))
		if i == len(b.perName) {
			b.perName = append(b.perName, 0)
		}
		b.perName[i]++
		b.corpus.labels = append(b.corpus.labels, uint32(i))
	}
	before := 0
	if n := len(b.examples); n > 0 {
		before = b.examples[n-1].tokens
	}
	b.examples = append(b.examples, example{len(b.rows), len(b.corpus.labels), before + len(s.words) + len(labels)})
}

// merge takes in the texts of another builder, behind its own. What they become
// is what they would be had they been added here.
func (b *builder) merge(o *builder) {
	words, labels := make([]uint32, o.dict.words.len()), make([]uint32, o.labels.len())
	for i := range words {
		w := o.dict.words.word(i)
		words[i] = uint32(b.dict.words.add(w, hash(w)))
		if int(words[i]) == len(b.count) {
			b.count = append(b.count, 0)
		}
		b.count[words[i]] += o.count[i]
	}
	for i := range labels {
		l := o.labels.word(i)
		labels[i] = uint32(b.labels.add(l, hash(l)))
		if int(labels[i]) == len(b.perName) {
			b.perName = append(b.perName, 0)
		}
		b.perName[labels[i]] += o.perName[i]
	}
	at := example{len(b.rows), len(b.corpus.labels), 0}
	if n := len(b.examples); n > 0 {
		at.tokens = b.examples[n-1].tokens
	}
	for _, e := range o.examples {
		b.examples = append(b.examples, example{at.rows + e.rows, at.labels + e.labels, at.tokens + e.tokens})
	}
	b.rows = slices.Grow(b.rows, len(o.rows))
	for _, f := range o.rows {
		if f&gramBit == 0 {
			f = words[f]
		}
		b.rows = append(b.rows, f)
	}
	for _, l := range o.corpus.labels {
		b.corpus.labels = append(b.corpus.labels, labels[l])
	}
}

// text is the unnumbered rows and the labels of a text, and its tokens.
func (b *builder) text(i int) (rows, labels []uint32, tokens int) {
	var begin example
	if i > 0 {
		begin = b.examples[i-1]
	}
	end := b.examples[i]
	return b.rows[begin.rows:end.rows], b.corpus.labels[begin.labels:end.labels], end.tokens - begin.tokens
}

// row is where the row of a word or n-gram is noted; nil for a rare word, which
// has none.
func (b *builder) row(f uint32) *uint32 {
	switch d := b.dict; {
	case f&gramBit != 0:
		return d.grams.add(f &^ gramBit)
	case int(b.count[f]) < d.MinCount:
		return nil
	default:
		return &d.row[f]
	}
}

// finish shuffles the texts and numbers rows and labels: the commonest rows
// first, the others in the order in which training will meet them, so that it
// goes through the table nearly in order; labels by frequency. It returns the
// labels' names and counts.
func (b *builder) finish(seed uint64) (d *dictionary, c *corpus, names []string, counts []int) {
	random := rng.New(seed, shuffleStream)
	order := random.Permutation(len(b.examples))
	d = b.dict
	d.row = slices.Repeat([]uint32{none}, d.words.len())
	c = &corpus{rows: make([]uint32, 0, len(b.rows)), examples: make([]example, len(order))}
	for _, f := range b.common(order) {
		*b.row(f) = uint32(d.rows)
		d.rows++
	}
	c.hot = d.rows
	rank := b.rankLabels()
	for _, i := range rank.order {
		names, counts = append(names, string(b.labels.word(i))), append(counts, b.perName[i])
	}
	tokens := 0
	for to, from := range order {
		rows, labels, n := b.text(from)
		for _, f := range rows {
			if r := b.row(f); r != nil {
				if *r == none {
					*r = uint32(d.rows)
					d.rows++
				}
				c.rows = append(c.rows, *r)
			}
		}
		for _, l := range labels {
			c.labels = append(c.labels, rank.of[l])
		}
		tokens += n
		c.examples[to] = example{len(c.rows), len(c.labels), tokens}
	}
	return d, c, names, counts
}

// common returns the features that more than one of hotShare texts has, the
// commonest first, as a sample of the texts shows.
func (b *builder) common(order []int) []uint32 {
	sample := order[:min(len(order), 8192)]
	count := map[uint32]int{}
	for _, i := range sample {
		rows, _, _ := b.text(i)
		for _, f := range rows {
			count[f]++
		}
	}
	var hot []uint32
	for f, n := range count {
		if n > len(sample)/hotShare && b.row(f) != nil {
			hot = append(hot, f)
		}
	}
	slices.SortFunc(hot, func(x, y uint32) int { return cmp.Or(count[y]-count[x], cmp.Compare(x, y)) })
	return hot[:min(len(hot), maxHot)]
}

// ranking is labels in the order of their frequency, and the place of each.
type ranking struct {
	order []int
	of    []uint32
}

func (b *builder) rankLabels() ranking {
	r := ranking{make([]int, len(b.perName)), make([]uint32, len(b.perName))}
	for i := range r.order {
		r.order[i] = i
	}
	slices.SortStableFunc(r.order, func(x, y int) int { return b.perName[y] - b.perName[x] })
	for place, i := range r.order {
		r.of[i] = uint32(place)
	}
	return r
}
