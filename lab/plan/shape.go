package plan

import (
	"fmt"
	"math"

	"hasten/task/recipe"
)

// Shape is that of a model in Llama's layout.
type Shape struct {
	Layers int `json:"layers"`
	Heads  int `json:"heads"`
	Dim    int `json:"dim"`
	Hidden int `json:"hidden"`
}

// NewShape has a feed-forward layer of 8/3 of dim, in sixteens, and heads of
// about 32.
func NewShape(layers, dim int) Shape {
	s := Shape{Layers: layers, Heads: 1, Dim: dim, Hidden: (8*dim/3 + 8) / 16 * 16}
	for heads := 1; heads <= dim/16; heads++ {
		fits := dim%heads == 0 && dim/heads%2 == 0
		if fits && math.Abs(float64(dim)/float64(heads)-32) < math.Abs(float64(dim)/float64(s.Heads)-32) {
			s.Heads = heads
		}
	}
	return s
}

// ShapeOf is the buildable shape nearest to n weights: of two layers, or of
// more about a thirty-second of the width, which is in sixteens or below 64 in
// eights. The paper finds that shape matters little; but in short runs wide
// models are some per cent ahead of deep ones, and a law of size is not to take
// that for an effect of size.
func ShapeOf(n float64) Shape {
	var best Shape
	least := math.Inf(1)
	for dim := 16; ; dim += 8 {
		if dim > 64 && dim%16 != 0 {
			continue
		}
		s := NewShape(max(2, (dim+16)/32), dim)
		off := math.Abs(math.Log(s.Weights() / n))
		if off >= least {
			return best
		}
		least, best = off, s
	}
}

// Weights is N: the number of weights outside the embeddings.
func (s Shape) Weights() float64 {
	d, h := float64(s.Dim), float64(s.Hidden)
	return float64(s.Layers)*(4*d*d+3*d*h+2*d) + d
}

// Settings are those of the shape, as after --set.
func (s Shape) Settings() []string {
	return []string{
		fmt.Sprint("model.layers=", s.Layers), fmt.Sprint("model.heads=", s.Heads), "model.kv=0",
		fmt.Sprint("model.dim=", s.Dim), fmt.Sprint("model.hidden=", s.Hidden),
	}
}

// String is such as "3 layers of 96".
func (s Shape) String() string { return fmt.Sprintf("%d layers of %d", s.Layers, s.Dim) }

// check refuses recipes whose models are not made of such shapes.
func check(r *recipe.Recipe) error {
	for _, want := range []struct{ seam, part string }{{"task", "lm"}, {"model", "llama"}, {"mixer", "attention"}, {"ffn", "dense"}} {
		if got := r.Get(want.seam); got != "" && got != want.part {
			return fmt.Errorf("recipe %s: %s=%s: plans are made for language models with %s=%s", r.Name, want.seam, got, want.seam, want.part)
		}
	}
	if from := r.Get("from"); from != "" {
		return fmt.Errorf("recipe %s: from=%s: plans are made for models trained from random weights", r.Name, from)
	}
	return nil
}
