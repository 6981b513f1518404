package hf

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hasten/engine/atomicfile"
	"hasten/model/format"
	"hasten/model/format/safetensors"
)

func llama() Config {
	return Config{Arch: Llama, Layers: 2, Heads: 4, KVHeads: 2, Dim: 24, Hidden: 40, Context: 32, Vocab: 50, Eps: 1e-5,
		RopeTheta: 10000, Activation: SiLU, InitStd: 0.02, BOS: 1, EOS: []int{2, 3}}
}

func gpt2() Config {
	return Config{Arch: GPT2, Layers: 2, Heads: 3, KVHeads: 3, Dim: 12, Hidden: 20, Context: 8, Vocab: 40, Eps: 1e-5,
		Activation: GELUTanh, Tied: true, AttentionBias: true, MLPBias: true, InitStd: 0.02, BOS: -1}
}

// variants are configs that differ in what the layouts depend on.
func variants() map[string]Config {
	biased, tied, untied := llama(), llama(), gpt2()
	biased.AttentionBias, biased.MLPBias = true, true
	tied.Tied, tied.KVHeads, tied.EOS = true, 4, nil
	untied.Tied, untied.BOS, untied.EOS, untied.Activation = false, 39, []int{39}, GELU
	return map[string]Config{"llama": llama(), "llama biased": biased, "llama tied": tied, "gpt2": gpt2(), "gpt2 untied": untied}
}

// want is the value that the tests put at row r and column c of a parameter,
// in our layout (out, in): different at every place, exact in f32.
func want(name string, r, c int) float32 {
	h := fnv.New32a()
	fmt.Fprint(h, name, " ", r, " ", c)
	return float32(h.Sum32()%(1<<20)) / 1024
}

// weights gives every parameter those values.
func weights(c Config) func(string) []float32 {
	all := make(map[string][]float32)
	for _, p := range c.Params() {
		x := make([]float32, p.Len())
		for i := range x {
			x[i] = want(p.Name, i/p.cols(), i%p.cols())
		}
		all[p.Name] = x
	}
	return func(name string) []float32 { return all[name] }
}

// expected is what the file must hold: by the transformers library's own
// modules, written down without the tables of this package.
func expected(c Config) map[string][]float32 {
	out := make(map[string][]float32)
	put := func(hf, our string, row, rows, cols int, transposed bool) {
		x := make([]float32, 0, rows*cols)
		if transposed {
			for k := range cols {
				for r := range rows {
					x = append(x, want(our, row+r, k))
				}
			}
		} else {
			for r := range rows {
				for k := range cols {
					x = append(x, want(our, row+r, k))
				}
			}
		}
		out[hf] = x
	}
	d, h, v := c.Dim, c.Hidden, c.Vocab
	if c.Arch == Llama {
		kv := d / c.Heads * c.KVHeads
		put("model.embed_tokens.weight", "tok.weight", 0, v, d, false)
		for i := range c.Layers {
			hf, our := fmt.Sprintf("model.layers.%d.", i), fmt.Sprintf("blocks.%d.", i)
			put(hf+"input_layernorm.weight", our+"norm1.weight", 0, d, 1, false)
			put(hf+"post_attention_layernorm.weight", our+"norm2.weight", 0, d, 1, false)
			for _, k := range []struct {
				part string
				cols int
				on   bool
			}{{"weight", d, true}, {"bias", 1, c.AttentionBias}} {
				if k.on {
					put(hf+"self_attn.q_proj."+k.part, our+"attn.qkv."+k.part, 0, d, k.cols, false)
					put(hf+"self_attn.k_proj."+k.part, our+"attn.qkv."+k.part, d, kv, k.cols, false)
					put(hf+"self_attn.v_proj."+k.part, our+"attn.qkv."+k.part, d+kv, kv, k.cols, false)
					put(hf+"self_attn.o_proj."+k.part, our+"attn.out."+k.part, 0, d, k.cols, false)
				}
			}
			put(hf+"mlp.gate_proj.weight", our+"mlp.gateup.weight", 0, h, d, false)
			put(hf+"mlp.up_proj.weight", our+"mlp.gateup.weight", h, h, d, false)
			put(hf+"mlp.down_proj.weight", our+"mlp.down.weight", 0, d, h, false)
			if c.MLPBias {
				put(hf+"mlp.gate_proj.bias", our+"mlp.gateup.bias", 0, h, 1, false)
				put(hf+"mlp.up_proj.bias", our+"mlp.gateup.bias", h, h, 1, false)
				put(hf+"mlp.down_proj.bias", our+"mlp.down.bias", 0, d, 1, false)
			}
		}
		put("model.norm.weight", "norm.weight", 0, d, 1, false)
	} else {
		put("transformer.wte.weight", "tok.weight", 0, v, d, false)
		put("transformer.wpe.weight", "pos.weight", 0, c.Context, d, false)
		for i := range c.Layers {
			hf, our := fmt.Sprintf("transformer.h.%d.", i), fmt.Sprintf("blocks.%d.", i)
			for _, n := range []struct {
				hf, our   string
				rows, col int
			}{{"ln_1", "norm1", d, 0}, {"ln_2", "norm2", d, 0}, {"attn.c_attn", "attn.qkv", 3 * d, d}, {"attn.c_proj", "attn.out", d, d},
				{"mlp.c_fc", "mlp.up", h, d}, {"mlp.c_proj", "mlp.down", d, h}} {
				put(hf+n.hf+".weight", our+n.our+".weight", 0, n.rows, max(1, n.col), n.col > 0)
				put(hf+n.hf+".bias", our+n.our+".bias", 0, n.rows, 1, false)
			}
		}
		put("transformer.ln_f.weight", "norm.weight", 0, d, 1, false)
		put("transformer.ln_f.bias", "norm.bias", 0, d, 1, false)
	}
	if !c.Tied {
		put("lm_head.weight", "head.weight", 0, v, d, false)
	}
	return out
}

