package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"hasten/task/text"
)

// textCommand is what can be done with a classifier of texts; hasten train
// text makes one.
func textCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "text",
		Short: "Classify texts with a trained model, measure it, or make it small",
		Long:  "Classify texts with a trained model, measure it, or make it small.\n\nTrain one with\n  hasten train text --data train.tsv",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(textPredict(), textEval(), textShrink())
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// predicted is a label in --json.
type predicted struct {
	Label       string  `json:"label"`
	Probability float64 `json:"probability"`
}

func textPredict() *cobra.Command {
	c := &cobra.Command{
		Use:   "predict DIR [TEXT]",
		Short: "Print the likeliest labels of a text, or of every line of standard input",
		Long: `Print the likeliest labels of a text, each with its probability behind a tab;
without TEXT, those of every line of standard input, a line each.`,
		Example: "  hasten text predict runs/text-20260102-150405 'a fast shell' --top 3\n  hasten text predict DIR --json < new.txt",
		Args:    cobra.RangeArgs(1, 2),
	}
	top := c.Flags().Int("top", 1, "labels to print")
	asJSON := addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if *top < 1 {
			return usageError{fmt.Errorf("--top %d: want at least 1", *top)}
		}
		m, err := text.Open(args[0])
		if err != nil {
			return err
		}
		r, w := m.Reader(), bufio.NewWriter(os.Stdout)
		show := func(line []byte) error { return printLabels(w, m, r.Predict(line, *top), *asJSON) }
		if len(args) == 2 {
			err = show([]byte(args[1]))
		} else {
			err = lines(c.InOrStdin(), func(line []byte) error {
				if err := c.Context().Err(); err != nil {
					return err
				}
				return show(line)
			})
		}
		if flushed := w.Flush(); err == nil {
			err = flushed
		}
		return err
	}
	return c
}

// printLabels prints labels on one line: label, tab, probability, tab, …
func printLabels(w *bufio.Writer, m *text.Model, found []text.Prediction, asJSON bool) error {
	if asJSON {
		all := []predicted{}
		for _, p := range found {
			all = append(all, predicted{m.Labels()[p.Label], p.Probability})
		}
		w.Flush() // printJSON writes to standard output itself
		return printJSON(all)
	}
	for i, p := range found {
		if i > 0 {
			w.WriteByte('\t')
		}
		fmt.Fprintf(w, "%s\t%.4g", m.Labels()[p.Label], p.Probability)
	}
	return w.WriteByte('\n')
}

// lines visits the lines of r, of any length.
func lines(r io.Reader, visit func(line []byte) error) error {
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadBytes('\n')
		if len(line) > 0 {
			if err := visit(bytes.TrimRight(line, "\r\n")); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("standard input: %w", err)
		}
	}
}

func textEval() *cobra.Command {
	c := &cobra.Command{
		Use:   "eval DIR --data FILE",
		Short: "Measure a model on labelled texts",
		Args:  cobra.ExactArgs(1),
	}
	var o text.DataOptions
	f := c.Flags()
	data := f.String("data", "", "labelled texts, in one of the formats of training")
	f.StringVar(&o.Format, "format", "", "fasttext, tsv, csv or jsonl (default: by the file's name)")
	f.StringVar(&o.Label, "label", "", "column or field that holds the label (default label)")
	f.StringVar(&o.Text, "text", "", "column or field that holds the text (default text)")
	f.StringVar(&o.Prefix, "prefix", "", "what labels begin with in the format fasttext (default __label__)")
	c.MarkFlagRequired("data")
	asJSON := addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		m, err := text.Open(args[0])
		if err != nil {
			return err
		}
		s, err := m.Evaluate(c.Context(), *data, o)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(s)
		}
		fmt.Printf("%d texts: %.2f %% right, %.2f %% among the five likeliest labels\n", s.Texts, 100*s.Accuracy, 100*s.Top5)
		if s.Unknown > 0 {
			fmt.Printf("%d of them have labels that the model has never seen\n", s.Unknown)
		}
		return nil
	}
	return c
}

func textShrink() *cobra.Command {
	c := &cobra.Command{
		Use:   "shrink DIR OUT",
		Short: "Write a model with 8-bit weights, and only its most telling n-grams, into another directory",
		Args:  cobra.ExactArgs(2),
	}
	e := text.Export{Int8: true}
	c.Flags().IntVar(&e.Keep, "keep", 0, "n-grams to keep, those with the longest embeddings; 0: all")
	c.RunE = func(_ *cobra.Command, args []string) error {
		m, err := text.Open(args[0])
		if err != nil {
			return err
		}
		if text.Is(args[1]) {
			return usageError{fmt.Errorf("%s holds a model already; name another directory", args[1])}
		}
		if err := os.MkdirAll(args[1], 0o777); err != nil {
			return err
		}
		return m.Export(args[1], e)
	}
	return c
}
