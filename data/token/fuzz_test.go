package token

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzTokenizerJSON reads files of unknown origin: an error or a tokenizer
// that works, and never a panic.
func FuzzTokenizerJSON(f *testing.F) {
	for _, g := range readGolden(f) {
		f.Add([]byte(g.File))
	}
	for _, s := range badFiles {
		f.Add([]byte(s.file))
	}
	f.Add(bytesJSON())
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := Read(data)
		if err != nil {
			if s := err.Error(); strings.Contains(s, "\n") || len(s) > 1000 {
				t.Errorf("error is no line: %.2000q", s)
			}
			return
		}
		for _, s := range awkward {
			ids := k.Encode(nil, []byte(s))
			for _, id := range ids {
				if _, ok := k.Token(id); !ok {
					t.Errorf("%q gives id %d, which does not exist", s, id)
				}
			}
			k.Decode(nil, ids)
			k.Frame(ids, ids)
		}
		k.Decode(nil, []int32{-1, 0, 1, 1 << 30})
	})
}

// FuzzRoundTrip holds byte-level tokenizers to their promise, and the scanners
// to what their patterns match.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range awkward {
		f.Add([]byte(s))
	}
	docs := ourSource(f)
	tokenizers := map[string]*Pipeline{}
	patterns := map[string]*pattern{}
	for expr := range splitters {
		tokenizers[expr] = train(f, docs, 400, TrainOptions{Pattern: expr})
		p, err := compile(expr)
		if err != nil {
			f.Fatal(err)
		}
		patterns[expr] = p
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for expr, k := range tokenizers {
			if got := k.Decode(nil, k.Encode(nil, text)); !bytes.Equal(got, text) {
				t.Errorf("%s: %q comes back as %q", expr, text, got)
			}
			s := string(text)
			got, want := cuts(k.fast.spans(s), s), cuts(patterns[expr].spans(s), s)
			if strings.Join(got, "\x00|") != strings.Join(want, "\x00|") && utf8.ValidString(s) {
				t.Errorf("%s: %q is cut %q, want %q", expr, s, got, want)
			}
		}
	})
}
