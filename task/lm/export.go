package lm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"hasten/data/token"
	"hasten/engine/atomicfile"
	"hasten/model/format"
	"hasten/model/format/gguf"
	"hasten/model/net"
)

// ExportGGUF writes a model as one GGUF file, for llama.cpp. dtype is f32, f16
// or bf16. The note, if not empty, says what the file cannot carry.
func ExportGGUF(path, name string, m *Model, dtype string) (note string, err error) {
	f, err := format.ParseFloat(dtype)
	if err != nil {
		return "", err
	}
	if !m.Standard() {
		return "", fmt.Errorf("a GGUF file holds models with mixer=%s and ffn=%s; this one has mixer=%s and ffn=%s, which llama.cpp cannot compute",
			net.Mixers.Parts[0].Name, net.FFNs.Parts[0].Name, net.MixerName(m.Config.Mixer), net.FFNName(m.Config.FFN))
	}
	if m.Tokenizer == nil {
		return "", fmt.Errorf("the model has no tokenizer.json, and a GGUF file must carry one")
	}
	t, note, err := ggufTokenizer(m.Tokenizer)
	if err != nil {
		return "", err
	}
	weights := map[string][]float32{}
	for _, p := range m.Params() {
		weights[p.Name] = p.Data
	}
	return note, atomicfile.WriteFile(path, func(w io.Writer) error {
		return gguf.Write(w, name, toHF(m.Config, m.Tokenizer), t, f, func(name string) []float32 { return weights[name] })
	})
}

// preNames are the names llama.cpp has for the ways to cut text into words.
var preNames = map[string]string{
	token.GPT2Pattern:   "gpt-2",
	token.Llama3Pattern: "llama-bpe",
	token.Qwen2Pattern:  "qwen2",
}

// tokenizerJSON is what the export needs of a tokenizer.json.
type tokenizerJSON struct {
	Model struct {
		Type   string           `json:"type"`
		Vocab  map[string]int32 `json:"vocab"`
		Merges []any            `json:"merges"`
	} `json:"model"`
	Added []struct {
		ID      int32  `json:"id"`
		Content string `json:"content"`
		Special bool   `json:"special"`
	} `json:"added_tokens"`
}

// ggufTokenizer turns a byte-level BPE tokenizer into the lists of a GGUF file.
func ggufTokenizer(t token.Tokenizer) (gguf.Tokenizer, string, error) {
	var out gguf.Tokenizer
	var text bytes.Buffer
	if _, err := t.WriteTo(&text); err != nil {
		return out, "", err
	}
	var j tokenizerJSON
	if err := json.Unmarshal(text.Bytes(), &j); err != nil {
		return out, "", fmt.Errorf("tokenizer: %w", err)
	}
	if j.Model.Type != "BPE" || j.Model.Vocab[byteSpace] == 0 {
		return out, "", fmt.Errorf("tokenizer: only byte-level BPE can go into a GGUF file, this is %s", j.Model.Type)
	}
	n := t.VocabSize()
	out.Tokens, out.Types = make([]string, n), make([]gguf.TokenType, n)
	for i := range out.Tokens { // ids that no token has
		out.Tokens[i], out.Types[i] = fmt.Sprintf("<unused%d>", i), gguf.Unused
	}
	for s, id := range j.Model.Vocab {
		out.Tokens[id], out.Types[id] = s, gguf.Normal
	}
	for _, a := range j.Added {
		out.Tokens[a.ID], out.Types[a.ID] = a.Content, gguf.UserDefined
		if a.Special {
			out.Types[a.ID] = gguf.Control
		}
	}
	for i, m := range j.Model.Merges {
		switch m := m.(type) {
		case string:
			out.Merges = append(out.Merges, m)
		case []any:
			if len(m) != 2 {
				return out, "", fmt.Errorf("tokenizer: merge %d is no pair", i)
			}
			out.Merges = append(out.Merges, fmt.Sprint(m[0], " ", m[1]))
		}
	}
	pre, note := "", ""
	for pattern, name := range preNames {
		quoted, err := json.Marshal(pattern)
		if err == nil && bytes.Contains(text.Bytes(), quoted) {
			pre = name
		}
	}
	if pre == "" {
		pre = "llama-bpe"
		note = "llama.cpp has no name for the way this tokenizer cuts text into words; the file names the nearest (" + pre +
			"), so some prompts get other tokens there. The weights and the vocabulary are exact."
	}
	out.Pre = pre
	return out, note, nil
}

// byteSpace is the spelling of a space in a byte-level vocabulary.
const byteSpace = "Ġ"
