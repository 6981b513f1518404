package token

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// badFiles are tokenizer.json files with something wrong, and what the error
// must say.
var badFiles = []struct{ file, want string }{
	{``, "unexpected end"},
	{`{}`, "model is missing"},
	{`[1]`, "array does not fit here"},
	{`{"model": 3}`, "model: number does not fit here"},
	{`{"model": {"type": "Foo"}}`, `model: model type "Foo" is not supported`},
	{`{"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}}`, "model.vocab"},
	{`{"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}`, `model.vocab: tokens "a" and "b" both have id 0`},
	{`{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}`, `model.vocab["a"]: token id -1 is out of range`},
	{`{"model": {"type": "BPE", "vocab": {"a": 2000000}, "merges": []}}`, `out of range`},
	{`{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}`, `model.merges[0]: token "b" is not in the vocabulary`},
	{`{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}}`, `model.merges[0]: token "ab" is not in the vocabulary`},
	{`{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}}`, `model: merge "a" is not two tokens`},
	{`{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}}`, `model: a merge has 1 tokens, want 2`},
	{`{"model": {"type": "BPE", "dropout": 0.1, "vocab": {"a": 0}, "merges": []}}`, `model.dropout: random dropout`},
	{`{"model": {"type": "WordPiece", "unk_token": "?", "vocab": {"a": 0}}}`, `model.unk_token`},
	{`{"model": {"type": "Unigram", "unk_id": 5, "vocab": [["a", 0]]}}`, `model.unk_id: no token has id 5`},
	{`{"model": {"type": "Unigram", "vocab": [["a", 0], ["a", 1]]}}`, `model.vocab[1]: token "a" is there twice`},
	{`{"model": {"type": "Unigram", "vocab": [["a"]]}}`, `model: a vocabulary entry has 1 values`},
	{wordLevelWith(`"normalizer": {"type": "Foo"}`), `normalizer: normalizer type "Foo" is not supported`},
	{wordLevelWith(`"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Foo"}]}`), `normalizer.normalizers[1]: normalizer type "Foo"`},
	{wordLevelWith(`"normalizer": {}`), `normalizer.type: missing`},
	{wordLevelWith(`"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAA="}`), `normalizer.precompiled_charsmap: too short`},
	{wordLevelWith(`"normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}`), `normalizer.pattern.Regex: `},
	{wordLevelWith(`"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": ""}`), `normalizer.pattern.Regex: regular expression is too slow`},
	{wordLevelWith(`"pre_tokenizer": {"type": "UnicodeScripts"}`), `pre_tokenizer: pre-tokenizer type "UnicodeScripts" is not supported`},
	{wordLevelWith(`"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Foo"}`), `pre_tokenizer.behavior: want Removed`},
	{wordLevelWith(`"pre_tokenizer": {"type": "Split", "pattern": {}, "behavior": "Isolated"}`), `pre_tokenizer.pattern: want String or Regex`},
	{wordLevelWith(`"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "often"}`), `pre_tokenizer.prepend_scheme: want always`},
	{wordLevelWith(`"decoder": {"type": "CTC"}`), `decoder: decoder type "CTC" is not supported`},
	{wordLevelWith(`"post_processor": {"type": "BertProcessing", "sep": ["x", 9], "cls": ["x", 0]}`), `post_processor.sep[1]: no token has id 9`},
	{wordLevelWith(`"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]}`), `post_processor.single[0]: "x" is not in special_tokens`},
	{wordLevelWith(`"added_tokens": [{"id": 0, "content": "x"}]`), `added_tokens[0]: tokens "?" and "x" both have id 0`},
	{wordLevelWith(`"added_tokens": [{"id": 7, "content": "?"}]`), `added_tokens[0]: token "?" has id 7 here and 0 before`},
	{wordLevelWith(`"added_tokens": [{"id": 1000000000, "content": "x"}]`), `added_tokens[0].id: token id 1000000000 is out of range`},
	{wordLevelWith(`"normalizer": ` + strings.Repeat(`{"type": "Sequence", "normalizers": [`, 50) + strings.Repeat(`]}`, 50)), `nested deeper than 16 levels`},
	{"{\"model\": \"\xff\"}", "not UTF-8"},
}

