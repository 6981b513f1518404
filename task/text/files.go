package text

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"hasten/engine/atomicfile"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/engine/simd"
	"hasten/model/format"
	"hasten/model/format/safetensors"
)

// The files of a model directory.
const (
	configFile  = "config.json"
	wordsFile   = "words.txt" // the words that have an embedding, one a line
	weightsFile = "model.safetensors"
)

// The tensors of a model. In a small file, embeddings and output layer are I8,
// and the float32 that a row's bytes are multiplied by is in a tensor with
// ".scale" behind its name.
const (
	wordsTensor   = "embedding.words"   // [words, dim]
	gramsTensor   = "embedding.ngrams"  // [n-grams, dim]
	bucketsTensor = "embedding.buckets" // [n-grams]: the n-grams' numbers, U32
	outputTensor  = "output"            // [labels, or inner nodes, dim]
	scaleSuffix   = ".scale"
)

const modelType = "fasttext"

// config is config.json.
type config struct {
	ModelType string            `json:"model_type"`
	Dim       int               `json:"dim"`
	NGrams    int               `json:"ngrams"`
	Buckets   int               `json:"buckets"`
	MinChars  int               `json:"minchars"`
	MaxChars  int               `json:"maxchars"`
	Words     string            `json:"words"`
	Loss      string            `json:"loss"`
	LossSet   map[string]string `json:"loss_settings,omitempty"`
	Labels    []string          `json:"labels"`
	Counts    []int             `json:"label_counts"`
}

// Export says how a model is written.
type Export struct {
	Int8 bool // embeddings and output layer in 8 bits, a scale to each row
	Keep int  // n-grams to keep, those with the longest embeddings; 0: all
}

// Save writes the model into its directory, which must exist.
func (m *Model) Save(dir string) error { return m.Export(dir, Export{}) }

