package lm

import (
	"fmt"
	"os"
	"path/filepath"

	"hasten/data/source"
	"hasten/data/store"
)

// TokenizeOptions say what Tokenize reads and where it writes.
type TokenizeOptions struct {
	Data      string
	Options   source.Options
	Tokenizer string // bytes, bpe:N or a file
	Dir       string // made if it is not there
}

// Tokenized says what was written.
type Tokenized struct {
	Train     Stream `json:"train"`
	Valid     Stream `json:"valid"`
	DType     string `json:"dtype"`
	Vocab     int    `json:"vocab"`
	Tokenizer string `json:"tokenizer"` // path of its tokenizer.json
}

// Stream is a file of raw token ids.
type Stream struct {
	Path      string `json:"path"`
	Tokens    int64  `json:"tokens"`
	Documents int    `json:"documents"`
	TextBytes int64  `json:"text_bytes"` // of the text the tokens stand for
}

// Tokenize writes data as files of raw little-endian token ids, which any
// program can read.
func Tokenize(o TokenizeOptions, note func(string)) (Tokenized, error) {
	var t Tokenized
	corpus, err := source.Open(o.Data, o.Options)
	if err != nil {
		return t, err
	}
	defer corpus.Close()
	tokenizer, err := openTokenizer(o.Tokenizer, corpus, note)
	if err != nil {
		return t, err
	}
	t.Vocab = tokenizer.VocabSize()
	t.DType = store.KindFor(t.Vocab).String()
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return t, err
	}
	if err := saveTokenizer(o.Dir, tokenizer); err != nil {
		return t, err
	}
	t.Tokenizer = filepath.Join(o.Dir, tokenizerFile)
	note("tokenising " + corpus.Name())
	d, err := loadTokens(corpus, tokenizer)
	if err != nil {
		return t, err
	}
	defer d.Close()
	if t.Train, err = writeRaw(filepath.Join(o.Dir, "train.bin"), d.Train); err != nil {
		return t, err
	}
	if d.Valid != nil {
		t.Valid, err = writeRaw(filepath.Join(o.Dir, "valid.bin"), d.Valid)
	}
	return t, err
}

// writeRaw copies a stream into a file of its own.
func writeRaw(path string, from *store.Tokens) (Stream, error) {
	s := Stream{Path: path, Tokens: from.Len(), Documents: len(from.Starts()), TextBytes: from.TextBytes()}
	w, err := store.Create(path, from.Vocab())
	if err != nil {
		return s, err
	}
	w.Document()
	text := from.TextBytes()
	buf := make([]int32, 1<<16)
	for at := int64(0); at < from.Len() && err == nil; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), from.Len()-at)]
		if err = from.Read(buf, at); err == nil {
			err = w.Append(buf, text) // all of the text counts with the first piece
			text = 0
		}
	}
	if err != nil {
		w.Abort()
		return s, fmt.Errorf("%s: %w", path, err)
	}
	t, err := w.Finish()
	if err != nil {
		return s, err
	}
	return s, t.Close()
}
