package lm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"hasten/data/source"
	"hasten/data/token"
	"hasten/engine/atomicfile"
)

// openTokenizer makes the tokenizer that a setting names, training it on the
// corpus if need be. A tokenizer that was trained is kept in the user's cache
// and found there the next time.
func openTokenizer(setting string, corpus *source.Source, note func(string)) (token.Tokenizer, error) {
	spec, err := token.Parse(setting)
	if err != nil {
		return nil, err
	}
	cached := ""
	if spec.Kind == token.KindBPE {
		cached = tokenizerCache(spec, corpus)
	}
	if cached != "" {
		if t, err := token.Open(cached); err == nil {
			return t, nil
		}
	}
	if spec.Kind == token.KindBPE {
		note(fmt.Sprintf("training a tokenizer of %d tokens", spec.Vocab))
	}
	t, err := spec.Tokenizer(context.Background(), trainingTexts(corpus))
	if err != nil || cached == "" {
		return t, err
	}
	// The cache only saves time: a failure to write it is no failure.
	if os.MkdirAll(filepath.Dir(cached), 0o755) == nil {
		atomicfile.WriteFile(cached, func(w io.Writer) error {
			_, err := t.WriteTo(w)
			return err
		})
	}
	return t, nil
}

// tokenizerCache is the path under which a trained tokenizer is kept, "" if it
// cannot be.
func tokenizerCache(spec token.Spec, corpus *source.Source) string {
	print := corpus.Fingerprint()
	dir, err := os.UserCacheDir()
	if print == "" || err != nil {
		return ""
	}
	key := sha256.Sum256([]byte("1\n" + print + "\n" + spec.String()))
	return filepath.Join(dir, "hasten", "tokenizers", hex.EncodeToString(key[:16])+".json")
}

// trainingTexts are the texts of a corpus that are not for validation.
func trainingTexts(corpus *source.Source) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for d, err := range corpus.Documents() {
			if err != nil {
				yield(nil, err)
				return
			}
			if !d.Valid && !yield(d.Text, nil) {
				return
			}
		}
	}
}
