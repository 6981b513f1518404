package hf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"hasten/model/format"
)

// Arch is an architecture, by the name that config.json has for it.
type Arch string

// The architectures.
const (
	Llama Arch = "llama" // RMSNorm, rotary positions, gated feed-forward
	GPT2  Arch = "gpt2"  // LayerNorm, learned positions, biases everywhere
)

// Activation is the nonlinearity of the feed-forward, by its name in config.json.
type Activation string

// The activations.
const (
	SiLU     Activation = "silu"
	GELUTanh Activation = "gelu_new" // the tanh approximation
	GELU     Activation = "gelu"     // by the error function
	ReLU     Activation = "relu"
)

// aliases are other names in use for the same functions.
var aliases = map[string]Activation{
	"silu": SiLU, "swish": SiLU, "relu": ReLU, "gelu": GELU,
	"gelu_new": GELUTanh, "gelu_pytorch_tanh": GELUTanh, "gelu_fast": GELUTanh,
}

// Config describes a model. Save and Load accept what Validate accepts.
type Config struct {
	Arch          Arch
	Layers        int // 1 to 1024
	Heads         int // query heads, 1 to 1024; they divide Dim
	KVHeads       int // key and value heads; they divide Heads, and are Heads in GPT-2
	Dim           int // width of the residual stream, 1 to 65536
	Hidden        int // width of the feed-forward, 1 to 1048576
	Context       int // longest sequence, 1 to 16777216
	Vocab         int // 1 to 4194304
	Eps           float64
	RopeTheta     float64 // base of the rotary frequencies; 0 in GPT-2
	Activation    Activation
	Tied          bool    // the head is the token embedding
	AttentionBias bool    // q, k, v and output have biases; true in GPT-2
	MLPBias       bool    // so have the projections of the feed-forward; true in GPT-2
	InitStd       float64 // standard deviation of the initial weights, for the record; 0 to 1
	BOS           int     // token that begins a text, or -1
	EOS           []int   // tokens that end one; may be empty

	// Parts are the parts of the blocks that the architecture does not have, by
	// their seam, "mixer" in place of its attention and "ffn" of its feed-forward:
	// the name of the part under "use", and its options. Own are their
	// parameters. Such a model is one of ours in the architecture's clothes: its
	// model_type is not the architecture's, so that no other program takes it for
	// what it is not.
	Parts map[string]map[string]string
	Own   []Param
}

// ownType is what model_type begins with where a model has Parts.
const ownType = "hasten-"

// modelType is the model_type in config.json.
func (c Config) modelType() string {
	if c.Parts != nil {
		return ownType + string(c.Arch)
	}
	return string(c.Arch)
}

// HeadDim is the width of one head.
func (c Config) HeadDim() int { return c.Dim / c.Heads }

// maxParameters bounds what a config from elsewhere can ask for: 2³⁶, which is
// 256 GiB in float32.
const maxParameters = 1 << 36

// fields are the names in config.json, where the architectures differ.
type fields struct {
	layers, heads, kvHeads, dim, hidden, context, eps, activation string
}

var fieldsOf = map[Arch]fields{
	Llama: {"num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "intermediate_size",
		"max_position_embeddings", "rms_norm_eps", "hidden_act"},
	GPT2: {"n_layer", "n_head", "n_head", "n_embd", "n_inner", "n_positions", "layer_norm_epsilon", "activation_function"},
}

