package store

import "fmt"

// Kind is the number format of a token file, always little endian.
type Kind uint8

// The kinds.
const (
	U8 Kind = iota + 1
	U16
	I32
)

// KindFor is the smallest kind that holds tokens 0 … vocab-1.
func KindFor(vocab int) Kind {
	switch {
	case vocab <= 1<<8:
		return U8
	case vocab <= 1<<16:
		return U16
	}
	return I32
}

// ParseKind reads u8, u16 or i32.
func ParseKind(s string) (Kind, error) {
	for k := U8; k <= I32; k++ {
		if s == k.String() {
			return k, nil
		}
	}
	return 0, fmt.Errorf("token kind %q: want u8, u16 or i32", s)
}

// Size is the number of bytes of one token.
func (k Kind) Size() int { return 1 << (k - U8) }

func (k Kind) String() string {
	if k < U8 || k > I32 {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return [...]string{"u8", "u16", "i32"}[k-U8]
}

// MarshalText writes the kind's name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the kind's name.
func (k *Kind) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKind(string(b))
	return err
}

// encode appends tokens to b.
func (k Kind) encode(b []byte, tokens []int32) []byte {
	switch k {
	case U8:
		for _, t := range tokens {
			b = append(b, byte(t))
		}
	case U16:
		for _, t := range tokens {
			b = append(b, byte(t), byte(t>>8))
		}
	default:
		for _, t := range tokens {
			b = append(b, byte(t), byte(t>>8), byte(t>>16), byte(t>>24))
		}
	}
	return b
}

// decode reads len(dst) tokens from b and returns the largest, as an unsigned
// number, so that a negative one is very large. b may lie in the last bytes of
// dst's own memory: every token is read before its place is written over.
func (k Kind) decode(dst []int32, b []byte) uint32 {
	var most uint32
	switch k {
	case U8:
		b = b[:len(dst)]
		for i := range dst {
			v := uint32(b[i])
			dst[i] = int32(v)
			most = max(most, v)
		}
	case U16:
		b = b[:2*len(dst)]
		for i := range dst {
			v := uint32(b[2*i]) | uint32(b[2*i+1])<<8
			dst[i] = int32(v)
			most = max(most, v)
		}
	default:
		b = b[:4*len(dst)]
		for i := range dst {
			v := uint32(b[4*i]) | uint32(b[4*i+1])<<8 | uint32(b[4*i+2])<<16 | uint32(b[4*i+3])<<24
			dst[i] = int32(v)
			most = max(most, v)
		}
	}
	return most
}
