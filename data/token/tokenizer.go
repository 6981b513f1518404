package token

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"hasten/engine/par"
)

// Tokenizer turns text into token ids and back. All methods may be called from
// several goroutines at once.
type Tokenizer interface {
	// Encode appends the ids of text to dst. Special tokens written in the
	// text ("<|endoftext|>") become their ids, as Hugging Face does it, except
	// in Bytes. Nothing is added before or after the text: see Frame.
	Encode(dst []int32, text []byte) []int32

	// Decode appends the text of ids to dst. For Bytes and byte-level BPE, it
	// is the exact text that was encoded and the decoded parts of a sequence
	// are parts of its text. Other tokenizers normalise, and treat the start
	// of a sequence differently. Ids that do not exist are skipped.
	Decode(dst []byte, ids []int32) []byte

	// Frame puts the tokenizer's begin and end marks (BERT: [CLS] and [SEP])
	// around one sequence or, if second is not nil, around a pair. types
	// tells the parts apart (token_type_ids), one for every id. Without such
	// marks in the tokenizer, ids are first and second.
	Frame(first, second []int32) (ids, types []int32)

	// VocabSize is one more than the largest id: the rows of an embedding.
	VocabSize() int

	// Token is the text of one token: its raw bytes in Bytes and byte-level
	// BPE, else its spelling in the vocabulary ("##ing", "▁the"). ok is false
	// if there is no such token.
	Token(id int32) (text []byte, ok bool)

	// ID is the inverse of Token.
	ID(text string) (id int32, ok bool)

	// Special tells whether a token is a mark and not text.
	Special(id int32) bool

	// End is the token that ends a text, or -1 if the tokenizer names none.
	End() int32

	// WriteTo writes the tokenizer as a Hugging Face tokenizer.json.
	io.WriterTo
}

var (
	_ Tokenizer = Bytes{}
	_ Tokenizer = (*Pipeline)(nil)
)

// EndOfText is the spelling of the token that ends a text, in Bytes and in
// what TrainBPE makes.
const EndOfText = "<|endoftext|>"

// Bytes is the tokenizer whose tokens are the 256 bytes, each its own id, and
// 256 for the end of a text. Its Encode never yields 256.
//
// Opened by Hugging Face tokenizers, its tokenizer.json differs in one point:
// the characters "<|endoftext|>" in a text become token 256.
type Bytes struct{}

// Encode implements Tokenizer.
func (Bytes) Encode(dst []int32, text []byte) []int32 {
	for _, b := range text {
		dst = append(dst, int32(b))
	}
	return dst
}

// Decode implements Tokenizer. Token 256 is written as "<|endoftext|>".
func (t Bytes) Decode(dst []byte, ids []int32) []byte {
	for _, id := range ids {
		if uint32(id) < 256 {
			dst = append(dst, byte(id))
		} else if id == 256 {
			dst = append(dst, EndOfText...)
		}
	}
	return dst
}

// Frame implements Tokenizer.
func (Bytes) Frame(first, second []int32) (ids, types []int32) { return plainFrame(first, second) }

// VocabSize implements Tokenizer.
func (Bytes) VocabSize() int { return 257 }

// Token implements Tokenizer.
func (t Bytes) Token(id int32) ([]byte, bool) {
	return t.Decode(nil, []int32{id}), uint32(id) <= 256
}

// ID implements Tokenizer.
func (Bytes) ID(text string) (int32, bool) {
	switch {
	case len(text) == 1:
		return int32(text[0]), true
	case text == EndOfText:
		return 256, true
	}
	return 0, false
}

// Special implements Tokenizer.
func (Bytes) Special(id int32) bool { return id == 256 }

// End implements Tokenizer: 256.
func (Bytes) End() int32 { return 256 }

// WriteTo implements Tokenizer.
func (Bytes) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(bytesJSON())
	return int64(n), err
}

// Pipeline is a tokenizer in the stages of a tokenizer.json:
//
//	text → added tokens cut out → normalizer → pre-tokenizer → model → ids
//
// Read, Open and TrainBPE make one.
type Pipeline struct {
	raw []byte // the tokenizer.json

	added     addedTokens
	normalize normalizer // nil: none
	split     []splitStep
	model     model
	frame     *template // nil: none
	decode    []decodeStep

	// fast is set when the text of a byte-level BPE is cut by a splitter, with
	// no other step between the normalizer and the model.
	fast *splitter
	bpe  *bpe

	vocab  map[string]int32 // by spelling in the file
	tokens []token          // by id
	exact  bool             // Decode is the concatenation of tokens[].text
	end    int32

	mu   sync.Mutex
	idle []*workspace
}

// token is one entry of the vocabulary.
type token struct {
	spelling string // as in the file
	text     string // raw bytes, if the vocabulary is byte-level; else the spelling
	exists   bool
	added    bool
	special  bool
}

// model turns a piece of text into ids.
type model interface {
	encode(dst []int32, piece string, w *workspace) []int32
}

// piece is a part of the text on its way to the model.
type piece struct {
	text  string
	first bool // it begins where the text begins
}

