package token

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// bpe is the byte-pair encoding model: it begins with the ids of the
// characters (or bytes) of a piece and joins neighbours as the merge rules
// say, lowest rank first, leftmost first among equals.
type bpe struct {
	vocab    map[string]int32
	merges   map[uint64]merge
	bytes    [256]int32 // ids of the single bytes in the byte-level spelling; -1: none
	unk      int32      // -1: characters not in the vocabulary are dropped
	fuseUnk  bool
	fallback *byteTokens
	prefix   string // of every character but the first of a piece
	suffix   string // of the last character of a piece
	whole    bool   // ignore_merges: a piece that is a token is that token
}

// merge is what a pair of neighbours becomes, and when.
type merge struct{ rank, id int32 }

func pair(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

// encodeBytes appends the ids of one pre-token, given as raw bytes, for a
// byte-level vocabulary.
func (m *bpe) encodeBytes(dst []int32, piece string, w *workspace) []int32 {
	if len(piece) <= shortKey {
		e := w.slot(piece)
		if e.n == 0 {
			start := len(dst)
			dst = m.mergeBytes(dst, piece, w)
			if n := len(dst) - start; n <= len(e.ids) {
				e.n = uint8(n)
				e.key = w.key
				copy(e.ids[:], dst[start:])
			}
			return dst
		}
		if e.n == 1 { // most often
			return append(dst, e.ids[0])
		}
		return append(dst, e.ids[:e.n]...)
	}
	return w.cached(dst, piece, m.mergeBytes)
}

func (m *bpe) mergeBytes(dst []int32, piece string, w *workspace) []int32 {
	if m.whole {
		if id, ok := m.vocab[byteSpelling(piece)]; ok {
			return append(dst, id)
		}
	}
	start, unknown := len(dst), false
	for i := range len(piece) {
		id := m.bytes[piece[i]]
		if id < 0 {
			// A vocabulary without all bytes: as for characters below.
			if m.unk < 0 || unknown && m.fuseUnk {
				continue
			}
			id, unknown = m.unk, true
		} else {
			unknown = false
		}
		dst = append(dst, id)
	}
	return dst[:start+len(m.join(dst[start:], w))]
}

// encode appends the ids of one piece of text for a vocabulary of characters.
func (m *bpe) encode(dst []int32, piece string, w *workspace) []int32 {
	if piece == "" {
		return dst
	}
	return w.cached(dst, piece, m.mergeChars)
}

func (m *bpe) mergeChars(dst []int32, piece string, w *workspace) []int32 {
	if m.whole {
		if id, ok := m.vocab[piece]; ok {
			return append(dst, id)
		}
	}
	start, unknown := len(dst), false
	for i := 0; i < len(piece); {
		_, n := utf8.DecodeRuneInString(piece[i:])
		char := piece[i : i+n]
		if i > 0 && m.prefix != "" {
			char = m.prefix + char
		}
		i += n
		if i == len(piece) && m.suffix != "" {
			char += m.suffix
		}
		if id, ok := m.vocab[char]; ok {
			dst, unknown = append(dst, id), false
			continue
		}
		if out, ok := m.fallback.encode(dst, char); ok {
			dst, unknown = out, false
			continue
		}
		if m.unk >= 0 && !(unknown && m.fuseUnk) {
			dst, unknown = append(dst, m.unk), true
		}
	}
	return dst[:start+len(m.join(dst[start:], w))]
}

// join merges in place and returns the shortened slice. Short pieces are
// searched for the next merge again and again, long ones keep a heap, so that
// a line of a million equal signs takes n log n.
func (m *bpe) join(ids []int32, w *workspace) []int32 {
	if len(ids) < 2 {
		return ids
	}
	if len(ids) > 32 {
		return m.joinLong(ids, w)
	}
	const none = int32(1<<31 - 1)
	var rank [32]int32 // of the pair that begins here
	var into [32]int32
	look := func(i int) {
		rank[i] = none
		if i+1 < len(ids) {
			if r, ok := m.merges[pair(ids[i], ids[i+1])]; ok {
				rank[i], into[i] = r.rank, r.id
			}
		}
	}
	for i := range ids {
		look(i)
	}
	for {
		best := 0
		for i := 1; i < len(ids); i++ {
			if rank[i] < rank[best] {
				best = i
			}
		}
		if rank[best] == none {
			return ids
		}
		ids[best] = into[best]
		last := len(ids) - 1
		copy(ids[best+1:], ids[best+2:])
		copy(rank[best+1:last], rank[best+2:last+1])
		copy(into[best+1:last], into[best+2:last+1])
		ids = ids[:last]
		look(best)
		if best > 0 {
			look(best - 1)
		}
	}
}

// candidate is a merge that was possible when it entered the heap: order is
// its rank and place, and ids say whether it still is.
type candidate struct {
	order       uint64
	left, right int32
}

func (m *bpe) joinLong(ids []int32, w *workspace) []int32 {
	n := len(ids)
	w.next = grow(w.next, n)
	w.prev = grow(w.prev, n)
	heap := w.heap[:0]
	next, prev := w.next, w.prev
	for i := range ids {
		next[i], prev[i] = int32(i+1), int32(i-1)
	}
	offer := func(i int32) {
		if i < 0 || next[i] >= int32(n) {
			return
		}
		a, b := ids[i], ids[next[i]]
		if r, ok := m.merges[pair(a, b)]; ok {
			heap = push(heap, candidate{uint64(r.rank)<<32 | uint64(i), a, b})
		}
	}
	for i := range ids {
		offer(int32(i))
	}
	for len(heap) > 0 {
		var c candidate
		heap, c = pop(heap)
		i := int32(uint32(c.order))
		j := next[i]
		if ids[i] != c.left || j >= int32(n) || ids[j] != c.right {
			continue // one of the two has gone into another merge
		}
		ids[i] = m.merges[pair(c.left, c.right)].id
		ids[j] = -1
		next[i] = next[j]
		if next[j] < int32(n) {
			prev[next[j]] = i
		}
		offer(prev[i])
		offer(i)
	}
	w.heap = heap
	out := ids[:0]
	for i := int32(0); i < int32(n); i = next[i] {
		out = append(out, ids[i])
	}
	return out
}

// push and pop keep a binary heap, smallest order first. container/heap would
// box every candidate.
func push(h []candidate, c candidate) []candidate {
	h = append(h, c)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if h[up].order <= c.order {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = c
	return h
}

func pop(h []candidate) ([]candidate, candidate) {
	top, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	if len(h) == 0 {
		return h, top
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= len(h) {
			break
		}
		if down+1 < len(h) && h[down+1].order < h[down].order {
			down++
		}
		if last.order <= h[down].order {
			break
		}
		h[i] = h[down]
		i = down
	}
	h[i] = last
	return h, top
}

func grow(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	return s[:n]
}

// workspace is what one running Encode needs: scratch memory and a memory of
// the pre-tokens seen before, both bounded.
type workspace struct {
	heap       []candidate
	next, prev []int32
	path       []step // of the Viterbi search

	table []entry // pre-tokens of at most shortKey bytes, by hash; made when first used
	key   [2]uint64
	long  map[string][]int32 // others of at most longKey bytes
}

// shrink lets go of what a very long piece has needed.
func (w *workspace) shrink() {
	const keep = 1 << 16
	if cap(w.heap) > keep || cap(w.next) > keep || cap(w.path) > keep {
		w.heap, w.next, w.prev, w.path = nil, nil, nil, nil
	}
}

// entry is a remembered pre-token.
type entry struct {
	key [2]uint64 // its bytes, and its length in the last one
	ids [7]int32
	n   uint8 // 0: empty
}

const (
	shortKey    = 15
	longKey     = 256
	tableBits   = 14
	longEntries = 1 << 13
)

// slot is the entry for a piece of at most shortKey bytes: the one that holds
// it, or one that n marks as empty, for w.key. A pre-token that falls on the
// place of another takes it.
func (w *workspace) slot(piece string) *entry {
	if w.table == nil {
		w.table = make([]entry, 1<<tableBits)
	}
	var b [16]byte
	copy(b[:], piece)
	b[15] = byte(len(piece))
	k := [2]uint64{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])}
	w.key = k
	hi, lo := bits.Mul64(k[0]^0x9e3779b97f4a7c15, k[1]^0xd1b54a32d192ed03)
	e := &w.table[(hi^lo)>>(64-tableBits)]
	if e.key != k {
		e.n = 0
	}
	return e
}

