package token

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// Patterns by which byte-level BPE tokenizers cut text into pre-tokens, in
// the regular expression dialect of tokenizer.json. These are scanned by hand
// written code (splitter); any other pattern goes through a regular expression
// engine and is some thirty times slower.
const (
	// GPT2Pattern is that of GPT-2, and of a ByteLevel pre-tokenizer that
	// says use_regex.
	GPT2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

	// Llama3Pattern is that of Llama 3 and cl100k: a word may carry the one
	// sign before it, numbers are cut in groups of three digits, line ends
	// stay together.
	Llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	// Qwen2Pattern is Llama3Pattern with every digit by itself.
	Qwen2Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	// CodePattern is made for source code, and the default of TrainBPE: an
	// identifier is one word with its digits and underscores and the one sign
	// before it, and the indentation of a line belongs to the line end before
	// it ("{\n\t\t" can be one token), so that a word at the start of a line is
	// spelled as it is elsewhere.
	CodePattern = `[^\r\n\p{L}\p{N}_]?[\p{L}\p{N}_]+| ?[^\s\p{L}\p{N}_]+(?:[\r\n]+[\t ]*)?|\s*[\r\n]+[\t ]*|\s+(?!\S)|\s+`
)

// splitters are the patterns with a hand-written scanner.
var splitters = map[string]splitter{
	GPT2Pattern:   {contractions: exactCase, numberSpace: true},
	Llama3Pattern: {contractions: anyCase, wordPrefix: true, maxDigits: 3, lines: true},
	Qwen2Pattern:  {contractions: anyCase, wordPrefix: true, maxDigits: 1, lines: true},
	CodePattern:   {identifiers: true, wordPrefix: true, lines: true, indent: true},
}

// splitter scans text pre-token by pre-token as one of the known patterns
// matches it. Its fields say in what the patterns differ.
type splitter struct {
	contractions letterCase // 's, 't, 're, 've, 'm, 'll, 'd stand alone
	wordPrefix   bool       // a word may begin with any one sign but a line end or digit, not only a space
	identifiers  bool       // digits and underscores are letters
	numberSpace  bool       // a number may begin with a space
	maxDigits    int        // longest number; 0: any length
	lines        bool       // line ends attach to the signs or white space before them
	indent       bool       // and tabs and spaces to those line ends
}

type letterCase uint8

const (
	never letterCase = iota
	exactCase
	anyCase
)

// class is what the patterns tell characters apart by.
type class uint8

const (
	other class = iota // \S that is no letter and no number; also a byte that is not UTF-8
	letter
	number
	space   // \s except line ends
	newline // \r and \n
)

var (
	asciiClass = classes(utf8.RuneSelf)
	// planeClass holds the classes of the basic multilingual plane, made when
	// first needed: looking them up in the Unicode range tables is slow.
	planeClass = sync.OnceValue(func() []class { return classes(1 << 16) })
)

func classes(n int) []class {
	t := make([]class, n)
	for r := range t {
		t[r] = slowClass(rune(r))
	}
	return t
}

func slowClass(r rune) class {
	switch {
	case r == '\n' || r == '\r':
		return newline
	case unicode.IsSpace(r):
		return space
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	}
	return other
}

// classAt gives the class and the width in bytes of the character at s[i:],
// and width 0 at the end of s.
func (p *splitter) classAt(s string, i int) (class, int) {
	if i >= len(s) {
		return other, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		if c == '_' && p.identifiers {
			return letter, 1
		}
		return p.fold(asciiClass[c]), 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	if r < 1<<16 {
		return p.fold(planeClass()[r]), n
	}
	return p.fold(slowClass(r)), n
}

func (p *splitter) fold(c class) class {
	if c == number && p.identifiers {
		return letter
	}
	return c
}

// run is the end of the run of class c that begins at s[i:].
func (p *splitter) run(s string, i int, c class) int {
	for {
		d, n := p.classAt(s, i)
		if n == 0 || d != c {
			return i
		}
		i += n
	}
}

// next is the length of the first pre-token of s, which must not be empty. All
// of s is scanned at most twice by the calls that walk through it.
func (p *splitter) next(s string) int {
	c, n := p.classAt(s, 0)
	if s[0] == '\'' && p.contractions != never {
		if k := contraction(s[1:], p.contractions == anyCase); k > 0 {
			return 1 + k
		}
	}
	switch c {
	case letter:
		return p.run(s, n, letter)
	case number:
		return p.number(s, 0)
	}
	d, _ := p.classAt(s, n)
	lone := s[0] == ' '
	switch {
	case d == letter && (lone || p.wordPrefix && c != newline):
		return p.run(s, n, letter)
	case d == number && lone && p.numberSpace:
		return p.number(s, n)
	case c == other:
		return p.signs(s, n)
	case d == other && lone && n < len(s):
		return p.signs(s, n)
	}
	return p.whiteSpace(s)
}

// number is the end of the number that begins at s[i:].
func (p *splitter) number(s string, i int) int {
	if p.maxDigits == 0 {
		return p.run(s, i, number)
	}
	for range p.maxDigits {
		c, n := p.classAt(s, i)
		if n == 0 || c != number {
			break
		}
		i += n
	}
	return i
}

// signs is the end of a run of signs that has begun before s[i:], with the
// line ends and the indentation after it.
func (p *splitter) signs(s string, i int) int {
	i = p.run(s, i, other)
	if !p.lines {
		return i
	}
	end := p.run(s, i, newline)
	if p.indent && end > i {
		end = blanks(s, end)
	}
	return end
}

// whiteSpace is the length of the pre-token that begins with the white space
// s begins with: up to its last line end, or else all but its last character,
// which goes to the word behind it.
func (p *splitter) whiteSpace(s string) int {
	end, last, line := 0, 0, 0
	for {
		c, n := p.classAt(s, end)
		if n == 0 || c != space && c != newline {
			break
		}
		last = end
		end += n
		if c == newline {
			line = end
		}
	}
	switch {
	case p.lines && line > 0 && p.indent:
		return blanks(s, line)
	case p.lines && line > 0:
		return line
	case end < len(s) && last > 0:
		return last
	}
	return end
}

// blanks is the end of the tabs and spaces at s[i:].
func blanks(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t') {
		i++
	}
	return i
}

// contraction is the length of the English ending at the start of s, which
// follows an apostrophe, or 0.
func contraction(s string, fold bool) int {
	if len(s) == 0 {
		return 0
	}
	a, b := s[0], byte(0)
	if len(s) > 1 {
		b = s[1]
	}
	if fold {
		a, b = lower(a), lower(b)
	}
	switch {
	case a == 's' || a == 't' || a == 'm' || a == 'd':
		return 1
	case (a == 'r' || a == 'v') && b == 'e', a == 'l' && b == 'l':
		return 2
	case fold && len(s) > 1 && s[:2] == "ſ": // the long s folds to s
		return 2
	}
	return 0
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
