package grad

import (
	"fmt"
	"slices"

	"hasten/engine/matmul"
	"hasten/engine/par"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

// PerSample has, after one backward pass, what the parameter gradient of every
// single sample of the batch follows from: the inputs of each operation with
// parameters and the gradients of its output (Bu et al., "Differentially
// Private Optimization on Large Model at Small Cost", ICML 2023). From them it
// computes the gradients' norms, any weighted sum of them, or the gradients
// themselves. It is valid until the tape is Reset.
type PerSample struct {
	t       *Tape
	samples int
	uses    []use

	node Node // the part of a node that is being replayed
	vars [maxInputs + 1]Var
}

// use is one place where a parameter went into an operation.
type use struct {
	n     *Node
	input int
}

// BackwardPerSample is Backward for a batch of equal samples: the first
// dimension of every value that has one sample per row, or per group of rows,
// is cut into that many parts. It leaves parameter gradients as they are and
// keeps what PerSample computes them from, which is part of the activations of
// the forward pass and as many gradients again; the weight gradients' products,
// a third of a step's arithmetic, are not done. The gradient of a sample is
// that of loss in as far as it passes through the sample: for a mean over the
// batch, 1/samples of the gradient of the sample's own loss.
//
// It is an error, and nothing is done, when a parameter goes into an operation
// that has no rule (Node.PerSample), or when sizes are no multiple of samples.
// Operations that mix samples, such as batch normalisation, are not noticed.
func (t *Tape) BackwardPerSample(loss *Var, samples int) (*PerSample, error) {
	p := &t.samples
	p.t, p.samples, p.uses = t, samples, p.uses[:0]
	for _, n := range t.nodes[:t.n] {
		if err := p.find(n); err != nil {
			return nil, err
		}
	}
	t.rememberAll()
	for _, u := range p.uses {
		u.n.held = true
		for i, x := range u.n.In {
			if !u.n.shares(i) {
				x.hold()
			}
		}
		if u.n.keepsOut {
			u.n.Out.hold()
		}
	}
	if t.seed(loss, 1) {
		p.backward()
	}
	return p, nil
}

// hold keeps the data of v, or what it is a view of, through the backward pass.
func (v *Var) hold() {
	for ; v != nil; v = v.base {
		if v.owned { // others are not the tape's to free, nor to write to
			v.held = true
		}
	}
}

// find notes the uses of parameters by n.
func (p *PerSample) find(n *Node) error {
	before := len(p.uses)
	for i, x := range n.In {
		switch {
		case x == &anyParameter:
			return fmt.Errorf("per-sample gradients: the parameters inside a checkpointed segment cannot be seen")
		case !x.Wanted():
		case x.param && n.shares(i):
			p.uses = append(p.uses, use{n, i})
		case x.param:
			return fmt.Errorf("per-sample gradients: %s has no rule for a parameter %v", nameOf(n.back), x.Shape)
		case n.shares(i):
			return fmt.Errorf("per-sample gradients: %s takes a weight %v that is computed, not a parameter", nameOf(n.back), x.Shape)
		}
	}
	if len(p.uses) == before {
		return nil
	}
	whole := func(size int) bool { return p.samples > 0 && size%p.samples == 0 }
	ok := whole(n.Out.first()) && whole(len(n.Index))
	for i, x := range n.In {
		ok = ok && (x == nil || n.shares(i) || whole(x.first()))
	}
	if !ok {
		return fmt.Errorf("per-sample gradients: %s of %v cannot be cut into %d samples", nameOf(n.back), n.Out.Shape, p.samples)
	}
	return nil
}

func (v *Var) first() int {
	if v.Rank() == 0 {
		return 1
	}
	return v.Dim(0)
}

func (n *Node) shares(i int) bool { return n.shared>>i&1 == 1 }

// PerSample declares that the backward function, given the part of one sample,
// computes the gradients of that part: Out, Saved, Index and the inputs cut
// along their first dimension into equal parts, except the given inputs, which
// all samples share. It must leave Out.Grad as it is. n may be nil.
func (n *Node) PerSample(shared ...int) *Node {
	if n != nil {
		for _, i := range shared {
			n.shared |= 1 << i
		}
	}
	return n
}

// Squares gives the operation a way to the squared norms of its per-sample
// gradients without computing them: it adds to squares[s] that of input's
// gradient for sample s, or returns false where computing the gradients costs
// less. n may be nil.
func (n *Node) Squares(rule func(n *Node, input int, squares []float64) bool) *Node {
	if n != nil {
		n.squares = rule
	}
	return n
}

// backward is BackwardFrom, without parameters, for all that is not held.
func (p *PerSample) backward() {
	t := p.t
	for i := t.n - 1; i >= 0; i-- {
		n := t.nodes[i]
		p.want(n, false)
		n.backward()
		p.want(n, true)
		if !n.held {
			t.freeSaved(n)
			t.freeGrad(n.Out)
		}
		if !n.Out.held {
			t.freeData(n.Out)
		}
	}
}

func (p *PerSample) want(n *Node, wanted bool) {
	for i, x := range n.In {
		if x != nil && x.param && n.shares(i) {
			x.wanted = wanted
		}
	}
}

// SquaredNorms sets squares[s] to the squared norm of the gradient of sample s
// in all the given parameters together. squares: one for each sample. For a
// weight [out, in] used once, with T rows to a sample, the cost in products is
// 2·T²·(in+out) for each sample, or 2·T·in·out where that is less, and no more
// memory than one gradient.
func (p *PerSample) SquaredNorms(squares []float64, params []*Param) {
	squares = squares[:p.samples]
	clear(squares)
	for _, q := range params {
		var once use
		uses := 0
		for _, u := range p.uses {
			if u.n.In[u.input] == q.Var && u.n.Out.Grad != nil {
				once = u
				uses++
			}
		}
		if uses == 0 || uses == 1 && once.n.squares != nil && once.n.squares(once.n, once.input, squares) {
			continue
		}
		g := p.t.scratch(q.Len())
		for s := range p.samples {
			p.gradient(g, q, s)
			squares[s] += simd.SumSq(g)
		}
		p.t.drop(g)
	}
}

// Gradients sets row s of dst to the gradient of sample s, all parameters one
// after the other. dst: [samples, Σ len]. It costs as much arithmetic as the
// weight gradients of a backward pass.
func (p *PerSample) Gradients(dst []float32, params []*Param) {
	width := 0
	for _, q := range params {
		width += q.Len()
	}
	for s := range p.samples {
		row := dst[s*width : (s+1)*width]
		for _, q := range params {
			p.gradient(row[:q.Len()], q, s)
			row = row[q.Len():]
		}
	}
}

// AddWeighted adds Σ c[s]·(gradient of sample s) to the gradients of the given
// parameters, for the arithmetic of their ordinary gradients; nil stands for
// weights of 1.
func (p *PerSample) AddWeighted(c []float32, params []*Param) {
	for i, u := range p.uses {
		if u.n.Out.Grad == nil || i > 0 && p.uses[i-1].n == u.n { // done with the node's first use
			continue
		}
		sub := p.part(u.n, 0, 1)
		for j, x := range u.n.In {
			if x != nil && u.n.shares(j) && slices.ContainsFunc(params, func(q *Param) bool { return q.Var == x }) {
				sub.In[j] = x
			}
		}
		if c == nil {
			sub.backward()
			continue
		}
		weighted := p.t.scratch(len(sub.Out.Grad))
		eachRow(rowArgs{y: weighted, x: sub.Out.Grad, v: c, rows: p.samples, cols: len(weighted) / p.samples,
			row: func(a *rowArgs, s int, y, x []float32) {
				copy(y, x)
				simd.Scale(y, a.v[s])
			}})
		sub.Out.Grad = weighted
		sub.backward()
		p.t.drop(weighted)
	}
}

// gradient sets dst to the gradient of sample s in parameter q.
func (p *PerSample) gradient(dst []float32, q *Param, s int) {
	fresh := true
	for _, u := range p.uses {
		if u.n.In[u.input] != q.Var || u.n.Out.Grad == nil {
			continue
		}
		sub := p.part(u.n, s, p.samples)
		in := sub.In[u.input]
		in.Grad, in.wanted, in.param, in.stale = dst, true, true, fresh
		sub.backward()
		fresh = false
	}
	if fresh {
		clear(dst)
	}
}

// part is n for sample s of so many; no input wants a gradient.
func (p *PerSample) part(n *Node, s, samples int) *Node {
	sub := &p.node
	*sub = *n
	for i, x := range n.In {
		if x == nil {
			continue
		}
		sub.In[i] = &p.vars[i]
		p.vars[i] = Var{Tensor: x.Tensor}
		if !n.shares(i) {
			p.vars[i].cut(s, samples)
		}
	}
	sub.Out = &p.vars[maxInputs]
	*sub.Out = Var{Tensor: n.Out.Tensor, Grad: cut(n.Out.Grad, s, samples)}
	sub.Out.cut(s, samples)
	for i := range sub.Saved {
		sub.Saved[i] = cut(n.Saved[i], s, samples)
	}
	sub.Index = cut(n.Index, s, samples)
	return sub
}

func (v *Var) cut(s, samples int) {
	v.Tensor = tensor.Tensor{Shape: v.WithFirst(v.first() / samples), Data: cut(v.Data, s, samples)}
}

func cut[T any](x []T, s, samples int) []T {
	size := len(x) / samples
	return x[s*size : (s+1)*size]
}

// linearSquares uses that the weight's gradient is Σ δₜ⊗aₜ over the sample's
// rows, so that its squared norm is Σ (aₜ·aₜ')·(δₜ·δₜ') over pairs of rows.
func linearSquares(n *Node, input int, squares []float64) bool {
	x, dy := n.In[0], n.Out
	samples := len(squares)
	in, out, rows := x.Cols(), dy.Cols(), x.Rows()/samples
	if input != 1 || rows*(in+out) > in*out {
		return false
	}
	if rows == 1 {
		for s := range samples {
			squares[s] += simd.SumSq(x.Row(s)) * simd.SumSq(dy.Grad[s*out:(s+1)*out])
		}
		return true
	}
	pairs := n.Tape.scratch(2 * rows * rows)
	ofX, ofDY := pairs[:rows*rows], pairs[rows*rows:]
	for s := range samples {
		a, d := cut(x.Data, s, samples), cut(dy.Grad, s, samples)
		matmul.Mul(matmul.Args{M: rows, N: rows, K: in, A: a, B: a, TransB: true, C: ofX})
		matmul.Mul(matmul.Args{M: rows, N: rows, K: out, A: d, B: d, TransB: true, C: ofDY})
		squares[s] += max(0, float64(simd.Dot(ofX, ofDY)))
	}
	n.Tape.drop(pairs)
	return true
}

type embeddingArgs struct {
	sums, dy []float32
	ids      []int32
	squares  []float64
	rows     int
}

var embeddingLoop par.Loop[embeddingArgs]

// embeddingSquares adds up the gradients of each distinct id of a sample.
func embeddingSquares(n *Node, _ int, squares []float64) bool {
	samples := len(squares)
	sums := n.Tape.scratch(samples * n.Out.Cols())
	embeddingLoop.Run(samples, embeddingArgs{sums, n.Out.Grad, n.Index, squares, len(n.Index) / samples}, func(a *embeddingArgs, s int) {
		d := len(a.sums) / len(a.squares)
		ids, dy, sum := a.ids[s*a.rows:(s+1)*a.rows], a.dy[s*a.rows*d:], a.sums[s*d:(s+1)*d]
		for r, id := range ids {
			if slices.Contains(ids[:r], id) {
				continue
			}
			clear(sum)
			for q := r; q < len(ids); q++ {
				if ids[q] == id {
					simd.AddTo(sum, dy[q*d:(q+1)*d])
				}
			}
			a.squares[s] += simd.SumSq(sum)
		}
	})
	n.Tape.drop(sums)
	return true
}
