package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// parquet yields one document for every row of a Parquet file's text column.
func (f *file) parquet(o *Options) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		if err := f.readParquet(o, func(d Document) bool { return yield(d, nil) }); err != nil {
			yield(Document{}, err)
		}
	}
}

func (f *file) readParquet(o *Options, yield func(Document) bool) error {
	if f.codec != "" {
		return fmt.Errorf("%s: a compressed Parquet file cannot be read in place; decompress it", f.path)
	}
	h, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := checkFooter(h, f.size); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	var p *parquet.File
	var column int
	if err := guard(func() (err error) {
		p, err = parquet.OpenFile(h, f.size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
		if err == nil {
			column, err = textColumn(p, o.Field)
		}
		return err
	}); err != nil {
		return fmt.Errorf("%s: Parquet: %w", f.path, err)
	}
	row := 0
	for _, group := range p.RowGroups() {
		pages := group.ColumnChunks()[column].Pages()
		for err == nil {
			var texts [][]byte
			texts, err = readPage(pages)
			for _, text := range texts {
				row++
				text, bad := o.utf8(text, f.path, row)
				if bad != nil || !yield(Document{Name: f.name, Line: row, Text: text}) {
					pages.Close()
					return bad
				}
			}
		}
		if closed := pages.Close(); err == io.EOF {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("%s: Parquet: after row %d: %w", f.path, row, err)
		}
	}
	return nil
}

// checkFooter looks at the end of the file, which tells the size of its
// footer. The library would take memory of any size that stands there.
func checkFooter(r io.ReaderAt, size int64) error {
	var end [8]byte // footer size, "PAR1"
	const least = 4 + 8
	if size < least {
		return errors.New("too short for a Parquet file")
	}
	if _, err := r.ReadAt(end[:], size-8); err != nil {
		return err
	}
	if n := binary.LittleEndian.Uint32(end[:]); string(end[4:]) != "PAR1" || int64(n) > size-least {
		return errors.New("no Parquet file, or cut short: it does not end in a footer")
	}
	return nil
}

// readPage returns the texts of the next page, with io.EOF after the last.
func readPage(pages parquet.Pages) (texts [][]byte, err error) {
	err = guard(func() error {
		page, err := pages.ReadPage()
		if err != nil {
			return err
		}
		defer parquet.Release(page)
		var values [64]parquet.Value // what the page says of its length is not believed
		for r := page.Values(); ; {
			n, err := r.ReadValues(values[:])
			for _, v := range values[:n] {
				texts = append(texts, bytes.Clone(v.ByteArray()))
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	return texts, err
}

// guard turns a panic into an error: the Parquet library panics on some
// broken files.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("malformed: %v", v)
		}
	}()
	return f()
}

// textColumn finds the column that holds the text.
func textColumn(p *parquet.File, field string) (int, error) {
	var texts []string
	found, index := false, 0
	var why error
	var visit func(c *parquet.Column)
	visit = func(c *parquet.Column) {
		for _, child := range c.Columns() {
			visit(child)
		}
		if !c.Leaf() {
			return
		}
		name := strings.Join(c.Path(), ".")
		text := c.Type().Kind() == parquet.ByteArray && c.MaxRepetitionLevel() == 0
		if text {
			texts = append(texts, name)
		}
		if name == field {
			found, index = true, c.Index()
			if !text {
				why = fmt.Errorf("column %q does not hold one text per row, but %s", field, c.Type())
			}
		}
	}
	visit(p.Root())
	if !found {
		why = missing(field, texts)
	}
	return index, why
}
