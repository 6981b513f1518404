package main

import (
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"hasten/engine/memory"
	"hasten/task/lm"
)

func evalCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "eval DIR",
		Short: "Measure a model's loss on text or token ids",
		Long: `Measure a model's mean loss, in nats per token, over consecutive windows of its
context that do not overlap, and bits per byte where the text is known.`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	var o lm.EvalOptions
	f.StringVar(&o.Data, "data", "gosrc", "gosrc (its validation files), a file, a directory, or -")
	f.StringVar(&o.Options.Format, "format", "", "text, jsonl, csv, tsv, parquet; u8, u16, i32: raw token ids (default: by the file's name)")
	f.StringVar(&o.Options.Field, "field", "text", "field of a JSON line, or column, that holds the text")
	f.IntVar(&o.Windows, "windows", 0, "evaluate so many windows, evenly spread; 0: all")
	f.IntVar(&o.Context, "ctx", 0, "tokens in a window; 0: the model's context")
	f.IntVar(&o.Batch, "batch", 8, "windows computed at a time")
	asJSON := addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		m, err := lm.Open(new(memory.Arena), args[0])
		if err != nil {
			return err
		}
		e, err := lm.Evaluate(c.Context(), m, o)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(evalJSON(e))
		}
		fmt.Printf("loss %.5f nats per token, %s, over %d tokens\n", e.Loss, bits(e.BitsPerByte), e.Tokens)
		return nil
	}
	return c
}

// evalJSON is the JSON form of an evaluation: bits_per_byte is null where the
// text is not known.
func evalJSON(e lm.Evaluated) any {
	out := struct {
		Loss        float64  `json:"loss"`
		BitsPerByte *float64 `json:"bits_per_byte"`
		Tokens      int64    `json:"tokens"`
	}{Loss: e.Loss, Tokens: e.Tokens}
	if !math.IsNaN(e.BitsPerByte) {
		out.BitsPerByte = &e.BitsPerByte
	}
	return out
}
