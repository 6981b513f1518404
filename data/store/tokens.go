package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"unsafe"

	"hasten/engine/memory"
)

// Tokens is a stream of tokens at rest, in memory or in a file. Its methods,
// but Close, may be called from several goroutines.
type Tokens struct {
	name   string
	meta   meta
	starts []int64
	limit  uint32 // every token is below

	data  []byte   // the stream, in memory or mapped
	file  *os.File // or the file, where mapping is not to be had
	close func() error
}

// meta is what FILE.json holds.
type meta struct {
	Format    string `json:"format"`
	Kind      Kind   `json:"kind"`
	Vocab     int    `json:"vocab"`
	Tokens    int64  `json:"tokens"`
	Documents int64  `json:"documents"`
	TextBytes int64  `json:"text_bytes"`
}

const formatName = "hasten tokens 1"

// Len is the number of tokens.
func (t *Tokens) Len() int64 { return t.meta.Tokens }

// Vocab is the size of the vocabulary: tokens are 0 … Vocab-1. It is 0 if
// that is not known.
func (t *Tokens) Vocab() int { return t.meta.Vocab }

// Kind is the number format of the stream.
func (t *Tokens) Kind() Kind { return t.meta.Kind }

// Starts holds the positions of the documents' first tokens, in increasing
// order; nil if they are not known. It must not be written to.
func (t *Tokens) Starts() []int64 { return t.starts }

// TextBytes is the number of bytes of the text the tokens stand for, 0 if that
// is not known.
func (t *Tokens) TextBytes() int64 { return t.meta.TextBytes }

// BitsPerByte turns a mean loss in nats per token of this stream into bits per
// byte of its text, which compares across tokenisers. It is NaN when TextBytes
// is not known.
func (t *Tokens) BitsPerByte(nats float64) float64 {
	if t.meta.TextBytes == 0 {
		return math.NaN()
	}
	return nats / math.Ln2 * float64(t.meta.Tokens) / float64(t.meta.TextBytes)
}

// String describes the stream.
func (t *Tokens) String() string {
	return fmt.Sprintf("%s: %d %s tokens", t.name, t.meta.Tokens, t.meta.Kind)
}

// Read fills dst with the tokens from position at on. It fails beyond the end,
// and on a token that is not in the vocabulary. It allocates nothing.
func (t *Tokens) Read(dst []int32, at int64) error {
	n := int64(len(dst))
	if at < 0 || at > t.meta.Tokens-n {
		return fmt.Errorf("%s: no tokens %d … %d; there are %d", t.name, at, at+n-1, t.meta.Tokens)
	}
	if n == 0 {
		return nil
	}
	size := int64(t.meta.Kind.Size())
	raw := t.data
	if raw != nil {
		raw = raw[at*size : (at+n)*size]
	} else {
		own := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(dst))), 4*n)
		raw = own[(4-size)*n:]
		if _, err := t.file.ReadAt(raw, at*size); err != nil {
			return fmt.Errorf("%s: tokens %d … %d: %w", t.name, at, at+n-1, err)
		}
	}
	if most := t.meta.Kind.decode(dst, raw); most >= t.limit {
		for i, v := range dst {
			if uint32(v) >= t.limit {
				return fmt.Errorf("%s: token %d at position %d is not in the vocabulary of %d; was the file made with this tokeniser, and is it %s?",
					t.name, v, at+int64(i), t.limit, t.meta.Kind)
			}
		}
	}
	return nil
}

// Close gives memory or file back. The stream must not be used afterwards.
func (t *Tokens) Close() error {
	if t == nil || t.close == nil {
		return nil
	}
	err := t.close()
	t.close, t.data, t.file = nil, nil, nil
	return err
}

