package token

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"hasten/engine/par"
	"hasten/engine/rng"
)

// TrainOptions are the settings of TrainBPE. The zero value is good.
type TrainOptions struct {
	// Pattern cuts the text into pre-tokens, which no token goes beyond; "" is
	// CodePattern. The other patterns of this package are as fast.
	Pattern string
	// SampleBytes bounds the text that is counted: from a larger corpus that
	// much is drawn, in parts of at most 64 KiB spread over all of it. 0 is 16 MiB.
	SampleBytes int
	// MinCount is how often a pair must occur to become a token; 0 is 2.
	MinCount int
	// Special are names of further special tokens; they follow EndOfText.
	Special []string
}

const (
	defaultSample = 16 << 20
	chunkBytes    = 64 << 10
	maxVocab      = 1 << 20
	maxWord       = 256 // bytes of a pre-token that is learned from; longer ones are data, not language
)

// TrainBPE learns a byte-level BPE vocabulary of the given size from documents
// (see Documents for slices; an error the sequence yields is returned). Ids
// 0 to 255 are the bytes, 256 is EndOfText, then come the further special tokens
// and then the merges, the most frequent pair of neighbours first, ties by the
// smaller ids. The vocabulary is smaller than asked for if the text holds no
// further pair. The result depends on the documents and options only. A
// document is not kept after the next one is asked for.
func TrainBPE(ctx context.Context, docs iter.Seq2[[]byte, error], vocab int, o TrainOptions) (*Pipeline, error) {
	o.Pattern = cmp.Or(o.Pattern, CodePattern)
	o.SampleBytes = cmp.Or(o.SampleBytes, defaultSample)
	o.MinCount = cmp.Or(o.MinCount, 2)
	special := append([]string{EndOfText}, o.Special...)
	switch {
	case vocab < 256+len(special) || vocab > maxVocab:
		return nil, fmt.Errorf("bpe: vocabulary of %d: want %d (the bytes and special tokens) to %d", vocab, 256+len(special), maxVocab)
	case o.SampleBytes < 0 || o.MinCount < 0:
		return nil, fmt.Errorf("bpe: negative option")
	}
	for i, s := range special {
		if len(s) < 2 || !utf8.ValidString(s) || slices.Contains(special[:i], s) {
			return nil, fmt.Errorf("bpe: special token %.60q: want different ones of two or more characters", s)
		}
	}
	var find func(string) []span
	if sp, ok := splitters[o.Pattern]; ok {
		find = sp.spans
	} else {
		p, err := compile(o.Pattern)
		if err != nil {
			return nil, fmt.Errorf("bpe: pattern: %w", err)
		}
		find = p.spans
	}
	sample, err := drawSample(ctx, docs, o.SampleBytes)
	if err != nil {
		return nil, err
	}
	words := countWords(sample, newAddedSet(specialTokens(special), nil), find)
	merges, err := learn(ctx, words, vocab-256-len(special), int32(256+len(special)), o.MinCount)
	if err != nil {
		return nil, err
	}
	t, err := readPipeline(bpeJSON(o.Pattern, special, merges))
	if err != nil {
		return nil, fmt.Errorf("bpe: %w", err)
	}
	return t, nil
}

// Documents is the sequence of the given documents, for TrainBPE.
func Documents(docs [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, d := range docs {
			if !yield(d, nil) {
				return
			}
		}
	}
}

// chunk is a part of a document and its place in the lottery.
type chunk struct {
	ticket uint64
	text   string
}

// lottery is a heap with the highest ticket on top.
type lottery []chunk

func (l lottery) Len() int           { return len(l) }
func (l lottery) Less(i, j int) bool { return l[i].ticket > l[j].ticket }
func (l lottery) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *lottery) Push(x any)        { *l = append(*l, x.(chunk)) }
func (l *lottery) Pop() any {
	old := *l
	last := old[len(old)-1]
	*l = old[:len(old)-1]
	return last
}

