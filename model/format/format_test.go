package format

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"
)

func TestFloatsThereAndBack(t *testing.T) {
	for _, f := range []Float{F32, F64, F16, BF16} {
		if g, err := ParseFloat(f.String()); g != f || err != nil {
			t.Errorf("ParseFloat(%v) = %v, %v", f, g, err)
		}
		for _, n := range []int{0, 1, 7, chunk - 1, chunk, 2*chunk + 5} {
			x, y := make([]float32, n), make([]float32, n)
			for i := range x {
				x[i] = float32(i%256) / 8 // exact in every format
			}
			var b bytes.Buffer
			b.WriteString("abc")
			if err := WriteFloats(&b, f, n, Of(x)); err != nil {
				t.Fatal(err)
			}
			if b.Len() != 3+n*f.Size() {
				t.Fatalf("%v: %d bytes for %d", f, b.Len(), n)
			}
			if err := ReadFloats(bytes.NewReader(b.Bytes()), 3, f, y); err != nil {
				t.Fatal(err)
			}
			for i := range x {
				if x[i] != y[i] {
					t.Fatalf("%v: element %d of %d is %g, want %g", f, i, n, y[i], x[i])
				}
			}
			if n > 0 {
				if err := ReadFloats(bytes.NewReader(b.Bytes()[:b.Len()-1]), 3, f, y); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%v, cut: %v", f, err)
				}
			}
		}
	}
}

func TestWhatDoesNotFitIsAnError(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		f  Float
		v  float32
		ok bool
	}{
		{F16, 65504, true}, {F16, 65520, false}, {F16, -1e30, false}, {F16, inf, true}, {F16, -inf, true},
		{BF16, 1e38, true}, {BF16, math.MaxFloat32, false}, {BF16, inf, true}, {F32, math.MaxFloat32, true},
	} {
		x := []float32{0, c.v}
		if err := WriteFloats(io.Discard, c.f, 2, Of(x)); (err == nil) != c.ok {
			t.Errorf("%v, %g: %v", c.f, c.v, err)
		}
	}
	mine := errors.New("mine")
	if err := WriteFloats(io.Discard, F32, 1, func([]float32, int) error { return mine }); err != mine {
		t.Errorf("the source's error: %v", err)
	}
	if err := ReadFloats(errReaderAt{}, 0, F32, make([]float32, 1)); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("the reader's error: %v", err)
	}
}

type errReaderAt struct{}

func (errReaderAt) ReadAt([]byte, int64) (int, error) { return 0, iotest.ErrTimeout }

func TestLayoutInTheFile(t *testing.T) {
	var b bytes.Buffer
	if err := WriteFloats(&b, F32, 1, Of([]float32{1})); err != nil {
		t.Fatal(err)
	}
	if err := WriteFloats(&b, BF16, 1, Of([]float32{-2})); err != nil {
		t.Fatal(err)
	}
	if err := WriteFloats(&b, F16, 2, Of([]float32{1.5, 0x1p-24})); err != nil {
		t.Fatal(err)
	}
	if err := WriteFloats(&b, F64, 1, Of([]float32{1})); err != nil {
		t.Fatal(err)
	}
	want := []byte{0, 0, 0x80, 0x3f, 0, 0xc0, 0, 0x3e, 1, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%x, want %x", b.Bytes(), want)
	}
}

func BenchmarkReadFloats(b *testing.B) {
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(i * 7)
	}
	x := make([]float32, 1<<20)
	for _, f := range []Float{F32, F16, BF16} {
		b.Run(f.String(), func(b *testing.B) {
			b.SetBytes(int64(len(x) * f.Size()))
			for b.Loop() {
				if err := ReadFloats(bytes.NewReader(data), 0, f, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
