package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hasten/data/source"
)

// Corpus is what Load needs of data; *source.Source is one.
type Corpus interface {
	Documents() iter.Seq2[source.Document, error]
	Size() int64         // bytes, roughly
	Fingerprint() string // changes with the documents; "" if that cannot be known
}

// LoadOptions says how Load tokenises and where it keeps the result.
type LoadOptions struct {
	Vocab int   // size of the vocabulary; needed
	EOS   int32 // token after every document; below 0 for none
	// Tokenizer identifies the tokeniser in the cache: a hash of all that
	// bears on its tokens. Empty means no cache.
	Tokenizer string
	// Dir is the cache's directory; empty means "hasten/tokens" in the user's
	// cache directory.
	Dir string
	// Memory is the size of data, in bytes, up to which tokens stay in memory
	// and are made anew each time; zero means 16 MiB, below zero none.
	Memory   int64
	Progress func(Counts) // called now and then while tokenising, if not nil
}

// Dataset is the token streams of one corpus.
type Dataset struct {
	Train *Tokens
	Valid *Tokens // nil if the corpus has no validation
}

// Close closes both streams.
func (d *Dataset) Close() error { return errors.Join(d.Train.Close(), d.Valid.Close()) }

// Load tokenises a corpus, or finds it tokenised in the cache. Small data
// stays in memory; of large data the tokens are written to the cache and
// mapped from there. Several processes may load the same data at once.
func Load(c Corpus, enc Encoder, o LoadOptions) (*Dataset, error) {
	if o.Vocab <= 0 {
		return nil, fmt.Errorf("a vocabulary of %d tokens", o.Vocab)
	}
	if o.Memory == 0 {
		o.Memory = 16 << 20
	}
	print := c.Fingerprint()
	if c.Size() <= o.Memory || print == "" || o.Tokenizer == "" {
		return tokenizeTo(c, enc, o, func(string) (*Writer, error) { return NewWriter(o.Vocab), nil })
	}
	if o.Dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no place for the token cache: %w; set XDG_CACHE_HOME or HOME", err)
		}
		o.Dir = filepath.Join(user, "hasten", "tokens")
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%d %d\n", formatName, print, o.Tokenizer, o.Vocab, o.EOS))
	entry := filepath.Join(o.Dir, hex.EncodeToString(key[:16]))
	if d, err := openEntry(entry); err == nil {
		return d, nil
	}
	return fill(entry, c, enc, o)
}

// The files of a cache entry, which is a directory.
const (
	trainFile = "train.bin"
	validFile = "valid.bin"
)

// openEntry opens a cache entry.
func openEntry(dir string) (*Dataset, error) {
	train, err := Open(filepath.Join(dir, trainFile))
	if err != nil {
		return nil, err
	}
	valid, err := Open(filepath.Join(dir, validFile))
	if _, absent := os.Stat(filepath.Join(dir, validFile)); errors.Is(absent, fs.ErrNotExist) {
		return &Dataset{Train: train}, nil
	}
	if err != nil {
		train.Close()
		return nil, err
	}
	return &Dataset{train, valid}, nil
}

// fill makes a cache entry under another name and renames it when it is
// whole. If another process was quicker, its entry is taken.
func fill(entry string, c Corpus, enc Encoder, o LoadOptions) (*Dataset, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("token cache: %w", err)
	}
	sweep(o.Dir)
	tmp, err := os.MkdirTemp(o.Dir, "tmp-*")
	if err != nil {
		return nil, fmt.Errorf("token cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	d, err := tokenizeTo(c, enc, o, func(name string) (*Writer, error) { return Create(filepath.Join(tmp, name), o.Vocab) })
	if err != nil {
		return nil, err
	}
	if err := d.Close(); err != nil { // Windows renames nothing that is open
		return nil, err
	}
	for range 2 {
		err = os.Rename(tmp, entry) // fails if an entry is there
		d, bad := openEntry(entry)
		if bad == nil {
			return d, nil
		}
		err = errors.Join(err, bad, os.RemoveAll(entry)) // a damaged one
	}
	return nil, fmt.Errorf("token cache: %w", err)
}

// sweep removes what processes that were killed left in the cache over a day ago.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), "tmp-") && time.Since(info.ModTime()) > 24*time.Hour {
			os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

// tokenizeTo writes the two streams with writers from create.
func tokenizeTo(c Corpus, enc Encoder, o LoadOptions, create func(name string) (*Writer, error)) (*Dataset, error) {
	train, err := create(trainFile)
	if err != nil {
		return nil, err
	}
	valid, err := create(validFile)
	if err != nil {
		train.Abort()
		return nil, err
	}
	if _, err := Tokenize(c.Documents(), enc, o.EOS, Output{train, valid, o.Progress}); err != nil {
		train.Abort()
		valid.Abort()
		return nil, err
	}
	if train.Len() == 0 {
		train.Abort()
		valid.Abort()
		return nil, errors.New("no text to train on: all of the data is validation")
	}
	d := new(Dataset)
	if valid.Len() == 0 {
		valid.Abort()
	} else if d.Valid, err = valid.Finish(); err != nil {
		train.Abort()
		return nil, err
	}
	if d.Train, err = train.Finish(); err != nil {
		d.Valid.Close()
		return nil, err
	}
	return d, nil
}
