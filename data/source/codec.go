package source

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// content is a file's bytes, decompressed.
type content struct {
	*bufio.Reader
	file *os.File
	done func() // ends the decompressor, if it needs that
}

// open opens a text, without its byte order mark. Read errors name the file.
func (f *file) open() (*content, error) {
	c, err := f.openBinary()
	if err == nil {
		if head, _ := c.Peek(3); string(head) == "\ufeff" {
			c.Discard(3)
		}
	}
	return c, err
}

// openBinary opens anything. Read errors name the file.
func (f *file) openBinary() (*content, error) {
	h, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	c := &content{file: h, done: func() {}}
	from := &explainer{path: f.path, r: h}
	switch f.codec {
	case "gz":
		z, err := gzip.NewReader(bufio.NewReader(h))
		if err != nil {
			h.Close()
			return nil, from.explain(err)
		}
		from.r = z
	case "zst":
		z, err := zstd.NewReader(h, zstd.WithDecoderConcurrency(1))
		if err != nil {
			h.Close()
			return nil, from.explain(err)
		}
		from.r, c.done = z, z.Close
	}
	c.Reader = bufio.NewReaderSize(from, 64<<10)
	return c, nil
}

func (c *content) Close() error {
	c.done()
	return c.file.Close()
}

// explainer gives read errors the file's name and the place.
type explainer struct {
	path string
	r    io.Reader
	n    int64
}

func (e *explainer) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.n += int64(n)
	if err != nil && err != io.EOF {
		err = e.explain(err)
	}
	return n, err
}

func (e *explainer) explain(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: compressed data end early, after %d bytes of content; the file is cut short, fetch it again", e.path, e.n)
	}
	return fmt.Errorf("%s: after %d bytes of content: %w", e.path, e.n, err)
}
