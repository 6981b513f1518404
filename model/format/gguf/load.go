package gguf

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"hasten/model/format/hf"
)

// Model is an open file with a model that can be computed here.
type Model struct {
	Config    hf.Config
	Tokenizer Tokenizer
	f         *File
	pieces    map[string][]piece // by our names, in the order of their rows
}

// Load opens a Llama or GPT-2 model whose weights are not quantised, and makes
// sure that every parameter is there in its shape, and nothing else. Weights
// are read by ReadInto.
func Load(path string) (*Model, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	m, err := newModel(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Close closes the file.
func (m *Model) Close() error { return m.f.Close() }

func newModel(f *File) (*Model, error) {
	m := &Model{f: f, pieces: make(map[string][]piece)}
	if err := m.describe(); err != nil {
		return nil, err
	}
	used := make(map[string]bool)
	for _, p := range pieces(m.Config) {
		t, ok := f.Tensor(p.name)
		if !ok {
			return nil, fmt.Errorf("there is no tensor %q", p.name)
		}
		if want := p.shape(); !slices.Equal(t.Shape, want) {
			return nil, fmt.Errorf("tensor %q has the shape %v; by the keys it should be %v", p.name, t.Shape, want)
		}
		if _, ok := t.Type.Float(); !ok {
			return nil, fmt.Errorf("tensor %q is quantised or of integers (%v); only f32, f16, bf16 and f64 can be read", p.name, t.Type)
		}
		used[p.name] = true
		m.pieces[p.param] = append(m.pieces[p.param], p)
	}
	for _, name := range f.Names() {
		if !used[name] {
			return nil, fmt.Errorf("tensor %.100q has no place in a %s model; the model is of another kind", name, m.Config.Arch)
		}
	}
	return m, nil
}

// describe makes the config and the tokenizer out of the keys.
func (m *Model) describe() error {
	k := keys{f: m.f}
	arch := k.text("general.architecture", "")
	has := func(name string) bool { _, ok := m.f.Tensor(name); return ok }
	c := hf.Config{
		Arch:    hf.Arch(arch),
		Layers:  k.whole(arch+".block_count", -1),
		Heads:   k.whole(arch+".attention.head_count", -1),
		Dim:     k.whole(arch+".embedding_length", -1),
		Hidden:  k.whole(arch+".feed_forward_length", -1),
		Context: k.whole(arch+".context_length", -1),
		Tied:    !has("output.weight"),
		BOS:     -1,
		InitStd: 0.02,
	}
	c.KVHeads = k.whole(arch+".attention.head_count_kv", c.Heads)
	if t, ok := m.f.Tensor("token_embd.weight"); ok && len(t.Shape) == 2 {
		c.Vocab = t.Shape[0]
	}
	if c.Arch == hf.GPT2 {
		c.Eps = k.number(arch+".attention.layer_norm_epsilon", 0)
		c.Activation = hf.GELUTanh
		c.AttentionBias, c.MLPBias = true, true
	} else {
		c.Eps = k.number(arch+".attention.layer_norm_rms_epsilon", 0)
		c.RopeTheta = k.number(arch+".rope.freq_base", 10000)
		c.Activation = hf.SiLU
		c.AttentionBias, c.MLPBias = has("blk.0.attn_q.bias"), has("blk.0.ffn_up.bias")
		if s := k.text(arch+".rope.scaling.type", "none"); s != "none" {
			k.fail(arch+".rope.scaling.type", "%.50q is not supported, only unscaled rotary positions are", s)
		}
	}
	if k.err == nil {
		k.err = c.Validate() // before the sizes below are divided by, and before the special tokens
	}
	if k.err == nil && c.Arch == hf.Llama {
		if n := k.whole(arch+".rope.dimension_count", c.HeadDim()); n != c.HeadDim() {
			k.fail(arch+".rope.dimension_count", "%d of the %d numbers of a head: that is not supported", n, c.HeadDim())
		}
	}
	if m.f.Value("tokenizer.ggml.bos_token_id") != nil {
		c.BOS = k.whole("tokenizer.ggml.bos_token_id", -1)
	}
	if m.f.Value("tokenizer.ggml.eos_token_id") != nil {
		c.EOS = []int{k.whole("tokenizer.ggml.eos_token_id", -1)}
	}
	m.Tokenizer = k.tokenizer(c.Vocab)
	if k.err == nil {
		k.err = c.Validate()
	}
	m.Config = c
	return k.err
}

// ReadInto reads a parameter by our name, of which dst takes all elements.
func (m *Model) ReadInto(name string, dst []float32) error {
	list, ok := m.pieces[name]
	if !ok {
		return fmt.Errorf("%s: there is no parameter %q", m.f.name, name)
	}
	last := list[len(list)-1]
	if n := (last.first + last.rows) * last.cols; n != len(dst) {
		return fmt.Errorf("%s: parameter %q has %d elements, not %d", m.f.name, name, n, len(dst))
	}
	for i := range list {
		p := &list[i]
		if err := m.read(p, dst[p.first*p.cols:][:p.rows*p.cols]); err != nil {
			return err
		}
	}
	return nil
}

// read reads a tensor into its rows, a head at a time where they change places.
func (m *Model) read(p *piece, dst []float32) error {
	if p.heads == 0 {
		return m.f.ReadFloats(p.name, 0, dst)
	}
	e := p.rows / p.heads
	buf := make([]float32, e*p.cols)
	for head := range p.heads {
		if err := m.f.ReadFloats(p.name, head*len(buf), buf); err != nil {
			return err
		}
		for k := range e {
			copy(dst[p.source(head*e+k)*p.cols:][:p.cols], buf[k*p.cols:])
		}
	}
	return nil
}

// keys reads values of keys. It keeps the first error.
type keys struct {
	f   *File
	err error
}

func (k *keys) fail(key, format string, args ...any) {
	if k.err == nil {
		k.err = fmt.Errorf("key %s: %w", key, fmt.Errorf(format, args...))
	}
}

func (k *keys) text(key, def string) string {
	switch v := k.f.Value(key).(type) {
	case nil:
		return def
	case string:
		return v
	default:
		k.fail(key, "a %T; want a string", v)
		return def
	}
}

// whole is an integer, of whatever size; a negative default means that the key
// must be there.
func (k *keys) whole(key string, def int) int {
	switch v := k.f.Value(key).(type) {
	case nil:
		if def < 0 {
			k.fail(key, "it is absent")
		}
		return def
	case uint32:
		return int(min(v, math.MaxInt32))
	case int32:
		return int(v)
	case uint64:
		return int(min(v, math.MaxInt32))
	case uint16:
		return int(v)
	default:
		k.fail(key, "a %T; want a whole number", v)
		return def
	}
}

// number is a float. Those of 32 bits are given the shortest decimal that
// stands for them, so that 1e-5 is 1e-5 and not 0.000009999999747….
func (k *keys) number(key string, def float64) float64 {
	switch v := k.f.Value(key).(type) {
	case nil:
		return def
	case float32:
		return shortest(v)
	case float64:
		return v
	default:
		k.fail(key, "a %T; want a float", v)
		return def
	}
}

// tokenizer reads what there is of a vocabulary; a file may have none.
func (k *keys) tokenizer(vocab int) Tokenizer {
	var t Tokenizer
	switch k.text("tokenizer.ggml.model", "none") {
	case "none":
		return t
	case "gpt2":
	default:
		k.fail("tokenizer.ggml.model", "%.50q is not supported, only gpt2 is", k.text("tokenizer.ggml.model", ""))
	}
	t.Pre = k.text("tokenizer.ggml.pre", "gpt-2")
	t.Tokens, _ = k.f.Value("tokenizer.ggml.tokens").([]string)
	t.Merges, _ = k.f.Value("tokenizer.ggml.merges").([]string)
	types, _ := k.f.Value("tokenizer.ggml.token_type").([]int32)
	for _, v := range types {
		t.Types = append(t.Types, TokenType(v))
	}
	if len(t.Tokens) != vocab || types != nil && len(types) != vocab {
		k.fail("tokenizer.ggml.tokens", "%d tokens with %d types for a vocabulary of %d", len(t.Tokens), len(types), vocab)
	}
	return t
}

func shortest(v float32) float64 {
	d, err := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	if err != nil { // not a number, or infinite: Validate refuses it
		return float64(v)
	}
	return d
}
