package source

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
)

// write makes a file below dir and returns its path.
func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// whole is a document with its pieces put together.
type whole struct {
	Name  string
	Line  int
	Text  string
	Valid bool
}

// collect reads all documents, and checks what Document promises of pieces.
func collect(t testing.TB, docs iter.Seq2[Document, error]) ([]whole, error) {
	t.Helper()
	var all []whole
	more, line := false, 0
	for d, err := range docs {
		if err != nil {
			return all, err
		}
		if len(d.Text) == 0 {
			t.Fatalf("%s:%d: an empty document", d.Name, d.Line)
		}
		if more {
			last := &all[len(all)-1]
			if d.Name != last.Name || d.Valid != last.Valid || d.Line != line {
				t.Fatalf("%s:%d (valid %t) goes on with %s:%d (valid %t)", d.Name, d.Line, d.Valid, last.Name, line, last.Valid)
			}
			last.Text += string(d.Text)
		} else {
			all = append(all, whole{d.Name, d.Line, string(d.Text), d.Valid})
		}
		more, line = d.More, d.Line+strings.Count(string(d.Text), "\n")
	}
	if more {
		t.Fatal("the last piece says there are more")
	}
	return all, nil
}

func mustOpen(t testing.TB, spec string, o Options) *Source {
	t.Helper()
	s, err := Open(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustCollect(t testing.TB, s *Source) []whole {
	t.Helper()
	all, err := collect(t, s.Documents())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wantError checks that opening or reading fails, with all the words.
func wantError(t *testing.T, spec string, o Options, words ...string) {
	t.Helper()
	s, err := Open(spec, o)
	if err == nil {
		defer s.Close()
		_, err = collect(t, s.Documents())
	}
	if err == nil {
		t.Errorf("%s: no error", spec)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: error %q lacks %q", spec, err, w)
		}
	}
}

func names0(all []whole) []string {
	var n []string
	for _, d := range all {
		n = append(n, d.Name)
	}
	return n
}

func join(all []whole) string {
	var b strings.Builder
	for _, d := range all {
		b.WriteString(d.Text)
	}
	return b.String()
}

func TestText(t *testing.T) {
	dir := t.TempDir()
	var long strings.Builder
	for i := 0; long.Len() < 3*pieceSize+12345; i++ {
		fmt.Fprintf(&long, "line %d\n%s", i, strings.Repeat("\tindented é\n", i%4))
	}
	for _, c := range []struct{ name, text string }{
		{"short.txt", "one\ntwo\n"},
		{"one byte", "x"},
		{"no newline at the end.md", "one\ntwo"},
		{"crlf.txt", "one\r\ntwo\r\n\r\n"},
		{"long.txt", long.String()},
		{"no newlines.txt", strings.Repeat("word ", 700_000)},
		{"no spaces.txt", strings.Repeat("aé", 1_000_000)},
		{"exact.txt", strings.Repeat("x", pieceSize+slack)},
		{"blank.txt", strings.Repeat("\n", 2*pieceSize)},
	} {
		path := write(t, dir, c.name, c.text)
		for _, fraction := range []float64{-1, 0, 0.3, 0.999} {
			all := mustCollect(t, mustOpen(t, path, Options{ValidFraction: fraction}))
			if got := join(all); got != c.text {
				t.Errorf("%s: %d bytes read of %d, or others", c.name, len(got), len(c.text))
			}
			if fraction < 0 {
				if len(all) != 1 || all[0].Valid || all[0].Line != 1 {
					t.Errorf("%s: want one training document", c.name)
				}
				continue
			}
			valid := all[len(all)-1]
			if !valid.Valid || len(all) > 2 || len(all) == 2 && all[0].Valid {
				t.Errorf("%s: want training, then validation, got %d documents", c.name, len(all))
			}
			if fraction == 0 {
				fraction = 0.05
			}
			if most := max(1, int(fraction*float64(len(c.text)))); len(valid.Text) > most || len(valid.Text) < most-slack-1 {
				t.Errorf("%s: %d of %d bytes are validation, want %g", c.name, len(valid.Text), len(c.text), fraction)
			}
		}
	}
	// The cut is the first line without indentation in the last 5 %.
	all := mustCollect(t, mustOpen(t, filepath.Join(dir, "long.txt"), Options{}))
	rest := all[1].Text
	if !strings.HasPrefix(rest, "line ") || strings.Contains(long.String()[long.Len()-long.Len()/20:long.Len()-len(rest)], "\nline ") {
		t.Errorf("cut before %.20q", rest)
	}
	if want := strings.Count(all[0].Text, "\n") + 1; all[1].Line != want {
		t.Errorf("validation begins on line %d, want %d", all[1].Line, want)
	}
}

func TestPiecesAreBounded(t *testing.T) {
	path := write(t, t.TempDir(), "a.txt", strings.Repeat("some words\n", 1_000_000))
	n := 0
	for d, err := range mustOpen(t, path, Options{}).Documents() {
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Text) > pieceSize+slack || cap(d.Text) > pieceSize+slack {
			t.Fatalf("a piece of %d bytes in a buffer of %d", len(d.Text), cap(d.Text))
		}
		n++
	}
	if n < 10 {
		t.Errorf("%d pieces", n)
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text string
		from int
		want int
	}{
		{"", 0, 0},
		{"abc", 3, 3},
		{"abc", 9, 3},
		{"ab\ncd\nef", 2, 3},
		{"ab\ncd\nef", 3, 3}, // a cut may be at from itself
		{"ab\ncd\nef", 4, 6},
		{"ab\n\n cd\n\tef\ngh", 1, 12}, // not before white space
		{"ab cd  ef", 1, 2},
		{"ab cd  ef", 3, 5},
		{"abcdef", 2, 2},
		{"aéb", 2, 3}, // not inside a character
		{"ab\n", 1, 1},
	} {
		if got := cut([]byte(c.text), c.from); got != c.want {
			t.Errorf("cut(%q, %d) = %d, want %d", c.text, c.from, got, c.want)
		}
	}
}

func TestEncodings(t *testing.T) {
	dir := t.TempDir()
	bom := write(t, dir, "bom.txt", "\ufeffone\ntwo\n")
	if got := join(mustCollect(t, mustOpen(t, bom, Options{}))); got != "one\ntwo\n" {
		t.Errorf("byte order mark: %q", got)
	}
	latin := write(t, dir, "latin.txt", "one\ntwo caf\xe9\nthree\n")
	wantError(t, latin, Options{}, "latin.txt:2: byte 0xe9", "UTF-8")
	if got := join(mustCollect(t, mustOpen(t, latin, Options{Replace: true}))); got != "one\ntwo caf\ufffd\nthree\n" {
		t.Errorf("Replace: %q", got)
	}
	broken := write(t, dir, "broken.txt", strings.Repeat("\x80", 2*pieceSize)+"end")
	if got := join(mustCollect(t, mustOpen(t, broken, Options{Replace: true}))); !strings.HasPrefix(got, "\ufffd") || !strings.HasSuffix(got, "\ufffdend") {
		t.Errorf("Replace: %q", got)
	}
	far := write(t, dir, "far.txt", strings.Repeat("line\n", 500_000)+"\xff\n")
	wantError(t, far, Options{}, "far.txt:500001: byte 0xff")
	wantError(t, write(t, dir, "utf16.txt", "\xff\xfeo\x00n\x00e\x00"), Options{}, "utf16.txt", "binary", "UTF-8")
	wantError(t, write(t, dir, "empty.txt", ""), Options{}, "empty.txt", "empty")
	wantError(t, filepath.Join(dir, "none.txt"), Options{}, "none.txt", "no such file", "gosrc")
	wantError(t, latin, Options{Format: "xml"}, "xml", "jsonl")
	wantError(t, latin, Options{ValidFraction: 1}, "fraction")
	wantError(t, "mnist", Options{}, "mnist", "not a text")
}

func compress(t testing.TB, codec, text string) string {
	var b bytes.Buffer
	if codec == "gz" {
		z := gzip.NewWriter(&b)
		z.Write([]byte(text))
		z.Close()
	} else {
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		z.Write([]byte(text))
		z.Close()
	}
	return b.String()
}

func TestCompressed(t *testing.T) {
	dir := t.TempDir()
	text := strings.Repeat("some words and more of them\n", 30_000)
	jsonl := `{"text":"a"}` + "\n" + `{"text":"b"}` + "\n"
	for _, codec := range []string{"gz", "zst"} {
		z := compress(t, codec, text)
		path := write(t, dir, "a.txt."+codec, z)
		if all := mustCollect(t, mustOpen(t, path, Options{})); join(all) != text || len(all) != 2 {
			t.Errorf("%s: %d documents, or another text", codec, len(all))
		}
		rows := mustCollect(t, mustOpen(t, write(t, dir, "a.jsonl."+codec, compress(t, codec, jsonl)), Options{}))
		if join(rows) != "ab" {
			t.Errorf("%s: rows %v", codec, rows)
		}
		for _, k := range []int{1, 3, 10, 20, len(z) / 2, len(z) - 1} {
			wantError(t, write(t, dir, "cut.txt."+codec, z[:k]), Options{}, "cut.txt."+codec)
		}
		wantError(t, write(t, dir, "cut.txt."+codec, z[:len(z)/2]), Options{}, "fetch it again")
		wantError(t, write(t, dir, "not.txt."+codec, "this is no archive"), Options{}, "not.txt."+codec)
	}
	wantError(t, write(t, dir, "a.parquet.gz", compress(t, "gz", "x")), Options{}, "a.parquet.gz", "decompress")
}

type parquetRow struct {
	ID   int64    `parquet:"id"`
	Text *string  `parquet:"text,optional"`
	Tags []string `parquet:"tags,list"`
	In   struct {
		Title string `parquet:"title"`
	} `parquet:"in"`
}

func writeParquet(t testing.TB, path string, texts []string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := parquet.NewGenericWriter[parquetRow](f, parquet.MaxRowsPerRowGroup(100), parquet.Compression(&parquet.Zstd))
	for i, s := range texts {
		r := parquetRow{ID: int64(i), Text: &s, Tags: []string{"a", "b"}}
		if s == "" {
			r.Text = nil
		}
		r.In.Title = fmt.Sprint("title ", i)
		if _, err := w.Write([]parquetRow{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// Rows of every format: the texts, the lines, and the split by hash. In 100
// rows, only SHA-256(":52") begins below 0.05·2⁶⁴ (computed elsewhere).
func TestRows(t *testing.T) {
	dir := t.TempDir()
	texts := make([]string, 100)
	var jsonl, csv, tsv strings.Builder
	csv.WriteString("id,text\n")
	tsv.WriteString("text\tid\n")
	for i := range texts {
		texts[i] = fmt.Sprintf("row %d, \"é\"", i)
		fmt.Fprintf(&jsonl, "{\"id\": %d, \"text\": %q}\n", i, texts[i])
		fmt.Fprintf(&csv, "%d,\"%s\"\n", i, strings.ReplaceAll(texts[i], `"`, `""`))
		fmt.Fprintf(&tsv, "\"%s\"\t%d\n", strings.ReplaceAll(texts[i], `"`, `""`), i)
	}
	writeParquet(t, filepath.Join(dir, "a.parquet"), texts)
	for path, first := range map[string]int{
		write(t, dir, "a.jsonl", jsonl.String()): 1,
		write(t, dir, "a.csv", csv.String()):     2,
		write(t, dir, "a.tsv", tsv.String()):     2,
		filepath.Join(dir, "a.parquet"):          1,
	} {
		all := mustCollect(t, mustOpen(t, path, Options{}))
		if len(all) != len(texts) {
			t.Fatalf("%s: %d rows", path, len(all))
		}
		for i, d := range all {
			if want := (whole{filepath.Base(path), i + first, texts[i], i+first == 52}); d != want {
				t.Errorf("%s: %+v, want %+v", path, d, want)
			}
		}
	}
	// Nothing falls below the bound in the first 20, so the last row is taken.
	few := write(t, dir, "few.jsonl", strings.Join(strings.SplitAfter(jsonl.String(), "\n")[:20], ""))
	for i, d := range mustCollect(t, mustOpen(t, few, Options{})) {
		if d.Valid != (i == 19) {
			t.Errorf("row %d of 20: validation is %t", i, d.Valid)
		}
	}
	one := write(t, dir, "one.jsonl", `{"text":"only"}`)
	if all := mustCollect(t, mustOpen(t, one, Options{})); len(all) != 1 || all[0].Valid {
		t.Errorf("a single row: %v", all)
	}
	nested := mustCollect(t, mustOpen(t, filepath.Join(dir, "a.parquet"), Options{Field: "in.title"}))
	if len(nested) != 100 || nested[7].Text != "title 7" {
		t.Errorf("nested column: %v", nested)
	}
	other := write(t, dir, "other.jsonl", `{"body":"a"}`+"\n\n \r\n"+`{"body":""}`+"\r\n"+`{"body":"\u00e9\ud800"}`)
	got := mustCollect(t, mustOpen(t, other, Options{Field: "body", ValidFraction: -1}))
	if want := []whole{{"other.jsonl", 1, "a", false}, {"other.jsonl", 5, "é\ufffd", false}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	quoted := write(t, dir, "quoted.csv", "id,text\n1,\"two\nlines\"\n2,next\n")
	got = mustCollect(t, mustOpen(t, quoted, Options{ValidFraction: -1}))
	if want := []whole{{"quoted.csv", 2, "two\nlines", false}, {"quoted.csv", 4, "next", false}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	writeParquet(t, filepath.Join(dir, "nulls.parquet"), []string{"a", "", "c"})
	if got := mustCollect(t, mustOpen(t, filepath.Join(dir, "nulls.parquet"), Options{})); join(got) != "ac" || got[1].Line != 3 {
		t.Errorf("null rows: %v", got)
	}
}

func TestMalformedRows(t *testing.T) {
	dir := t.TempDir()
	ok := `{"text":"fine"}` + "\n"
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"syntax.jsonl":  {ok + ok + `{"text": "x",}` + "\n", []string{"syntax.jsonl:3", "malformed JSON", "byte 14"}},
		"cut.jsonl":     {ok + `{"text": "x`, []string{"cut.jsonl:2"}},
		"missing.jsonl": {ok + `{"id": 1, "body": "x"}`, []string{"missing.jsonl:2", `"text"`, `"body", "id"`}},
		"none.jsonl":    {`{}`, []string{"none.jsonl:1", `"text"`}},
		"number.jsonl":  {`{"text": 12}`, []string{"number.jsonl:1", `"text"`, "not a string", "12"}},
		"null.jsonl":    {`{"text": null}`, []string{"null.jsonl:1", "not a string"}},
		"array.jsonl":   {ok + `["x"]`, []string{"array.jsonl:2", "array"}},
		"latin.jsonl":   {ok + "{\"text\": \"caf\xe9\"}", []string{"latin.jsonl:2", "0xe9"}},
		"long.jsonl":    {ok + `{"text": "` + strings.Repeat("x", 500_000) + `"}`, []string{"long.jsonl:2", "longer than 400000 bytes"}},
		"blank.jsonl":   {"\n\n", []string{"blank.jsonl", "no text"}},
		"quote.csv":     {"id,text\n1,ok\n2,a \"quote\n", []string{"quote.csv:3"}},
		"fields.csv":    {"id,text\n1,ok\n2\n", []string{"fields.csv:3", "number of fields"}},
		"missing.csv":   {"id,body\n1,ok\n", []string{"missing.csv:1", `"text"`, `"id", "body"`}},
		"header.csv":    {"id,text\n", []string{"header.csv", "no text"}},
		"latin.csv":     {"id,text\n1,ok\n2,caf\xe9\n", []string{"latin.csv:3", "0xe9"}},
		"open.csv":      {"id,text\n1,\"" + strings.Repeat("x\n", 500_000), []string{"open.csv", "after the one on line 1", "quote"}},
		"text.parquet":  {"this is not one", []string{"text.parquet", "Parquet"}},
	} {
		wantError(t, write(t, dir, name, c.text), Options{MaxLine: 400_000}, c.words...)
	}
	path := filepath.Join(dir, "a.parquet")
	writeParquet(t, path, []string{"a", "b"})
	wantError(t, path, Options{Field: "body"}, "a.parquet", `"body"`, `"text", "in.title"`)
	wantError(t, path, Options{Field: "id"}, "a.parquet", `"id"`, "INT")
	wantError(t, path, Options{Field: "tags.list.element"}, "a.parquet", "one text per row")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, write(t, dir, "cut.parquet", string(whole[:len(whole)-20])), Options{}, "cut.parquet")
	// The limit is on the line without its end.
	for _, end := range []string{"", "\n"} {
		line := `{"text":"xyz"}`
		mustCollect(t, mustOpen(t, write(t, dir, "at.jsonl", line+end), Options{MaxLine: len(line)}))
		wantError(t, write(t, dir, "over.jsonl", line+end), Options{MaxLine: len(line) - 1}, "over.jsonl:1")
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.txt": "b", "a/z.py": "z", "a-b/x.md": "x", "c.jsonl": `{"no":"field"}`, "README": "r",
		".git/config": "no", ".hidden": "no", "node_modules/m/index.js": "no", "a/node_modules/k.js": "no",
		"image.png": "\x89PNG\x00", "latin.txt": "caf\xe9", "empty.txt": "", "x.tar.gz": "\x1f\x8b",
		"z.txt.gz": compress(t, "gz", "packed"),
	} {
		write(t, dir, name, text)
	}
	linked := os.Symlink("b.txt", filepath.Join(dir, "link.txt")) == nil
	s := mustOpen(t, dir, Options{})
	all := mustCollect(t, s)
	if want := []string{"README", "a-b/x.md", "a/z.py", "b.txt", "c.jsonl", "z.txt.gz"}; !slices.Equal(names0(all), want) {
		t.Errorf("files %v, want %v", names0(all), want)
	}
	if s.Files() != 6 || all[5].Text != "packed" {
		t.Errorf("%d files, the last %q", s.Files(), all[5].Text)
	}
	skipped := map[string]int{}
	for _, k := range s.Skipped() {
		skipped[strings.Fields(k.Reason)[0]] = k.Files
	}
	want := map[string]int{"in": 3, "hidden": 1, "binary": 1, "not": 1, "empty": 1, "compressed,": 1}
	if linked {
		want["symbolic"] = 1
	}
	if !reflect.DeepEqual(skipped, want) {
		t.Errorf("skipped %v, want %v", skipped, want)
	}
	replaced := mustCollect(t, mustOpen(t, dir, Options{Replace: true}))
	if !slices.Contains(names0(replaced), "latin.txt") {
		t.Error("Replace does not read latin.txt")
	}
	only := mustCollect(t, mustOpen(t, dir, Options{Format: "jsonl", Field: "no"}))
	if len(only) != 1 || only[0].Text != "field" {
		t.Errorf("jsonl only: %v", only)
	}
	wantError(t, dir, Options{Format: "csv"}, dir, "no file to read", "not csv")

	big := t.TempDir() // rows hold most of the bytes
	write(t, big, "README.md", "read me")
	write(t, big, "data/1.jsonl", strings.Repeat(`{"text":"x"}`+"\n", 10))
	write(t, big, "data/0.jsonl", strings.Repeat(`{"text":"y"}`+"\n", 10))
	if got := join(mustCollect(t, mustOpen(t, big, Options{}))); got != strings.Repeat("y", 10)+strings.Repeat("x", 10) {
		t.Errorf("a directory of rows: %q", got)
	}
	wantError(t, t.TempDir(), Options{}, "no file to read")
	if linked {
		to := filepath.Join(t.TempDir(), "to")
		if err := os.Symlink(big, to); err != nil {
			t.Fatal(err)
		}
		mustCollect(t, mustOpen(t, to, Options{}))
	}
}

// Of d/f00.txt … d/f59.txt, five have a hash below 0.05·2⁶⁴ (computed elsewhere).
func TestDirectorySplit(t *testing.T) {
	valid := func(dir string) (v []string) {
		for _, d := range mustCollect(t, mustOpen(t, dir, Options{})) {
			if d.Valid {
				v = append(v, d.Name)
			}
		}
		return v
	}
	dir := t.TempDir()
	for i := range 60 {
		write(t, dir, fmt.Sprintf("d/f%02d.txt", i), "text")
	}
	if got, want := valid(dir), []string{"d/f04.txt", "d/f24.txt", "d/f27.txt", "d/f58.txt", "d/f59.txt"}; !slices.Equal(got, want) {
		t.Errorf("validation %v, want %v", got, want)
	}
	few := t.TempDir() // none below: the least
	best := ""
	for i := range 4 {
		name := fmt.Sprintf("d/f%02d.txt", i)
		write(t, few, name, "text")
		if best == "" || hash(name) < hash(best) {
			best = name
		}
	}
	if got := valid(few); len(got) != 1 || got[0] != best {
		t.Errorf("validation %v, want %s", got, best)
	}
	two := t.TempDir() // both below: one stays for training
	write(t, two, "d/f58.txt", "text")
	write(t, two, "d/f59.txt", "text")
	if got := valid(two); len(got) != 1 {
		t.Errorf("validation %v, want one of two", got)
	}
	single := t.TempDir() // one text: its end
	write(t, single, "a.txt", strings.Repeat("line\n", 100))
	if all := mustCollect(t, mustOpen(t, single, Options{})); len(all) != 2 || all[0].Valid || len(all[1].Text) != 25 {
		t.Errorf("a directory of one text: %d documents", len(all))
	}
}

func TestStandardInput(t *testing.T) {
	before, _ := filepath.Glob(filepath.Join(os.TempDir(), "hasten-stdin-*"))
	in := strings.Repeat("line\n", 100)
	s := mustOpen(t, "-", Options{Stdin: strings.NewReader(in)})
	for range 2 { // again and again, though the input is gone
		if all := mustCollect(t, s); join(all) != in || all[0].Name != "-" {
			t.Errorf("%d documents from %s", len(all), all[0].Name)
		}
	}
	same := mustOpen(t, "-", Options{Stdin: strings.NewReader(in)})
	other := mustOpen(t, "-", Options{Stdin: strings.NewReader(in + in)})
	if s.Fingerprint() != same.Fingerprint() || s.Fingerprint() == other.Fingerprint() {
		t.Error("the fingerprint does not follow the content")
	}
	rows := mustOpen(t, "-", Options{Stdin: strings.NewReader(`{"text":"x"}`), Format: "jsonl"})
	if join(mustCollect(t, rows)) != "x" {
		t.Error("rows from standard input")
	}
	wantError(t, "-", Options{Stdin: strings.NewReader("")}, "standard input: empty")
	for _, s := range []*Source{s, same, other, rows} {
		s.Close()
		s.spooled = ""
	}
	if after, _ := filepath.Glob(filepath.Join(os.TempDir(), "hasten-stdin-*")); len(after) > len(before) {
		t.Errorf("left behind: %v", after)
	}
}

func TestValidationPath(t *testing.T) {
	dir := t.TempDir()
	train := write(t, dir, "train.txt", strings.Repeat("line\n", 100))
	valid := write(t, dir, "valid.jsonl", `{"text":"v"}`+"\n"+`{"text":"w"}`)
	s := mustOpen(t, train, Options{Valid: valid})
	all := mustCollect(t, s)
	if len(all) != 3 || all[0].Valid || len(all[0].Text) != 500 || !all[1].Valid || !all[2].Valid {
		t.Errorf("%d documents", len(all))
	}
	wantError(t, train, Options{Valid: filepath.Join(dir, "none")}, "validation data", "none")
	if s.Fingerprint() == mustOpen(t, train, Options{}).Fingerprint() {
		t.Error("the fingerprint knows nothing of validation")
	}
}

func TestFingerprint(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.txt", "one")
	write(t, dir, "b.txt", "two")
	print := func(o Options) string { return mustOpen(t, dir, o).Fingerprint() }
	first := print(Options{})
	if print(Options{}) != first {
		t.Error("not the same twice")
	}
	if print(Options{Replace: true}) == first || print(Options{ValidFraction: 0.5}) == first {
		t.Error("does not know the options")
	}
	write(t, dir, "c.txt", "three")
	second := print(Options{})
	write(t, dir, "b.txt", "two!")
	if third := print(Options{}); first == second || second == third {
		t.Error("does not know the files")
	}
}

func TestDocumentsCanStopAndRunAtOnce(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		write(t, dir, fmt.Sprintf("%02d.txt", i), strings.Repeat("line\n", i+1))
	}
	writeParquet(t, filepath.Join(dir, "x.parquet"), []string{"a", "b", "c", "d", "e"})
	for _, spec := range []string{dir, filepath.Join(dir, "x.parquet")} {
		s := mustOpen(t, spec, Options{})
		n := 0
		for range s.Documents() {
			if n++; n == 3 {
				break
			}
		}
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				if all, err := collect(t, s.Documents()); err != nil || len(all) < 5 {
					t.Errorf("%d documents, %v", len(all), err)
				}
			})
		}
		wait.Wait()
	}
}

func FuzzPieces(f *testing.F) {
	f.Add([]byte("one\ntwo\n three"), uint16(4))
	f.Add([]byte("é\xff\n\n x"), uint16(1))
	f.Fuzz(func(t *testing.T, text []byte, want uint16) {
		p := pieces{r: bytes.NewReader(text)}
		var all []byte
		for {
			piece, last, err := p.next(int(want))
			if err != nil {
				t.Fatal(err)
			}
			if !last && (len(piece) < int(want) || len(piece) > int(want)+slack) {
				t.Fatalf("a piece of %d bytes, want from %d", len(piece), want)
			}
			all = append(all, piece...)
			if last {
				break
			}
			if len(piece) == 0 {
				return // want is 0: no progress is asked for
			}
		}
		if !bytes.Equal(all, text) {
			t.Fatal("the pieces are not the text")
		}
	})
}

func fuzzRows(f *testing.F, name string) {
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := write(t, dir, name, string(text))
		s, err := Open(path, Options{MaxLine: 1 << 16})
		if err == nil {
			_, err = collect(t, s.Documents())
		}
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}

func FuzzJSONL(f *testing.F) {
	f.Add([]byte(`{"text":"a"}` + "\n" + `{"text":"b","id":[1,2]}`))
	f.Add([]byte(`{"text":1}`))
	f.Add([]byte("\ufeff{\"text\":\"\\ud800\"}\r\n\xff"))
	fuzzRows(f, "f.jsonl")
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("id,text\n1,\"a\nb\"\n"))
	f.Add([]byte("text\n\"\"\"\n"))
	fuzzRows(f, "f.csv")
}

func FuzzParquet(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed.parquet")
	writeParquet(f, path, []string{"a", "", "some words"})
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	for i := 0; i < len(seed); i += 97 {
		bad := bytes.Clone(seed)
		bad[i] ^= 0x55
		f.Add(bad)
	}
	fuzzRows(f, "f.parquet")
}

func BenchmarkJSONL(b *testing.B) {
	line := fmt.Sprintf("{\"id\": 1, \"text\": %q}\n", strings.Repeat("some words, \"quoted\"\n", 50))
	path := write(b, b.TempDir(), "a.jsonl", strings.Repeat(line, 2000))
	s := mustOpen(b, path, Options{})
	b.SetBytes(s.Size())
	for b.Loop() {
		for _, err := range s.Documents() {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
