// Package store keeps token streams: a text turned into numbers once, and read
// at any place many times, from memory or from a file larger than memory.
//
//	documents ──Tokenize──▶ Writer ──Finish──▶ *Tokens ──Read──▶ []int32
//
// Start with Load, which does all of this and keeps the result of a large job
// in a cache. A token file holds nothing but the tokens, as u8, u16 or i32 in
// little endian, so other tools can make and read it (numpy.fromfile). Beside
// FILE lie FILE.json, which tells the format and the counts, and FILE.docs,
// the position (i64) of each document's first token.
package store