func TestSaveWritesTheLibrarysLayout(t *testing.T) {
	for name, c := range variants() {
		dir := t.TempDir()
		if err := Save(dir, c, format.F32, weights(c)); err != nil {
			t.Fatal(err)
		}
		r, err := safetensors.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		exp := expected(c)
		if len(r.Names()) != len(exp) {
			t.Errorf("%s: tensors %q", name, r.Names())
		}
		var total int64
		for hf, x := range exp {
			got := make([]float32, len(x))
			if err := r.ReadFloats(hf, 0, got); err != nil || !slices.Equal(got, x) {
				t.Errorf("%s: %s differs (%v)", name, hf, err)
			}
			total += int64(len(x))
		}
		if got := c.Parameters(); got != total {
			t.Errorf("%s: Parameters() = %d, want %d", name, got, total)
		}
		r.Close()
	}
}

// check loads a model and compares every parameter.
func check(t *testing.T, dir string, c Config) {
	t.Helper()
	m, err := Load(dir)
	if err != nil {
		t.Error(err)
		return
	}
	defer m.Close()
	if !reflect.DeepEqual(m.Config, c) {
		t.Errorf("config %+v, want %+v", m.Config, c)
	}
	w := weights(c)
	for _, p := range c.Params() {
		x := make([]float32, p.Len())
		if err := m.ReadInto(p.Name, x); err != nil || !slices.Equal(x, w(p.Name)) {
			t.Errorf("%s differs (%v)", p.Name, err)
		}
	}
}

func TestLoadReadsWhatSaveWrote(t *testing.T) {
	for _, c := range variants() {
		dir := t.TempDir()
		if err := Save(dir, c, format.F32, weights(c)); err != nil {
			t.Fatal(err)
		}
		check(t, dir, c)
	}
}

func TestWriteIntoACheckpoint(t *testing.T) {
	c, path := gpt2(), filepath.Join(t.TempDir(), "step-1")
	err := atomicfile.WriteDir(path, func(d *atomicfile.Dir) error { return Write(d, c, format.F32, weights(c)) })
	if err != nil {
		t.Fatal(err)
	}
	check(t, path, c)
}

