package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const (
	maxFile  = 256 << 20 // bytes of a tokenizer.json
	maxDepth = 16        // of Sequences in Sequences
	maxKey   = 4096      // bytes of a token that is looked for byte by byte
)

// Open reads a tokenizer.json, or the one in a directory. If a
// tokenizer_config.json beside it names an eos_token, that is the End of the
// tokenizer. Errors name the file and the place in it.
func Open(path string) (Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		path = filepath.Join(path, "tokenizer.json")
	}
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	t, err := Read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p, ok := t.(*Pipeline)
	if !ok {
		return t, nil
	}
	beside := filepath.Join(filepath.Dir(path), "tokenizer_config.json")
	config, err := readFile(beside)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	if err := p.readConfig(config); err != nil {
		return nil, fmt.Errorf("%s: %w", beside, err)
	}
	return p, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d MiB", path, maxFile>>20)
	}
	return data, nil
}

// readConfig takes the end token from a tokenizer_config.json.
func (t *Pipeline) readConfig(data []byte) error {
	var c struct {
		EOS json.RawMessage `json:"eos_token"`
	}
	if err := parse("", data, &c); err != nil {
		return err
	}
	var name string
	if json.Unmarshal(c.EOS, &name) != nil { // else an object or null
		var token struct {
			Content string `json:"content"`
		}
		if c.EOS == nil || json.Unmarshal(c.EOS, &token) != nil {
			return nil
		}
		name = token.Content
	}
	if id, ok := t.vocab[name]; ok {
		t.end = id
	}
	return nil
}

// Read makes the tokenizer that a tokenizer.json describes; data must not be
// changed afterwards. What is not supported, or is wrong, is an error that
// names the place in the file.
func Read(data []byte) (Tokenizer, error) {
	if string(data) == string(bytesJSON()) {
		return Bytes{}, nil
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d MiB", maxFile>>20)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8 text")
	}
	var f struct {
		AddedTokens   []json.RawMessage `json:"added_tokens"`
		Normalizer    json.RawMessage   `json:"normalizer"`
		PreTokenizer  json.RawMessage   `json:"pre_tokenizer"`
		Model         json.RawMessage   `json:"model"`
		PostProcessor json.RawMessage   `json:"post_processor"`
		Decoder       json.RawMessage   `json:"decoder"`
	}
	if err := parse("", data, &f); err != nil {
		return nil, err
	}
	added := make([]addedToken, len(f.AddedTokens))
	for i, raw := range f.AddedTokens {
		if err := parse(fmt.Sprintf("added_tokens[%d]", i), raw, &added[i]); err != nil {
			return nil, err
		}
	}
	t := &Pipeline{raw: data, end: -1}
	m, err := readModel(f.Model)
	if err != nil {
		return nil, err
	}
	if err := t.fillVocab(m, added); err != nil {
		return nil, err
	}
	if t.normalize, err = readNormalizer("normalizer", f.Normalizer, 0); err != nil {
		return nil, err
	}
	t.cutAdded(added)
	var fast *splitter
	if t.split, fast, err = readPreTokenizer("pre_tokenizer", f.PreTokenizer); err != nil {
		return nil, err
	}
	if b, ok := m.model.(*bpe); ok && fast != nil && b.prefix == "" && b.suffix == "" && b.fallback == nil {
		t.fast, t.bpe = fast, b
	}
	if t.frame, err = readFrame("post_processor", f.PostProcessor, len(t.tokens)); err != nil {
		return nil, err
	}
	steps, kinds, err := readDecoder("decoder", f.Decoder)
	if err != nil {
		return nil, err
	}
	t.decode = steps
	if len(kinds) == 1 && kinds[0].kind == "ByteLevel" {
		t.exact = true
		for i := range t.tokens {
			if raw, ok := spelledBytes(t.tokens[i].spelling); ok && !t.tokens[i].added {
				t.tokens[i].text = raw
			}
		}
	}
	t.findEnd()
	return t, nil
}

