package token

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedTokens are the tokens that are cut out of a text before anything else
// is done with it: some from the raw text, some from the normalised one.
type addedTokens struct{ raw, normalized addedSet }

// addedSet finds added tokens in a text: the first one, and the longest there.
type addedSet struct {
	trie   *trie // content → index in tokens; nil: none
	tokens []addedToken
}

// addedToken is an entry of added_tokens in a tokenizer.json.
type addedToken struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // not inside a word
	LStrip     bool   `json:"lstrip"`      // takes the white space before it
	RStrip     bool   `json:"rstrip"`      // takes the white space after it
	Normalized bool   `json:"normalized"`  // looked for in the normalised text
	Special    bool   `json:"special"`
}

func newAddedSet(tokens []addedToken, normalize normalizer) addedSet {
	var keys []string
	var kept []addedToken
	seen := map[string]bool{}
	for _, a := range tokens {
		content := a.Content
		if normalize != nil {
			content = normalize(content)
		}
		if content == "" || seen[content] {
			continue
		}
		seen[content] = true
		keys = append(keys, content)
		kept = append(kept, a)
	}
	if len(keys) == 0 {
		return addedSet{}
	}
	index := make([]int32, len(keys))
	for i := range index {
		index[i] = int32(i)
	}
	return addedSet{newTrie(keys, index), kept}
}

// cut calls yield for every added token in s and for all text between, in
// order: the part, its token id or -1, and its place in s. Parts are not empty.
func (a *addedSet) cut(s string, yield func(part string, id int32, at int)) {
	if s == "" {
		return
	}
	if a.trie == nil {
		yield(s, -1, 0)
		return
	}
	start := 0 // end of the last token
	for i := 0; i < len(s); {
		if a.trie.root[s[i]] == 0 {
			i++
			continue
		}
		n, k := a.trie.longest(0, s[i:])
		if n == 0 {
			i++
			continue
		}
		t := &a.tokens[k]
		lo, hi := i, i+n
		i = hi
		if t.SingleWord && (wordBefore(s[:lo]) || wordAfter(s[hi:])) {
			continue
		}
		if t.LStrip {
			lo = start + len(strings.TrimRightFunc(s[start:lo], unicode.IsSpace))
		}
		if t.RStrip {
			hi = len(s) - len(strings.TrimLeftFunc(s[hi:], unicode.IsSpace))
			i = hi
		}
		if start < lo {
			yield(s[start:lo], -1, start)
		}
		yield(s[lo:hi], int32(t.ID), lo)
		start = hi
	}
	if start < len(s) {
		yield(s[start:], -1, start)
	}
}

func wordBefore(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

func wordAfter(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}

// isWord is \w with Unicode properties.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic) ||
		r == 0x200c || r == 0x200d
}
