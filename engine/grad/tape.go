// Package grad is reverse-mode differentiation on a tape.
//
// An operation is one function: it computes its output and records how the
// gradient flows back through it. A Tape holds what one pass computed; it is
// used again and again, and after its first pass takes nothing from the Go
// heap. The way through is
//
//	tape := grad.NewTape(arena)
//	for {
//		x := grad.Linear(tape, input, weight, bias) // values, recorded
//		loss := grad.Mean(tape, x)
//		tape.Backward(loss)                         // gradients in weight.Grad
//		tape.Reset()
//	}
//
// To write an operation of your own, see Tape.Record; package gradtest proves
// it. Beyond the gradient of a loss there are
//
//   - Tape.Checkpoint, which computes activations again instead of keeping them;
//   - HVP and JVP, exact second and higher derivatives;
//   - Tape.BackwardPerSample, the gradient of each sample of a batch, or its norm;
//   - Tape.Stop, Tape.NoGrad, Leaf and BackwardScaled, to steer what flows where.
//
// Results do not depend, to the bit, on the number of threads.
package grad

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"unsafe"

	"hasten/engine/memory"
	"hasten/engine/precision"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

// Var is a value that gradients can flow back to.
type Var struct {
	tensor.Tensor
	// Grad is the gradient of the loss with respect to the value. For a
	// parameter it stays until ZeroGrad; for a value on a tape it is there
	// only while the backward pass needs it.
	Grad []float32

	wanted bool // whether a gradient is wanted
	param  bool // a parameter: its gradient buffer is permanent
	stale  bool // a parameter whose Grad holds nothing that counts
	owned  bool // Data belongs to the tape, which frees it
	used   bool // owned, and read by an operation: must not be overwritten
	moved  bool // Data was taken over by an alias
	held   bool // Data are kept by BackwardPerSample
	base   *Var // what this is a view of

	source    *Node // the operation that computed it
	forgotten bool  // Data were freed and must be computed again

	keeper Keeper // of a parameter that is not always in memory
	id     int    // by which the keeper knows it
}

// Param is a trainable tensor with a name.
type Param struct {
	*Var
	Name  string
	Decay bool // whether weight decay applies: matrices yes, biases and gains no
}

// NewParam returns a zeroed parameter whose value and gradient come from the
// arena. Weight decay applies when it has two dimensions or more.
func NewParam(a *memory.Arena, name string, dims ...int) *Param {
	s := tensor.Of(dims...)
	v := &Var{
		Tensor: tensor.Tensor{Shape: s, Data: a.Floats(memory.Weights, s.Len())},
		Grad:   a.Floats(memory.Gradients, s.Len()),
		wanted: true, param: true, stale: true,
	}
	return &Param{Var: v, Name: name, Decay: s.Rank() > 1}
}

// ZeroGrad makes the next backward pass overwrite the parameter's gradient.
func (p *Param) ZeroGrad() { p.stale = true }

// SettleGrad clears the gradient of a parameter that no backward pass has
// reached since ZeroGrad. Optimisers call it before they read Grad.
func (p *Param) SettleGrad() {
	if p.stale {
		clear(p.Grad)
		p.stale = false
	}
}

// Const returns a value that no gradient flows to.
func Const(t tensor.Tensor) *Var { return &Var{Tensor: t} }

// Leaf returns a value that a gradient flows to, into a buffer of its own on
// the Go heap: for inputs whose gradient is the thing wanted.
func Leaf(t tensor.Tensor) *Var {
	return &Var{Tensor: t, Grad: make([]float32, len(t.Data)), wanted: true, param: true, stale: true}
}

// Wanted tells whether a gradient flows to v; an operation's backward function
// asks it of each input.
func (v *Var) Wanted() bool { return v != nil && v.wanted }

