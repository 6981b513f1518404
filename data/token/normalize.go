package token

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/rivo/uniseg"
	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites text before it is cut: letter case, accents, Unicode
// forms, the spelling of spaces.
type normalizer func(string) string

// readNormalizer makes the normalizer described at path; nil for null.
func readNormalizer(path string, raw json.RawMessage) (normalizer, error) {
	components, err := flatten(path, raw, 0, "normalizers")
	if err != nil || len(components) == 0 {
		return nil, err
	}
	steps := make([]normalizer, len(components))
	for i, c := range components {
		if steps[i], err = readNormalStep(c.path, c.kind, c.raw); err != nil {
			return nil, err
		}
	}
	if len(steps) == 1 {
		return steps[0], nil
	}
	return func(s string) string {
		size := len(s)
		for _, f := range steps {
			if next := f(s); !runaway(size, len(next)) {
				s = next
			}
		}
		return s
	}, nil
}

// runaway tells whether a text has grown as only a malicious chain of
// replacements makes it grow; the step that did so is left out.
func runaway(before, after int) bool { return after > 1<<20+64*before }

func readNormalStep(path, kind string, raw json.RawMessage) (normalizer, error) {
	switch kind {
	case "NFC":
		return norm.NFC.String, nil
	case "NFD":
		return norm.NFD.String, nil
	case "NFKC":
		return norm.NFKC.String, nil
	case "NFKD":
		return norm.NFKD.String, nil
	case "Lowercase":
		return lowercase, nil
	case "StripAccents":
		return without(unicode.M), nil
	case "Nmt":
		return nmt, nil
	case "ByteLevel":
		return byteSpelling, nil
	case "Strip":
		c := struct {
			Left  bool `json:"strip_left"`
			Right bool `json:"strip_right"`
		}{true, true}
		err := parse(path, raw, &c)
		return func(s string) string {
			if c.Left {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if c.Right {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		}, err
	case "Prepend":
		var c struct {
			Prepend string `json:"prepend"`
		}
		err := parse(path, raw, &c)
		if err == nil {
			err = checkAffix(path+".prepend", c.Prepend)
		}
		return func(s string) string {
			if s == "" {
				return s
			}
			return c.Prepend + s
		}, err
	case "Replace":
		p, content, err := readReplace(path, raw)
		if err != nil {
			return nil, err
		}
		return func(s string) string { return p.replace(s, content) }, nil
	case "BertNormalizer":
		c := bertNormalizer{CleanText: true, HandleChineseChars: true, Lowercase: true}
		err := parse(path, raw, &c)
		return c.normalize, err
	case "Precompiled":
		var c struct {
			Charsmap string `json:"precompiled_charsmap"`
		}
		if err := parse(path, raw, &c); err != nil {
			return nil, err
		}
		m, err := newCharsMap(c.Charsmap)
		if err != nil {
			return nil, pathError(path+".precompiled_charsmap", err)
		}
		return m.normalize, nil
	}
	return nil, unsupported(path, "normalizer", kind)
}

// readReplace reads the fields of a Replace: a pattern and what to put there.
func readReplace(path string, raw json.RawMessage) (*pattern, string, error) {
	var c struct {
		Pattern json.RawMessage `json:"pattern"`
		Content string          `json:"content"`
	}
	if err := parse(path, raw, &c); err != nil {
		return nil, "", err
	}
	if err := checkAffix(path+".content", c.Content); err != nil {
		return nil, "", err
	}
	p, _, err := readPattern(path+".pattern", c.Pattern)
	return p, c.Content, err
}

// checkAffix bounds a text that is put in many times over.
func checkAffix(path, s string) error {
	const limit = 64
	if len(s) > limit {
		return pathError(path, fmt.Errorf("longer than %d bytes", limit))
	}
	return nil
}

// lowercase lowers character by character. One letter becomes two: İ.
func lowercase(s string) string {
	return strings.ReplaceAll(strings.Map(func(r rune) rune {
		if r == 'İ' {
			return r
		}
		return unicode.ToLower(r)
	}, s), "İ", "i\u0307")
}

// without gives a function that leaves out the characters of a class.
func without(class *unicode.RangeTable) normalizer {
	return func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.Is(class, r) {
				return -1
			}
			return r
		}, s)
	}
}

// nmt drops control characters and makes every kind of space a plain one.
func nmt(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 0x01 && r <= 0x08, r == 0x0b, r >= 0x0e && r <= 0x1f, r == 0x7f, r == 0x8f, r == 0x9f:
			return -1
		case r == 0x09, r == 0x0a, r == 0x0c, r == 0x0d, r == 0x1680, r >= 0x200b && r <= 0x200f,
			r == 0x2028, r == 0x2029, r == 0x2581, r == 0xfeff, r == 0xfffd:
			return ' '
		}
		return r
	}, s)
}

