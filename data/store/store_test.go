package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hasten/data/source"
	"hasten/engine/memory"
)

// random returns n tokens below vocab, the least and the largest among them.
func random(n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(uint64(n), uint64(vocab)))
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(r.IntN(vocab))
	}
	if n > 1 {
		x[0], x[n-1] = 0, int32(vocab-1)
	}
	return x
}

func all(t testing.TB, s *Tokens) []int32 {
	t.Helper()
	x := make([]int32, s.Len())
	if err := s.Read(x, 0); err != nil {
		t.Fatal(err)
	}
	return x
}

// unmapped turns a mapped stream into one that is read with ReadAt.
func unmapped(s *Tokens) *Tokens {
	c := *s
	c.data = nil
	return &c
}

func TestKinds(t *testing.T) {
	for vocab, want := range map[int]Kind{1: U8, 256: U8, 257: U16, 65536: U16, 65537: I32, math.MaxInt32: I32} {
		if got := KindFor(vocab); got != want {
			t.Errorf("KindFor(%d) = %v, want %v", vocab, got, want)
		}
	}
	for _, k := range []Kind{U8, U16, I32} {
		if got, err := ParseKind(k.String()); got != k || err != nil {
			t.Errorf("ParseKind(%q) = %v, %v", k, got, err)
		}
	}
	if _, err := ParseKind("f32"); err == nil {
		t.Error("f32 is no kind of token")
	}
}

