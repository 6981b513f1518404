package gguf

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hasten/engine/rng"
	"hasten/model/format"
	"hasten/model/format/hf"
)

func llama() hf.Config {
	return hf.Config{Arch: hf.Llama, Layers: 2, Heads: 4, KVHeads: 2, Dim: 24, Hidden: 40, Context: 32, Vocab: 12, Eps: 1e-5,
		RopeTheta: 10000, Activation: hf.SiLU, InitStd: 0.02, BOS: 1, EOS: []int{2}}
}

func gpt2() hf.Config {
	return hf.Config{Arch: hf.GPT2, Layers: 2, Heads: 3, KVHeads: 3, Dim: 12, Hidden: 20, Context: 8, Vocab: 12, Eps: 1e-5,
		Activation: hf.GELUTanh, Tied: true, AttentionBias: true, MLPBias: true, InitStd: 0.02, BOS: -1, EOS: []int{0}}
}

func tokenizer() Tokenizer {
	return Tokenizer{
		Tokens: []string{"<|endoftext|>", "a", "b", "Ġ", "ab", "Ġab", "c", "d", "e", "f"}, // two fewer than the vocabulary
		Types:  []TokenType{Control, Normal, Normal, Normal, Normal, Normal, Normal, Normal, Normal, Normal},
		Merges: []string{"a b", "Ġ ab"},
	}
}

// weights gives every parameter values that differ from place to place and are
// exact in f16 and bf16.
func weights(c hf.Config) func(string) []float32 {
	all := make(map[string][]float32)
	s := rng.New(3, 0)
	for _, p := range c.Params() {
		x := make([]float32, p.Len())
		for i := range x {
			x[i] = float32(s.IntN(255)-127) / 64
		}
		all[p.Name] = x
	}
	return func(name string) []float32 { return all[name] }
}

// save writes a model to a file.
func save(t testing.TB, c hf.Config, dtype format.Float) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, "test", c, tokenizer(), dtype, weights(c)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadReadsWhatWriteWrote(t *testing.T) {
	biased, untied := llama(), gpt2()
	biased.AttentionBias, biased.MLPBias, biased.Tied = true, true, true
	untied.Tied, untied.BOS = false, 0
	for _, c := range []hf.Config{llama(), gpt2(), biased, untied} {
		for _, dtype := range []format.Float{format.F32, format.F16, format.BF16} {
			m, err := Load(save(t, c, dtype))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(m.Config, c) {
				t.Errorf("config %+v, want %+v", m.Config, c)
			}
			w := weights(c)
			for _, p := range c.Params() {
				x := make([]float32, p.Len())
				if err := m.ReadInto(p.Name, x); err != nil || !slices.Equal(x, w(p.Name)) {
					t.Errorf("%s, %v: %s differs (%v)", c.Arch, dtype, p.Name, err)
				}
			}
			tok := tokenizer()
			if !slices.Equal(m.Tokenizer.Tokens[:10], tok.Tokens) || !slices.Equal(m.Tokenizer.Merges, tok.Merges) ||
				!slices.Equal(m.Tokenizer.Types[:10], tok.Types) || m.Tokenizer.Types[10] != Unused || m.Tokenizer.Pre != "gpt-2" {
				t.Errorf("tokenizer %+v", m.Tokenizer)
			}
			if m.ReadInto("none", nil) == nil || m.ReadInto("norm.weight", make([]float32, 1)) == nil {
				t.Error("ReadInto: no error")
			}
			m.Close()
		}
	}
}

