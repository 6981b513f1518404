// ZeRO: Memory Optimizations Toward Training Trillion Parameter Models.
// Rajbhandari, Rasley, Ruwase, He, SC 2020.
//
// Mixed-precision Adam holds, for Ψ parameters, 2Ψ bytes of weights, 2Ψ of
// gradients, and K·Ψ = 12Ψ of states: float32 weights θ and moments m, v. With N
// ranks a rank holds, and sends in a step (in elements),
//
//	stage 0   data parallel   2Ψ + 2Ψ + KΨ        2Ψ·(N-1)/N    all-reduce of gradients
//	stage 1   P_os            2Ψ + 2Ψ + KΨ/N      2Ψ·(N-1)/N    reduce-scatter of gradients, all-gather of weights
//	stage 2   P_os+g          2Ψ + (2Ψ + KΨ)/N    2Ψ·(N-1)/N    the same, each bucket during the backward pass
//	stage 3   P_os+g+p        (2Ψ + 2Ψ + KΨ)/N    3Ψ·(N-1)/N    reduce-scatter; layers gathered before forward and before backward
//
//	g = (1/N) Σᵣ bf16(gᵣ)        θ, m, v ← Adam(θ, m, v, g)        w ← bf16(θ)
//
// All stages give the same weights, to the bit: the sum of a gradient goes round
// the same ring in the same buckets.
//
// A layer computes in float32 as everything here does: its weights are widened
// when its first operation asks for them (grad.Keeper), and given back when
// another layer's are asked for. A parameter's gradient is rounded into its
// bucket as soon as it is complete, and its float32 buffer given back.

package dist

import (
	"context"
	"fmt"
	"unsafe"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/simd"
	"hasten/learn/loop"
	"hasten/learn/optim"
)

// Options say how a loop is spread over the ranks. They must be the same on all.
type Options struct {
	Stage  int                      // of ZeRO, 0 to 3; 0: plain data parallelism
	Bucket int                      // elements of gradient that are summed together; 0: DefaultBucket
	Layer  func(name string) string // the layer of a parameter; nil: LayerOf

	// States is the arena of this rank's model states. It should hold nothing
	// else, so that what it tells is theirs. nil: a new one.
	States *memory.Arena

	// EachStep is called on every rank when it has taken a step, for whoever
	// measures. It may be nil. An error ends training on all ranks.
	EachStep func(z *Zero) error
}

// DefaultBucket is the size of a bucket, in elements: 4 MiB of bfloat16.
const DefaultBucket = 2 << 20

// The phases of the Meter. Everything but PhaseGradients and PhaseWeights is a
// few bytes a step, or happens only at the start, at checkpoints and at the end.
const (
	PhaseGradients = "gradients"
	PhaseWeights   = "weights"
	PhaseControl   = "control"
	PhaseCopy      = "copy"
)

// Zero trains the loop of rank 0 on all ranks. It stands in for the loop's task
// and for its optimiser, AdamW. To the loop it has no parameters, since no rank
// holds whole ones; what a checkpoint keeps is in its State.
type Zero struct {
	*Layout
	c      *Comm
	loop   *loop.Loop
	task   loop.Task
	adam   *optim.AdamW
	stage  int
	watch  func(*Zero) error
	states *memory.Arena
	params []*grad.Param

	weights      []uint16  // [Padded], in stage 3 [Padded/N]
	grads        []uint16  // [Padded], from stage 2 on [Padded/N]
	master, m, v []float32 // [Padded], from stage 1 on [Padded/N]
	pieces       []piece   // the elements this rank updates
	parts        []int     // pieces[parts[i]:parts[i+1]] are those of the i-th rank whose part is updated here
	sums         []float64 // of the pieces' squares
	fresh        bool      // no batch has come to the gradients in this step
	resident     int       // the layer whose weights are in work, or -1
	work         []float32 // float32 weights
	owed         []int     // operations that have yet to carry a gradient to each parameter
	complete     []bool    // parameters whose gradient is in its buckets
	open         [][]uint16
	missing      []int // elements that have not come to each bucket
	next         int   // the bucket to be summed next; buckets go from last to first
	norm         float64
	passing      bool // all ranks are between the start of a forward and the end of its backward pass
	stopped      bool
	whole        [][]float32 // what State gave out and is not yet back
	orders       [5]uint64   // from rank 0
	tape         *grad.Tape  // of a follower
	perRank      []float64   // one number from each rank
	err          error
}

