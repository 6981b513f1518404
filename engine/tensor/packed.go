package tensor

import (
	"fmt"
	"math"
	"unsafe"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// Format is a number format that is only stored in, not computed with.
type Format uint8

// The storage formats. All but BF16 store x/scale, with one scale for each
// block of values.
const (
	BF16 Format = iota // 8 bits of exponent, 7 of fraction
	E4M3               // OCP FP8: ±448, steps of 2⁻⁹ near 0, NaN but no infinity
	E5M2               // OCP FP8: ±57344, steps of 2⁻¹⁶ near 0, infinities and NaN
	Int8               // -127 … 127
	Int4               // -7 … 7, two to a byte, the first in the low half
)

func (f Format) String() string {
	names := [...]string{"bf16", "e4m3", "e5m2", "int8", "int4"}
	if int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// largest is the largest finite number a code stands for, before scaling.
var largest = [...]float32{E4M3: 448, E5M2: 57344, Int8: 127, Int4: 7}

// Packed is a tensor in a storage format. Pack rounds to the nearest code, ties
// to even. The scale of a block makes its largest magnitude the largest code,
// so nothing overflows.
//
// What is not finite does not get lost: a NaN stays NaN; an infinity stays one
// in BF16 and E5M2, and is NaN in E4M3; the other values of its block are
// scaled as if it was not there. Integers have no code for either: all of the
// block comes back as NaN.
type Packed struct {
	Shape  Shape
	Format Format
	Block  int       // values along a row that share a scale; the last block of a row may be shorter
	Codes  []byte    // row after row; a row begins on a whole byte
	Scales []float32 // [Rows, ⌈Cols/Block⌉]; none for BF16
}

// NewPacked returns a packed tensor with buffers from the arena, its contents
// unspecified. block is the number of values that share a scale; 0: a row.
func NewPacked(a *memory.Arena, k memory.Kind, f Format, s Shape, block int) *Packed {
	if f > Int4 || block < 0 {
		panic(fmt.Sprintf("tensor: packing as %v in blocks of %d", f, block))
	}
	if block == 0 {
		block = max(s.Cols(), 1)
	}
	p := &Packed{Shape: s, Format: f, Block: block}
	p.Codes = a.Bytes(k, s.Rows()*p.stride())
	if f != BF16 {
		p.Scales = a.Dirty(k, s.Rows()*p.blocks())
	}
	return p
}

// Free gives the buffers back to where they came from.
func (p *Packed) Free(a *memory.Arena, k memory.Kind) {
	a.FreeBytes(k, p.Codes)
	if p.Format != BF16 {
		a.Free(k, p.Scales)
	}
	p.Codes, p.Scales = nil, nil
}

// Bytes is what codes and scales take together.
func (p *Packed) Bytes() int { return len(p.Codes) + 4*len(p.Scales) }

func (p *Packed) stride() int {
	switch p.Format {
	case BF16:
		return 2 * p.Shape.Cols()
	case Int4:
		return (p.Shape.Cols() + 1) / 2
	}
	return p.Shape.Cols()
}

func (p *Packed) blocks() int { return par.Pieces(p.Shape.Cols(), p.Block) }

type packArgs struct {
	p *Packed
	x []float32
}

var packLoop par.Loop[packArgs]

// Pack stores x, of the tensor's length.
func (p *Packed) Pack(x []float32) { p.eachRow(x, packRow) }

// Unpack sets x, of the tensor's length, to the stored values.
func (p *Packed) Unpack(x []float32) { p.eachRow(x, unpackRow) }

func (p *Packed) eachRow(x []float32, row func(*packArgs, int)) {
	if len(x) != p.Shape.Len() {
		panic(fmt.Sprintf("tensor: %d values for a packed %v", len(x), p.Shape))
	}
	if len(x) > 0 {
		packLoop.Run(p.Shape.Rows(), packArgs{p, x}, row)
	}
}

// row is row r of the values, codes and scales.
func (a *packArgs) row(r int) (x []float32, codes []byte, scales []float32) {
	p, c := a.p, a.p.Shape.Cols()
	s := p.stride()
	x, codes = a.x[r*c:(r+1)*c], p.Codes[r*s:(r+1)*s]
	if p.Format != BF16 {
		scales = p.Scales[r*p.blocks() : (r+1)*p.blocks()]
	}
	return x, codes, scales
}

func packRow(a *packArgs, r int) {
	x, codes, scales := a.row(r)
	if a.p.Format == BF16 {
		simd.ToBF16(view[uint16](codes), x)
		return
	}
	for i := range scales {
		lo, hi := par.Bounds(i, a.p.Block, len(x))
		scales[i] = scaleFor(a.p.Format, x[lo:hi])
		switch a.p.Format {
		case E4M3:
			encode(codes[lo:hi], x[lo:hi], scales[i], e4m3)
		case E5M2:
			encode(codes[lo:hi], x[lo:hi], scales[i], e5m2)
		case Int8:
			simd.QuantizeS8(view[int8](codes[lo:hi]), x[lo:hi], scales[i])
		case Int4:
			for j := lo; j < hi; j++ {
				putNibble(codes, j, nibble(x[j]/scales[i]))
			}
		}
	}
}

func unpackRow(a *packArgs, r int) {
	x, codes, scales := a.row(r)
	if a.p.Format == BF16 {
		simd.FromBF16(x, view[uint16](codes))
		return
	}
	for i, scale := range scales {
		lo, hi := par.Bounds(i, a.p.Block, len(x))
		switch a.p.Format {
		case E4M3:
			decode(x[lo:hi], codes[lo:hi], scale, &e4m3Values)
		case E5M2:
			decode(x[lo:hi], codes[lo:hi], scale, &e5m2Values)
		case Int8:
			simd.DequantizeS8(x[lo:hi], view[int8](codes[lo:hi]), scale)
		case Int4:
			for j := lo; j < hi; j++ {
				x[j] = float32(int8(codes[j/2]<<(4-j%2*4))>>4) * scale
			}
		}
	}
}

// view is a byte slice seen as elements of another size.
func view[T uint16 | int8](b []byte) []T {
	var e T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(e)))
}

