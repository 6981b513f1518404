package token

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// golden is one tokenizer of testdata/golden.json with what the Hugging Face
// implementation makes of some texts (see testdata/golden.mjs).
type golden struct {
	Name  string
	File  json.RawMessage
	Cases []struct {
		Text    string
		IDs     []int32
		Decoded string
	}
	Single, Pair struct{ IDs, Types []int32 }
}

func readGolden(t testing.TB) (all []golden) {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAgreesWithHuggingFace(t *testing.T) {
	for _, g := range readGolden(t) {
		t.Run(g.Name, func(t *testing.T) {
			k, err := Read(g.File)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range g.Cases {
				got := k.Encode(nil, []byte(c.Text))
				if !slices.Equal(got, c.IDs) {
					t.Errorf("%q\ngot  %v %q\nwant %v %q", c.Text, got, spelled(k, got), c.IDs, spelled(k, c.IDs))
				}
				if got := string(k.Decode(nil, c.IDs)); got != c.Decoded {
					t.Errorf("%q decodes as %q, want %q", c.Text, got, c.Decoded)
				}
			}
			a, b := k.Encode(nil, []byte(g.Cases[4].Text)), k.Encode(nil, []byte(g.Cases[3].Text))
			if ids, types := k.Frame(a, nil); !slices.Equal(ids, g.Single.IDs) || !slices.Equal(types, g.Single.Types) {
				t.Errorf("framed %v %v, want %v", ids, types, g.Single)
			}
			if ids, types := k.Frame(a, b); !slices.Equal(ids, g.Pair.IDs) || !slices.Equal(types, g.Pair.Types) {
				t.Errorf("pair %v %v, want %v", ids, types, g.Pair)
			}
		})
	}
}

func spelled(k Tokenizer, ids []int32) (out []string) {
	for _, id := range ids {
		s, _ := k.Token(id)
		out = append(out, string(s))
	}
	return out
}
