package token

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// ourSource is real text: this package's own files.
func ourSource(t testing.TB) [][]byte {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var docs [][]byte
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".go") {
			data, err := os.ReadFile(e.Name())
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, data)
		}
	}
	return docs
}

func train(t testing.TB, docs [][]byte, vocab int, o TrainOptions) *Pipeline {
	t.Helper()
	p, err := TrainBPE(context.Background(), Documents(docs), vocab, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// awkward are texts at the edges of the patterns and of UTF-8.
var awkward = []string{
	"", " ", "  ", "\n", "\r\n", "\t\t\tx", "a", "'", "'s", "''s", "it's we'LL I'Ve x'ſ 'S 'T", "don't  stop",
	"if err != nil {\n\t\treturn err\n\t}\n\n\n\tx := 0x1F3aB_c\n", "a  b   c\n \n  d", " \n x", "\n \t\r\n\r\n  y",
	"123456789 1 22 333 4444", "x1y2_z3 __init__", "a,b;c!!!\n\n  !!! \n", " !\n", " 1", "  1", "   !",
	"héllo wörld ñ", "日本語 テキスト。\n　全角", "e\u0301 cafe\u0301", "👩‍👩‍👧 🇩🇪!", "\u00a0\u00a0x\u2028y\u0085z",
	"Ⅷ ² ½ ٣", "İstanbul ǅ", "\xff\xfe\x80abc\xc3", "a\xe4\xb8", "\x00\x01\x7f", "<|endoftext|>", "a<|endoftext|>b <|endoftext",
	strings.Repeat(" ", 300) + "x", strings.Repeat("=", 300), strings.Repeat("ab", 200),
}

// slowSplit is the regular expression engine's opinion of how a known pattern
// cuts s.
func slowSplit(t testing.TB, expr, s string) []string {
	p, err := compile(expr)
	if err != nil {
		t.Fatal(err)
	}
	return cuts(p.spans(s), s)
}

func cuts(spans []span, s string) (out []string) {
	for _, x := range spans {
		if x.lo < x.hi {
			out = append(out, s[x.lo:x.hi])
		}
	}
	return out
}

// randomText makes text of the characters the patterns care about.
func randomText(r *rand.Rand) string {
	parts := []string{" ", " ", "\t", "\n", "\r", "a", "B", "_", "1", "2", "'", "s", "ll", "!", "(", "é", "世", "٣", "\u00a0", "\u2028", "\u0301", "🙂", "\xff"}
	var b strings.Builder
	for range r.IntN(30) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

func TestSplittersCutAsTheirPatternsMatch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	texts := slices.Clone(awkward)
	for range 2000 {
		texts = append(texts, randomText(r))
	}
	for expr, sp := range splitters {
		p, err := compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range texts {
			if got, want := cuts(sp.spans(s), s), cuts(p.spans(s), s); !slices.Equal(got, want) {
				t.Fatalf("pattern %s\ntext %q\ngot  %q\nwant %q", expr, s, got, want)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	docs := ourSource(t)
	tokenizers := map[string]Tokenizer{"bytes": Bytes{}}
	for _, expr := range []string{CodePattern, GPT2Pattern, Llama3Pattern, `\w+|\W+`} {
		tokenizers[expr] = train(t, docs, 600, TrainOptions{Pattern: expr})
	}
	texts := slices.Clone(docs)
	for _, s := range awkward {
		texts = append(texts, []byte(s))
	}
	for name, k := range tokenizers {
		for _, text := range texts {
			ids := k.Encode(nil, text)
			if got := k.Decode(nil, ids); !bytes.Equal(got, text) {
				t.Errorf("%s: %.100q comes back as %.100q", name, text, got)
			}
			var parts []byte
			for _, id := range ids {
				b, ok := k.Token(id)
				if !ok || int(id) >= k.VocabSize() {
					t.Fatalf("%s: id %d does not exist", name, id)
				}
				if back, ok := k.ID(string(b)); !ok || back != id {
					t.Errorf("%s: ID(Token(%d)) = %d, %v", name, id, back, ok)
				}
				parts = append(parts, b...)
			}
			if !bytes.Equal(parts, text) {
				t.Errorf("%s: tokens of %.100q are %.100q", name, text, parts)
			}
		}
	}
}

func TestWrittenTokenizerReadsTheSame(t *testing.T) {
	docs := ourSource(t)
	for _, k := range []Tokenizer{Bytes{}, train(t, docs, 500, TrainOptions{Special: []string{"<|user|>", "<|é|>"}})} {
		var file bytes.Buffer
		if n, err := k.WriteTo(&file); err != nil || n != int64(file.Len()) {
			t.Fatal(n, err)
		}
		again, err := Read(file.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%T", again) != fmt.Sprintf("%T", k) || again.VocabSize() != k.VocabSize() || again.End() != 256 {
			t.Errorf("%T of %d tokens becomes %T of %d, end %d", k, k.VocabSize(), again, again.VocabSize(), again.End())
		}
		for _, d := range append(docs, []byte("a<|user|>b<|é|>")) {
			if !slices.Equal(k.Encode(nil, d), again.Encode(nil, d)) {
				t.Errorf("%T encodes differently", k)
			}
		}
	}
}

// slowBPE learns and encodes as the definition says, with no data structure.
type slowBPE struct {
	merges map[[2]string]int
}

func learnSlowly(words []string, merges int) slowBPE {
	seqs := make([][]string, len(words))
	ids := map[string]int{}
	for b := range 256 {
		ids[string([]byte{byte(b)})] = b
	}
	for i, w := range words {
		for j := range len(w) {
			seqs[i] = append(seqs[i], w[j:j+1])
		}
	}
	s := slowBPE{map[[2]string]int{}}
	for range merges {
		count := map[[2]string]int{}
		for _, q := range seqs {
			for j := 1; j < len(q); j++ {
				count[[2]string{q[j-1], q[j]}]++
			}
		}
		var best [2]string
		for p, n := range count {
			m := count[best]
			if n > m || n == m && (ids[p[0]] < ids[best[0]] || ids[p[0]] == ids[best[0]] && ids[p[1]] < ids[best[1]]) {
				best = p
			}
		}
		if count[best] < 2 {
			break
		}
		ids[best[0]+best[1]] = 257 + len(s.merges)
		s.merges[best] = len(s.merges)
		for i, q := range seqs {
			seqs[i] = joinPair(q, best)
		}
	}
	return s
}

func joinPair(q []string, p [2]string) []string {
	var out []string
	for j := 0; j < len(q); j++ {
		if j+1 < len(q) && q[j] == p[0] && q[j+1] == p[1] {
			out = append(out, q[j]+q[j+1])
			j++
		} else {
			out = append(out, q[j])
		}
	}
	return out
}

// encode joins the pair of lowest rank, leftmost first, again and again.
func (s slowBPE) encode(w string) []string {
	q := strings.Split(w, "")
	for {
		at, rank := -1, len(s.merges)
		for j := 1; j < len(q); j++ {
			if r, ok := s.merges[[2]string{q[j-1], q[j]}]; ok && r < rank {
				at, rank = j, r
			}
		}
		if at < 0 {
			return q
		}
		q = append(append(slices.Clone(q[:at-1]), q[at-1]+q[at]), q[at+1:]...)
	}
}

func TestTrainingAgreesWithTheDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 9 {
		// Few letters, so that runs, overlaps and ties abound.
		letters := "abc"[:1+round%3]
		var text strings.Builder
		for range 300 {
			for range 1 + r.IntN(40) {
				text.WriteByte(letters[r.IntN(len(letters))])
			}
			text.WriteByte(' ')
		}
		words := slowSplit(t, CodePattern, text.String())
		const merges = 60
		want := learnSlowly(words, merges)
		k := train(t, [][]byte{[]byte(text.String())}, 257+merges, TrainOptions{})
		if len(k.bpe.merges) != len(want.merges) || k.VocabSize() != 257+len(want.merges) {
			t.Fatalf("round %d: %d merges and %d tokens, want %d merges", round, len(k.bpe.merges), k.VocabSize(), len(want.merges))
		}
		for p, rank := range want.merges {
			a, _ := k.ID(p[0])
			b, _ := k.ID(p[1])
			if got, ok := k.bpe.merges[pair(a, b)]; !ok || int(got.rank) != rank {
				t.Fatalf("round %d: merge %q has rank %d (%v), want %d", round, p, got.rank, ok, rank)
			}
		}
		words = append(words, strings.Repeat("a", 100), strings.Repeat("ab", 77), strings.Repeat("aab", 40))
		for _, w := range words {
			var got []string
			for _, id := range k.bpe.encodeBytes(nil, w, new(workspace)) {
				b, _ := k.Token(id)
				got = append(got, string(b))
			}
			if want := want.encode(w); !slices.Equal(got, want) {
				t.Fatalf("round %d: %q is %q, want %q", round, w, got, want)
			}
		}
	}
}

func TestSpecialTokensAreNotLearned(t *testing.T) {
	text := strings.Repeat("<|endoftext|>some text", 50)
	k := train(t, [][]byte{[]byte(text)}, 400, TrainOptions{})
	for id := int32(257); id < int32(k.VocabSize()); id++ {
		if s, _ := k.Token(id); strings.ContainsAny(string(s), "<|>") {
			t.Errorf("token %q", s)
		}
	}
	if k.End() != 256 || !k.Special(256) || k.Special(255) {
		t.Error("the end token is not special")
	}
}

func TestTrainingIsDeterministic(t *testing.T) {
	docs := ourSource(t)
	var files [2]bytes.Buffer
	for i := range files {
		if _, err := train(t, docs, 700, TrainOptions{SampleBytes: 20000}).WriteTo(&files[i]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0].Bytes(), files[1].Bytes()) {
		t.Error("two trainings differ")
	}
}

func TestSampleIsBoundedAndEven(t *testing.T) {
	docs := make([][]byte, 1000)
	for i := range docs {
		docs[i] = bytes.Repeat([]byte{'a' + byte(i/100)}, 500)
	}
	sample, err := drawSample(context.Background(), Documents(docs), 100_000)
	if err != nil {
		t.Fatal(err)
	}
	per := map[byte]int{}
	size := 0
	for _, s := range sample {
		per[s[0]]++
		size += len(s)
	}
	if size > 100_000 || size < 99_000 {
		t.Errorf("%d bytes kept of 100000", size)
	}
	for c := byte('a'); c <= 'j'; c++ {
		if per[c] < 8 || per[c] > 35 { // 20 expected
			t.Errorf("%d of tenth %c", per[c], c)
		}
	}
	long := [][]byte{bytes.Repeat([]byte("x\n"), 1<<20)}
	if sample, err = drawSample(context.Background(), Documents(long), 300_000); err != nil || len(sample) != 4 {
		t.Errorf("%d parts of a long document, %v", len(sample), err)
	}
}

func TestTrainingErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	doc := [][]byte{[]byte("some text")}
	broken := func(yield func([]byte, error) bool) { yield(nil, os.ErrClosed) }
	if _, err := TrainBPE(ctx, Documents(doc), 300, TrainOptions{}); err != context.Canceled {
		t.Error(err)
	}
	ctx = context.Background()
	if _, err := TrainBPE(ctx, broken, 300, TrainOptions{}); err != os.ErrClosed {
		t.Error(err)
	}
	for _, vocab := range []int{0, 256, maxVocab + 1} {
		if _, err := TrainBPE(ctx, Documents(doc), vocab, TrainOptions{}); err == nil {
			t.Errorf("a vocabulary of %d is accepted", vocab)
		}
	}
	for _, o := range []TrainOptions{{Pattern: "("}, {Special: []string{"x"}}, {Special: []string{"\xff\xff"}}, {Special: []string{EndOfText}}, {MinCount: -1}} {
		if _, err := TrainBPE(ctx, Documents(doc), 300, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	for _, expr := range []string{CodePattern, GPT2Pattern} {
		if k := train(t, nil, 300, TrainOptions{Pattern: expr}); k.VocabSize() != 257 {
			t.Errorf("%d tokens from no text", k.VocabSize())
		}
	}
}

func TestEncodeAllAndConcurrentEncode(t *testing.T) {
	docs := ourSource(t)
	k := train(t, docs, 500, TrainOptions{})
	for i, ids := range EncodeAll(k, docs) {
		if !slices.Equal(ids, k.Encode(nil, docs[i])) {
			t.Errorf("document %d differs", i)
		}
	}
	dst := k.Encode([]int32{7}, []byte("x"))
	if dst[0] != 7 || len(dst) != 2 {
		t.Errorf("Encode does not append: %v", dst)
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]Spec{
		"bytes":    {},
		"bpe":      {Kind: KindBPE, Vocab: DefaultVocab},
		"bpe:1000": {Kind: KindBPE, Vocab: 1000},
		"./bytes":  {Kind: KindFile, Path: "./bytes"},
		"a/b.json": {Kind: KindFile, Path: "a/b.json"},
	} {
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v", in, got, err)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("Parse(%q.String()) = %+v, %v", in, again, err)
		}
	}
	for _, in := range []string{"", "bpe:", "bpe:12", "bpe:x", "bpe:99999999"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %+v", in, got)
		}
	}
}