// scaleFor is the largest magnitude of x over that of the format's codes, but
// at least the smallest normal number: below it scales would lose digits.
func scaleFor(f Format, x []float32) float32 {
	m := simd.AbsMax(x)
	if !(m <= math.MaxFloat32) {
		if f == Int8 || f == Int4 {
			return float32(math.NaN())
		}
		m = 0
		for _, v := range x {
			if v = float32(math.Abs(float64(v))); v <= math.MaxFloat32 {
				m = max(m, v)
			}
		}
	}
	return max(m/largest[f], 0x1p-126)
}

// nibble is q rounded to -7 … 7; NaN gives 0, its scale being NaN already.
func nibble(q float32) byte {
	if q != q {
		return 0
	}
	return byte(int8(math.RoundToEven(float64(max(-7, min(q, 7))))))
}

// putNibble sets half j of the codes. Even halves come first and clear the
// other one.
func putNibble(codes []byte, j int, n byte) {
	if j%2 == 0 {
		codes[j/2] = n & 15
	} else {
		codes[j/2] |= n << 4
	}
}

// float8 describes an 8-bit floating-point format: sign, exponent, fraction.
type float8 struct {
	fraction, bias uint32
	top            byte // code of the largest finite number
	infinity, nan  byte
}

var (
	e4m3 = float8{fraction: 3, bias: 7, top: 0x7e, infinity: 0x7f, nan: 0x7f}
	e5m2 = float8{fraction: 2, bias: 15, top: 0x7b, infinity: 0x7c, nan: 0x7f}

	e4m3Values, e5m2Values = e4m3.values(), e5m2.values()
)

func encode(dst []byte, x []float32, scale float32, f float8) {
	for i, v := range x {
		dst[i] = f.code(v / scale)
	}
}

func decode(dst []float32, x []byte, scale float32, values *[256]float32) {
	for i, c := range x {
		dst[i] = values[c] * scale
	}
}

// code is the nearest code to v, ties to even; finite values stay finite.
func (f float8) code(v float32) byte {
	b := math.Float32bits(v)
	sign := byte(b >> 24 & 0x80)
	b &^= 1 << 31
	cut := 23 - f.fraction // bits of fraction that are dropped
	smallest := (127 - f.bias + 1) << 23
	switch {
	case v != v:
		return sign | f.nan
	case b == 0x7f800000:
		return sign | f.infinity
	case b < smallest: // a multiple of the smallest normal number over 2^fraction
		step := math.Float32frombits(smallest - f.fraction<<23)
		return sign | byte(math.RoundToEven(float64(math.Float32frombits(b)/step)))
	}
	b += 1<<(cut-1) - 1 + b>>cut&1
	return sign | byte(min(b>>cut-(127-f.bias)<<f.fraction, uint32(f.top)))
}

// values is the number each code stands for.
func (f float8) values() (t [256]float32) {
	for c := range t {
		e, m := c>>f.fraction&(0x7f>>f.fraction), c&(1<<f.fraction-1)
		v := math.Ldexp(float64(m), 1-int(f.bias)-int(f.fraction))
		if e > 0 {
			v = math.Ldexp(float64(m+1<<f.fraction), e-int(f.bias)-int(f.fraction))
		}
		switch code := byte(c & 0x7f); {
		case code <= f.top:
		case code == f.infinity && f.infinity != f.nan:
			v = math.Inf(1)
		default:
			v = math.NaN()
		}
		t[c] = float32(math.Copysign(v, float64(1-c>>7*2)))
	}
	return t
}