// cached is encode(dst, piece, w), remembered.
func (w *workspace) cached(dst []int32, piece string, encode func([]int32, string, *workspace) []int32) []int32 {
	if len(piece) > longKey {
		return encode(dst, piece, w)
	}
	if ids, ok := w.long[piece]; ok {
		return append(dst, ids...)
	}
	start := len(dst)
	dst = encode(dst, piece, w)
	if w.long == nil || len(w.long) >= longEntries {
		w.long = make(map[string][]int32, 64)
	}
	w.long[strings.Clone(piece)] = append([]int32(nil), dst[start:]...)
	return dst
}

// The byte-level spelling writes every byte as one printable character, so
// that vocabularies are text: the printable bytes of Latin-1 stand for
// themselves, the others are U+0100 and up, in order.
var (
	byteRune [256]rune
	runeByte = map[rune]byte{}
)

func init() {
	extra := rune(256)
	for b := range byteRune {
		r := rune(b)
		if r < '!' || r > '~' && r < 0xa1 || r == 0xad {
			r = extra
			extra++
		}
		byteRune[b] = r
		runeByte[r] = byte(b)
	}
}

// byteSpelling is the byte-level spelling of s.
func byteSpelling(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/2)
	for i := range len(s) {
		b.WriteRune(byteRune[s[i]])
	}
	return b.String()
}

// spelledBytes undoes byteSpelling; ok is false if s is not so spelled.
func spelledBytes(s string) (raw string, ok bool) {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		b, ok := runeByte[r]
		if !ok {
			return "", false
		}
		out = append(out, b)
	}
	return string(out), true
}
