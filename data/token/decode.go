package token

import (
	"encoding/json"
	"strings"
)

// decodeStep turns the spellings of a sequence of tokens into text, step by
// step: the parts that the last step returns are the text.
type decodeStep func(parts []string) []string

// readDecoder makes the steps of the decoder described at path.
func readDecoder(path string, raw json.RawMessage) (steps []decodeStep, kinds []component, err error) {
	kinds, err = flatten(path, raw, 0, "decoders")
	if err != nil {
		return nil, nil, err
	}
	for _, c := range kinds {
		step, err := readDecodeStep(c)
		if err != nil {
			return nil, nil, err
		}
		steps = append(steps, step)
	}
	return steps, kinds, nil
}

func readDecodeStep(c component) (decodeStep, error) {
	switch c.kind {
	case "ByteLevel":
		return each(func(_ int, s string) string {
			if raw, ok := spelledBytes(s); ok {
				return raw
			}
			return s
		}), nil

	case "ByteFallback":
		return each(func(_ int, s string) string {
			if b, ok := byteToken(s); ok {
				return string([]byte{b})
			}
			return s
		}), nil

	case "Fuse":
		return func(parts []string) []string { return []string{strings.Join(parts, "")} }, nil

	case "Strip":
		var o struct {
			Content string `json:"content"`
			Start   int    `json:"start"`
			Stop    int    `json:"stop"`
		}
		err := parse(c.path, c.raw, &o)
		return each(func(_ int, s string) string {
			if o.Content == "" {
				return s
			}
			for i := 0; i < o.Start && strings.HasPrefix(s, o.Content); i++ {
				s = s[len(o.Content):]
			}
			for i := 0; i < o.Stop && strings.HasSuffix(s, o.Content); i++ {
				s = s[:len(s)-len(o.Content)]
			}
			return s
		}), err

	case "Replace":
		p, content, err := readReplace(c.path, c.raw)
		if err != nil {
			return nil, err
		}
		return each(func(_ int, s string) string { return p.replace(s, content) }), nil

	case "WordPiece":
		o := struct {
			Prefix  string `json:"prefix"`
			Cleanup bool   `json:"cleanup"`
		}{"##", true}
		err := parse(c.path, c.raw, &o)
		return each(func(i int, s string) string {
			if i > 0 {
				if rest, ok := strings.CutPrefix(s, o.Prefix); ok {
					s = rest
				} else {
					s = " " + s
				}
			}
			if o.Cleanup {
				s = cleanUp.Replace(s)
			}
			return s
		}), err

	case "BPEDecoder":
		o := struct {
			Suffix string `json:"suffix"`
		}{"</w>"}
		err := parse(c.path, c.raw, &o)
		return func(parts []string) []string {
			for i, s := range parts {
				space := " "
				if i == len(parts)-1 {
					space = ""
				}
				if o.Suffix != "" {
					parts[i] = strings.ReplaceAll(s, o.Suffix, space)
				}
			}
			return parts
		}, err

	case "Metaspace":
		o, err := readMetaspace(c.path, c.raw)
		return each(func(i int, s string) string {
			if i == 0 && o.PrependScheme != "never" {
				s = strings.TrimPrefix(s, o.Replacement)
			}
			return strings.ReplaceAll(s, o.Replacement, " ")
		}), err
	}
	return nil, unsupported(c.path, "decoder", c.kind)
}

// each is the step that changes every part by itself; i is its place.
func each(change func(i int, s string) string) decodeStep {
	return func(parts []string) []string {
		for i, s := range parts {
			parts[i] = change(i, s)
		}
		return parts
	}
}

// cleanUp undoes the spaces that BERT's words leave before English signs.
var cleanUp = strings.NewReplacer(" .", ".", " ?", "?", " !", "!", " ,", ",", " ' ", "'",
	" n't", "n't", " 'm", "'m", " do not", " don't", " 's", "'s", " 've", "'ve", " 're", "'re")

// byteToken tells which byte a token like <0x0A> stands for.
func byteToken(s string) (byte, bool) {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return 0, false
	}
	hi, lo := strings.IndexByte(hexDigits, s[3]), strings.IndexByte(hexDigits, s[4])
	if hi < 0 || lo < 0 {
		return 0, false
	}
	return byte(hi<<4 | lo), true
}

const hexDigits = "0123456789ABCDEF"
