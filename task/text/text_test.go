package text

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/simd"
	"hasten/task/recipe"
)

// settings are those of the built-in recipe with changes.
func settings(t testing.TB, changes ...string) *Settings {
	t.Helper()
	r, err := recipe.Open("text")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Set(changes...); err != nil {
		t.Fatal(err)
	}
	s, err := Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// topics makes texts of words that depend on their label, and of noise.
func topics(n, labels int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 0))
	var b strings.Builder
	for range n {
		l := min(r.IntN(labels), r.IntN(labels)) // some labels are more frequent
		fmt.Fprintf(&b, "topic%d\t", l)
		for range 3 + r.IntN(9) {
			if r.IntN(2) == 0 {
				fmt.Fprintf(&b, "w%d ", l*5+r.IntN(7))
			} else {
				fmt.Fprintf(&b, "noise%d ", r.IntN(200))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

var losses = []string{"softmax", "tree", "negative"}

// TestReference holds one thread's training against the reference, on every
// level of instructions.
func TestReference(t *testing.T) {
	defer simd.Use(simd.Current())
	data := file(t, "t.tsv", topics(120, 7, 1))
	for _, l := range simd.Levels() {
		simd.Use(l)
		for _, loss := range losses {
			for _, dim := range []int{1, 10, 37} {
				t.Run(fmt.Sprint(l, "/", loss, "/", dim), func(t *testing.T) {
					s := settings(t, "data="+data, "loss="+loss, fmt.Sprint("model.dim=", dim), "threads=1", "data.fraction=0", "epochs=3", "lr=3", "model.buckets=100")
					difference, moved, err := Difference(s)
					if err != nil || !(difference <= 1e-5) {
						t.Errorf("largest difference %g, %v", difference, err)
					}
					if moved < 0.1 {
						t.Errorf("hardly trained: no weight is above %g", moved)
					}

				})
			}
		}
	}
}

func TestTree(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 0))
	for _, k := range []int{1, 2, 3, 10, 257} {
		counts := make([]int, k)
		for i := range counts {
			counts[i] = r.IntN(20)
		}
		slices.Sort(counts)
		slices.Reverse(counts)
		tree := newTree(counts)
		logits := make([]float32, max(k-1, 0))
		for i := range logits {
			logits[i] = float32(r.NormFloat64() * 3)
		}
		p := make([]float64, k)
		sum, length := 0.0, 0
		for l := range k {
			nodes, codes := tree.path(l)
			wantNodes, wantCodes := naivePath(counts, l)
			if !slices.Equal(nodes, wantNodes) {
				t.Fatalf("%d labels: path of %d is %v, want %v", k, l, nodes, wantNodes)
			}
			p[l] = 1
			for i, n := range nodes {
				if float64(codes[i]) != wantCodes[i] {
					t.Fatalf("%d labels: codes of %d are %v, want %v", k, l, codes, wantCodes)
				}
				second := 1 / (1 + math.Exp(-float64(logits[n])))
				p[l] *= 1 - math.Abs(float64(codes[i])-second)
			}
			sum += p[l]
			length += counts[l] * len(nodes)
		}
		if math.Abs(sum-1) > 1e-12 {
			t.Errorf("%d labels: probabilities sum to %v", k, sum)
		}
		// No prefix code is shorter than the entropy, and Huffman's is within a
		// bit of it.
		entropy, total := 0.0, 0
		for _, c := range counts {
			total += c
		}
		for _, c := range counts {
			if c > 0 {
				entropy -= float64(c) * math.Log2(float64(c)/float64(total))
			}
		}
		if k > 1 && (float64(length) < entropy-1e-9 || float64(length) > entropy+float64(total)) {
			t.Errorf("%d labels: mean path of %d/%d nodes, entropy %g", k, length, total, entropy/float64(total))
		}
		for _, want := range []int{0, 1, 2, 5, k, k + 3} {
			opened := 0
			found := tree.top(want, func(n uint32) float32 { opened++; return logits[n] })
			checkTop(t, fmt.Sprint(k, " labels, top ", want), found, p, want, 1e-6)
			if want == 1 && k == 257 && opened > k/2 {
				t.Errorf("%d of %d nodes opened for the best label: nothing was pruned", opened, k-1)
			}
		}
	}
}

// checkTop compares with all probabilities sorted.
func checkTop(t *testing.T, what string, found []Prediction, p []float64, k int, tolerance float64) {
	t.Helper()
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] > p[b]:
			return -1
		case p[a] < p[b]:
			return 1
		}
		return 0
	})
	order = order[:min(k, len(order))]
	if len(found) != len(order) {
		t.Fatalf("%s: %d labels found, want %d", what, len(found), len(order))
	}
	for i, l := range order {
		if math.Abs(found[i].Probability-p[l]) > tolerance || math.Abs(p[found[i].Label]-p[l]) > tolerance {
			t.Fatalf("%s: place %d is label %d with %g, want %d with %g", what, i, found[i].Label, found[i].Probability, l, p[l])
		}
	}
}

