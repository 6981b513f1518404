package main

import (
	"encoding/json"
	"os"

	"github.com/spf13/cobra"
)

// addJSON gives a command the --json flag.
func addJSON(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON on standard output; everything else goes to standard error")
}

// printJSON prints one value on one line.
func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
