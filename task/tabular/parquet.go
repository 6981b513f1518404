package tabular

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// readParquet reads the flat columns of a Parquet file. Numbers and truth
// values are numbers, text is categories, null is missing.
func readParquet(path string, o ReadOptions) (*Table, error) {
	t := &Table{Name: path}
	h, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if err := t.parquet(h, o); err != nil {
		return nil, fmt.Errorf("%s: Parquet: %w", path, err)
	}
	for i := range t.Columns {
		if n := len(t.Columns[i].Values); n != t.Rows {
			return nil, fmt.Errorf("%s: Parquet: column %q has %d values for %d rows", path, t.Columns[i].Name, n, t.Rows)
		}
	}
	if t.Rows == 0 {
		return nil, fmt.Errorf("%s: no rows", path)
	}
	return t, nil
}

// parquet fills the table. The library panics on some broken files.
func (t *Table) parquet(h *os.File, o ReadOptions) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("malformed: %v", v)
		}
	}()
	info, err := h.Stat()
	if err != nil {
		return err
	}
	if err := checkFooter(h, info.Size()); err != nil {
		return err
	}
	p, err := parquet.OpenFile(h, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	var header []string
	var text []bool
	var leaves []*parquet.Column
	if err := flat(p.Root(), &leaves); err != nil {
		return err
	}
	for _, c := range leaves {
		header = append(header, strings.Join(c.Path(), "."))
		text = append(text, isText(c))
	}
	from, err := t.choose(header, text, o)
	if err != nil {
		return err
	}
	for j, i := range from {
		if isText(leaves[i]) && t.Columns[j].Categories == nil {
			return fmt.Errorf("column %q holds text, and the model was trained on numbers here", header[i])
		}
		if err := t.Columns[j].parquet(p, leaves[i]); err != nil {
			return fmt.Errorf("column %q: %w", header[i], err)
		}
	}
	if len(t.Columns) > 0 {
		t.Rows = len(t.Columns[0].Values)
	}
	return nil
}

// checkFooter looks at the size of the footer, for which the library would
// take any memory.
func checkFooter(r io.ReaderAt, size int64) error {
	var end [8]byte // footer size, "PAR1"
	const least = 4 + 8
	if size < least {
		return errors.New("too short")
	}
	if _, err := r.ReadAt(end[:], size-8); err != nil {
		return err
	}
	if n := binary.LittleEndian.Uint32(end[:]); string(end[4:]) != "PAR1" || int64(n) > size-least {
		return errors.New("no Parquet file, or cut short: it does not end in a footer")
	}
	return nil
}

// flat lists the columns that hold one value a row.
func flat(c *parquet.Column, leaves *[]*parquet.Column) error {
	for _, child := range c.Columns() {
		if child.Leaf() && child.MaxRepetitionLevel() > 0 {
			return fmt.Errorf("column %q holds lists; want one value a row", strings.Join(child.Path(), "."))
		}
		if child.Leaf() {
			*leaves = append(*leaves, child)
		} else if err := flat(child, leaves); err != nil {
			return err
		}
	}
	return nil
}

func isText(c *parquet.Column) bool {
	kind := c.Type().Kind()
	return kind == parquet.ByteArray || kind == parquet.FixedLenByteArray
}

// parquet appends the values of a column of the file.
func (c *Column) parquet(p *parquet.File, leaf *parquet.Column) error {
	var codes map[string]float32
	for _, group := range p.RowGroups() {
		pages := group.ColumnChunks()[leaf.Index()].Pages()
		err := c.pages(pages, &codes)
		if err := errors.Join(err, pages.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (c *Column) pages(pages parquet.Pages, codes *map[string]float32) error {
	for {
		page, err := pages.ReadPage()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var values [64]parquet.Value
		for r := page.Values(); ; {
			n, err := r.ReadValues(values[:])
			for _, v := range values[:n] {
				c.Values = append(c.Values, c.value(v, codes))
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				parquet.Release(page)
				return err
			}
		}
		parquet.Release(page)
	}
}

func (c *Column) value(v parquet.Value, codes *map[string]float32) float32 {
	var x float32
	switch {
	case v.IsNull():
		return nan
	case c.Categories != nil:
		text := v.String()
		if missing(text) {
			return nan
		}
		return c.code(text, codes)
	case v.Kind() == parquet.Boolean:
		if v.Boolean() {
			x = 1
		}
	case v.Kind() == parquet.Int32:
		x = float32(v.Int32())
	case v.Kind() == parquet.Int64:
		x = float32(v.Int64())
	case v.Kind() == parquet.Float:
		x = v.Float()
	case v.Kind() == parquet.Double:
		x = float32(v.Double())
	default:
		return nan // 96-bit times, which nobody writes any more
	}
	if x != x {
		return nan // of one form, whatever the file had
	}
	return x
}