// fillVocab makes the table of tokens from those of the model and the added ones.
func (t *Pipeline) fillVocab(m readModelResult, added []addedToken) error {
	t.model, t.vocab = m.model, m.vocab
	size := 0
	for _, id := range m.vocab {
		size = max(size, int(id)+1)
	}
	for i, a := range added {
		if err := checkID(a.ID, len(m.vocab)+len(added)); err != nil {
			return pathError(fmt.Sprintf("added_tokens[%d].id", i), err)
		}
		if len(a.Content) > maxKey {
			return pathError(fmt.Sprintf("added_tokens[%d].content", i), fmt.Errorf("longer than %d bytes", maxKey))
		}
		size = max(size, int(a.ID)+1)
	}
	t.tokens = make([]token, size)
	for s, id := range m.vocab {
		if t.tokens[id].exists {
			a, b := min(s, t.tokens[id].spelling), max(s, t.tokens[id].spelling)
			return pathError("model.vocab", fmt.Errorf("tokens %q and %q both have id %d", a, b, id))
		}
		t.tokens[id] = token{spelling: s, text: s, exists: true}
	}
	for i, a := range added {
		path := fmt.Sprintf("added_tokens[%d]", i)
		if id, ok := t.vocab[a.Content]; ok && int64(id) != a.ID {
			return pathError(path, fmt.Errorf("token %q has id %d here and %d before", a.Content, a.ID, id))
		}
		if k := t.tokens[a.ID]; k.exists && k.spelling != a.Content {
			return pathError(path, fmt.Errorf("tokens %q and %q both have id %d", k.spelling, a.Content, a.ID))
		}
		t.tokens[a.ID] = token{spelling: a.Content, text: a.Content, exists: true, added: true, special: a.Special}
		t.vocab[a.Content] = int32(a.ID)
	}
	return nil
}

// cutAdded prepares the search for added tokens in texts.
func (t *Pipeline) cutAdded(added []addedToken) {
	var raw, normalized []addedToken
	for _, a := range added {
		if a.Normalized {
			normalized = append(normalized, a)
		} else {
			raw = append(raw, a)
		}
	}
	t.added.raw = newAddedSet(raw, nil)
	t.added.normalized = newAddedSet(normalized, t.normalize)
}

// endNames are the customary names of the token that ends a text, for files
// without a tokenizer_config.json.
var endNames = []string{EndOfText, "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>", "[SEP]"}

func (t *Pipeline) findEnd() {
	for _, name := range endNames {
		if id, ok := t.vocab[name]; ok && t.tokens[id].special {
			t.end = id
			return
		}
	}
}

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
	if m.unk, err = readUnk(vocab, f.UnkToken); err != nil {
		return r, err
	}
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
	return pathError(fmt.Sprintf("model.merges[%d]", i), fmt.Errorf("token %q is not in the vocabulary", token))
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
			return fmt.Errorf("merge %q is not two tokens with a space between", s)
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
	if m.unk, err = readUnk(vocab, f.Unk); err != nil {
		return r, err
	}
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
	unk, err := readUnk(vocab, f.Unk)
	return readModelResult{&wordLevel{vocab, unk}, vocab}, err
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
			return r, pathError(fmt.Sprintf("model.vocab[%d]", i), fmt.Errorf("token %q is there twice", v.token))
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
			return nil, pathError(fmt.Sprintf("model.vocab[%q]", s), err)
		}
		vocab[s] = int32(id)
	}
	return vocab, nil
}

// readUnk is the id of the token for unknown text; -1 if there is none.
func readUnk(vocab map[string]int32, name *string) (int32, error) {
	if name == nil {
		return -1, nil
	}
	id, ok := vocab[*name]
	if !ok {
		return -1, nil // some files name one that they do not have
	}
	return id, nil
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

// parse decodes JSON at the given place of the file; null and nothing leave v
// as it is.
func parse(path string, raw json.RawMessage, v any) error {
	if isNull(raw) && path != "" {
		return nil
	}
	err := json.Unmarshal(raw, v)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		if wrong.Field != "" {
			path = strings.TrimPrefix(path+"."+wrong.Field, ".")
		}
		return pathError(path, fmt.Errorf("%s does not fit here", wrong.Value))
	}
	if err != nil {
		return pathError(path, err)
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// pathError says where in the file something is wrong.
func pathError(path string, err error) error {
	if path == "" {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

func unsupported(path, what, kind string) error {
	if len(kind) > 40 {
		kind = kind[:40] + "…"
	}
	return pathError(path, fmt.Errorf("%s type %q is not supported", what, kind))
}

// componentType is the "type" of the component at path; "" for null.
func componentType(path string, raw json.RawMessage, depth int) (string, error) {
	if isNull(raw) {
		return "", nil
	}
	if depth > maxDepth {
		return "", fmt.Errorf("%.40s…: nested deeper than %d levels", path, maxDepth)
	}
	var c struct {
		Type string `json:"type"`
	}
	if err := parse(path, raw, &c); err != nil {
		return "", err
	}
	if c.Type == "" {
		return "", pathError(path+".type", errors.New("missing"))
	}
	return c.Type, nil
}

// readAll reads every member of a Sequence and joins the results.
func readAll[T any](path string, members []json.RawMessage, depth int,
	read func(path string, raw json.RawMessage, depth int) (T, error), join func([]T) T) (T, error) {
	var none T
	all := make([]T, 0, len(members))
	for i, raw := range members {
		one, err := read(fmt.Sprintf("%s[%d]", path, i), raw, depth+1)
		if err != nil {
			return none, err
		}
		all = append(all, one)
	}
	return join(all), nil
}
