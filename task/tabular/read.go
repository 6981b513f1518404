package tabular

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// ReadOptions say how a file is read. The zero value suits files with a
// header.
type ReadOptions struct {
	Format     string   // csv, tsv or parquet; empty: by the file's name
	NoHeader   bool     // CSV: the first line is data; columns are then named c1, c2, …
	Categories []string // columns to take as categories though they hold numbers

	// Like asks for these columns, with their kinds, and for no others: those
	// that a model wants. Those of Also are read too if they are there.
	Like []Column
	Also []string
}

// Read reads a table from a CSV or TSV file, which may be compressed with gzip
// or zstd, or from a Parquet file. A column is numbers if every cell is a
// number or missing, else categories. A cell is missing if it is empty, ?, NA,
// N/A, NaN, null or None.
func Read(path string, o ReadOptions) (*Table, error) {
	base, codec := path, filepath.Ext(path)
	if codec == ".gz" || codec == ".zst" {
		base = strings.TrimSuffix(path, codec)
	} else {
		codec = ""
	}
	format := o.Format
	if format == "" {
		format = strings.TrimPrefix(strings.ToLower(filepath.Ext(base)), ".")
	}
	open := func() (io.ReadCloser, error) { return decompress(path, codec) }
	switch format {
	case "csv":
		return readCSV(path, open, ',', o)
	case "tsv":
		return readCSV(path, open, '\t', o)
	case "parquet":
		if codec != "" {
			return nil, fmt.Errorf("%s: a compressed Parquet file cannot be read in place; decompress it", path)
		}
		return readParquet(path, o)
	}
	return nil, fmt.Errorf("%s: not a table by its name; want .csv, .tsv or .parquet, or set data.format", path)
}

// decompress opens a file.
func decompress(path, codec string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	switch codec {
	case ".gz":
		z, err := gzip.NewReader(f)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return both{z, f}, nil
	case ".zst":
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return both{z.IOReadCloser(), f}, nil
	}
	return f, nil
}

// both closes a decompressor and its file.
type both struct {
	io.ReadCloser
	file io.Closer
}

func (b both) Close() error { return errors.Join(b.ReadCloser.Close(), b.file.Close()) }

// missing tells whether a cell counts as missing.
func missing(cell string) bool {
	switch cell {
	case "", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None":
		return true
	}
	return false
}

var nan = float32(math.NaN())

