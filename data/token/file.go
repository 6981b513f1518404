package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const (
	maxFile  = 128 << 20 // bytes of a tokenizer.json
	maxDepth = 16        // of Sequences in Sequences
	maxSteps = 64        // of one stage
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
	t, err := readPipeline(data)
	if err != nil {
		return nil, err // not a nil *Pipeline
	}
	return t, nil
}

func readPipeline(data []byte) (*Pipeline, error) {
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
	if t.normalize, err = readNormalizer("normalizer", f.Normalizer); err != nil {
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
	t.model, t.vocab = m.model, maps.Clone(m.vocab) // the model must not see the added ones
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
			return pathError("model.vocab", fmt.Errorf("tokens %.60q and %.60q both have id %d", a, b, id))
		}
		t.tokens[id] = token{spelling: s, text: s, exists: true}
	}
	for i, a := range added {
		path := fmt.Sprintf("added_tokens[%d]", i)
		if id, ok := t.vocab[a.Content]; ok && int64(id) != a.ID {
			return pathError(path, fmt.Errorf("token %.60q has id %d here and %d before", a.Content, a.ID, id))
		}
		if k := t.tokens[a.ID]; k.exists && k.spelling != a.Content {
			return pathError(path, fmt.Errorf("tokens %.60q and %.60q both have id %d", k.spelling, a.Content, a.ID))
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
		return pathError(path, fmt.Errorf("%.60s does not fit here", wrong.Value))
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
	return pathError(path, fmt.Errorf("%s type %.60q is not supported", what, kind))
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
