package safetensors

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hasten/model/format"
)

// IndexName is the file that says in which file of a sharded model a tensor is.
const IndexName = "model.safetensors.index.json"

// FileName is the file of a model that is not sharded.
const FileName = "model.safetensors"

const (
	maxHeader = 100 << 20 // the limit of the format's own library
	maxRank   = 16
	maxShards = 4096
)

// Tensor describes one tensor of a file.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // empty for a single number

	file  *file
	at    int64 // where its data begin in the file
	bytes int64
}

// Elements is the number of elements.
func (t Tensor) Elements() int { return int(t.bytes) / t.DType.Size() }

// Reader reads the tensors of a model, from one file or several. Its methods
// may be called from several goroutines.
type Reader struct {
	files    []*file
	tensors  map[string]Tensor
	metadata map[string]string
}

// file is an open file: a model that is not sharded, or a shard.
type file struct {
	name string
	r    io.ReaderAt
	size int64
	data int64 // where the data begin
}

// Open opens a file, or the files of a sharded model when path ends in .json.
func Open(path string) (*Reader, error) {
	r := &Reader{tensors: make(map[string]Tensor), metadata: make(map[string]string)}
	var err error
	if strings.HasSuffix(path, ".json") {
		err = r.openIndex(path)
	} else {
		err = r.openFile(path)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// OpenDir opens the model of a directory: model.safetensors, or, where that is
// absent, the files of the index.
func OpenDir(dir string) (*Reader, error) {
	single, index := filepath.Join(dir, FileName), filepath.Join(dir, IndexName)
	if _, err := os.Stat(single); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(index); err == nil {
			return Open(index)
		}
	}
	return Open(single)
}

// NewReader reads a file of size bytes from r; name stands for it in errors.
func NewReader(r io.ReaderAt, size int64, name string) (*Reader, error) {
	s := &Reader{tensors: make(map[string]Tensor), metadata: make(map[string]string)}
	if err := s.add(&file{name: name, r: r, size: size}); err != nil {
		return nil, err
	}
	return s, nil
}

// Close closes the files.
func (r *Reader) Close() error {
	var err error
	for _, f := range r.files {
		if c, ok := f.r.(io.Closer); ok {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// Names lists the tensors, sorted.
func (r *Reader) Names() []string { return slices.Sorted(maps.Keys(r.tensors)) }

// Tensor finds a tensor.
func (r *Reader) Tensor(name string) (t Tensor, ok bool) {
	t, ok = r.tensors[name]
	return t, ok
}

// Metadata is the text that the file carries beside its tensors; of several
// files, the first that has a key gives its value.
func (r *Reader) Metadata() map[string]string { return r.metadata }

// ReadFloats reads len(dst) elements from element first on, in row-major
// order, and converts them from F32, F64 (rounding), F16 or BF16.
func (r *Reader) ReadFloats(name string, first int, dst []float32) error {
	t, err := r.part(name, int64(first), int64(len(dst)), 0)
	if err != nil {
		return err
	}
	f, ok := t.DType.Float()
	if !ok {
		return fmt.Errorf("%s: tensor %.100q holds %v, not floating-point numbers", t.file.name, name, t.DType)
	}
	if err := format.ReadFloats(t.file.r, t.at+int64(first)*int64(f.Size()), f, dst); err != nil {
		return fmt.Errorf("%s: tensor %.100q: %w", t.file.name, name, err)
	}
	return nil
}

// ReadBytes reads len(dst) bytes of a tensor of any type, from its byte first on.
func (r *Reader) ReadBytes(name string, first int, dst []byte) error {
	t, err := r.part(name, int64(first), int64(len(dst)), 1)
	if err != nil {
		return err
	}
	if n, err := t.file.r.ReadAt(dst, t.at+int64(first)); n < len(dst) {
		return fmt.Errorf("%s: tensor %.100q: at byte %d: %w", t.file.name, name, t.at+int64(first+n), err)
	}
	return nil
}

// part finds a tensor and makes sure that n pieces from the first on, each of
// size bytes, or one element for size 0, lie in it.
func (r *Reader) part(name string, first, n, size int64) (Tensor, error) {
	t, ok := r.tensors[name]
	if !ok {
		return t, fmt.Errorf("%s: there is no tensor %.100q", r.files[0].name, name)
	}
	if size == 0 {
		size = int64(t.DType.Size())
	}
	if first < 0 || first > t.bytes/size || n > t.bytes/size-first {
		return t, fmt.Errorf("%s: tensor %.100q: %d to %d of %d", t.file.name, name, first, first+n, t.bytes/size)
	}
	return t, nil
}

func (r *Reader) openFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err == nil {
		err = r.add(&file{name: path, r: f, size: info.Size()})
	}
	if err != nil {
		f.Close()
	}
	return err
}

// add reads the header of f and adds its tensors.
func (r *Reader) add(f *file) error {
	tensors, metadata, err := f.header()
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	for _, t := range tensors {
		if other, ok := r.tensors[t.Name]; ok {
			return fmt.Errorf("%s: tensor %.100q is in %s as well", f.name, t.Name, other.file.name)
		}
		r.tensors[t.Name] = t
	}
	for k, v := range metadata {
		if _, ok := r.metadata[k]; !ok {
			r.metadata[k] = v
		}
	}
	r.files = append(r.files, f)
	return nil
}

// header reads and checks the header. Its memory is bounded by the file's size.
func (f *file) header() ([]Tensor, map[string]string, error) {
	var length [8]byte
	if f.size < int64(len(length)) {
		return nil, nil, fmt.Errorf("%d bytes are too few for a safetensors file", f.size)
	}
	if _, err := f.r.ReadAt(length[:], 0); err != nil && err != io.EOF {
		return nil, nil, err
	}
	n := binary.LittleEndian.Uint64(length[:])
	if room := uint64(f.size) - 8; n < 2 || n > min(room, maxHeader) {
		return nil, nil, fmt.Errorf("byte 0: a header of %d bytes; want 2 to %d in this file (is it a safetensors file?)", n, min(room, maxHeader))
	}
	buf := make([]byte, n)
	if got, err := f.r.ReadAt(buf, 8); got < len(buf) {
		return nil, nil, fmt.Errorf("byte %d: %w", 8+got, err)
	}
	if buf[0] != '{' {
		return nil, nil, fmt.Errorf("byte 8: the header begins with %q, not with a brace", buf[0])
	}
	f.data = 8 + int64(n)
	tensors, metadata, err := f.parse(buf)
	if err == nil {
		err = f.checkLayout(tensors)
	}
	return tensors, metadata, err
}

func (f *file) parse(header []byte) (tensors []Tensor, metadata map[string]string, err error) {
	p, err := newParser(header, 8)
	if err != nil {
		return nil, nil, err
	}
	metadata = make(map[string]string)
	err = p.object(func(name string) error {
		if name == "__metadata__" {
			return p.object(func(key string) (err error) {
				metadata[key], err = p.str()
				return err
			})
		}
		t, err := f.tensor(p, name)
		if err != nil {
			return fmt.Errorf("tensor %.100q: %w", name, err)
		}
		tensors = append(tensors, t)
		return nil
	})
	if err == nil {
		err = p.end()
	}
	return tensors, metadata, err
}

// tensor reads the description of one tensor and checks it by itself.
func (f *file) tensor(p *parser, name string) (Tensor, error) {
	t := Tensor{Name: name, file: f}
	var shape, offsets []int64
	var dtype string
	err := p.object(func(key string) (err error) {
		switch key {
		case "dtype":
			dtype, err = p.str()
		case "shape":
			shape, err = p.numbers(maxRank)
		case "data_offsets":
			offsets, err = p.numbers(2)
		default:
			err = p.fail("unknown field %.100q", key)
		}
		return err
	})
	if err != nil {
		return t, err
	}
	if shape == nil || len(offsets) != 2 {
		return t, p.fail("want dtype, shape and two data_offsets")
	}
	var ok bool
	if t.DType, ok = parseDType(dtype); !ok {
		return t, p.fail("dtype %.50q is not known", dtype)
	}
	begin, end := offsets[0], offsets[1]
	if begin > end || end > f.size-f.data {
		return t, p.fail("data_offsets %d to %d, where the file has %d bytes of data", begin, end, f.size-f.data)
	}
	size, ok := product(shape, t.DType.Size())
	if !ok || size != end-begin {
		return t, p.fail("shape %v of %v does not make the %d bytes of data_offsets %d to %d", shape, t.DType, end-begin, begin, end)
	}
	t.Shape = make([]int, len(shape))
	for i, n := range shape {
		if n > math.MaxInt {
			return t, p.fail("shape %v is too large", shape) // on 32-bit machines, with a 0 beside it
		}
		t.Shape[i] = int(n)
	}
	t.at, t.bytes = f.data+begin, end-begin
	return t, nil
}

// product is size times all of shape, unless that is no int64.
func product(shape []int64, size int) (int64, bool) {
	total := uint64(size)
	for _, n := range shape {
		hi, lo := bits.Mul64(total, uint64(n))
		if hi > 0 || lo > math.MaxInt64 {
			return 0, false
		}
		total = lo
	}
	return int64(total), true
}

// checkLayout makes sure that the tensors fill the data without overlap or hole.
func (f *file) checkLayout(tensors []Tensor) error {
	sorted := slices.Clone(tensors)
	slices.SortFunc(sorted, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.bytes, b.bytes)) // empty ones first
	})
	next := f.data
	for _, t := range sorted {
		switch {
		case t.at < next:
			return fmt.Errorf("tensor %.100q: its data at byte %d overlap those of another tensor, which end at byte %d", t.Name, t.at, next)
		case t.at > next:
			return fmt.Errorf("tensor %.100q: its data begin at byte %d, but bytes %d on belong to no tensor", t.Name, t.at, next)
		}
		next += t.bytes
	}
	if next != f.size {
		return fmt.Errorf("bytes %d to %d belong to no tensor", next, f.size)
	}
	return nil
}

