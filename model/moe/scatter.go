// Scattered Mixture-of-Experts Implementation. Tan, Shen, Panda and Courville,
// 2024 (ScatterMoE).
//
//	ParallelLinear:  Y[o(i)] = X[x(i)]·Wₑ(i)ᵀ            for the rows i in the order of the experts
//	FFN:             y[t] = Σⱼ p[t,j]·W²ₑ·act(W¹ₑ·x[t])   over the experts e of token t's k choices
//
// Other implementations copy the tokens into the order of their experts,
// multiply, and copy back. ParallelLinear gathers rows in the loads of its tiles
// and scatters them in its stores, so that only lists of indices are in that
// order. The weighted sum over a token's experts is part of the second product's
// stores. The backward pass is three more products of the same kind, which
// gather dY where it lies: with ∇ for the gradient by the loss,
//
//	∇Wₑ   = Σ p[i]·∇Y[o(i)]ᵀ·X[x(i)]     over the rows of expert e
//	V[i]  = ∇Y[o(i)]·Wₑ
//	∇p[i] = ⟨V[i], X[i]⟩                 for it is ⟨∇Y, Wₑ·X⟩
//	∇X[i] = p[i]·V[i]
//
// The paper's kernels make one copy of ∇Y in the order of the experts, and use
// its buffer again; here even that is not needed, for the weights p are put into
// the tiles of ∇W and into V. (The kernels are engine/matmul's MulScattered,
// SumScattered and GradScattered.)

package moe

