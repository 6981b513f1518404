package token

import "unicode/utf8"

// unigram is the model of SentencePiece: of all ways to cut a piece into
// tokens it takes the one with the largest sum of scores (log probabilities),
// found by the Viterbi search.
type unigram struct {
	trie     *trie
	scores   []float64 // by id
	vocab    map[string]int32
	unk      int32 // -1: none
	unkScore float64
	fallback *byteTokens
}

// unkPenalty is how far an unknown character lies below the least likely token.
const unkPenalty = 10

// step is the best way to reach a place in the piece.
type step struct {
	score float64
	from  int32 // where its last token begins; -1: not reached
	id    int32
}

func (m *unigram) encode(dst []int32, piece string, w *workspace) []int32 {
	if piece == "" {
		return dst
	}
	return w.cached(dst, piece, m.search)
}

func (m *unigram) search(dst []int32, piece string, w *workspace) []int32 {
	if cap(w.path) <= len(piece) {
		w.path = make([]step, len(piece)+1)
	}
	path := w.path[:len(piece)+1]
	for i := range path {
		path[i] = step{from: -1}
	}
	path[0].from = 0
	reach := func(from, to int, score float64, id int32) {
		if score += path[from].score; path[to].from < 0 || score > path[to].score {
			path[to] = step{score, int32(from), id}
		}
	}
	for i := 0; i < len(piece); {
		_, width := utf8.DecodeRuneInString(piece[i:])
		single := false
		node := int32(0)
		for j := i; j < len(piece); j++ {
			if node = m.trie.step(node, piece[j]); node == 0 {
				break
			}
			if id := m.trie.nodes[node].value; id >= 0 {
				reach(i, j+1, m.scores[id], id)
				single = single || j+1-i == width
			}
		}
		if !single {
			reach(i, i+width, m.unkScore, -1)
		}
		i += width
	}
	// Backwards along the best path; unknown characters side by side are one.
	start := len(dst)
	for end := len(piece); end > 0; {
		s := path[end]
		lo := int(s.from)
		if s.id < 0 || s.id == m.unk {
			for lo > 0 && (path[lo].id < 0 || path[lo].id == m.unk) {
				lo = int(path[lo].from)
			}
			dst = m.unknown(dst, piece[lo:end])
		} else {
			dst = append(dst, s.id)
		}
		end = lo
	}
	for i, j := start, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
	return dst
}

// unknown appends, last one first, the ids of text that is no token.
func (m *unigram) unknown(dst []int32, text string) []int32 {
	if id, ok := m.vocab[text]; ok {
		return append(dst, id)
	}
	start := len(dst)
	if out, ok := m.fallback.encode(dst, text); ok {
		for i, j := start, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
		return out
	}
	if m.unk >= 0 {
		dst = append(dst, m.unk)
	}
	return dst
}

// byteTokens are the ids of <0x00> … <0xFF>, which stand for the bytes of
// characters that are not in the vocabulary; -1: that one is missing.
type byteTokens [256]int32

// encode appends the tokens of the bytes of s, if all of them are there.
func (t *byteTokens) encode(dst []int32, s string) (ids []int32, ok bool) {
	if t == nil {
		return dst, false
	}
	start := len(dst)
	for i := range len(s) {
		id := t[s[i]]
		if id < 0 {
			return dst[:start], false
		}
		dst = append(dst, id)
	}
	return dst, true
}
