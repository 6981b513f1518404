package source

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"
)

const (
	pieceSize = 1 << 20  // a long text comes in pieces of at least this many bytes
	slack     = 64 << 10 // and how far beyond to look for a good place to cut
)

// texts yields a plain text, in pieces.
func (f *file) texts(o *Options) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		total := int64(-1) // where validation begins
		if f.split == tailValid {
			n, err := f.length()
			if err != nil {
				yield(Document{}, err)
				return
			}
			total = n - max(1, int64(o.ValidFraction*float64(n)))
		}
		c, err := f.open()
		if err != nil {
			yield(Document{}, err)
			return
		}
		defer c.Close()
		p := pieces{r: c}
		line, at := 1, int64(0)
		for {
			want := int64(pieceSize)
			if at < total {
				want = min(want, total-at)
			}
			text, last, err := p.next(int(want))
			if err != nil {
				yield(Document{}, err)
				return
			}
			d := Document{Name: f.name, Line: line, Text: text, Valid: f.split == allValid || f.split == tailValid && at >= total}
			lines := bytes.Count(text, newline)
			at += int64(len(text))
			d.More = !last && (d.Valid || f.split != tailValid || at < total)
			if d.Text, err = o.utf8(text, f.path, line); err != nil {
				yield(Document{}, err)
				return
			}
			if !yield(d, nil) || last {
				return
			}
			line += lines
		}
	}
}

// length is the number of bytes of the file's text.
func (f *file) length() (int64, error) {
	c, err := f.open()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return io.Copy(io.Discard, c)
}

// pieces cuts a text.
type pieces struct {
	r    io.Reader
	rest []byte // read and not yet given out
	eof  bool
}

// next returns at least want bytes, up to the first good place for a cut, or
// all that is left; last says that nothing is left.
func (p *pieces) next(want int) (text []byte, last bool, err error) {
	buf := p.rest
	for !p.eof && len(buf) < want+slack {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(max(2*cap(buf), 8<<10), want+slack)), buf...)
		}
		n, err := p.r.Read(buf[len(buf):min(cap(buf), want+slack)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			p.eof = true
		case err != nil:
			return nil, false, err
		}
	}
	k := cut(buf, want)
	p.rest = bytes.Clone(buf[k:])
	return buf[:k:k], k == len(buf), nil
}

var newline = []byte{'\n'}

// cut returns the first good place at or after position from of a text: before
// a line that begins with no white space, or before a space after none, or
// else between two characters. At the first two, tokenisers that split on
// white space before they merge give the same tokens as for the whole.
func cut(b []byte, from int) int {
	if from >= len(b) {
		return len(b)
	}
	for i := max(from, 1); ; i++ {
		k := bytes.IndexByte(b[i-1:], '\n')
		if k < 0 || i+k >= len(b) {
			break
		}
		i += k
		if !white(b[i]) {
			return i
		}
	}
	for i := max(from, 1); i < len(b); i++ {
		if b[i] == ' ' && !white(b[i-1]) {
			return i
		}
	}
	for i := from; i < min(from+utf8.UTFMax, len(b)); i++ {
		if utf8.RuneStart(b[i]) {
			return i
		}
	}
	return from // not UTF-8
}

func white(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// utf8 checks, and with Replace mends, text that begins on the given line.
func (o *Options) utf8(text []byte, path string, line int) ([]byte, error) {
	switch {
	case utf8.Valid(text):
		return text, nil
	case o.Replace:
		return bytes.ToValidUTF8(text, []byte("\ufffd")), nil
	}
	i := invalid(text)
	line += bytes.Count(text[:i], newline)
	return nil, fmt.Errorf("%s:%d: byte 0x%02x is not UTF-8; convert the file to UTF-8, or have such bytes replaced", path, line, text[i])
}

// invalid is the position of the first byte that is not UTF-8, len(b) if all are.
func invalid(b []byte) int {
	i := 0
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return i
}

// sniff reads the file's first mebibyte and tells why it is not text, or "". A
// file that is open to repair (Replace) may hold bytes that are not UTF-8; so
// may one that was named (the error then comes with its line).
func (f *file) sniff(repair bool) (why string, err error) {
	c, err := f.open()
	if err != nil {
		return "", err
	}
	defer c.Close()
	head, last, err := (&pieces{r: io.LimitReader(c, pieceSize)}).next(pieceSize - utf8.UTFMax)
	switch {
	case err != nil:
		return "", err
	case last && len(head) == 0:
		return "empty", nil
	case bytes.IndexByte(head, 0) >= 0:
		return "binary", nil
	case !repair && !utf8.Valid(head):
		return "not UTF-8", nil
	}
	return "", nil
}
