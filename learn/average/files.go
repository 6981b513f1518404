package average

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"hasten/engine/atomicfile"
	"hasten/model/format"
	"hasten/model/format/safetensors"
)

// Files writes to dst the mean of safetensors files: the model.safetensors of
// model directories, or the weights.safetensors of checkpoints. All must hold
// the same tensors, of floating-point numbers; the mean has the first file's
// number formats. Tensors are read piece by piece, so that no model need fit in
// memory. Metadata is not kept.
func Files(dst string, paths ...string) (err error) {
	if len(paths) == 0 {
		return errors.New("there are no files to average")
	}
	readers := make([]*safetensors.Reader, 0, len(paths))
	defer func() {
		for _, r := range readers {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, path := range paths {
		r, err := safetensors.Open(path)
		if err != nil {
			return err
		}
		readers = append(readers, r)
		if err := sameTensors(readers[0], r, paths[0], path); err != nil {
			return err
		}
	}
	var entries []safetensors.Entry
	for _, name := range readers[0].Names() {
		t, _ := readers[0].Tensor(name)
		entries = append(entries, safetensors.Entry{Name: name, DType: t.DType, Shape: t.Shape, Values: meanOf(readers, name)})
	}
	return atomicfile.WriteFile(dst, func(w io.Writer) error { return safetensors.Write(w, nil, entries) })
}

// sameTensors makes sure that b has the tensors of a.
func sameTensors(a, b *safetensors.Reader, pathA, pathB string) error {
	if x, y := a.Names(), b.Names(); !slices.Equal(x, y) {
		return fmt.Errorf("%s has other tensors (%d) than %s (%d): only models of one kind have a mean", pathB, len(y), pathA, len(x))
	}
	for _, name := range a.Names() {
		x, _ := a.Tensor(name)
		y, _ := b.Tensor(name)
		if !slices.Equal(x.Shape, y.Shape) {
			return fmt.Errorf("%s: tensor %.100q has the shape %v, in %s it has %v", pathB, name, y.Shape, pathA, x.Shape)
		}
	}
	return nil
}

// meanOf is the mean of a tensor over the files, summed in float64.
func meanOf(readers []*safetensors.Reader, name string) format.Values {
	var sum []float64
	return func(dst []float32, first int) error {
		sum = append(sum[:0], make([]float64, len(dst))...)
		for _, r := range readers {
			if err := r.ReadFloats(name, first, dst); err != nil {
				return err
			}
			for i, x := range dst {
				sum[i] += float64(x)
			}
		}
		for i, s := range sum {
			dst[i] = float32(s / float64(len(readers)))
		}
		return nil
	}
}
