// Package job measures a paper on this machine, one at a time, while others
// watch.
//
//	r := job.New(measure)
//	err := r.Start("adan", true)
//	state := r.State() // as often as you like
//	r.Stop()
package job

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"hasten/lab/result"
)

// Measure measures a paper, says how it gets on, one line at a time, and stops
// when its context is done.
type Measure func(ctx context.Context, slug string, quick bool, progress func(line string)) (result.Result, error)

// State is how far the newest measurement has come.
type State struct {
	Version int    // grows with every change but that of Seconds
	Slug    string // "": there was none yet
	Quick   bool
	Begun   time.Time
	Seconds float64
	Lines   []string // of progress, the last 200
	Phase   Phase
	Error   string         // why it failed
	Result  *result.Result // once it is done
}

// Phase is what becomes of a measurement.
type Phase string

// The phases.
const (
	Running  Phase = "running"
	Stopping Phase = "stopping" // asked to stop, and has not yet
	Done     Phase = "done"
	Stopped  Phase = "stopped"
	Failed   Phase = "failed"
)

// Active reports whether it is still under way.
func (s State) Active() bool { return s.Phase == Running || s.Phase == Stopping }

// maxLines bounds what is kept of the progress.
const maxLines = 200

// ErrBusy is the error of Start while a measurement is under way: two at once
// would spoil each other's timings.
var ErrBusy = errors.New("another measurement is under way")

// Runner runs measurements. It is safe for concurrent use.
type Runner struct {
	measure Measure

	mu     sync.Mutex
	state  State
	cancel context.CancelFunc
	ended  chan struct{} // closed when the newest measurement has ended
}

// New returns a runner of measurements.
func New(measure Measure) *Runner { return &Runner{measure: measure} }

// State is the newest state.
func (r *Runner) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	if s.Active() {
		s.Seconds = time.Since(s.Begun).Seconds()
	}
	return s
}

// update changes the state.
func (r *Runner) update(change func(*State)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Version++
	change(&r.state)
}

// Start begins to measure a paper, or returns ErrBusy.
func (r *Runner) Start(slug string, quick bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Active() {
		return ErrBusy
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.cancel, r.ended = cancel, ended
	r.state = State{Version: r.state.Version + 1, Slug: slug, Quick: quick, Begun: time.Now(), Phase: Running}
	go func() {
		defer close(ended)
		defer cancel()
		res, err := r.measure(ctx, slug, quick, r.progress)
		r.update(func(s *State) {
			s.Seconds = time.Since(s.Begun).Seconds()
			switch {
			case err == nil:
				s.Phase, s.Result = Done, &res
			case s.Phase == Stopping:
				s.Phase = Stopped
			default:
				s.Phase, s.Error = Failed, err.Error()
			}
		})
	}()
	return nil
}

// Stop interrupts the measurement that is under way and returns at once.
func (r *Runner) Stop() {
	r.mu.Lock()
	active, cancel := r.state.Active(), r.cancel
	r.mu.Unlock()
	if active {
		r.update(func(s *State) {
			if s.Active() {
				s.Phase = Stopping
			}
		})
		cancel()
	}
}

// Close stops what is under way and waits until it has ended.
func (r *Runner) Close() {
	r.Stop()
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// progress adds a line.
func (r *Runner) progress(line string) {
	r.update(func(s *State) {
		old := s.Lines[max(0, len(s.Lines)-maxLines+1):]
		s.Lines = append(slices.Clone(old), line) // others hold the old ones
	})
}