// Export writes the model into a directory, which must exist.
func (m *Model) Export(dir string, e Export) error {
	var words bytes.Buffer
	var wordRows, gramRows, buckets []uint32
	for w, r := range m.dict.row {
		if r != none {
			words.Write(m.dict.words.word(w))
			words.WriteByte('\n')
			wordRows = append(wordRows, r)
		}
	}
	m.dict.grams.all(func(b uint32, _ *uint32) { buckets = append(buckets, b) })
	if e.Keep > 0 && e.Keep < len(buckets) {
		buckets = m.longest(buckets, e.Keep)
	}
	slices.Sort(buckets)
	bucketBytes := make([]byte, 0, 4*len(buckets))
	for _, b := range buckets {
		gramRows = append(gramRows, m.dict.grams.find(b))
		bucketBytes = binary.LittleEndian.AppendUint32(bucketBytes, b)
	}
	embedding := func(rows []uint32) func(i int, dst []float32) {
		return func(i int, dst []float32) { copy(dst, m.input[int(rows[i])*width(m.dict.Dim):]) }
	}
	tensors := []safetensors.Entry{{Name: bucketsTensor, DType: safetensors.U32, Shape: []int{len(buckets)}, Bytes: bucketBytes}}
	tensors = append(tensors, e.matrix(wordsTensor, len(wordRows), m.dict.Dim, embedding(wordRows))...)
	tensors = append(tensors, e.matrix(gramsTensor, len(gramRows), m.dict.Dim, embedding(gramRows))...)
	tensors = append(tensors, e.matrix(outputTensor, m.output.size(), m.dict.Dim, m.output.row)...)

	f := m.dict.Features
	c := config{
		ModelType: modelType, Dim: f.Dim, NGrams: f.NGrams, Buckets: f.Buckets, MinChars: f.MinChars, MaxChars: f.MaxChars, Words: f.Words,
		Loss: lossName(m.loss), LossSet: part.Values(m.loss), Labels: m.labels, Counts: m.counts,
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	write := func(name string, content []byte) error {
		return atomicfile.WriteFile(filepath.Join(dir, name), func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
	}
	return errors.Join(
		write(wordsFile, words.Bytes()),
		atomicfile.WriteFile(filepath.Join(dir, weightsFile), func(w io.Writer) error {
			return safetensors.Write(w, map[string]string{"format": "pt"}, tensors)
		}),
		write(configFile, append(text, '\n')))
}

// longest returns the n-grams with the longest embeddings.
func (m *Model) longest(buckets []uint32, keep int) []uint32 {
	length := func(b uint32) float64 {
		return simd.SumSq(m.input[int(m.dict.grams.find(b))*width(m.dict.Dim):][:m.dict.Dim])
	}
	slices.SortFunc(buckets, func(x, y uint32) int {
		lx, ly := length(x), length(y)
		switch {
		case lx > ly || lx == ly && x < y:
			return -1
		case lx == ly && x == y:
			return 0
		}
		return 1
	})
	return buckets[:keep]
}

// matrix is the tensors that a matrix of n rows becomes.
func (e *Export) matrix(name string, n, dim int, row func(i int, dst []float32)) []safetensors.Entry {
	if !e.Int8 {
		values := func(dst []float32, first int) error {
			buf := make([]float32, dim)
			for len(dst) > 0 {
				row(first/dim, buf)
				k := copy(dst, buf[first%dim:])
				dst, first = dst[k:], first+k
			}
			return nil
		}
		return []safetensors.Entry{{Name: name, DType: safetensors.F32, Shape: []int{n, dim}, Values: values}}
	}
	data, scales, buf := make([]byte, n*dim), make([]float32, n), make([]float32, dim)
	for i := range n {
		row(i, buf)
		scale := simd.AbsMax(buf) / 127
		scales[i] = scale
		if scale == 0 {
			continue
		}
		for j, v := range buf {
			data[i*dim+j] = byte(int8(math.RoundToEven(float64(v / scale))))
		}
	}
	return []safetensors.Entry{
		{Name: name, DType: safetensors.I8, Shape: []int{n, dim}, Bytes: data},
		{Name: name + scaleSuffix, DType: safetensors.F32, Shape: []int{n}, Values: format.Of(scales)},
	}
}

// lossName is the name of a loss in its table.
func lossName(l Loss) string {
	for _, p := range Losses.Parts {
		if fmt.Sprintf("%T", p.New()) == fmt.Sprintf("%T", l) {
			return p.Name
		}
	}
	panic(fmt.Sprintf("text: a loss that is in no table: %T", l))
}

// Is tells whether a directory holds a classifier of texts.
func Is(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, configFile))
	var c config
	return err == nil && json.Unmarshal(text, &c) == nil && c.ModelType == modelType
}

