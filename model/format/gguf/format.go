package gguf

import (
	"fmt"

	"hasten/model/format"
)

const (
	magic     = "GGUF"
	version   = 3
	alignment = 32 // of tensors, where general.alignment does not say otherwise
)

// kind is the type of a value.
type kind uint32

const (
	kindUint8 kind = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
)

// Type is the type of a tensor's elements; those not named here are quantised
// or integers.
type Type uint32

// The types that can be read.
const (
	F32  Type = 0
	F16  Type = 1
	F64  Type = 28
	BF16 Type = 30
)

// Float is the number format of t, if values of it can be read.
func (t Type) Float() (f format.Float, ok bool) {
	switch t {
	case F32:
		return format.F32, true
	case F16:
		return format.F16, true
	case F64:
		return format.F64, true
	case BF16:
		return format.BF16, true
	}
	return 0, false
}

func (t Type) String() string {
	if f, ok := t.Float(); ok {
		return f.String()
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// fileType is the value of general.file_type for a number format, and the
// tensors' type.
func fileType(f format.Float) (file uint32, t Type, err error) {
	switch f {
	case format.F32:
		return 0, F32, nil
	case format.F16:
		return 1, F16, nil
	case format.BF16:
		return 32, BF16, nil
	}
	return 0, 0, fmt.Errorf("llama.cpp runs weights in f32, f16 or bf16, not %v", f)
}

// TokenType says what a token stands for.
type TokenType int32

// The types of tokens.
const (
	Normal      TokenType = 1
	Unknown     TokenType = 2
	Control     TokenType = 3 // ends a text, for one; has no text of its own
	UserDefined TokenType = 4
	Unused      TokenType = 5
	Byte        TokenType = 6
)

// Tokenizer is a byte-level BPE tokenizer as GGUF keeps it.
type Tokenizer struct {
	// Tokens are the texts of the tokens, in the spelling of bytes as visible
	// characters that GPT-2 uses ("Ġthe" for " the"). They are different, and
	// none is empty. There may be fewer than the model's vocabulary has.
	Tokens []string
	Types  []TokenType // one for each token; nil when all are Normal
	Merges []string    // "left right", the first learned first
	Pre    string      // the cutting into words, by llama.cpp's name: "gpt-2" when empty
}
