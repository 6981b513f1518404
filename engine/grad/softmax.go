package grad

import (
	"fmt"

	"hasten/engine/simd"
	"hasten/engine/tensor"
)

// Softmax computes exp(x)/Σexp(x) for every row of the last dimension.
func Softmax(t *Tape, x *Var) *Var {
	y := t.New(x.Shape)
	eachRow(rowArgs{y: y.Data, x: x.Data, rows: x.Rows(), cols: x.Cols(),
		row: func(_ *rowArgs, _ int, y, x []float32) { simd.SoftmaxRow(y, x) }})
	t.Record(y, softmaxBack, x).KeepOut().Tangent(softmaxTangent)
	return y
}

func softmaxBack(n *Node) {
	y := n.Out
	dx, done := n.overwrite(0)
	eachRow(rowArgs{y: dx, x: y.Data, v: y.Grad, rows: y.Rows(), cols: y.Cols(),
		row: func(a *rowArgs, r int, dx, y []float32) {
			simd.SoftmaxRowBackward(dx, y, a.v[r*a.cols:(r+1)*a.cols])
		}})
	done.add()
}

// softmaxTangent is ẏ = y·(ẋ - Σ y·ẋ).
func softmaxTangent(n *Node) *Var {
	t, y := n.Tape, n.Out
	p := Mul(t, y, n.Tan(0))
	return Sub(t, p, MulCol(t, y, RowSum(t, p)))
}

// LogSoftmax computes x - log Σexp(x) for every row of the last dimension.
func LogSoftmax(t *Tape, x *Var) *Var {
	y := t.New(x.Shape)
	eachRow(rowArgs{y: y.Data, x: x.Data, rows: x.Rows(), cols: x.Cols(),
		row: func(_ *rowArgs, _ int, y, x []float32) {
			l := simd.LogSumExp(x)
			for i, v := range x {
				y[i] = v - l
			}
		}})
	t.Record(y, logSoftmaxBack, x).KeepOut().Tangent(logSoftmaxTangent)
	return y
}

// logSoftmaxBack is dx = dy - softmax(x)·Σdy.
func logSoftmaxBack(n *Node) {
	y := n.Out
	dx, done := n.overwrite(0)
	eachRow(rowArgs{y: dx, x: y.Data, v: y.Grad, rows: y.Rows(), cols: y.Cols(),
		row: func(a *rowArgs, r int, dx, y []float32) {
			dy := a.v[r*a.cols : (r+1)*a.cols]
			simd.Exp(dx, y)
			simd.Scale(dx, -simd.Sum(dy))
			simd.AddTo(dx, dy)
		}})
	done.add()
}

// logSoftmaxTangent is ẏ = ẋ - Σ softmax(x)·ẋ.
func logSoftmaxTangent(n *Node) *Var {
	t, dx := n.Tape, n.Tan(0)
	return AddCol(t, dx, Scale(t, RowSum(t, Mul(t, Exp(t, n.Out), dx)), -1))
}

// Ignore is the target of a row that does not count.
const Ignore = int32(-1)

// CrossEntropy computes the mean over the counted rows of the loss
// -log softmax(logits)[target], in nats. logits: [N, V]; targets: N indices in
// [0, V), or Ignore; they must not change until the backward pass is done. 0
// where no row counts.
func CrossEntropy(t *Tape, logits *Var, targets []int32) *Var {
	counted := 0
	for _, c := range targets {
		if c != Ignore {
			counted++
		}
	}
	return Scale(t, Sum(t, CrossEntropyRows(t, logits, targets)), 1/float32(max(counted, 1)))
}

// CrossEntropyRows is the loss of each row for itself, 0 for ignored ones; for
// CrossEntropy's arguments. y: [N].
func CrossEntropyRows(t *Tape, logits *Var, targets []int32) *Var {
	rows, v := logits.Rows(), logits.Cols()
	if len(targets) != rows {
		panic(fmt.Sprintf("grad: CrossEntropy of %v with %d targets", logits.Shape, len(targets)))
	}
	for i, c := range targets {
		if c < Ignore || int(c) >= v {
			panic(fmt.Sprintf("grad: CrossEntropy: target %d at row %d, there are %d classes", c, i, v))
		}
	}
	y := t.New(tensor.Of(rows))
	lse := t.scratch(rows)
	defer t.drop(lse)
	eachRow(rowArgs{x: logits.Data, v: lse, rows: rows, cols: v,
		row: func(a *rowArgs, r int, _, x []float32) { a.v[r] = simd.LogSumExp(x) }})
	for r, c := range targets {
		y.Data[r] = 0
		if c != Ignore {
			y.Data[r] = lse[r] - logits.Data[r*v+int(c)]
		}
	}
	if n := t.Record(y, crossEntropyBack, logits).Tangent(crossEntropyTangent); n != nil {
		n.Index = targets
		copy(n.Save(0, rows), lse)
	}
	return y
}

// crossEntropyBack is dx = dy·(softmax(x) - onehot(target)) for each row.
func crossEntropyBack(n *Node) {
	x, lse := n.In[0], n.Saved[0]
	for r, c := range n.Index { // what a row multiplies its softmax by
		if c == Ignore {
			n.Out.Grad[r] = 0
		}
	}
	v := x.Cols()
	dx, done := n.overwrite(0)
	eachRow(rowArgs{y: dx, x: x.Data, v: lse, rows: x.Rows(), cols: v,
		row: func(a *rowArgs, r int, dx, x []float32) { simd.ExpSum(dx, x, a.v[r]) }})
	eachRow(rowArgs{y: dx, v: n.Out.Grad, rows: x.Rows(), cols: v,
		row: func(a *rowArgs, r int, dx, _ []float32) { simd.Scale(dx, a.v[r]) }})
	for r, c := range n.Index {
		if c != Ignore {
			dx[r*v+int(c)] -= n.Out.Grad[r]
		}
	}
	done.add()
}

// crossEntropyTangent is ẏ = Σ (softmax(x) - onehot(target))·ẋ for each
// counted row.
func crossEntropyTangent(n *Node) *Var {
	t, x := n.Tape, n.In[0]
	hot, counts := zeros(t, x.Shape), zeros(t, n.Out.Shape)
	for r, c := range n.Index {
		if c != Ignore {
			hot.Data[r*x.Cols()+int(c)], counts.Data[r] = 1, 1
		}
	}
	p := Sub(t, Softmax(t, x), hot)
	return Mul(t, RowSum(t, Mul(t, p, n.Tan(0))), counts)
}
