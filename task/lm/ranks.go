package lm

import (
	"errors"
	"fmt"

	"hasten/data/sample"
	"hasten/engine/memory"
	"hasten/learn/average"
	"hasten/learn/optim"
	"hasten/scale/dist"
)

// ranks are the other ranks of a job, goroutines with replicas of its model. All
// that a user sees happens on rank 0; see dist.Zero.
type ranks struct {
	zero *dist.Zero
	wait func(error) error // for the others
}

// spread lets the job train on all its ranks. Each draws its rows of every
// batch: together they take the windows that one rank would.
func (j *Job) spread() error {
	if j.rank > 0 || !j.distributed() {
		return nil
	}
	first, wait := dist.Start(j.Dist.Ranks(), j.follow)
	o := j.Dist.Options()
	o.States = j.Loop.Arena // so that the log tells the memory of rank 0
	zero, err := dist.New(first, j.Loop, o)
	if err != nil {
		return wait(err)
	}
	j.ranks = &ranks{zero, wait}
	return nil
}

// follow is the life of another rank.
func (j *Job) follow(c *dist.Comm) error {
	s, err := Resolve(j.Recipe) // parts of its own, since they hold state
	if err != nil {
		return err
	}
	r := &Job{Settings: s, Tokenizer: j.Tokenizer, Data: j.Data, rank: c.Rank()}
	arena := new(memory.Arena)
	if err := r.openModel(arena); err != nil {
		return err
	}
	if err := r.build(arena); err != nil {
		return err
	}
	defer r.feed.close()
	z, err := dist.New(c, r.Loop, s.Dist.Options())
	if err != nil {
		return err
	}
	return z.Follow()
}

// end ends the other ranks and puts the trained weights into the job's model. A
// second call does nothing, nor does one without other ranks.
func (r *ranks) end() error {
	if r == nil || r.wait == nil {
		return nil
	}
	wait := r.wait
	r.wait = nil
	return wait(r.zero.Stop(nil))
}

// distributed tells whether dist.Zero trains. With one rank that is still Adam in
// mixed precision.
func (s *Settings) distributed() bool {
	_, single := s.Dist.(*dist.Single)
	return !single
}

// agreeRanks checks the settings that several ranks must agree with.
func (s *Settings) agreeRanks() error {
	if !s.distributed() {
		return nil
	}
	n := s.Dist.Ranks()
	_, adamw := s.Optimizer.(*optim.AdamW)
	_, plain := s.Average.(*average.None)
	_, inOrder := s.Sampler.(*ordered)
	switch {
	case s.Batch%n != 0:
		return fmt.Errorf("batch=%d cannot be divided among dist.ranks=%d", s.Batch, n)
	case !inOrder:
		return errors.New("with dist=ddp and dist=zero the sampler is random, shuffled or sequential: the choice of another would differ from rank to rank")
	case !adamw:
		return errors.New("with dist=ddp and dist=zero weights are moved by optim=adamw")
	case !plain:
		return errors.New("with dist=ddp and dist=zero there is no average: no rank has whole weights to average")
	}
	return nil
}

// ofRank is the order of the windows that this rank takes: rank r of n has rows
// r·b/n … of every batch of b.
func (j *Job) ofRank(o sample.Order) sample.Order {
	n := j.Dist.Ranks()
	if n == 1 {
		return o
	}
	rows := int64(j.Batch / n)
	return rowsOf{o, rows, int64(n), int64(j.rank) * rows}
}

// rowsOf takes some rows, from the first on, of every batch of rows·ranks.
type rowsOf struct {
	sample.Order
	rows, ranks, first int64
}

// Start returns the place of window k of this rank.
func (o rowsOf) Start(k, places int64, length int) int64 {
	return o.Order.Start(k/o.rows*o.rows*o.ranks+o.first+k%o.rows, places, length)
}

// String does not name the rank: the place of all of them in the data is one.
func (o rowsOf) String() string { return fmt.Sprintf("%v on %d ranks", o.Order, o.ranks) }