// Tape records operations in the order they ran. It is for one goroutine.
type Tape struct {
	Arena  *memory.Arena
	Policy precision.Policy // how matrix products are computed; F32 by default
	Rand   rng.Stream       // for operations that draw random numbers

	nodes    []*Node // nodes[:n] are in use, the rest wait to be used again
	n        int
	vars     []*Var // vars[:nv] are in use
	nv       int
	segments []*segment // segments[:ns] are in use
	ns       int

	off      bool          // recording is switched off
	first    bool          // off, for the first run of a segment
	again    bool          // for the run of a segment in the backward pass
	ids      []int         // workspace of fetch
	plain    bool          // Checkpoint records its segments like everything else
	tangents map[*Var]*Var // of the JVP under way
	samples  PerSample     // of the last BackwardPerSample
}

// NewTape returns an empty tape whose buffers come from the arena.
func NewTape(a *memory.Arena) *Tape { return &Tape{Arena: a, Policy: precision.F32{}} }

// maxInputs is the number of inputs an operation can have.
const maxInputs = 8

// Node is one recorded operation. Its backward function reads Out.Grad and
// adds to the gradient of each input that is wanted, by GradOf.
type Node struct {
	Tape   *Tape
	Out    *Var
	In     [maxInputs]*Var
	Saved  [4][]float32 // buffers of kind Activations; freed after the backward function
	Ints   [8]int
	Floats [4]float32
	Index  []int32 // token ids or other indices; not owned
	State  any     // whatever else an operation keeps; pointers do not allocate

	back     func(*Node)
	again    func(*Node)                                      // see Again
	tangent  func(*Node) *Var                                 // see Tangent
	squares  func(n *Node, input int, squares []float64) bool // see Squares
	shared   uint16                                           // bits of inputs, see PerSample
	keepsOut bool                                             // see KeepOut
	held     bool                                             // by BackwardPerSample, until Reset
}

// New returns a value of the given shape for an operation to fill: its
// contents are unspecified.
func (t *Tape) New(s tensor.Shape) *Var {
	v := t.newVar()
	*v = Var{Tensor: tensor.Tensor{Shape: s, Data: t.Arena.Dirty(memory.Activations, s.Len())}, owned: true}
	return v
}

// Input returns a value over data that stays the caller's; no gradient flows
// to it.
func (t *Tape) Input(x tensor.Tensor) *Var {
	v := t.newVar()
	*v = Var{Tensor: x}
	return v
}

// Alias returns a value of another shape that takes over the data of x. An
// operation that works in place returns an alias of its input; x must then not
// be read again, except through the alias: Record panics when it is. Own is
// the safe way to one.
func (t *Tape) Alias(x *Var, s tensor.Shape) *Var {
	if s.Len() != x.Len() {
		panic(fmt.Sprintf("grad: %v seen as %v", x.Shape, s))
	}
	v := t.newVar()
	*v = Var{Tensor: tensor.Tensor{Shape: s, Data: x.Data}, owned: x.owned}
	x.moved = x.owned
	x.owned = false
	return v
}

// Own returns x as a value an operation may overwrite: an alias where the tape
// owns the data of x and no operation has read them yet, else a copy.
func (t *Tape) Own(x *Var) *Var {
	if x.owned && !x.used {
		return t.Alias(x, x.Shape)
	}
	y := t.New(x.Shape)
	copy(y.Data, x.Data)
	return y
}

func (t *Tape) newVar() *Var {
	if t.nv == len(t.vars) {
		t.vars = append(t.vars, new(Var))
	}
	t.nv++
	return t.vars[t.nv-1]
}

