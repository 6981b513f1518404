// Package text trains classifiers of texts: topic, language, spam or not, the
// package a description belongs to.
//
//	train.tsv ──read──▶ lines ──dictionary──▶ corpus ──workers──▶ Model ──Save──▶ model directory
//	                                                                ▲
//	                                          text ──Predict/Evaluate
//
// Start with Resolve and Train, which is what `hasten train text` does, and
// with Open and Model.Predict afterwards. The model is fastText's (fasttext.go):
// a linear layer over the average of the embeddings of a text's words and word
// n-grams. It learns tens of millions of words a second on one core.
//
// Files are read once. What their texts become, the numbers of embeddings, is
// kept in memory for all epochs: 4 bytes for every word and n-gram.
package text
