package lm

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hasten/data/store"
	"hasten/data/token"
	"hasten/engine/memory"
	"hasten/model/net"
)

// naiveLoss is the mean loss over consecutive windows, token after token by
// the decoder.
func naiveLoss(t *testing.T, m *net.GPT, tokens []int32, length int) (loss float64, counted int64) {
	t.Helper()
	for at := 0; at+length < len(tokens); at += length {
		d := m.NewDecoder()
		for i := range length {
			logits, err := d.Feed(tokens[at+i])
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for _, x := range logits {
				sum += math.Exp(float64(x))
			}
			loss += math.Log(sum) - float64(logits[tokens[at+i+1]])
			counted++
		}
		d.Close()
	}
	return loss / float64(counted), counted
}

// TestEvaluate compares with a naive loop over the windows, for several lengths
// of window and sizes of batch.
func TestEvaluate(t *testing.T) {
	tokens := someTokens(16*5+9, 40)
	for _, layout := range net.Parts.Names() {
		dir, _ := newModel(t, layout, 40)
		m, err := Open(new(memory.Arena), dir)
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Token.Data {
			m.Token.Data[i] *= 20 // losses that differ from token to token
		}
		o := EvalOptions{Data: write(t, "ids.bin", u16(tokens))}
		o.Options.Format = "u16"
		for _, c := range []struct{ length, batch int }{{0, 0}, {16, 1}, {16, 3}, {7, 100}, {1, 8}} {
			o.Context, o.Batch = c.length, c.batch
			got, err := Evaluate(context.Background(), m, o)
			if err != nil {
				t.Fatal(err)
			}
			length := c.length
			if length == 0 {
				length = 16
			}
			want, counted := naiveLoss(t, m.GPT, tokens, length)
			if math.Abs(got.Loss-want) > 1e-5*want || got.Tokens != counted || !math.IsNaN(got.BitsPerByte) {
				t.Errorf("%s, windows of %d, batches of %d: %+v, want %v over %d", layout, c.length, c.batch, got, want, counted)
			}
		}
		o.Context, o.Windows = 16, 2
		got, err := Evaluate(context.Background(), m, o)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := naiveLoss(t, m.GPT, tokens[:17], 16)
		third, _ := naiveLoss(t, m.GPT, tokens[32:49], 16)
		if want := (first + third) / 2; got.Tokens != 32 || math.Abs(got.Loss-want) > 1e-5*want {
			t.Errorf("%s, two windows: %+v, want %v", layout, got, want)
		}

		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		_, err = Evaluate(cancelled, m, o)
		wantError(t, "cancelled", err, "canceled")
		o.Context = 17
		_, err = Evaluate(context.Background(), m, o)
		wantError(t, "beyond the context", err, "the model's context is 16")
		o.Context, o.Data = 0, write(t, "ids.bin", u16([]int32{1, 2, 40, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8}))
		_, err = Evaluate(context.Background(), m, o)
		wantError(t, "beyond the vocabulary", err, "token 40 at position 2")
		o.Options.Format, o.Data = "", write(t, "text.txt", corpus(1, 500))
		_, err = Evaluate(context.Background(), m, o)
		wantError(t, "text without a tokenizer", err, "no tokenizer.json")
	}
}

// TestBitsPerByte evaluates text with the run's own tokenizer. With one token a
// byte, and one more at the end of the text, bits are nats/ln 2 but for that.
func TestBitsPerByte(t *testing.T) {
	text := corpus(2, 3000)
	dir := train(t, settings(t, write(t, "text.txt", corpus(1, 4000))))
	m, err := Open(new(memory.Arena), dir)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Evaluate(context.Background(), m, EvalOptions{Data: write(t, "other.txt", text)})
	if err != nil {
		t.Fatal(err)
	}
	tokens := len(text)
	if m.Tokenizer.End() >= 0 {
		tokens++
	}
	if want := e.Loss / math.Ln2 * float64(tokens) / float64(len(text)); math.Abs(e.BitsPerByte-want) > 1e-9 {
		t.Errorf("%v bits per byte, want %v", e.BitsPerByte, want)
	}
}

// TestTokenize writes token files and reads them back.
func TestTokenize(t *testing.T) {
	text := corpus(1, 6000)
	dir := filepath.Join(t.TempDir(), "new")
	var notes []string
	out, err := Tokenize(TokenizeOptions{Data: write(t, "text.txt", text), Tokenizer: "bpe:300", Dir: dir}, func(s string) { notes = append(notes, s) })
	if err != nil {
		t.Fatal(err)
	}
	if out.DType != "u16" || out.Vocab != 300 || out.Train.TextBytes+out.Valid.TextBytes != int64(len(text)) || len(notes) == 0 {
		t.Errorf("%+v", out)
	}
	tokenizer, err := token.Open(out.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, s := range []Stream{out.Train, out.Valid} {
		raw, err := store.OpenRaw(s.Path, store.U16, out.Vocab)
		if err != nil {
			t.Fatal(err)
		}
		ids := make([]int32, raw.Len())
		if err := raw.Read(ids, 0); err != nil || raw.Len() != s.Tokens {
			t.Fatal(err, raw.Len(), s.Tokens)
		}
		raw.Close()
		ids = slices.DeleteFunc(ids, func(id int32) bool { return id == tokenizer.End() })
		all = tokenizer.Decode(all, ids)
	}
	if string(all) != text {
		t.Errorf("decoded to %d bytes, of %d", len(all), len(text))
	}
	b, err := json.Marshal(out)
	if err != nil || !strings.Contains(string(b), `"dtype":"u16"`) {
		t.Errorf("%s %v", b, err)
	}
	_, err = Tokenize(TokenizeOptions{Data: "nowhere", Tokenizer: "bytes", Dir: dir}, func(string) {})
	wantError(t, "no data", err, "nowhere")
	_, err = Tokenize(TokenizeOptions{Data: out.Tokenizer, Tokenizer: "bpe:9", Dir: dir}, func(string) {})
	wantError(t, "vocabulary", err, "bpe:9")
}

// TestOpenDamaged opens model directories of which a file is damaged.
func TestOpenDamaged(t *testing.T) {
	good := train(t, settings(t, write(t, "text.txt", corpus(1, 4000)), "steps=1"))
	noise := strings.Repeat("\x00\xffnoise{[", 1<<17)
	for _, file := range []string{"config.json", "model.safetensors", "tokenizer.json"} {
		whole := content(t, good, file)
		flipped := []byte(whole)
		flipped[20] ^= 1
		for name, text := range map[string]string{
			"empty": "", "noise": noise, "truncated": whole[:len(whole)/2], "a brace": "{", "null": "null", "nested": strings.Repeat(`{"a":[`, 1<<16), "a bit flipped": string(flipped),
		} {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
			_, err := Open(new(memory.Arena), dir)
			if err == nil && name == "a bit flipped" {
				continue // in a place without meaning
			}
			wantError(t, file+", "+name, err, dir)
		}
	}
	dir := t.TempDir()
	_, err := Open(new(memory.Arena), dir)
	wantError(t, "an empty directory", err, "config.json")
}
