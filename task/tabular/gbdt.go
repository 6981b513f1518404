package tabular

import (
	"hasten/engine/par"
	"hasten/engine/simd"
)

// PerOutput is ordinary gradient boosting: a tree a round for each output. It
// grows them with the same histograms, bins and leaf steps as Condensed.
//
// Source: J. H. Friedman, "Greedy Function Approximation: A Gradient Boosting
// Machine", Annals of Statistics 29(5), 2001, algorithm 6.
type PerOutput struct{ Boosting }

var _ Booster = (*PerOutput)(nil)

// together tells whether one tree serves all outputs anyway: the residuals of
// two classes are each other's negative, so their trees are one.
func together(d *Data) bool {
	return d.Outputs() == 1 || d.Outputs() == 2 && d.Kind == Classification
}

func (p *PerOutput) lanes(d *Data) int {
	if together(d) {
		return simd.TreeLanes(d.Outputs())
	}
	return simd.TreeLanes(1)
}

func (p *PerOutput) round(f *fit) []Tree {
	if together(f.data) {
		return []Tree{f.tree(f.residual, f.width, allOutputs)}
	}
	trees := make([]Tree, f.outputs)
	for k := range trees {
		f.pick(k)
		trees[k] = f.tree(f.single, simd.TreeLanes(1), k)
	}
	return trees
}

type pickArgs struct {
	f      *fit
	output int
}

var pickLoop par.Loop[pickArgs]

// pick sets single to the residuals of one output.
func (f *fit) pick(output int) {
	pickLoop.Run(len(f.losses), pickArgs{f, output}, func(a *pickArgs, i int) {
		lo, hi := par.Bounds(i, rowGrain, len(a.f.leafOf))
		from := a.f.residual[1+a.output:]
		for r := lo; r < hi; r++ {
			a.f.single[2*r], a.f.single[2*r+1] = 1, from[r*a.f.width]
		}
	})
}
