package net

import (
	"reflect"

	"hasten/engine/part"
	"hasten/model/block"
	"hasten/model/moe"
)

// Mixers are the ways in which tokens see one another, the default first.
var Mixers = part.Table[block.MixerPart]{
	Seam: "mixer",
	Help: "how the tokens of a sequence see those before them",
	Parts: []part.Part[block.MixerPart]{
		{Name: "attention", Help: "softmax attention over query heads and grouped key-value heads", New: func() block.MixerPart { return &Attention{} }},
		{Name: "flash", Paper: "flash-attention", Help: "attention in the order of FlashAttention, keys outside; the same model", New: func() block.MixerPart { return &Flash{Cache: 1024} }},
		{Name: "flash-block", Paper: "flash-attention", Help: "flash over a butterfly of blocks: each sees the blocks whose number differs in one bit", New: func() block.MixerPart {
			return &FlashBlock{Flash: Flash{Cache: 1024}, Block: 64}
		}},
		{Name: "moa", Paper: "scattermoe", Help: "mixture of attention: routed query heads and outputs, shared keys and values", New: func() block.MixerPart { return moe.NewAttention() }},
	},
}

// FFNs are the feed-forward layers, the default first.
var FFNs = part.Table[block.FFNPart]{
	Seam: "ffn",
	Help: "what each token passes through by itself",
	Parts: []part.Part[block.FFNPart]{
		{Name: "dense", Help: "two matrices for all tokens: SwiGLU in Llama's layout, GELU in GPT-2's", New: func() block.FFNPart { return &Dense{} }},
		{Name: "moe", Paper: "scattermoe", Help: "mixture of experts: each token passes the k that a router chooses", New: func() block.FFNPart { return moe.NewFFN() }},
	},
}

// MixerName is the name of a mixer in its table.
func MixerName(p block.MixerPart) string { return nameOf(&Mixers, p) }

// FFNName is the name of a feed-forward in its table.
func FFNName(p block.FFNPart) string { return nameOf(&FFNs, p) }

// nameOf is the name of the part that is made of the type of p. A part is its
// type and its options: two rows never make the same type.
func nameOf[T any](table *part.Table[T], p T) string {
	for _, row := range table.Parts {
		if reflect.TypeOf(row.New()) == reflect.TypeOf(p) {
			return row.Name
		}
	}
	return reflect.TypeOf(p).String()
}

// Standard tells whether the model is one of the Llama or GPT-2 layout, which
// other programs can compute with: all parts are the defaults, or others that
// compute the same.
func (c *Config) Standard() bool {
	return (c.Mixer == nil || MixerName(c.Mixer) == Mixers.Parts[0].Name || same(c.Mixer)) &&
		(c.FFN == nil || FFNName(c.FFN) == FFNs.Parts[0].Name || same(c.FFN))
}

// same tells whether a part says that it computes what the default does.
func same(part any) bool {
	s, ok := part.(interface{ Standard() bool })
	return ok && s.Standard()
}
