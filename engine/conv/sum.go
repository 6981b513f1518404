package conv

import (
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// addParts adds to x the vectors of len(x) that stand one after another in
// parts, in order.
func addParts(x, parts []float32) {
	if len(parts) == 0 {
		return
	}
	addLoop.Run(par.Pieces(len(x), addGrain), addArgs{x, parts}, func(a *addArgs, i int) {
		lo, hi := par.Bounds(i, addGrain, len(a.x))
		for at := 0; at < len(a.parts); at += len(a.x) {
			simd.AddTo(a.x[lo:hi], a.parts[at+lo:at+hi])
		}
	})
}

type addArgs struct{ x, parts []float32 }

var addLoop par.Loop[addArgs]

const addGrain = 4096

// sumRows computes the sum of the rows of x, each as long as sum, or adds it to
// what sum holds.
func sumRows(sum, x []float32, add bool) {
	n := len(sum)
	rows := len(x) / n
	a := rowsArgs{x: x, n: n, grain: max(par.Pieces(rows, pieceGoal), addGrain/n, 1)}
	parts := par.Pieces(rows, a.grain)
	a.sums = memory.Default.Floats(memory.Workspace, parts*n)
	rowsLoop.Run(parts, a, func(a *rowsArgs, i int) {
		sum := a.sums[i*a.n:][:a.n]
		lo, hi := par.Bounds(i, a.grain*a.n, len(a.x))
		for at := lo; at < hi; at += a.n {
			simd.AddTo(sum, a.x[at:])
		}
	})
	if !add {
		clear(sum)
	}
	addParts(sum, a.sums)
	memory.Default.Free(memory.Workspace, a.sums)
}

type rowsArgs struct {
	x, sums  []float32
	n, grain int
}

var rowsLoop par.Loop[rowsArgs]