import (
	"fmt"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/precision"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

// Layout is the order of the rows of a value.
type Layout int

// The layouts, for a Plan of n tokens and k experts each.
const (
	Grouped Layout = iota // [n·k, d]: the rows of the plan, in the order of the experts
	Places                // [n, k·d]: for each token its k choices, side by side
	Tokens                // [n, d]: as input, the row that a token's choices share; as output, their sum
)

// at are the rows of a value, in the order of the plan's.
func (l Layout) at(p *Plan, data []float32, d int) matmul.Rows {
	r := matmul.Rows{Data: data, LD: d}
	switch l {
	case Places:
		r.Index = p.Order
	case Tokens:
		r.Index = p.Token
	}
	return r
}

// shape is that of a value with rows of d.
func (l Layout) shape(p *Plan, d int) tensor.Shape {
	switch l {
	case Places:
		return tensor.Of(p.Tokens, p.K*d)
	case Tokens:
		return tensor.Of(p.Tokens, d)
	}
	return tensor.Of(p.rows(), d)
}

// ParallelLinear multiplies each row of x by the matrix of its expert.
// x is of layout in with rows of d, w: [E, out, d]; the result is of layout out
// with rows of out. With the layout Tokens as output it is the sum over a
// token's experts, weighted by gates [n, k], plus residual [n, out] or nil; x
// then must have a row for each choice. Gates and residual are nil otherwise.
func ParallelLinear(t *grad.Tape, x, w *grad.Var, p *Plan, in, out Layout, gates, residual *grad.Var) *grad.Var {
	e, rows, d := w.Dim(0), w.Dim(1), w.Dim(2)
	sum := out == Tokens
	if x.Shape != in.shape(p, d) || e != p.Experts || sum != (gates != nil) || sum && in == Tokens || residual != nil && (!sum || residual.Shape != out.shape(p, rows)) {
		panic(fmt.Sprintf("moe: ParallelLinear of %v by %v, layouts %d and %d, plan of %d tokens, %d of %d experts",
			x.Shape, w.Shape, in, out, p.Tokens, p.K, p.Experts))
	}
	y := t.New(out.shape(p, rows))
	s := matmul.Scattered{
		Starts: p.Starts, N: rows, K: d, A: in.at(p, x.Data, d), B: w.Data, TransB: true, C: out.at(p, y.Data, rows), Format: formatOf(t),
	}
	if sum {
		s.Weights, s.Weight = gates.Data, p.Order
		var r []float32
		if residual != nil {
			r = residual.Data
		}
		matmul.SumScattered(s, p.Tokens, r, false)
	} else {
		matmul.MulScattered(s)
	}
	if n := t.Record(y, parallelBack, x, w, gates, residual); n != nil {
		p.attach(n)
		n.Ints[3], n.Ints[4] = int(in), int(out)
	}
	return y
}

func parallelBack(n *grad.Node) {
	p, in, out := planFor(n), Layout(n.Ints[3]), Layout(n.Ints[4])
	x, w, gates := n.In[0], n.In[1], n.In[2]
	rows, d := w.Dim(1), w.Dim(2)
	format := formatOf(n.Tape)
	dy := out.at(&p, n.Out.Grad, rows)
	if dw, fresh := n.GradInto(1); dw != nil {
		g := matmul.ScatteredGrad{Starts: p.Starts, M: rows, N: d, A: dy, B: in.at(&p, x.Data, d), C: dw, Add: !fresh, Format: format}
		if gates != nil {
			g.Weights, g.Weight = gates.Data, p.Order
		}
		matmul.GradScattered(g)
	}
	v := matmul.Scattered{Starts: p.Starts, N: d, K: rows, A: dy, B: w.Data, Format: format}
	switch {
	case in == Tokens:
		if dx, fresh := n.GradInto(0); dx != nil {
			v.C = in.at(&p, dx, d)
			matmul.SumScattered(v, p.Tokens, nil, !fresh)
		}
	case x.Wanted() || gates.Wanted():
		parallelBackRows(n, &p, in, v)
	}
	if n.In[3] != nil {
		n.PassGrad(3)
	}
}

// parallelBackRows carries the gradient back to an x with a row for each choice,
// and to the gates.
func parallelBackRows(n *grad.Node, p *Plan, in Layout, v matmul.Scattered) {
	x, gates, d := n.In[0], n.In[2], v.N
	dx, fresh := n.GradInto(0)
	buf := dx
	if !fresh { // rows are written, not added
		buf = n.Tape.Arena.Dirty(memory.Workspace, x.Len())
	}
	v.C = in.at(p, buf, d)
	matmul.MulScattered(v)
	a := gateArgs{plan: *p, x: in.at(p, x.Data, d), v: v.C, d: d}
	if gates != nil {
		a.gates, a.dgates = gates.Data, n.GradOf(2)
	}
	if !fresh {
		a.dx = in.at(p, dx, d)
	}
	gateLoop.Run(par.Pieces(p.rows(), routeRows), a, gatePiece)
	if !fresh {
		n.Tape.Arena.Free(memory.Workspace, buf)
	}
}

type gateArgs struct {
	plan          Plan
	x, v, dx      matmul.Rows
	gates, dgates []float32
	d             int
}

var gateLoop par.Loop[gateArgs]

// gatePiece turns V into the gradients of x and of the gates.
func gatePiece(a *gateArgs, i int) {
	lo, hi := par.Bounds(i, routeRows, a.plan.rows())
	for r := lo; r < hi; r++ {
		v := row(&a.v, r, a.d)
		if a.gates != nil {
			place := a.plan.Order[r]
			if a.dgates != nil {
				a.dgates[place] += simd.Dot(v, row(&a.x, r, a.d))
			}
			simd.Scale(v, a.gates[place])
		}
		if a.dx.Data != nil {
			simd.AddTo(row(&a.dx, r, a.d), v)
		}
	}
}

// row is row i of d floats.
func row(x *matmul.Rows, i, d int) []float32 {
	if x.Index != nil {
		i = int(x.Index[i])
	}
	return x.Data[i*x.LD:][:d]
}

// formatOf is the number format of the products of experts. Policies decide on
// single products; those that are not one of these two compute experts in
// float32.
func formatOf(t *grad.Tape) matmul.Format {
	switch t.Policy.(type) {
	case precision.BF16, *precision.BF16:
		return matmul.BF16
	}
	return matmul.F32
}
