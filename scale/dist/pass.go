package dist

import (
	"fmt"

	"hasten/engine/memory"
	"hasten/engine/simd"
)

// begin prepares a pass: no gradient is complete.
func (z *Zero) begin() {
	z.release() // what an evaluation has left on rank 0
	z.passing = true
	clear(z.owed)
	clear(z.complete)
	for k, b := range z.buckets {
		z.missing[k] = b.real
	}
	z.next = len(z.buckets) - 1
}

// Fetch has the weights of the operation's layer in place.
func (z *Zero) Fetch(ids []int) {
	k := z.of[ids[0]]
	for _, i := range ids {
		if z.of[i] != k {
			panic(fmt.Sprintf("dist: an operation reads %s and %s, which are in different layers: Options.Layer must name one for both",
				z.params[ids[0]].Name, z.params[i].Name))
		}
	}
	if k == z.resident {
		return
	}
	z.release()
	if !z.passing { // an evaluation on rank 0 alone
		z.order(doGather, uint64(k))
	}
	z.load(k)
	for _, i := range z.layers[k].params {
		lo := z.at[i] - z.layers[k].lo
		z.params[i].Data = z.work[lo : lo+z.size[i]]
	}
}

// load widens the weights of a layer, bucket by bucket. In stage 3 the ranks
// collect it first.
func (z *Zero) load(k int) {
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseWeights))
	l := z.layers[k]
	z.resident = k
	z.work = z.states.Dirty(memory.Weights, l.hi-l.lo)
	for _, b := range z.buckets[l.buckets[0]:l.buckets[1]] {
		to := z.work[b.lo-l.lo : b.hi-l.lo]
		if z.stage < 3 {
			simd.FromBF16(to, z.weights[b.lo:b.hi])
			continue
		}
		whole := z.halves(memory.Weights, b.hi-b.lo)
		lo, hi, at := z.owned(b, 3)
		copy(whole[lo-b.lo:], z.weights[at:at+hi-lo])
		if z.err == nil {
			z.fail(AllGather(z.c, whole))
		}
		simd.FromBF16(to, whole)
		z.freeHalves(memory.Weights, whole)
	}
}

// release gives the widened weights back.
func (z *Zero) release() {
	if z.resident < 0 {
		return
	}
	for _, i := range z.layers[z.resident].params {
		z.params[i].Data = nil
	}
	z.states.Free(memory.Weights, z.work)
	z.work, z.resident = nil, -1
}

// FetchGrad gives a parameter a float32 gradient, for the backward pass to fill.
func (z *Zero) FetchGrad(i int) {
	z.params[i].Grad = z.states.Dirty(memory.Gradients, z.size[i])
	z.params[i].ZeroGrad()
}

// Recorded counts the operations that will add to a gradient.
func (z *Zero) Recorded(i int) { z.owed[i]++ }

// Carried puts a gradient in its buckets when the last of them has.
func (z *Zero) Carried(i int) {
	if z.owed[i]--; z.owed[i] == 0 && !z.complete[i] {
		z.collect(i)
		z.drain()
	}
}

// collect rounds a gradient into its buckets and gives its buffer back. No
// buffer means a gradient of 0.
func (z *Zero) collect(i int) {
	z.complete[i] = true
	p := z.params[i]
	l := z.layers[z.of[i]]
	for k := l.buckets[1] - 1; k >= l.buckets[0]; k-- {
		b := z.buckets[k]
		lo, hi := max(b.lo, z.at[i]), min(b.hi, z.at[i]+z.size[i])
		if lo >= hi {
			continue
		}
		into := z.bucket(k)[lo-b.lo : hi-b.lo]
		switch {
		case p.Grad == nil && (z.fresh || z.stage >= 2):
			clear(into)
		case p.Grad == nil:
		case z.fresh || z.stage >= 2:
			simd.ToBF16(into, p.Grad[lo-z.at[i]:hi-z.at[i]])
		default:
			addRounded(into, p.Grad[lo-z.at[i]:hi-z.at[i]])
		}
		z.missing[k] -= hi - lo
		z.drain()
	}
	if p.Grad != nil {
		z.states.Free(memory.Gradients, p.Grad)
		p.Grad = nil
	}
}

// addRounded sets dst += bf16(x).
func addRounded(dst []uint16, x []float32) {
	var rounded [1024]uint16
	for len(dst) > 0 {
		n := min(len(dst), len(rounded))
		simd.ToBF16(rounded[:n], x[:n])
		addBF16(dst[:n], rounded[:n])
		dst, x = dst[n:], x[n:]
	}
}

// bucket is where the gradients of a bucket come together: their lasting place,
// or from stage 2 on a buffer that lives until they are summed.
func (z *Zero) bucket(k int) []uint16 {
	b := z.buckets[k]
	if z.stage < 2 {
		return z.grads[b.lo:b.hi]
	}
	if z.open[k] == nil {
		z.open[k] = z.halves(memory.Gradients, b.hi-b.lo)
		clear(z.open[k][b.real:])
	}
	return z.open[k]
}

// drain sums the buckets that are full, from the last to the first: all ranks in
// the same order, whatever order their gradients came in.
func (z *Zero) drain() {
	for z.stage >= 2 && z.next >= 0 && z.missing[z.next] == 0 {
		z.scatter(z.next)
		z.next--
	}
}

// scatter sums a bucket into its owners' gradients and frees it.
func (z *Zero) scatter(k int) {
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseGradients))
	if z.err == nil {
		sum, err := ReduceScatter(z.c, z.open[k])
		z.fail(err)
		mine := z.grads[z.buckets[k].lo/z.Ranks:][:len(sum)]
		if z.fresh {
			copy(mine, sum)
		} else {
			addBF16(mine, sum)
		}
	}
	z.freeHalves(memory.Gradients, z.open[k])
	z.open[k] = nil
}

// flush ends a pass: parameters that it did not reach have the gradient 0.
func (z *Zero) flush() error {
	for i := len(z.params) - 1; i >= 0; i-- {
		if !z.complete[i] {
			z.collect(i)
		}
	}
	z.drain()
	z.release()
	z.fresh, z.passing = false, false
	return z.err
}

// sum is what stages 0 and 1 do when all batches of a step are in: the halves of
// an all-reduce, of which stage 1 wants only the first.
func (z *Zero) sum() {
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseGradients))
	for k := len(z.buckets) - 1; k >= 0 && z.stage < 2 && z.err == nil; k-- {
		b := z.buckets[k]
		_, err := ReduceScatter(z.c, z.grads[b.lo:b.hi])
		if err == nil && z.stage == 0 {
			err = AllGather(z.c, z.grads[b.lo:b.hi])
		}
		z.fail(err)
	}
}
