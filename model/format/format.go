// Package format is what the file formats of models have in common: float32
// values on one side, numbers of a stored format on the other, and a buffer of
// fixed size between them, so that no model has to fit in memory twice.
//
//	safetensors   tensors by name: what PyTorch and Hugging Face read and write
//	hf            a model directory in Hugging Face layout: config.json and safetensors
//	gguf          one file with weights and tokenizer, which llama.cpp runs
package format

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"hasten/engine/simd"
)

// Float is a stored format of floating-point numbers, little-endian.
type Float uint8

// The formats.
const (
	F32  Float = iota // IEEE 754 binary32
	F64               // IEEE 754 binary64
	F16               // IEEE 754 binary16
	BF16              // the upper half of binary32
)

func (f Float) String() string {
	if f <= BF16 {
		return [...]string{"f32", "f64", "f16", "bf16"}[f]
	}
	return fmt.Sprintf("Float(%d)", uint8(f))
}

// Size is the number of bytes of one number.
func (f Float) Size() int { return [...]int{4, 8, 2, 2}[f] }

// ParseFloat is the format with a name: f32, f64, f16 or bf16.
func ParseFloat(name string) (Float, error) {
	for f := F32; f <= BF16; f++ {
		if f.String() == name {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%q is no number format; want f32, f64, f16 or bf16", name)
}

// Values gives the values of a tensor to a writer: it fills dst with the
// elements first, first+1, … in row-major order. A writer asks for them once,
// in order.
type Values func(dst []float32, first int) error

// Of gives the values of a slice.
func Of(x []float32) Values {
	return func(dst []float32, first int) error {
		copy(dst, x[first:first+len(dst)])
		return nil
	}
}

// chunk is how many numbers are converted at a time.
const chunk = 32 << 10

// ReadFloats reads len(dst) numbers from byte off of r. Binary64 is rounded to
// the nearest float32; the other formats are exact.
func ReadFloats(r io.ReaderAt, off int64, f Float, dst []float32) error {
	c := newConverter(f, len(dst))
	for len(dst) > 0 {
		n := min(len(dst), chunk)
		b := c.bytes[:n*f.Size()]
		if got, err := r.ReadAt(b, off); got < len(b) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("at byte %d: %w", off+int64(got), err)
		}
		c.decode(dst[:n])
		dst = dst[n:]
		off += int64(len(b))
	}
	return nil
}

// WriteFloats writes the n values of a tensor, rounded to the nearest, ties to
// even. A finite value that the format cannot hold is an error.
func WriteFloats(w io.Writer, f Float, n int, values Values) error {
	x := make([]float32, min(n, chunk))
	c := newConverter(f, n)
	for first := 0; first < n; first += chunk {
		x := x[:min(n-first, chunk)]
		if err := values(x, first); err != nil {
			return err
		}
		if i := c.encode(x); i >= 0 {
			return fmt.Errorf("element %d is %g, which %v cannot hold; store the model in f32", first+i, x[i], f)
		}
		if _, err := w.Write(c.bytes[:len(x)*f.Size()]); err != nil {
			return err
		}
	}
	return nil
}

// converter holds the numbers under way.
type converter struct {
	format Float
	bytes  []byte
	words  []uint16 // for the formats of 16 bits
}

func newConverter(f Float, n int) converter {
	n = min(n, chunk)
	c := converter{format: f, bytes: make([]byte, n*f.Size())}
	if f.Size() == 2 {
		c.words = make([]uint16, n)
	}
	return c
}

// decode converts the first len(dst) numbers of c.bytes.
func (c *converter) decode(dst []float32) {
	words := c.words[:min(len(c.words), len(dst))]
	for i := range words {
		words[i] = binary.LittleEndian.Uint16(c.bytes[2*i:])
	}
	switch c.format {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(c.bytes[4*i:]))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(c.bytes[8*i:])))
		}
	case F16:
		simd.FromF16(dst, words)
	case BF16:
		simd.FromBF16(dst, words)
	}
}

// encode converts x to c.bytes. It returns the index of the first value that
// does not fit, or -1.
func (c *converter) encode(x []float32) int {
	words := c.words[:min(len(c.words), len(x))]
	inf := uint16(0x7c00)
	switch c.format {
	case F32:
		for i, v := range x {
			binary.LittleEndian.PutUint32(c.bytes[4*i:], math.Float32bits(v))
		}
	case F64:
		for i, v := range x {
			binary.LittleEndian.PutUint64(c.bytes[8*i:], math.Float64bits(float64(v)))
		}
	case F16:
		simd.ToF16(words, x)
	case BF16:
		simd.ToBF16(words, x)
		inf = 0x7f80
	}
	for i, h := range words {
		if h&0x7fff == inf && !math.IsInf(float64(x[i]), 0) {
			return i
		}
		binary.LittleEndian.PutUint16(c.bytes[2*i:], h)
	}
	return -1
}
