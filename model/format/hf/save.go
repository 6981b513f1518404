package hf

import (
	"fmt"
	"io"
	"path/filepath"

	"hasten/engine/atomicfile"
	"hasten/model/format"
	"hasten/model/format/safetensors"
)

// Files is where Write puts files: a checkpoint (atomicfile.Dir), for one.
type Files interface {
	WriteFile(name string, write func(w io.Writer) error) error
}

// folder writes each file by itself.
type folder string

func (f folder) WriteFile(name string, write func(w io.Writer) error) error {
	return atomicfile.WriteFile(filepath.Join(string(f), name), write)
}

// Save writes a model into a directory, which must exist: model.safetensors,
// config.json and generation_config.json, each replaced as a whole. weights
// gives the parameters by our names, in the shapes of c.Params(). It is an
// error if a value does not fit dtype.
func Save(dir string, c Config, dtype format.Float, weights func(name string) []float32) error {
	return Write(folder(dir), c, dtype, weights)
}

// Write is Save to other places than a directory.
func Write(to Files, c Config, dtype format.Float, weights func(name string) []float32) error {
	config, err := c.Marshal(dtype)
	if err != nil {
		return fmt.Errorf("%s: %w", ConfigName, err)
	}
	generation, err := c.marshalGeneration()
	if err != nil {
		return err
	}
	entries, err := c.entries(dtype, weights)
	if err != nil {
		return err
	}
	if err := to.WriteFile(safetensors.FileName, func(w io.Writer) error {
		return safetensors.Write(w, nil, entries)
	}); err != nil {
		return err
	}
	if err := to.WriteFile("generation_config.json", text(generation)); err != nil {
		return err
	}
	return to.WriteFile(ConfigName, text(config))
}

func text(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// entries lists the tensors of the file.
func (c Config) entries(dtype format.Float, weights func(name string) []float32) ([]safetensors.Entry, error) {
	var all []safetensors.Entry
	for _, p := range c.Params() {
		x := weights(p.Name)
		if len(x) != p.Len() {
			return nil, fmt.Errorf("parameter %q has %d elements; by the config it has %d", p.Name, len(x), p.Len())
		}
		for _, part := range p.Parts {
			n := part.Rows * p.cols()
			values := format.Of(x[:n])
			if part.Transposed {
				values = transposed(x[:n], part.Rows)
			}
			all = append(all, safetensors.Entry{
				Name: part.HF, DType: safetensors.Of(dtype), Shape: p.shapeOf(part), Values: values,
			})
			x = x[n:]
		}
	}
	return all, nil
}

// transposed gives the values of x, [out, in], in the order of [in, out].
func transposed(x []float32, out int) format.Values {
	in := len(x) / out
	return func(dst []float32, first int) error {
		i, o := first/out, first%out
		for k := range dst {
			dst[k] = x[o*in+i]
			if o++; o == out {
				i, o = i+1, 0
			}
		}
		return nil
	}
}
