package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"hasten/engine/part"
	"hasten/task"
)

func partsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "parts [SEAM]",
		Short: "List the parts that can be switched on, and their options",
		Long:  "List the parts that can be switched on with --set SEAM=PART, and their options, set with --set SEAM.OPTION=VALUE.",
		Args:  cobra.MaximumNArgs(1),
	}
	asJSON := addJSON(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		all := task.Parts()
		for _, k := range task.Kinds {
			all = append(all, part.Info{Seam: "run", Name: k.Name, Help: k.Help + ": settings of the run itself", Options: k.Options()})
		}
		if len(args) == 1 {
			seams := []string{}
			var some []part.Info
			for _, p := range all {
				if !slices.Contains(seams, p.Seam) {
					seams = append(seams, p.Seam)
				}
				if p.Seam == args[0] {
					some = append(some, p)
				}
			}
			if some == nil {
				return usageError{fmt.Errorf("no seam %q; there is %s", args[0], strings.Join(seams, ", "))}
			}
			all = some
		}
		if *asJSON {
			return printJSON(all)
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		for _, p := range all {
			title, prefix := p.Seam+"="+p.Name, p.Seam+"."
			switch {
			case p.Seam == "run": // no part, but settings without a seam
				title, prefix = "task="+p.Name, ""
			case p.Default:
				title += " (default)"
			}
			fmt.Fprintf(w, "%s\t\t%s\n", title, p.Help)
			for _, o := range p.Options {
				fmt.Fprintf(w, "  %s%s\t%s\t%s %s\n", prefix, o.Name, o.Default, o.Help, o.Range)
			}
		}
		return w.Flush()
	}
	return c
}