// openIndex opens the shards that an index names.
func (r *Reader) openIndex(path string) error {
	index, err := readIndex(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, shard := range slices.Compact(slices.Sorted(maps.Values(index))) {
		if err := r.openFile(filepath.Join(filepath.Dir(path), shard)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for name, shard := range index {
		t, ok := r.tensors[name]
		if !ok || filepath.Base(t.file.name) != shard {
			return fmt.Errorf("%s: tensor %.100q is not in %s", path, name, shard)
		}
	}
	for name, t := range r.tensors {
		if _, ok := index[name]; !ok {
			return fmt.Errorf("%s: tensor %.100q of %s is not listed", path, name, t.file.name)
		}
	}
	return nil
}

func readIndex(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHeader+1))
	if err != nil {
		return nil, err
	}
	return parseIndex(data)
}

// parseIndex reads {"metadata": …, "weight_map": {tensor: file, …}}.
func parseIndex(data []byte) (map[string]string, error) {
	if len(data) > maxHeader {
		return nil, fmt.Errorf("an index has %d bytes at most", maxHeader)
	}
	p, err := newParser(data, 0)
	if err != nil {
		return nil, err
	}
	index := make(map[string]string)
	shards := make(map[string]bool)
	err = p.object(func(key string) error {
		if key != "weight_map" {
			return p.skip()
		}
		return p.object(func(name string) error {
			file, err := p.str()
			if err != nil {
				return err
			}
			// The shards lie beside the index: a path would let a model from
			// elsewhere open any file.
			if !strings.HasSuffix(file, ".safetensors") || strings.ContainsAny(file, `/\:`) || !filepath.IsLocal(file) {
				return p.fail("%.100q is not the name of a .safetensors file beside the index", file)
			}
			index[name], shards[file] = file, true
			if len(shards) > maxShards {
				return p.fail("more than %d files", maxShards)
			}
			return nil
		})
	})
	if err == nil {
		err = p.end()
	}
	if err == nil && len(index) == 0 {
		err = errors.New("the index has no weight_map")
	}
	return index, err
}
