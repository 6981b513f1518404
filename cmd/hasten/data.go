package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"hasten/data/source"
	"hasten/task/lm"
)

// dataset is a data set as hasten data --json describes it.
type dataset struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	What string `json:"what"`
	Size string `json:"size"`
	Path string `json:"path,omitempty"` // where it was found
	Get  string `json:"get"`
}

func dataCommand() *cobra.Command {
	c := &cobra.Command{Use: "data [NAME]", Short: "List the data sets known by name, where they are and how to get them", Args: cobra.MaximumNArgs(1)}
	asJSON := addJSON(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		var all []dataset
		for _, d := range source.Catalogue() {
			if len(args) == 1 && d.Name != args[0] {
				continue
			}
			path, err := d.Find()
			if err != nil {
				path = ""
			}
			all = append(all, dataset{d.Name, d.Kind, d.What, d.Size, path, d.Get})
		}
		if all == nil {
			return usageError{fmt.Errorf("no data set %q; hasten data lists them. Your own files are named by their path", args[0])}
		}
		if *asJSON {
			return printJSON(all)
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		for _, d := range all {
			where := d.Path
			if where == "" {
				where = "not found; to get it: " + d.Get
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n\t%s\t\n", d.Name, d.Size, d.What, where)
		}
		return w.Flush()
	}
	c.AddCommand(tokenizeCommand())
	return c
}

func tokenizeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "tokenize",
		Short: "Write data as raw token ids, for other programs",
		Long: `Write the training and the validation part of data as raw little-endian token
ids, OUT/train.bin and OUT/valid.bin (what numpy.fromfile reads), with the
tokenizer beside them. What they hold is printed as JSON.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	var o lm.TokenizeOptions
	f.StringVar(&o.Data, "data", "gosrc", "gosrc, a file, a directory, or -")
	f.StringVar(&o.Tokenizer, "tokenizer", "bpe:4096", "bytes, bpe:N, or a tokenizer.json")
	f.StringVar(&o.Options.Format, "format", "", "text, jsonl, csv, tsv or parquet (default: by the file's name)")
	f.StringVar(&o.Options.Field, "field", "text", "field of a JSON line, or column, that holds the text")
	f.StringVar(&o.Dir, "out", "", "directory to write to")
	c.RunE = func(*cobra.Command, []string) error {
		if o.Dir == "" {
			return usageError{errors.New("write where? name a directory with --out DIR")}
		}
		r, err := lm.Tokenize(o, func(s string) { fmt.Fprintln(os.Stderr, s) })
		if err != nil {
			return err
		}
		return printJSON(r)
	}
	return c
}
