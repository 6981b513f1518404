package lm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"

	"hasten/data/token"
	"hasten/engine/atomicfile"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/model/format"
	"hasten/model/format/hf"
	"hasten/model/net"
)

// tokenizerFile is in a model directory beside those of Hugging Face's layout.
const tokenizerFile = "tokenizer.json"

// Model is a language model from a directory.
type Model struct {
	*net.GPT
	Tokenizer token.Tokenizer // nil if the directory has none
}

// Open reads a model directory in Hugging Face layout, from here or elsewhere.
func Open(a *memory.Arena, dir string) (*Model, error) {
	h, err := hf.Load(dir)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	config, err := fromHF(h.Config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, hf.ConfigName), err)
	}
	g, err := net.NewGPT(a, config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, hf.ConfigName), err)
	}
	has := map[string]bool{}
	for _, p := range g.Params() {
		has[p.Name] = true
		if err := h.ReadInto(p.Name, p.Data); err != nil {
			return nil, err
		}
	}
	for _, p := range h.Config.Own {
		if !has[p.Name] {
			return nil, fmt.Errorf("%s: tensor %.100q has no place in a model of these parts", dir, p.Name)
		}
	}
	m := &Model{GPT: g}
	m.Tokenizer, err = token.Open(filepath.Join(dir, tokenizerFile))
	if errors.Is(err, fs.ErrNotExist) {
		m.Tokenizer, err = nil, nil
	}
	if err == nil && m.Tokenizer != nil && m.Tokenizer.VocabSize() > g.Vocab {
		err = fmt.Errorf("%s: the tokenizer has %d tokens, the model %d", dir, m.Tokenizer.VocabSize(), g.Vocab)
	}
	return m, err
}

// Save writes a model directory in Hugging Face layout, in float32. t may be
// nil. A model with parts that the layout does not have is written as one of
// ours, which Open reads and other programs refuse.
func Save(dir string, m *net.GPT, t token.Tokenizer) error {
	weights, known := map[string][]float32{}, map[string]bool{}
	for _, p := range m.Params() {
		weights[p.Name] = p.Data
	}
	config := toHF(m.Config, t)
	for _, p := range config.Params() {
		known[p.Name] = true
	}
	for _, p := range m.Params() {
		if !known[p.Name] {
			config.Own = append(config.Own, hf.OwnParam(p.Name, p.Dims()))
		}
	}
	if err := hf.Save(dir, config, format.F32, func(name string) []float32 { return weights[name] }); err != nil {
		return err
	}
	if t == nil {
		return nil
	}
	return saveTokenizer(dir, t)
}

func saveTokenizer(dir string, t token.Tokenizer) error {
	return atomicfile.WriteFile(filepath.Join(dir, tokenizerFile), func(w io.Writer) error {
		_, err := t.WriteTo(w)
		return err
	})
}

// fromHF is the shape of a model as net has it.
func fromHF(c hf.Config) (net.Config, error) {
	n := net.Config{
		Arch: string(c.Arch), Layers: c.Layers, Heads: c.Heads, KV: c.KVHeads, Dim: c.Dim, Hidden: c.Hidden, Ctx: c.Context,
		Vocab: c.Vocab, Tied: c.Tied, Eps: c.Eps, Theta: c.RopeTheta,
		AttentionBias: c.AttentionBias, MLPBias: c.MLPBias,
	}
	switch {
	case c.Arch == hf.Llama && c.Activation != hf.SiLU:
		return n, fmt.Errorf("hidden_act %q: in the Llama layout only silu is supported", c.Activation)
	case c.Arch == hf.GPT2:
		n.Activation = string(c.Activation)
	}
	var err error
	if n.Mixer, err = partOf(&net.Mixers, c.Parts); err == nil {
		n.FFN, err = partOf(&net.FFNs, c.Parts)
	}
	return n, err
}

// partOf is the part of a seam that a file names; the default where it names
// none.
func partOf[T any](table *part.Table[T], parts map[string]map[string]string) (T, error) {
	options := maps.Clone(parts[table.Seam])
	use := options["use"]
	delete(options, "use")
	return table.Build(use, options)
}

// partsOf are the parts of a model that its layout does not have.
func partsOf(c *net.Config) map[string]map[string]string {
	if c.Standard() {
		return nil
	}
	parts := map[string]map[string]string{}
	note := func(seam, standard, use string, options map[string]string) {
		if use != standard {
			options["use"] = use
			parts[seam] = options
		}
	}
	note(net.Mixers.Seam, net.Mixers.Parts[0].Name, net.MixerName(c.Mixer), part.Values(c.Mixer))
	note(net.FFNs.Seam, net.FFNs.Parts[0].Name, net.FFNName(c.FFN), part.Values(c.FFN))
	return parts
}

// toHF is the inverse of fromHF.
func toHF(c net.Config, t token.Tokenizer) hf.Config {
	h := hf.Config{
		Arch: hf.Arch(c.Arch), Layers: c.Layers, Heads: c.Heads, KVHeads: c.KV, Dim: c.Dim, Hidden: c.Hidden, Context: c.Ctx,
		Vocab: c.Vocab, Tied: c.Tied, Eps: c.Eps, Activation: hf.SiLU,
		AttentionBias: c.AttentionBias, MLPBias: c.MLPBias, InitStd: 0.02, BOS: -1,
		Parts: partsOf(&c),
	}
	switch {
	case c.Arch == "llama":
		h.RopeTheta = c.Theta
	case c.Activation == "":
		h.Activation = hf.GELUTanh
	default:
		h.Activation = hf.Activation(c.Activation)
	}
	if t != nil && t.End() >= 0 {
		h.EOS = []int{int(t.End())}
		h.BOS = int(t.End())
	}
	return h
}
