package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

type readModelResult struct {
	model model
	vocab map[string]int32
}

func readModel(raw json.RawMessage) (r readModelResult, err error) {
	if isNull(raw) {
		return r, errors.New("model is missing: not a tokenizer.json")
	}
	var kind struct {
		Type   string          `json:"type"`
		Merges json.RawMessage `json:"merges"`
	}
	if err := parse("model", raw, &kind); err != nil {
		return r, err
	}
	switch {
	case kind.Type == "BPE" || kind.Type == "" && kind.Merges != nil: // old files do not say
		return readBPE(raw)
	case kind.Type == "WordPiece":
		return readWordPiece(raw)
	case kind.Type == "WordLevel":
		return readWordLevel(raw)
	case kind.Type == "Unigram":
		return readUnigram(raw)
	}
	return r, unsupported("model", "model", kind.Type)
}

func readBPE(raw json.RawMessage) (r readModelResult, err error) {
	var f struct {
		Vocab        map[string]int64 `json:"vocab"`
		Merges       []mergePair      `json:"merges"`
		Dropout      *float64         `json:"dropout"`
		UnkToken     *string          `json:"unk_token"`
		Prefix       *string          `json:"continuing_subword_prefix"`
		Suffix       *string          `json:"end_of_word_suffix"`
		FuseUnk      bool             `json:"fuse_unk"`
		ByteFallback bool             `json:"byte_fallback"`
		IgnoreMerges bool             `json:"ignore_merges"`
	}
	if err := parse("model", raw, &f); err != nil {
		return r, err
	}
	if f.Dropout != nil && *f.Dropout != 0 {
		return r, pathError("model.dropout", errors.New("random dropout of merges is not supported"))
	}
	vocab, err := readVocab(f.Vocab)
	if err != nil {
		return r, err
	}
	m := &bpe{vocab: vocab, fuseUnk: f.FuseUnk, whole: f.IgnoreMerges, merges: make(map[uint64]merge, len(f.Merges))}
	if f.Prefix != nil {
		m.prefix = *f.Prefix
	}
	if f.Suffix != nil {
		m.suffix = *f.Suffix
	}
	if err := checkAffix("model.continuing_subword_prefix", m.prefix); err != nil {
		return r, err
	}
	if err := checkAffix("model.end_of_word_suffix", m.suffix); err != nil {
		return r, err
	}
	m.unk = readUnk(vocab, f.UnkToken)
	for b := range m.bytes {
		m.bytes[b] = -1
		if id, ok := vocab[string(byteRune[b])]; ok {
			m.bytes[b] = id
		}
	}
	if f.ByteFallback {
		m.fallback = newByteTokens(vocab)
	}
	for i, p := range f.Merges {
		a, ok := vocab[p.left]
		if !ok {
			return r, mergeError(i, p.left)
		}
		b, ok := vocab[p.right]
		if !ok {
			return r, mergeError(i, p.right)
		}
		joined := p.left + strings.TrimPrefix(p.right, m.prefix)
		id, ok := vocab[joined]
		if !ok {
			return r, mergeError(i, joined)
		}
		m.merges[pair(a, b)] = merge{int32(i), id}
	}
	return readModelResult{m, vocab}, nil
}

func mergeError(i int, token string) error {
	return pathError(fmt.Sprintf("model.merges[%d]", i), fmt.Errorf("token %.60q is not in the vocabulary", token))
}

// mergePair is one merge rule: "a b" or ["a", "b"].
type mergePair struct{ left, right string }

// UnmarshalJSON reads both spellings.
func (m *mergePair) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		left, right, ok := strings.Cut(s, " ")
		if !ok || strings.Contains(right, " ") {
			return fmt.Errorf("merge %.60q is not two tokens with a space between", s)
		}
		*m = mergePair{left, right}
		return nil
	}
	var p []string
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	if len(p) != 2 {
		return fmt.Errorf("a merge has %d tokens, want 2", len(p))
	}
	*m = mergePair{p[0], p[1]}
	return nil
}

func readWordPiece(raw json.RawMessage) (r readModelResult, err error) {
	f := struct {
		Vocab    map[string]int64 `json:"vocab"`
		Unk      *string          `json:"unk_token"`
		Prefix   string           `json:"continuing_subword_prefix"`
		MaxChars int              `json:"max_input_chars_per_word"`
	}{Prefix: "##", MaxChars: 100}
	if err := parse("model", raw, &f); err != nil {
		return r, err
	}
	vocab, err := readVocab(f.Vocab)
	if err != nil {
		return r, err
	}
	m := &wordPiece{maxChars: f.MaxChars, noPrefix: f.Prefix == ""}
	m.unk = readUnk(vocab, f.Unk)
	if m.unk < 0 {
		return r, pathError("model.unk_token", errors.New("missing"))
	}
	if m.trie, err = vocabTrie(vocab); err != nil {
		return r, err
	}
	for i := range len(f.Prefix) {
		if m.inside = m.trie.step(m.inside, f.Prefix[i]); m.inside == 0 {
			break
		}
	}
	return readModelResult{m, vocab}, nil
}

