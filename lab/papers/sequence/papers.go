// Package sequence holds the papers of the family of that name that work here, one
// file each: card and experiment.
package sequence

// Papers has a method for every paper: see lab/experiment.Collect.
type Papers struct{}
