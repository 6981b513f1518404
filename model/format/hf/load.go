package hf

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"hasten/model/format/safetensors"
)

// ConfigName is the file that describes the model.
const ConfigName = "config.json"

// Model is an open model directory.
type Model struct {
	Config Config
	dir    string
	r      *safetensors.Reader
	params map[string]Param // by our names, their parts by the names in this file
}

// Load opens a model directory: it reads config.json and the headers of the
// weights, and makes sure that every parameter is there in its shape, and
// nothing else that the model would compute with. Weights are read by ReadInto.
// Of a model with Parts, what lies under blocks. is Own, in whatever shape: the
// parts know what they need.
func Load(dir string) (*Model, error) {
	c, err := ReadConfig(filepath.Join(dir, ConfigName))
	if err != nil {
		return nil, err
	}
	r, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: c, dir: dir, r: r, params: make(map[string]Param)}
	if err := m.match(); err != nil {
		r.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return m, nil
}

// Close closes the files.
func (m *Model) Close() error { return m.r.Close() }

// match finds the tensor of every part of every parameter.
func (m *Model) match() error {
	used := make(map[string]bool)
	for _, p := range m.Config.Params() {
		for i, part := range p.Parts {
			t, ok := m.find(part.HF)
			if !ok {
				return m.missing(part.HF)
			}
			if want := p.shapeOf(part); !slices.Equal(t.Shape, want) {
				return fmt.Errorf("tensor %q has the shape %v; by %s it should be %v", t.Name, t.Shape, ConfigName, want)
			}
			if err := floats(t); err != nil {
				return err
			}
			p.Parts[i].HF = t.Name
			used[t.Name] = true
		}
		m.params[p.Name] = p
	}
	for _, name := range m.r.Names() {
		if !used[name] && m.Config.Parts != nil && strings.HasPrefix(name, "blocks.") {
			if err := m.own(name); err != nil {
				return err
			}
			used[name] = true
		}
		if !used[name] && !m.harmless(name) {
			return fmt.Errorf("tensor %.100q has no place in a %s model of this %s; the model is of another kind", name, m.Config.Arch, ConfigName)
		}
	}
	return nil
}

func floats(t safetensors.Tensor) error {
	if _, ok := t.DType.Float(); !ok {
		return fmt.Errorf("tensor %q holds %v; want F32, F16, BF16 or F64", t.Name, t.DType)
	}
	return nil
}

// own adds a tensor that a part of the model has.
func (m *Model) own(name string) error {
	t, ok := m.r.Tensor(name)
	if !ok || len(t.Shape) == 0 {
		return fmt.Errorf("tensor %.100q is a single number", name)
	}
	p := OwnParam(name, t.Shape)
	m.Config.Own = append(m.Config.Own, p)
	m.params[name] = p
	return floats(t)
}

// find finds a tensor with or without the prefix of the whole network, which
// is absent when the network was saved without its head.
func (m *Model) find(name string) (safetensors.Tensor, bool) {
	if t, ok := m.r.Tensor(name); ok {
		return t, true
	}
	for _, prefix := range []string{"model.", "transformer."} {
		if short, ok := strings.CutPrefix(name, prefix); ok {
			return m.r.Tensor(short)
		}
	}
	return safetensors.Tensor{}, false
}

func (m *Model) missing(name string) error {
	if name == "lm_head.weight" {
		return fmt.Errorf("there is no tensor %q; if the head is the token embedding, set tie_word_embeddings to true in %s", name, ConfigName)
	}
	return fmt.Errorf("there is no tensor %q, which a %s model with %d layers has", name, m.Config.Arch, m.Config.Layers)
}

// harmless reports whether a tensor that is not used holds no information:
// causal masks and rotary frequencies that older programs saved, and the head
// where it is the embedding.
func (m *Model) harmless(name string) bool {
	if m.Config.Arch == GPT2 && (strings.HasSuffix(name, ".attn.bias") || strings.HasSuffix(name, ".attn.masked_bias")) {
		return true
	}
	return strings.HasSuffix(name, ".rotary_emb.inv_freq") || name == "lm_head.weight" && m.Config.Tied
}

// ReadInto reads a parameter by our name, of which dst takes all elements.
func (m *Model) ReadInto(name string, dst []float32) error {
	p, ok := m.params[name]
	if !ok {
		return fmt.Errorf("%s: there is no parameter %q", m.dir, name)
	}
	if len(dst) != p.Len() {
		return fmt.Errorf("%s: parameter %q has %d elements, not %d", m.dir, name, p.Len(), len(dst))
	}
	for _, part := range p.Parts {
		n := part.Rows * p.cols()
		var err error
		if part.Transposed {
			err = m.readTransposed(part, p.cols(), dst[:n])
		} else {
			err = m.r.ReadFloats(part.HF, 0, dst[:n])
		}
		if err != nil {
			return err
		}
		dst = dst[n:]
	}
	return nil
}

// block is how many numbers are transposed at a time.
const block = 256 << 10

// readTransposed reads a tensor [in, out] into dst [out, in].
func (m *Model) readTransposed(part Part, in int, dst []float32) error {
	out := part.Rows
	step := max(1, min(in, block/out))
	buf := make([]float32, step*out)
	for first := 0; first < in; first += step {
		n := min(step, in-first)
		if err := m.r.ReadFloats(part.HF, first*out, buf[:n*out]); err != nil {
			return err
		}
		for o := range out {
			row := dst[o*in+first:][:n]
			for i := range row {
				row[i] = buf[i*out+o]
			}
		}
	}
	return nil
}