func readWordLevel(raw json.RawMessage) (r readModelResult, err error) {
	var f struct {
		Vocab map[string]int64 `json:"vocab"`
		Unk   *string          `json:"unk_token"`
	}
	if err := parse("model", raw, &f); err != nil {
		return r, err
	}
	vocab, err := readVocab(f.Vocab)
	if err != nil {
		return r, err
	}
	return readModelResult{&wordLevel{vocab, readUnk(vocab, f.Unk)}, vocab}, nil
}

func readUnigram(raw json.RawMessage) (r readModelResult, err error) {
	var f struct {
		Vocab        []scored `json:"vocab"`
		UnkID        *int64   `json:"unk_id"`
		ByteFallback bool     `json:"byte_fallback"`
	}
	if err := parse("model", raw, &f); err != nil {
		return r, err
	}
	m := &unigram{unk: -1, vocab: make(map[string]int32, len(f.Vocab)), scores: make([]float64, len(f.Vocab))}
	for i, v := range f.Vocab {
		if _, twice := m.vocab[v.token]; twice {
			return r, pathError(fmt.Sprintf("model.vocab[%d]", i), fmt.Errorf("token %.60q is there twice", v.token))
		}
		m.vocab[v.token] = int32(i)
		m.scores[i] = v.score
		m.unkScore = min(m.unkScore, v.score)
		if i == 0 {
			m.unkScore = v.score
		}
	}
	m.unkScore -= unkPenalty
	if f.UnkID != nil {
		if *f.UnkID < 0 || *f.UnkID >= int64(len(f.Vocab)) {
			return r, pathError("model.unk_id", fmt.Errorf("no token has id %d", *f.UnkID))
		}
		m.unk = int32(*f.UnkID)
	}
	if f.ByteFallback {
		m.fallback = newByteTokens(m.vocab)
	}
	if m.trie, err = vocabTrie(m.vocab); err != nil {
		return r, err
	}
	return readModelResult{m, m.vocab}, nil
}

// scored is an entry of a Unigram vocabulary: ["token", score].
type scored struct {
	token string
	score float64
}

// UnmarshalJSON reads the two-element array.
func (s *scored) UnmarshalJSON(data []byte) error {
	var v []json.RawMessage
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	if len(v) != 2 {
		return fmt.Errorf("a vocabulary entry has %d values, want a token and its score", len(v))
	}
	if err := json.Unmarshal(v[0], &s.token); err != nil {
		return err
	}
	return json.Unmarshal(v[1], &s.score)
}

// readVocab checks the ids of a vocabulary. fillVocab looks for ids used twice.
func readVocab(in map[string]int64) (map[string]int32, error) {
	vocab := make(map[string]int32, len(in))
	for s, id := range in {
		if err := checkID(id, len(in)); err != nil {
			return nil, pathError(fmt.Sprintf("model.vocab[%.60q]", s), err)
		}
		vocab[s] = int32(id)
	}
	return vocab, nil
}

// readUnk is the id of the token for unknown text; -1 if there is none. Some
// files name one that they do not have.
func readUnk(vocab map[string]int32, name *string) int32 {
	if name != nil {
		if id, ok := vocab[*name]; ok {
			return id
		}
	}
	return -1
}

func newByteTokens(vocab map[string]int32) *byteTokens {
	t := new(byteTokens)
	any := false
	for b := range t {
		t[b] = -1
		if id, ok := vocab[fmt.Sprintf("<0x%02X>", b)]; ok {
			t[b], any = id, true
		}
	}
	if !any {
		return nil
	}
	return t
}

// vocabTrie is the trie of a vocabulary.
func vocabTrie(vocab map[string]int32) (*trie, error) {
	keys := make([]string, 0, len(vocab))
	values := make([]int32, 0, len(vocab))
	for s, id := range vocab {
		if len(s) > maxKey {
			return nil, pathError("model.vocab", fmt.Errorf("token %d is longer than %d bytes", id, maxKey))
		}
		if s != "" {
			keys = append(keys, s)
			values = append(values, id)
		}
	}
	return newTrie(keys, values), nil
}
