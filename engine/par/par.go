// Package par runs the independent pieces of one computation on all cores.
//
// Work is cut by its size, never by the number of workers, and a piece writes
// only its own part of the output. So the result of a loop is the same, bit
// for bit, for any number of workers. Start with Loop:
//
//	type scaleArgs struct{ x []float32; a float32 }
//	var scaleLoop par.Loop[scaleArgs]
//
//	func Scale(x []float32, a float32) {
//		scaleLoop.Run(par.Pieces(len(x), 4096), scaleArgs{x, a}, func(s *scaleArgs, i int) {
//			lo, hi := par.Bounds(i, 4096, len(s.x))
//			...
//		})
//	}
//
// The body must not capture variables: everything it needs travels in the
// arguments. Then a loop allocates nothing after its first run.
package par

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Width is the number of pieces that can run at once: GOMAXPROCS.
func Width() int { return runtime.GOMAXPROCS(0) }

// Pieces is the number of pieces of at most grain items that n items make.
func Pieces(n, grain int) int { return (n + grain - 1) / grain }

// Bounds is the half-open range of items of piece i.
func Bounds(i, grain, n int) (lo, hi int) { return i * grain, min((i+1)*grain, n) }

// Loop runs a body over pieces 0 … n-1 with arguments of type A. Its zero
// value is ready for use; it is meant to be a package-level variable. Run may
// be called from several goroutines and from inside a body.
type Loop[A any] struct {
	mu   sync.Mutex
	free []*loopJob[A]
}

// loopJob is one run of a Loop: its arguments and its progress.
type loopJob[A any] struct {
	job
	loop *Loop[A]
	args A
	body func(*A, int)
}

func (j *loopJob[A]) do(i int) { j.body(&j.args, i) }

func (j *loopJob[A]) recycle() {
	var zero A
	j.args = zero // keep no buffer alive
	j.loop.mu.Lock()
	j.loop.free = append(j.loop.free, j)
	j.loop.mu.Unlock()
}

// Run calls body(&args, i) once for every i in [0, n) and returns when all
// calls have returned. A panic in a body is raised again in the caller.
func (l *Loop[A]) Run(n int, args A, body func(a *A, i int)) {
	if n <= 0 {
		return
	}
	l.mu.Lock()
	var j *loopJob[A]
	if k := len(l.free); k > 0 {
		j = l.free[k-1]
		l.free = l.free[:k-1]
	}
	l.mu.Unlock()
	if j == nil {
		j = &loopJob[A]{loop: l}
		j.wake = make(chan struct{}, 1)
		j.self = j
	}
	j.args, j.body = args, body
	j.run(n)
}

// piece is what a job offers to the workers.
type piece interface {
	do(i int)
	recycle()
}

// job is the part of a loopJob that does not depend on the argument type.
type job struct {
	self     piece
	n        int64
	next     atomic.Int64 // next piece to claim
	done     atomic.Int64 // pieces finished
	refs     atomic.Int64 // the caller and the invitations not yet answered
	sleeping atomic.Bool
	wake     chan struct{}
	failed   atomic.Pointer[failure]
}

type failure struct{ value any }

func (j *job) run(n int) {
	j.n = int64(n)
	j.next.Store(0)
	j.done.Store(0)
	j.sleeping.Store(false)
	helpers := min(Width(), n) - 1
	j.refs.Store(int64(helpers) + 1)
	for range helpers {
		if !workers.invite(j) {
			j.refs.Add(-1)
		}
	}
	j.work()
	j.wait()
	f := j.failed.Swap(nil)
	j.release()
	if f != nil {
		panic(f.value)
	}
}

// work claims and runs pieces until none is left.
func (j *job) work() {
	for {
		i := j.next.Add(1) - 1
		if i >= j.n {
			return
		}
		j.one(int(i))
	}
}

func (j *job) one(i int) {
	defer func() {
		if v := recover(); v != nil {
			j.failed.CompareAndSwap(nil, &failure{v})
		}
		if j.done.Add(1) == j.n && j.sleeping.Load() {
			select {
			case j.wake <- struct{}{}:
			default:
			}
		}
	}()
	j.self.do(i)
}

// spins is how often a waiter looks before it sleeps: a few microseconds,
// about what parking and waking a goroutine costs.
const spins = 4000

func (j *job) wait() {
	for range spins {
		if j.done.Load() == j.n {
			return
		}
	}
	j.sleeping.Store(true)
	for j.done.Load() != j.n {
		<-j.wake
	}
	select { // a late wake-up must not meet the job's next run
	case <-j.wake:
	default:
	}
}

func (j *job) release() {
	if j.refs.Add(-1) == 0 {
		j.self.recycle()
	}
}

// workers is the process-wide pool. It grows to the largest width asked for.
var workers pool

type pool struct {
	once    sync.Once
	calls   chan *job
	mu      sync.Mutex
	started atomic.Int64
}

// invitations is how many may wait unanswered. Each holds on to its job, so the
// number bounds the jobs that a lagging worker keeps from being used again.
const invitations = 64

// invite asks a worker to help with j; it reports false when the queue is full.
func (p *pool) invite(j *job) bool {
	p.once.Do(func() { p.calls = make(chan *job, invitations) })
	if want := int64(Width() - 1); p.started.Load() < want {
		p.mu.Lock()
		for p.started.Load() < want {
			go p.serve()
			p.started.Add(1)
		}
		p.mu.Unlock()
	}
	select {
	case p.calls <- j:
		return true
	default:
		return false
	}
}

func (p *pool) serve() {
	for {
		j := p.next()
		j.work()
		j.release()
	}
}

// next waits for a job: briefly awake, since a training step calls loops in
// close succession, then asleep.
func (p *pool) next() *job {
	for range spins {
		select {
		case j := <-p.calls:
			return j
		default:
		}
	}
	return <-p.calls
}
