package sample

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hasten/data/store"
	"hasten/engine/rng"
)

// counting is a stream of n tokens in which token i is i.
func counting(t testing.TB, n int) *store.Tokens {
	t.Helper()
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(i)
	}
	s, err := store.FromSlice(x, n, int64(n))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newWindows(t testing.TB, s *store.Tokens, o Order, b, length int) *Windows {
	t.Helper()
	w, err := NewWindows(s, o, b, length)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// orders is every order; the table tests run over all of them.
var orders = []Order{Random{1}, Sequential{}, Shuffled{1}, Spread{}, Spread{3}}

// Whatever the order: rows are stretches of the stream, targets are shifted by
// one, and a batch depends on its number only.
func TestEveryOrder(t *testing.T) {
	for _, order := range orders {
		for _, c := range []struct{ n, b, t int }{{2, 1, 1}, {10, 3, 9}, {101, 1, 10}, {102, 4, 10}, {1000, 7, 13}} {
			w := newWindows(t, counting(t, c.n), order, c.b, c.t)
			name := w.String()
			batches := w.Batches()
			if batches == 0 {
				batches = 3*w.Epoch()/int64(c.b) + 2
			}
			var b Batch
			var starts [][]int64
			for i := range batches {
				if err := w.Batch(i, &b); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if b.T != c.t || len(b.Tokens) != b.B*b.T || len(b.Targets) != b.B*b.T || len(b.Starts) != b.B || b.Segments != nil {
					t.Fatalf("%s: batch of %d×%d, %d tokens", name, b.B, b.T, len(b.Tokens))
				}
				if b.B != c.b && (i != batches-1 || w.Batches() == 0) {
					t.Fatalf("%s: batch %d has %d rows", name, i, b.B)
				}
				for r, at := range b.Starts {
					if _, ok := order.(Random); !ok && at%int64(c.t) != 0 {
						t.Fatalf("%s: a window begins at %d", name, at)
					}
					for k := range c.t {
						if x, y := b.Tokens[r*c.t+k], b.Targets[r*c.t+k]; int64(x) != at+int64(k) || y != x+1 {
							t.Fatalf("%s: batch %d row %d position %d: token %d, target %d", name, i, r, k, x, y)
						}
					}
				}
				starts = append(starts, slices.Clone(b.Starts))
			}
			again := newWindows(t, counting(t, c.n), order, c.b, c.t)
			for i := batches - 1; i >= 0; i-- { // backwards, by another sampler
				if err := again.Batch(i, &b); err != nil || !slices.Equal(b.Starts, starts[i]) {
					t.Fatalf("%s: batch %d is another one the second time", name, i)
				}
			}
			if err := w.Batch(-1, &b); err == nil {
				t.Errorf("%s: there is no batch -1", name)
			}
			if err := w.Batch(batches, &b); (err == nil) != (w.Batches() == 0) {
				t.Errorf("%s: batch %d: %v", name, batches, err)
			}
		}
	}
}

func TestSequential(t *testing.T) {
	w := newWindows(t, counting(t, 36), Sequential{}, 2, 5) // seven windows, and the rest of one
	var got []int64
	var b Batch
	for i := range int64(4) {
		if err := w.Batch(i, &b); err != nil {
			t.Fatal(err)
		}
		got = append(got, b.Starts...)
	}
	if want := []int64{0, 5, 10, 15, 20, 25, 30, 0}; !slices.Equal(got, want) || w.Epoch() != 7 {
		t.Errorf("windows %v, want %v; epoch %d", got, want, w.Epoch())
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		n, take int64
		want    []int64
	}{{5, 0, []int64{0, 1, 2, 3, 4}}, {5, 9, []int64{0, 1, 2, 3, 4}}, {10, 4, []int64{0, 2, 5, 7}}, {7, 1, []int64{0}}} {
		w := newWindows(t, counting(t, int(c.n)*3+1), Spread{c.take}, 3, 3)
		var got []int64
		var b Batch
		for i := range w.Batches() {
			if err := w.Batch(i, &b); err != nil {
				t.Fatal(err)
			}
			for _, at := range b.Starts {
				got = append(got, at/3)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d of %d windows: %v, want %v", c.take, c.n, got, c.want)
		}
	}
}

// Each epoch holds each window once, and the epochs differ.
func TestShuffledEpochs(t *testing.T) {
	for _, n := range []int64{1, 2, 3, 63, 64, 65, 1000, 4097} {
		var last []int64
		for epoch := range int64(4) {
			order := make([]int64, n)
			for k := range n {
				order[k] = Shuffled{9}.Start(epoch*n+k, n*2, 2) / 2
			}
			sorted := slices.Clone(order)
			slices.Sort(sorted)
			for i, v := range sorted {
				if v != int64(i) {
					t.Fatalf("epoch %d of %d windows lacks %d", epoch, n, i)
				}
			}
			if n > 60 && slices.Equal(order, last) {
				t.Errorf("epoch %d of %d windows is the one before", epoch, n)
			}
			last = order
		}
	}
}

// chi checks that counts of equally likely outcomes are as even as chance
// makes them: the statistic is within 5 standard deviations of its mean.
func chi(t *testing.T, what string, counts []int) {
	t.Helper()
	total := 0
	for _, c := range counts {
		total += c
	}
	mean := float64(total) / float64(len(counts))
	var x float64
	for _, c := range counts {
		x += (float64(c) - mean) * (float64(c) - mean) / mean
	}
	free := float64(len(counts) - 1)
	if math.Abs(x-free) > 5*math.Sqrt(2*free)+5 {
		t.Errorf("%s: χ² is %.1f with %g degrees of freedom", what, x, free)
	}
}

func TestPermuteIsEven(t *testing.T) {
	const trials = 20_000
	for _, n := range []int64{2, 5, 16, 70} {
		place := make([]int, n)
		pairs := make([]int, n*(n-1)) // where the first two go
		for seed := range uint64(trials) {
			s := rng.New(seed, 1)
			a, b := permute(s, 0, n), permute(s, 1, n)
			place[permute(s, n-1, n)]++
			if b > a {
				b--
			}
			pairs[a*(n-1)+b]++
		}
		chi(t, fmt.Sprintf("place of the last of %d", n), place)
		chi(t, fmt.Sprintf("places of the first two of %d", n), pairs)
	}
}

func TestRandomIsEven(t *testing.T) {
	places := make([]int, 100)
	for k := range int64(50_000) {
		places[Random{3}.Start(k, 100, 8)]++
	}
	chi(t, "random windows", places)
	same := 0
	for k := range int64(1000) {
		if (Random{3}).Start(k, 100, 8) == (Random{4}).Start(k, 100, 8) {
			same++
		}
	}
	if same > 40 {
		t.Errorf("two seeds agree in %d of 1000 windows", same)
	}
}

func TestSegments(t *testing.T) {
	w := store.NewWriter(100)
	for _, n := range []int{3, 1, 6, 2} { // documents begin at 0, 3, 4, 10
		w.Document()
		if err := w.Append(make([]int32, n), 0); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	win, err := newWindows(t, s, Sequential{}, 2, 5).WithSegments()
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	if err := win.Batch(0, &b); err != nil {
		t.Fatal(err)
	}
	if want := []int32{0, 0, 0, 1, 2, 0, 0, 0, 0, 0}; !slices.Equal(b.Segments, want) {
		t.Errorf("segments %v, want %v", b.Segments, want)
	}
	// Every place, against the definition.
	for at := range int64(8) {
		got, first := make([]int32, 5), int32(-1)
		number(got, at, s.Starts())
		for i, g := range got {
			var doc int32
			for _, start := range s.Starts() {
				if start <= at+int64(i) {
					doc++
				}
			}
			if first < 0 {
				first = doc
			}
			if g != doc-first {
				t.Errorf("window at %d: segments %v", at, got)
				break
			}
		}
	}
	raw := filepath.Join(t.TempDir(), "raw")
	file, err := store.Create(raw, 100)
	if err != nil {
		t.Fatal(err)
	}
	file.Append(make([]int32, 50), 0)
	unknown, err := file.Finish()
	if err != nil {
		t.Fatal(err)
	}
	defer unknown.Close()
	if _, err := newWindows(t, unknown, Sequential{}, 2, 5).WithSegments(); err == nil {
		t.Error("segments of a stream without documents")
	}
}

func TestNewWindowsRefuses(t *testing.T) {
	for _, c := range []struct{ n, b, t int }{{10, 1, 10}, {10, 0, 5}, {10, 1, 0}, {1, 1, 1}} {
		if _, err := NewWindows(counting(t, c.n), Sequential{}, c.b, c.t); err == nil {
			t.Errorf("%d×%d of %d tokens: no error", c.b, c.t, c.n)
		}
	}
}

// take reads batches from a loader and returns the first token of each.
func take(t *testing.T, l *Loader[Batch], n int) (first []int32) {
	t.Helper()
	for range n {
		b, err := l.Next()
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, b.Tokens[0])
	}
	return first
}

func TestLoaderGivesWhatTheSamplerGives(t *testing.T) {
	s := counting(t, 1000)
	for _, order := range orders {
		for _, depth := range []int{0, 1, 2, 5} {
			w := newWindows(t, s, order, 3, 10)
			l := NewLoader(w, depth)
			var want Batch
			for i := range int64(50) {
				if w.Batches() > 0 && i == w.Batches() {
					for range 2 {
						if _, err := l.Next(); err != ErrEnd {
							t.Errorf("%v: after the last batch: %v", w, err)
						}
					}
					break
				}
				got, err := l.Next()
				if err != nil {
					t.Fatal(err)
				}
				runtime.Gosched() // the loader must leave this batch alone
				if err := w.Batch(i, &want); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.Tokens, want.Tokens) || !slices.Equal(got.Targets, want.Targets) || got.B != want.B {
					t.Fatalf("%v: batch %d differs", w, i)
				}
				if l.State().Next != i+1 {
					t.Fatalf("%v: state %+v after batch %d", w, l.State(), i)
				}
			}
			l.Close()
		}
	}
}

func TestLoaderResumes(t *testing.T) {
	s := counting(t, 1000)
	for _, order := range orders {
		w := newWindows(t, s, order, 2, 10)
		n := 12
		if b := int(w.Batches()); b > 0 {
			n = min(n, b)
		}
		whole := NewLoader(w, 2)
		want := take(t, whole, n)
		whole.Close()
		for stop := range n {
			a := NewLoader(w, 2)
			got := take(t, a, stop)
			saved := a.State()
			a.Close()
			b := NewLoader(newWindows(t, s, order, 2, 10), 3)
			take(t, b, 1) // restored in the middle of other work
			if err := b.Restore(saved); err != nil {
				t.Fatal(err)
			}
			if got = append(got, take(t, b, n-stop)...); !slices.Equal(got, want) {
				t.Errorf("%v: stopped after %d: %v, want %v", w, stop, got, want)
			}
			b.Close()
		}
	}
}

func TestLoaderRefusesAnotherRunsPlace(t *testing.T) {
	s := counting(t, 1000)
	l := NewLoader(newWindows(t, s, Random{1}, 2, 10), 2)
	defer l.Close()
	take(t, l, 3)
	place := l.State()
	for _, w := range []*Windows{
		newWindows(t, s, Random{2}, 2, 10), newWindows(t, s, Shuffled{1}, 2, 10), newWindows(t, s, Random{1}, 3, 10),
		newWindows(t, s, Random{1}, 2, 11), newWindows(t, counting(t, 999), Random{1}, 2, 10),
	} {
		other := NewLoader(w, 2)
		if err := other.Restore(place); err == nil || !strings.Contains(err.Error(), "same data and batch settings") {
			t.Errorf("%v takes the place of %v: %v", w, place, err)
		}
		if got := take(t, other, 1); len(got) != 1 {
			t.Error("a refused Restore does harm")
		}
		other.Close()
	}
	if err := l.Restore(State{Next: -1, Sampler: place.Sampler}); err == nil {
		t.Error("a place before the first batch")
	}
}

// failing fails at a batch.
type failing struct{ at int64 }

var errBroken = errors.New("broken")

func (f failing) Batch(i int64, b *Batch) error {
	if i == f.at {
		return errBroken
	}
	b.resize(1, 1, false)
	b.Tokens[0] = int32(i)
	return nil
}

func (f failing) String() string { return "failing" }

func TestLoaderCarriesErrors(t *testing.T) {
	l := NewLoader(failing{5}, 2)
	if got := take(t, l, 5); !slices.Equal(got, []int32{0, 1, 2, 3, 4}) {
		t.Errorf("before the error: %v", got)
	}
	for range 3 {
		if _, err := l.Next(); err != errBroken {
			t.Errorf("error %v", err)
		}
	}
	if l.State().Next != 5 {
		t.Errorf("state %+v", l.State())
	}
	if err := l.Restore(State{6, "failing"}); err != nil { // beyond the broken one
		t.Fatal(err)
	}
	if got := take(t, l, 2); !slices.Equal(got, []int32{6, 7}) {
		t.Errorf("after the error: %v", got)
	}
	l.Close()
	l.Close()
	if _, err := l.Next(); err == nil {
		t.Error("Next after Close")
	}
	if err := l.Restore(State{0, "failing"}); err == nil {
		t.Error("Restore after Close")
	}
}

func TestLoaderLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWindows(t, counting(t, 1000), Random{1}, 2, 10)
	for n := range 50 {
		l := NewLoader(w, 2)
		take(t, l, n%5)
		l.Close()
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, before there were %d", after, before)
	}
}

