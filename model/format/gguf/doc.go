// Package gguf writes and reads models as GGUF, version 3: one file with the
// description, the tokenizer and the weights, which llama.cpp runs.
//
//	header    "GGUF", version, number of tensors, number of keys
//	keys      name, type, value: the architecture, its sizes, the vocabulary
//	tensors   name, shape (the fastest dimension first), type, offset
//	data      each tensor aligned to 32 bytes; offsets count from here
//
// Write streams a model out; Load opens one, of whatever program, whose
// weights are not quantised. Read opens any file and gives its keys and tensors.
// A file from elsewhere is not trusted: counts and lengths are compared with
// the size of the file before anything is allocated.
//
// One thing differs from the model in memory. Rotary positions turn pairs of
// numbers of a head; here the pairs are (j, j+E/2), as in Hugging Face models,
// and in llama.cpp's "llama" they are (2j, 2j+1). So the rows of the query and
// key projections change places on the way in and out.
package gguf