// The names and shapes that llama.cpp looks for, written down by hand.
func TestTensorsOfLlamaCpp(t *testing.T) {
	for _, c := range []struct {
		config hf.Config
		want   map[string][]int
	}{
		{llama(), map[string][]int{
			"token_embd.weight": {12, 24}, "output_norm.weight": {24}, "output.weight": {12, 24},
			"blk.%d.attn_norm.weight": {24}, "blk.%d.attn_q.weight": {24, 24}, "blk.%d.attn_k.weight": {12, 24}, "blk.%d.attn_v.weight": {12, 24},
			"blk.%d.attn_output.weight": {24, 24}, "blk.%d.ffn_norm.weight": {24}, "blk.%d.ffn_gate.weight": {40, 24},
			"blk.%d.ffn_up.weight": {40, 24}, "blk.%d.ffn_down.weight": {24, 40}}},
		{gpt2(), map[string][]int{
			"token_embd.weight": {12, 12}, "position_embd.weight": {8, 12}, "output_norm.weight": {12}, "output_norm.bias": {12},
			"blk.%d.attn_norm.weight": {12}, "blk.%d.attn_norm.bias": {12}, "blk.%d.attn_qkv.weight": {36, 12}, "blk.%d.attn_qkv.bias": {36},
			"blk.%d.attn_output.weight": {12, 12}, "blk.%d.attn_output.bias": {12}, "blk.%d.ffn_norm.weight": {12}, "blk.%d.ffn_norm.bias": {12},
			"blk.%d.ffn_up.weight": {20, 12}, "blk.%d.ffn_up.bias": {20}, "blk.%d.ffn_down.weight": {12, 20}, "blk.%d.ffn_down.bias": {12}}},
	} {
		f, err := Open(save(t, c.config, format.F16))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for pattern, shape := range c.want {
			names := []string{pattern}
			if strings.Contains(pattern, "%d") {
				names = []string{fmt.Sprintf(pattern, 0), fmt.Sprintf(pattern, 1)}
			}
			for _, name := range names {
				n++
				typ := F16
				if len(shape) == 1 || name == "position_embd.weight" {
					typ = F32
				}
				if got, ok := f.Tensor(name); !ok || !slices.Equal(got.Shape, shape) || got.Type != typ || got.at%32 != 0 {
					t.Errorf("%s is %+v, want %v of %v", name, got, shape, typ)
				}
			}
		}
		if got := f.Names(); len(got) != n {
			t.Errorf("tensors %q", got)
		}
		f.Close()
	}
}

// rotate turns the pairs of a head by angles that grow with the pair: half
// takes (j, j+E/2) for a pair, and its contrary (2j, 2j+1).
func rotate(x []float64, half bool) []float64 {
	y := make([]float64, len(x))
	for j := range len(x) / 2 {
		a, b := 2*j, 2*j+1
		if half {
			a, b = j, j+len(x)/2
		}
		sin, cos := math.Sincos(float64(j + 1))
		y[a], y[b] = x[a]*cos-x[b]*sin, x[a]*sin+x[b]*cos
	}
	return y
}

// What the permutation is for: the attention scores stay the same when the
// positions are turned the other way.
func TestRotaryPairs(t *testing.T) {
	c := llama()
	f, err := Open(save(t, c, format.F32))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	qkv, e := weights(c)("blocks.1.attn.qkv.weight"), c.HeadDim()
	stored := func(name string, rows int) []float32 {
		x := make([]float32, rows*c.Dim)
		if err := f.ReadFloats(name, 0, x); err != nil {
			t.Fatal(err)
		}
		return x
	}
	wq, wk := stored("blk.1.attn_q.weight", c.Dim), stored("blk.1.attn_k.weight", c.KVHeads*e)
	in := make([]float64, c.Dim)
	for i := range in {
		in[i] = float64(i%7) - 3
	}
	project := func(w []float32, head int, half bool) []float64 {
		x := make([]float64, e)
		for r := range e {
			for k, v := range in {
				x[r] += float64(w[(head*e+r)*c.Dim+k]) * v
			}
		}
		return rotate(x, half)
	}
	for head := range c.Heads {
		kv := head / (c.Heads / c.KVHeads)
		var ours, theirs float64
		q1, k1 := project(qkv, head, true), project(qkv[c.Dim*c.Dim:], kv, true)
		q2, k2 := project(wq, head, false), project(wk, kv, false)
		for i := range e {
			ours += q1[i] * k1[i]
			theirs += q2[i] * k2[i]
		}
		if math.Abs(ours-theirs) > 1e-9*math.Abs(ours) {
			t.Errorf("head %d: score %g, and %g from the file", head, ours, theirs)
		}
		for i, v := range q1 { // and each pair is the same pair
			if want := q2[i%(e/2)*2+i/(e/2)]; math.Abs(v-want) > 1e-9 {
				t.Errorf("head %d, number %d: %g, and %g from the file", head, i, v, want)
			}
		}
	}
}

