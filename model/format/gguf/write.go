package gguf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"hasten/model/format"
	"hasten/model/format/hf"
)

// Write writes a model. name is its title, for people; weights gives the
// parameters by our names, in the shapes of c.Params(). Matrices are stored in
// dtype (f32, f16 or bf16), vectors in f32.
//
// It is an error if llama.cpp would compute something else: it runs Llama with
// SiLU and GPT-2 with the tanh approximation of GELU only. The model must have
// a token that ends a text, since llama.cpp takes token 11 for it otherwise.
func Write(w io.Writer, name string, c hf.Config, t Tokenizer, dtype format.Float, weights func(name string) []float32) error {
	file, typ, err := fileType(dtype)
	if err == nil {
		err = check(c, &t)
	}
	if err != nil {
		return fmt.Errorf("gguf: %w", err)
	}
	all := pieces(c)
	e := encoder{}
	e.keys(name, c, &t, file)
	head := e.start(len(all))
	var at uint64
	for i := range all {
		p := &all[i]
		x := weights(p.param)
		if end := (p.first + p.rows) * p.cols; len(x) < end {
			return fmt.Errorf("gguf: parameter %q has %d elements; by the config it has at least %d", p.param, len(x), end)
		}
		e.tensor(p, p.typ(typ), at)
		at += padded(p.bytes(typ))
	}
	if _, err := w.Write(append(head, e.buf.Bytes()...)); err != nil {
		return err
	}
	if err := pad(w, uint64(len(head)+e.buf.Len())); err != nil {
		return err
	}
	for i := range all {
		p := &all[i]
		f, _ := p.typ(typ).Float()
		if err := format.WriteFloats(w, f, p.rows*p.cols, p.values(weights(p.param))); err != nil {
			return fmt.Errorf("tensor %q: %w", p.name, err)
		}
		if err := pad(w, p.bytes(typ)); err != nil {
			return err
		}
	}
	return nil
}

// check tells what llama.cpp would stumble over.
func check(c hf.Config, t *Tokenizer) error {
	if err := c.Validate(); err != nil {
		return err
	}
	want := map[hf.Arch]hf.Activation{hf.Llama: hf.SiLU, hf.GPT2: hf.GELUTanh}[c.Arch]
	switch {
	case c.Activation != want:
		return fmt.Errorf("llama.cpp computes %s with %s, not with %s", c.Arch, want, c.Activation)
	case len(c.EOS) == 0:
		return fmt.Errorf("the model has no token that ends a text (eos_token_id); llama.cpp needs one")
	case len(t.Tokens) > c.Vocab:
		return fmt.Errorf("%d tokens for a vocabulary of %d", len(t.Tokens), c.Vocab)
	case t.Types != nil && len(t.Types) != len(t.Tokens):
		return fmt.Errorf("%d types for %d tokens", len(t.Types), len(t.Tokens))
	}
	seen := make(map[string]bool, len(t.Tokens))
	for i, text := range t.Tokens {
		if text == "" || !utf8.ValidString(text) || seen[text] {
			return fmt.Errorf("token %d, %.100q: tokens must be different texts", i, text)
		}
		seen[text] = true
	}
	for i, m := range t.Merges {
		if left, right, ok := strings.Cut(m, " "); !ok || left == "" || right == "" || strings.Contains(right, " ") || !utf8.ValidString(m) {
			return fmt.Errorf("merge %d, %.100q: want two tokens with a space between", i, m)
		}
	}
	return nil
}

// typ is the type that p is stored in.
func (p *piece) typ(of Type) Type {
	if p.full {
		return F32
	}
	return of
}

func (p *piece) bytes(of Type) uint64 {
	f, _ := p.typ(of).Float()
	return uint64(p.rows) * uint64(p.cols) * uint64(f.Size())
}

// values gives p's elements, taken out of its parameter x.
func (p *piece) values(x []float32) format.Values {
	x = x[p.first*p.cols:]
	return func(dst []float32, first int) error {
		for len(dst) > 0 {
			row, col := first/p.cols, first%p.cols
			n := copy(dst, x[p.source(row)*p.cols+col:(p.source(row)+1)*p.cols])
			dst = dst[n:]
			first += n
		}
		return nil
	}
}

// padded is n rounded up to the alignment.
func padded(n uint64) uint64 { return (n + alignment - 1) / alignment * alignment }

func pad(w io.Writer, n uint64) error {
	_, err := w.Write(make([]byte, padded(n)-n))
	return err
}

// encoder writes the keys and the tensors' descriptions.
type encoder struct {
	buf  bytes.Buffer
	keyN uint64
}

