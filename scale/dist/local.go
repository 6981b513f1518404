package dist

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Run calls f on n ranks, each a goroutine of its own, and returns when all have
// returned. When one fails, the operations of the others fail too; Run returns
// the first failure, with its rank.
func Run(n int, f func(c *Comm) error) error {
	if n < 1 {
		return fmt.Errorf("dist: %d ranks; there must be one at least", n)
	}
	first, end := Start(n, f)
	return end(f(first))
}

// Start calls f on the ranks from 1 on, each a goroutine of its own, and returns
// the Comm of rank 0, which is the caller's. In the end the caller must give end
// its error, or nil; end waits for the other ranks and returns what Run would.
func Start(n int, f func(c *Comm) error) (first *Comm, end func(error) error) {
	g := newGroup(n)
	done := func(rank int, err error) {
		if err != nil {
			g.fail(fmt.Errorf("rank %d: %w", rank, err))
		}
		g.leave(rank)
	}
	var wait sync.WaitGroup
	for r := 1; r < n; r++ {
		wait.Go(func() { done(r, f(newComm(&local{g, r}))) })
	}
	return newComm(&local{g, 0}), func(err error) error {
		done(0, err)
		wait.Wait()
		return g.failure()
	}
}

// group is what goroutine ranks share.
type group struct {
	n       int
	pairs   []pair // of sender and receiver: sender·n + receiver
	members []int  // their ranks in the group this one was split from; nil: none

	mu     sync.Mutex
	err    error // why the group failed
	splits map[splitKey]*group
}

type splitKey struct{ number, color int }

func newGroup(n int) *group {
	return &group{n: n, pairs: make([]pair, n*n), splits: map[splitKey]*group{}}
}

// pair is the messages from one rank to another that wait for their other half:
// all are sends, or all are receives.
type pair struct {
	mu      sync.Mutex
	waiting []*message
	free    []*message
	closed  error // why no more messages come through
}

// message is one half of a message, and the Handle to it.
type message struct {
	pair *pair
	b    []byte
	sum  kind
	send bool
	err  error
	done chan struct{}
}

// Wait waits for the other half.
func (m *message) Wait() error {
	<-m.done
	err := m.err
	m.b, m.err = nil, nil
	m.pair.mu.Lock()
	m.pair.free = append(m.pair.free, m)
	m.pair.mu.Unlock()
	return err
}

// post brings in one half of a message. Whoever comes second moves the bytes,
// straight from the sender's buffer to the receiver's.
func (p *pair) post(b []byte, sum kind, send bool) (*message, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil {
		return nil, p.closed
	}
	var m *message
	if k := len(p.free); k > 0 {
		m = p.free[k-1]
		p.free = p.free[:k-1]
	} else {
		m = &message{pair: p, done: make(chan struct{}, 1)}
	}
	m.b, m.sum, m.send = b, sum, send
	if len(p.waiting) == 0 || p.waiting[0].send == send {
		p.waiting = append(p.waiting, m)
		return m, nil
	}
	other := p.waiting[0]
	p.waiting = p.waiting[:copy(p.waiting, p.waiting[1:])]
	from, to := m, other
	if !send {
		from, to = other, m
	}
	switch {
	case len(from.b) != len(to.b):
		err := fmt.Errorf("dist: a message of %d bytes where %d are expected", len(from.b), len(to.b))
		from.err, to.err = err, err
	case to.sum == none:
		copy(to.b, from.b)
	default:
		add(to.b, from.b, to.sum)
	}
	m.done <- struct{}{}
	other.done <- struct{}{}
	return m, nil
}

// close lets the halves that wait fail, and all that come.
func (p *pair) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil {
		return
	}
	p.closed = err
	for _, m := range p.waiting {
		m.err = err
		m.done <- struct{}{}
	}
	p.waiting = nil
}

// errLeft is what a rank gets that waits for one that has returned.
var errLeft = errors.New("dist: the other rank has left")

// leave closes a rank's pairs, in the groups split from this one too.
func (g *group) leave(rank int) {
	for other := range g.n {
		g.pairs[rank*g.n+other].close(errLeft)
		g.pairs[other*g.n+rank].close(errLeft)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.splits {
		if i := slices.Index(s.members, rank); i >= 0 {
			s.leave(i)
		}
	}
}

// fail closes everything. The first error stays.
func (g *group) fail(err error) {
	g.mu.Lock()
	if g.err == nil {
		g.err = err
	}
	err = g.err
	splits := g.splits
	g.splits = nil
	g.mu.Unlock()
	for i := range g.pairs {
		g.pairs[i].close(err)
	}
	for _, s := range splits {
		s.fail(err)
	}
}

func (g *group) failure() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// local is the engine of goroutine ranks.
type local struct {
	g  *group
	me int
}

var _ link = (*local)(nil)

func (l *local) rank() int { return l.me }
func (l *local) size() int { return l.g.n }

func (l *local) send(to int, b []byte) (Handle, error) {
	return handle(l.g.pairs[l.me*l.g.n+to].post(b, none, true))
}

func (l *local) receive(from int, b []byte, sum kind) (Handle, error) {
	return handle(l.g.pairs[from*l.g.n+l.me].post(b, sum, false))
}

// handle keeps a nil message from becoming a Handle.
func handle(m *message, err error) (Handle, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// split finds the group that the first of its members made.
func (l *local) split(number, color int, members []int) (link, error) {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return nil, g.err
	}
	key := splitKey{number, color}
	s := g.splits[key]
	if s == nil {
		s = newGroup(len(members))
		s.members = members
		g.splits[key] = s
	}
	return &local{s, slices.Index(members, l.me)}, nil
}

func (l *local) abort(err error) { l.g.fail(err) }
