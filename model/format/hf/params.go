package hf

import (
	"fmt"
	"strings"
)

// Param is a parameter of a model, and where it lies in the file.
type Param struct {
	Name  string // ours: blocks.0.attn.qkv.weight
	Block int    // number of its block, or -1
	Shape []int  // ours: [out, in] of a matrix, [n] of a vector; of Config.Own any
	Parts []Part // one after the other, from row 0 on
}

// Part is a run of rows of a parameter that is a tensor of its own in the file.
type Part struct {
	HF         string // its name there, in full: the prefix "model." or "transformer." may be absent
	Rows       int
	Transposed bool // there it is [in, out], as GPT-2 keeps its matrices
}

// OwnParam is a parameter of one of Config.Parts, which lies in the file by its
// own name and in its own shape.
func OwnParam(name string, shape []int) Param {
	return Param{Name: name, Block: -1, Shape: shape, Parts: []Part{{HF: name, Rows: shape[0]}}}
}

// Len is the number of elements.
func (p Param) Len() int { return p.Shape[0] * p.cols() }

// cols is the length of a row; an element of a vector is a row.
func (p Param) cols() int {
	n := 1
	for _, d := range p.Shape[1:] {
		n *= d
	}
	return n
}

// shapeOf is the shape in the file of a part of p.
func (p Param) shapeOf(part Part) []int {
	if part.Transposed {
		return []int{p.Shape[1], part.Rows}
	}
	return append([]int{part.Rows}, p.Shape[1:]...)
}

// Params lists the parameters of the model, in the order of computation.
// Written with D = Dim, E = HeadDim, V = Vocab, they are
//
//	tok.weight                    [V, D]            token embedding
//	pos.weight                    [Context, D]      position embedding, GPT-2 only
//	blocks.I.norm1.weight         [D]               norms have biases in GPT-2
//	blocks.I.attn.qkv.weight      [(Heads+2·KVHeads)·E, D]   rows of q, then k, then v
//	blocks.I.attn.out.weight      [D, D]
//	blocks.I.norm2.weight         [D]
//	blocks.I.mlp.gateup.weight    [2·Hidden, D]     Llama: rows of gate, then up
//	blocks.I.mlp.up.weight        [Hidden, D]       GPT-2
//	blocks.I.mlp.down.weight      [D, Hidden]
//	norm.weight                   [D]
//	head.weight                   [V, D]            absent when tied
//
// and .bias beside .weight for the projections that have one; then Own. Where
// there is a part in their place, blocks.I.attn or blocks.I.mlp are absent.
func (c Config) Params() []Param {
	l := list{noAttention: c.Parts["mixer"] != nil, noMLP: c.Parts["ffn"] != nil}
	if c.Arch == GPT2 {
		l.gpt2(c)
	} else {
		l.llama(c)
	}
	return append(l.params, c.Own...)
}

// list is the list of parameters being made.
type list struct {
	params []Param
	block  int

	noAttention, noMLP bool
}

func (l *list) add(name string, shape []int, parts ...Part) {
	if l.noAttention && strings.Contains(name, ".attn.") || l.noMLP && strings.Contains(name, ".mlp.") {
		return
	}
	l.params = append(l.params, Param{name, l.block, shape, parts})
}

// linear adds a matrix [sum of the parts' rows, in], and its bias. The names of
// its parts end where .weight or .bias follows.
func (l *list) linear(name string, in int, bias bool, parts ...Part) {
	out := 0
	weights, biases := make([]Part, len(parts)), make([]Part, len(parts))
	for i, p := range parts {
		out += p.Rows
		weights[i] = Part{p.HF + ".weight", p.Rows, p.Transposed}
		biases[i] = Part{p.HF + ".bias", p.Rows, false}
	}
	l.add(name+".weight", []int{out, in}, weights...)
	if bias {
		l.add(name+".bias", []int{out}, biases...)
	}
}

func (l *list) norm(name, hf string, dim int, bias bool) {
	l.add(name+".weight", []int{dim}, Part{hf + ".weight", dim, false})
	if bias {
		l.add(name+".bias", []int{dim}, Part{hf + ".bias", dim, false})
	}
}

func (l *list) llama(c Config) {
	d, kv, h := c.Dim, c.KVHeads*c.HeadDim(), c.Hidden
	l.block = -1
	l.add("tok.weight", []int{c.Vocab, d}, Part{"model.embed_tokens.weight", c.Vocab, false})
	for i := range c.Layers {
		l.block = i
		our, hf := fmt.Sprintf("blocks.%d.", i), fmt.Sprintf("model.layers.%d.", i)
		l.norm(our+"norm1", hf+"input_layernorm", d, false)
		l.linear(our+"attn.qkv", d, c.AttentionBias,
			Part{hf + "self_attn.q_proj", d, false}, Part{hf + "self_attn.k_proj", kv, false}, Part{hf + "self_attn.v_proj", kv, false})
		l.linear(our+"attn.out", d, c.AttentionBias, Part{hf + "self_attn.o_proj", d, false})
		l.norm(our+"norm2", hf+"post_attention_layernorm", d, false)
		l.linear(our+"mlp.gateup", d, c.MLPBias, Part{hf + "mlp.gate_proj", h, false}, Part{hf + "mlp.up_proj", h, false})
		l.linear(our+"mlp.down", h, c.MLPBias, Part{hf + "mlp.down_proj", d, false})
	}
	l.block = -1
	l.norm("norm", "model.norm", d, false)
	l.head(c)
}

func (l *list) gpt2(c Config) {
	d, h := c.Dim, c.Hidden
	l.block = -1
	l.add("tok.weight", []int{c.Vocab, d}, Part{"transformer.wte.weight", c.Vocab, false})
	l.add("pos.weight", []int{c.Context, d}, Part{"transformer.wpe.weight", c.Context, false})
	for i := range c.Layers {
		l.block = i
		our, hf := fmt.Sprintf("blocks.%d.", i), fmt.Sprintf("transformer.h.%d.", i)
		l.norm(our+"norm1", hf+"ln_1", d, true)
		l.linear(our+"attn.qkv", d, true, Part{hf + "attn.c_attn", 3 * d, true})
		l.linear(our+"attn.out", d, true, Part{hf + "attn.c_proj", d, true})
		l.norm(our+"norm2", hf+"ln_2", d, true)
		l.linear(our+"mlp.up", d, true, Part{hf + "mlp.c_fc", h, true})
		l.linear(our+"mlp.down", h, true, Part{hf + "mlp.c_proj", d, true})
	}
	l.block = -1
	l.norm("norm", "transformer.ln_f", d, true)
	l.head(c)
}

func (l *list) head(c Config) {
	if !c.Tied {
		l.add("head.weight", []int{c.Vocab, c.Dim}, Part{"lm_head.weight", c.Vocab, false})
	}
}