// piece is a range of elements that are updated together: of one parameter, in
// one rank's part of one bucket.
type piece struct{ n, grad, weight, state, param int }

// pieceSize is the number of elements in a piece.
const pieceSize = 16384

var (
	_ loop.Task       = (*Zero)(nil)
	_ loop.Sized      = (*Zero)(nil)
	_ loop.Resumable  = (*Zero)(nil)
	_ optim.Optimizer = (*Zero)(nil)
	_ grad.Keeper     = (*Zero)(nil)
)

// Train runs a loop on all ranks: on rank 0 with its hooks, evaluations and
// checkpoints, on the others in its wake. All ranks call it with loops that are
// built alike, over replicas of one model, whose weights become those of rank 0,
// and over different parts of the data. The gradient is the mean over the ranks.
// Afterwards rank 0 has the trained weights in its parameters.
func Train(ctx context.Context, c *Comm, l *loop.Loop, o Options) error {
	z, err := New(c, l, o)
	if err != nil {
		return err
	}
	if c.Rank() > 0 {
		return z.Follow()
	}
	return z.Stop(l.Run(ctx))
}

// New spreads the states of a loop's model over the ranks and takes the place of
// the loop's task and optimiser, which must be an *optim.AdamW. The parameters'
// buffers, which must come from the loop's arena, go back to it. All ranks call
// New; then rank 0 runs its loop and calls Stop, and the others call Follow.
//
// A hook of the loop that changes LossWeight must have been added before. It
// changes it for all ranks.
func New(c *Comm, l *loop.Loop, o Options) (*Zero, error) {
	adam, ok := l.Optimizer.(*optim.AdamW)
	if !ok {
		return nil, fmt.Errorf("dist: the optimiser is %T; weights spread over ranks are moved by AdamW", l.Optimizer)
	}
	if o.Stage < 0 || o.Stage > 3 || o.Bucket < 0 {
		return nil, fmt.Errorf("dist: stage %d, buckets of %d elements; there are stages 0 to 3", o.Stage, o.Bucket)
	}
	z := &Zero{c: c, loop: l, task: l.Task, adam: adam, stage: o.Stage, watch: o.EachStep, states: o.States, params: l.Task.Params(), resident: -1, fresh: true}
	if z.states == nil {
		z.states = new(memory.Arena)
	}
	if l.Arena == nil {
		l.Arena = memory.Default
	}
	if o.Bucket == 0 {
		o.Bucket = DefaultBucket
	}
	if o.Layer == nil {
		o.Layer = LayerOf
	}
	var sizes []int
	var layers []string
	for _, p := range z.params {
		sizes, layers = append(sizes, p.Len()), append(layers, o.Layer(p.Name))
	}
	z.Layout = NewLayout(sizes, layers, c.Size(), o.Bucket)
	z.cut()
	if err := z.takeOver(); err != nil {
		return nil, err
	}
	l.Task, l.Optimizer = z, z
	l.On(loop.AfterLoss, z.weigh)
	l.On(loop.AfterBackward, func(*loop.State) error { return z.flush() })
	l.On(loop.BeforeStep, z.measure)
	l.On(loop.AfterStep, func(*loop.State) error { return z.err })
	return z, nil
}

// cut makes the pieces and the bookkeeping of a pass.
func (z *Zero) cut() {
	n := len(z.params)
	z.owed, z.complete = make([]int, n), make([]bool, n)
	z.open, z.missing = make([][]uint16, len(z.buckets)), make([]int, len(z.buckets))
	z.perRank = make([]float64, z.Ranks)
	first, last := z.c.Rank(), z.c.Rank()
	if z.stage == 0 { // every rank updates everything
		first, last = 0, z.Ranks-1
	}
	for r := first; r <= last; r++ {
		z.parts = append(z.parts, len(z.pieces))
		for _, b := range z.buckets {
			z.cutPart(b, r)
		}
	}
	z.parts = append(z.parts, len(z.pieces))
	z.sums = make([]float64, len(z.pieces))
}

