// Package loss computes what training makes small.
//
// CrossEntropy is the output layer of a language model and its loss in one,
// from hidden values x [N, D] and the head's matrix w [V, D] to a scalar:
//
//	loss := loss.CrossEntropy(tape, x, w, targets, perRow)
//	tape.Backward(loss)
//
// It has exact forms that differ in memory and time: HeadCrossEntropy holds the
// logits of some rows and computes each product once, CutCrossEntropy holds the
// logits of some rows and some tokens and computes them twice. Parts lists them
// for the user, with those that are not quite exact.
package loss

import (
	"fmt"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/part"
	"hasten/engine/precision"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

// Head is the output layer of a language model and its loss: a function as
// CrossEntropy.
type Head interface {
	CrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var
}

// Weighted is a head that can give each row a factor: a function as
// WeightedCrossEntropy.
type Weighted interface {
	WeightedCrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, weights, perRow []float32) *grad.Var
}

// Parts are the ways to compute the loss, the default first.
var Parts = part.Table[Head]{
	Seam: "loss",
	Help: "output layer and cross-entropy of a language model",
	Parts: []part.Part[Head]{
		{Name: "auto", Help: "rows for vocabularies up to 16,383, the exact form of cut above", New: func() Head { return &Auto{} }},
		{Name: "rows", Help: "logits of 512 rows at a time, each product computed once", New: func() Head { return &Rows{} }},
		{Name: "cut", Paper: "cut-cross-entropy", Help: "logits of a tile at a time; negligible gradients are skipped", New: func() Head { return NewCut() }},
		{Name: "full", Help: "all logits at once, in place: the plain form to compare with", New: func() Head { return &Full{} }},
	},
}

// Auto is CrossEntropy as a part.
type Auto struct{}

// CrossEntropy is the function of that name.
func (*Auto) CrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var {
	return CrossEntropy(t, x, w, targets, perRow)
}

// WeightedCrossEntropy is the function of that name.
func (*Auto) WeightedCrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, weights, perRow []float32) *grad.Var {
	return WeightedCrossEntropy(t, x, w, targets, weights, perRow)
}

// Rows is HeadCrossEntropy as a part.
type Rows struct{}

// CrossEntropy is HeadCrossEntropy.
func (*Rows) CrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var {
	return HeadCrossEntropy(t, x, w, targets, perRow)
}

// WeightedCrossEntropy is the function of that name.
func (*Rows) WeightedCrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, weights, perRow []float32) *grad.Var {
	return WeightedCrossEntropy(t, x, w, targets, weights, perRow)
}

// Full holds the logits of all rows, and turns them into their gradient in
// place. It takes N·V floats until the backward pass.
type Full struct{}

// CrossEntropy is the loss from all logits.
func (*Full) CrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var {
	counted := check("Full", x, w, targets, perRow)
	n, d, v := x.Rows(), x.Cols(), w.Rows()
	y := t.New(tensor.Of())
	node := t.Record(y, fullBack, x, w)
	var logits []float32
	if node != nil {
		logits = node.Save(0, n*v)
	} else {
		logits = t.Arena.Dirty(memory.Workspace, n*v)
		defer t.Arena.Free(memory.Workspace, logits)
	}
	losses := perRow
	if losses == nil {
		losses = t.Arena.Dirty(memory.Workspace, n)
		defer t.Arena.Free(memory.Workspace, losses)
	}
	t.Policy.Mul(precision.Forward, matmul.Args{M: n, N: v, K: d, A: x.Data, B: w.Data, TransB: true, C: logits})
	scale := float32(1 / float64(max(counted, 1)))
	headLoop.Run(par.Pieces(n, softmaxRows), headArgs{logits, losses, targets, nil, v, scale, node != nil}, softmaxLoss)
	y.Data[0] = mean(losses, counted)
	return y
}

func fullBack(n *grad.Node) {
	t, x, w, logits := n.Tape, n.In[0], n.In[1], n.Saved[0]
	if g := n.Out.Grad[0]; g != 1 {
		scaledLoop.Run(par.Pieces(len(logits), scaledGrain), scaledArgs{dst: logits, c: g}, func(a *scaledArgs, i int) {
			lo, hi := par.Bounds(i, scaledGrain, len(a.dst))
			simd.Scale(a.dst[lo:hi], a.c)
		})
	}
	rows, d, v := x.Rows(), x.Cols(), w.Rows()
	if dx, fresh := n.GradInto(0); dx != nil {
		t.Policy.Mul(precision.GradInput, matmul.Args{M: rows, N: d, K: v, A: logits, B: w.Data, C: dx, Beta: keep(fresh)})
	}
	if dw, fresh := n.GradInto(1); dw != nil {
		t.Policy.Mul(precision.GradWeight, matmul.Args{M: v, N: d, K: rows, A: logits, TransA: true, B: x.Data, C: dw, Beta: keep(fresh)})
	}
}

// Ignore is the target of a position that does not count.
const Ignore = int32(-1)

// cutFrom is the vocabulary from which the logits of headRows rows, and the
// second copy of the head's gradient, cost more memory than is worth the time
// of computing the logits again.
const cutFrom = 16384

// CrossEntropy is the mean over the counted rows of -log softmax(x·Wᵀ) at the
// target: HeadCrossEntropy for small vocabularies, CutCrossEntropy for large
// ones.
//
// x: [N, D]; w: [V, D]; targets: N ids in [0, V), or Ignore, which must stay as
// they are until the backward pass is done; perRow, if not nil, receives the
// loss of each row in nats (0 for ignored rows). The loss of no counted row
// is 0.
func CrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var {
	if w.Rows() >= cutFrom {
		return CutCrossEntropy(t, x, w, targets, perRow)
	}
	return HeadCrossEntropy(t, x, w, targets, perRow)
}

// check panics when sizes or targets do not fit, and counts the targets.
func check(name string, x, w *grad.Var, targets []int32, perRow []float32) (counted int) {
	n, v := x.Rows(), w.Rows()
	if len(targets) != n || w.Cols() != x.Cols() || perRow != nil && len(perRow) != n {
		panic(fmt.Sprintf("loss: %s of %v by %v with %d targets, %d losses", name, x.Shape, w.Shape, len(targets), len(perRow)))
	}
	for i, id := range targets {
		if int(id) >= v || id < Ignore {
			panic(fmt.Sprintf("loss: target %d at row %d, the vocabulary has %d", id, i, v))
		}
		if id != Ignore {
			counted++
		}
	}
	return counted
}

// mean is the sum of the losses over the number of counted rows.
func mean(losses []float32, counted int) float32 {
	var sum float64
	for _, l := range losses {
		sum += float64(l)
	}
	return float32(sum / float64(max(counted, 1)))
}
