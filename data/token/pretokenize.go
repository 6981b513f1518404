package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// splitStep appends the parts into which a pre-tokenizer cuts a piece.
type splitStep func(dst []piece, p piece) []piece

// splitPart is one pre-tokenizer of a tokenizer.json.
type splitPart struct {
	steps     []splitStep
	scan      *splitter // does the same cuts on raw bytes; nil: nothing does
	byteLevel bool      // ends in the byte-level spelling, and adds no space
}

// readPreTokenizer makes the steps of the pre-tokenizer described at path.
// fast is the scanner that does the same on raw bytes, if all there is to do
// is to cut by a known pattern and take the byte-level spelling.
func readPreTokenizer(path string, raw json.RawMessage) (steps []splitStep, fast *splitter, err error) {
	components, err := flatten(path, raw, 0, "pretokenizers")
	if err != nil {
		return nil, nil, err
	}
	var parts []splitPart
	spelled := false
	for _, c := range components {
		if spelled && c.kind == "ByteLevel" { // the text would double with each
			return nil, nil, pathError(c.path, errors.New("a second ByteLevel is not supported"))
		}
		spelled = spelled || c.kind == "ByteLevel"
		p, err := readSplit(c)
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, p)
		steps = append(steps, p.steps...)
	}
	switch {
	case len(parts) == 1 && parts[0].byteLevel:
		fast = parts[0].scan
	case len(parts) == 2 && parts[1].byteLevel && parts[1].scan == nil:
		fast = parts[0].scan
	}
	return steps, fast, nil
}

// component is one stage of a tokenizer.json, taken out of any Sequence.
type component struct {
	path, kind string
	raw        json.RawMessage
}