func TestLoaderAllocatesNothing(t *testing.T) {
	for _, order := range []Order{Random{1}, Sequential{}, Shuffled{1}} {
		w, err := newWindows(t, counting(t, 100_000), order, 8, 64).WithSegments()
		if err != nil {
			t.Fatal(err)
		}
		l := NewLoader(w, 2)
		take(t, l, 10)
		if n := testing.AllocsPerRun(200, func() {
			if _, err := l.Next(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v: %g allocations per batch", order, n)
		}
		l.Close()
	}
}

func BenchmarkBatch(b *testing.B) {
	s, err := store.FromSlice(make([]int32, 50<<20), 50257, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for _, order := range []Order{Random{1}, Sequential{}, Shuffled{1}} {
		b.Run(strings.Fields(order.String())[0], func(b *testing.B) {
			w := newWindows(b, s, order, 8, 256)
			var batch Batch
			i := int64(0)
			for b.Loop() {
				if err := w.Batch(i, &batch); err != nil {
					b.Fatal(err)
				}
				i++
			}
			b.ReportMetric(float64(8*i)/b.Elapsed().Seconds(), "windows/s")
		})
	}
}

func BenchmarkLoader(b *testing.B) {
	s, err := store.FromSlice(make([]int32, 50<<20), 50257, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l := NewLoader(newWindows(b, s, Random{1}, 8, 256), 2)
	defer l.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Next(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(8*b.N)/b.Elapsed().Seconds(), "windows/s")
}
