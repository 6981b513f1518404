package token

import "unicode/utf8"

// wordPiece is BERT's model: a word is cut from the left into the longest
// tokens there are, all but the first with a prefix ("##"). A word that cannot
// be cut, or is too long, is one unknown token.
type wordPiece struct {
	trie     *trie
	inside   int32 // node of the trie behind the prefix; 0: no token has it
	noPrefix bool  // the prefix is empty
	unk      int32
	maxChars int
}

func (m *wordPiece) encode(dst []int32, piece string, _ *workspace) []int32 {
	if piece == "" {
		return dst
	}
	if utf8.RuneCountInString(piece) > m.maxChars {
		return append(dst, m.unk)
	}
	start := len(dst)
	for i := 0; i < len(piece); {
		from := int32(0)
		if i > 0 {
			if from = m.inside; from == 0 && !m.noPrefix {
				return append(dst[:start], m.unk)
			}
		}
		n, id := m.trie.longest(from, piece[i:])
		if n == 0 {
			return append(dst[:start], m.unk)
		}
		dst = append(dst, id)
		i += n
	}
	return dst
}

// wordLevel is the model whose tokens are whole words.
type wordLevel struct {
	vocab map[string]int32
	unk   int32 // -1: unknown words are dropped
}

func (m *wordLevel) encode(dst []int32, piece string, _ *workspace) []int32 {
	if id, ok := m.vocab[piece]; ok {
		return append(dst, id)
	}
	if m.unk >= 0 && piece != "" {
		dst = append(dst, m.unk)
	}
	return dst
}