// flatten lists the components at path in order; list is the field in which a
// Sequence keeps its members.
func flatten(path string, raw json.RawMessage, depth int, list string) (all []component, err error) {
	kind, err := componentType(path, raw, depth)
	switch {
	case err != nil || kind == "":
		return nil, err
	case kind != "Sequence":
		return []component{{path, kind, raw}}, nil
	}
	var fields map[string]json.RawMessage
	if err := parse(path, raw, &fields); err != nil {
		return nil, err
	}
	path += "." + list
	var members []json.RawMessage
	if err := parse(path, fields[list], &members); err != nil {
		return nil, err
	}
	for i, m := range members {
		part, err := flatten(fmt.Sprintf("%s[%d]", path, i), m, depth+1, list)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	if len(all) > maxSteps {
		return nil, pathError(path, fmt.Errorf("more than %d components", maxSteps))
	}
	return all, nil
}

// readSplit makes one pre-tokenizer.
func readSplit(c component) (part splitPart, err error) {
	cut := func(find func(string) []span, b behavior, invert bool) {
		part.steps = append(part.steps, cutBy(find, b, invert))
	}
	switch c.kind {
	case "ByteLevel":
		o := struct {
			AddPrefixSpace bool `json:"add_prefix_space"`
			UseRegex       bool `json:"use_regex"`
		}{true, true}
		err = parse(c.path, c.raw, &o)
		if o.AddPrefixSpace {
			part.steps = append(part.steps, prefixSpace)
		}
		if o.UseRegex {
			sp := splitters[GPT2Pattern]
			part.scan = &sp
			cut(sp.spans, isolated, false)
		}
		part.steps = append(part.steps, spellBytes)
		part.byteLevel = !o.AddPrefixSpace

	case "Split":
		var o struct {
			Pattern  json.RawMessage `json:"pattern"`
			Behavior behavior        `json:"behavior"`
			Invert   bool            `json:"invert"`
		}
		if err = parse(c.path, c.raw, &o); err != nil {
			return part, err
		}
		if err = o.Behavior.check(c.path); err != nil {
			return part, err
		}
		p, sp, err := readPattern(c.path+".pattern", o.Pattern)
		if err != nil {
			return part, err
		}
		// The known patterns match every character, so removing what does not
		// match keeps everything.
		if sp != nil && (o.Behavior == isolated || o.Behavior == removed && o.Invert) {
			part.scan = sp
			cut(sp.spans, isolated, false)
			return part, nil
		}
		cut(p.spans, o.Behavior, o.Invert)

	case "Punctuation":
		o := struct {
			Behavior behavior `json:"behavior"`
		}{isolated}
		if err = parse(c.path, c.raw, &o); err != nil {
			return part, err
		}
		err = o.Behavior.check(c.path)
		cut(runeSpans(isPunct), o.Behavior, false)

	case "Digits":
		var o struct {
			Individual bool `json:"individual_digits"`
		}
		err = parse(c.path, c.raw, &o)
		b := contiguous
		if o.Individual {
			b = isolated
		}
		cut(runeSpans(unicode.IsNumber), b, false)

	case "Whitespace":
		cut(wordSpans, removed, true)

	case "WhitespaceSplit":
		cut(runeSpans(unicode.IsSpace), removed, false)

	case "BertPreTokenizer":
		cut(runeSpans(unicode.IsSpace), removed, false)
		cut(runeSpans(isPunct), isolated, false)

	case "CharDelimiterSplit":
		var o struct {
			Delimiter string `json:"delimiter"`
		}
		err = parse(c.path, c.raw, &o)
		cut((&pattern{plain: o.Delimiter}).spans, removed, false)

	case "Metaspace":
		var o metaspace
		o, err = readMetaspace(c.path, c.raw)
		part.steps = append(part.steps, o.mark)
		if o.Split {
			cut((&pattern{plain: o.Replacement}).spans, mergedWithNext, false)
		}

	default:
		err = unsupported(c.path, "pre-tokenizer", c.kind)
	}
	return part, err
}

func prefixSpace(dst []piece, p piece) []piece {
	if !strings.HasPrefix(p.text, " ") {
		p.text = " " + p.text
	}
	return append(dst, p)
}

func spellBytes(dst []piece, p piece) []piece {
	return append(dst, piece{byteSpelling(p.text), p.first})
}

// metaspace is how SentencePiece writes spaces: as a visible character that
// belongs to the word behind it.
type metaspace struct {
	Replacement    string `json:"replacement"`
	PrependScheme  string `json:"prepend_scheme"`   // always, first, never
	AddPrefixSpace bool   `json:"add_prefix_space"` // the older spelling of it
	Split          bool   `json:"split"`
}

func readMetaspace(path string, raw json.RawMessage) (metaspace, error) {
	o := metaspace{Replacement: "▁", AddPrefixSpace: true, Split: true}
	if err := parse(path, raw, &o); err != nil {
		return o, err
	}
	switch o.PrependScheme {
	case "":
		o.PrependScheme = "always"
		if !o.AddPrefixSpace {
			o.PrependScheme = "never"
		}
	case "always", "first", "never":
	default:
		return o, pathError(path+".prepend_scheme", errors.New("want always, first or never"))
	}
	if utf8.RuneCountInString(o.Replacement) != 1 {
		return o, pathError(path+".replacement", errors.New("want one character"))
	}
	return o, nil
}

// mark replaces the spaces, and puts one before the piece if asked to.
func (o metaspace) mark(dst []piece, p piece) []piece {
	p.text = strings.ReplaceAll(p.text, " ", o.Replacement)
	if (o.PrependScheme == "always" || o.PrependScheme == "first" && p.first) &&
		!strings.HasPrefix(p.text, o.Replacement) {
		p.text = o.Replacement + p.text
	}
	return append(dst, p)
}

// readPattern reads {"String": …} or {"Regex": …}; sp is the scanner for the
// expression if it is a known one.
func readPattern(path string, raw json.RawMessage) (p *pattern, sp *splitter, err error) {
	var o struct{ String, Regex *string }
	if err := parse(path, raw, &o); err != nil {
		return nil, nil, err
	}
	switch {
	case o.String != nil:
		return &pattern{plain: *o.String}, nil, nil
	case o.Regex == nil:
		return nil, nil, pathError(path, errors.New("want String or Regex"))
	}
	if known, ok := splitters[*o.Regex]; ok {
		sp = &known
	}
	if p, err = compile(*o.Regex); err != nil {
		return nil, nil, pathError(path+".Regex", err)
	}
	return p, sp, nil
}

// behavior is what a split does with the matches of its pattern.
type behavior string

const (
	removed            behavior = "Removed"
	isolated           behavior = "Isolated"
	mergedWithPrevious behavior = "MergedWithPrevious"
	mergedWithNext     behavior = "MergedWithNext"
	contiguous         behavior = "Contiguous" // matches side by side are one piece
)

func (b behavior) check(path string) error {
	switch b {
	case removed, isolated, mergedWithPrevious, mergedWithNext, contiguous:
		return nil
	}
	return pathError(path+".behavior", errors.New("want Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous"))
}

// cutBy cuts at the matches that find reports, all of the text in order.
func cutBy(find func(string) []span, b behavior, invert bool) splitStep {
	return func(dst []piece, p piece) []piece {
		spans := find(p.text)
		if invert {
			for i := range spans {
				spans[i].match = !spans[i].match
			}
		}
		for _, s := range b.arrange(spans) {
			if s.lo < s.hi && !(b == removed && s.match) {
				dst = append(dst, piece{p.text[s.lo:s.hi], p.first && s.lo == 0})
			}
		}
		return dst
	}
}

// arrange joins neighbouring spans, in place, as the behavior asks.
func (b behavior) arrange(spans []span) []span {
	out := spans[:0]
	previous := false // whether the span before was a match
	switch b {
	case contiguous:
		for _, s := range spans {
			if s.match == previous && len(out) > 0 {
				out[len(out)-1].hi = s.hi
			} else {
				out = append(out, s)
			}
			previous = s.match
		}
	case mergedWithPrevious:
		for _, s := range spans {
			if s.match && !previous && len(out) > 0 {
				out[len(out)-1].hi = s.hi
			} else {
				out = append(out, s)
			}
			previous = s.match
		}
	case mergedWithNext:
		// From the end, filling the slice from its end.
		at := len(spans)
		for i := len(spans) - 1; i >= 0; i-- {
			s := spans[i]
			if s.match && !previous && at < len(spans) {
				spans[at].lo = s.lo
			} else {
				at--
				spans[at] = s
			}
			previous = s.match
		}
		return spans[at:]
	default:
		return spans
	}
	return out
}

// runeSpans finds single characters; the gaps between are joined.
func runeSpans(is func(rune) bool) func(string) []span {
	return func(s string) []span {
		var out []span
		end := 0
		for i, r := range s {
			if !is(r) {
				continue
			}
			if end < i {
				out = append(out, span{end, i, false})
			}
			end = i + runeLen(s, i, r)
			out = append(out, span{i, end, true})
		}
		if end < len(s) {
			out = append(out, span{end, len(s), false})
		}
		return out
	}
}

// wordSpans finds what \w+|[^\w\s]+ matches.
func wordSpans(s string) []span {
	kind := func(r rune) int {
		switch {
		case isWord(r):
			return 1
		case unicode.IsSpace(r):
			return 0
		}
		return 2
	}
	var out []span
	for i, r := range s {
		k := kind(r)
		hi := i + runeLen(s, i, r)
		if n := len(out); n > 0 {
			before, _ := utf8.DecodeRuneInString(s[out[n-1].lo:])
			if kind(before) == k {
				out[n-1].hi = hi
				continue
			}
		}
		out = append(out, span{i, hi, k != 0})
	}
	return out
}

// spans lists the pre-tokens of s: all of it is matches.
func (p *splitter) spans(s string) []span {
	var out []span
	for i := 0; i < len(s); {
		n := p.next(s[i:])
		out = append(out, span{i, i + n, true})
		i += n
	}
	return out
}

// runeLen is the number of bytes of character r at s[i:]: one where s is not
// UTF-8 and r therefore the replacement character.
func runeLen(s string, i int, r rune) int {
	if r == utf8.RuneError {
		_, n := utf8.DecodeRuneInString(s[i:])
		return n
	}
	return utf8.RuneLen(r)
}

// isPunct is punctuation to BERT: that of Unicode, and every ASCII sign.
func isPunct(r rune) bool {
	return r < 0x80 && r > ' ' && r < 0x7f && !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') ||
		unicode.IsPunct(r)
}
