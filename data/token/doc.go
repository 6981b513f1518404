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
// Byte-level BPE (Sennrich et al., ACL 2016; Radford et al., 2019) begins with
// the bytes of a text and joins the most frequent pairs of neighbours:
//
//	text        if err != nil {⏎⇥return err
//	cut into    if| err| !=| nil| {⏎⇥|return| err      (pre-tokens, by a pattern)
//	bytes of    r e t u r n → re t ur n → ret urn → return
//	ids         309 284 396 317 340 328 284
//
// so any bytes can be encoded, and decoding gives them back exactly.
//
// # What is read
//
// Of a tokenizer.json: the models BPE (byte-level, or of characters with byte
// fallback), WordPiece, WordLevel and Unigram; all normalizers; all
// pre-tokenizers but UnicodeScripts and FixedLength; all post-processors; all
// decoders but CTC. Anything else is an error that names it. Settings for
// truncation and padding are kept in the file and not used.
//
// Results are those of Hugging Face tokenizers (0.23, which the tests compare
// with), with these exceptions: bytes that are not UTF-8 are kept where the
// vocabulary can spell them; decoding writes the bytes of a broken character
// and not a replacement for it; and Unicode's properties are those of the Go
// release.
package token
