// Package token turns text into the integers a language model learns from,
// and back.
//
// Start with Tokenizer. There are three ways to one:
//
//	token.Bytes{}                          256 bytes, nothing to learn
//	token.TrainBPE(ctx, docs, 4096, …)     byte-level BPE, learned from your text in seconds
//	token.Open("tokenizer.json")           any model's, in the Hugging Face format
//
// and token.Parse for a setting that says which. Every tokenizer writes a
// tokenizer.json that other tools load.
//
// Byte-level BPE (Sennrich et al., ACL 2016; Radford et al., 2019) cuts text
// into pre-tokens by a pattern, begins with the bytes of each, and joins the
// pairs of neighbours that were most frequent in the text it was learned from:
//
//	text        if err != nil {⏎⇥return err
//	pre-tokens  if· err· !=· nil· {⏎⇥·return· err
//	bytes       r e t u r n → re t u r n → re t ur n → ret ur n → …
//	ids         one for each part that is left
//
// so any bytes can be encoded, and decoding gives them back exactly.
//
// A pattern of one's own goes into the tokenizer.json that TrainBPE's result
// writes, and Hugging Face tokenizers cut as it says. A GGUF file has no room
// for it: llama.cpp knows a list of patterns by name. To export there, train
// with Llama3Pattern ("llama-bpe") or GPT2Pattern ("gpt-2"); on Go source that
// costs about a tenth more tokens than CodePattern.
//
// # What is read
//
// Of a tokenizer.json: the models BPE (byte-level, or of characters with byte
// fallback), WordPiece, WordLevel and Unigram; all normalizers; all
// pre-tokenizers but UnicodeScripts and FixedLength; all post-processors; all
// decoders but CTC. Anything else is an error that names it. Settings for
// truncation and padding are kept in the file and not used.
//
// Results are those of Hugging Face tokenizers 0.23, which the tests compare
// with, except that
//   - bytes that are not UTF-8 are kept where the vocabulary can spell them, and
//     decoding writes the bytes of a broken character, not a replacement for it;
//   - an added token decodes to its content as written, not as normalised;
//   - an added token whose id contradicts the vocabulary is an error;
//   - characters newer than the Unicode version of the Go release count as unassigned.
//
// A file may come from anyone: sizes, nesting, the growth of text by
// replacements and the time of regular expressions are bounded.
package token
