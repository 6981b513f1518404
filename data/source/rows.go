package source

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
)

// jsonl yields one document for every line of JSON.
func (f *file) jsonl(o *Options) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		c, err := f.open()
		if err != nil {
			yield(Document{}, err)
			return
		}
		defer c.Close()
		for n := 1; ; n++ {
			line, err := readLine(c.Reader, o.MaxLine)
			switch {
			case err == io.EOF:
				return
			case err == errLong:
				err = fmt.Errorf("%s:%d: %w", f.path, n, tooLong(o))
			case err == nil && len(bytes.TrimSpace(line)) == 0:
				continue
			case err == nil:
				line, err = f.jsonField(line, n, o)
			}
			if !yield(Document{Name: f.name, Line: n, Text: line}, err) || err != nil {
				return
			}
		}
	}
}

// jsonField returns the text in a line of JSON.
func (f *file) jsonField(line []byte, n int, o *Options) ([]byte, error) {
	line, err := o.utf8(line, f.path, n)
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, fmt.Errorf("%s:%d: a line of JSON must be an object, as {%q: …}, and this is a %s", f.path, n, o.Field, wrong.Value)
		}
		var bad *json.SyntaxError
		if errors.As(err, &bad) {
			return nil, fmt.Errorf("%s:%d: malformed JSON at byte %d of the line: %w", f.path, n, bad.Offset, err)
		}
		return nil, fmt.Errorf("%s:%d: %w", f.path, n, err)
	}
	raw, ok := object[o.Field]
	if !ok {
		return nil, fmt.Errorf("%s:%d: %w", f.path, n, missing(o.Field, slices.Sorted(maps.Keys(object))))
	}
	var text string
	if len(raw) > 0 && raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return nil, fmt.Errorf("%s:%d: field %q is not a string: %.40s", f.path, n, o.Field, raw)
	}
	return []byte(text), nil
}

// missing says that a field is not there, and what is.
func missing(field string, have []string) error {
	if len(have) == 0 {
		return fmt.Errorf("no field %q, nor any other", field)
	}
	for i, h := range have {
		have[i] = fmt.Sprintf("%q", h)
	}
	return fmt.Errorf("no field %q; there are %s: name the one that holds the text", field, strings.Join(have, ", "))
}

// errLong says that a line or row is over the limit.
var errLong = errors.New("too long")

func tooLong(o *Options) error {
	return fmt.Errorf("longer than %d bytes; if that is right, raise the limit on line length", o.MaxLine)
}

// readLine returns the next line without its end, io.EOF after the last, or
// errLong. The line is valid until the next call if it is short, longer if not.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		ends := err == nil
		if ends {
			part = part[:len(part)-1]
		}
		switch {
		case len(line)+len(part) > limit:
			return nil, errLong
		case ends && line == nil:
			return part, nil
		case ends:
			return append(line, part...), nil
		case err == io.EOF && len(line)+len(part) > 0:
			return append(line, part...), nil
		case err != bufio.ErrBufferFull:
			return nil, err
		}
		line = append(line, part...)
	}
}

// csv yields one document for every row of a table after its header.
func (f *file) csv(o *Options) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		c, err := f.open()
		if err != nil {
			yield(Document{}, err)
			return
		}
		defer c.Close()
		limit := &rowLimit{r: c, max: o.MaxLine, left: o.MaxLine}
		r := csv.NewReader(limit)
		r.ReuseRecord = true
		if f.format == formatTSV {
			r.Comma = '\t'
		}
		column, line := -1, 0 // line is where the last row began
		for {
			limit.left = limit.max
			record, err := r.Read()
			if err == io.EOF {
				if column < 0 {
					yield(Document{}, fmt.Errorf("%s: empty: want a header line with the columns' names", f.path))
				}
				return
			}
			var at *csv.ParseError
			switch {
			case errors.As(err, &at):
				err = fmt.Errorf("%s:%d: column %d: %w (the row begins on line %d)", f.path, at.Line, at.Column, at.Err, at.StartLine)
			case err == errLong:
				err = fmt.Errorf("%s: the row after the one on line %d: %w; or a quote is not closed", f.path, line, tooLong(o))
			case err == nil && column < 0:
				if column = slices.Index(record, o.Field); column < 0 {
					err = fmt.Errorf("%s:1: %w", f.path, missing(o.Field, slices.Clone(record)))
					break
				}
				line, _ = r.FieldPos(0)
				continue
			}
			d := Document{Name: f.name}
			if err == nil {
				line, _ = r.FieldPos(0)
				d.Line, _ = r.FieldPos(column)
				d.Text, err = o.utf8([]byte(record[column]), f.path, d.Line)
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// rowLimit stops a reader that was asked for too much at a stretch.
type rowLimit struct {
	r         io.Reader
	max, left int
}

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLong
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}