// Validate tells what is wrong with c, if anything, in the terms of config.json.
func (c Config) Validate() error {
	f, ok := fieldsOf[c.Arch]
	if !ok {
		return fmt.Errorf("model_type: %.50q is not known; want llama or gpt2", c.Arch)
	}
	for _, x := range []struct {
		name     string
		value, m int
	}{
		{f.layers, c.Layers, 1024}, {f.heads, c.Heads, 1024}, {f.kvHeads, c.KVHeads, 1024}, {f.dim, c.Dim, 1 << 16},
		{f.hidden, c.Hidden, 1 << 20}, {f.context, c.Context, 1 << 24}, {"vocab_size", c.Vocab, 1 << 22},
	} {
		if x.value < 1 || x.value > x.m {
			return fmt.Errorf("%s: %d; want 1 to %d", x.name, x.value, x.m)
		}
	}
	for _, x := range []struct {
		name             string
		value, low, high float64
	}{
		{f.eps, c.Eps, 1e-12, 0.1}, {"rope_theta", c.RopeTheta, 1, 1e12}, {"initializer_range", c.InitStd, 0, 1},
	} {
		if x.name == "rope_theta" && c.Arch == GPT2 {
			x.low, x.high = 0, 0
		}
		if !(x.value >= x.low && x.value <= x.high) {
			return fmt.Errorf("%s: %g; want %g to %g", x.name, x.value, x.low, x.high)
		}
	}
	switch {
	case c.Dim%c.Heads != 0:
		return fmt.Errorf("%s: %d does not divide %s, %d", f.heads, c.Heads, f.dim, c.Dim)
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("%s: %d does not divide %s, %d", f.kvHeads, c.KVHeads, f.heads, c.Heads)
	case c.Arch == Llama && c.HeadDim()%2 != 0:
		return fmt.Errorf("%s: heads of %d numbers; rotary positions need an even number", f.heads, c.HeadDim())
	case c.Arch == GPT2 && (c.KVHeads != c.Heads || !c.AttentionBias || !c.MLPBias):
		return fmt.Errorf("gpt2 has as many key heads as query heads, and all biases; found %d and %d, and biases %v and %v",
			c.KVHeads, c.Heads, c.AttentionBias, c.MLPBias)
	case aliases[string(c.Activation)] != c.Activation || c.Activation == "":
		return fmt.Errorf("%s: %.50q is not known; want silu, gelu_new, gelu or relu", f.activation, c.Activation)
	case c.BOS < -1 || c.BOS >= c.Vocab:
		return fmt.Errorf("bos_token_id: %d with a vocab_size of %d", c.BOS, c.Vocab)
	}
	for _, id := range c.EOS {
		if id < 0 || id >= c.Vocab {
			return fmt.Errorf("eos_token_id: %d with a vocab_size of %d", id, c.Vocab)
		}
	}
	if err := c.validateParts(); err != nil {
		return err
	}
	if n := c.Parameters(); n > maxParameters {
		return fmt.Errorf("%s, %s, %s and vocab_size make a model of %d parameters; want at most %d",
			f.layers, f.dim, f.hidden, n, int64(maxParameters))
	}
	return nil
}

func (c Config) validateParts() error {
	if c.Parts != nil && len(c.Parts) == 0 {
		return fmt.Errorf("hasten: no parts, in a model of model_type %s", c.modelType())
	}
	for seam, part := range c.Parts {
		if seam != "mixer" && seam != "ffn" {
			return fmt.Errorf("hasten: %.50q is no seam of a block; want mixer or ffn", seam)
		}
		if part["use"] == "" {
			return fmt.Errorf("hasten: %s names no part under use", seam)
		}
	}
	return nil
}

// Parameters is the number of parameters.
func (c Config) Parameters() int64 {
	one := c // one layer, so that the list is short whatever c.Layers says
	one.Layers, one.Own = 1, nil
	var block, rest int64
	for _, p := range c.Own {
		rest += int64(p.Len())
	}
	for _, p := range one.Params() {
		n := int64(p.Shape[0]) * int64(p.cols())
		if p.Block >= 0 {
			block += n
		} else {
			rest += n
		}
	}
	return rest + int64(c.Layers)*block
}

// maxConfig is the size of the largest config.json that is read.
const maxConfig = 1 << 20

// ReadConfig reads a config.json.
func ReadConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("more than %d bytes", maxConfig)
	}
	var c Config
	if err == nil {
		c, err = ParseConfig(data)
	}
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads the text of a config.json. Fields that are absent have the
// values that the transformers library gives them, except sizes, which must be
// there, and special tokens, which are then none. Fields that change what the
// model computes in a way that is not supported are errors; others are ignored.
func ParseConfig(data []byte) (Config, error) {
	p := parser{fields: make(map[string]json.RawMessage)}
	if err := json.Unmarshal(data, &p.fields); err != nil {
		return Config{}, err
	}
	kind, own := strings.CutPrefix(p.text("model_type", ""), ownType)
	c := Config{Arch: Arch(kind)}
	if own {
		c.Parts = map[string]map[string]string{}
		p.read("hasten", &c.Parts, "the parts of the model: an object of objects of strings")
	}
	f, ok := fieldsOf[c.Arch]
	if p.err == nil && !ok {
		p.err = c.Validate()
	}
	c.Layers = p.whole(f.layers, nil)
	c.Heads = p.whole(f.heads, nil)
	c.Dim = p.whole(f.dim, nil)
	c.Context = p.whole(f.context, nil)
	c.Vocab = p.whole("vocab_size", nil)
	c.InitStd = p.number("initializer_range", 0.02)
	c.BOS = p.token("bos_token_id")
	c.EOS = p.tokens("eos_token_id")
	if c.Arch == Llama {
		p.llama(&c, f)
	} else {
		p.gpt2(&c, f)
	}
	if p.err == nil {
		p.err = c.Validate()
	}
	if p.err != nil {
		return Config{}, p.err
	}
	return c, nil
}