// drawSample cuts the documents into chunks, draws a ticket for each from a
// fixed stream of random numbers, and keeps the lowest tickets that fit in
// limit bytes. One pass, and every part of the corpus has the same chance.
func drawSample(ctx context.Context, docs iter.Seq2[[]byte, error], limit int) ([]string, error) {
	tickets := rng.New(0, 0)
	var kept lottery
	size := 0
	highest := ^uint64(0) // a chunk with a higher ticket would be dropped at once
	for doc, err := range docs {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		for len(doc) > 0 {
			n := chunkEnd(doc)
			text := doc[:n]
			doc = doc[n:]
			ticket := tickets.Uint64()
			if ticket >= highest {
				continue
			}
			heap.Push(&kept, chunk{ticket, string(text)})
			size += n
			for size > limit && len(kept) > 1 {
				c := heap.Pop(&kept).(chunk)
				size -= len(c.text)
				highest = c.ticket
			}
		}
	}
	sample := make([]string, len(kept))
	for i, c := range kept {
		sample[i] = c.text
	}
	return sample, nil
}

// chunkEnd is where the first chunk of a document ends: behind a line if
// possible, so that few pre-tokens are cut.
func chunkEnd(doc []byte) int {
	if len(doc) <= chunkBytes {
		return len(doc)
	}
	if i := bytes.LastIndexByte(doc[:chunkBytes], '\n'); i >= 0 {
		return i + 1
	}
	return chunkBytes
}

func specialTokens(names []string) []addedToken {
	out := make([]addedToken, len(names))
	for i, s := range names {
		out[i] = addedToken{ID: int64(256 + i), Content: s, Special: true}
	}
	return out
}

type countArgs struct {
	sample []string
	added  addedSet
	find   func(string) []span
	counts []map[string]int64
}

var countLoop par.Loop[countArgs]

// countWords counts the pre-tokens of the sample that can hold a merge.
func countWords(sample []string, added addedSet, find func(string) []span) map[string]int64 {
	const shards = 16 // counted side by side
	counts := make([]map[string]int64, min(len(sample), shards))
	countLoop.Run(len(counts), countArgs{sample, added, find, counts}, func(a *countArgs, i int) {
		count := map[string]int64{}
		for k := i; k < len(a.sample); k += len(a.counts) {
			a.added.cut(a.sample[k], func(text string, id int32, _ int) {
				if id >= 0 {
					return
				}
				for _, s := range a.find(text) {
					if n := s.hi - s.lo; n > 1 && n <= maxWord {
						count[text[s.lo:s.hi]]++
					}
				}
			})
		}
		a.counts[i] = count
	})
	all := map[string]int64{}
	for _, c := range counts {
		for w, n := range c {
			all[w] += n
		}
	}
	return all
}

// word is a distinct pre-token in the course of training.
type word struct {
	ids   []int32
	count int64
}

// pairState is how often a pair of neighbours occurs, and in which words it
// was seen (some of them may have lost it since, some stand there twice).
type pairState struct {
	count int64
	words []int32
}

// pairHeap offers the pair with the highest count, ties by the smaller ids.
// A count in it may be out of date: learn looks again.
type pairHeap []countedPair

type countedPair struct {
	pair  uint64
	count int64
}

func (h pairHeap) Len() int { return len(h) }
func (h pairHeap) Less(i, j int) bool {
	return h[i].count > h[j].count || h[i].count == h[j].count && h[i].pair < h[j].pair
}
func (h pairHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *pairHeap) Push(x any)   { *h = append(*h, x.(countedPair)) }
func (h *pairHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// trainer is the state of learning: the words as they are cut now, and the
// pairs of neighbours in them.
type trainer struct {
	words []word
	pairs map[uint64]*pairState
	queue pairHeap
}

// learn finds up to n merges; the first one makes token id, and so on. No two
// merges make the same text: what stands between two borders that no merge has
// crossed has been merged in the same order everywhere.
func learn(ctx context.Context, counts map[string]int64, n int, id int32, minCount int) (merges [][2]int32, err error) {
	t := newTrainer(counts)
	for len(merges) < n && len(t.queue) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		best := heap.Pop(&t.queue).(countedPair)
		s := t.pairs[best.pair]
		if s == nil || s.count < int64(minCount) {
			continue
		}
		if s.count != best.count {
			heap.Push(&t.queue, countedPair{best.pair, s.count})
			continue
		}
		left, right := int32(best.pair>>32), int32(uint32(best.pair))
		t.merge(left, right, id+int32(len(merges)))
		merges = append(merges, [2]int32{left, right})
	}
	return merges, nil
}

