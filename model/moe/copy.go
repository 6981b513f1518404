package moe

import (
	"fmt"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

// The other ways of getting rows to their experts: a copy of the tokens in the
// order of the experts, products on the copy, and a weighted sum of what comes
// out. Dropless dispatch has as many rows as there are choices; padded dispatch
// gives every expert as many rows as the busiest has, so that all products have
// one shape.

// padTo is what padded numbers of rows are rounded up to, so that buffers of
// few sizes do.
const padTo = 16

// padded is the plan with the same number of rows for every expert. Order and
// Token are not filled in: there are rows of no place.
func (p *Plan) padded(t *grad.Tape) Plan {
	q := newPlan(t, p.Tokens, p.K, p.Experts)
	most := int32(0)
	for e := range p.Experts {
		most = max(most, p.Starts[e+1]-p.Starts[e])
	}
	most = (most + padTo - 1) / padTo * padTo
	for e := range q.Starts {
		q.Starts[e] = int32(e) * most
	}
	for place, e := range p.Expert {
		q.Expert[place] = e
		q.Row[place] = q.Starts[e] + p.Row[place] - p.Starts[e]
	}
	return q
}

type copyArgs struct {
	plan          Plan
	rows, tokens  []float32 // [rows, d], [tokens, d]
	gates, dgates []float32 // [tokens, k]
	given         []float32 // Combine's residual; in its backward pass its input
	d             int
	fresh         bool
}

var copyLoop par.Loop[copyArgs]

// Gather copies tokens to the rows of their choices. x: [n, d]; result: [rows, d],
// zero where no choice is.
func Gather(t *grad.Tape, x *grad.Var, p *Plan) *grad.Var {
	if x.Rows() != p.Tokens {
		panic(fmt.Sprintf("moe: Gather of %v for %d tokens", x.Shape, p.Tokens))
	}
	y := t.New(tensor.Of(p.rows(), x.Cols()))
	if p.rows() > len(p.Row) {
		clear(y.Data)
	}
	copyLoop.Run(par.Pieces(p.Tokens, routeRows), copyArgs{plan: *p, rows: y.Data, tokens: x.Data, d: x.Cols()}, func(a *copyArgs, i int) {
		a.each(i, func(a *copyArgs, row []float32, token, _ int) { copy(row, a.token(token)) })
	})
	if n := t.Record(y, gatherBack, x); n != nil {
		p.attach(n)
	}
	return y
}

// each visits the choices of the tokens of a piece.
func (a *copyArgs) each(i int, visit func(a *copyArgs, row []float32, token, place int)) {
	lo, hi := par.Bounds(i, routeRows, a.plan.Tokens)
	for place := lo * a.plan.K; place < hi*a.plan.K; place++ {
		visit(a, a.row(a.rows, place), place/a.plan.K, place)
	}
}

func (a *copyArgs) row(x []float32, place int) []float32 {
	return x[int(a.plan.Row[place])*a.d:][:a.d]
}

func (a *copyArgs) token(i int) []float32 { return a.tokens[i*a.d:][:a.d] }

func gatherBack(n *grad.Node) {
	dx, fresh := n.GradInto(0)
	a := copyArgs{plan: planFor(n), rows: n.Out.Grad, tokens: dx, d: n.Out.Cols(), fresh: fresh}
	copyLoop.Run(par.Pieces(a.plan.Tokens, routeRows), a, func(a *copyArgs, i int) {
		a.each(i, func(a *copyArgs, row []float32, token, place int) {
			if a.fresh && place%a.plan.K == 0 {
				copy(a.token(token), row)
			} else {
				simd.AddTo(a.token(token), row)
			}
		})
	})
}

// Combine is the sum of each token's rows, weighted by gates [n, k], plus
// residual [n, d] or nil. x: [rows, d]; result: [n, d].
func Combine(t *grad.Tape, x, gates *grad.Var, p *Plan, residual *grad.Var) *grad.Var {
	y := t.New(tensor.Of(p.Tokens, x.Cols()))
	a := copyArgs{plan: *p, rows: x.Data, tokens: y.Data, gates: gates.Data, d: x.Cols()}
	if residual != nil {
		a.given = residual.Data
	}
	copyLoop.Run(par.Pieces(p.Tokens, routeRows), a, func(a *copyArgs, i int) {
		lo, hi := par.Bounds(i, routeRows, a.plan.Tokens)
		if y := a.tokens[lo*a.d : hi*a.d]; a.given != nil {
			copy(y, a.given[lo*a.d:])
		} else {
			clear(y)
		}
		a.each(i, func(a *copyArgs, row []float32, token, place int) { simd.Axpy(a.gates[place], row, a.token(token)) })
	})
	if n := t.Record(y, combineBack, x, gates, residual); n != nil {
		p.attach(n)
	}
	return y
}

func combineBack(n *grad.Node) {
	x := n.In[0]
	dx, fresh := n.GradInto(0)
	a := copyArgs{plan: planFor(n), rows: dx, tokens: n.Out.Grad, gates: n.In[1].Data, dgates: n.GradOf(1), given: x.Data, d: x.Cols(), fresh: fresh}
	if dx == nil {
		a.rows = n.Tape.Arena.Dirty(memory.Workspace, x.Len())
	}
	if fresh && a.plan.rows() > len(a.plan.Row) {
		clear(dx) // where no choice is
	}
	copyLoop.Run(par.Pieces(a.plan.Tokens, routeRows), a, func(a *copyArgs, i int) {
		a.each(i, func(a *copyArgs, row []float32, token, place int) {
			dy := a.token(token)
			if a.dgates != nil {
				a.dgates[place] += simd.Dot(dy, a.row(a.given, place))
			}
			if a.fresh {
				copy(row, dy)
				simd.Scale(row, a.gates[place])
			} else {
				simd.Axpy(a.gates[place], dy, row)
			}
		})
	})
	if dx == nil {
		n.Tape.Arena.Free(memory.Workspace, a.rows)
	}
	if n.In[2] != nil {
		n.PassGrad(2)
	}
}