func (p *parser) llama(c *Config, f fields) {
	c.KVHeads = p.whole(f.kvHeads, &c.Heads)
	c.Hidden = p.whole(f.hidden, nil)
	c.Eps = p.number(f.eps, 1e-6)
	c.Activation = p.activation(f.activation, SiLU)
	c.Tied = p.flag("tie_word_embeddings", false)
	c.AttentionBias = p.flag("attention_bias", false)
	c.MLPBias = p.flag("mlp_bias", false)
	c.RopeTheta = p.number("rope_theta", 10000)
	p.rope(c)
	if head := p.whole("head_dim", new(int)); head != 0 && head*c.Heads != c.Dim {
		p.fail("head_dim", "%d heads of %d do not make %s, %d: that is not supported", c.Heads, head, f.dim, c.Dim)
	}
}

// rope reads rope_scaling, and rope_parameters, which newer files have in
// place of it and of rope_theta. Only unscaled positions are supported.
func (p *parser) rope(c *Config) {
	for _, name := range []string{"rope_scaling", "rope_parameters"} {
		raw, ok := p.get(name)
		if !ok {
			continue
		}
		inner := parser{fields: make(map[string]json.RawMessage)}
		if err := json.Unmarshal(raw, &inner.fields); err != nil {
			p.fail(name, "want an object or null")
			return
		}
		kind := inner.text("rope_type", inner.text("type", "default"))
		part := inner.number("partial_rotary_factor", 1)
		c.RopeTheta = inner.number("rope_theta", c.RopeTheta)
		switch {
		case inner.err != nil:
			p.fail(name, "%w", inner.err)
		case kind != "default" || part != 1:
			p.fail(name, "type %.50q with factor %g is not supported, only unscaled rotary positions (null) are", kind, part)
		}
	}
}

func (p *parser) gpt2(c *Config, f fields) {
	c.KVHeads = c.Heads
	four := 4 * c.Dim
	c.Hidden = p.whole(f.hidden, &four)
	c.Eps = p.number(f.eps, 1e-5)
	c.Activation = p.activation(f.activation, GELUTanh)
	c.Tied = p.flag("tie_word_embeddings", true)
	c.AttentionBias, c.MLPBias = true, true
	for _, x := range []struct {
		name string
		want bool
	}{{"scale_attn_weights", true}, {"scale_attn_by_inverse_layer_idx", false}, {"add_cross_attention", false}} {
		if got := p.flag(x.name, x.want); got != x.want {
			p.fail(x.name, "%v is not supported", got)
		}
	}
}

// parser takes fields out of a JSON object. It keeps the first error.
type parser struct {
	fields map[string]json.RawMessage
	err    error
}

func (p *parser) fail(name, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%s: %w", name, fmt.Errorf(format, args...))
	}
}

// get finds a field; null is as good as absent.
func (p *parser) get(name string) (json.RawMessage, bool) {
	raw, ok := p.fields[name]
	return raw, ok && !bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// read decodes a field into v, which keeps its value when the field is absent.
func (p *parser) read(name string, v any, want string) {
	if raw, ok := p.get(name); ok && json.Unmarshal(raw, v) != nil {
		p.fail(name, "%.50s; want %s", raw, want)
	}
}

// whole is an integer; without a default the field must be there.
func (p *parser) whole(name string, def *int) int {
	var v int
	if def != nil {
		v = *def
	} else if _, ok := p.get(name); !ok {
		p.fail(name, "the field is absent")
	}
	p.read(name, &v, "a whole number")
	return v
}

func (p *parser) number(name string, def float64) float64 {
	p.read(name, &def, "a number")
	return def
}

func (p *parser) flag(name string, def bool) bool {
	p.read(name, &def, "true or false")
	return def
}

func (p *parser) text(name, def string) string {
	p.read(name, &def, "a string")
	return def
}

func (p *parser) activation(name string, def Activation) Activation {
	text := p.text(name, string(def))
	if a, ok := aliases[text]; ok {
		return a
	}
	return Activation(text) // which Validate refuses
}

// tokens is a token or a list of tokens.
func (p *parser) tokens(name string) []int {
	raw, ok := p.get(name)
	if !ok {
		return nil
	}
	var one int
	if json.Unmarshal(raw, &one) == nil {
		return []int{one}
	}
	var list []int
	p.read(name, &list, "a token or a list of tokens")
	return list
}

// token is the first of tokens, or -1.
func (p *parser) token(name string) int {
	if list := p.tokens(name); len(list) > 0 {
		return list[0]
	}
	return -1
}

// special are the fields of special tokens: null for none, a list for several.
type special struct {
	BOS *int `json:"bos_token_id"`
	EOS any  `json:"eos_token_id"`
}

func (c Config) special() special {
	var s special
	if c.BOS >= 0 {
		s.BOS = &c.BOS
	}
	switch len(c.EOS) {
	case 0:
	case 1:
		s.EOS = c.EOS[0]
	default:
		s.EOS = c.EOS
	}
	return s
}

// number keeps a decimal point or exponent, so that Python reads a float.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	b := strconv.AppendFloat(nil, float64(n), 'g', -1, 64)
	if float64(n) == math.Trunc(float64(n)) && !bytes.ContainsAny(b, ".e") {
		b = append(b, ".0"...)
	}
	return b, nil
}

