package gguf

import (
	"fmt"
	"strings"

	"hasten/model/format/hf"
)

// Where the tensors of Hugging Face layouts are called otherwise here.
var (
	networkNames = map[string]string{
		"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
		"transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
	}
	blockNames = map[string]string{
		"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
		"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
		"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
		"ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
		"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
	}
)

// piece is a run of rows of one of our parameters, which is a tensor here.
type piece struct {
	param      string // our name
	first      int    // its first row there
	rows, cols int    // cols is 1 of a vector
	vector     bool

	name  string // in the file
	heads int    // the rows of so many heads change places; 0 if they do not
	full  bool   // f32 whatever the others are
}

// shape is [rows, cols], or [rows] of a vector.
func (p *piece) shape() []int {
	if p.vector {
		return []int{p.rows}
	}
	return []int{p.rows, p.cols}
}

// pieces lists the tensors of a model: those of the Hugging Face layout, under
// other names, and never transposed.
func pieces(c hf.Config) []piece {
	var all []piece
	for _, param := range c.Params() {
		first := 0
		for _, part := range param.Parts {
			p := piece{param: param.Name, first: first, rows: part.Rows, cols: 1, vector: len(param.Shape) == 1}
			if !p.vector {
				p.cols = param.Shape[1]
			}
			p.name = rename(part.HF, param.Block)
			switch {
			case strings.Contains(p.name, ".attn_q."):
				p.heads = c.Heads
			case strings.Contains(p.name, ".attn_k."):
				p.heads = c.KVHeads
			}
			// llama.cpp computes with vectors, and adds positions, in f32 only.
			p.full = p.vector || param.Name == "pos.weight"
			all = append(all, p)
			first += part.Rows
		}
	}
	return all
}

// rename is the name here of a tensor of the Hugging Face layout.
func rename(name string, block int) string {
	dot := strings.LastIndexByte(name, '.')
	base, suffix := name[:dot], name[dot:] // .weight or .bias
	if block < 0 {
		return networkNames[base] + suffix
	}
	for _, prefix := range []string{"model.layers.", "transformer.h."} {
		if rest, ok := strings.CutPrefix(base, fmt.Sprintf("%s%d.", prefix, block)); ok {
			return fmt.Sprintf("blk.%d.%s%s", block, blockNames[rest], suffix)
		}
	}
	panic("gguf: no name for tensor " + name)
}

// source is the row in memory of a row in the file: of each head, rows j and
// j+E/2 lie side by side in the file.
func (p *piece) source(row int) int {
	if p.heads == 0 {
		return row
	}
	e := p.rows / p.heads
	head, k := row/e, row%e
	return head*e + k%2*(e/2) + k/2
}