// The first bytes of a file, put together by hand.
func TestGoldenHeader(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, "tiny", gpt2(), tokenizer(), format.F32, weights(gpt2())); err != nil {
		t.Fatal(err)
	}
	const want = "47475546" + "03000000" + "1c00000000000000" + "1300000000000000" + // GGUF, 3, 28 tensors, 19 keys
		"1400000000000000" + "67656e6572616c2e617263686974656374757265" + "08000000" + "0400000000000000" + "67707432" + // general.architecture = gpt2
		"0c00000000000000" + "67656e6572616c2e6e616d65" + "08000000" + "0400000000000000" + "74696e79" + // general.name = tiny
		"1100000000000000" + "67656e6572616c2e616c69676e6d656e74" + "04000000" + "20000000" // general.alignment = 32
	if got := hex.EncodeToString(b.Bytes()[:len(want)/2]); got != want {
		t.Errorf("wrote\n%s, want\n%s", got, want)
	}
	f, err := Read(bytes.NewReader(b.Bytes()), int64(b.Len()), "x")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"general.file_type": uint32(0), "gpt2.context_length": uint32(8), "gpt2.embedding_length": uint32(12), "gpt2.block_count": uint32(2),
		"gpt2.feed_forward_length": uint32(20), "gpt2.attention.head_count": uint32(3), "gpt2.attention.layer_norm_epsilon": float32(1e-5),
		"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.eos_token_id": uint32(0), "tokenizer.ggml.add_bos_token": false,
	} {
		if got := f.Value(key); got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	if len(f.Keys()) != 0x13 || len(f.Names()) != 0x1c {
		t.Errorf("%d keys, %d tensors", len(f.Keys()), len(f.Names()))
	}
	// The last tensor ends where the padded file ends.
	if b.Len()%32 != 0 {
		t.Errorf("%d bytes", b.Len())
	}
}

