package main

import (
	"fmt"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"hasten/data/token"
	"hasten/engine/memory"
	"hasten/task/lm"
)

func sampleCommand() *cobra.Command {
	c := &cobra.Command{Use: "sample DIR", Short: "Continue a prompt with a trained model", Args: cobra.ExactArgs(1)}
	f := c.Flags()
	prompt := f.String("prompt", "", "text to go on from (default: the start of a document)")
	s := lm.Sampling{}
	f.IntVar(&s.Tokens, "tokens", 200, "tokens to draw at most")
	f.Float64Var(&s.Temperature, "temperature", 0.8, "0: always the most likely token")
	f.IntVar(&s.TopK, "top-k", 0, "draw among the K most likely tokens; 0: among all")
	f.Float64Var(&s.TopP, "top-p", 0.95, "draw among the likeliest tokens that together have this probability; 1: among all")
	f.Float64Var(&s.MinP, "min-p", 0, "leave out tokens less likely than this share of the most likely")
	f.Uint64Var(&s.Seed, "seed", 1, "seed of the draws")
	asJSON := addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := s.Validate(); err != nil {
			return usageError{err}
		}
		m, err := lm.Open(new(memory.Arena), args[0])
		if err != nil {
			return err
		}
		if m.Tokenizer == nil {
			return fmt.Errorf("%s has no tokenizer.json: text cannot be made of its tokens", args[0])
		}
		s.Stop = m.Tokenizer.End()
		ids := m.Tokenizer.Encode(nil, []byte(*prompt))
		if len(ids) == 0 {
			if s.Stop < 0 {
				return usageError{fmt.Errorf("this tokenizer names no token that starts a document: give a --prompt")}
			}
			ids = []int32{s.Stop}
		}
		if *asJSON {
			var drawn []int32
			err := lm.Generate(c.Context(), m.GPT, ids, s, func(id int32) error { drawn = append(drawn, id); return nil })
			if err != nil {
				return err
			}
			return printJSON(struct {
				Prompt string  `json:"prompt"`
				Text   string  `json:"text"`
				Tokens []int32 `json:"tokens"`
			}{*prompt, string(m.Tokenizer.Decode(nil, drawn)), drawn})
		}
		fmt.Print(*prompt)
		err = lm.Generate(c.Context(), m.GPT, ids, s, printer(m.Tokenizer))
		fmt.Println()
		return err
	}
	return c
}

// printer prints tokens as they come, holding back the bytes of a character
// until it is whole.
func printer(t token.Tokenizer) func(int32) error {
	var pending []byte
	return func(id int32) error {
		pending = t.Decode(pending, []int32{id})
		n := len(pending)
		for k := 1; k < utf8.UTFMax && k <= len(pending); k++ {
			if tail := pending[len(pending)-k:]; utf8.RuneStart(tail[0]) {
				if !utf8.FullRune(tail) {
					n -= k
				}
				break
			}
		}
		_, err := os.Stdout.Write(pending[:n])
		pending = pending[:copy(pending, pending[n:])]
		return err
	}
}
