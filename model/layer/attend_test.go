package layer_test

import (
	"math"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/grad/gradtest"
	"hasten/model/attention"
	"hasten/model/layer"
)

// naive is attention by the definition, in float64. visible says whether the
// query at i of a sequence sees the key at j.
func naive(qkv []float64, h layer.Heads, length int, visible func(seq, i, j int) bool) []float64 {
	w, e := h.Width(), h.Size
	rows := len(qkv) / w
	out := make([]float64, rows*h.Query*e)
	for row := range rows {
		seq, i := row/length, row%length
		for head := range h.Query {
			kv := head / (h.Query / h.KV)
			q := qkv[row*w+head*e:][:e]
			var sum float64
			o := out[(row*h.Query+head)*e:][:e]
			for j := range length {
				if !visible(seq, i, j) {
					continue
				}
				at := (seq*length + j) * w
				k, v := qkv[at+(h.Query+kv)*e:][:e], qkv[at+(h.Query+h.KV+kv)*e:][:e]
				var s float64
				for c := range e {
					s += q[c] * k[c]
				}
				p := math.Exp(s / math.Sqrt(float64(e)))
				sum += p
				for c := range e {
					o[c] += p * v[c]
				}
			}
			for c := range e {
				o[c] /= sum
			}
		}
	}
	return out
}

func TestAttendGradients(t *testing.T) {
	documents, err := attention.NewDocuments(5, []int32{0, 0, 1, 1, 1, 0, 1, 1, 1, 2})
	if err != nil {
		t.Fatal(err)
	}
	ids := []int{0, 0, 1, 1, 1, 0, 1, 1, 1, 2}
	causal := func(_, i, j int) bool { return j <= i }
	for _, c := range []struct {
		name    string
		heads   layer.Heads
		mask    attention.Mask
		visible func(seq, i, j int) bool
	}{
		{"causal", layer.Heads{Query: 2, KV: 2, Size: 4}, attention.Causal{}, causal},
		{"grouped heads", layer.Heads{Query: 4, KV: 2, Size: 3}, attention.Causal{}, causal},
		{"one key head", layer.Heads{Query: 3, KV: 1, Size: 2}, attention.Full{}, func(_, _, _ int) bool { return true }},
		{"documents", layer.Heads{Query: 2, KV: 1, Size: 4}, attention.And(attention.Causal{}, documents),
			func(seq, i, j int) bool { return j <= i && ids[5*seq+i] == ids[5*seq+j] }},
	} {
		gradtest.Check(t, gradtest.Case{
			Name:   c.name,
			Shapes: [][]int{{10, c.heads.Width()}},
			Op: func(t *grad.Tape, in []*grad.Var) *grad.Var {
				return layer.Attend(t, in[0], c.heads, 5, c.mask)
			},
			Ref:      func(in [][]float64) []float64 { return naive(in[0], c.heads, 5, c.visible) },
			Tol:      1e-5,
			NoSecond: true,
		})
	}
}

func TestAttendRefusesOtherShapes(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	layer.Attend(grad.NewTape(nil), &grad.Var{}, layer.Heads{Query: 2, KV: 1, Size: 4}, 5, attention.Causal{})
}
