package dist

import (
	"math"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
	"hasten/learn/loop"
	"hasten/learn/optim"
)

// Rate is the learning rate before the schedule.
func (z *Zero) Rate() float64 { return z.adam.Rate() }

// Init does nothing: New took the states.
func (z *Zero) Init(*memory.Arena, []*grad.Param) error { return nil }

// measure sums the gradients and clips, before a step of rank 0.
func (z *Zero) measure(s *loop.State) error {
	if err := z.order(doSum); err != nil {
		return err
	}
	z.finish()
	if z.err != nil {
		return z.err
	}
	s.GradNorm = z.norm
	if math.IsNaN(z.norm) || math.IsInf(z.norm, 0) {
		return &loop.Diverged{Step: s.Step + 1, What: "gradient", Param: z.firstBad(), LR: s.LR}
	}
	if clip := z.loop.Clip; clip > 0 && z.norm > clip {
		s.GradScale = clip / z.norm
	}
	return nil
}

type pieceArgs struct {
	z *Zero
	c simd.AdamWCoef
}

var squareLoop, adamLoop par.Loop[pieceArgs]

// finish sums the gradients and measures them: the squares of every rank's part
// in the order of its pieces, and then the ranks in theirs. So the norm is the
// same in every stage.
func (z *Zero) finish() {
	z.sum()
	squareLoop.Run(len(z.pieces), pieceArgs{z: z}, func(a *pieceArgs, i int) {
		p := a.z.pieces[i]
		g := memory.Default.Dirty(memory.Workspace, p.n)
		simd.FromBF16(g, a.z.grads[p.grad:p.grad+p.n])
		a.z.sums[i] = simd.SumSq(g)
		memory.Default.Free(memory.Workspace, g)
	})
	for r := range z.Ranks {
		z.perRank[r] = 0
	}
	for j := range len(z.parts) - 1 {
		var sum float64
		for _, s := range z.sums[z.parts[j]:z.parts[j+1]] {
			sum += s
		}
		r := j
		if z.stage > 0 {
			r = z.c.Rank()
		}
		z.perRank[r] = sum
	}
	if z.stage > 0 {
		z.share()
	}
	var sum float64
	for _, s := range z.perRank {
		sum += s
	}
	z.norm = math.Sqrt(sum) / float64(z.Ranks)
}

// share fills perRank, of which every rank has set its own number.
func (z *Zero) share() {
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseControl))
	if z.err == nil {
		z.fail(AllGather(z.c, z.perRank))
	}
}

// firstBad names a parameter with a gradient that is no number, as far as this
// rank can tell.
func (z *Zero) firstBad() string {
	for i, s := range z.sums {
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return z.params[z.pieces[i].param].Name
		}
	}
	return "a part on another rank"
}

// Step updates the weights on all ranks.
func (z *Zero) Step(s optim.Step) {
	if z.order(doStep, uint64(s.N), math.Float64bits(s.LR), math.Float64bits(s.GradScale)) == nil {
		z.update(s)
	}
}

// update moves this rank's share of the weights.
func (z *Zero) update(s optim.Step) {
	z.fresh = true
	c := simd.AdamWCoef{
		LR: s.LR, Beta1: z.adam.Beta1, Beta2: z.adam.Beta2, Eps: z.adam.Eps,
		Bias1:     1 - math.Pow(z.adam.Beta1, float64(s.N)),
		Bias2:     1 - math.Pow(z.adam.Beta2, float64(s.N)),
		GradScale: s.GradScale / float64(z.Ranks),
	}
	adamLoop.Run(len(z.pieces), pieceArgs{z, c}, func(a *pieceArgs, i int) {
		z, c, p := a.z, a.c, a.z.pieces[i]
		if z.params[p.param].Decay {
			c.WeightDecay = z.adam.WeightDecay
		}
		g := memory.Default.Dirty(memory.Workspace, p.n)
		simd.FromBF16(g, z.grads[p.grad:p.grad+p.n])
		lo, hi := p.state, p.state+p.n
		simd.AdamWStep(z.master[lo:hi], z.m[lo:hi], z.v[lo:hi], g, c)
		simd.ToBF16(z.weights[p.weight:p.weight+p.n], z.master[lo:hi])
		memory.Default.Free(memory.Workspace, g)
	})
	z.shareWeights()
	if z.watch != nil && z.err == nil {
		z.fail(z.watch(z))
	}
}

// shareWeights collects, in stages 1 and 2, the weights that every rank has
// rounded of its own.
func (z *Zero) shareWeights() {
	if z.stage != 1 && z.stage != 2 {
		return
	}
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseWeights))
	for _, b := range z.buckets {
		if z.err == nil {
			z.fail(AllGather(z.c, z.weights[b.lo:b.hi]))
		}
	}
}
