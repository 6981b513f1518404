package dist

import (
	"hasten/engine/simd"
	"hasten/learn/optim"
)

// moments are the arrays that a checkpoint keeps, by name.
var moments = [...]string{"master", "m", "v"}

func (z *Zero) moments() [3][]float32 { return [3][]float32{z.master, z.m, z.v} }

// State collects the float32 weights and the moments from all ranks, as buffers
// of whole parameters. So a checkpoint depends neither on the number of ranks
// nor on the stage. What is written to the buffers goes back to the ranks with
// the next thing that rank 0 does; then they are no longer valid.
func (z *Zero) State() []optim.Buffer {
	if z.whole == nil && z.order(doCollect) == nil {
		z.whole = make([][]float32, len(moments))
		for j, x := range z.moments() {
			z.whole[j] = make([]float32, z.Padded)
			z.fail(z.gather(z.whole[j], x))
		}
	}
	var all []optim.Buffer
	for j := range z.whole {
		for i, p := range z.params {
			all = append(all, optim.Buffer{Name: moments[j] + "." + p.Name, Data: z.whole[j][z.at[i] : z.at[i]+z.size[i]]})
		}
	}
	return all
}

// gather collects an array of the optimiser on rank 0, which has its own share.
func (z *Zero) gather(whole, mine []float32) error {
	if z.stage == 0 {
		copy(whole, mine)
		return nil
	}
	share := make([]float32, len(mine))
	for r := range z.Ranks {
		from := mine
		if r > 0 {
			if err := z.receive(r, share); err != nil {
				return err
			}
			from = share
		}
		for _, b := range z.buckets {
			lo, hi := z.part(b, r)
			copy(whole[lo:hi], from[b.lo/z.Ranks:])
		}
	}
	return nil
}

// giveBack sends what State gave out to the ranks.
func (z *Zero) giveBack() {
	whole := z.whole
	z.whole = nil
	if z.order(doSpread) != nil {
		return
	}
	for j, x := range z.moments() {
		z.fail(z.spread(whole[j], x))
	}
	z.reweigh()
}

// reweigh rounds the weights anew.
func (z *Zero) reweigh() {
	for _, p := range z.pieces {
		simd.ToBF16(z.weights[p.weight:p.weight+p.n], z.master[p.state:p.state+p.n])
	}
	z.shareWeights()
}

// spread is the reverse of gather.
func (z *Zero) spread(whole, mine []float32) error {
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseCopy))
	if z.stage == 0 {
		copy(mine, whole)
		return Bcast(z.c, mine, 0)
	}
	share := make([]float32, len(mine))
	for r := range z.Ranks {
		for _, b := range z.buckets {
			lo, hi := z.part(b, r)
			copy(share[b.lo/z.Ranks:], whole[lo:hi])
		}
		if r == 0 {
			copy(mine, share)
		} else if err := z.transmit(r, share); err != nil {
			return err
		}
	}
	return nil
}

// sendStates is a follower's side of State.
func (z *Zero) sendStates() error {
	for _, x := range z.moments() {
		if z.stage > 0 {
			if err := z.transmit(0, x); err != nil {
				return err
			}
		}
	}
	return nil
}

// receiveStates is a follower's side of giveBack.
func (z *Zero) receiveStates() error {
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseCopy))
	for _, x := range z.moments() {
		err := error(nil)
		if z.stage == 0 {
			err = Bcast(z.c, x, 0)
		} else {
			err = z.receive(0, x)
		}
		if err != nil {
			return err
		}
	}
	z.reweigh()
	return nil
}

func (z *Zero) transmit(to int, x []float32) error {
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseCopy))
	h, err := Send(z.c, to, x)
	if err != nil {
		return err
	}
	return h.Wait()
}

func (z *Zero) receive(from int, x []float32) error {
	h, err := Recv(z.c, from, x)
	if err != nil {
		return err
	}
	return h.Wait()
}