// Open opens a token file that hasten made.
func Open(path string) (*Tokens, error) {
	text, err := os.ReadFile(path + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: its description %s.json is missing; a file of another tool is opened by its kind (u8, u16 or i32)", path, path)
	}
	if err != nil {
		return nil, err
	}
	var m meta
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%s.json: %w", path, err)
	}
	if m.Format != formatName || m.Kind == 0 || m.Vocab < 0 || m.Tokens <= 0 || m.Documents < 0 || m.TextBytes < 0 {
		return nil, fmt.Errorf("%s.json: not the description of a %q file", path, formatName)
	}
	starts, err := readStarts(path+".docs", m)
	if err != nil {
		return nil, err
	}
	t, err := openData(path, m)
	if err != nil {
		return nil, err
	}
	t.starts = starts
	return t, nil
}

// OpenRaw opens a file of bare tokens, made by another tool. With vocab 0 the
// vocabulary is unknown and only negative tokens are refused.
func OpenRaw(path string, kind Kind, vocab int) (*Tokens, error) {
	if kind < U8 || kind > I32 || vocab < 0 || int64(vocab) > math.MaxInt32 {
		return nil, fmt.Errorf("%s: tokens of %v in a vocabulary of %d", path, kind, vocab)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	size := int64(kind.Size())
	if info.Size() == 0 || info.Size()%size != 0 {
		return nil, fmt.Errorf("%s: %d bytes are not a whole number of %s tokens above none", path, info.Size(), kind)
	}
	return openData(path, meta{Kind: kind, Vocab: vocab, Tokens: info.Size() / size})
}

// openData opens the tokens themselves and checks their number.
func openData(path string, m meta) (*Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (m.Tokens > math.MaxInt64/4 || info.Size() != m.Tokens*int64(m.Kind.Size())) {
		err = fmt.Errorf("%s: %d bytes, but its description says %d %s tokens; make it again", path, info.Size(), m.Tokens, m.Kind)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	t := &Tokens{name: path, meta: m, limit: limit(m.Vocab), file: f, close: f.Close}
	if data, unmap, err := mapFile(f, info.Size()); err == nil { // else every Read is a ReadAt
		t.data = data
		t.close = func() error { return errors.Join(unmap(), f.Close()) }
	}
	return t, nil
}

func limit(vocab int) uint32 {
	if vocab == 0 {
		return 1 << 31
	}
	return uint32(vocab)
}

// readStarts reads and checks FILE.docs.
func readStarts(path string, m meta) ([]int64, error) {
	if m.Documents == 0 {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != m.Documents*8 {
		return nil, fmt.Errorf("%s: %d bytes, but %d documents take %d; make it again", path, len(raw), m.Documents, m.Documents*8)
	}
	starts := make([]int64, m.Documents)
	last := int64(-1)
	for i := range starts {
		starts[i] = int64(binary.LittleEndian.Uint64(raw[8*i:]))
		if starts[i] <= last || starts[i] >= m.Tokens {
			return nil, fmt.Errorf("%s: document %d begins at token %d, after %d and of %d; make it again", path, i, starts[i], last, m.Tokens)
		}
		last = starts[i]
	}
	return starts, nil
}

// FromSlice is a stream in memory, of one document, with the text's bytes if
// known. It is for generated data and for tests.
func FromSlice(tokens []int32, vocab int, textBytes int64) (*Tokens, error) {
	w := NewWriter(vocab)
	w.Document()
	if err := w.Append(tokens, textBytes); err != nil {
		return nil, err
	}
	return w.Finish()
}

// inMemory is a stream of chunks, which it copies into one buffer of the arena.
func inMemory(m meta, starts []int64, chunks [][]byte) *Tokens {
	data := memory.Default.Bytes(memory.Data, int(m.Tokens)*m.Kind.Size())
	at := 0
	for _, c := range chunks {
		at += copy(data[at:], c)
	}
	return &Tokens{name: "tokens", meta: m, starts: starts, limit: limit(m.Vocab), data: data,
		close: func() error { memory.Default.FreeBytes(memory.Data, data); return nil }}
}
