package sample

import (
	"errors"
	"fmt"
	"sync"
)

// Loader prepares batches ahead, in its own goroutine and in a ring of
// buffers that it reuses. Only one goroutine may use it.
type Loader[B any] struct {
	sampler Sampler[B]
	depth   int
	last    int64 // batches there are, 0 for no end
	next    int64 // number of the batch that Next returns next
	current *slot[B]

	free  chan *slot[B] // to be filled
	ready chan *slot[B] // filled, in order
	stop  chan struct{}
	ended sync.WaitGroup
}

type slot[B any] struct {
	batch B
	err   error
}

// State is a Loader's place in its sequence of batches.
type State struct {
	Next    int64  `json:"next"`    // number of the next batch
	Sampler string `json:"sampler"` // what the batches are drawn by
}

// ErrEnd is what Next returns after the last batch of a sampler that has one.
var ErrEnd = errors.New("no more batches")

// errClosed is what Next returns after Close.
var errClosed = errors.New("the loader is closed")

// NewLoader starts a loader at batch 0. It keeps depth batches prepared
// besides the one in use; 2 is enough to hide the work. A sampler with a
// method Batches that is above 0 ends after so many.
func NewLoader[B any](s Sampler[B], depth int) *Loader[B] {
	l := &Loader[B]{sampler: s, depth: max(depth, 1)}
	if end, ok := s.(interface{ Batches() int64 }); ok {
		l.last = end.Batches()
	}
	l.free = make(chan *slot[B], l.depth+1)
	l.ready = make(chan *slot[B], l.depth+1)
	for range l.depth + 1 {
		l.free <- new(slot[B])
	}
	l.start()
	return l
}

// start lets the goroutine go on at batch next.
func (l *Loader[B]) start() {
	l.stop = make(chan struct{})
	stop, first := l.stop, l.next
	l.ended.Go(func() {
		for i := first; l.last == 0 || i <= l.last; i++ {
			var s *slot[B]
			select {
			case <-stop:
				return
			case s = <-l.free:
			}
			if l.last > 0 && i == l.last {
				s.err = ErrEnd
			} else {
				s.err = l.sampler.Batch(i, &s.batch)
			}
			l.ready <- s // never blocks: there are no more slots than room
			if s.err != nil {
				return
			}
		}
	})
}

// Next returns the next batch, which stays as it is until the following call.
// After an error, which may be ErrEnd, it returns that error again. It
// allocates nothing once every buffer has been used.
func (l *Loader[B]) Next() (*B, error) {
	if l.stop == nil {
		return nil, errClosed
	}
	if l.current != nil && l.current.err == nil {
		l.free <- l.current
		l.current = nil
	}
	if l.current == nil {
		l.current = <-l.ready
	}
	if err := l.current.err; err != nil {
		return nil, err
	}
	l.next++
	return &l.current.batch, nil
}

// State returns the place to save in a checkpoint: batches that were prepared
// and not yet returned by Next do not count.
func (l *Loader[B]) State() State { return State{l.next, l.sampler.String()} }

// Restore goes to a saved place. It fails if the sampler has other settings
// than the one the place was saved with, since the batches would then differ.
func (l *Loader[B]) Restore(s State) error {
	switch {
	case l.stop == nil:
		return errClosed
	case s.Sampler != l.sampler.String():
		return fmt.Errorf("the saved run drew its batches by %q, this one draws them by %q; resume with the same data and batch settings", s.Sampler, l.sampler)
	case s.Next < 0 || l.last > 0 && s.Next > l.last:
		return fmt.Errorf("the saved run is at batch %d; there are %d", s.Next, l.last)
	}
	l.halt()
	l.next = s.Next
	l.start()
	return nil
}

// halt ends the goroutine and takes back all slots.
func (l *Loader[B]) halt() {
	close(l.stop)
	l.ended.Wait()
	if l.current != nil {
		l.free <- l.current
		l.current = nil
	}
	for len(l.ready) > 0 {
		l.free <- <-l.ready
	}
}

// Close ends the loader's goroutine. Batches it returned are no longer valid
// for use with it; a second Close does nothing.
func (l *Loader[B]) Close() {
	if l.stop != nil {
		l.halt()
		l.stop = nil
	}
}
