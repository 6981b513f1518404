package text

import (
	"unicode"
	"unicode/utf8"
)

// endOfText is the word that ends every text. It is in all of them, and so
// serves as the bias; with word n-grams it tells the last word from the others.
const endOfText = "</s>"

// FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/
const (
	fnvOffset = 0xcbf29ce484222325
	fnvPrime  = 0x100000001b3
)

func hash(word []byte) uint64 {
	h := uint64(fnvOffset)
	for _, c := range word {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return h
}

// space tells the bytes that separate words: ASCII's white space, and zero.
var space = [256]bool{' ': true, '\t': true, '\n': true, '\v': true, '\f': true, '\r': true, 0: true}

// next returns the first word of text at or after position at, with its hash;
// from is len(text) if there is none.
func next(text []byte, at int) (from, to int, h uint64) {
	for at < len(text) && space[text[at]] {
		at++
	}
	from, h = at, fnvOffset
	for ; at < len(text) && !space[text[at]]; at++ {
		h = (h ^ uint64(text[at])) * fnvPrime
	}
	return from, at, h
}

// separate appends to dst the text in small letters, with a space on both
// sides of everything that is neither letter, mark, digit nor white space.
func separate(dst, text []byte) []byte {
	for len(text) > 0 {
		c, n := rune(text[0]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRune(text)
		}
		switch {
		case c == utf8.RuneError && n == 1: // not UTF-8: as it is
			dst = append(dst, text[0])
		case unicode.IsLetter(c) || unicode.IsDigit(c) || unicode.IsMark(c):
			dst = utf8.AppendRune(dst, unicode.ToLower(c))
		case unicode.IsSpace(c):
			dst = append(dst, ' ')
		default:
			dst = append(dst, ' ')
			dst = append(dst, text[:n]...)
			dst = append(dst, ' ')
		}
		text = text[n:]
	}
	return dst
}

// vocabulary numbers words in the order in which they are added. It tells them
// apart by their hashes: two words of the same 64 bits would be one. Its zero
// value is empty and ready for use.
type vocabulary struct {
	slots []wordSlot // open addressing, at most half full
	ends  []int      // of the words in text
	text  []byte
}

// wordSlot is one entry: all of it in one place, so that a look-up touches one
// cache line. Its number is that of the word + 1, or 0 for no entry.
type wordSlot struct {
	hash   uint64
	number uint32
}

func (v *vocabulary) len() int { return len(v.ends) }

// word is the i-th word.
func (v *vocabulary) word(i int) []byte {
	from := 0
	if i > 0 {
		from = v.ends[i-1]
	}
	return v.text[from:v.ends[i]]
}

// slot is where the word of a hash is, or where it would go.
func (v *vocabulary) slot(h uint64) *wordSlot {
	mask := uint64(len(v.slots) - 1)
	for s := h ^ h>>32; ; s++ {
		if e := &v.slots[s&mask]; e.number == 0 || e.hash == h {
			return e
		}
	}
}

// find returns the number of the word of a hash, or -1.
func (v *vocabulary) find(h uint64) int {
	if len(v.slots) == 0 {
		return -1
	}
	return int(v.slot(h).number) - 1
}

// add returns the number of a word with its hash, which is new if it was not
// there.
func (v *vocabulary) add(word []byte, h uint64) int {
	if 2*len(v.ends) >= len(v.slots) {
		v.grow()
	}
	e := v.slot(h)
	if e.number == 0 {
		v.text = append(v.text, word...)
		v.ends = append(v.ends, len(v.text))
		*e = wordSlot{h, uint32(len(v.ends))}
	}
	return int(e.number) - 1
}

// grow makes room, so that at most half of the slots are taken.
func (v *vocabulary) grow() {
	old := v.slots
	v.slots = make([]wordSlot, max(1024, 4*len(old)))
	for _, e := range old {
		if e.number > 0 {
			*v.slot(e.hash) = e
		}
	}
}

// buckets maps numbers of buckets to rows. Its zero value is empty and ready
// for use.
type buckets struct {
	slots []bucketSlot // open addressing, at most half full
	n     int
}

// bucketSlot is one entry. Its key is the bucket + 1, or 0 for no entry.
type bucketSlot struct{ key, row uint32 }

// slot is where the bucket is, or where it would go.
func (b *buckets) slot(bucket uint32) *bucketSlot {
	mask := uint32(len(b.slots) - 1)
	s := bucket * 0x9e3779b1
	for s ^= s >> 15; ; s++ {
		if e := &b.slots[s&mask]; e.key == 0 || e.key == bucket+1 {
			return e
		}
	}
}

// find returns the row of a bucket, none if it is not there.
func (b *buckets) find(bucket uint32) uint32 {
	if b.n == 0 {
		return none
	}
	if e := b.slot(bucket); e.key != 0 {
		return e.row
	}
	return none
}

// add returns the row of a bucket, to be read or set. A bucket that was not
// there has none. The pointer is valid until the next call.
func (b *buckets) add(bucket uint32) *uint32 {
	if 2*b.n >= len(b.slots) {
		b.grow()
	}
	e := b.slot(bucket)
	if e.key == 0 {
		b.n++
		*e = bucketSlot{bucket + 1, none}
	}
	return &e.row
}

func (b *buckets) grow() {
	old := b.slots
	b.slots = make([]bucketSlot, max(1024, 4*len(old)))
	for _, e := range old {
		if e.key != 0 {
			*b.slot(e.key - 1) = e
		}
	}
}

// all visits the buckets and their rows, which visit may set.
func (b *buckets) all(visit func(bucket uint32, row *uint32)) {
	for i := range b.slots {
		if e := &b.slots[i]; e.key != 0 {
			visit(e.key-1, &e.row)
		}
	}
}
