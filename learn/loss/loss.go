// Package loss computes what training makes small.
//
// CrossEntropy is the output layer of a language model and its loss in one,
// from hidden values x [N, D] and the head's matrix w [V, D] to a scalar:
//
//	loss := loss.CrossEntropy(tape, x, w, targets, perRow)
//	tape.Backward(loss)
//
// It has two exact forms that differ in memory and time: HeadCrossEntropy holds
// the logits of some rows and computes each product once, CutCrossEntropy holds
// the logits of some rows and some tokens and computes them twice.
package loss

import (
	"fmt"

	"hasten/engine/grad"
)

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
