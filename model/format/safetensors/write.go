package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"hasten/model/format"
)

// Entry is a tensor to be written. Either Values gives its numbers, which are
// converted to DType (F32, F64, F16 or BF16), or Bytes holds them as stored.
type Entry struct {
	Name   string
	DType  DType
	Shape  []int
	Values format.Values
	Bytes  []byte
}

// Write writes a file of tensors, with "format": "pt" in its metadata, which
// Hugging Face's loader demands. Tensors are written in the order of their
// names, those with larger elements first, so that each is aligned to its
// elements. It is an error if a value does not fit its type.
func Write(w io.Writer, metadata map[string]string, entries []Entry) error {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.DType.Size(), a.DType.Size()), strings.Compare(a.Name, b.Name))
	})
	header, err := header(metadata, entries)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Values == nil {
			if _, err := w.Write(e.Bytes); err != nil {
				return err
			}
			continue
		}
		f, _ := e.DType.Float()
		n, _ := e.elements()
		if err := format.WriteFloats(w, f, n, e.Values); err != nil {
			return fmt.Errorf("tensor %q: %w", e.Name, err)
		}
	}
	return nil
}

// elements is the number of elements, unless the bytes of them are no int.
func (e *Entry) elements() (int, bool) {
	shape := make([]int64, len(e.Shape))
	for i, n := range e.Shape {
		if n < 0 {
			return 0, false
		}
		shape[i] = int64(n)
	}
	total, ok := product(shape, e.DType.Size())
	return int(total) / e.DType.Size(), ok && total <= math.MaxInt
}

// check tells what is wrong with an entry, if anything.
func (e *Entry) check() error {
	if e.DType >= dtypes {
		return fmt.Errorf("tensor %q: %v", e.Name, e.DType)
	}
	n, ok := e.elements()
	_, float := e.DType.Float()
	switch {
	case e.Name == "__metadata__" || !utf8.ValidString(e.Name):
		return fmt.Errorf("%q cannot be the name of a tensor", e.Name)
	case !ok || len(e.Shape) > maxRank:
		return fmt.Errorf("tensor %q: shape %v", e.Name, e.Shape)
	case e.Values != nil && !float:
		return fmt.Errorf("tensor %q: floating-point values cannot be stored as %v", e.Name, e.DType)
	case e.Values == nil && len(e.Bytes) != n*e.DType.Size():
		return fmt.Errorf("tensor %q: %d bytes for %v of %v", e.Name, len(e.Bytes), e.Shape, e.DType)
	}
	return nil
}

// header is the length and the JSON, padded. It is put together by hand since
// the tensors' order matters, and encoding/json keeps none.
func header(metadata map[string]string, entries []Entry) ([]byte, error) {
	meta := map[string]string{"format": "pt"}
	for k, v := range metadata {
		meta[k] = v
	}
	b := bytes.NewBuffer(make([]byte, 8))
	put := func(v any) error {
		text, err := json.Marshal(v)
		b.Write(text)
		return err
	}
	b.WriteString(`{"__metadata__":`)
	if err := put(meta); err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(entries))
	var at int64
	for _, e := range entries {
		if err := e.check(); err != nil {
			return nil, err
		}
		if seen[e.Name] {
			return nil, fmt.Errorf("tensor %q is written twice", e.Name)
		}
		seen[e.Name] = true
		n, _ := e.elements()
		end := at + int64(n)*int64(e.DType.Size())
		if end < at {
			return nil, fmt.Errorf("tensor %q: shape %v", e.Name, e.Shape)
		}
		b.WriteByte(',')
		if err := put(e.Name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		shape := e.Shape
		if shape == nil {
			shape = []int{} // a single number has the shape [], not null
		}
		if err := put(struct {
			DType   string   `json:"dtype"`
			Shape   []int    `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{e.DType.String(), shape, [2]int64{at, end}}); err != nil {
			return nil, err
		}
		at = end
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len()-8 > maxHeader {
		return nil, fmt.Errorf("a header of %d bytes; the format allows %d", b.Len()-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(b.Len()-8))
	return b.Bytes(), nil
}
