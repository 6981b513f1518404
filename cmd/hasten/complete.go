package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hasten/task"
	"hasten/task/recipe"
)

// completeSet offers what --set takes: seams and their parts, options and
// their defaults.
func completeSet(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	var all []string
	for _, p := range task.Parts() {
		all = append(all, p.Seam+"="+p.Name+"\t"+p.Help)
		for _, o := range p.Options {
			all = append(all, p.Seam+"."+o.Name+"="+o.Default+"\t"+o.Help)
		}
	}
	for _, k := range task.Kinds {
		for _, o := range k.Options() {
			all = append(all, o.Name+"="+o.Default+"\t"+o.Help)
		}
	}
	slices.Sort(all) // jobs share settings
	all = slices.Compact(all)
	var fit []string
	for _, c := range all {
		if strings.HasPrefix(c, begun) {
			fit = append(fit, c)
		}
	}
	return fit, cobra.ShellCompDirectiveNoFileComp
}

// completeRecipe offers the built-in recipes, and files.
func completeRecipe(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return recipe.Builtin(), cobra.ShellCompDirectiveDefault
}