func TestWriteRefuses(t *testing.T) {
	tok := tokenizer()
	for name, c := range map[string]struct {
		config func(*hf.Config)
		tok    func(*Tokenizer)
		dtype  format.Float
	}{
		"invalid":         {config: func(c *hf.Config) { c.Heads = 5 }},
		"activation":      {config: func(c *hf.Config) { c.Activation = hf.GELU }},
		"no end":          {config: func(c *hf.Config) { c.EOS = nil }},
		"too many tokens": {tok: func(t *Tokenizer) { t.Tokens = make([]string, 13) }},
		"types":           {tok: func(t *Tokenizer) { t.Types = t.Types[1:] }},
		"same token":      {tok: func(t *Tokenizer) { t.Tokens = []string{"a", "a"}; t.Types = nil }},
		"empty token":     {tok: func(t *Tokenizer) { t.Tokens = []string{""}; t.Types = nil }},
		"not UTF-8":       {tok: func(t *Tokenizer) { t.Tokens = []string{"\xff"}; t.Types = nil }},
		"merge":           {tok: func(t *Tokenizer) { t.Merges = []string{"ab"} }},
		"merge of three":  {tok: func(t *Tokenizer) { t.Merges = []string{"a b c"} }},
		"type of numbers": {dtype: format.F64},
	} {
		config, tk := llama(), tok
		if c.config != nil {
			c.config(&config)
		}
		if c.tok != nil {
			c.tok(&tk)
		}
		if err := Write(io.Discard, "", config, tk, c.dtype, weights(llama())); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := Write(io.Discard, "", llama(), tok, format.F32, func(string) []float32 { return nil }); err == nil {
		t.Error("no weights: no error")
	}
}

// maker puts files together that Write never writes.
type maker struct{ encoder }

func (m *maker) file(tensors int) []byte {
	return append(m.start(tensors), m.buf.Bytes()...)
}

func TestDamageIsAnErrorThatNamesThePlace(t *testing.T) {
	read := func(b []byte) error {
		_, err := Read(bytes.NewReader(b), int64(len(b)), "x.gguf")
		return err
	}
	var good maker
	good.string("a", "b")
	if err := read(good.file(0)); err != nil {
		t.Fatal(err)
	}
	tensor := func(name string, rank uint32, dims []uint64, typ, at uint64) []byte {
		var m maker
		m.text(name)
		m.put32(rank)
		for _, d := range dims {
			m.put64(d)
		}
		m.put32(uint32(typ))
		m.put64(at)
		return append(m.file(1), make([]byte, 64)...)
	}
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"nothing", nil, "byte 0"},
		{"other file", make([]byte, 100), "GGUF"},
		{"big-endian or future", append([]byte("GGUF\x00\x00\x00\x03"), make([]byte, 16)...), "version"},
		{"keys beyond the end", func() []byte { m := good; m.keyN = 1 << 60; return m.file(0) }(), "0 bytes are left"},
		{"tensors beyond the end", good.file(math.MaxInt32), "tensor"},
		{"key twice", func() []byte { var m maker; m.bool("k", true); m.bool("k", true); return m.file(0) }(), `"k" comes twice`},
		{"unknown type", func() []byte { var m maker; m.key("k", 99); return m.file(0) }(), `key "k": values of type 99`},
		{"array in an array", func() []byte { var m maker; m.array("k", kindArray, 1); return append(m.file(0), make([]byte, 99)...) }(), "type 9"},
		{"array beyond the end", func() []byte { var m maker; m.array("k", kindUint64, math.MaxInt); return m.file(0) }(), "bytes are left"},
		{"text beyond the end", func() []byte { var m maker; m.key("k", kindString); m.put64(1 << 63); return m.file(0) }(), "bytes are left"},
		{"alignment", func() []byte { var m maker; m.uint32("general.alignment", 33); return m.file(0) }(), "power of two"},
		{"alignment of another type", func() []byte { var m maker; m.string("general.alignment", "x"); return m.file(0) }(), "power of two"},
		{"rank", tensor("t", 5, []uint64{1, 1, 1, 1, 1}, 0, 0), "5 dimensions"},
		{"dimension 0", tensor("t", 2, []uint64{1, 0}, 0, 0), "dimension 2"},
		{"overflow", tensor("t", 2, []uint64{1 << 32, 1 << 32}, 0, 0), "dimension 2"},
		{"unaligned", tensor("t", 1, []uint64{1}, 0, 4), "aligned"},
		{"behind the end", tensor("t", 1, []uint64{1}, 0, 1<<40), `tensor "t": its data would begin`},
		{"too large", tensor("t", 1, []uint64{1 << 20}, 0, 0), "does not fit"},
	} {
		if err := read(c.file); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "x.gguf") {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
	var two maker // tensors that overlap, and one name twice
	for _, at := range []uint64{0, 32} {
		two.text(fmt.Sprint("t", at))
		two.put32(1)
		two.put64(16)
		two.put32(uint32(F32))
		two.put64(at)
	}
	if err := read(append(two.file(2), make([]byte, 256)...)); err == nil || !strings.Contains(err.Error(), `"t0": shape`) {
		t.Errorf("overlap: %v", err)
	}
	if err := read(bytes.ReplaceAll(append(two.file(2), make([]byte, 256)...), []byte("\x03\x00\x00\x00\x00\x00\x00\x00t32"), []byte("\x02\x00\x00\x00\x00\x00\x00\x00t0"))); err == nil {
		t.Error("name twice: no error")
	}
}