func wordLevelWith(field string) string {
	return `{"model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}, ` + field + `}`
}

func TestBadFiles(t *testing.T) {
	for _, b := range badFiles {
		k, err := Read([]byte(b.file))
		if err == nil {
			t.Errorf("%.200s is accepted: %v", b.file, k)
		} else if !strings.Contains(err.Error(), b.want) {
			t.Errorf("%.200s\ngot  %v\nwant %s", b.file, err, b.want)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir); !os.IsNotExist(err) {
		t.Error(err)
	}
	write("tokenizer.json", wordLevelWith(`"added_tokens": [{"id": 1, "content": "</s>", "special": true}, {"id": 2, "content": "<|im_end|>", "special": true}]`))
	for config, end := range map[string]int32{"": 1, `{"eos_token": "<|im_end|>"}`: 2, `{"eos_token": {"content": "<|im_end|>"}}`: 2,
		`{"eos_token": null}`: 1, `{"eos_token": "gone"}`: 1} {
		if config != "" {
			write("tokenizer_config.json", config)
		}
		for _, path := range []string{dir, filepath.Join(dir, "tokenizer.json")} {
			if config == "" && path == dir {
				os.Remove(filepath.Join(dir, "tokenizer_config.json"))
			}
			k, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if config != "" && k.End() != end {
				t.Errorf("%s: end %d, want %d", config, k.End(), end)
			}
			if !k.Special(1) || k.Special(0) || k.Special(99) {
				t.Error("which tokens are special is wrong")
			}
		}
	}
	write("tokenizer_config.json", "{")
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "tokenizer_config.json") {
		t.Error(err)
	}
	write("tokenizer.json", "{")
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "tokenizer.json: ") {
		t.Error(err)
	}
	var file bytes.Buffer
	if _, err := (Bytes{}).WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	write("tokenizer.json", file.String())
	if k, err := Open(dir); err != nil || k != (Bytes{}) {
		t.Error(k, err)
	}
}

func TestAddedTokenContentIsNormalized(t *testing.T) {
	k, err := Read([]byte(wordLevelWith(`"normalizer": {"type": "Lowercase"}, "added_tokens": [
		{"id": 1, "content": "ABC", "normalized": true}, {"id": 2, "content": "XYZ", "normalized": false}]`)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := k.Encode(nil, []byte("aBcXYZxyz")), []int32{1, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// An unknown character scores 10 less than the lowest token: 5 + (-1 - 10) for
// a and an unknown b, which is worse than -1 for ab.
func TestUnknownPenalty(t *testing.T) {
	k, err := Read([]byte(`{"model": {"type": "Unigram", "unk_id": 0, "vocab": [["?", 0], ["a", 5], ["ab", -1], ["c", 11.5]]}}`))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]int32{"ab": {2}, "ac": {1, 3}, "acb": {1, 3, 0}, "bb": {0}} {
		if got := k.Encode(nil, []byte(text)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

// Runs of a million equal characters take tenths of a second. In quadratic
// time this test would not end.
func TestLongRuns(t *testing.T) {
	docs := ourSource(t)
	tokenizers := []Tokenizer{train(t, docs, 400, TrainOptions{}), train(t, docs, 400, TrainOptions{Pattern: GPT2Pattern})}
	for _, g := range readGolden(t) {
		if slices.Contains([]string{"llama2", "unigram", "bert", "o200k", "added tokens"}, g.Name) {
			k, err := Read(g.File)
			if err != nil {
				t.Fatal(err)
			}
			tokenizers = append(tokenizers, k)
		}
	}
	for i, k := range tokenizers {
		for _, c := range []string{" ", "\n", "=", "a"} {
			if ids := k.Encode(nil, bytes.Repeat([]byte(c), 1<<20)); len(ids) > 1<<20+1 {
				t.Errorf("tokenizer %d, %q: %d tokens", i, c, len(ids))
			}
		}
	}
}