// A softmax's best labels are those of all sorted; so are they with ties.
func TestBest(t *testing.T) {
	p := []float32{0.1, 0.3, 0.1, 0.3, 0.1, 0.1}
	var wide []float64
	for _, v := range p {
		wide = append(wide, float64(v))
	}
	for k := range 8 {
		checkTop(t, fmt.Sprint(k), best(p, k), wide, k, 0)
	}
	if got := best(p, 3); got[0].Label != 1 || got[1].Label != 3 || got[2].Label != 0 {
		t.Errorf("ties: %v", got)
	}
}

// Labels are drawn in proportion to a power of their frequency.
func TestNegativesAreDrawn(t *testing.T) {
	counts := []int{400, 100, 25, 1}
	n := (&Negative{Samples: 1, Power: 0.5}).output(4, counts, new(memory.Arena)).(*negative)
	got := make([]float64, len(counts))
	for _, l := range n.draw {
		got[l]++
	}
	for l, want := range []float64{20, 10, 5, 1} {
		if share := got[l] / float64(len(n.draw)); math.Abs(share-want/36) > 1e-4 {
			t.Errorf("label %d: share %g, want %g", l, share, want/36)
		}
	}
}

// Every loss learns the topics, with one thread and with two, and what it
// learned survives writing, in 8 bits too.
func TestTrainSaveOpen(t *testing.T) {
	data, held := file(t, "train.tsv", topics(3000, 12, 1)), file(t, "test.tsv", topics(600, 12, 2))
	for _, loss := range losses {
		for _, threads := range []int{1, 2} {
			if raceEnabled && threads > 1 {
				continue // training without locks is what the detector is made to find
			}
			t.Run(fmt.Sprint(loss, "/", threads), func(t *testing.T) {
				s := settings(t, "data="+data, "loss="+loss, fmt.Sprint("threads=", threads), "data.valid="+held, "epochs=20", "model.maxchars=4", "model.minchars=2")
				dir := t.TempDir()
				out, err := Train(context.Background(), s, Options{Dir: dir})
				if err != nil {
					t.Fatal(err)
				}
				if out.Valid == nil || out.Valid.Accuracy < 0.8 || out.Valid.Texts != 600 || out.Interrupted {
					t.Fatalf("%+v, %+v", out, out.Valid)
				}
				m, err := Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				text := []byte("w3 w4 W5 noise7, nevermet")
				if got, want := m.Predict(text, 12), out.Model.Predict(text, 12); !slices.EqualFunc(got, want, func(a, b Prediction) bool {
					return a.Label == b.Label && math.Abs(a.Probability-b.Probability) < 1e-6
				}) {
					t.Errorf("read back: %v, want %v", got, want)
				}
				r := m.Reader()
				for _, p := range m.Predict(text, 12) {
					if q := r.Probability(text, p.Label); math.Abs(p.Probability-q) > 1e-6 {
						t.Errorf("label %d has probability %g, or %g", p.Label, p.Probability, q)
					}
				}
				small := t.TempDir()
				if err := m.Export(small, Export{Int8: true, Keep: m.Rows() / 2}); err != nil {
					t.Fatal(err)
				}
				if m, err = Open(small); err != nil {
					t.Fatal(err)
				}
				score, err := m.Evaluate(context.Background(), held, DataOptions{})
				if err != nil || score.Accuracy < out.Valid.Accuracy-0.02 {
					t.Errorf("in 8 bits: %+v, %v; before, %+v", score, err, out.Valid)
				}
				if a, b := size(t, dir), size(t, small); b > a/2 {
					t.Errorf("%d bytes in 8 bits, %d in float32", b, a)
				}
			})
		}
	}
}

