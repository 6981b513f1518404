package loss

import (
	"math"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/precision"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

// headRows is the number of rows whose logits exist at one time: enough for
// the matrix products to run at full speed.
const headRows = 512

// HeadCrossEntropy is CrossEntropy in blocks of rows. It computes the gradients
// of a block while its logits are at hand, so that no array of all the logits
// is ever held and nothing is computed twice. Beyond x, w and their gradients it
// takes 512·V floats of workspace and, until the backward pass, N·D + V·D.
func HeadCrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var {
	return WeightedCrossEntropy(t, x, w, targets, nil, perRow)
}

// WeightedCrossEntropy is HeadCrossEntropy with a factor on the loss of each
// row: Σ weights[i]·loss[i] over the number of counted rows. weights: [N], or
// nil: all 1. perRow receives the losses without their factors.
func WeightedCrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, weights, perRow []float32) *grad.Var {
	counted := check("HeadCrossEntropy", x, w, targets, perRow)
	n, d, v := x.Rows(), x.Cols(), w.Rows()
	y := t.New(tensor.Of())
	node := t.Record(y, headBack, x, w)
	var dx, dw []float32
	if node != nil {
		// The gradients for a loss of weight 1: scaled, should the weight be
		// another, when the backward pass comes.
		if x.Wanted() {
			dx = node.Save(0, n*d)
		}
		if w.Wanted() {
			dw = node.Save(1, v*d)
		}
	}
	if n == 0 {
		clear(dw)
	}
	block := min(headRows, n)
	logits := t.Arena.Dirty(memory.Workspace, block*v)
	defer t.Arena.Free(memory.Workspace, logits)
	losses := perRow
	if losses == nil {
		losses = t.Arena.Dirty(memory.Workspace, n)
		defer t.Arena.Free(memory.Workspace, losses)
	}
	scale := float32(1 / float64(max(counted, 1)))
	for lo := 0; lo < n; lo += block {
		hi := min(lo+block, n)
		l := logits[:(hi-lo)*v]
		t.Policy.Mul(precision.Forward, matmul.Args{M: hi - lo, N: v, K: d, A: x.Data[lo*d : hi*d], B: w.Data, TransB: true, C: l})
		headLoop.Run(par.Pieces(hi-lo, softmaxRows), headArgs{l, losses[lo:hi], targets[lo:hi], piece(weights, lo, hi), v, scale, node != nil}, softmaxLoss)
		if dx != nil {
			t.Policy.Mul(precision.GradInput, matmul.Args{M: hi - lo, N: d, K: v, A: l, B: w.Data, C: dx[lo*d : hi*d]})
		}
		if dw != nil {
			t.Policy.Mul(precision.GradWeight, matmul.Args{M: v, N: d, K: hi - lo, A: l, TransA: true, B: x.Data[lo*d : hi*d], C: dw, Beta: keep(lo == 0)})
		}
	}
	y.Data[0] = weightedMean(losses, weights, counted)
	return y
}

// piece is a part of a slice that may be nil.
func piece(x []float32, lo, hi int) []float32 {
	if x == nil {
		return nil
	}
	return x[lo:hi]
}

// weightedMean is mean with factors, nil meaning 1.
func weightedMean(losses, weights []float32, counted int) float32 {
	if weights == nil {
		return mean(losses, counted)
	}
	var sum float64
	for i, l := range losses {
		sum += float64(l) * float64(weights[i])
	}
	return float32(sum / float64(max(counted, 1)))
}

// keep is the factor on what an output holds already: 0 when that is nothing.
func keep(fresh bool) float32 {
	if fresh {
		return 0
	}
	return 1
}

// softmaxRows is the number of rows in one piece of the softmax.
const softmaxRows = 8

type headArgs struct {
	logits, losses []float32
	targets        []int32
	weights        []float32 // nil: all 1
	v              int
	scale          float32
	gradient       bool
}

var headLoop par.Loop[headArgs]

// softmaxLoss computes the losses of a piece of rows and, when gradients are
// wanted, turns their logits into scale·(softmax - onehot).
func softmaxLoss(a *headArgs, i int) {
	lo, hi := par.Bounds(i, softmaxRows, len(a.targets))
	for r := lo; r < hi; r++ {
		row, target := a.logits[r*a.v:(r+1)*a.v], a.targets[r]
		if target == Ignore {
			a.losses[r] = 0
			clear(row)
			continue
		}
		shift, at := simd.Max(row), row[target]
		sum := simd.ExpSum(row, row, shift)
		a.losses[r] = float32(math.Log(float64(sum)) + float64(shift) - float64(at))
		if a.gradient {
			scale := a.scale
			if a.weights != nil {
				scale *= a.weights[r]
			}
			simd.Scale(row, scale/sum)
			row[target] -= scale
		}
	}
}

func headBack(n *grad.Node) {
	for i := range 2 {
		g, fresh := n.GradInto(i)
		if g == nil {
			continue
		}
		a := scaledArgs{g, n.Saved[i], n.Out.Grad[0], fresh}
		scaledLoop.Run(par.Pieces(len(g), scaledGrain), a, func(a *scaledArgs, i int) {
			lo, hi := par.Bounds(i, scaledGrain, len(a.dst))
			if a.fresh {
				clear(a.dst[lo:hi])
			}
			simd.Axpy(a.c, a.x[lo:hi], a.dst[lo:hi])
		})
	}
}

const scaledGrain = 16384

type scaledArgs struct {
	dst, x []float32
	c      float32
	fresh  bool
}

var scaledLoop par.Loop[scaledArgs]