// A stream reads the same in memory, mapped and through ReadAt, and the file
// is what numpy.fromfile would take it for.
func TestReadEveryWay(t *testing.T) {
	dir := t.TempDir()
	for _, vocab := range []int{200, 256, 257, 65536, 70000, math.MaxInt32} {
		for _, n := range []int{1, 2, 1000, chunkSize + 7} {
			want := random(n, vocab)
			name := fmt.Sprintf("%d tokens of %d", n, vocab)
			path := filepath.Join(dir, fmt.Sprintf("%d-%d.bin", vocab, n))
			file, err := Create(path, vocab)
			if err != nil {
				t.Fatal(err)
			}
			inMemory := NewWriter(vocab)
			streams := make([]*Tokens, 2)
			for i, w := range []*Writer{file, inMemory} {
				w.Document()
				for at := 0; at < n; at += 300_000 {
					if err := w.Append(want[at:min(at+300_000, n)], 1); err != nil {
						t.Fatal(err)
					}
				}
				if streams[i], err = w.Finish(); err != nil {
					t.Fatal(err)
				}
				defer streams[i].Close()
			}
			if _, _, err := mapFile(streams[0].file, 1); err == nil && streams[0].data == nil {
				t.Errorf("%s: the file is not mapped", name)
			}
			for i, s := range append(streams, unmapped(streams[0])) {
				if got := all(t, s); !slices.Equal(got, want) {
					t.Fatalf("%s: reading %d differs", name, i)
				}
				for _, k := range [][2]int{{0, 1}, {n / 3, n / 2}, {n - 1, n}, {n, n}} {
					got := make([]int32, max(0, k[1]-k[0]))
					if err := s.Read(got, int64(k[0])); err != nil || !slices.Equal(got, want[k[0]:max(k[0], k[1])]) {
						t.Fatalf("%s: reading %d of %v differs, %v", name, i, k, err)
					}
				}
				if s.Kind() != KindFor(vocab) || s.Vocab() != vocab || s.Len() != int64(n) {
					t.Errorf("%s: %v, vocabulary %d", name, s, s.Vocab())
				}
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(raw, plain(want, KindFor(vocab))) {
				t.Errorf("%s: the file has other bytes", name)
			}
		}
	}
}

func plain(tokens []int32, k Kind) (b []byte) {
	for _, t := range tokens {
		switch k {
		case U8:
			b = append(b, uint8(t))
		case U16:
			b = binary.LittleEndian.AppendUint16(b, uint16(t))
		case I32:
			b = binary.LittleEndian.AppendUint32(b, uint32(t))
		}
	}
	return b
}

func TestReadBeyondTheEnd(t *testing.T) {
	s, err := FromSlice(random(10, 300), 300, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		n  int
		at int64
	}{{1, 10}, {11, 0}, {1, -1}, {5, 6}, {1, math.MaxInt64}, {0, 11}} {
		if err := s.Read(make([]int32, c.n), c.at); err == nil {
			t.Errorf("%d tokens from %d: no error", c.n, c.at)
		}
	}
}

func TestVocabularyIsChecked(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []Kind{U8, U16, I32} {
		tokens := random(1000, 100)
		tokens[700] = 100
		path := filepath.Join(dir, kind.String())
		if err := os.WriteFile(path, plain(tokens, kind), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := OpenRaw(path, kind, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Tokens{s, unmapped(s)} {
			if err := s.Read(make([]int32, 100), 600); err != nil {
				t.Errorf("%v: before the bad one: %v", kind, err)
			}
			err := s.Read(make([]int32, 100), 650)
			if err == nil || !strings.Contains(err.Error(), "token 100 at position 700") {
				t.Errorf("%v: error %v", kind, err)
			}
		}
		s.Close()
		if s, err = OpenRaw(path, kind, 0); err != nil {
			t.Fatal(err)
		}
		if err := s.Read(make([]int32, 1000), 0); err != nil {
			t.Errorf("%v, vocabulary unknown: %v", kind, err)
		}
		s.Close()
	}
	path := filepath.Join(dir, "negative")
	if err := os.WriteFile(path, plain([]int32{1, -1}, I32), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := OpenRaw(path, I32, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Read(make([]int32, 2), 0); err == nil || !strings.Contains(err.Error(), "token -1 at position 1") {
		t.Errorf("error %v", err)
	}
	for _, bad := range []int32{-1, 100} {
		w := NewWriter(100)
		if err := w.Append([]int32{5}, 0); err != nil {
			t.Fatal(err)
		}
		if err := w.Append([]int32{6, bad}, 0); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("token %d at position 2", bad)) {
			t.Errorf("Append(%d): %v", bad, err)
		}
	}
}

func TestDocumentsAndBits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.bin")
	w, err := Create(path, 256)
	if err != nil {
		t.Fatal(err)
	}
	w.Document()
	w.Append([]int32{1, 2, 3}, 6)
	w.Document()
	w.Document() // one without tokens
	w.Append([]int32{4}, 2)
	w.Append([]int32{5}, 2)
	w.Document()
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !slices.Equal(s.Starts(), []int64{0, 3}) || s.TextBytes() != 10 {
		t.Errorf("documents at %v, %d bytes", s.Starts(), s.TextBytes())
	}
	if got := s.BitsPerByte(math.Ln2 * 3); math.Abs(got-1.5) > 1e-12 {
		t.Errorf("3 bits for each of 5 tokens of 10 bytes make %g bits per byte", got)
	}
	raw, err := OpenRaw(path, U8, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if raw.Starts() != nil || !math.IsNaN(raw.BitsPerByte(1)) {
		t.Error("a raw file knows more than it can")
	}
	if left, _ := filepath.Glob(path + ".tmp-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	make := func(name string) string {
		path := filepath.Join(dir, name)
		w, err := Create(path, 1000)
		if err != nil {
			t.Fatal(err)
		}
		w.Document()
		w.Append(random(50, 1000), 50)
		w.Document()
		w.Append(random(50, 1000), 50)
		s, err := w.Finish()
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		return path
	}
	edit := func(path, old, new string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte(old)) {
			t.Fatalf("%s lacks %q", path, old)
		}
		if err := os.WriteFile(path, bytes.Replace(text, []byte(old), []byte(new), 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		spoil func(path string)
		word  string
	}{
		"no description": {func(p string) { os.Remove(p + ".json") }, "u8, u16 or i32"},
		"no tokens":      {func(p string) { os.Remove(p) }, "no tokens"},
		"no documents":   {func(p string) { os.Remove(p + ".docs") }, ".docs"},
		"cut tokens":     {func(p string) { os.Truncate(p, 198) }, "198 bytes"},
		"cut documents":  {func(p string) { os.Truncate(p+".docs", 15) }, "15 bytes"},
		"cut words":      {func(p string) { os.Truncate(p+".json", 20) }, ".json"},
		"kind":           {func(p string) { edit(p+".json", "u16", "u64") }, "u64"},
		"format":         {func(p string) { edit(p+".json", "tokens 1", "tokens 2") }, "description"},
		"negative":       {func(p string) { edit(p+".json", `"tokens": 100`, `"tokens": -1`) }, "description"},
		"order":          {func(p string) { os.WriteFile(p+".docs", make8(50, 0), 0o644) }, "document 1"},
		"beyond":         {func(p string) { os.WriteFile(p+".docs", make8(0, 100), 0o644) }, "document 1"},
	} {
		path := make(name)
		c.spoil(path)
		s, err := Open(path)
		if err == nil || !strings.Contains(err.Error(), c.word) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	path := make("raw")
	for _, c := range []struct {
		kind  Kind
		vocab int
	}{{I32, -1}, {0, 5}, {9, 5}} {
		if _, err := OpenRaw(path, c.kind, c.vocab); err == nil {
			t.Errorf("OpenRaw(%v, %d): no error", c.kind, c.vocab)
		}
	}
	os.WriteFile(path, []byte("12345"), 0o644)
	if _, err := OpenRaw(path, U16, 0); err == nil || !strings.Contains(err.Error(), "whole number") {
		t.Errorf("an odd file of u16: %v", err)
	}
	os.WriteFile(path, nil, 0o644)
	if _, err := OpenRaw(path, U8, 0); err == nil {
		t.Error("an empty file: no error")
	}
	if _, err := NewWriter(5).Finish(); err == nil {
		t.Error("an empty stream: no error")
	}
}

func make8(v ...uint64) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

func TestMemoryIsCountedAndGivenBack(t *testing.T) {
	before := memory.Default.Usage().Live[memory.Data]
	s, err := FromSlice(random(100_000, 256), 256, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := memory.Default.Usage().Live[memory.Data] - before; got < 100_000 || got > 101_000 {
		t.Errorf("%d bytes live for 100000", got)
	}
	s.Close()
	s.Close()
	if got := memory.Default.Usage().Live[memory.Data] - before; got != 0 {
		t.Errorf("%d bytes live after Close", got)
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.bin")
	w, err := Create(path, 60000)
	if err != nil {
		t.Fatal(err)
	}
	w.Append(random(10_000, 60000), 0)
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dst := make([]int32, 257)
	for _, s := range []*Tokens{s, unmapped(s)} {
		if n := testing.AllocsPerRun(100, func() {
			if err := s.Read(dst, 4321); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%g allocations", n)
		}
	}
}

// letters encodes a byte as its value, and takes its time in turns, so that
// chunks end out of order.
type letters struct{ calls atomic.Int64 }

func (l *letters) Encode(dst []int32, text []byte) []int32 {
	if l.calls.Add(1)%7 == 0 {
		time.Sleep(time.Millisecond)
	}
	for _, b := range text {
		dst = append(dst, int32(b))
	}
	return dst
}

// documents is a corpus in memory.
type documents struct {
	docs  []source.Document
	err   error // after the documents
	print string
}

func (d *documents) Documents() iter.Seq2[source.Document, error] {
	return func(yield func(source.Document, error) bool) {
		for _, x := range d.docs {
			if !yield(x, nil) {
				return
			}
		}
		if d.err != nil {
			yield(source.Document{}, d.err)
		}
	}
}

func (d *documents) Size() (n int64) {
	for _, x := range d.docs {
		n += int64(len(x.Text))
	}
	return n
}

func (d *documents) Fingerprint() string { return d.print }

// corpus makes documents of many sizes, some in pieces, some for validation.
func corpus(n int) *documents {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	c := &documents{print: fmt.Sprint("corpus ", n)}
	for i := range n {
		valid := i%10 == 3
		for pieces := 1 + i%5/4*3; pieces > 0; pieces-- {
			text := make([]byte, 1+r.IntN(40_000))
			for k := range text {
				text[k] = byte('a' + r.IntN(26))
			}
			c.docs = append(c.docs, source.Document{Text: text, Valid: valid, More: pieces > 1})
		}
	}
	return c
}

// serial is what Tokenize must give.
func serial(c *documents, eos int32, valid bool) (tokens []int32, starts []int64, bytes int64) {
	begins := true
	for _, d := range c.docs {
		if d.Valid != valid {
			continue
		}
		if begins {
			starts = append(starts, int64(len(tokens)))
		}
		begins = !d.More
		tokens = new(letters).Encode(tokens, d.Text)
		bytes += int64(len(d.Text))
		if eos >= 0 && begins {
			tokens = append(tokens, eos)
		}
	}
	return tokens, starts, bytes
}

func TestTokenizeKeepsTheOrder(t *testing.T) {
	for _, n := range []int{1, 2, 11, 120} {
		for _, eos := range []int32{-1, 256} {
			c := corpus(n)
			train, valid := NewWriter(300), NewWriter(300)
			var seen Counts
			sum, err := Tokenize(c.Documents(), new(letters), eos, Output{train, valid, func(c Counts) { seen = c }})
			if err != nil {
				t.Fatal(err)
			}
			var want Counts
			for v, w := range map[bool]*Writer{false: train, true: valid} {
				tokens, starts, bytes := serial(c, eos, v)
				want.Documents += int64(len(starts))
				want.Bytes += bytes
				want.Tokens += int64(len(tokens))
				if len(tokens) == 0 {
					continue
				}
				s, err := w.Finish()
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(all(t, s), tokens) || !slices.Equal(s.Starts(), starts) || s.TextBytes() != bytes {
					t.Errorf("%d documents, eos %d, validation %t: another stream", n, eos, v)
				}
				s.Close()
			}
			if sum != want || seen != want {
				t.Errorf("counts %+v, progress %+v, want %+v", sum, seen, want)
			}
		}
	}
	c := corpus(30) // one side only
	w := NewWriter(300)
	sum, err := Tokenize(c.Documents(), new(letters), -1, Output{Valid: w})
	if tokens, _, _ := serial(c, -1, true); err != nil || sum.Tokens != int64(len(tokens)) || w.Len() != sum.Tokens {
		t.Errorf("validation only: %+v, %v", sum, err)
	}
}

func TestTokenizeStopsAtErrors(t *testing.T) {
	c := corpus(50)
	c.err = errors.New("line 7 is bad")
	w := NewWriter(300)
	if _, err := Tokenize(c.Documents(), new(letters), -1, Output{w, w, nil}); err != c.err {
		t.Errorf("error %v, want that of the documents", err)
	}
	pulled := 0
	endless := func(yield func(source.Document, error) bool) {
		for yield(source.Document{Text: bytes.Repeat([]byte("z"), 100_000)}, nil) {
			pulled++
		}
	}
	w = NewWriter('z') // z itself is not in
	if _, err := Tokenize(endless, new(letters), -1, Output{Train: w}); err == nil || !strings.Contains(err.Error(), "token 122 at position 0") {
		t.Errorf("error %v, want that of the writer", err)
	}
	if pulled > 1000 {
		t.Errorf("%d documents read after the error", pulled)
	}
}

func TestLoad(t *testing.T) {
	c := corpus(100)
	wantTrain, trainStarts, _ := serial(c, 256, false)
	wantValid, _, _ := serial(c, 256, true)
	check := func(what string, d *Dataset, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !slices.Equal(all(t, d.Train), wantTrain) || !slices.Equal(all(t, d.Valid), wantValid) || !slices.Equal(d.Train.Starts(), trainStarts) {
			t.Errorf("%s: another stream", what)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "cache")
	o := LoadOptions{Vocab: 300, EOS: 256, Tokenizer: "letters", Dir: dir}
	d, err := Load(c, new(letters), o)
	check("in memory", d, err)
	if _, err := os.Stat(dir); err == nil {
		t.Error("small data went to the cache")
	}
	o.Memory = -1
	first := new(letters)
	d, err = Load(c, first, o)
	check("to the cache", d, err)
	again := new(letters)
	d, err = Load(c, again, o)
	check("from the cache", d, err)
	if first.calls.Load() == 0 || again.calls.Load() != 0 {
		t.Errorf("%d and %d calls of the encoder", first.calls.Load(), again.calls.Load())
	}
	for what, change := range map[string]func(*LoadOptions, *documents){
		"tokeniser":  func(o *LoadOptions, _ *documents) { o.Tokenizer = "other" },
		"vocabulary": func(o *LoadOptions, _ *documents) { o.Vocab = 301 },
		"documents":  func(_ *LoadOptions, c *documents) { c.print = "other" },
	} {
		o, c := o, *c
		change(&o, &c)
		enc := new(letters)
		d, err := Load(&c, enc, o)
		check(what, d, err)
		if enc.calls.Load() == 0 {
			t.Errorf("another %s, and the encoder was not called", what)
		}
	}
	// A damaged entry is made again, and what killed processes left is swept away.
	entries, _ := filepath.Glob(filepath.Join(dir, "*", trainFile))
	for _, e := range entries {
		os.Truncate(e, 100)
	}
	old := filepath.Join(dir, "tmp-old")
	os.Mkdir(old, 0o755)
	os.Chtimes(old, time.Now(), time.Now().Add(-48*time.Hour))
	d, err = Load(c, new(letters), o)
	check("over a damaged entry", d, err)
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// No cache without knowing what is in it.
	for _, o := range []LoadOptions{{Vocab: 300, EOS: 256, Dir: dir, Memory: -1}, {Vocab: 300, EOS: 256, Tokenizer: "letters", Dir: dir, Memory: -1}} {
		c := *c
		if o.Tokenizer != "" {
			c.print = ""
		}
		enc := new(letters)
		d, err := Load(&c, enc, o)
		check("uncached", d, err)
		if enc.calls.Load() == 0 {
			t.Error("came from the cache")
		}
	}
}

func TestLoadAtOnce(t *testing.T) {
	c := corpus(60)
	want, _, _ := serial(c, -1, false)
	dir := t.TempDir()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			d, err := Load(c, new(letters), LoadOptions{Vocab: 256, EOS: -1, Tokenizer: "letters", Dir: dir, Memory: -1})
			if err != nil {
				t.Error(err)
				return
			}
			got := make([]int32, d.Train.Len())
			if err := d.Train.Read(got, 0); err != nil || !slices.Equal(got, want) {
				t.Errorf("another stream, %v", err)
			}
			d.Close()
		})
	}
	wait.Wait()
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d entries in the cache, want 1", len(entries))
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	o := LoadOptions{Vocab: 256, EOS: -1, Tokenizer: "letters", Dir: dir, Memory: -1}
	onlyValid := &documents{docs: []source.Document{{Text: []byte("x"), Valid: true}}, print: "v"}
	if _, err := Load(onlyValid, new(letters), o); err == nil || !strings.Contains(err.Error(), "validation") {
		t.Errorf("no training data: %v", err)
	}
	broken := &documents{docs: onlyValid.docs, err: errors.New("line 7 is bad"), print: "b"}
	if _, err := Load(broken, new(letters), o); err == nil || !strings.Contains(err.Error(), "line 7") {
		t.Errorf("bad data: %v", err)
	}
	if _, err := Load(onlyValid, new(letters), LoadOptions{}); err == nil {
		t.Error("no vocabulary: no error")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	onlyTrain := &documents{docs: []source.Document{{Text: []byte("x")}}, print: "t"}
	for range 2 { // made, and from the cache
		d, err := Load(onlyTrain, new(letters), o)
		if err != nil || d.Valid != nil || d.Train.Len() != 1 {
			t.Fatalf("no validation: %+v, %v", d, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A token file is believed only where it is true to itself.
func FuzzTokenFile(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "a.bin")
	f.Add([]byte{1, 2, 3, 4}, make8(0, 1), []byte(`{"format":"hasten tokens 1","kind":"u16","vocab":999,"tokens":2,"documents":2,"text_bytes":3}`))
	f.Add([]byte{1, 2, 3, 4}, []byte{}, []byte(`{"format":"hasten tokens 1","kind":"i32","tokens":1}`))
	f.Fuzz(func(t *testing.T, data, docs, description []byte) {
		for name, b := range map[string][]byte{"": data, ".docs": docs, ".json": description} {
			if err := os.WriteFile(path+name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(path)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		defer s.Close()
		if s.Len()*int64(s.Kind().Size()) != int64(len(data)) || len(s.Starts())*8 != len(docs) && len(s.Starts()) > 0 {
			t.Fatalf("%v of %d bytes, %d documents of %d", s, len(data), len(s.Starts()), len(docs))
		}
		a, b := make([]int32, s.Len()), make([]int32, s.Len())
		errA, errB := s.Read(a, 0), unmapped(s).Read(b, 0)
		if !reflect.DeepEqual(a, b) || fmt.Sprint(errA) != fmt.Sprint(errB) {
			t.Fatalf("mapped and unmapped differ: %v, %v", errA, errB)
		}
		if errA == nil && s.Vocab() > 0 && int(slices.Max(a)) >= s.Vocab() {
			t.Fatal("a token beyond the vocabulary")
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for _, vocab := range []int{256, 50257, 200_000} {
		b.Run(KindFor(vocab).String(), func(b *testing.B) {
			s, err := FromSlice(random(1<<20, vocab), vocab, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			dst := make([]int32, 1025)
			b.SetBytes(int64(len(dst)) * 4)
			for at := int64(0); b.Loop(); at = (at + 777) % (1<<20 - 1025) {
				if err := s.Read(dst, at); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