// Marshal is the text of config.json for weights stored in a number format.
func (c Config) Marshal(dtype format.Float) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	types := []string{format.F32: "float32", format.F64: "float64", format.F16: "float16", format.BF16: "bfloat16"}
	type common struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
		TorchDtype    string   `json:"torch_dtype"`
		Vocab         int      `json:"vocab_size"`
		special
		InitStd  number `json:"initializer_range"`
		Tied     bool   `json:"tie_word_embeddings"`
		UseCache bool   `json:"use_cache"`

		Parts map[string]map[string]string `json:"hasten,omitempty"`
	}
	base := common{nil, c.modelType(), types[dtype], c.Vocab, c.special(), number(c.InitStd), c.Tied, true, c.Parts}
	var v any
	if c.Arch == Llama {
		base.Architectures = c.classes("LlamaForCausalLM")
		v = struct {
			common
			Dim           int        `json:"hidden_size"`
			Hidden        int        `json:"intermediate_size"`
			Layers        int        `json:"num_hidden_layers"`
			Heads         int        `json:"num_attention_heads"`
			KVHeads       int        `json:"num_key_value_heads"`
			HeadDim       int        `json:"head_dim"`
			Context       int        `json:"max_position_embeddings"`
			Activation    Activation `json:"hidden_act"`
			Eps           number     `json:"rms_norm_eps"`
			RopeTheta     number     `json:"rope_theta"`
			RopeScaling   any        `json:"rope_scaling"`
			AttentionBias bool       `json:"attention_bias"`
			MLPBias       bool       `json:"mlp_bias"`
			Dropout       number     `json:"attention_dropout"`
			PretrainingTP int        `json:"pretraining_tp"`
		}{base, c.Dim, c.Hidden, c.Layers, c.Heads, c.KVHeads, c.HeadDim(), c.Context, c.Activation, number(c.Eps),
			number(c.RopeTheta), nil, c.AttentionBias, c.MLPBias, 0, 1}
	} else {
		base.Architectures = c.classes("GPT2LMHeadModel")
		v = struct {
			common
			Dim         int        `json:"n_embd"`
			Hidden      int        `json:"n_inner"`
			Layers      int        `json:"n_layer"`
			Heads       int        `json:"n_head"`
			Context     int        `json:"n_positions"`
			ContextToo  int        `json:"n_ctx"`
			Activation  Activation `json:"activation_function"`
			Eps         number     `json:"layer_norm_epsilon"`
			ResidDrop   number     `json:"resid_pdrop"`
			EmbedDrop   number     `json:"embd_pdrop"`
			AttnDrop    number     `json:"attn_pdrop"`
			ScaleAttn   bool       `json:"scale_attn_weights"`
			ScaleByDeep bool       `json:"scale_attn_by_inverse_layer_idx"`
			Upcast      bool       `json:"reorder_and_upcast_attn"`
		}{base, c.Dim, c.Hidden, c.Layers, c.Heads, c.Context, c.Context, c.Activation, number(c.Eps), 0, 0, 0, true, false, false}
	}
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}

// classes are the names of the program's class for the model.
func (c Config) classes(name string) []string {
	if c.Parts != nil {
		name = "Hasten" + name
	}
	return []string{name}
}

// marshalGeneration is the text of generation_config.json: where texts end.
func (c Config) marshalGeneration() ([]byte, error) {
	b, err := json.MarshalIndent(struct {
		FromModel bool `json:"_from_model_config"`
		special
	}{true, c.special()}, "", "  ")
	return append(b, '\n'), err
}