// cutPart makes the pieces of one rank's part of a bucket.
func (z *Zero) cutPart(b bucket, rank int) {
	partLo, partHi := z.part(b, rank)
	place := func(from, element int) int {
		if z.stage >= from {
			return b.lo/z.Ranks + element - partLo
		}
		return element
	}
	for i, at := range z.at {
		hi := min(partHi, at+z.size[i])
		for lo := max(partLo, at); lo < hi; lo += pieceSize {
			z.pieces = append(z.pieces, piece{param: i, n: min(pieceSize, hi-lo),
				state: place(1, lo), grad: place(2, lo), weight: place(3, lo)})
		}
	}
}

// owned is the range of a bucket that this rank holds of what is spread from the
// given stage on, and its place in the array.
func (z *Zero) owned(b bucket, from int) (lo, hi, at int) {
	if z.stage < from {
		return b.lo, b.hi, b.lo
	}
	lo, hi = z.part(b, z.c.Rank())
	return lo, hi, b.lo / z.Ranks
}

// length is that of an array which is spread from the given stage on.
func (z *Zero) length(from int) int {
	if z.stage < from {
		return z.Padded
	}
	return z.Padded / z.Ranks
}

// takeOver moves the parameters into the states, layer by layer.
func (z *Zero) takeOver() error {
	defer z.c.meter.Phase(z.c.meter.Phase(PhaseCopy))
	z.weights = z.halves(memory.Weights, z.length(3))
	z.grads = z.halves(memory.Gradients, z.length(2))
	clear(z.grads)
	z.master = z.states.Floats(memory.Optimizer, z.length(1))
	z.m = z.states.Floats(memory.Optimizer, z.length(1))
	z.v = z.states.Floats(memory.Optimizer, z.length(1))
	for k, l := range z.layers {
		whole := z.states.Floats(memory.Workspace, l.hi-l.lo)
		for _, i := range l.params {
			p := z.params[i]
			copy(whole[z.at[i]-l.lo:], p.Data)
			z.loop.Arena.Free(memory.Weights, p.Data)
			z.loop.Arena.Free(memory.Gradients, p.Grad)
			p.Data, p.Grad = nil, nil
			p.Keep(z, i)
		}
		if err := Bcast(z.c, whole, 0); err != nil {
			return err
		}
		z.set(k, z.master, whole)
		z.round(k, whole)
		z.states.Free(memory.Workspace, whole)
	}
	z.loop.Arena.Trim()
	z.states.Trim()
	z.states.ResetPeak()
	return nil
}

// set copies this rank's share of a whole layer to an array of the optimiser.
func (z *Zero) set(k int, x, whole []float32) {
	l := z.layers[k]
	for _, b := range z.buckets[l.buckets[0]:l.buckets[1]] {
		lo, hi, at := z.owned(b, 1)
		copy(x[at:], whole[lo-l.lo:hi-l.lo])
	}
}

// round sets this rank's share of the weights of a layer.
func (z *Zero) round(k int, whole []float32) {
	l := z.layers[k]
	for _, b := range z.buckets[l.buckets[0]:l.buckets[1]] {
		lo, hi, at := z.owned(b, 3)
		simd.ToBF16(z.weights[at:at+hi-lo], whole[lo-l.lo:hi-l.lo])
	}
}

// halves are bfloat16 numbers from the states' arena.
func (z *Zero) halves(k memory.Kind, n int) []uint16 { return typed[uint16](z.states.Bytes(k, 2*n)) }

func (z *Zero) freeHalves(k memory.Kind, x []uint16) {
	z.states.FreeBytes(k, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 2*cap(x)))
}

// Comm is this rank's.
func (z *Zero) Comm() *Comm { return z.c }

// Arena is that of this rank's model states.
func (z *Zero) Arena() *memory.Arena { return z.states }

// fail notes the first error, which the loop is told of at its next step, and
// lets the other ranks fail.
func (z *Zero) fail(err error) error {
	if err != nil && z.err == nil {
		z.err = err
		z.c.Abort(fmt.Errorf("rank %d: %w", z.c.Rank(), err))
	}
	return z.err
}