func newTrainer(counts map[string]int64) *trainer {
	t := &trainer{pairs: map[uint64]*pairState{}}
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		w := word{make([]int32, len(text)), counts[text]}
		for i := range len(text) {
			w.ids[i] = int32(text[i])
		}
		for i := 1; i < len(w.ids); i++ {
			t.add(pair(w.ids[i-1], w.ids[i]), int32(len(t.words)), w.count)
		}
		t.words = append(t.words, w)
	}
	for p, s := range t.pairs {
		t.queue = append(t.queue, countedPair{p, s.count})
	}
	heap.Init(&t.queue)
	return t
}

// add counts a pair in a word.
func (t *trainer) add(p uint64, word int32, by int64) {
	s := t.pairs[p]
	if s == nil {
		s = new(pairState)
		t.pairs[p] = s
	}
	s.count += by
	if by > 0 && (len(s.words) == 0 || s.words[len(s.words)-1] != word) {
		s.words = append(s.words, word)
	}
}

// merge joins a pair in all words that have it. Counts that fell are put right
// when they come to the top of the queue; those that rose enter it anew.
func (t *trainer) merge(left, right, id int32) {
	p := pair(left, right)
	rose := map[uint64]bool{}
	for _, k := range t.pairs[p].words {
		t.words[k].merge(left, right, id, func(a, b int32, by int64) {
			q := pair(a, b)
			t.add(q, k, by)
			if by > 0 {
				rose[q] = true
			}
		})
	}
	delete(t.pairs, p)
	for q := range rose {
		heap.Push(&t.queue, countedPair{q, t.pairs[q].count})
	}
}

// merge replaces every left, right of the word by id, and reports by how much
// that changes the count of each pair.
func (w *word) merge(left, right, id int32, change func(a, b int32, by int64)) {
	out := w.ids[:0]
	in := w.ids
	for i := 0; i < len(in); i++ {
		if i+1 == len(in) || in[i] != left || in[i+1] != right {
			out = append(out, in[i])
			continue
		}
		if len(out) > 0 {
			before := out[len(out)-1]
			change(before, left, -w.count)
			change(before, id, w.count)
		}
		if i+2 < len(in) {
			change(right, in[i+2], -w.count)
			change(id, in[i+2], w.count)
		}
		out = append(out, id)
		i++
	}
	w.ids = out
}

// bpeJSON is the tokenizer.json of a byte-level BPE with these merges, each of
// two ids; they make the ids that follow the special tokens.
func bpeJSON(expr string, special []string, merges [][2]int32) []byte {
	spelling := make([]string, 0, 256+len(special)+len(merges))
	for b := range 256 {
		spelling = append(spelling, string(byteRune[b]))
	}
	spelling = append(spelling, special...)
	var b bytes.Buffer
	b.WriteString(`{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [`)
	for i, s := range special {
		comma(&b, i)
		fmt.Fprintf(&b, "\n    {\"id\": %d, \"content\": %s, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}", 256+i, quote(s))
	}
	fmt.Fprintf(&b, `
  ],
  "normalizer": null,
  "pre_tokenizer": {
    "type": "Sequence",
    "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": %s}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
    ]
  },
  "post_processor": null,
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
  "model": {
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {`, quote(expr))
	var rules bytes.Buffer
	for i, m := range merges {
		left, right := spelling[m[0]], spelling[m[1]]
		spelling = append(spelling, left+right)
		comma(&rules, i)
		rules.WriteString("\n      " + quote(left+" "+right))
	}
	for id, s := range spelling {
		comma(&b, id)
		b.WriteString("\n      " + quote(s) + ": " + strconv.Itoa(id))
	}
	b.WriteString("\n    },\n    \"merges\": [")
	b.Write(rules.Bytes())
	b.WriteString("\n    ]\n  }\n}\n")
	return b.Bytes()
}

// bytesJSON is the tokenizer.json of Bytes.
func bytesJSON() []byte { return bpeJSON(GPT2Pattern, []string{EndOfText}, nil) }

func comma(b *bytes.Buffer, i int) {
	if i > 0 {
		b.WriteByte(',')
	}
}

// quote is s as a JSON string.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("token: a string that JSON cannot hold: " + err.Error()) // there is none
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
