package source

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Options says how Open reads. Its zero value suits most data.
type Options struct {
	// Format is text, jsonl, csv, tsv or parquet. Empty means by extension:
	// .jsonl and .ndjson, .csv, .tsv, .parquet, each but the last also with
	// .gz or .zst behind; anything else is text.
	Format string
	// Field is the JSON field or the column that holds the text; empty means
	// "text". A nested Parquet column is written a.b.
	Field string
	// Valid is the path of the validation data. All of the main data is then
	// for training. Empty means to divide the main data.
	Valid string
	// ValidFraction is the part of the data that goes to validation, below 1;
	// zero means 0.05, below zero nothing. See Open for the rule.
	ValidFraction float64
	// Replace puts U+FFFD for bytes that are not UTF-8, which else are an error.
	Replace bool
	// MaxLine is the longest line of JSON, or row of a table, in bytes; zero
	// means 64 MiB. Lines of plain text may have any length.
	MaxLine int
	// Stdin is read for "-"; nil means os.Stdin.
	Stdin io.Reader
}

func (o Options) check() (Options, error) {
	switch o.Format {
	case "", formatText, formatJSONL, formatCSV, formatTSV, formatParquet:
	default:
		return o, fmt.Errorf("data format %q: want text, jsonl, csv, tsv or parquet", o.Format)
	}
	if o.ValidFraction >= 1 || math.IsNaN(o.ValidFraction) {
		return o, fmt.Errorf("validation fraction %g: want a number below 1", o.ValidFraction)
	}
	if o.ValidFraction == 0 {
		o.ValidFraction = 0.05
	}
	if o.Field == "" {
		o.Field = "text"
	}
	if o.MaxLine <= 0 {
		o.MaxLine = 64 << 20
	}
	if o.Stdin == nil {
		o.Stdin = os.Stdin
	}
	return o, nil
}

// The formats.
const (
	formatText    = "text"
	formatJSONL   = "jsonl"
	formatCSV     = "csv"
	formatTSV     = "tsv"
	formatParquet = "parquet"
)

// Source is a set of documents in a fixed order, which can be read any number
// of times.
type Source struct {
	name    string
	opts    Options
	files   []file
	skipped []Skip
	spooled string // standard input on disk, or ""
}

// Skip counts the files of a directory that were passed over for one reason.
type Skip struct {
	Reason string
	Files  int
	First  string // the first of them
}

// file is one file of a source.
type file struct {
	path   string // where it is, for opening and for errors
	name   string // what documents are called
	key    string // what the split hashes: name, or "" for a file on its own
	size   int64  // bytes on disk
	stamp  string // changes when the content does
	format string
	codec  string // "", gz or zst
	split  split
}

// split says which of a file's documents are for validation.
type split uint8

const (
	allTrain split = iota
	allValid
	tailValid // the end of the text
	rowsValid // rows chosen by hash
)

// Open returns the data that spec names: a file, a directory (read in path
// order, without hidden files, node_modules and whatever is not text), "-" for
// standard input, or the name of a text in the Catalogue. The name comes first:
// write ./gosrc for a file that is called so.
//
// Validation, unless opts.Valid names it, is the fraction f = ValidFraction:
//
//   - one text: its end, from the first line that begins at or after 1-f of
//     its bytes;
//   - the texts of a directory: those where the first 8 bytes of
//     SHA-256(path relative to the directory, with slashes), as a big-endian
//     number, are below f·2⁶⁴; if there is none, the one where they are least;
//   - the rows of a file: likewise, by SHA-256(path:line), the path being empty
//     for a file opened on its own; if there is none, the last row;
//   - gosrc: by its own rule, see Go.
//
// A directory is read as rows when files of one such format hold most of its
// bytes or opts.Format says so, and then only the files of that format.
func Open(spec string, opts Options) (*Source, error) {
	opts, err := opts.check()
	if err != nil {
		return nil, err
	}
	s, err := open(spec, opts)
	if err != nil || opts.Valid == "" {
		return s, err
	}
	v, err := open(opts.Valid, opts)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("validation data: %w", err)
	}
	for i := range s.files {
		s.files[i].split = allTrain
	}
	for _, f := range v.files {
		f.split = allValid
		s.files = append(s.files, f)
	}
	s.skipped = append(s.skipped, v.skipped...)
	if v.spooled != "" {
		s.spooled = v.spooled
	}
	return s, nil
}

func open(spec string, opts Options) (*Source, error) {
	if spec == "-" {
		return spool(opts)
	}
	if d, ok := Lookup(spec); ok {
		if d.open == nil {
			return nil, fmt.Errorf("%s is not a text: %s", d.Name, d.What)
		}
		return d.open(opts)
	}
	info, err := os.Stat(spec)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: no such file or directory, nor a data set of that name (there are %s)", spec, strings.Join(names(), ", "))
	case err != nil:
		return nil, err
	case info.IsDir():
		return openDir(spec, opts)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file; give a pipe as standard input, with -", spec)
	}
	f := newFile(spec, filepath.Base(spec), info)
	return single(spec, f, opts)
}

// single is the source of one file.
func single(name string, f file, opts Options) (*Source, error) {
	f.key = ""
	if opts.Format != "" {
		f.format = opts.Format
	}
	if f.size == 0 {
		return nil, fmt.Errorf("%s: empty", f.path)
	}
	if f.format == formatText && opts.Format == "" {
		if why, err := f.sniff(true); err != nil {
			return nil, err
		} else if why != "" {
			return nil, fmt.Errorf("%s: %s; for text in another encoding, convert it to UTF-8 first", f.path, why)
		}
	}
	s := &Source{name: name, opts: opts, files: []file{f}}
	s.divide()
	return s, nil
}

