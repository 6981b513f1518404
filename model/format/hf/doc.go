// Package hf reads and writes model directories in the Hugging Face layout of
// GPT-2 and of Llama: config.json, and the weights as safetensors, whole or
// sharded. What Save writes, PyTorch and the transformers library load; what
// they have saved, Load reads.
//
//	m, err := hf.Load("model/")          // reads config.json and the headers, no weights
//	for _, p := range m.Config.Params() {
//		x := make([]float32, p.Len())
//		err = m.ReadInto(p.Name, x)
//	}
//
// Inside the house a parameter has one name and one shape in both
// architectures, every Linear weight is [out, in], and projections with the
// same input are one matrix (q, k and v; gate and up). Config.Params is the
// whole mapping, as data: each parameter, and which rows of it lie in which
// tensor of the file, transposed or not.
package hf
