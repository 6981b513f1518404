package dist

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/learn/loop"
	"hasten/learn/optim"
)

// What rank 0 tells the others to do.
const (
	doPass    = iota + 1 // forward and backward; the random stream's seed, id and offset
	doSum                // sum the gradients
	doStep               // update; number, learning rate, factor on the gradient
	doGather             // a layer's weights, for rank 0 alone
	doCollect            // send the optimiser's states to rank 0
	doSpread             // receive them from rank 0
	doSeek               // go to a place in the data; its length
	doStop
)

// order is what rank 0 sends before everything that all ranks do together.
func (z *Zero) order(what uint64, args ...uint64) error {
	if z.whole != nil {
		z.giveBack()
	}
	clear(z.orders[:])
	z.orders[0] = what
	copy(z.orders[1:], args)
	return z.control(z.orders[:])
}

// control is Bcast from rank 0, for orders.
func (z *Zero) control(words []uint64) error {
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseControl))
	if z.err == nil {
		z.fail(Bcast(z.c, words, 0))
	}
	return z.err
}

// Params are none: no rank holds a whole parameter.
func (z *Zero) Params() []*grad.Param { return nil }

// Next makes rank 0's part of a batch current. The items are those of all parts.
func (z *Zero) Next() (int, error) {
	if z.err != nil {
		return 0, z.err
	}
	n, err := z.task.Next()
	return n * z.Ranks, err
}

// EpochItems are those of rank 0's task, where it tells: it must count the data
// of all ranks.
func (z *Zero) EpochItems() int64 {
	if t, ok := z.task.(loop.Sized); ok {
		return t.EpochItems()
	}
	return 0
}

// Loss computes the mean loss over all ranks, and that of the samples of rank 0.
func (z *Zero) Loss(t *grad.Tape) (*grad.Var, []float32, error) {
	if err := z.order(doPass, t.Rand.Seed, t.Rand.ID, t.Rand.Offset); err != nil {
		return nil, nil, err
	}
	return z.forward(t)
}

// forward runs the forward pass on this rank's part of the batch.
func (z *Zero) forward(t *grad.Tape) (*grad.Var, []float32, error) {
	z.begin()
	l, perSample, err := z.task.Loss(t)
	z.release()
	if z.fail(err) != nil {
		return nil, nil, z.err
	}
	z.perRank[z.c.Rank()] = float64(l.Data[0])
	z.share()
	var sum float64
	for _, x := range z.perRank {
		sum += x
	}
	l.Data[0] = float32(sum / float64(z.Ranks))
	return l, perSample, z.err
}

// weigh tells all ranks the weight of the batch.
func (z *Zero) weigh(s *loop.State) error {
	z.orders[0] = math.Float64bits(s.LossWeight)
	return z.control(z.orders[:1])
}

// Follow does what rank 0 says until that calls Stop. It uses the arena, the
// policy and the task of the loop given to New.
func (z *Zero) Follow() error {
	z.tape = grad.NewTape(z.loop.Arena)
	if z.loop.Policy != nil {
		z.tape.Policy = z.loop.Policy
	}
	for !z.stopped {
		if err := z.control(z.orders[:]); err != nil {
			return err
		}
		if err := z.fail(z.obey(z.orders[0], z.orders[1:])); err != nil {
			return err
		}
	}
	return nil
}

func (z *Zero) obey(what uint64, args []uint64) error {
	switch what {
	case doPass:
		return z.pass(rng.Stream{Seed: args[0], ID: args[1], Offset: args[2]})
	case doSum:
		z.finish()
	case doStep:
		z.update(optim.Step{N: int(args[0]), LR: math.Float64frombits(args[1]), GradScale: math.Float64frombits(args[2])})
	case doGather:
		if z.stage == 3 {
			z.load(int(args[0]))
			z.release()
		}
	case doCollect:
		return z.sendStates()
	case doSpread:
		return z.receiveStates()
	case doSeek:
		place := make([]byte, args[0])
		if err := Bcast(z.c, place, 0); err != nil {
			return err
		}
		return z.seek(place)
	case doStop:
		z.stopped = true
		return z.giveUp()
	default:
		return fmt.Errorf("dist: rank 0 says %d, which means nothing: the ranks are not at the same place", what)
	}
	return nil
}

// pass computes the gradients of this rank's part of the next batch.
func (z *Zero) pass(random rng.Stream) error {
	_, err := z.task.Next()
	if errors.Is(err, io.EOF) { // an epoch has ended
		_, err = z.task.Next()
	}
	if err != nil {
		return err
	}
	z.tape.Rand = random.Split(uint64(z.c.Rank()))
	defer z.tape.Reset()
	l, _, err := z.forward(z.tape)
	if err != nil {
		return err
	}
	if err := z.control(z.orders[:1]); err != nil {
		return err
	}
	z.tape.BackwardScaled(l, float32(math.Float64frombits(z.orders[0])))
	return z.flush()
}

// Position is that of rank 0's task; the others are at the same batch.
func (z *Zero) Position() (json.RawMessage, error) {
	if t, ok := z.task.(loop.Resumable); ok {
		return t.Position()
	}
	return nil, nil
}

// Seek moves the tasks of all ranks.
func (z *Zero) Seek(place json.RawMessage) error {
	if err := z.order(doSeek, uint64(len(place))); err != nil {
		return err
	}
	if err := z.fail(Bcast(z.c, []byte(place), 0)); err != nil {
		return err
	}
	return z.fail(z.seek(place))
}

func (z *Zero) seek(place json.RawMessage) error {
	if t, ok := z.task.(loop.Resumable); ok {
		return t.Seek(place)
	}
	return nil
}

// Stop ends the other ranks' Follow, puts the trained weights, as rounded, into
// rank 0's parameters, and frees the states. It is given the error of the loop's
// run: with one it makes all ranks fail. It returns that error or its own.
func (z *Zero) Stop(err error) error {
	if z.stopped {
		return err
	}
	z.stopped = true
	if err == nil && z.passing {
		err = errors.New("dist: training broke off in the middle of a step")
	}
	if z.fail(err) != nil || z.order(doStop) != nil {
		return z.err
	}
	return z.giveUp()
}

// giveUp ends the care for the parameters.
func (z *Zero) giveUp() error {
	z.passing = true // all ranks load together
	for k, l := range z.layers {
		z.load(k)
		for _, i := range l.params {
			p := z.params[i]
			p.Keep(nil, 0)
			if z.c.Rank() > 0 {
				continue
			}
			p.Data = z.loop.Arena.Dirty(memory.Weights, p.Len())
			copy(p.Data, z.work[z.at[i]-l.lo:])
			p.Grad = z.loop.Arena.Dirty(memory.Gradients, p.Len())
			p.ZeroGrad()
		}
		z.states.Free(memory.Weights, z.work)
		z.work, z.resident = nil, -1
	}
	z.passing = false
	z.freeHalves(memory.Weights, z.weights)
	z.freeHalves(memory.Gradients, z.grads)
	for _, x := range [][]float32{z.master, z.m, z.v} {
		z.states.Free(memory.Optimizer, x)
	}
	z.weights, z.grads, z.master, z.m, z.v = nil, nil, nil, nil, nil
	return z.err
}
