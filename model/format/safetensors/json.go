package safetensors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// parser walks JSON of a known form. Anything else than that form is an error,
// so nothing nests deeper than the form does, and a name that comes twice is
// an error too (encoding/json would take the last).
type parser struct {
	d    *json.Decoder
	base int64 // where the JSON begins in the file
}

func newParser(data []byte, base int64) (*parser, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("the JSON from byte %d is not UTF-8", base)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return &parser{d, base}, nil
}

// fail is an error at the parser's place.
func (p *parser) fail(format string, args ...any) error {
	return fmt.Errorf("byte %d: %w", p.base+p.d.InputOffset(), fmt.Errorf(format, args...))
}

func (p *parser) token() (json.Token, error) {
	t, err := p.d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, p.fail("JSON: %w", err)
	}
	return t, nil
}

func (p *parser) delim(want json.Delim) error {
	t, err := p.token()
	if err == nil && t != want {
		err = p.fail("%.50v where %q is expected", t, want.String())
	}
	return err
}

// object reads {"key": value, …}; value must read exactly one value.
func (p *parser) object(value func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for p.d.More() {
		t, err := p.token()
		if err != nil {
			return err
		}
		key := t.(string) // the decoder allows nothing else here
		if seen[key] {
			return p.fail("%.100q comes twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return err
		}
	}
	return p.delim('}')
}

func (p *parser) str() (string, error) {
	t, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", p.fail("%.50v where a string is expected", t)
	}
	return s, nil
}

// numbers reads a list of at most limit non-negative integers.
func (p *parser) numbers(limit int) ([]int64, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	list := []int64{}
	for p.d.More() {
		t, err := p.token()
		if err != nil {
			return nil, err
		}
		n, ok := t.(json.Number)
		if !ok {
			return nil, p.fail("%.50v where a number is expected", t)
		}
		v, err := strconv.ParseUint(string(n), 10, 63)
		if err != nil || len(list) == limit {
			return nil, p.fail("%.50s: want at most %d whole numbers from 0 on", n, limit)
		}
		list = append(list, int64(v))
	}
	return list, p.delim(']')
}

// skip reads a value of any form.
func (p *parser) skip() error {
	for depth := 0; ; {
		t, err := p.token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// end makes sure that nothing but white space is left.
func (p *parser) end() error {
	if t, err := p.d.Token(); err != io.EOF {
		return p.fail("%.50v after the end of the JSON", t)
	}
	return nil
}
