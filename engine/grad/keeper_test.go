package grad

import (
	"slices"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/rng"
)

// strict keeps parameters as jealously as a keeper may: values are there for
// one operation, gradients until they are complete.
type strict struct {
	t        *testing.T
	params   []*Param
	values   [][]float32
	grads    [][]float32
	open     []int // recorded and not carried
	complete []int // ids in the order in which their gradients were
	fetched  int
}

func (s *strict) Fetch(ids []int) {
	s.fetched++
	for i, p := range s.params {
		p.Data = nil
		if slices.Contains(ids, i) {
			p.Data = slices.Clone(s.values[i])
		}
	}
}

func (s *strict) FetchGrad(id int) {
	p := s.params[id]
	p.Grad = make([]float32, p.Len())
	p.ZeroGrad()
}

func (s *strict) Recorded(id int) { s.open[id]++ }

func (s *strict) Carried(id int) {
	s.open[id]--
	if s.open[id] < 0 {
		s.t.Fatalf("parameter %d: carried more often than recorded", id)
	}
	if s.open[id] == 0 {
		p := s.params[id]
		s.complete = append(s.complete, id)
		s.grads[id], p.Grad = p.Grad, nil
	}
}

// A kept parameter gets the gradient it would get otherwise, to the bit, and
// its keeper hears of it when it is complete: with values read twice, in
// operations that forget, and in segments, nested ones too.
func TestKeeper(t *testing.T) {
	names := []string{"table", "gain", "up", "down", "bias"}
	dims := [][]int{{7, 6}, {6}, {12, 6}, {6, 12}, {6}}
	ids := []int32{3, 0, 6, 3}
	block := func(p []*Param) Segment {
		inner := func(t *Tape, x *Var) *Var {
			n := RMSNorm(t, x, p[1].Var, 1e-5)
			h := Linear(t, n, p[2].Var, nil)
			t.Forget(n)
			return LinearAdd(t, ReLU(t, h), p[3].Var, p[4].Var, x)
		}
		return func(t *Tape, x *Var) *Var { return inner(t, t.Checkpoint(x, inner)) }
	}
	loss := func(t *Tape, p []*Param, segments bool) *Var {
		x := Embedding(t, p[0].Var, ids)
		if segments {
			x = t.Checkpoint(x, block(p))
		} else {
			x = block(p)(t, x)
		}
		return Mean(t, Linear(t, x, p[0].Var, nil)) // the table again, as a head
	}
	for _, segments := range []bool{false, true} {
		arena := new(memory.Arena)
		tape := NewTape(arena)
		s := &strict{t: t, open: make([]int, len(names)), grads: make([][]float32, len(names))}
		random := rng.New(1, 1)
		for i, name := range names {
			p := NewParam(arena, name, dims[i]...)
			random.FillNormal(p.Data, 0, 1)
			s.params = append(s.params, p)
		}
		tape.Backward(loss(tape, s.params, segments))
		tape.Reset()
		var want [][]float32
		for i, p := range s.params {
			want = append(want, slices.Clone(p.Grad))
			s.values = append(s.values, p.Data)
			p.Data, p.Grad = nil, nil
			p.Keep(s, i)
		}
		for range 2 {
			s.complete = nil
			tape.Backward(loss(tape, s.params, segments))
			tape.Reset()
			for i := range names {
				if s.open[i] != 0 || !slices.Equal(s.grads[i], want[i]) {
					t.Errorf("segments %v, %s: gradient %v, want %v; %d operations owe it one", segments, names[i], s.grads[i], want[i], s.open[i])
				}
			}
			if s.complete[len(s.complete)-1] != 0 || len(s.complete) != len(names) {
				t.Errorf("segments %v: complete in the order %v", segments, s.complete)
			}
		}
		before := s.fetched
		tape.NoGrad(func() { loss(tape, s.params, segments) })
		tape.Reset()
		if s.fetched == before || slices.Max(s.open) != 0 {
			t.Errorf("without recording: %d fetches, %v owed", s.fetched-before, s.open)
		}
	}
}
