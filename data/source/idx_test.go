package source

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestIDX(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		file  string
		shape []int
		want  []float32
	}{
		"u8":     {"\x00\x00\x08\x02\x00\x00\x00\x02\x00\x00\x00\x03\x00\x01\x02\x03\x04\xff", []int{2, 3}, []float32{0, 1, 2, 3, 4, 255}},
		"i8":     {"\x00\x00\x09\x01\x00\x00\x00\x02\x7f\x80", []int{2}, []float32{127, -128}},
		"i16":    {"\x00\x00\x0b\x01\x00\x00\x00\x02\x01\x02\xff\xfe", []int{2}, []float32{258, -2}},
		"i32":    {"\x00\x00\x0c\x01\x00\x00\x00\x01\xff\xff\xff\xf0", []int{1}, []float32{-16}},
		"f32":    {"\x00\x00\x0d\x01\x00\x00\x00\x01\x3f\xc0\x00\x00", []int{1}, []float32{1.5}},
		"f64":    {"\x00\x00\x0e\x01\x00\x00\x00\x01\xbf\xf8\x00\x00\x00\x00\x00\x00", []int{1}, []float32{-1.5}},
		"none":   {"\x00\x00\x08\x02\x00\x00\x00\x00\x00\x00\x00\x03", []int{0, 3}, nil},
		"bom.gz": {compress(t, "gz", "\x00\x00\x08\x01\x00\x00\x00\x01\x07"), []int{1}, []float32{7}},
	} {
		x, err := ReadIDX(write(t, dir, name, c.file))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := make([]float32, x.Len())
		x.Float32s(got, 0)
		if !slices.Equal(x.Shape, c.shape) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v %v, want %v %v", name, x.Shape, got, c.shape, c.want)
		}
		if len(got) > 1 {
			if x.Float32s(got[:1], 1); got[0] != c.want[1] {
				t.Errorf("%s: element 1 is %g", name, got[0])
			}
		}
	}
	for name, c := range map[string]struct{ file, word string }{
		"empty":    {"", "header"},
		"magic":    {"\x01\x00\x08\x01\x00\x00\x00\x01\x00", "not an IDX"},
		"type":     {"\x00\x00\x07\x01\x00\x00\x00\x01\x00", "not an IDX"},
		"scalar":   {"\x00\x00\x08\x00\x00", "not an IDX"},
		"shape":    {"\x00\x00\x08\x02\x00\x00\x00\x01", "2 dimensions"},
		"short":    {"\x00\x00\x08\x01\x00\x00\x00\x02\x00", "ends after 1"},
		"long":     {"\x00\x00\x08\x01\x00\x00\x00\x01\x00\x00", "more bytes"},
		"lies":     {"\x00\x00\x0e\x01\xff\xff\xff\xff\x00", "ends after 1"},
		"overflow": {"\x00\x00\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "too large"},
		"cut.gz":   {compress(t, "gz", strings.Repeat("x", 1000))[:15], "cut.gz"},
	} {
		if _, err := ReadIDX(write(t, dir, name, c.file)); err == nil || !strings.Contains(err.Error(), c.word) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want %q", name, err, c.word)
		}
	}
	if _, err := ReadIDX(filepath.Join(dir, "absent")); err == nil {
		t.Error("an absent file")
	}
}

// The real digits, where they are installed.
func TestIDXReadsMNIST(t *testing.T) {
	d, _ := Lookup("mnist")
	dir, err := d.Find()
	if err != nil && os.Getenv("HASTEN_FULL") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	labels, err := ReadIDX(filepath.Join(dir, "t10k-labels-idx1-ubyte.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(labels.Shape, []int{10000}) || !slices.Equal(labels.Data[:5], []byte{7, 2, 1, 0, 4}) {
		t.Errorf("shape %v, first labels %v", labels.Shape, labels.Data[:5])
	}
	images, err := ReadIDX(filepath.Join(dir, "t10k-images-idx3-ubyte.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(images.Shape, []int{10000, 28, 28}) {
		t.Errorf("shape %v", images.Shape)
	}
}

func FuzzIDX(f *testing.F) {
	f.Add([]byte("\x00\x00\x08\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x00\x00\x0e\x01\xff\xff\xff\xff\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		x, err := parseIDX(bytes.NewReader(file))
		if err != nil {
			return
		}
		n := 1
		for _, d := range x.Shape {
			n *= d
		}
		if n != x.Len() || len(file) != 4+4*len(x.Shape)+len(x.Data) {
			t.Fatalf("shape %v of %d elements, file of %d bytes", x.Shape, x.Len(), len(file))
		}
		x.Float32s(make([]float32, n), 0)
	})
}