// Record notes that out was computed from the inputs (nil ones are allowed)
// and that back carries the gradient from out to them. It returns nil when no
// gradient is wanted; otherwise the node, to keep what back will need:
//
//	func Square(t *grad.Tape, x *grad.Var) *grad.Var {
//		y := t.New(x.Shape)
//		simd.Mul(y.Data, x.Data, x.Data)
//		t.Record(y, squareBack, x)
//		return y
//	}
//
//	func squareBack(n *grad.Node) {
//		dx := n.GradOf(0)                     // zeros, or what is there already
//		for i, d := range n.Out.Grad {
//			dx[i] += 2 * n.In[0].Data[i] * d
//		}
//	}
//
// An operation that reads parameters records first and computes then: recording
// puts parameters with a Keeper in place. A back that captures nothing makes
// recording free of allocation. A back that reads Out.Data must say so by
// KeepOut. Tangent and PerSample say what more
// the operation can do.
func (t *Tape) Record(out *Var, back func(*Node), in ...*Var) *Node {
	wanted := false
	for i, v := range in {
		if v == nil {
			continue
		}
		if v.moved && unsafe.SliceData(v.Data) != unsafe.SliceData(out.Data) {
			panic(fmt.Sprintf("grad: %s reads input %d, %v, after an operation in place took it over", nameOf(back), i, v.Shape))
		}
		if v.owned {
			v.used = true
		}
		wanted = wanted || v.wanted
	}
	t.fetch(in)
	if wanted && (t.first || !t.off) {
		t.recorded(in)
	}
	if t.off || !wanted {
		return nil
	}
	out.wanted = true
	if t.n == len(t.nodes) {
		t.nodes = append(t.nodes, new(Node))
	}
	n := t.nodes[t.n]
	t.n++
	*n = Node{Tape: t, Out: out, back: back}
	out.source = n
	copy(n.In[:], in)
	if len(in) > maxInputs {
		panic(fmt.Sprintf("grad: an operation with %d inputs, at most %d", len(in), maxInputs))
	}
	return n
}

// nameOf is the name of an operation, from that of its backward function.
func nameOf(back func(*Node)) string {
	name := runtime.FuncForPC(reflect.ValueOf(back).Pointer()).Name()
	return strings.TrimSuffix(name[strings.LastIndexByte(name, '/')+1:], "Back")
}

// KeepOut says that the backward function reads Out.Data: no operation will
// then overwrite them in place. n may be nil.
func (n *Node) KeepOut() *Node {
	if n != nil {
		n.Out.used, n.keepsOut = true, true
	}
	return n
}

// Save returns a buffer of size unspecified floats that lives until the node's
// backward function has run.
func (n *Node) Save(slot, size int) []float32 {
	n.Saved[slot] = n.Tape.Arena.Dirty(memory.Activations, size)
	return n.Saved[slot]
}

// GradOf returns the gradient buffer of input i, to be added to. It is nil
// when that gradient is not wanted.
func (n *Node) GradOf(i int) []float32 {
	g, fresh := n.GradInto(i)
	if fresh {
		clear(g)
	}
	return g
}

// GradInto is GradOf for a backward function that can also overwrite: when
// fresh, the buffer's contents are unspecified and must all be written.
func (n *Node) GradInto(i int) (g []float32, fresh bool) {
	return n.Tape.gradInto(n.In[i])
}

func (t *Tape) gradInto(v *Var) (g []float32, fresh bool) {
	switch {
	case !v.Wanted():
		return nil, false
	case v.param:
		if v.keeper != nil && v.Grad == nil {
			v.keeper.FetchGrad(v.id)
		}
		fresh, v.stale = v.stale, false
		return v.Grad, fresh
	case v.Grad == nil:
		v.Grad = t.Arena.Dirty(memory.Gradients, v.Len())
		return v.Grad, true
	}
	return v.Grad, false
}

// PassGrad adds the output's gradient to that of input i, by handing over the
// buffer where it can. It must be the last use of Out.Grad.
func (n *Node) PassGrad(i int) {
	v := n.In[i]
	if n.Out.Grad == nil {
		panic(fmt.Sprintf("grad: %s passes its gradient on twice", nameOf(n.back)))
	}
	if v.Wanted() && !v.param && v.Grad == nil && !n.held {
		v.Grad, n.Out.Grad = n.Out.Grad, nil
		return
	}
	if g, fresh := n.GradInto(i); fresh {
		copy(g, n.Out.Grad)
	} else if g != nil {
		addTo(g, n.Out.Grad)
	}
}

// overwrite returns the buffer for a backward function that cannot add: the
// gradient of input i itself or, where that holds something already, workspace
// that done.add adds to it.
func (n *Node) overwrite(i int) (g []float32, done pending) {
	g, fresh := n.GradInto(i)
	if fresh || g == nil {
		return g, pending{}
	}
	d := n.Tape.scratch(len(g))
	return d, pending{n.Tape, g, d}
}

type pending struct {
	t       *Tape
	grad, d []float32
}

