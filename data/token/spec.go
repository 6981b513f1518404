package token

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// Spec is a setting that names a tokenizer: "bytes", "bpe:N" (trained here,
// with N tokens), or the path of a tokenizer.json or of a directory with one.
type Spec struct {
	Kind  Kind
	Vocab int    // of BPE
	Path  string // of File
}

// Kind is what a Spec names.
type Kind uint8

const (
	KindBytes Kind = iota // the zero Spec is "bytes"
	KindBPE
	KindFile
)

// DefaultVocab is the vocabulary size of "bpe" without a number.
const DefaultVocab = 4096

// Parse reads a setting. A file called "bytes" or "bpe" is written "./bytes".
func Parse(s string) (Spec, error) {
	kind, size, sized := strings.Cut(s, ":")
	switch {
	case s == "":
		return Spec{}, errors.New("tokenizer: want bytes, bpe:N, or a tokenizer.json")
	case s == "bytes":
		return Spec{Kind: KindBytes}, nil
	case kind != "bpe":
		return Spec{Kind: KindFile, Path: s}, nil
	case !sized:
		return Spec{Kind: KindBPE, Vocab: DefaultVocab}, nil
	}
	n, err := strconv.Atoi(size)
	if err != nil || n < 257 || n > maxVocab {
		return Spec{}, fmt.Errorf("tokenizer %q: want bpe:N with N from 257 to %d", s, maxVocab)
	}
	return Spec{Kind: KindBPE, Vocab: n}, nil
}

// String is the setting that Parse reads.
func (s Spec) String() string {
	switch s.Kind {
	case KindBPE:
		return "bpe:" + strconv.Itoa(s.Vocab)
	case KindFile:
		return s.Path
	}
	return "bytes"
}

// Tokenizer makes the tokenizer: it trains on docs if there is something to
// train, and reads the file if there is one.
func (s Spec) Tokenizer(ctx context.Context, docs iter.Seq2[[]byte, error]) (Tokenizer, error) {
	switch s.Kind {
	case KindBPE:
		t, err := TrainBPE(ctx, docs, s.Vocab, TrainOptions{})
		if err != nil {
			return nil, err // not a nil *Pipeline
		}
		return t, nil
	case KindFile:
		return Open(s.Path)
	}
	return Bytes{}, nil
}