// Encode implements Tokenizer.
func (t *Pipeline) Encode(dst []int32, text []byte) []int32 {
	// Nothing below keeps or changes the string, and text is the caller's
	// until the call returns, so it need not be copied.
	s := unsafe.String(unsafe.SliceData(text), len(text))
	w := t.borrow()
	defer t.giveBack(w)
	t.added.raw.cut(s, func(part string, id int32, at int) {
		if id >= 0 {
			dst = append(dst, id)
			return
		}
		if t.normalize != nil {
			part = t.normalize(part)
		}
		t.added.normalized.cut(part, func(part string, id int32, in int) {
			if id >= 0 {
				dst = append(dst, id)
				return
			}
			dst = t.encodePart(dst, piece{part, at+in == 0}, w)
		})
	})
	return dst
}

// encodePart encodes text without added tokens.
func (t *Pipeline) encodePart(dst []int32, p piece, w *workspace) []int32 {
	if t.fast != nil {
		for s := p.text; s != ""; {
			n := t.fast.next(s)
			dst = t.bpe.encodeBytes(dst, s[:n], w)
			s = s[n:]
		}
		return dst
	}
	pieces := []piece{p}
	for _, step := range t.split {
		var out []piece
		for _, p := range pieces {
			out = step(out, p)
		}
		pieces = out
	}
	for _, p := range pieces {
		dst = t.model.encode(dst, p.text, w)
	}
	return dst
}

// borrow and giveBack hand out workspaces: as many as there are Encodes
// running at once.
func (t *Pipeline) borrow() *workspace {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := len(t.idle); k > 0 {
		w := t.idle[k-1]
		t.idle = t.idle[:k-1]
		return w
	}
	return new(workspace)
}

func (t *Pipeline) giveBack(w *workspace) {
	w.shrink()
	t.mu.Lock()
	t.idle = append(t.idle, w)
	t.mu.Unlock()
}

// Decode implements Tokenizer.
func (t *Pipeline) Decode(dst []byte, ids []int32) []byte {
	if t.exact {
		for _, id := range ids {
			if t.has(id) {
				dst = append(dst, t.tokens[id].text...)
			}
		}
		return dst
	}
	parts := make([]string, 0, len(ids))
	for _, id := range ids {
		if t.has(id) {
			parts = append(parts, t.tokens[id].spelling)
		}
	}
	if t.decode == nil {
		return append(dst, strings.Join(parts, " ")...)
	}
	size := total(parts)
	for _, step := range t.decode {
		parts = step(parts)
		if runaway(size, total(parts)) {
			break
		}
	}
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

func total(parts []string) (n int) {
	for _, p := range parts {
		n += len(p)
	}
	return n
}

// Frame implements Tokenizer.
func (t *Pipeline) Frame(first, second []int32) (ids, types []int32) {
	if t.frame == nil {
		return plainFrame(first, second)
	}
	return t.frame.apply(first, second)
}

// VocabSize implements Tokenizer.
func (t *Pipeline) VocabSize() int { return len(t.tokens) }

func (t *Pipeline) has(id int32) bool {
	return id >= 0 && int(id) < len(t.tokens) && t.tokens[id].exists
}

// Token implements Tokenizer.
func (t *Pipeline) Token(id int32) ([]byte, bool) {
	if !t.has(id) {
		return nil, false
	}
	return []byte(t.tokens[id].text), true
}

// ID implements Tokenizer.
func (t *Pipeline) ID(text string) (int32, bool) {
	if id, ok := t.vocab[text]; ok && t.tokens[id].text == text {
		return id, true
	}
	id, ok := t.vocab[byteSpelling(text)]
	return id, ok && t.tokens[id].text == text
}

// Special implements Tokenizer.
func (t *Pipeline) Special(id int32) bool { return t.has(id) && t.tokens[id].special }

// End implements Tokenizer.
func (t *Pipeline) End() int32 { return t.end }

// WriteTo implements Tokenizer. A tokenizer that was read is written as it was.
func (t *Pipeline) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(t.raw)
	return int64(n), err
}

type encodeAll struct {
	t    Tokenizer
	docs [][]byte
	ids  [][]int32
}

var encodeLoop par.Loop[encodeAll]

// EncodeAll encodes every document by itself, on all cores: ids[i] belongs to
// docs[i]. Cut a single large text at line ends first to spread it.
func EncodeAll(t Tokenizer, docs [][]byte) (ids [][]int32) {
	ids = make([][]int32, len(docs))
	encodeLoop.Run(len(docs), encodeAll{t, docs, ids}, func(a *encodeAll, i int) {
		const perToken = 3 // bytes; a guess that seldom needs a second allocation
		a.ids[i] = a.t.Encode(make([]int32, 0, len(a.docs[i])/perToken+8), a.docs[i])
	})
	return ids
}

// plainFrame puts the sequences side by side, of types 0 and 1.
func plainFrame(first, second []int32) (ids, types []int32) {
	ids = slices.Concat(first, second)
	types = make([]int32, len(ids))
	for i := len(first); i < len(ids); i++ {
		types[i] = 1
	}
	return ids, types
}

// maxID bounds token ids, so that a small file cannot ask for a large table.
const maxID = math.MaxInt32 / 64

// checkID tells whether an id can be a token of a vocabulary with n entries.
func checkID(id int64, n int) error {
	if id < 0 || id >= maxID || id > 2*int64(n)+1<<16 {
		return fmt.Errorf("token id %d is out of range for %d tokens", id, n)
	}
	return nil
}
