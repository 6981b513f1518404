package source

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// IDX is an array from a file in the format of MNIST: a type, a shape, and the
// elements in row-major order.
type IDX struct {
	Type  IDXType
	Shape []int
	Data  []byte // the elements, big endian; for IDXUint8 the values themselves
}

// IDXType is the type of an IDX array's elements.
type IDXType uint8

// The types.
const (
	IDXUint8   IDXType = 0x08
	IDXInt8    IDXType = 0x09
	IDXInt16   IDXType = 0x0b
	IDXInt32   IDXType = 0x0c
	IDXFloat32 IDXType = 0x0d
	IDXFloat64 IDXType = 0x0e
)

// Size is the number of bytes of an element, 0 for an unknown type.
func (t IDXType) Size() int {
	switch t {
	case IDXUint8, IDXInt8:
		return 1
	case IDXInt16:
		return 2
	case IDXInt32, IDXFloat32:
		return 4
	case IDXFloat64:
		return 8
	}
	return 0
}

// ReadIDX reads an IDX file; one that ends in .gz or .zst is decompressed.
func ReadIDX(path string) (*IDX, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	f := newFile(path, filepath.Base(path), info)
	c, err := f.openBinary()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	x, err := parseIDX(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return x, nil
}

// parseIDX reads an array that must fill r. What the header promises is not
// believed: memory grows with what is there.
func parseIDX(r io.Reader) (*IDX, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, short(err, "an IDX header")
	}
	x := &IDX{Type: IDXType(head[2])}
	dims := int(head[3])
	if head[0] != 0 || head[1] != 0 || x.Type.Size() == 0 || dims == 0 {
		return nil, fmt.Errorf("not an IDX file: it begins with % x, want 00 00, a type (08, 09, 0b … 0e) and the number of dimensions", head)
	}
	size := int64(x.Type.Size())
	for range dims {
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, short(err, fmt.Sprintf("the sizes of %d dimensions", dims))
		}
		n := int64(binary.BigEndian.Uint32(b[:]))
		if n > 0 && size > math.MaxInt32*64/n { // 128 GiB
			return nil, fmt.Errorf("IDX dimensions %v × %d: too large to be true", x.Shape, n)
		}
		size *= n
		x.Shape = append(x.Shape, int(n))
	}
	data, err := io.ReadAll(io.LimitReader(r, size+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(data)) < size:
		return nil, fmt.Errorf("IDX data of shape %v take %d bytes, and the file ends after %d; fetch it again", x.Shape, size, len(data))
	case int64(len(data)) > size:
		return nil, fmt.Errorf("more bytes than the %d of IDX data of shape %v", size, x.Shape)
	}
	x.Data = data
	return x, nil
}

func short(err error, want string) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("the file ends before %s", want)
	}
	return err
}

// Len is the number of elements.
func (x *IDX) Len() int { return len(x.Data) / x.Type.Size() }

// Float32s converts the elements from position at on, len(dst) of them.
func (x *IDX) Float32s(dst []float32, at int) {
	size := x.Type.Size()
	b := x.Data[at*size : (at+len(dst))*size]
	for i := range dst {
		switch e := b[i*size:]; x.Type {
		case IDXUint8:
			dst[i] = float32(e[0])
		case IDXInt8:
			dst[i] = float32(int8(e[0]))
		case IDXInt16:
			dst[i] = float32(int16(binary.BigEndian.Uint16(e)))
		case IDXInt32:
			dst[i] = float32(int32(binary.BigEndian.Uint32(e)))
		case IDXFloat32:
			dst[i] = math.Float32frombits(binary.BigEndian.Uint32(e))
		case IDXFloat64:
			dst[i] = float32(math.Float64frombits(binary.BigEndian.Uint64(e)))
		}
	}
}