func size(t *testing.T, dir string) int64 {
	info, err := os.Stat(filepath.Join(dir, weightsFile))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// One thread gives the same bits every time.
func TestOneThreadRepeats(t *testing.T) {
	data := file(t, "train.tsv", topics(800, 5, 1))
	for _, loss := range losses {
		var first []float32
		for range 2 {
			out, err := Fit(context.Background(), settings(t, "data="+data, "loss="+loss, "threads=1"), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if first != nil && !slices.Equal(first, out.Model.input) {
				t.Errorf("%s: a second run differs", loss)
			}
			first = out.Model.input
		}
	}
}

// A cancelled run ends in order and leaves a model.
func TestCancel(t *testing.T) {
	data := file(t, "train.tsv", topics(500, 5, 1))
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	out, err := Train(ctx, settings(t, "data="+data, "epochs=1000000", "threads=1"), Options{Dir: dir, Progress: func(Progress) { cancel() }})
	if err != nil || !out.Interrupted || out.Tokens == 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, err := Open(dir); err != nil {
		t.Error(err)
	}
	if _, err := Train(context.Background(), settings(t, "data="+data), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second run in the directory: %v", err)
	}
}

// A learning rate that is far too high is an error that says so.
func TestDiverged(t *testing.T) {
	data := file(t, "train.tsv", topics(500, 5, 1))
	for _, loss := range losses {
		dir := t.TempDir()
		_, err := Train(context.Background(), settings(t, "data="+data, "loss="+loss, "lr=1e20", "threads=1"), Options{Dir: dir})
		if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "lower lr (now 1e+20)") {
			t.Errorf("%s: %v", loss, err)
		}
		if Is(dir) {
			t.Errorf("%s: a model was written", loss)
		}
	}
}

// Own copies of rows lose nothing: after all have exchanged, the shared rows
// are the sum of what every thread did, and all threads see them.
func TestExchange(t *testing.T) {
	s := newShared(make([]float32, 4*16), 16, 2)
	a, b := s.replica(false), s.replica(false)
	for i := range 10 {
		a.rows.Row(0)[3]++
		b.rows.Row(0)[3] += 2
		b.rows.Row(1)[0]--
		if i == 4 {
			b.exchange()
		}
	}
	a.exchange()
	b.exchange()
	a.exchange()
	for _, r := range []*replica{a, b} {
		if r.rows.Row(0)[3] != 30 || r.rows.Row(1)[0] != -10 {
			t.Errorf("rows %v and %v", r.rows.Row(0)[3], r.rows.Row(1)[0])
		}
	}
	if s.table[3] != 30 || s.table[16] != -10 {
		t.Error("the shared rows lost something")
	}
}

// Training allocates nothing once its workers are there.
func TestNoAllocation(t *testing.T) {
	data := file(t, "train.tsv", topics(600, 5, 1))
	for _, loss := range losses {
		s := settings(t, "data="+data, "loss="+loss)
		b := newBuilder(s.Model)
		if err := read(s.Data, &s.DataOptions, everything, func(x *sample) error { b.add(x.labels, x.text); return nil }); err != nil {
			t.Fatal(err)
		}
		d, c, _, counts := b.finish(0)
		w := newTrainer(s, d, c, counts, new(memory.Arena)).worker(2)
		if n := testing.AllocsPerRun(5, func() { w.block(0, len(c.examples), 0, c.tokens(), 1) }); n > 0 {
			t.Errorf("%s: %v allocations", loss, n)
		}
	}
}

func TestSeparate(t *testing.T) {
	for in, want := range map[string]string{
		"Hello, World": "hello ,  world", "a-b": "a - b", "Größe 5%": "größe 5 % ", "日本。": "日本 。 ", "\xff!": "\xff ! ",
	} {
		if got := string(separate(nil, []byte(in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// Character n-grams are those of a list written by hand.
func TestCharacters(t *testing.T) {
	f := &Features{Buckets: 1 << 30, MinChars: 1, MaxChars: 3, NGrams: 1}
	var s scan
	f.characters(&s, []byte("añ"))
	var want []uint32
	for _, g := range []string{"<a", "<añ", "a", "añ", "añ>", "ñ", "ñ>"} {
		want = append(want, f.bucket(hash([]byte(g))))
	}
	if !slices.Equal(s.grams, want) {
		t.Errorf("%v, want %v", s.grams, want)
	}
}

// The features of a text are its words, its end, and the pairs of neighbours;
// rare words have none, but pairs with them do.
func TestDictionary(t *testing.T) {
	s := settings(t, "data=x", "model.mincount=2", "model.words=space")
	b := newBuilder(s.Model)
	label := [][]byte{[]byte("l")}
	b.add(label, []byte("a b a"))
	b.add(label, []byte(" b  c"))
	d, c, names, counts := b.finish(1)
	// Words a, b, </s>; pairs ab, ba, a</s>, bc, c</s>.
	if d.rows != 8 || !slices.Equal(names, []string{"l"}) || !slices.Equal(counts, []int{2}) || c.tokens() != 3+2+2+2 {
		t.Errorf("%d rows, labels %v %v, %d tokens", d.rows, names, counts, c.tokens())
	}
	var sc scan
	if got := d.appendRows(nil, &sc, []byte("a b x")); len(got) != 4 { // a, b, </s>, ab
		t.Errorf("rows %v", got)
	}
	if got, again := d.appendRows(nil, &sc, []byte("a b a")), d.appendRows(nil, &sc, []byte("a b a")); len(got) != 7 || !slices.Equal(got, again) {
		t.Errorf("rows %v and %v", got, again)
	}
	if slices.Equal(d.appendRows(nil, &sc, []byte("a b")), d.appendRows(nil, &sc, []byte("b a"))) {
		t.Error("the order of words makes no difference")
	}
}

func TestVocabulary(t *testing.T) {
	var v vocabulary
	if v.find(hash([]byte("a"))) != -1 {
		t.Error("an empty vocabulary finds something")
	}
	for round := range 2 {
		for i := range 5000 {
			w := fmt.Append(nil, "word", i)
			h := uint64(i)<<44 | 1 // many begin their search at one place
			if round == 1 && v.find(h) != i || v.add(w, h) != i || string(v.word(i)) != string(w) {
				t.Fatalf("word %d is not found again", i)
			}
		}
	}
}

func TestBuckets(t *testing.T) {
	var b buckets
	if b.find(7) != none {
		t.Error("an empty map finds something")
	}
	r := rand.New(rand.NewPCG(1, 1))
	want := map[uint32]uint32{}
	for i := range uint32(5000) {
		key := r.Uint32N(20000)
		if old, ok := want[key]; ok != (*b.add(key) != none) || ok && old != b.find(key) {
			t.Fatalf("bucket %d: %d, want %d", key, b.find(key), old)
		}
		*b.add(key), want[key] = i, i
	}
	seen := 0
	b.all(func(key uint32, row *uint32) {
		if seen++; want[key] != *row || b.find(key) != *row {
			t.Fatalf("bucket %d: %d, want %d", key, *row, want[key])
		}
	})
	if seen != len(want) || b.find(20001) != none {
		t.Errorf("%d buckets, want %d", seen, len(want))
	}
}

func collect(path string, o *DataOptions, p portion) (out []string, err error) {
	err = read(path, o, p, func(s *sample) error {
		out = append(out, fmt.Sprintf("%d %s|%s", s.line, bytes.Join(s.labels, []byte("+")), bytes.Join(bytes.Fields(s.text), []byte(" "))))
		return nil
	})
	return out, err
}

func TestRead(t *testing.T) {
	o := defaults().DataOptions
	for name, c := range map[string]struct {
		content string
		want    []string
	}{
		"a.txt":   {"\ufeff__label__x one two\r\n\n  __label__x __label__y three\nfour __label__z five __label__w\n__label__only", []string{"1 x|one two", "3 x+y|three", "4 z+w|four five", "5 only|"}},
		"b.tsv":   {"x\tone\ttwo\n\ny \tthree\n", []string{"1 x|one two", "3 y|three"}},
		"c.csv":   {"id,text,label\n1,\"one,\ntwo\",x\n2,three, y\n", []string{"2 x|one, two", "4 y|three"}},
		"d.jsonl": {`{"label":"x","text":"one"}` + "\n" + `{"text":"two","label":["y",3,true]}`, []string{"1 x|one", "2 y+3+true|two"}},
	} {
		got, err := collect(file(t, name, c.content), &o, everything)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// A file read in parts gives what it gives in one, and its errors their lines.
func TestReadParts(t *testing.T) {
	s := settings(t, "data="+file(t, "big.tsv", topics(30_000, 9, 3)), "data.fraction=0.1", "threads=1")
	ctx := context.Background()
	want, err := s.readAll(ctx, training)
	if err != nil {
		t.Fatal(err)
	}
	_, one, names, counts := want.finish(1)
	for _, threads := range []int{2, 3, 5} {
		s.Threads = threads
		got, err := s.readAll(ctx, training)
		if err != nil {
			t.Fatal(err)
		}
		d, several, gotNames, gotCounts := got.finish(1)
		if !slices.Equal(one.rows, several.rows) || !slices.Equal(one.labels, several.labels) || !slices.Equal(one.examples, several.examples) ||
			!slices.Equal(names, gotNames) || !slices.Equal(counts, gotCounts) || d.words.len() != want.dict.words.len() {
			t.Errorf("%d parts: another corpus than in one", threads)
		}
	}
	text := strings.Repeat("x\tone two three four five six\n", 40_000)
	s.Data = file(t, "bad.tsv", text+"no tab\n"+text+"no tab\n")
	if _, err := s.readAll(ctx, everything); err == nil || !strings.Contains(err.Error(), ":40001:") {
		t.Errorf("%v; want line 40001", err)
	}
}

func TestReadErrors(t *testing.T) {
	o := defaults().DataOptions
	for _, c := range []struct{ name, content, want string }{
		{"a.txt", "__label__x one\nno label here\n", ":2: no label"},
		{"b.txt", "__label__x one\n__label__ two\n", ":2: a label without a name"},
		{"c.tsv", "x\tone\nno tab\n", ":2: no tab"},
		{"d.tsv", "\tone\n", ":1: an empty label"},
		{"e.tsv", "\xff\tone\n", ":1: label"},
		{"f.csv", "a,b\n1,2\n", `:1: want columns "label" and "text"`},
		{"g.csv", "label,text\nx,\"one\n", ":2: column"},
		{"h.csv", "label,text\nx\n", ":2: column"},
		{"i.jsonl", "{}\n", `:1: no field "label"`},
		{"j.jsonl", "[1]\n", ":1: want an object"},
		{"k.jsonl", `{"label":{},"text":"x"}`, ":1: field"},
		{"l.jsonl", `{"label":"x","text":3}`, ":1: field"},
		{"m.jsonl", `{"label":[],"text":"x"}`, ":1: no label"},
		{"n.tsv.gz", "x\tone\n", "gzip"},
	} {
		if _, err := collect(file(t, c.name, c.content), &o, everything); err == nil || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := collect(t.TempDir(), &o, everything); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a directory: %v", err)
	}
	for _, changes := range [][]string{{"data="}, {"data=x", "model.minchars=4", "model.maxchars=3"}, {"data=x", "loss=nothing"}, {"data=x", "optim=adan"}, {"data=x", "data.prefix="}} {
		r, err := recipe.Open("text")
		if err == nil {
			err = r.Set(changes...)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Resolve(r); err == nil {
			t.Errorf("%q: no error", changes)
		}
	}
	empty := file(t, "empty.tsv", "\n\n")
	if _, err := Fit(context.Background(), settings(t, "data="+empty), Options{}); err == nil || !strings.Contains(err.Error(), empty) {
		t.Errorf("no data: %v", err)
	}
}

// Training and validation divide the lines between them, in about the share
// that was asked for.
func TestDivision(t *testing.T) {
	o := defaults().DataOptions
	o.Fraction = 0.2
	path := file(t, "t.tsv", topics(2000, 3, 1))
	all, _ := collect(path, &o, everything)
	train, _ := collect(path, &o, training)
	valid, _ := collect(path, &o, validation)
	if len(train)+len(valid) != len(all) || len(valid) < 300 || len(valid) > 500 {
		t.Errorf("%d and %d of %d", len(train), len(valid), len(all))
	}
	for _, v := range valid {
		if slices.Contains(train, v) {
			t.Fatalf("%q is in both", v)
		}
	}
}

// A damaged model directory is an error that names its file.
func TestOpenErrors(t *testing.T) {
	data := file(t, "train.tsv", topics(100, 5, 1))
	for name, damage := range map[string]func(b []byte) []byte{
		configFile:  func(b []byte) []byte { return bytes.Replace(b, []byte(`"dim": 10`), []byte(`"dim": 11`), 1) },
		wordsFile:   func(b []byte) []byte { return b[:len(b)-1] },
		weightsFile: func(b []byte) []byte { return b[:len(b)/2] },
	} {
		dir := t.TempDir()
		if _, err := Train(context.Background(), settings(t, "data="+data, "threads=1"), Options{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, damage(b), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s damaged: %v", name, err)
		}
	}
}

// Whatever a file holds, reading it ends in labelled texts or in an error that
// names the file.
func FuzzRead(f *testing.F) {
	f.Add("fasttext", []byte("__label__x a b\n"))
	f.Add("tsv", []byte("x\ta b\n"))
	f.Add("csv", []byte("label,text\nx,\"a\nb\"\n"))
	f.Add("jsonl", []byte(`{"label":["x",2],"text":"a"}`))
	f.Fuzz(func(t *testing.T, format string, data []byte) {
		if !slices.Contains([]string{"fasttext", "tsv", "csv", "jsonl"}, format) {
			return
		}
		o := defaults().DataOptions
		features := Models.Parts[0].New()
		features.Buckets, features.MaxChars = 1000, 3
		b := newBuilder(features)
		err := parse("FILE", format, data, 1, &o, func(s *sample) error {
			for _, l := range s.labels {
				if len(l) == 0 || s.line < 1 {
					t.Fatal("a sample without line or label")
				}
			}
			b.add(s.labels, s.text)
			return nil
		})
		if err != nil && !strings.Contains(err.Error(), "FILE") {
			t.Fatalf("the error does not name the file: %v", err)
		}
		if len(b.examples) == 0 {
			return
		}
		d, c, names, _ := b.finish(1)
		for _, r := range c.rows {
			if int(r) >= d.rows {
				t.Fatalf("row %d of %d", r, d.rows)
			}
		}
		for _, l := range c.labels {
			if int(l) >= len(names) {
				t.Fatalf("label %d of %d", l, len(names))
			}
		}
	})
}