// bertNormalizer is the normalizer of BERT.
type bertNormalizer struct {
	CleanText          bool  `json:"clean_text"`
	HandleChineseChars bool  `json:"handle_chinese_chars"`
	StripAccents       *bool `json:"strip_accents"` // nil: as Lowercase
	Lowercase          bool  `json:"lowercase"`
}

func (b *bertNormalizer) normalize(s string) string {
	if b.CleanText {
		s = strings.Map(cleanRune, s)
	}
	if b.HandleChineseChars && strings.ContainsFunc(s, isIdeograph) {
		var out strings.Builder
		for _, r := range s {
			if isIdeograph(r) {
				out.WriteByte(' ')
				out.WriteRune(r)
				out.WriteByte(' ')
			} else {
				out.WriteRune(r)
			}
		}
		s = out.String()
	}
	if b.StripAccents == nil && b.Lowercase || b.StripAccents != nil && *b.StripAccents {
		s = without(unicode.Mn)(norm.NFD.String(s))
	}
	if b.Lowercase {
		s = lowercase(s)
	}
	return s
}

// cleanRune drops characters that are not text, and makes white space plain.
func cleanRune(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case r == 0, r == 0xfffd, !assigned(r), unicode.Is(unicode.C, r):
		return -1
	}
	return r
}

// assigned tells whether a code point is a character at all.
func assigned(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.C)
}

// isIdeograph is what BERT sets apart as a Chinese character.
func isIdeograph(r rune) bool {
	switch {
	case r < 0x3400:
		return false
	case r <= 0x4dbf, r >= 0x4e00 && r <= 0x9fff, r >= 0xf900 && r <= 0xfaff,
		r >= 0x20000 && r <= 0x2a6df, r >= 0x2a700 && r <= 0x2b73f, r >= 0x2b740 && r <= 0x2b81f,
		r >= 0x2b820 && r <= 0x2ceaf, r >= 0x2f800 && r <= 0x2fa1f:
		return true
	}
	return false
}

// charsMap is the table of replacements that SentencePiece compiles its
// normalisation rules into: a double array from text to a place in a list of
// NUL-terminated strings.
type charsMap struct {
	units []uint32
	texts string
}

func newCharsMap(encoded string) (*charsMap, error) {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	if len(data) < 4 {
		return nil, errors.New("too short")
	}
	n := int64(binary.LittleEndian.Uint32(data))
	data = data[4:]
	if n%4 != 0 || n > int64(len(data)) {
		return nil, errors.New("table is cut short")
	}
	m := &charsMap{units: make([]uint32, n/4), texts: string(data[n:])}
	for i := range m.units {
		m.units[i] = binary.LittleEndian.Uint32(data[4*i:])
	}
	return m, nil
}

// lookup gives the replacement of the shortest key that s begins with.
func (m *charsMap) lookup(s string) (string, bool) {
	unit := func(i uint32) uint32 {
		if i >= uint32(len(m.units)) {
			return 0 // damaged table: a unit no label fits
		}
		return m.units[i]
	}
	offset := func(u uint32) uint32 { return u >> 10 << (u & (1 << 9) >> 6) }
	at := offset(unit(0))
	for i := range len(s) {
		if s[i] == 0 {
			break
		}
		at ^= uint32(s[i])
		u := unit(at)
		if u&(1<<31|0xff) != uint32(s[i]) {
			break
		}
		at ^= offset(u)
		if u>>8&1 != 1 {
			continue
		}
		from := unit(at) &^ (1 << 31)
		if from > uint32(len(m.texts)) {
			return "", false
		}
		const longest = 256 // Unicode's own need at most 36 bytes
		text := m.texts[from:min(int(from)+longest, len(m.texts))]
		end := strings.IndexByte(text, 0)
		return text[:max(end, 0)], end >= 0
	}
	return "", false
}

// normalize replaces what the table has, first as whole user-perceived
// characters of less than six bytes, then code point by code point.
func (m *charsMap) normalize(s string) string {
	var out strings.Builder
	out.Grow(len(s))
	state := -1
	for s != "" {
		var cluster string
		cluster, s, _, state = uniseg.FirstGraphemeClusterInString(s, state)
		if len(cluster) < 6 {
			if text, ok := m.lookup(cluster); ok {
				out.WriteString(text)
				continue
			}
		}
		for i, r := range cluster {
			char := cluster[i : i+runeLen(cluster, i, r)]
			if text, ok := m.lookup(char); ok {
				char = text
			}
			out.WriteString(char)
		}
	}
	return out.String()
}
