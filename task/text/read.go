package text

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"hasten/engine/rng"
)

// DataOptions say how labelled texts are read: settings data.format and so on.
type DataOptions struct {
	Format   string  `set:"format" choices:",fasttext,tsv,csv,jsonl" help:"format; empty: by the file's name. fasttext: lines with __label__x among their words; tsv: label, tab, text; csv and jsonl have named columns"`
	Prefix   string  `set:"prefix" help:"what labels begin with in the format fasttext"`
	Label    string  `set:"label" help:"column or field that holds the label; in jsonl it may be a list of labels"`
	Text     string  `set:"text" help:"column or field that holds the text"`
	Valid    string  `set:"valid" help:"file of validation data; empty: a part of the data"`
	Fraction float64 `set:"fraction" range:"[0,1)" help:"share of the lines kept for validation"`
}

// The random streams of a run, and the one that divides lines, which does not
// depend on the run's seed.
const (
	initStream = iota
	shuffleStream
	blockStream
	divideStream
)

// part says which lines of a file are wanted.
type portion uint8

const (
	everything portion = iota
	training           // what validation leaves
	validation
)

// has tells whether the portion has a line.
func (p portion) has(line int, fraction float64) bool {
	if p == everything {
		return true
	}
	valid := float64(rng.New(0, divideStream).At(uint64(line)))/(1<<32) < fraction
	return valid == (p == validation)
}

// sample is one labelled text. Its slices are valid until the next one.
type sample struct {
	line   int
	labels [][]byte
	text   []byte
}

// read visits the labelled texts of a file in order. An error names file, line
// and mend; one of visit's own comes back as it is.
func read(path string, o *DataOptions, p portion, visit func(*sample) error) error {
	return readParts(path, o, p, 1, func(int) func(*sample) error { return visit })
}

