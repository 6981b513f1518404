package sample

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/rng"
)

// selector builds a part for n samples.
func selector(t testing.TB, name string, n int, seed uint64, settings map[string]string) Selector {
	t.Helper()
	s, err := Selectors.Build(name, settings)
	if err == nil {
		err = s.Init(new(memory.Arena), n, seed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// observed tells a selector the loss of every sample and ends the epoch.
func observed(t testing.TB, s Selector, losses []float32) {
	t.Helper()
	ids := make([]int32, len(losses))
	for i := range ids {
		ids[i] = int32(i)
	}
	s.Observe(ids, losses)
	if err := s.EndEpoch(); err != nil {
		t.Fatal(err)
	}
}

func someLosses(n int) []float32 {
	r := rng.New(11, 0)
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.Exp(r.Normal()))
	}
	return x
}

// What holds of every selector: a plan is of its samples, depends on seed and
// epoch alone, and over many epochs each sample counts for 1 on average.
func TestEverySelector(t *testing.T) {
	for _, name := range Selectors.Names() {
		for _, n := range []int{1, 2, 7, 100} {
			s, again, other := selector(t, name, n, 5, nil), selector(t, name, n, 5, nil), selector(t, name, n, 6, nil)
			losses := someLosses(n)
			for _, x := range []Selector{s, again, other} {
				observed(t, x, losses)
			}
			again.Plan(9, 0.1) // what was planned before does not matter
			const epochs = 4000
			count := make([]float64, n)
			differs := false
			for e := range epochs {
				p := s.Plan(e, 0.1)
				for i, id := range p.IDs {
					if p.Weights == nil {
						count[id]++
					} else {
						count[id] += float64(p.Weights[i])
					}
				}
				q := again.Plan(e, 0.1)
				if !slices.Equal(p.IDs, q.IDs) || !slices.Equal(p.Weights, q.Weights) {
					t.Fatalf("%s, %d samples: epoch %d is another one the second time", name, n, e)
				}
				differs = differs || !slices.Equal(p.IDs, other.Plan(e, 0.1).IDs)
			}
			for id, c := range count {
				if mean := c / epochs; math.Abs(mean-1) > 6/math.Sqrt(epochs) {
					t.Errorf("%s, %d samples: sample %d counts for %.3f on average", name, n, id, mean)
				}
			}
			if n > 2 && differs == (name == "sequential") {
				t.Errorf("%s, %d samples: the seed changes something: %v", name, n, differs)
			}
		}
	}
}

func TestEvery(t *testing.T) {
	for _, name := range []string{"shuffled", "sequential"} {
		s := selector(t, name, 50, 1, nil)
		var last []int32
		for e := range 3 {
			ids := slices.Clone(s.Plan(e, 0).IDs)
			if (name == "sequential") != slices.IsSorted(ids) || name == "shuffled" && slices.Equal(ids, last) {
				t.Errorf("%s: epoch %d is %v", name, e, ids)
			}
			last = slices.Clone(ids)
			slices.Sort(ids)
			for i, id := range ids {
				if int(id) != i {
					t.Fatalf("%s: epoch %d lacks sample %d", name, e, i)
				}
			}
		}
	}
}

// TestInfoBatch holds plans against the definition, computed in float64: which
// samples may be skipped, how many stay, and what they count for.
func TestInfoBatch(t *testing.T) {
	const n = 997
	losses := someLosses(n)
	for _, c := range []struct{ r, delta float64 }{{0.5, 0.875}, {0.3, 0.5}, {0, 1}, {0.9, 1}} {
		s := selector(t, "infobatch", n, 3, map[string]string{"r": fmt.Sprint(c.r), "delta": fmt.Sprint(c.delta)})
		name := s.String()
		whole := func(what string, p Plan) {
			t.Helper()
			ids := slices.Clone(p.IDs)
			slices.Sort(ids)
			if len(ids) != n || slices.ContainsFunc(p.Weights, func(w float32) bool { return w != 1 }) || len(slices.Compact(ids)) != n {
				t.Errorf("%s: %s is not all samples at weight 1", name, what)
			}
		}
		whole("the first epoch", s.Plan(0, 0))

		scores := make([]float64, n) // by the definition
		for i := range scores {
			scores[i] = 1
		}
		for e := 1; e < 20; e++ {
			// The epoch before trained on some, whose losses have fallen.
			var ids []int32
			var now []float32
			for i := range int32(n) {
				if e == 1 || (int(i)+e)%3 > 0 {
					ids, now = append(ids, i), append(now, losses[i]/float32(e))
					scores[i] = float64(losses[i] / float32(e))
				}
			}
			half := len(ids) / 2
			s.Observe(ids[:half], now[:half])
			s.Observe(ids[half:], now[half:])
			if err := s.EndEpoch(); err != nil {
				t.Fatal(err)
			}
			mean := 0.0
			for _, h := range scores {
				mean += h / n
			}
			low := 0
			for _, h := range scores {
				if h < mean {
					low++
				}
			}
			p := s.Plan(e, c.delta*0.99)
			seen := map[int32]bool{}
			kept := 0
			for i, id := range p.IDs {
				want := 1.0
				if scores[id] < mean {
					want = 1 / (1 - c.r)
					kept++
				}
				if seen[id] || math.Abs(float64(p.Weights[i])-want) > 1e-6 {
					t.Fatalf("%s: epoch %d: sample %d, seen already %v, has weight %v, want %v", name, e, id, seen[id], p.Weights[i], want)
				}
				seen[id] = true
			}
			if want := float64(low) * (1 - c.r); math.Abs(float64(kept)-want) >= 1 || len(p.IDs) != n-low+kept {
				t.Fatalf("%s: epoch %d: %d of %d samples below the mean stay, want %.1f; %d in all", name, e, kept, low, want, len(p.IDs))
			}
			whole("an epoch after delta", s.Plan(e, c.delta))
		}
	}
}

// TestInfoBatchGradient holds the mean gradient over many plans, at frozen
// weights, against that of all samples; and that without the weights it is
// another one.
func TestInfoBatchGradient(t *testing.T) {
	const n, dim, draws = 301, 8, 10000
	r := rng.New(2, 0)
	losses := someLosses(n)
	gradients := make([][dim]float64, n) // of each sample; large where the loss is
	var full [dim]float64
	for i := range gradients {
		for k := range dim {
			gradients[i][k] = float64(losses[i]) * (1 + r.Normal())
			full[k] += gradients[i][k] / n
		}
	}
	off := func(rescale string) float64 {
		s := selector(t, "infobatch", n, 4, map[string]string{"rescale": rescale})
		observed(t, s, losses)
		var mean [dim]float64
		for e := range draws {
			p := s.Plan(e, 0)
			for i, id := range p.IDs {
				for k := range dim {
					mean[k] += float64(p.Weights[i]) * gradients[id][k] / n / draws
				}
			}
		}
		var d, f float64
		for k := range dim {
			d += (mean[k] - full[k]) * (mean[k] - full[k])
			f += full[k] * full[k]
		}
		return math.Sqrt(d / f)
	}
	if e := off("true"); e > 0.01 {
		t.Errorf("the mean gradient is off by %.2f%%", 100*e)
	}
	if e := off("false"); e < 0.05 {
		t.Errorf("without weights the mean gradient is off by %.2f%% only; this test could not fail", 100*e)
	}
}

// Ranks that train on parts of the samples plan as one that trains on all.
func TestInfoBatchRanks(t *testing.T) {
	const n, ranks = 100, 3
	losses := someLosses(n)
	one := selector(t, "infobatch", n, 1, nil)
	observed(t, one, losses)
	want := one.Plan(1, 0)

	// What the ranks put in, in the order of their calls.
	all := make([]*InfoBatch, ranks)
	for k := range all {
		all[k] = selector(t, "infobatch", n, 1, nil).(*InfoBatch)
		for i := k; i < n; i += ranks {
			all[k].Observe([]int32{int32(i)}, losses[i:i+1])
		}
	}
	var sums [2][]float32
	for i := range sums {
		sums[i] = make([]float32, n)
		for _, s := range all {
			for j, v := range [][]float32{s.fresh, s.counts}[i] {
				sums[i][j] += v
			}
		}
	}
	for _, s := range all {
		calls := 0
		s.Sum = func(x []float32) error {
			copy(x, sums[calls])
			calls++
			return nil
		}
		if err := s.EndEpoch(); err != nil {
			t.Fatal(err)
		}
		if p := s.Plan(1, 0); !slices.Equal(p.IDs, want.IDs) || !slices.Equal(p.Weights, want.Weights) {
			t.Error("a rank plans otherwise")
		}
		s.Sum = func([]float32) error { return errors.New("no network") }
		if err := s.EndEpoch(); err == nil || !strings.Contains(err.Error(), "no network") {
			t.Errorf("error %v", err)
		}
	}
}

// walk takes batches to the end of so many epochs, observes losses that depend
// on sample and epoch, and lists what came.
func walk(t *testing.T, s *Stream, epochs int) (came []string) {
	t.Helper()
	for {
		ids, weights, err := s.Next()
		if err == io.EOF {
			if came = append(came, "end"); s.epoch == epochs-1 {
				return came
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		came = append(came, fmt.Sprint(ids, weights))
		losses := make([]float32, len(ids))
		for i, id := range ids {
			losses[i] = float32((int(id)*7+s.epoch*3)%10) / 10
		}
		s.Observe(losses)
	}
}

// newStream is a stream of 4 epochs.
func newStream(s Selector) *Stream {
	var stream *Stream
	stream = NewStream(s, 3, func() float64 { return stream.Epochs() / 4 })
	return stream
}

// TestStreamResumes goes on from every batch, with a selector of its own.
func TestStreamResumes(t *testing.T) {
	const n = 10
	for _, name := range Selectors.Names() {
		want := walk(t, newStream(selector(t, name, n, 1, nil)), 4)
		for stop := range len(want) {
			first := selector(t, name, n, 1, nil)
			s := newStream(first)
			var came []string
			for range stop {
				ids, weights, err := s.Next()
				if err == io.EOF {
					came = append(came, "end")
					continue
				}
				came = append(came, fmt.Sprint(ids, weights))
				losses := make([]float32, len(ids))
				for i, id := range ids {
					losses[i] = float32((int(id)*7+s.epoch*3)%10) / 10
				}
				s.Observe(losses)
			}
			if stop > 0 && came[stop-1] == "end" {
				continue // the loop asks on at once
			}
			at, err := s.Position()
			if err != nil {
				t.Fatal(err)
			}
			second := selector(t, name, n, 1, nil)
			for k, v := range first.State() {
				copy(second.State()[k], v)
			}
			again := newStream(second)
			if err := again.Seek(at); err != nil {
				t.Fatal(err)
			}
			if again.Epochs() != s.Epochs() {
				t.Errorf("%s: resumed after %v epochs, not %v", name, again.Epochs(), s.Epochs())
			}
			if got := append(came, walk(t, again, 4)...); !slices.Equal(got, want) {
				t.Fatalf("%s, stopped after %d: got\n%s\nwant\n%s", name, stop, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}

// An epoch is planned with the losses of the last batch before it.
func TestStreamPlansLate(t *testing.T) {
	s := selector(t, "infobatch", 4, 1, map[string]string{"r": "0.9"})
	stream := newStream(s)
	for range 3 { // batches of 3 and 1, and the end
		ids, _, err := stream.Next()
		if err == nil {
			losses := []float32{0, 0, 0}[:len(ids)]
			if len(ids) == 1 {
				losses = []float32{9}
			}
			stream.Observe(losses)
		}
	}
	if _, _, err := stream.Next(); err != nil {
		t.Fatal(err)
	}
	if n := len(stream.plan.IDs); n > 2 { // one is above the mean, and one in ten of three stays
		t.Errorf("%d samples in the second epoch", n)
	}
}

func TestStreamSeeksNowhere(t *testing.T) {
	for position, want := range map[string]string{
		``:   "the position in the data",
		`{}`: "drew its samples by",
		`{"sampler":"shuffled, 10 samples, seed 2"}`:                     "drew its samples by",
		`{"sampler":"shuffled, 10 samples, seed 1","at":11}`:             "sample 11 of epoch 0",
		`{"sampler":"shuffled, 10 samples, seed 1","at":-1}`:             "sample -1 of epoch 0",
		`{"sampler":"shuffled, 10 samples, seed 1","epoch":-2}`:          "of epoch -2",
		`{"sampler":"shuffled, 10 samples, seed 1","epoch":-1,"at":"x"}`: "the position in the data",
	} {
		s := newStream(selector(t, "shuffled", 10, 1, nil))
		if err := s.Seek([]byte(position)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", position, err, want)
		}
		if len(walk(t, s, 1)) != 5 {
			t.Errorf("%s: the stream does not go on", position)
		}
	}
}

func TestStreamAllocatesNothing(t *testing.T) {
	for _, name := range Selectors.Names() {
		s := newStream(selector(t, name, 100, 1, nil))
		losses := make([]float32, 3)
		if n := testing.AllocsPerRun(200, func() {
			if ids, _, err := s.Next(); err == nil {
				s.Observe(losses[:len(ids)])
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
