// Package tabular learns from tables: it fits boosted decision trees to the
// columns of a CSV or Parquet file and predicts a class, a number, or several
// numbers for every row.
//
//	file ──Read──▶ *Table ──Frame──▶ *Data ──Fit──▶ *Model ──Predict──▶ classes or numbers
//
// Start with Train, which does all of that for a recipe and leaves a model
// directory, and with Open, which reads one. Missing cells and columns of
// categories need no preparation.
//
// Columns are binned once, to at most 255 bins by quantiles and one for what is
// missing; trees are grown from histograms of the bins (grow.go). What a round
// of boosting adds is the seam "booster": one tree for all outputs (cgb.go) or
// a tree for each (gbdt.go).
package tabular