// saveAs writes the tensors of a model as another program would: rename gives
// the name in the file, or "" to leave a tensor out.
func saveAs(t *testing.T, dir string, c Config, dtype safetensors.DType, rename func(string) string, more ...safetensors.Entry) {
	t.Helper()
	entries := more
	shapes := make(map[string][]int)
	for _, p := range c.Params() {
		for _, part := range p.Parts {
			shapes[part.HF] = p.shapeOf(part)
		}
	}
	for hf, x := range expected(c) {
		if name := rename(hf); name != "" {
			entries = append(entries, safetensors.Entry{Name: name, DType: dtype, Shape: shapes[hf], Values: format.Of(x)})
		}
	}
	var b bytes.Buffer
	if err := safetensors.Write(&b, nil, entries); err != nil {
		t.Fatal(err)
	}
	text, err := c.Marshal(format.F32)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{safetensors.FileName: b.Bytes(), ConfigName: text} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadReadsFilesOfOtherPrograms(t *testing.T) {
	same := func(s string) string { return s }
	bare := func(s string) string {
		return strings.TrimPrefix(strings.TrimPrefix(s, "model."), "transformer.")
	}
	mask := safetensors.Entry{Name: "h.0.attn.bias", DType: safetensors.U8, Shape: []int{1, 1, 2, 2}, Bytes: make([]byte, 4)}
	freq := safetensors.Entry{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", Shape: []int{1}, Values: format.Of([]float32{1})}
	head := safetensors.Entry{Name: "lm_head.weight", Shape: []int{1}, Values: format.Of([]float32{1})}
	extra := safetensors.Entry{Name: "model.layers.0.self_attn.q_norm.weight", Shape: []int{1}, Values: format.Of([]float32{1})}
	for _, c := range []struct {
		name   string
		config Config
		dtype  safetensors.DType
		rename func(string) string
		more   []safetensors.Entry
		want   string // in the error
	}{
		{"bare names", gpt2(), safetensors.F32, bare, []safetensors.Entry{mask}, ""},
		{"bare Llama names", llama(), safetensors.F32, bare, nil, ""},
		{"f64", llama(), safetensors.F64, same, []safetensors.Entry{freq}, ""},
		{"head of a tied model", gpt2(), safetensors.F32, same, []safetensors.Entry{head}, ""},
		{"more than the model has", llama(), safetensors.F32, same, []safetensors.Entry{extra}, "q_norm.weight\" has no place"},
		{"mask in Llama", llama(), safetensors.F32, same, []safetensors.Entry{mask}, "no place"},
		{"no head", llama(), safetensors.F32, func(s string) string { return strings.Replace(s, "lm_head.weight", "", 1) }, nil, "tie_word_embeddings"},
		{"a tensor is absent", llama(), safetensors.F32, func(s string) string {
			if strings.HasSuffix(s, "1.mlp.up_proj.weight") {
				return ""
			}
			return s
		}, nil, `no tensor "model.layers.1.mlp.up_proj.weight"`},
		{"two tensors exchanged", llama(), safetensors.F32, func(s string) string {
			return strings.NewReplacer("up_proj", "down_proj", "down_proj", "up_proj").Replace(s)
		}, nil, "[24 40]; by config.json it should be [40 24]"},
	} {
		dir := t.TempDir()
		saveAs(t, dir, c.config, c.dtype, c.rename, c.more...)
		if c.want == "" {
			check(t, dir, c.config)
			continue
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
}

func TestReadIntoRefuses(t *testing.T) {
	c, dir := gpt2(), t.TempDir()
	if err := Save(dir, c, format.BF16, weights(c)); err != nil {
		t.Fatal(err)
	}
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.ReadInto("none", nil) == nil || m.ReadInto("norm.bias", make([]float32, 11)) == nil {
		t.Error("no error")
	}
	x := make([]float32, 12)
	if err := m.ReadInto("norm.bias", x); err != nil || x[3] == 0 {
		t.Errorf("norm.bias in bf16: %v, %v", x, err)
	}
}

func TestSaveRefuses(t *testing.T) {
	dir, c := t.TempDir(), llama()
	bad := c
	bad.Heads = 5
	for name, err := range map[string]error{
		"config":  Save(dir, bad, format.F32, weights(c)),
		"absent":  Save(dir, c, format.F32, func(string) []float32 { return nil }),
		"folder":  Save(filepath.Join(dir, "absent"), c, format.F32, weights(c)),
		"too big": Save(dir, c, format.F16, func(n string) []float32 { x := slices.Clone(weights(c)(n)); x[0] = 1e9; return x }),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if list, _ := os.ReadDir(dir); len(list) > 0 {
		t.Errorf("left %v", list)
	}
}

// The files as the transformers library expects them, to the byte.
func TestGoldenConfigs(t *testing.T) {
	for name, c := range map[string]Config{"llama": llama(), "gpt2": gpt2()} {
		got, err := c.Marshal(format.BF16)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".config.json")
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: wrote\n%s", path, got)
		}
		back, err := ReadConfig(path)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%s: read %+v, %v", path, back, err)
		}
	}
}

// Configs as they are published, with all that they carry beside the sizes.
func TestPublishedConfigs(t *testing.T) {
	for _, c := range []struct {
		text string
		want Config
	}{
		{`{"activation_function":"gelu_new","architectures":["GPT2LMHeadModel"],"attn_pdrop":0.1,"bos_token_id":50256,"embd_pdrop":0.1,
		  "eos_token_id":50256,"initializer_range":0.02,"layer_norm_epsilon":1e-05,"model_type":"gpt2","n_ctx":1024,"n_embd":768,"n_head":12,
		  "n_layer":12,"n_positions":1024,"resid_pdrop":0.1,"summary_type":"cls_index","summary_use_proj":true,
		  "task_specific_params":{"text-generation":{"do_sample":true,"max_length":50}},"vocab_size":50257}`,
			Config{GPT2, 12, 12, 12, 768, 3072, 1024, 50257, 1e-5, 0, GELUTanh, true, true, true, 0.02, 50256, []int{50256}, nil, nil}},
		{`{"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,"bos_token_id":1,"eos_token_id":2,
		  "hidden_act":"silu","hidden_size":2048,"initializer_range":0.02,"intermediate_size":5632,"max_position_embeddings":2048,
		  "model_type":"llama","num_attention_heads":32,"num_hidden_layers":22,"num_key_value_heads":4,"pretraining_tp":1,"rms_norm_eps":1e-05,
		  "rope_scaling":null,"rope_theta":10000.0,"tie_word_embeddings":false,"torch_dtype":"bfloat16","transformers_version":"4.35.0",
		  "use_cache":true,"vocab_size":32000}`,
			Config{Llama, 22, 32, 4, 2048, 5632, 2048, 32000, 1e-5, 10000, SiLU, false, false, false, 0.02, 1, []int{2}, nil, nil}},
		// Newer files have rope_parameters.
		{`{"bos_token_id":null,"eos_token_id":[2,3],"hidden_size":64,"intermediate_size":96,"max_position_embeddings":128,"model_type":"llama",
		  "num_attention_heads":4,"num_hidden_layers":1,"rope_parameters":{"rope_theta":500000.0,"rope_type":"default"},"tie_word_embeddings":true,"vocab_size":10}`,
			Config{Llama, 1, 4, 4, 64, 96, 128, 10, 1e-6, 500000, SiLU, true, false, false, 0.02, -1, []int{2, 3}, nil, nil}},
	} {
		got, err := ParseConfig([]byte(c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("read %+v, %v; want %+v", got, err, c.want)
		}
	}
	m := Config{GPT2, 12, 12, 12, 768, 3072, 1024, 50257, 1e-5, 0, GELUTanh, true, true, true, 0.02, 50256, nil, nil, nil}
	if got := m.Parameters(); got != 124439808 {
		t.Errorf("GPT-2 small has %d parameters, want 124439808", got)
	}
}

func TestBadConfigsNameTheField(t *testing.T) {
	good := map[string][]byte{}
	for _, c := range []Config{llama(), gpt2()} {
		text, err := c.Marshal(format.F32)
		if err != nil {
			t.Fatal(err)
		}
		good[string(c.Arch)] = text
	}
	for _, c := range []struct{ arch, old, new, want string }{
		{"llama", `"model_type": "llama"`, `"model_type": "bert"`, "model_type"},
		{"llama", `"model_type": "llama"`, `"model_type": null`, "model_type"},
		{"llama", `"model_type": "llama"`, `"model_type": 7`, "model_type"},
		{"llama", `"num_hidden_layers": 2`, `"num_hidden_layers": 2000000000`, "num_hidden_layers"},
		{"llama", `"num_hidden_layers": 2`, `"num_hidden_layers": 0`, "num_hidden_layers"},
		{"llama", `"num_hidden_layers": 2`, `"num_hidden_layers": "2"`, "num_hidden_layers"},
		{"llama", `"num_hidden_layers": 2`, `"num_hidden_layers": 1e30`, "num_hidden_layers"},
		{"llama", `"num_hidden_layers": 2,`, ``, "num_hidden_layers: the field is absent"},
		{"llama", `"num_attention_heads": 4`, `"num_attention_heads": 5`, "head_dim"},
		{"llama", `"head_dim": 6`, `"num_attention_heads": 5`, "num_attention_heads"}, // the later one counts
		{"llama", `"head_dim": 6`, `"num_attention_heads": 8`, "num_attention_heads: heads of 3"},
		{"llama", `"num_key_value_heads": 2`, `"num_key_value_heads": 3`, "num_key_value_heads"},
		{"llama", `"num_key_value_heads": 2`, `"num_key_value_heads": -1`, "num_key_value_heads"},
		{"llama", `"head_dim": 6`, `"head_dim": 8`, "head_dim"},
		{"llama", `"hidden_size": 24`, `"hidden_size": 24.5`, "hidden_size"},
		{"llama", `"intermediate_size": 40`, `"intermediate_size": 1048577`, "intermediate_size"},
		{"llama", `"vocab_size": 50`, `"vocab_size": 99999999`, "vocab_size"},
		{"llama", `"max_position_embeddings": 32`, `"max_position_embeddings": 0`, "max_position_embeddings"},
		{"llama", `"rms_norm_eps": 1e-05`, `"rms_norm_eps": 0`, "rms_norm_eps"},
		{"llama", `"rms_norm_eps": 1e-05`, `"rms_norm_eps": "x"`, "rms_norm_eps"},
		{"llama", `"rope_theta": 10000.0`, `"rope_theta": -5`, "rope_theta"},
		{"llama", `"rope_scaling": null`, `"rope_scaling": {"rope_type": "llama3", "factor": 8}`, "rope_scaling"},
		{"llama", `"rope_scaling": null`, `"rope_scaling": {"type": "linear", "factor": 2}`, "rope_scaling"},
		{"llama", `"rope_scaling": null`, `"rope_scaling": 7`, "rope_scaling"},
		{"llama", `"rope_scaling": null`, `"rope_parameters": {"rope_type": "yarn"}`, "rope_parameters"},
		{"llama", `"rope_scaling": null`, `"rope_parameters": {"partial_rotary_factor": 0.5}`, "rope_parameters"},
		{"llama", `"hidden_act": "silu"`, `"hidden_act": "mish"`, "hidden_act"},
		{"llama", `"tie_word_embeddings": false`, `"tie_word_embeddings": 1`, "tie_word_embeddings"},
		{"llama", `"bos_token_id": 1`, `"bos_token_id": 50`, "bos_token_id"},
		{"llama", `"bos_token_id": 1`, `"eos_token_id": {}, "bos_token_id": 1`, ""}, // the later eos_token_id counts
		{"llama", `"initializer_range": 0.02`, `"initializer_range": 2`, "initializer_range"},
		{"gpt2", `"eos_token_id": null`, `"eos_token_id": "x"`, "eos_token_id"},
		{"gpt2", `"eos_token_id": null`, `"eos_token_id": [1, 40]`, "eos_token_id"},
		{"gpt2", `"n_head": 3`, `"n_head": 7`, "n_head"},
		{"gpt2", `"n_embd": 12`, `"n_embd": 65537`, "n_embd"},
		{"gpt2", `"scale_attn_weights": true`, `"scale_attn_weights": false`, "scale_attn_weights"},
		{"gpt2", `"scale_attn_by_inverse_layer_idx": false`, `"scale_attn_by_inverse_layer_idx": true`, "scale_attn_by_inverse_layer_idx"},
		{"gpt2", `"n_layer": 2`, `"n_layer": 2, "add_cross_attention": true`, "add_cross_attention"},
		{"gpt2", `"n_inner": 20`, `"n_inner": null`, ""},
		{"gpt2", `}`, ``, "JSON"},
	} {
		if !strings.Contains(string(good[c.arch]), c.old) {
			t.Fatalf("the config has no %s", c.old)
		}
		path := filepath.Join(t.TempDir(), ConfigName)
		if err := os.WriteFile(path, []byte(strings.Replace(string(good[c.arch]), c.old, c.new, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		switch _, err := ReadConfig(path); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.new, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path)):
			t.Errorf("%s: error %v", c.new, err)
		}
	}
	huge := Config{Llama, 1024, 1024, 1024, 1 << 16, 1 << 20, 1, 1 << 22, 1e-5, 1e4, SiLU, false, false, false, 0, -1, nil, nil, nil}
	if err := huge.Validate(); err == nil || !strings.Contains(err.Error(), "parameters") {
		t.Errorf("a model of %d parameters: %v", huge.Parameters(), err)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, c := range variants() {
		text, err := c.Marshal(format.F32)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	parts := llama()
	parts.Parts = map[string]map[string]string{"mixer": {"use": "moa"}, "ffn": {"use": "moe", "k": "2"}}
	text, err := parts.Marshal(format.F32)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"model_type":"llama","rope_scaling":{"rope_type":[]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		text, err := c.Marshal(format.F32)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseConfig(text); err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%+v came back as %+v, %v", c, back, err)
		}
	})
}

// TestModelsWithParts saves a model whose blocks have parts of our own and reads
// it again; other programs must not take it for a Llama.
func TestModelsWithParts(t *testing.T) {
	c := llama()
	c.Parts = map[string]map[string]string{"ffn": {"use": "moe", "experts": "2"}}
	c.Own = []Param{OwnParam("blocks.0.ffn.up.weight", []int{2, 3, 4}), OwnParam("blocks.1.ffn.up.weight", []int{5})}
	for _, p := range c.Params() {
		if strings.Contains(p.Name, ".mlp.") {
			t.Errorf("there is %s beside the part", p.Name)
		}
	}
	dir := t.TempDir()
	if err := Save(dir, c, format.F32, weights(c)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, ConfigName))
	if err != nil || !strings.Contains(string(text), `"model_type": "hasten-llama"`) || strings.Contains(string(text), `"LlamaForCausalLM"`) {
		t.Errorf("%v, config.json:\n%s", err, text)
	}
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !reflect.DeepEqual(m.Config, c) {
		t.Errorf("%+v came back as %+v", c, m.Config)
	}
	for _, p := range c.Params() {
		got := make([]float32, p.Len())
		if err := m.ReadInto(p.Name, got); err != nil || !slices.Equal(got, weights(c)(p.Name)) {
			t.Errorf("%s: %v, %v", p.Name, got, err)
		}
	}
	for old, bad := range map[string]string{
		`"hasten-llama"`: `"llama"`, // without its feed-forward
		`"use": "moe"`:   `"used": "moe"`,
		`"ffn": {`:       `"head": {`,
		`"hasten": {`:    `"hasten": 3, "x": {`,
		`"2"`:            `2`,
	} {
		path := filepath.Join(dir, ConfigName)
		if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, bad, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		if m, err := Load(dir); err == nil {
			m.Close()
			t.Errorf("%s was taken", bad)
		} else if !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v does not name the file", bad, err)
		}
	}
}
