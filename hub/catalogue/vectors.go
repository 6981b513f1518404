package catalogue

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
)

// vectorsMagic begins stored vectors; it changes with their layout and with
// the way they are trained.
const vectorsMagic = "hasten word vectors 1\n"

// MarshalBinary stores vectors: magic, number of words, bytes of all words,
// the words, each with a newline, and the two tables, little-endian.
func (v *Vectors) MarshalBinary() ([]byte, error) {
	words := make([]string, len(v.ids))
	for w, id := range v.ids {
		words[id] = w
	}
	names := strings.Join(words, "\n")
	b := []byte(vectorsMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(words)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(names)))
	b = append(b, names...)
	for _, x := range [][]float32{v.words, v.grams} {
		for _, f := range x {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
		}
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary stored.
func (v *Vectors) UnmarshalBinary(b []byte) error {
	bad := errors.New("these are no word vectors of this version")
	rest, ok := strings.CutPrefix(string(b), vectorsMagic)
	if !ok || len(rest) < 8 {
		return bad
	}
	n, size := int(binary.LittleEndian.Uint32([]byte(rest))), int(binary.LittleEndian.Uint32([]byte(rest[4:])))
	rest = rest[8:]
	if size > len(rest) || len(rest)-size != 4*dim*(n+buckets) {
		return bad
	}
	names := strings.Split(rest[:size], "\n")
	if n == 0 {
		names = nil
	}
	if len(names) != n {
		return bad
	}
	v.ids = make(map[string]int32, n)
	for i, w := range names {
		v.ids[w] = int32(i)
	}
	if len(v.ids) != n || slices.Contains(names, "") {
		return bad
	}
	table := b[len(b)-len(rest)+size:]
	v.words, v.grams = make([]float32, n*dim), make([]float32, buckets*dim)
	for _, x := range [][]float32{v.words, v.grams} {
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(table))
			table = table[4:]
		}
	}
	return nil
}