// spool copies standard input to a temporary file, since it is read once for
// training and again for validation, and a table needs its end first.
func spool(opts Options) (*Source, error) {
	t, err := os.CreateTemp("", "hasten-stdin-*")
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(t, sum), opts.Stdin)
	err = errors.Join(err, t.Close())
	var s *Source
	if err != nil {
		err = fmt.Errorf("standard input: %w", err)
	} else {
		format := opts.Format
		if format == "" {
			format = formatText
		}
		s, err = single("-", file{path: t.Name(), name: "-", size: n, stamp: hex.EncodeToString(sum.Sum(nil)), format: format}, opts)
	}
	if err != nil {
		os.Remove(t.Name())
		if n == 0 {
			err = errors.New("standard input: empty")
		}
		return nil, err
	}
	s.spooled = t.Name()
	return s, nil
}

// newFile describes a file by its extensions.
func newFile(path, name string, info fs.FileInfo) file {
	f := file{path: path, name: name, key: name, size: info.Size(), stamp: fmt.Sprint(info.ModTime().UnixNano()), format: formatText}
	base := strings.ToLower(name)
	for _, c := range []string{"gz", "zst"} {
		if rest, ok := strings.CutSuffix(base, "."+c); ok {
			base, f.codec = rest, c
		}
	}
	switch filepath.Ext(base) {
	case ".jsonl", ".ndjson":
		f.format = formatJSONL
	case ".csv":
		f.format = formatCSV
	case ".tsv":
		f.format = formatTSV
	case ".parquet":
		f.format = formatParquet
	}
	return f
}

// divide gives every file its part in validation.
func (s *Source) divide() {
	if s.opts.ValidFraction < 0 {
		return
	}
	texts, valid, least := 0, 0, -1
	for i := range s.files {
		f := &s.files[i]
		if f.format != formatText {
			f.split = rowsValid
			continue
		}
		texts++
		if h := hash(f.key); h < bound(s.opts.ValidFraction) {
			f.split = allValid
			valid++
		}
		if least < 0 || hash(f.key) < hash(s.files[least].key) {
			least = i
		}
	}
	switch {
	case texts == 1:
		s.files[least].split = tailValid
	case texts > 1 && valid == 0:
		s.files[least].split = allValid
	case texts > 1 && valid == texts:
		for i := range s.files { // keep one to train on
			if i != least {
				s.files[i].split = allTrain
				break
			}
		}
	}
}

func hash(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:])
}

// bound is fraction·2⁶⁴.
func bound(fraction float64) uint64 { return uint64(math.Ldexp(fraction, 64)) }

// Name is what the source was opened as.
func (s *Source) Name() string { return s.name }

// Files is the number of files that are read.
func (s *Source) Files() int { return len(s.files) }

// Size is the number of bytes on disk, which for plain files is the bytes of text.
func (s *Source) Size() int64 {
	var n int64
	for _, f := range s.files {
		n += f.size
	}
	return n
}

// Skipped tells which files of a directory are not read, the commonest reason first.
func (s *Source) Skipped() []Skip { return slices.Clone(s.skipped) }

// Fingerprint identifies the documents: it changes when a file is added, taken
// away, renamed or written to, and with the options that bear on the text.
func (s *Source) Fingerprint() string {
	h := sha256.New()
	o := &s.opts
	fmt.Fprintf(h, "documents 1 %q %g %t\n", o.Field, o.ValidFraction, o.Replace)
	for _, f := range s.files {
		fmt.Fprintf(h, "%q %q %d %s %s %s %d\n", f.name, f.key, f.size, f.stamp, f.format, f.codec, f.split)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Documents yields the documents in order, those of training and of validation
// mixed. An error is the last thing it yields. It may run several times at once.
func (s *Source) Documents() iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		some := false
		for i := range s.files {
			for d, err := range s.files[i].documents(&s.opts) {
				if err == nil && len(d.Text) == 0 {
					continue
				}
				some = true
				if !yield(d, err) || err != nil {
					return
				}
			}
		}
		if !some {
			yield(Document{}, fmt.Errorf("%s: no text in it", s.name))
		}
	}
}

// Close removes what Open put on disk. Only standard input needs it.
func (s *Source) Close() error {
	if s.spooled == "" {
		return nil
	}
	return os.Remove(s.spooled)
}

// documents yields the documents of one file.
func (f *file) documents(o *Options) iter.Seq2[Document, error] {
	if f.format == formatText {
		return f.texts(o)
	}
	rows := map[string]func(*Options) iter.Seq2[Document, error]{
		formatJSONL: f.jsonl, formatCSV: f.csv, formatTSV: f.csv, formatParquet: f.parquet,
	}[f.format](o)
	return f.divideRows(rows, o)
}

// divideRows marks rows as validation by hash. It holds one row back, so that
// the last one can go there when no other did.
func (f *file) divideRows(rows iter.Seq2[Document, error], o *Options) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		var held Document
		n, valid := 0, 0
		for d, err := range rows {
			if err == nil && len(d.Text) == 0 {
				continue
			}
			if n > 0 && !yield(held, nil) {
				return
			}
			if err != nil {
				yield(Document{}, err)
				return
			}
			switch f.split {
			case allValid:
				d.Valid = true
			case rowsValid:
				d.Valid = hash(fmt.Sprintf("%s:%d", f.key, d.Line)) < bound(o.ValidFraction)
			}
			if d.Valid {
				valid++
			}
			held = d
			n++
		}
		if n > 0 {
			if f.split == rowsValid && n > 1 {
				held.Valid = held.Valid || valid == 0
			}
			yield(held, nil)
		}
	}
}
