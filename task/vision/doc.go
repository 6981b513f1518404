// Package vision trains image classifiers: it is the job of recipes with
// task = "vision".
//
//	IDX files or folders of pictures ──Load──▶ Dataset ──Selector──▶ batches ──▶ Model ──▶ logits
//
// Resolve makes a recipe definite, NewJob reads the data and builds the model,
// Train carries out the run and writes a model directory. Open reads one back.
package vision
