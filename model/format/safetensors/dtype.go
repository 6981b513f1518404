package safetensors

import (
	"fmt"

	"hasten/model/format"
)

// DType is the type of a tensor's elements.
type DType uint8

// The types. Those with F are read as float32 by ReadFloats, except the two of
// 8 bits, which are read as bytes.
const (
	F32 DType = iota
	F64
	F16
	BF16
	F8E4M3
	F8E5M2
	I64
	I32
	I16
	I8
	U64
	U32
	U16
	U8
	Bool
	dtypes
)

var dtypeTable = [dtypes]struct {
	name string
	size int
}{
	F32: {"F32", 4}, F64: {"F64", 8}, F16: {"F16", 2}, BF16: {"BF16", 2},
	F8E4M3: {"F8_E4M3", 1}, F8E5M2: {"F8_E5M2", 1},
	I64: {"I64", 8}, I32: {"I32", 4}, I16: {"I16", 2}, I8: {"I8", 1},
	U64: {"U64", 8}, U32: {"U32", 4}, U16: {"U16", 2}, U8: {"U8", 1}, Bool: {"BOOL", 1},
}

// String is the type's name in a file.
func (d DType) String() string {
	if d < dtypes {
		return dtypeTable[d].name
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Size is the number of bytes of one element.
func (d DType) Size() int { return dtypeTable[d].size }

// Float is the number format of d, if values of it are read as float32.
func (d DType) Float() (f format.Float, ok bool) {
	switch d {
	case F32:
		return format.F32, true
	case F64:
		return format.F64, true
	case F16:
		return format.F16, true
	case BF16:
		return format.BF16, true
	}
	return 0, false
}

// Of is the type of tensors stored in a number format.
func Of(f format.Float) DType {
	return [...]DType{format.F32: F32, format.F64: F64, format.F16: F16, format.BF16: BF16}[f]
}

func parseDType(name string) (DType, bool) {
	for d := range dtypes {
		if dtypeTable[d].name == name {
			return d, true
		}
	}
	return 0, false
}
