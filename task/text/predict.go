package text

import (
	"cmp"
	"context"
	"slices"

	"hasten/engine/simd"
)

// Model classifies texts.
type Model struct {
	dict   *dictionary
	input  []float32 // [rows, width(dim)]
	output output
	labels []string // the most frequent first
	counts []int    // texts of each
	loss   Loss
}

// Prediction is a label and its probability; with the loss "negative" a score
// between 0 and 1.
type Prediction struct {
	Label       int // in Model.Labels
	Probability float64
}

// Labels are the labels' names, the most frequent in training first. They must
// not be changed.
func (m *Model) Labels() []string { return m.labels }

// Features says what of a text the model looks at.
func (m *Model) Features() Features { return *m.dict.Features }

// Rows is the number of embeddings.
func (m *Model) Rows() int { return m.dict.rows }

// Predict returns the k likeliest labels of a text, best first. Words and
// n-grams that did not occur in training are left out.
func (m *Model) Predict(text []byte, k int) []Prediction { return m.Reader().Predict(text, k) }

// Reader is a Model with workspace for one goroutine.
type Reader struct {
	*Model
	scan scan
	rows []uint32
	h    []float32
}

// Reader returns a reader of the model. Several may be in use at once.
func (m *Model) Reader() *Reader { return &Reader{Model: m, h: make([]float32, width(m.dict.Dim))} }

// Predict is Model.Predict.
func (r *Reader) Predict(text []byte, k int) []Prediction {
	return r.output.top(r.Embed(text), k)
}

// Probability returns the probability of one label of a text.
func (r *Reader) Probability(text []byte, label int) float64 {
	return r.output.probability(r.Embed(text), label)
}

// Embed returns the average of the embeddings of a text's words and n-grams,
// padded with zeros to a multiple of 16. It is valid until the next call.
func (r *Reader) Embed(text []byte) []float32 {
	r.rows = r.dict.appendRows(r.rows[:0], &r.scan, text)
	table := simd.NewRows(r.input, width(r.dict.Dim))
	table.Sum(r.h, r.rows)
	if n := len(r.rows); n > 0 {
		simd.Scale(r.h, 1/float32(n))
	}
	return r.h
}

// Score says how good a model is on labelled texts.
type Score struct {
	Texts    int     `json:"texts"`
	Accuracy float64 `json:"accuracy"` // share of texts whose likeliest label is one of theirs
	Top5     float64 `json:"top5"`     // share of texts that have one of theirs among the five likeliest
	Unknown  int     `json:"unknown"`  // texts whose labels did not occur in training; they count as wrong
}

// Evaluate measures the model on the labelled texts of a file. Options that are
// empty are those of a recipe that does not set them.
func (m *Model) Evaluate(ctx context.Context, path string, o DataOptions) (Score, error) {
	d := defaults().DataOptions
	o.Prefix, o.Label, o.Text = cmp.Or(o.Prefix, d.Prefix), cmp.Or(o.Label, d.Label), cmp.Or(o.Text, d.Text)
	return m.evaluate(ctx, path, &o, everything)
}

func (m *Model) evaluate(ctx context.Context, path string, o *DataOptions, p portion) (Score, error) {
	var s Score
	number := make(map[string]int, len(m.labels))
	for i, l := range m.labels {
		number[l] = i
	}
	r := m.Reader()
	var first, five int
	var right []int
	err := read(path, o, p, func(t *sample) error {
		found := r.Predict(t.text, 5)
		s.Texts++
		right = right[:0]
		for _, l := range t.labels {
			if i, ok := number[string(l)]; ok {
				right = append(right, i)
			}
		}
		if len(right) == 0 {
			s.Unknown++
		}
		for i, f := range found {
			if slices.Contains(right, f.Label) {
				five++
				if i == 0 {
					first++
				}
				break
			}
		}
		if s.Texts&255 == 0 {
			return ctx.Err()
		}
		return nil
	})
	if s.Texts > 0 {
		s.Accuracy, s.Top5 = float64(first)/float64(s.Texts), float64(five)/float64(s.Texts)
	}
	return s, err
}
