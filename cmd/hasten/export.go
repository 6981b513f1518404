package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"hasten/engine/memory"
	"hasten/task/lm"
)

func exportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "export DIR --gguf FILE",
		Short: "Write a model in another program's format",
		Long: `Write a model in another program's format. Model directories themselves are in
Hugging Face layout already; --gguf writes the one file that llama.cpp runs.`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	path := f.String("gguf", "", "GGUF file to write")
	dtype := f.String("dtype", "f16", "number format of the matrices: f32, f16 or bf16")
	asJSON := addJSON(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		if *path == "" {
			return usageError{errors.New("export to what? name a file with --gguf FILE")}
		}
		m, err := lm.Open(new(memory.Arena), args[0])
		if err != nil {
			return err
		}
		note, err := lm.ExportGGUF(*path, filepath.Base(filepath.Clean(args[0])), m, *dtype)
		if err != nil {
			return err
		}
		if note != "" {
			fmt.Fprintln(os.Stderr, "note: "+note)
		}
		if *asJSON {
			return printJSON(struct {
				Path string `json:"path"`
				Note string `json:"note,omitempty"`
			}{*path, note})
		}
		fmt.Println(*path)
		return nil
	}
	return c
}
