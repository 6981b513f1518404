package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hasten/engine/rng"
	"hasten/model/format"
)

// file puts a file together from its header's text and its data.
func build(header string, data string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func open(b []byte) (*Reader, error) {
	return NewReader(bytes.NewReader(b), int64(len(b)), "x.safetensors")
}

// A file as the format's description and its own library make it.
func TestGolden(t *testing.T) {
	want := build(`{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},`+
		`"b":{"dtype":"BF16","shape":[1,3],"data_offsets":[8,14]},"e":{"dtype":"F16","shape":[0],"data_offsets":[14,14]},`+
		`"u":{"dtype":"U8","shape":[],"data_offsets":[14,15]}}      `,
		"\x00\x00\x80\x3f\x00\x00\x00\xc0"+"\x80\x3f\x00\x40\x40\x40"+"\x07")
	var got bytes.Buffer
	err := Write(&got, nil, []Entry{
		{Name: "u", DType: U8, Bytes: []byte{7}},
		{Name: "b", DType: BF16, Shape: []int{1, 3}, Values: format.Of([]float32{1, 2, 3})},
		{Name: "e", DType: F16, Shape: []int{0}, Values: format.Of(nil)},
		{Name: "a", DType: F32, Shape: []int{2}, Values: format.Of([]float32{1, -2})},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("wrote\n%q, want\n%q", got.Bytes(), want)
	}
	if n := binary.LittleEndian.Uint64(want); n%8 != 0 {
		t.Errorf("the header has %d bytes", n)
	}
	r, err := open(want)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Names(); !slices.Equal(got, []string{"a", "b", "e", "u"}) {
		t.Errorf("names %q", got)
	}
	if r.Metadata()["format"] != "pt" {
		t.Errorf("metadata %v", r.Metadata())
	}
	b, _ := r.Tensor("b")
	if b.DType != BF16 || !slices.Equal(b.Shape, []int{1, 3}) || b.Elements() != 3 {
		t.Errorf("b is %+v", b)
	}
	x := make([]float32, 2)
	if err := r.ReadFloats("b", 1, x); err != nil || !slices.Equal(x, []float32{2, 3}) {
		t.Errorf("b[1:] is %v, %v", x, err)
	}
	u := make([]byte, 1)
	if err := r.ReadBytes("u", 0, u); err != nil || u[0] != 7 {
		t.Errorf("u is %v, %v", u, err)
	}
	for _, bad := range []error{
		r.ReadFloats("b", 2, x), r.ReadFloats("b", -1, x), r.ReadFloats("u", 0, x[:1]), r.ReadFloats("none", 0, x),
		r.ReadBytes("b", 5, make([]byte, 2)), r.ReadBytes("none", 0, u),
	} {
		if bad == nil || !strings.Contains(bad.Error(), "x.safetensors") {
			t.Errorf("error %v", bad)
		}
	}
}

func TestDamageIsAnErrorThatNamesThePlace(t *testing.T) {
	const f32 = `{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`
	for _, c := range []struct {
		name string
		file []byte
		want string // in the error
	}{
		{"nothing", nil, "0 bytes"},
		{"no header", []byte("\x02\x00\x00\x00\x00\x00\x00\x00"), "byte 0"},
		{"header longer than the file", build(`{}`, "")[:9], "byte 0"},
		{"huge header", []byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"), "byte 0"},
		{"other JSON", build(`[]`, ""), "byte 8"},
		{"space first", build(` {}`, ""), "byte 8"},
		{"cut JSON", build(`{"a":`+f32, "1234"), "byte 61"},
		{"not UTF-8", build("{\"\xff\":"+f32+"}", "1234"), "UTF-8"},
		{"name twice", build(`{"a":`+f32+`,"a":`+f32+`}`, "1234"), `"a" comes twice`},
		{"field twice", build(`{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "1234"), `"dtype" comes twice`},
		{"unknown field", build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}`, "1234"), `field "x"`},
		{"deep", build(strings.Repeat(`{"a":`, 9000)+"1"+strings.Repeat("}", 9000), ""), `tensor "a"`},
		{"deep lists", build(`{"a":{"shape":`+strings.Repeat(`[`, 9000), ""), `tensor "a"`},
		{"text after", build(`{"a":`+f32+`}x`, "1234"), "after the end"},
		{"no shape", build(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, "1234"), "want dtype"},
		{"unknown type", build(`{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}}`, "1234"), `"F4"`},
		{"fraction", build(`{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}`, "1234"), "1.0"},
		{"negative", build(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, "1234"), "-1"},
		{"three offsets", build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}`, "1234"), "at most 2"},
		{"one offset", build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}`, "1234"), "two data_offsets"},
		{"backwards", build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, "1234"), "4 to 0"},
		{"behind the end", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, "1234"), "has 4 bytes"},
		{"shape and size", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, "1234"), "[2] of F32"},
		{"overflow", build(`{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}`, "1234"), "does not make"},
		{"overflow in steps", build(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, ""), "does not make"},
		{"overlap", build(`{"a":`+f32+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`, "123456"), `tensor "b": its data at byte`},
		{"same place", build(`{"a":`+f32+`,"b":`+f32+`}`, "1234"), "overlap"},
		{"hole", build(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "12"), "belong to no tensor"},
		{"more at the end", build(`{"a":`+f32+`}`, "12345"), "belong to no tensor"},
		{"metadata not text", build(`{"__metadata__":{"a":1}}`, ""), "string"},
		{"rank", build(`{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}`, "1234"), "at most 16"},
	} {
		_, err := open(c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "x.safetensors") {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
	if _, err := open(build(`{"a":`+f32+`}  `, "1234")); err != nil {
		t.Errorf("undamaged: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	one := format.Of([]float32{1})
	for name, entries := range map[string][]Entry{
		"twice":          {{Name: "a", Shape: []int{1}, Values: one}, {Name: "a", Shape: []int{1}, Values: one}},
		"reserved":       {{Name: "__metadata__", Shape: []int{1}, Values: one}},
		"not UTF-8":      {{Name: "\xff", Shape: []int{1}, Values: one}},
		"negative":       {{Name: "a", Shape: []int{-1}, Values: one}},
		"overflow":       {{Name: "a", Shape: []int{math.MaxInt, math.MaxInt}, Values: one}},
		"floats as ints": {{Name: "a", DType: I32, Shape: []int{1}, Values: one}},
		"bytes":          {{Name: "a", DType: I32, Shape: []int{1}, Bytes: []byte{1}}},
		"type":           {{Name: "a", DType: dtypes, Shape: []int{1}, Values: one}},
		"too large":      {{Name: "a", DType: F16, Shape: []int{1}, Values: format.Of([]float32{1e6})}},
	} {
		if err := Write(io.Discard, nil, entries); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func write(t testing.TB, path string, entries ...Entry) {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, nil, entries); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestShards(t *testing.T) {
	dir := t.TempDir()
	one := func(name string, v float32) Entry {
		return Entry{Name: name, Shape: []int{1}, Values: format.Of([]float32{v})}
	}
	write(t, filepath.Join(dir, FileName), one("single", 0))
	r, err := OpenDir(dir)
	if err != nil || !slices.Equal(r.Names(), []string{"single"}) {
		t.Fatalf("without an index: %v", err)
	}
	r.Close()
	if err := os.Remove(filepath.Join(dir, FileName)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "m-1.safetensors"), one("a", 1), one("b", 2))
	write(t, filepath.Join(dir, "m-2.safetensors"), one("c", 3))
	write(t, filepath.Join(dir, "m-3.safetensors"), one("c", 4))
	for _, c := range []struct{ index, want string }{
		{`{"metadata":{"total_size":12,"x":[{}]},"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}`, ""},
		{`{"weight_map":{"a":"m-1.safetensors","c":"m-2.safetensors"}}`, `"b" of`},
		{`{"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors","d":"m-2.safetensors"}}`, `"d" is not in`},
		{`{"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}`, `"a" is not in`},
		{`{"weight_map":{"c":"m-2.safetensors","d":"m-3.safetensors"}}`, `as well`},
		{`{"weight_map":{"a":"m-9.safetensors"}}`, `m-9`},
		{`{"weight_map":{"a":"../m-1.safetensors"}}`, `beside the index`},
		{`{"weight_map":{"a":"/etc/passwd"}}`, `beside the index`},
		{`{"weight_map":{"a":"m-1.safetensors","a":"m-2.safetensors"}}`, `twice`},
		{`{"weight_map":{}}`, `no weight_map`},
		{`{}`, `no weight_map`},
		{`{"weight_map":`, `byte 14`},
	} {
		if err := os.WriteFile(filepath.Join(dir, IndexName), []byte(c.index), 0o666); err != nil {
			t.Fatal(err)
		}
		r, err := OpenDir(dir)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), IndexName) {
				t.Errorf("%s: error %v", c.index, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range r.Names() {
			x := make([]float32, 1)
			if err := r.ReadFloats(name, 0, x); err != nil || x[0] != float32(i+1) {
				t.Errorf("%s is %v, %v", name, x, err)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenOfWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "absent.safetensors"), filepath.Join(dir, "absent.json")} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// sample is a small but complete file.
func sample(t testing.TB) []byte {
	var b bytes.Buffer
	s := rng.New(1, 0)
	x := make([]float32, 60)
	s.FillNormal(x, 0, 1)
	err := Write(&b, map[string]string{"made by": "hasten"}, []Entry{
		{Name: "w", DType: F32, Shape: []int{3, 4}, Values: format.Of(x)},
		{Name: "h", DType: F16, Shape: []int{60}, Values: format.Of(x)},
		{Name: "i", DType: I64, Shape: []int{1}, Bytes: make([]byte, 8)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// use reads all that a reader offers.
func use(t testing.TB, r *Reader) {
	for _, name := range r.Names() {
		d, _ := r.Tensor(name)
		n := 1
		for _, s := range d.Shape {
			n *= s
		}
		if n != d.Elements() {
			t.Fatalf("%q: %d elements of shape %v", name, d.Elements(), d.Shape)
		}
		if err := r.ReadBytes(name, 0, make([]byte, n*d.DType.Size())); err != nil {
			t.Fatal(err)
		}
		err := r.ReadFloats(name, 0, make([]float32, n))
		if _, ok := d.DType.Float(); ok && err != nil {
			t.Fatal(err)
		}
	}
}

// A megabyte that is random, cut, or has flipped bits is an error or a valid
// file, and never takes much more memory than it has bytes.
func TestRandomDamage(t *testing.T) {
	s := rng.New(2, 0)
	valid := sample(t)
	big := build(`{"w":{"dtype":"F32","shape":[262144],"data_offsets":[0,1048576]}}`, strings.Repeat("x", 1<<20))
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(s.Uint32())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	try := func(b []byte) {
		if r, err := open(b); err == nil {
			use(t, r)
		}
	}
	try(noise)
	try(append(binary.LittleEndian.AppendUint64(nil, 1<<20-100), noise...))
	try(append(build("{", ""), noise...))
	for range 2000 {
		b := slices.Clone(valid)
		for range 1 + s.IntN(3) {
			b[s.IntN(len(b))] ^= 1 << s.IntN(8)
		}
		try(b)
		try(valid[:s.IntN(len(valid))])
	}
	for range 20 {
		try(big[:s.IntN(len(big))])
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 256<<20 {
		t.Errorf("%d MiB allocated", used>>20)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(sample(f))
	f.Add(build(`{}`, ""))
	f.Add(build(`{"__metadata__":{"a":"b"},"a":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]}}`, "1"))
	f.Add(build(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}`, ""))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := open(data); err == nil {
			use(t, r)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":12},"weight_map":{"a":"m-1.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../m.safetensors"}}`))
	f.Add([]byte(`{"x":[[[{}]]],"weight_map":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		index, err := parseIndex(data)
		if err != nil {
			return
		}
		for _, file := range index {
			if !filepath.IsLocal(file) || filepath.Base(file) != file {
				t.Errorf("accepted %q", file)
			}
		}
	})
}

func Example() {
	var b bytes.Buffer
	err := Write(&b, nil, []Entry{{Name: "w", DType: BF16, Shape: []int{2, 2}, Values: format.Of([]float32{1, 2, 3, 4})}})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()), "w.safetensors")
	if err != nil {
		fmt.Println(err)
		return
	}
	row := make([]float32, 2)
	fmt.Println(r.ReadFloats("w", 2, row), row)
	// Output: <nil> [3 4]
}
