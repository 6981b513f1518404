package source

import (
	"bytes"
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
		stopped := false
		err := f.readParquet(o, func(d Document) bool {
			stopped = !yield(d, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(Document{}, err)
		}
	}
}

func (f *file) readParquet(o *Options, yield func(Document) bool) (err error) {
	if f.codec != "" {
		return fmt.Errorf("%s: a compressed Parquet file cannot be read in place; decompress it", f.path)
	}
	h, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer h.Close()
	row, inside := 0, true
	defer func() { // the library panics on some broken files
		if v := recover(); v != nil {
			if !inside {
				panic(v)
			}
			err = fmt.Errorf("%s: row %d: malformed Parquet: %v", f.path, row+1, v)
		}
	}()
	info, err := h.Stat()
	if err != nil {
		return err
	}
	p, err := parquet.OpenFile(h, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%s: not a Parquet file, or cut short: %w", f.path, err)
	}
	column, err := textColumn(p, o.Field)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	values := make([]parquet.Value, 64)
	for _, group := range p.RowGroups() {
		pages := group.ColumnChunks()[column].Pages()
		for {
			page, err := pages.ReadPage()
			if err == io.EOF {
				break
			}
			if err != nil {
				return fmt.Errorf("%s: row %d: %w", f.path, row+1, err)
			}
			for r := page.Values(); err == nil; {
				var n int
				n, err = r.ReadValues(values)
				for _, v := range values[:n] {
					row++
					text, bad := o.utf8(bytes.Clone(v.ByteArray()), f.path, row)
					if bad != nil {
						return bad
					}
					inside = false
					if !yield(Document{Name: f.name, Line: row, Text: text}) {
						return nil
					}
					inside = true
				}
			}
			parquet.Release(page)
			if err != io.EOF {
				return fmt.Errorf("%s: row %d: %w", f.path, row+1, err)
			}
		}
		if err := pages.Close(); err != nil {
			return fmt.Errorf("%s: row %d: %w", f.path, row+1, err)
		}
	}
	return nil
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
