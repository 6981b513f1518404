package grad

import (
	"fmt"

	"hasten/engine/tensor"
)

// Second derivatives.
//
// The tangent ẏ of a value y is its derivative along a direction: how fast y
// moves when chosen inputs move at given speeds. Each operation has a rule
// that computes its output's tangent from those of its inputs, and the rule is
// itself written in operations: so a tangent can be differentiated, and has
// tangents, like any other value. The gradient of the loss's tangent along v
// is the Hessian times v (Pearlmutter, "Fast Exact Multiplication by the
// Hessian", 1994).

// Tangent gives the operation a rule for its tangent: an expression in
// operations on n.Tape, of n.In, of n.Out if the node has KeepOut, and of the
// inputs' tangents n.Tan, at least one of which is not nil. n may be nil.
func (n *Node) Tangent(rule func(n *Node) *Var) *Node {
	if n != nil {
		n.tangent = rule
	}
	return n
}

// Tan is the tangent of input i, for a rule given to Tangent. nil means zero.
func (n *Node) Tan(i int) *Var { return n.Tape.tangents[n.In[i]] }

// JVP returns the tangent of y, a value on this tape, when each at[i] moves in
// direction v[i] (of its shape): ẏ = Σ ∂y/∂at[i]·v[i]. It can be differentiated
// in turn. With it come gradient penalties, for the derivative of f(∇ₓy) in the
// weights is that of ẏ along the constant ∇f(∇ₓy), and the higher derivatives
// in the coordinates that differential equations need. It panics with the name
// of an operation that has no rule, as Checkpoint.
func JVP(t *Tape, y *Var, at, v []*Var) *Var {
	outer := t.tangents
	defer func() { t.tangents = outer }()
	t.tangents = make(map[*Var]*Var)
	for i, x := range at {
		if x.Shape != v[i].Shape {
			panic(fmt.Sprintf("grad: JVP of a value %v in a direction %v", x.Shape, v[i].Shape))
		}
		t.setTangent(x, v[i])
	}
	return t.sweep(y)
}

// TangentOf is for the rule of an operation that other operations can do too,
// only slower: y is the same value computed by them, from n.In. The tangent of
// a fused layer is then one line:
//
//	func fusedTangent(n *grad.Node) *grad.Var {
//		return n.TangentOf(grad.SiLU(n.Tape, grad.Linear(n.Tape, n.In[0], n.In[1], nil)))
//	}
func (n *Node) TangentOf(y *Var) *Var { return n.Tape.sweep(y) }

// sweep computes the tangents of all that y was computed from, and returns that
// of y.
func (t *Tape) sweep(y *Var) *Var {
	t.rememberAll()
	below := t.below(y)
	for i, end := 0, t.n; i < end; i++ {
		n := t.nodes[i]
		if !below[n.Out] || t.tangents[n.Out] != nil || !n.moves() {
			continue
		}
		if n.tangent == nil {
			panic(fmt.Sprintf("grad: %s has no rule for second derivatives (Node.Tangent)", nameOf(n.back)))
		}
		t.setTangent(n.Out, n.tangent(n))
	}
	if d := t.tangents[y]; d != nil {
		return d
	}
	return zeros(t, y.Shape)
}

// setTangent notes the tangent of x. Several rules may read it, so none may
// overwrite it.
func (t *Tape) setTangent(x, d *Var) {
	if d.owned {
		d.used = true
	}
	t.tangents[x] = d
}

// below marks the values that y was computed from, and y.
func (t *Tape) below(y *Var) map[*Var]bool {
	m := map[*Var]bool{y: true}
	for i := t.n - 1; i >= 0; i-- {
		if n := t.nodes[i]; m[n.Out] {
			for _, x := range n.In {
				if x != nil {
					m[x] = true
				}
			}
		}
	}
	return m
}

// moves tells whether an input of the node has a tangent.
func (n *Node) moves() bool {
	for _, x := range n.In {
		if x != nil && n.Tape.tangents[x] != nil {
			return true
		}
	}
	return false
}

// HVP returns the product of the Hessian of a loss with the vector v, exactly:
// no differences are taken. t: an empty tape; loss: computes a scalar on it;
// v and the result: one slice for each parameter, as long as its Data. The
// parameters' gradients stay as they are. It costs about three and a half
// times a forward and backward pass; the activations it keeps are those of the
// tangents too, up to eight times as much where GELU is (BenchmarkHVP). The
// segments of Checkpoint are kept like the rest, not computed again.
func HVP(t *Tape, loss func(t *Tape) *Var, params []*Param, v [][]float32) [][]float32 {
	if t.n > 0 || len(v) != len(params) {
		panic(fmt.Sprintf("grad: HVP of %d parameters and %d vectors on a tape with %d operations", len(params), len(v), t.n))
	}
	t.plain = true
	defer func() { t.plain = false }()
	y := loss(t)

	hv := make([][]float32, len(params))
	at, dirs := make([]*Var, len(params)), make([]*Var, len(params))
	for i, p := range params {
		hv[i] = make([]float32, p.Len())
		at[i], dirs[i] = p.Var, t.Input(tensor.Tensor{Shape: p.Shape, Data: v[i]})
	}
	d := JVP(t, y, at, dirs)
	t.redirect(params, hv, func() { t.Backward(d) })
	t.Reset()
	return hv
}

// redirect runs f while the gradients of params go to the given zeroed
// buffers, and those of all other parameters on the tape to nowhere.
func (t *Tape) redirect(params []*Param, to [][]float32, f func()) {
	saved := make(map[*Var]Var)
	for i, p := range params {
		saved[p.Var] = *p.Var
		p.Grad, p.stale = to[i], false
	}
	for _, n := range t.nodes[:t.n] {
		for _, x := range n.In {
			if x == nil || !x.param {
				continue
			}
			if _, done := saved[x]; !done {
				saved[x] = *x
				x.wanted = false
			}
		}
	}
	defer func() {
		for x, v := range saved {
			*x = v
		}
	}()
	f()
}

// Sums and products of tangents, in which nil is zero.

func plus(t *Tape, a, b *Var) *Var {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return Add(t, a, b)
}

func times(t *Tape, a, b *Var) *Var {
	if a == nil || b == nil {
		return nil
	}
	return Mul(t, a, b)
}

// plusRow is AddRow, y: of the given shape.
func plusRow(t *Tape, s tensor.Shape, y, b *Var) *Var {
	if b == nil {
		return y
	}
	if y == nil {
		y = zeros(t, s)
	}
	return AddRow(t, y, b)
}

func zeros(t *Tape, s tensor.Shape) *Var {
	y := t.New(s)
	clear(y.Data)
	return y
}