// Open reads a model directory.
func Open(dir string) (*Model, error) {
	path := filepath.Join(dir, configFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if c.ModelType != modelType {
		return nil, fmt.Errorf("%s: the model is of type %q, not %q", path, c.ModelType, modelType)
	}
	f := &Features{Dim: c.Dim, NGrams: c.NGrams, Buckets: c.Buckets, MinCount: 1, MinChars: c.MinChars, MaxChars: c.MaxChars, Words: c.Words}
	if err := part.Apply(f, nil); err != nil { // checks the ranges
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	loss, err := Losses.Build(c.Loss, c.LossSet)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(c.Labels) == 0 || len(c.Labels) != len(c.Counts) || slices.Min(c.Counts) < 0 || !slices.IsSortedFunc(c.Counts, func(a, b int) int { return b - a }) {
		return nil, fmt.Errorf("%s: want labels, and as many counts in descending order", path)
	}
	m := &Model{dict: &dictionary{Features: f}, labels: c.Labels, counts: c.Counts, loss: loss}
	if err := m.readWords(filepath.Join(dir, wordsFile)); err != nil {
		return nil, err
	}
	return m, m.readWeights(filepath.Join(dir, weightsFile))
}

// readWords reads the words.
func (m *Model) readWords(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	d := m.dict
	r := bufio.NewReaderSize(file, 64<<10)
	for line := 1; ; line++ {
		word, err := r.ReadBytes('\n')
		if err == io.EOF && len(word) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: line %d: %w; the file is cut short", path, line, err)
		}
		word = word[:len(word)-1]
		if d.words.add(word, hash(word)) != line-1 {
			return fmt.Errorf("%s:%d: %q is there twice", path, line, word)
		}
		d.row = append(d.row, uint32(line-1))
	}
}

// readWeights reads embeddings and output layer.
func (m *Model) readWeights(path string) error {
	r, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	d := m.dict
	words := d.words.len()
	buckets, ok := r.Tensor(bucketsTensor)
	if !ok || buckets.DType != safetensors.U32 || len(buckets.Shape) != 1 {
		return fmt.Errorf("%s: want %s, a list of U32", path, bucketsTensor)
	}
	grams := buckets.Elements()
	d.rows = words + grams
	raw := make([]byte, 4*grams)
	if err := r.ReadBytes(bucketsTensor, 0, raw); err != nil {
		return err
	}
	for i := range grams {
		b := binary.LittleEndian.Uint32(raw[4*i:])
		if int64(b) >= int64(d.Buckets) || d.grams.find(b) != none {
			return fmt.Errorf("%s: %s: number %d is %d; want different numbers below %d", path, bucketsTensor, i, b, d.Buckets)
		}
		*d.grams.add(b) = uint32(words + i)
	}
	arena := new(memory.Arena)
	w := width(d.Dim)
	m.input = arena.Floats(memory.Weights, d.rows*w)
	m.output = m.loss.output(d.Dim, m.counts, arena)
	set := func(first int) func(i int, row []float32) {
		return func(i int, row []float32) { copy(m.input[(first+i)*w:], row) }
	}
	return errors.Join(
		readMatrix(r, path, wordsTensor, words, d.Dim, set(0)),
		readMatrix(r, path, gramsTensor, grams, d.Dim, set(words)),
		readMatrix(r, path, outputTensor, m.output.size(), d.Dim, m.output.setRow))
}

// readMatrix reads a matrix of n rows, in float32 or in 8 bits.
func readMatrix(r *safetensors.Reader, path, name string, n, dim int, set func(i int, row []float32)) error {
	t, ok := r.Tensor(name)
	if !ok || !slices.Equal(t.Shape, []int{n, dim}) {
		return fmt.Errorf("%s: want a tensor %s of shape [%d, %d]; its words or labels belong to another file, or it is damaged", path, name, n, dim)
	}
	if t.DType == safetensors.F32 {
		rows := make([]float32, 4096*dim)
		for i := 0; i < n; i += 4096 {
			rows = rows[:min(4096, n-i)*dim]
			if err := r.ReadFloats(name, i*dim, rows); err != nil {
				return err
			}
			for j := range len(rows) / dim {
				set(i+j, rows[j*dim:][:dim])
			}
		}
		return nil
	}
	row := make([]float32, dim)
	s, ok := r.Tensor(name + scaleSuffix)
	if t.DType != safetensors.I8 || !ok || s.DType != safetensors.F32 || !slices.Equal(s.Shape, []int{n}) {
		return fmt.Errorf("%s: tensor %s is %v; want F32, or I8 with %d scales beside it", path, name, t.DType, n)
	}
	data, scales := make([]byte, n*dim), make([]float32, n)
	if err := errors.Join(r.ReadBytes(name, 0, data), r.ReadFloats(name+scaleSuffix, 0, scales)); err != nil {
		return err
	}
	for i := range n {
		for j := range row {
			row[j] = float32(int8(data[i*dim+j])) * scales[i]
		}
		set(i, row)
	}
	return nil
}
