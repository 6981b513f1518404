package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// Writer makes a token stream, in memory (NewWriter) or in a file (Create).
// Only one goroutine may use it.
type Writer struct {
	meta   meta
	starts []int64
	chunks [][]byte // full ones, in memory
	buf    []byte   // the one being filled
	path   string   // "" in memory
	file   *os.File // FILE.tmp-…, until Finish gives it its name
}

const chunkSize = 1 << 20

// NewWriter makes a stream in memory, of the kind that suits the vocabulary.
func NewWriter(vocab int) *Writer {
	if vocab <= 0 || int64(vocab) > math.MaxInt32 {
		panic(fmt.Sprintf("store: a vocabulary of %d", vocab))
	}
	return &Writer{meta: meta{Format: formatName, Kind: KindFor(vocab), Vocab: vocab}, buf: make([]byte, 0, chunkSize)}
}

// Create makes a token file. Nothing bears the name path before Finish.
func Create(path string, vocab int) (*Writer, error) {
	w := NewWriter(vocab)
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return nil, err
	}
	w.path, w.file = path, f
	return w, f.Chmod(0o644) // as any new file; CreateTemp makes it private
}

// Document says that the next token is the first of a document. A document
// without tokens does not count.
func (w *Writer) Document() {
	if k := len(w.starts); k == 0 || w.starts[k-1] < w.meta.Tokens {
		w.starts = append(w.starts, w.meta.Tokens)
	}
}

// Append adds tokens, which stand for so many bytes of text.
func (w *Writer) Append(tokens []int32, textBytes int64) error {
	for i, t := range tokens {
		if uint32(t) >= uint32(w.meta.Vocab) {
			return fmt.Errorf("token %d at position %d is not in the vocabulary of %d", t, w.meta.Tokens+int64(i), w.meta.Vocab)
		}
	}
	w.meta.Tokens += int64(len(tokens))
	w.meta.TextBytes += textBytes
	size := w.meta.Kind.Size()
	for len(tokens) > 0 {
		n := min(len(tokens), (cap(w.buf)-len(w.buf))/size)
		w.buf = w.meta.Kind.encode(w.buf, tokens[:n])
		tokens = tokens[n:]
		if len(w.buf) < cap(w.buf) {
			continue
		}
		if w.file == nil {
			w.chunks = append(w.chunks, w.buf)
			w.buf = make([]byte, 0, chunkSize)
		} else if err := w.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) flush() error {
	_, err := w.file.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// Len is the number of tokens so far.
func (w *Writer) Len() int64 { return w.meta.Tokens }

// Finish ends the stream and opens it for reading. An empty stream is an error.
// The Writer must not be used afterwards.
func (w *Writer) Finish() (*Tokens, error) {
	if w.meta.Tokens == 0 {
		w.Abort()
		return nil, errors.New("a token stream without tokens")
	}
	if k := len(w.starts); k > 0 && w.starts[k-1] == w.meta.Tokens {
		w.starts = w.starts[:k-1]
	}
	w.meta.Documents = int64(len(w.starts))
	if w.file == nil {
		return inMemory(w.meta, w.starts, append(w.chunks, w.buf)), nil
	}
	if err := w.commit(); err != nil {
		w.Abort()
		return nil, fmt.Errorf("%s: %w", w.path, err)
	}
	return Open(w.path)
}

// commit gives the files their names; the description, without which Open
// takes none of them, goes first and comes last.
func (w *Writer) commit() error {
	if err := errors.Join(w.flush(), w.file.Sync(), w.file.Close()); err != nil {
		return err
	}
	if err := os.Remove(w.path + ".json"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		return err
	}
	docs := make([]byte, 0, 8*len(w.starts))
	for _, s := range w.starts {
		docs = binary.LittleEndian.AppendUint64(docs, uint64(s))
	}
	if err := os.WriteFile(w.path+".docs", docs, 0o644); err != nil {
		return err
	}
	text, err := json.MarshalIndent(w.meta, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(w.path+".json", append(text, '\n'), 0o644)
}

// Abort drops what was written.
func (w *Writer) Abort() {
	if w.file != nil {
		w.file.Close()
		os.Remove(w.file.Name())
	}
	w.chunks, w.buf = nil, nil
}
