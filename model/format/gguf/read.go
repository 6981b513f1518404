package gguf

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"os"
	"slices"

	"hasten/model/format"
)

// File is an open file: its keys, and its tensors. Its methods may be called
// from several goroutines.
type File struct {
	name    string
	r       io.ReaderAt
	size    int64
	keys    map[string]any
	tensors map[string]Tensor
}

// Tensor describes a tensor.
type Tensor struct {
	Name  string
	Type  Type
	Shape []int // the slowest dimension first: [out, in] of a matrix

	at int64 // where its data begin in the file
}

// Elements is the number of elements.
func (t Tensor) Elements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Open opens a file and reads all but the tensors' data.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	var g *File
	if err == nil {
		g, err = Read(f, info.Size(), path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return g, nil
}

// Read reads a file of size bytes from r; name stands for it in errors.
func Read(r io.ReaderAt, size int64, name string) (*File, error) {
	f := &File{name: name, r: r, size: size, keys: make(map[string]any), tensors: make(map[string]Tensor)}
	d := decoder{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10), size: size}
	if err := f.parse(&d); err != nil {
		return nil, fmt.Errorf("%s: byte %d: %w", name, d.at, err)
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error {
	if c, ok := f.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Keys lists the keys, sorted.
func (f *File) Keys() []string { return slices.Sorted(maps.Keys(f.keys)) }

// Value is the value of a key: a number of the type it has in the file, a
// bool, a string, or a slice of one of these. It is nil when there is no such key.
func (f *File) Value(key string) any { return f.keys[key] }

// Names lists the tensors, sorted.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.tensors)) }

// Tensor finds a tensor.
func (f *File) Tensor(name string) (t Tensor, ok bool) {
	t, ok = f.tensors[name]
	return t, ok
}

// ReadFloats reads len(dst) elements from element first on, in row-major order.
func (f *File) ReadFloats(name string, first int, dst []float32) error {
	t, ok := f.tensors[name]
	if !ok {
		return fmt.Errorf("%s: there is no tensor %.100q", f.name, name)
	}
	number, ok := t.Type.Float()
	if !ok {
		return fmt.Errorf("%s: tensor %.100q is quantised or of integers (%v); only f32, f16, bf16 and f64 can be read", f.name, name, t.Type)
	}
	if n := t.Elements(); first < 0 || first > n || len(dst) > n-first {
		return fmt.Errorf("%s: tensor %.100q: %d to %d of %d", f.name, name, first, first+len(dst), n)
	}
	if err := format.ReadFloats(f.r, t.at+int64(first)*int64(number.Size()), number, dst); err != nil {
		return fmt.Errorf("%s: tensor %.100q: %w", f.name, name, err)
	}
	return nil
}

func (f *File) parse(d *decoder) error {
	head := d.bytes(4)
	v := d.uint32()
	tensors, keys := d.uint64(), d.uint64()
	switch {
	case d.err != nil:
		return d.err
	case string(head) != magic:
		return fmt.Errorf("it begins with %q; is it a GGUF file?", head)
	case v != 2 && v != version:
		return fmt.Errorf("version %d of GGUF is not known; this program knows 2 and 3", v)
	}
	for range keys {
		name := d.text()
		value := d.value(kind(d.uint32()), false)
		if d.err != nil {
			return fmt.Errorf("key %.100q: %w", name, d.err)
		}
		if _, ok := f.keys[name]; ok {
			return fmt.Errorf("key %.100q comes twice", name)
		}
		f.keys[name] = value
	}
	align := uint64(alignment)
	if v, ok := f.keys["general.alignment"]; ok {
		a, ok := v.(uint32)
		if !ok || a == 0 || a > 1<<20 || a&(a-1) != 0 {
			return fmt.Errorf("general.alignment is %v; want a power of two", v)
		}
		align = uint64(a)
	}
	var list []Tensor
	for range tensors {
		t, err := d.tensor(align)
		if err != nil {
			return err
		}
		list = append(list, t)
	}
	return f.place(d, list, align)
}

// place makes the tensors' offsets absolute, and sure that their data lie in
// the file, apart.
func (f *File) place(d *decoder, list []Tensor, align uint64) error {
	data := (d.at + int64(align) - 1) / int64(align) * int64(align)
	for i := range list {
		t := &list[i]
		if data > f.size || t.at > f.size-data {
			return fmt.Errorf("tensor %.100q: its data would begin at byte %d of %d", t.Name, t.at, max(0, f.size-data))
		}
		t.at += data
		if _, ok := f.tensors[t.Name]; ok {
			return fmt.Errorf("tensor %.100q comes twice", t.Name)
		}
		f.tensors[t.Name] = *t
	}
	slices.SortFunc(list, func(a, b Tensor) int { return cmp.Compare(a.at, b.at) })
	for i, t := range list {
		end := f.size
		if i+1 < len(list) {
			end = list[i+1].at
		}
		number, ok := t.Type.Float()
		if n := int64(t.Elements()); ok && n > (end-t.at)/int64(number.Size()) {
			return fmt.Errorf("tensor %.100q: shape %v of %v does not fit between bytes %d and %d", t.Name, t.Shape, t.Type, t.at, end)
		}
	}
	return nil
}

// decoder reads numbers and texts. After its first error it reads zeros.
type decoder struct {
	r    *bufio.Reader
	at   int64
	size int64
	err  error
}

// room makes sure that n items of at least size bytes can still come, so that
// no count in the file makes the program allocate more than the file has.
func (d *decoder) room(n uint64, size int64) bool {
	if d.err == nil && n > uint64((d.size-d.at)/size) {
		d.err = fmt.Errorf("%d items of at least %d bytes, where %d bytes are left", n, size, d.size-d.at)
	}
	return d.err == nil
}

func (d *decoder) bytes(n uint64) []byte {
	if !d.room(n, 1) {
		return nil
	}
	b := make([]byte, n)
	got, err := io.ReadFull(d.r, b)
	d.at += int64(got)
	if err != nil {
		d.err = err
		return nil
	}
	return b
}

// uint is an unsigned integer of size bytes.
func (d *decoder) uint(size int) uint64 {
	var b [8]byte
	if !d.room(uint64(size), 1) {
		return 0
	}
	got, err := io.ReadFull(d.r, b[:size])
	d.at += int64(got)
	if err != nil {
		d.err = err
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

func (d *decoder) uint32() uint32 { return uint32(d.uint(4)) }
func (d *decoder) uint64() uint64 { return d.uint(8) }
func (d *decoder) text() string   { return string(d.bytes(d.uint64())) }

// value reads a value; an array in an array is refused.
func (d *decoder) value(k kind, inArray bool) any {
	switch k {
	case kindUint8:
		return uint8(d.uint(1))
	case kindInt8:
		return int8(d.uint(1))
	case kindUint16:
		return uint16(d.uint(2))
	case kindInt16:
		return int16(d.uint(2))
	case kindUint32:
		return d.uint32()
	case kindInt32:
		return int32(d.uint32())
	case kindFloat32:
		return math.Float32frombits(d.uint32())
	case kindBool:
		return d.uint(1) != 0
	case kindString:
		return d.text()
	case kindUint64:
		return d.uint64()
	case kindInt64:
		return int64(d.uint64())
	case kindFloat64:
		return math.Float64frombits(d.uint64())
	case kindArray:
		if !inArray {
			return d.array()
		}
	}
	if d.err == nil {
		d.err = fmt.Errorf("values of type %d are not known here", k)
	}
	return nil
}

func (d *decoder) array() any {
	k := kind(d.uint32())
	n := d.uint64()
	switch k {
	case kindUint8:
		return list[uint8](d, k, n, 1)
	case kindInt8:
		return list[int8](d, k, n, 1)
	case kindUint16:
		return list[uint16](d, k, n, 2)
	case kindInt16:
		return list[int16](d, k, n, 2)
	case kindUint32:
		return list[uint32](d, k, n, 4)
	case kindInt32:
		return list[int32](d, k, n, 4)
	case kindFloat32:
		return list[float32](d, k, n, 4)
	case kindBool:
		return list[bool](d, k, n, 1)
	case kindString:
		return list[string](d, k, n, 8)
	case kindUint64:
		return list[uint64](d, k, n, 8)
	case kindInt64:
		return list[int64](d, k, n, 8)
	case kindFloat64:
		return list[float64](d, k, n, 8)
	}
	return d.value(k, true)
}

// list reads n values of at least size bytes each.
func list[T any](d *decoder, k kind, n uint64, size int64) []T {
	if !d.room(n, size) {
		return nil
	}
	all := make([]T, n)
	for i := range all {
		v, ok := d.value(k, true).(T)
		if d.err != nil || !ok {
			return nil
		}
		all[i] = v
	}
	return all
}

// tensor reads the description of a tensor and checks it by itself.
func (d *decoder) tensor(align uint64) (Tensor, error) {
	t := Tensor{Name: d.text()}
	rank := d.uint32()
	if d.err == nil && rank > 4 {
		d.err = fmt.Errorf("%d dimensions; want at most 4", rank)
	}
	total := uint64(1)
	for range rank {
		if d.err != nil {
			break
		}
		n := d.uint64()
		hi, lo := bits.Mul64(total, n)
		if n == 0 || hi > 0 || lo > math.MaxInt/8 {
			d.err = fmt.Errorf("dimension %d of %d numbers", len(t.Shape)+1, n)
			break
		}
		total = lo
		t.Shape = append(t.Shape, int(n))
	}
	slices.Reverse(t.Shape)
	t.Type = Type(d.uint32())
	at := d.uint64()
	if d.err == nil && (at%align != 0 || at > math.MaxInt64) {
		d.err = errors.New("its data are not aligned")
	}
	t.at = int64(at)
	if d.err != nil {
		return t, fmt.Errorf("tensor %.100q: %w", t.Name, d.err)
	}
	return t, nil
}