// readParts is read, with the file cut into at most n parts of about the same
// size, which are read at once. visitor makes the function that is called for
// the texts of a part. Of several errors the first in the file is returned.
func readParts(path string, o *DataOptions, p portion, n int, visitor func(part int) func(*sample) error) error {
	format := o.Format
	name, zipped := strings.CutSuffix(strings.ToLower(path), ".gz")
	if format == "" {
		switch filepath.Ext(name) {
		case ".tsv":
			format = "tsv"
		case ".csv":
			format = "csv"
		case ".jsonl", ".ndjson":
			format = "jsonl"
		default:
			format = "fasttext"
		}
	}
	data, done, err := contents(path)
	if err != nil {
		return err
	}
	defer done()
	if zipped {
		if data, err = unzip(path, data); err != nil {
			return err
		}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if format == "csv" {
		n = 1 // where a row begins is not to be seen from the middle
	}
	n = max(1, min(n, len(data)/leastPart))
	errs := make([]error, n)
	var wg sync.WaitGroup
	from, line := 0, 1
	for i := range n {
		to := len(data)
		if i < n-1 {
			to = max(from, (i+1)*(len(data)/n))
			if k := bytes.IndexByte(data[to:], '\n'); k >= 0 {
				to += k + 1
			} else {
				to = len(data)
			}
		}
		part, first, visit := data[from:to], line, visitor(i)
		wg.Go(func() {
			errs[i] = parse(path, format, part, first, o, func(s *sample) error {
				if !p.has(s.line, o.Fraction) {
					return nil
				}
				return visit(s)
			})
		})
		if i < n-1 {
			line += bytes.Count(part, []byte{'\n'})
		}
		from = to
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// leastPart is the size of a part, in bytes, below which cutting does not pay.
const leastPart = 1 << 18

// unzip decompresses a whole file.
func unzip(path string, data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err == nil {
		data, err = io.ReadAll(z)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; if it is not compressed by gzip, take .gz from its name", path, err)
	}
	return data, nil
}

// parse visits the labelled texts in data, whose first line has the number
// first.
func parse(path, format string, data []byte, first int, o *DataOptions, visit func(*sample) error) error {
	row := map[string]func(line []byte, o *DataOptions, s *sample) error{"fasttext": fasttextLine, "tsv": tsvLine, "jsonl": jsonLine}[format]
	if format == "csv" {
		return parseCSV(path, data, o, visit)
	}
	var s sample
	for s.line = first; len(data) > 0; s.line++ {
		line := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			line, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := row(line, o, &s); err != nil {
			return fmt.Errorf("%s:%d: %w", path, s.line, err)
		}
		if err := visit(&s); err != nil {
			return err
		}
	}
	return nil
}

// fasttextLine reads a line whose words with the prefix are labels.
func fasttextLine(line []byte, o *DataOptions, s *sample) error {
	s.labels, s.text = s.labels[:0], line
	prefix := []byte(o.Prefix)
	begin := 0 // of the text, as long as there have been labels only
	var copied []byte
	for at := 0; ; {
		from, to := word(line, at)
		if from == to {
			break
		}
		at = to
		isLabel := bytes.HasPrefix(line[from:to], prefix)
		switch {
		case isLabel && to-from == len(prefix):
			return fmt.Errorf("a label without a name: %s alone", o.Prefix)
		case isLabel:
			s.labels = append(s.labels, line[from+len(prefix):to])
			if copied == nil && len(bytes.TrimSpace(line[begin:from])) == 0 {
				begin = to
			} else if copied == nil { // a label after words: they are copied together
				copied = append(bytes.Clone(line[begin:from]), ' ')
			}
		case copied != nil:
			copied = append(append(copied, line[from:to]...), ' ')
		default:
			// The rest of the line holds no label, as a rule.
			if !bytes.Contains(line[from:], prefix) {
				s.text = line[begin:]
				return s.check()
			}
		}
	}
	if s.text = line[begin:]; copied != nil {
		s.text = copied
	}
	if len(s.labels) == 0 {
		return fmt.Errorf("no label: want a word that begins with %s (data.prefix), or another data.format", o.Prefix)
	}
	return s.check()
}

// word is next without the hash.
func word(text []byte, at int) (from, to int) {
	for at < len(text) && space[text[at]] {
		at++
	}
	from = at
	for at < len(text) && !space[text[at]] {
		at++
	}
	return from, at
}

// tsvLine reads label, tab, text.
func tsvLine(line []byte, o *DataOptions, s *sample) error {
	label, text, ok := bytes.Cut(line, []byte{'\t'})
	if !ok {
		return errors.New("no tab: want label, tab, text")
	}
	s.labels, s.text = append(s.labels[:0], bytes.TrimSpace(label)), text
	return s.check()
}

// jsonLine reads an object.
func jsonLine(line []byte, o *DataOptions, s *sample) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		return fmt.Errorf("want an object, as {%q: …, %q: …}: %w", o.Label, o.Text, err)
	}
	for _, field := range []string{o.Label, o.Text} {
		if _, ok := object[field]; !ok {
			var have []string
			for k := range object {
				have = append(have, k)
			}
			slices.Sort(have)
			return fmt.Errorf("no field %q; there are %q: name them with data.label and data.text", field, have)
		}
	}
	var text string
	if err := json.Unmarshal(object[o.Text], &text); err != nil {
		return fmt.Errorf("field %q is not a string: %.40s", o.Text, object[o.Text])
	}
	s.text, s.labels = []byte(text), s.labels[:0]
	raw := []json.RawMessage{object[o.Label]}
	if raw[0][0] == '[' {
		if err := json.Unmarshal(object[o.Label], &raw); err != nil {
			return err
		}
	}
	for _, r := range raw {
		var label string
		switch {
		case r[0] == '"':
			if err := json.Unmarshal(r, &label); err != nil {
				return err
			}
		case r[0] == '{' || r[0] == '[' || string(r) == "null":
			return fmt.Errorf("field %q is neither a label nor a list of labels: %.40s", o.Label, r)
		default: // a number, true or false
			label = string(r)
		}
		s.labels = append(s.labels, []byte(label))
	}
	return s.check()
}

// parseCSV reads a table with a header.
func parseCSV(path string, data []byte, o *DataOptions, visit func(*sample) error) error {
	r := csv.NewReader(bytes.NewReader(data))
	r.ReuseRecord = true
	header, err := r.Read()
	if err == io.EOF {
		return nil
	}
	var label, text int
	if err == nil {
		label, text = slices.Index(header, o.Label), slices.Index(header, o.Text)
		if label < 0 || text < 0 {
			return fmt.Errorf("%s:1: want columns %q and %q; there are %q: name them with data.label and data.text", path, o.Label, o.Text, header)
		}
	}
	var s sample
	for err == nil {
		var record []string
		if record, err = r.Read(); err != nil {
			break
		}
		s.line, _ = r.FieldPos(0)
		s.labels = append(s.labels[:0], []byte(strings.TrimSpace(record[label])))
		s.text = []byte(record[text])
		if err := s.check(); err != nil {
			return fmt.Errorf("%s:%d: %w", path, s.line, err)
		}
		if err := visit(&s); err != nil {
			return err
		}
	}
	if err == io.EOF {
		return nil
	}
	var at *csv.ParseError
	if errors.As(err, &at) {
		return fmt.Errorf("%s:%d: column %d: %w (the row begins on line %d)", path, at.Line, at.Column, at.Err, at.StartLine)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// check refuses labels that could not be written down again.
func (s *sample) check() error {
	if len(s.labels) == 0 {
		return errors.New("no label")
	}
	for _, l := range s.labels {
		if len(l) == 0 {
			return errors.New("an empty label")
		}
		if !utf8.Valid(l) {
			return fmt.Errorf("label %q is not UTF-8; convert the file to UTF-8", l)
		}
	}
	return nil
}

// wholeFile reads a file that cannot be mapped.
func wholeFile(path string) ([]byte, func(), error) {
	data, err := os.ReadFile(path)
	return data, func() {}, err
}
