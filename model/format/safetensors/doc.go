// Package safetensors reads and writes tensors by name, in the format that
// PyTorch and Hugging Face share:
//
//	8 bytes   length of the header, little-endian
//	header    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …},
//	          padded with spaces to a multiple of 8 bytes
//	data      the tensors, row-major and little-endian; offsets count from here
//
// Open reads the header only; ReadFloats fetches and converts what is asked
// for. A model in several files is opened by its index. Write streams tensors
// out. Neither holds more than one small buffer beside the caller's.
//
// A file from elsewhere is not trusted: lengths are compared with the size of
// the file before anything is allocated, shapes with offsets, and the tensors
// must fill the data exactly, without overlap or hole, as the format demands.
package safetensors
