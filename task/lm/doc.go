// Package lm trains language models: from text to a model directory that PyTorch
// loads.
//
//	recipe.Recipe ──Resolve──▶ Settings ──Train──▶ a model directory ──Open──▶ *Model ──Generate──▶ tokens
//
// Settings are a recipe made definite. Train makes a Job of them (the data
// tokenised, the model, and a loop.Loop around a Task, which is next-token
// prediction) and runs it. A run of a number of steps gives the same weights,
// bit for bit, for any number of threads, each time its recipe is replayed, and
// however often it is killed and resumed.
//
// A model directory holds config.json, model.safetensors and tokenizer.json in
// the layout of Hugging Face, and recipe.toml, log.jsonl, loss.svg, TensorBoard
// events and checkpoints.
package lm
