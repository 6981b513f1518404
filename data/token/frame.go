package token

import (
	"encoding/json"
	"errors"
	"fmt"
)

// template is what is put around one sequence, or two.
type template struct{ single, pair []slot }

// slot is one place in a template.
type slot struct {
	sequence int     // 0 or 1: that sequence; -1: ids
	ids      []int32 // of a mark
	kind     int32   // type id
}

// apply frames first alone, or with second if that is not nil.
func (t *template) apply(first, second []int32) (ids, types []int32) {
	slots := t.single
	if second != nil {
		slots = t.pair
	}
	for _, s := range slots {
		part := s.ids
		switch s.sequence {
		case 0:
			part = first
		case 1:
			part = second
		}
		ids = append(ids, part...)
		for range part {
			types = append(types, s.kind)
		}
	}
	return ids, types
}

// readFrame makes the template of the post-processor at path; nil if it adds
// nothing. vocab is the number of tokens.
func readFrame(path string, raw json.RawMessage, vocab int) (*template, error) {
	components, err := flatten(path, raw, 0, "processors")
	if err != nil {
		return nil, err
	}
	var t *template
	for _, c := range components {
		next, err := readTemplate(c, vocab)
		if err != nil {
			return nil, err
		}
		if next != nil && t != nil {
			return nil, pathError(c.path, errors.New("a second post-processor that adds tokens is not supported"))
		}
		if next != nil {
			t = next
		}
	}
	return t, nil
}

func readTemplate(c component, vocab int) (*template, error) {
	switch c.kind {
	case "ByteLevel": // only trims the offsets of tokens
		return nil, nil
	case "TemplateProcessing":
		return readTemplateProcessing(c, vocab)
	case "BertProcessing", "RobertaProcessing":
	default:
		return nil, unsupported(c.path, "post-processor", c.kind)
	}
	var o struct {
		Sep []json.RawMessage `json:"sep"`
		CLS []json.RawMessage `json:"cls"`
	}
	if err := parse(c.path, c.raw, &o); err != nil {
		return nil, err
	}
	mark := func(name string, v []json.RawMessage) ([]int32, error) {
		var id int64
		if len(v) != 2 {
			return nil, pathError(c.path+"."+name, errors.New("want a token and its id"))
		}
		if err := parse(c.path+"."+name+"[1]", v[1], &id); err != nil {
			return nil, err
		}
		return []int32{int32(id)}, checkMark(c.path+"."+name+"[1]", id, vocab)
	}
	sep, err := mark("sep", o.Sep)
	if err != nil {
		return nil, err
	}
	cls, err := mark("cls", o.CLS)
	if err != nil {
		return nil, err
	}
	if c.kind == "BertProcessing" {
		single := []slot{{-1, cls, 0}, {0, nil, 0}, {-1, sep, 0}}
		return &template{single, append(single[:3:3], slot{1, nil, 1}, slot{-1, sep, 1})}, nil
	}
	single := []slot{{-1, cls, 0}, {0, nil, 0}, {-1, sep, 0}}
	return &template{single, append(single[:3:3], slot{-1, sep, 0}, slot{1, nil, 0}, slot{-1, sep, 0})}, nil
}

// checkMark tells whether an id names a token.
func checkMark(path string, id int64, vocab int) error {
	if id < 0 || id >= int64(vocab) {
		return pathError(path, fmt.Errorf("no token has id %d", id))
	}
	return nil
}

func readTemplateProcessing(c component, vocab int) (*template, error) {
	type place struct {
		ID     string `json:"id"`
		TypeID int32  `json:"type_id"`
	}
	type element struct {
		SpecialToken, Sequence *place
	}
	var o struct {
		Single        []element `json:"single"`
		Pair          []element `json:"pair"`
		SpecialTokens map[string]struct {
			IDs []int64 `json:"ids"`
		} `json:"special_tokens"`
	}
	if err := parse(c.path, c.raw, &o); err != nil {
		return nil, err
	}
	slots := func(name string, list []element) (out []slot, err error) {
		for i, e := range list {
			at := fmt.Sprintf("%s.%s[%d]", c.path, name, i)
			switch {
			case e.Sequence != nil:
				k, ok := map[string]int{"A": 0, "B": 1}[e.Sequence.ID]
				if !ok {
					return nil, pathError(at, errors.New("want sequence A or B"))
				}
				out = append(out, slot{k, nil, e.Sequence.TypeID})
			case e.SpecialToken != nil:
				s, ok := o.SpecialTokens[e.SpecialToken.ID]
				if !ok {
					return nil, pathError(at, fmt.Errorf("%.60q is not in special_tokens", e.SpecialToken.ID))
				}
				var ids []int32
				for _, id := range s.IDs {
					if err := checkMark(at, id, vocab); err != nil {
						return nil, err
					}
					ids = append(ids, int32(id))
				}
				out = append(out, slot{-1, ids, e.SpecialToken.TypeID})
			default:
				return nil, pathError(at, errors.New("want SpecialToken or Sequence"))
			}
		}
		return out, nil
	}
	single, err := slots("single", o.Single)
	if err != nil {
		return nil, err
	}
	pair, err := slots("pair", o.Pair)
	if err != nil {
		return nil, err
	}
	if pair == nil {
		pair = append(single[:len(single):len(single)], slot{1, nil, 1})
	}
	return &template{single, pair}, nil
}
