package sample

import (
	"fmt"
	"sort"

	"hasten/data/store"
)

// Windows draws batches of windows of T+1 tokens, of which the first T are
// seen and the last T are the targets. Row r of batch i is window i*B+r of the
// order, so a sequential order gives the windows of T tokens in file order.
type Windows struct {
	tokens   *store.Tokens
	order    Order
	b, t     int
	segments bool
	rows     int64 // windows in all, 0 for no end
}

var _ Sampler[Batch] = (*Windows)(nil)

// NewWindows returns a sampler of B×T batches. It fails if the stream is
// shorter than one window.
func NewWindows(tokens *store.Tokens, order Order, b, t int) (*Windows, error) {
	if b < 1 || t < 1 {
		return nil, fmt.Errorf("batches of %d windows of %d tokens: want at least one of each", b, t)
	}
	if tokens.Len() <= int64(t) {
		return nil, fmt.Errorf("%v: a window of %d and the token after it do not fit; give more data or shorten the context", tokens, t)
	}
	w := &Windows{tokens: tokens, order: order, b: b, t: t}
	if s, ok := order.(Spread); ok {
		w.rows = s.count(windows(w.places(), t))
	}
	return w, nil
}

// WithSegments makes the batches carry document numbers. It fails if the
// stream does not know where its documents begin.
func (w *Windows) WithSegments() (*Windows, error) {
	if w.tokens.Starts() == nil {
		return nil, fmt.Errorf("%v: it is not known where documents begin", w.tokens)
	}
	c := *w
	c.segments = true
	return &c, nil
}

// places is the number of positions where a window with its last target fits.
func (w *Windows) places() int64 { return w.tokens.Len() - int64(w.t) }

// Epoch is the number of windows that hold every token once as a target, but
// for the first and a rest shorter than T.
func (w *Windows) Epoch() int64 { return windows(w.places(), w.t) }

// Batches is the number of batches: with Spread what it takes to see each of
// its windows once, the last batch being smaller if need be; else 0, no end.
func (w *Windows) Batches() int64 { return (w.rows + int64(w.b) - 1) / int64(w.b) }

// Batch fills b with batch i.
func (w *Windows) Batch(i int64, b *Batch) error {
	first, rows := i*int64(w.b), w.b
	if i < 0 || w.rows > 0 && first >= w.rows {
		return fmt.Errorf("no batch %d; there are %d", i, w.Batches())
	}
	if w.rows > 0 {
		rows = int(min(int64(rows), w.rows-first))
	}
	b.resize(rows, w.t, w.segments)
	for r := range rows {
		if err := w.read(b, r, w.order.Start(first+int64(r), w.places(), w.t)); err != nil {
			return err
		}
	}
	return nil
}

// Pick fills b with the windows of the given numbers, from 0 to Epoch()-1 in
// file order, whatever the order of the batches: the samples of a Selector.
func (w *Windows) Pick(ids []int32, b *Batch) error {
	b.resize(len(ids), w.t, w.segments)
	for r, id := range ids {
		if err := w.read(b, r, int64(id)*int64(w.t)); err != nil {
			return err
		}
	}
	return nil
}

// read fills row r with the window at a place.
func (w *Windows) read(b *Batch, r int, at int64) error {
	if err := w.tokens.Read(b.window, at); err != nil {
		return err
	}
	b.Starts[r] = at
	copy(b.Tokens[r*w.t:], b.window[:w.t])
	copy(b.Targets[r*w.t:(r+1)*w.t], b.window[1:])
	if w.segments {
		number(b.Segments[r*w.t:(r+1)*w.t], at, w.tokens.Starts())
	}
	return nil
}

// number writes the number of the document at each position from at on,
// counted from the first one in the window.
func number(segments []int32, at int64, starts []int64) {
	next := sort.Search(len(starts), func(i int) bool { return starts[i] > at })
	var n int32
	for i := range segments {
		if next < len(starts) && starts[next] == at+int64(i) {
			n++
			next++
		}
		segments[i] = n
	}
}

// String tells the settings.
func (w *Windows) String() string {
	s := fmt.Sprintf("%v, %d×%d of %d tokens", w.order, w.b, w.t, w.tokens.Len())
	if w.segments {
		s += ", segments"
	}
	return s
}