// edited saves a model whose bytes are changed.
func edited(t *testing.T, c hf.Config, old, new string) error {
	t.Helper()
	path := save(t, c, format.F32)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(old) != len(new) || !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%q is not in the file", old)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(old), []byte(new), 1), 0o666); err != nil {
		t.Fatal(err)
	}
	m, err := Load(path)
	if err == nil {
		m.Close()
	} else if !strings.Contains(err.Error(), path) {
		t.Errorf("%v does not name the file", err)
	}
	return err
}

func TestLoadRefusesWhatItCannotCompute(t *testing.T) {
	number := func(key string, typ byte, v uint32) string {
		return key + string([]byte{typ, 0, 0, 0}) + string(binary.LittleEndian.AppendUint32(nil, v))
	}
	for _, c := range []struct{ old, new, want string }{
		{"block_count", "block_c0unt", "block_count: it is absent"},
		{number("block_count", 4, 2), number("block_count", 4, 1<<31), "num_hidden_layers"},
		{number("block_count", 4, 2), number("block_count", 4, 3), `no tensor "blk.2`},
		{number("block_count", 4, 2), number("block_count", 4, 1), "no place"},
		{number("block_count", 4, 2), number("block_count", 6, 2), "whole number"},
		{number("head_count", 4, 4), number("head_count", 4, 8), "num_attention_heads"},
		{number("feed_forward_length", 4, 40), number("feed_forward_length", 4, 41), "should be [41 24]"},
		{number("dimension_count", 4, 6), number("dimension_count", 4, 4), "rope.dimension_count"},
		{number("eos_token_id", 4, 2), number("eos_token_id", 4, 12), "eos_token_id"},
		{"tokenizer.ggml.model\x08\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00gpt2", "tokenizer.ggml.model\x08\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00spm2", "tokenizer.ggml.model"},
		{"blk.1.ffn_up.weight", "blk.1.ffn_uq.weight", "ffn_up"},
		{"architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama", "architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00qwen2", "qwen2"},
		{"general.alignment", "general.alignmunt", ""}, // 32 is what it is without the key
	} {
		if err := edited(t, llama(), c.old, c.new); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: error %v, want %q in it", c.new, err, c.want)
		}
	}
}

func sample(t testing.TB) []byte {
	b, err := os.ReadFile(save(t, llama(), format.F16))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// use loads what can be loaded of a file.
func use(t testing.TB, data []byte) {
	f, err := Read(bytes.NewReader(data), int64(len(data)), "x")
	if err != nil {
		return
	}
	for _, name := range f.Names() {
		d, _ := f.Tensor(name)
		if _, ok := d.Type.Float(); ok {
			if err := f.ReadFloats(name, 0, make([]float32, d.Elements())); err != nil {
				t.Fatal(err)
			}
		} else if f.ReadFloats(name, 0, nil) == nil {
			t.Fatalf("%q of %v was read", name, d.Type)
		}
	}
	m, err := newModel(f)
	if err != nil {
		return
	}
	for _, p := range m.Config.Params() {
		if err := m.ReadInto(p.Name, make([]float32, p.Len())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRandomDamage(t *testing.T) {
	s := rng.New(5, 0)
	valid := sample(t)
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(s.Uint32())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	use(t, noise)
	use(t, append([]byte("GGUF\x03\x00\x00\x00"), noise...))
	ones := bytes.Repeat([]byte{1, 0, 0, 0, 0, 0, 0, 0}, 1<<17)
	use(t, append([]byte("GGUF\x03\x00\x00\x00"), ones...))
	for range 300 {
		b := slices.Clone(valid)
		for range 1 + s.IntN(3) {
			b[s.IntN(min(len(b), 4000))] ^= 1 << s.IntN(8)
		}
		use(t, b)
		use(t, valid[:s.IntN(len(valid))])
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 512<<20 {
		t.Errorf("%d MiB allocated", used>>20)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(sample(f))
	var m maker
	m.uint32("general.alignment", 64)
	m.array("k", kindFloat64, 1)
	m.put64(0)
	m.array("b", kindBool, 2)
	m.buf.WriteString("\x00\x01")
	f.Add(m.file(0))
	f.Fuzz(func(t *testing.T, data []byte) { use(t, data) })
}