func (p pending) add() {
	if p.t != nil {
		addTo(p.grad, p.d)
		p.t.drop(p.d)
	}
}

// Backward carries the gradient of a scalar loss back to every parameter,
// freeing each value as soon as nothing needs it. The tape must be Reset
// afterwards.
func (t *Tape) Backward(loss *Var) { t.BackwardScaled(loss, 1) }

// BackwardScaled is Backward of scale·loss.
func (t *Tape) BackwardScaled(loss *Var, scale float32) {
	if t.seed(loss, scale) {
		t.BackwardFrom()
	}
}

// seed sets the gradient of a scalar loss; false: nobody wants it.
func (t *Tape) seed(loss *Var, scale float32) bool {
	if loss.Len() != 1 {
		panic(fmt.Sprintf("grad: Backward of a value of shape %v, not a scalar", loss.Shape))
	}
	g, fresh := t.gradInto(loss)
	if fresh {
		g[0] = 0
	}
	if g != nil {
		g[0] += scale
	}
	return g != nil
}

// SetGrad gives BackwardFrom the gradient of a value to start from: a copy of
// g, or the sum where the value has a gradient already.
func (t *Tape) SetGrad(v *Var, g []float32) {
	if d, fresh := t.gradInto(v); fresh {
		copy(d, g)
	} else if d != nil {
		addTo(d, g)
	}
}

// BackwardFrom runs the backward pass from whatever gradients have been set on
// outputs of this tape.
func (t *Tape) BackwardFrom() {
	for i := t.n - 1; i >= 0; i-- {
		n := t.nodes[i]
		n.backward()
		t.freeNode(n)
		n.carried()
	}
	t.n = 0
}

// backward runs the backward function if there is something to carry, and
// somewhere to carry it to.
func (n *Node) backward() {
	if n.Out.Grad == nil {
		return
	}
	for _, x := range n.In {
		if x.Wanted() {
			n.remember()
			n.Tape.fetch(n.In[:])
			n.back(n)
			return
		}
	}
}

func (t *Tape) freeNode(n *Node) {
	t.freeSaved(n)
	t.freeVar(n.Out)
}

func (t *Tape) freeSaved(n *Node) {
	for i, s := range n.Saved {
		if s != nil {
			t.Arena.Free(memory.Activations, s)
			n.Saved[i] = nil
		}
	}
	n.State, n.Index = nil, nil
}

func (t *Tape) freeVar(v *Var) {
	t.freeData(v)
	t.freeGrad(v)
}

func (t *Tape) freeData(v *Var) {
	if v.owned {
		t.Arena.Free(memory.Activations, v.Data)
		v.owned, v.Data = false, nil
	}
}

func (t *Tape) freeGrad(v *Var) {
	if v.Grad != nil && !v.param {
		t.Arena.Free(memory.Gradients, v.Grad)
		v.Grad = nil
	}
}

// Reset gives back every buffer and empties the tape for the next pass.
func (t *Tape) Reset() {
	for _, n := range t.nodes[:t.n] {
		t.freeNode(n)
	}
	for _, v := range t.vars[:t.nv] {
		t.freeVar(v)
	}
	t.n, t.nv, t.ns = 0, 0, 0
}

// NoGrad runs f without recording: for evaluation, and for what must not be
// differentiated.
func (t *Tape) NoGrad(f func()) {
	off, first := t.off, t.first
	t.off, t.first = true, false
	defer func() { t.off, t.first = off, first }()
	f()
}

// Stop returns x as a value that no gradient flows back through.
func (t *Tape) Stop(x *Var) *Var {
	if x.owned {
		x.used = true
	}
	return t.view(x, x.Shape)
}

// view is a value over the data of x, which stays with x.
func (t *Tape) view(x *Var, s tensor.Shape) *Var {
	v := t.newVar()
	*v = Var{Tensor: tensor.Tensor{Shape: s, Data: x.Data}, base: x}
	return v
}

// scratch is a workspace buffer of the tape's arena; give it back by drop.
func (t *Tape) scratch(n int) []float32 { return t.Arena.Dirty(memory.Workspace, n) }

func (t *Tape) drop(x []float32) { t.Arena.Free(memory.Workspace, x) }