// readCSV reads a file twice: to learn the kinds of its columns, and their
// values.
func readCSV(name string, open func() (io.ReadCloser, error), comma rune, o ReadOptions) (*Table, error) {
	var header []string
	var text []bool // columns with a cell that is not a number
	err := eachRecord(name, open, comma, func(r *csv.Reader, record []string, first bool) error {
		if first {
			header = slices.Clone(record)
			text = make([]bool, len(header))
			if !o.NoHeader {
				return nil
			}
			for i := range header {
				header[i] = fmt.Sprintf("c%d", i+1)
			}
		}
		for i, cell := range record {
			if !text[i] && !missing(cell) {
				_, err := strconv.ParseFloat(cell, 32)
				text[i] = err != nil && !errors.Is(err, strconv.ErrRange)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	t := &Table{Name: name}
	from, err := t.choose(header, text, o)
	if err != nil {
		return nil, err
	}
	codes := make([]map[string]float32, len(from))
	err = eachRecord(name, open, comma, func(r *csv.Reader, record []string, first bool) error {
		if first && !o.NoHeader {
			return nil
		}
		line, _ := r.FieldPos(0)
		t.lines = append(t.lines, line)
		t.Rows++
		for j, i := range from {
			c := &t.Columns[j]
			v, err := c.cell(record[i], &codes[j], o.Like != nil)
			if err != nil {
				line, column := r.FieldPos(i)
				return fmt.Errorf("%s:%d: column %q (character %d): %w", name, line, c.Name, column, err)
			}
			c.Values = append(c.Values, v)
		}
		return nil
	})
	if err == nil && t.Rows == 0 {
		err = fmt.Errorf("%s: no rows, only a header", name)
	}
	return t, err
}

// eachRecord calls f with the records of a file; they must be of one length.
func eachRecord(name string, open func() (io.ReadCloser, error), comma rune, f func(r *csv.Reader, record []string, first bool) error) error {
	h, err := open()
	if err != nil {
		return err
	}
	defer h.Close()
	r := csv.NewReader(&skipMark{r: h})
	r.Comma = comma
	r.ReuseRecord = true
	for first := true; ; first = false {
		record, err := r.Read()
		if err == io.EOF {
			if first {
				return fmt.Errorf("%s: empty; want a header line with the columns' names", name)
			}
			return nil
		}
		var at *csv.ParseError
		if errors.As(err, &at) {
			if errors.Is(err, csv.ErrFieldCount) {
				return fmt.Errorf("%s:%d: %d cells, and the lines before have %d; is one missing, or a comma not quoted?", name, at.StartLine, len(record), r.FieldsPerRecord)
			}
			return fmt.Errorf("%s:%d: character %d: %w (the row begins on line %d)", name, at.Line, at.Column, at.Err, at.StartLine)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := f(r, record, first); err != nil {
			return err
		}
	}
}

// skipMark leaves out the byte order mark with which some programs begin.
type skipMark struct {
	r     io.Reader
	begun bool
}

func (s *skipMark) Read(p []byte) (int, error) {
	if s.begun {
		return s.r.Read(p)
	}
	s.begun = true
	var head [3]byte
	n, err := io.ReadFull(s.r, head[:])
	if string(head[:n]) == "\ufeff" {
		return s.r.Read(p)
	}
	s.r = io.MultiReader(strings.NewReader(string(head[:n])), s.r)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return 0, err
	}
	return s.r.Read(p)
}

// choose sets the table's columns, without values, and tells which columns of
// the file they are.
func (t *Table) choose(header []string, text []bool, o ReadOptions) (from []int, err error) {
	all := &Table{Name: t.Name}
	for i, name := range header {
		c := Column{Name: name}
		if text[i] || slices.Contains(o.Categories, name) {
			c.Categories = []string{}
		}
		all.Columns = append(all.Columns, c)
		from = append(from, i)
	}
	if err := all.checkNames(); err != nil {
		return nil, err
	}
	for _, name := range o.Categories {
		if !slices.Contains(header, name) {
			_, err := all.Column(name)
			return nil, err
		}
	}
	if o.Like == nil {
		t.Columns = all.Columns
		return from, nil
	}
	from = nil
	for _, want := range o.Like {
		i := slices.Index(header, want.Name)
		if i < 0 {
			_, err := all.Column(want.Name)
			return nil, err
		}
		c := Column{Name: want.Name}
		if want.Categories != nil {
			c.Categories = []string{}
		}
		t.Columns = append(t.Columns, c)
		from = append(from, i)
	}
	for _, name := range o.Also {
		if i := slices.Index(header, name); i >= 0 {
			t.Columns = append(t.Columns, all.Columns[i])
			from = append(from, i)
		}
	}
	return from, nil
}

// cell is the value of a cell of the column; codes are its categories so far.
func (c *Column) cell(text string, codes *map[string]float32, wanted bool) (float32, error) {
	if missing(text) {
		return nan, nil
	}
	if c.Categories != nil {
		return c.code(text, codes), nil
	}
	v, err := strconv.ParseFloat(text, 32)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%.40q is outside the range of float32", text)
	}
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a number, and the model was trained on numbers here", text)
	}
	return float32(v), nil
}

// code is the index of a category, which is added if it is new.
func (c *Column) code(text string, codes *map[string]float32) float32 {
	if *codes == nil {
		*codes = map[string]float32{}
	}
	v, ok := (*codes)[text]
	if !ok {
		text = strings.Clone(text) // it is a part of its line
		v = float32(len(c.Categories))
		(*codes)[text] = v
		c.Categories = append(c.Categories, text)
	}
	return v
}