// start is what comes before the keys.
func (e *encoder) start(tensors int) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(magic), version)
	b = binary.LittleEndian.AppendUint64(b, uint64(tensors))
	return binary.LittleEndian.AppendUint64(b, e.keyN)
}

func (e *encoder) keys(name string, c hf.Config, t *Tokenizer, fileType uint32) {
	arch := string(c.Arch)
	e.string("general.architecture", arch)
	e.string("general.name", strings.ToValidUTF8(name, "\uFFFD"))
	e.uint32("general.alignment", alignment)
	e.uint32("general.file_type", fileType)
	e.uint32(arch+".context_length", uint32(c.Context))
	e.uint32(arch+".embedding_length", uint32(c.Dim))
	e.uint32(arch+".block_count", uint32(c.Layers))
	e.uint32(arch+".feed_forward_length", uint32(c.Hidden))
	e.uint32(arch+".attention.head_count", uint32(c.Heads))
	e.uint32(arch+".attention.head_count_kv", uint32(c.KVHeads))
	e.uint32(arch+".vocab_size", uint32(c.Vocab))
	if c.Arch == hf.Llama {
		e.float32(arch+".attention.layer_norm_rms_epsilon", float32(c.Eps))
		e.float32(arch+".rope.freq_base", float32(c.RopeTheta))
		e.uint32(arch+".rope.dimension_count", uint32(c.HeadDim()))
	} else {
		e.float32(arch+".attention.layer_norm_epsilon", float32(c.Eps))
	}
	e.tokenizer(c, t)
}

func (e *encoder) tokenizer(c hf.Config, t *Tokenizer) {
	tokens, types := make([]string, c.Vocab), make([]TokenType, c.Vocab)
	for i := range tokens {
		switch {
		case i >= len(t.Tokens): // rows of the embedding that no text leads to
			tokens[i], types[i] = fmt.Sprintf("[PAD%d]", i), Unused
		case t.Types == nil:
			tokens[i], types[i] = t.Tokens[i], Normal
		default:
			tokens[i], types[i] = t.Tokens[i], t.Types[i]
		}
	}
	pre := t.Pre
	if pre == "" {
		pre = "gpt-2"
	}
	e.string("tokenizer.ggml.model", "gpt2")
	e.string("tokenizer.ggml.pre", pre)
	e.strings("tokenizer.ggml.tokens", tokens)
	e.array("tokenizer.ggml.token_type", kindInt32, len(types))
	for _, v := range types {
		e.put32(uint32(v))
	}
	e.strings("tokenizer.ggml.merges", t.Merges)
	if c.BOS >= 0 {
		e.uint32("tokenizer.ggml.bos_token_id", uint32(c.BOS))
	}
	e.uint32("tokenizer.ggml.eos_token_id", uint32(c.EOS[0]))
	e.bool("tokenizer.ggml.add_bos_token", false) // models here are not trained to need one
}

func (e *encoder) put32(v uint32) { e.buf.Write(binary.LittleEndian.AppendUint32(nil, v)) }
func (e *encoder) put64(v uint64) { e.buf.Write(binary.LittleEndian.AppendUint64(nil, v)) }

func (e *encoder) text(s string) {
	e.put64(uint64(len(s)))
	e.buf.WriteString(s)
}

func (e *encoder) key(name string, k kind) {
	e.keyN++
	e.text(name)
	e.put32(uint32(k))
}

func (e *encoder) string(name, v string) {
	e.key(name, kindString)
	e.text(v)
}

func (e *encoder) uint32(name string, v uint32) {
	e.key(name, kindUint32)
	e.put32(v)
}

func (e *encoder) float32(name string, v float32) {
	e.key(name, kindFloat32)
	e.put32(math.Float32bits(v))
}

func (e *encoder) bool(name string, v bool) {
	e.key(name, kindBool)
	b := byte(0)
	if v {
		b = 1
	}
	e.buf.WriteByte(b)
}

func (e *encoder) array(name string, k kind, n int) {
	e.key(name, kindArray)
	e.put32(uint32(k))
	e.put64(uint64(n))
}

func (e *encoder) strings(name string, v []string) {
	e.array(name, kindString, len(v))
	for _, s := range v {
		e.text(s)
	}
}

// tensor describes p, whose data begin at an offset.
func (e *encoder) tensor(p *piece, t Type, at uint64) {
	e.text(p.name)
	shape := p.shape()
	e.put32(uint32(len(shape)))
	for i := range shape {
		e.put64(uint64(shape[len(shape)-1-i])) // the fastest dimension first
	}
	e.put32(uint32(t))
	e.put64(at)
}
