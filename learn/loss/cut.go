// Cut cross-entropy: Wijmans, Huval, Hertzberg, Koltun, Krähenbühl, "Cut Your
// Losses in Large-Vocabulary Language Models", ICLR 2025.
//
//	lossₙ = log Σᵥ exp(xₙ·wᵥ) - xₙ·w_yₙ
//	G = (softmax(X·Wᵀ) - onehot(y))·g        dX = G·W        dW = Gᵀ·X
//
// Logits exist only as one tile of rows by tokens. The forward pass keeps a
// running maximum and sum for each row; the backward pass computes every tile
// again.

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

// cutTokens is the number of tokens in a tile. With headRows rows it has 4 MiB
// of logits, large enough for the matrix products to run at full speed.
const cutTokens = 2048

// CutCrossEntropy is CrossEntropy in tiles of rows by tokens. Beyond x, w and
// their gradients it takes at most 4 MiB of workspace, whatever the vocabulary,
// and 3·N floats, of which 2·N stay until the backward pass.
func CutCrossEntropy(t *grad.Tape, x, w *grad.Var, targets []int32, perRow []float32) *grad.Var {
	counted := check("CutCrossEntropy", x, w, targets, perRow)
	n := x.Rows()
	y := t.New(tensor.Of())
	node := t.Record(y, cutBack, x, w)
	a := cutArgs{targets: targets, losses: perRow}
	if node != nil {
		node.Index = targets
		node.Floats[0] = float32(1 / float64(max(counted, 1)))
		a.max, a.sum = node.Save(0, n), node.Save(1, n)
	} else {
		a.max, a.sum = t.Arena.Dirty(memory.Workspace, n), t.Arena.Dirty(memory.Workspace, n)
		defer t.Arena.Free(memory.Workspace, a.max)
		defer t.Arena.Free(memory.Workspace, a.sum)
	}
	if perRow == nil {
		a.losses = t.Arena.Dirty(memory.Workspace, n)
		defer t.Arena.Free(memory.Workspace, a.losses)
	}
	for i := range n {
		a.max[i], a.sum[i], a.losses[i] = float32(math.Inf(-1)), 0, 0
	}
	tile := t.Arena.Dirty(memory.Workspace, tileSize(x, w))
	defer t.Arena.Free(memory.Workspace, tile)
	for v := 0; v < w.Rows(); v += cutTokens {
		for r := 0; r < n; r += headRows {
			k := a.at(tile, r, v, w.Rows())
			k.multiply(t, x, w)
			cutLoop.Run(par.Pieces(len(k.targets), softmaxRows), k, logSumExp)
		}
	}
	for i, id := range targets {
		if id != Ignore {
			a.losses[i] = float32(math.Log(float64(a.sum[i])) + float64(a.max[i]) - float64(a.losses[i]))
		}
	}
	y.Data[0] = mean(a.losses, counted)
	return y
}

func cutBack(n *grad.Node) {
	t, x, w, d := n.Tape, n.In[0], n.In[1], n.In[0].Cols()
	dx, dw := n.GradOf(0), n.GradOf(1)
	a := cutArgs{targets: n.Index, max: n.Saved[0], sum: n.Saved[1], scale: n.Floats[0] * n.Out.Grad[0]}
	tile := t.Arena.Dirty(memory.Workspace, tileSize(x, w))
	defer t.Arena.Free(memory.Workspace, tile)
	for v := 0; v < w.Rows(); v += cutTokens {
		for r := 0; r < x.Rows(); r += headRows {
			k := a.at(tile, r, v, w.Rows())
			k.multiply(t, x, w)
			cutLoop.Run(par.Pieces(len(k.targets), softmaxRows), k, softmaxGrad)
			rows := len(k.targets)
			if dx != nil {
				t.Policy.Mul(precision.GradInput, matmul.Args{M: rows, N: d, K: k.width, A: k.tile, B: w.Data[v*d : (v+k.width)*d], C: dx[r*d : (r+rows)*d], Beta: 1})
			}
			if dw != nil {
				t.Policy.Mul(precision.GradWeight, matmul.Args{M: k.width, N: d, K: rows, A: k.tile, TransA: true, B: x.Data[r*d : (r+rows)*d], C: dw[v*d : (v+k.width)*d], Beta: 1})
			}
		}
	}
}

// tileSize is the number of logits in the largest tile.
func tileSize(x, w *grad.Var) int { return min(headRows, x.Rows()) * min(cutTokens, w.Rows()) }

// cutArgs is a tile, and what belongs to its rows: of all rows, before at.
type cutArgs struct {
	tile       []float32 // [rows, width] logits
	row, token int       // the first of each
	width      int
	targets    []int32
	max, sum   []float32 // of the logits of a row so far, and of exp(logit-max)
	losses     []float32 // the target's logit, once it has been met
	scale      float32   // of the gradient
}

// at is the tile whose first row is r and whose first of vocab tokens is v.
func (a cutArgs) at(buffer []float32, r, v, vocab int) cutArgs {
	hi := min(r+headRows, len(a.targets))
	a.row, a.token, a.width = r, v, min(cutTokens, vocab-v)
	a.tile = buffer[:(hi-r)*a.width]
	a.targets, a.max, a.sum = a.targets[r:hi], a.max[r:hi], a.sum[r:hi]
	if a.losses != nil {
		a.losses = a.losses[r:hi]
	}
	return a
}

// multiply computes the logits of the tile.
func (a *cutArgs) multiply(t *grad.Tape, x, w *grad.Var) {
	d, rows := x.Cols(), len(a.targets)
	t.Policy.Mul(precision.Forward, matmul.Args{
		M: rows, N: a.width, K: d, C: a.tile,
		A: x.Data[a.row*d : (a.row+rows)*d],
		B: w.Data[a.token*d : (a.token+a.width)*d], TransB: true,
	})
}

var cutLoop par.Loop[cutArgs]

// logSumExp adds a piece of the tile's rows to their maxima and sums.
func logSumExp(a *cutArgs, i int) {
	lo, hi := par.Bounds(i, softmaxRows, len(a.targets))
	for r := lo; r < hi; r++ {
		if a.targets[r] == Ignore {
			continue
		}
		row := a.tile[r*a.width : (r+1)*a.width]
		if at := int(a.targets[r]) - a.token; at >= 0 && at < a.width {
			a.losses[r] = row[at]
		}
		was := a.max[r]
		a.max[r] = max(was, simd.Max(row))
		a.sum[r] = a.sum[r]*float32(math.Exp(float64(was-a.max[r]))) + simd.ExpSum(row, row, a.max[r])
	}
}

// softmaxGrad turns a piece of the tile's rows into scale·(softmax - onehot).
func softmaxGrad(a *cutArgs, i int) {
	lo, hi := par.Bounds(i, softmaxRows, len(a.targets))
	for r := lo; r < hi; r++ {
		row := a.tile[r*a.width : (r+1)*a.width]
		if a.targets[r] == Ignore {
			clear(row)
			continue
		}
		simd.ExpSum(row, row, a.max[r])
		simd.Scale(row, a.scale/a.sum[r])
		if at := int(a.targets[r]) - a.token; at >= 0 && at < a.width {
			row[at] -= a.scale
		}
	}
}
