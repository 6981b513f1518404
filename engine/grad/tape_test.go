package grad_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hasten/engine/conv"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/precision"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

// model is a residual network: an embedding, blocks x + W₂·gelu(W₁·norm(x)),
// and the embedding once more as the output layer.
type model struct {
	arena  *memory.Arena
	params []*grad.Param
	table  *grad.Param
	blocks []*block

	ids, targets []int32
	wrap         func(t *tape, x *val, s grad.Segment) *val // how a block is run
	dropout      float64
}

type block struct {
	gain, bias, w1, b1, w2 *grad.Param
	run                    grad.Segment
}

func newModel(layers int) *model { return newModelOf(layers, 70, 11, 24, 40) }

func newModelOf(layers, rows, vocab, dim, hidden int) *model {
	m := &model{arena: new(memory.Arena)}
	stream := rng.New(5, 0)
	param := func(name string, mean, std float64, dims ...int) *grad.Param {
		p := grad.NewParam(m.arena, name, dims...)
		stream.FillNormal(p.Data, mean, std)
		m.params = append(m.params, p)
		return p
	}
	m.table = param("table", 0, 1, vocab, dim)
	for i := range layers {
		b := &block{
			gain: param(fmt.Sprintf("gain%d", i), 1, 0.1, dim),
			bias: param(fmt.Sprintf("bias%d", i), 0, 0.1, dim),
			w1:   param(fmt.Sprintf("w1.%d", i), 0, 0.2, hidden, dim),
			b1:   param(fmt.Sprintf("b1.%d", i), 0, 0.2, hidden),
			w2:   param(fmt.Sprintf("w2.%d", i), 0, 0.2, dim, hidden),
		}
		b.run = func(t *tape, x *val) *val {
			h := grad.LayerNorm(t, x, b.gain.Var, b.bias.Var, 1e-5)
			h = grad.GELUTanh(t, grad.Linear(t, h, b.w1.Var, b.b1.Var))
			h = grad.Dropout(t, h, m.dropout)
			return grad.LinearAdd(t, h, b.w2.Var, nil, x)
		}
		m.blocks = append(m.blocks, b)
	}
	for range rows {
		m.ids = append(m.ids, int32(stream.IntN(vocab)))
		m.targets = append(m.targets, int32(stream.IntN(vocab)))
	}
	m.wrap = func(t *tape, x *val, s grad.Segment) *val { return s(t, x) }
	return m
}

func (m *model) loss(t *tape) *val {
	x := grad.Embedding(t, m.table.Var, m.ids)
	for _, b := range m.blocks {
		x = m.wrap(t, x, b.run)
	}
	return grad.CrossEntropy(t, grad.Linear(t, x, m.table.Var, nil), m.targets)
}

func (m *model) zeroGrads() {
	for _, p := range m.params {
		p.ZeroGrad()
	}
}

// step leaves the gradients of one pass and returns the loss.
func (m *model) step(t *tape) float32 {
	m.zeroGrads()
	t.Rand = rng.New(3, 3)
	y := m.loss(t)
	loss := y.Data[0]
	t.Backward(y)
	t.Reset()
	return loss
}

func (m *model) grads() [][]float32 {
	var all [][]float32
	for _, p := range m.params {
		p.SettleGrad()
		all = append(all, slices.Clone(p.Grad))
	}
	return all
}

func sameBits(t *testing.T, what string, got, want [][]float32) {
	t.Helper()
	for i := range want {
		for j := range want[i] {
			if math.Float32bits(got[i][j]) != math.Float32bits(want[i][j]) {
				t.Fatalf("%s: parameter %d, element %d: %v, want %v", what, i, j, got[i][j], want[i][j])
			}
		}
	}
}

func TestThreadsDoNotChangeABit(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var first [][]float32
	for _, n := range []int{1, 2, 3} {
		runtime.GOMAXPROCS(n)
		m := newModel(3)
		m.dropout = 0.2
		m.step(grad.NewTape(m.arena))
		if first == nil {
			first = m.grads()
		}
		sameBits(t, fmt.Sprintf("GOMAXPROCS %d", n), m.grads(), first)
	}
}

func TestStepTakesNothingFromTheHeap(t *testing.T) {
	m := newModel(2)
	m.dropout = 0.2
	tp := grad.NewTape(m.arena)
	checkpointed := func(t *tape, x *val, s grad.Segment) *val { return t.Checkpoint(x, s) }
	plain := m.wrap
	for name, wrap := range map[string]func(*tape, *val, grad.Segment) *val{"plain": plain, "checkpointed": checkpointed} {
		m.wrap = wrap
		for range 10 {
			m.step(tp)
		}
		live, held := m.arena.Usage().LiveTotal, m.arena.Held()
		if a := testing.AllocsPerRun(20, func() { m.step(tp) }); a > 0 {
			t.Errorf("%s: %v allocations per step", name, a)
		}
		if u := m.arena.Usage().LiveTotal; u != live {
			t.Errorf("%s: %d bytes live after the step, %d before", name, u, live)
		}
		if h := m.arena.Held(); h != held {
			t.Errorf("%s: the arena grew from %d to %d bytes", name, held, h)
		}
	}
	if a := m.arena.Usage().Live; a[memory.Activations] != 0 || a[memory.Workspace] != 0 {
		t.Errorf("left behind: %v", a)
	}
}

func TestResetWithoutBackwardFreesEverything(t *testing.T) {
	m := newModel(3)
	m.wrap = func(t *tape, x *val, s grad.Segment) *val { return t.Checkpoint(x, s) }
	tp := grad.NewTape(m.arena)
	before := m.arena.Usage().Live
	for range 3 {
		m.loss(tp)
		tp.Reset()
		if after := m.arena.Usage().Live; after != before {
			t.Fatalf("live %v, before the pass %v", after, before)
		}
	}
	m.step(tp) // and the tape still works
	want := newModel(3)
	want.step(grad.NewTape(want.arena))
	sameBits(t, "after Reset", m.grads(), want.grads())
}

func TestCheckpointIsExactAndSavesMemory(t *testing.T) {
	run := func(wrap func(t *tape, x *val, s grad.Segment) *val) (*model, float32, int64) {
		m := newModel(8)
		m.dropout = 0.3
		m.wrap = wrap
		tp := grad.NewTape(m.arena)
		loss := m.step(tp)
		return m, loss, m.arena.Usage().Peak[memory.Activations]
	}
	plain, loss, peak := run(func(t *tape, x *val, s grad.Segment) *val { return s(t, x) })
	ways := map[string]func(t *tape, x *val, s grad.Segment) *val{
		"one level": func(t *tape, x *val, s grad.Segment) *val { return t.Checkpoint(x, s) },
		"nested": func(t *tape, x *val, s grad.Segment) *val {
			return t.Checkpoint(x, func(t *tape, x *val) *val {
				return grad.Scale(t, t.Checkpoint(grad.Scale(t, x, 1), s), 1)
			})
		},
	}
	for name, wrap := range ways {
		m, l, p := run(wrap)
		if l != loss {
			t.Errorf("%s: loss %v, want %v", name, l, loss)
		}
		sameBits(t, name, m.grads(), plain.grads())
		if p >= peak*2/3 {
			t.Errorf("%s: peak of activations %d bytes, %d without", name, p, peak)
		}
	}
}

func TestCheckpointReachesWhatItsSegmentCaptures(t *testing.T) {
	run := func(checkpoint bool) []float32 {
		tp := grad.NewTape(new(memory.Arena))
		leaf := grad.Leaf(tensor.From([]float32{1, 2, 3}, 3))
		outside := grad.Scale(tp, leaf, 2)
		s := func(t *tape, x *val) *val { return grad.Mul(t, grad.Mul(t, x, outside), x) }
		var y *val
		if checkpoint {
			y = tp.Checkpoint(grad.Exp(tp, leaf), s)
		} else {
			y = s(tp, grad.Exp(tp, leaf))
		}
		tp.Backward(grad.Sum(tp, grad.Mul(tp, y, outside)))
		tp.Reset()
		return leaf.Grad
	}
	if got, want := run(true), run(false); !slices.Equal(got, want) {
		t.Errorf("gradient %v, want %v", got, want)
	}
}

func TestGradientsAccumulateUntilZeroGrad(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	p := grad.NewParam(tp.Arena, "p", 2)
	q := grad.NewParam(tp.Arena, "q", 2)
	pass := func(scale float32) {
		tp.BackwardScaled(grad.Sum(tp, grad.Scale(tp, p.Var, 3)), scale)
		tp.Reset()
	}
	check := func(what string, want float32) {
		t.Helper()
		if p.Grad[0] != want || p.Grad[1] != want {
			t.Errorf("%s: gradient %v, want %v", what, p.Grad, want)
		}
	}
	pass(1)
	check("first pass", 3)
	pass(0.5)
	check("second pass, half weight", 4.5)
	p.ZeroGrad()
	q.ZeroGrad()
	pass(2)
	check("after ZeroGrad", 6)
	p.SettleGrad()
	check("SettleGrad after a pass", 6)
	p.ZeroGrad()
	p.SettleGrad()
	check("SettleGrad without a pass", 0)
	q.Grad[1] = 7
	q.SettleGrad()
	if q.Grad[1] != 0 {
		t.Errorf("a parameter no pass reached kept the gradient %v", q.Grad)
	}
	q.Grad[1] = 7
	q.SettleGrad()
	if q.Grad[1] != 7 {
		t.Errorf("SettleGrad cleared a gradient twice")
	}
}

func TestBackwardOfALeaf(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	x := grad.Leaf(tensor.From([]float32{3}, 1))
	for range 2 {
		tp.BackwardScaled(x, 4)
		tp.Reset()
	}
	if x.Grad[0] != 8 {
		t.Errorf("gradient %v after two passes, want 8", x.Grad[0])
	}
}

func TestStopAndNoGrad(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	x := grad.Leaf(tensor.From([]float32{3}, 1))
	y := grad.Mul(tp, x, tp.Stop(grad.Square(tp, x)))
	var outside *val
	tp.NoGrad(func() { outside = grad.Exp(tp, x) })
	if outside.Wanted() {
		t.Error("a value of NoGrad wants a gradient")
	}
	tp.Backward(grad.Sum(tp, grad.Mul(tp, y, outside)))
	tp.Reset()
	if want := float32(9 * math.Exp(3)); math.Abs(float64(x.Grad[0]/want-1)) > 1e-6 {
		t.Errorf("gradient %v, want %v", x.Grad[0], want)
	}
	tp.Backward(grad.Sum(tp, tp.Stop(x))) // nothing to do, nothing to break
	tp.Reset()
}

func activations(t *tape) int64 { return t.Arena.Usage().Live[memory.Activations] }

func TestInPlaceOperationsOverwriteOnlyWhatNobodyReads(t *testing.T) {
	angles := grad.NewRotary(4, 8, 100)
	leaf := func() *val {
		s := rng.New(1, 1)
		x := tensor.New(4, 8)
		s.FillNormal(x.Data, 0, 1)
		return grad.Leaf(x)
	}
	rope := func(t *tape, x *val) *val { return grad.RoPE(t, x, angles, 1, 4) }
	tp := grad.NewTape(new(memory.Arena))

	x := grad.Scale(tp, leaf(), 2)
	before := activations(tp)
	if y := rope(tp, x); &y.Data[0] != &x.Data[0] || activations(tp) != before {
		t.Error("a value that only RoPE reads is copied")
	}
	message := panics(func() { grad.Scale(tp, x, 1) })
	if !strings.Contains(message, "grad.affine reads input 0, [4×8]") {
		t.Errorf("reading a value that was overwritten: panic %q", message)
	}
	tp.Reset()

	in := leaf()
	old := slices.Clone(in.Data)
	if rope(tp, in); !slices.Equal(in.Data, old) {
		t.Error("RoPE changed a value that is not the tape's")
	}
	for name, read := range map[string]func(t *tape, x *val) *val{
		"SiLU":    grad.SiLU,
		"Stop":    func(t *tape, x *val) *val { return t.Stop(x) },
		"Reshape": func(t *tape, x *val) *val { return grad.Reshape(t, x, 4, 8) },
	} {
		x := grad.Scale(tp, in, 2)
		y := read(tp, x)
		was := slices.Clone(y.Data)
		if z := rope(tp, x); &z.Data[0] == &x.Data[0] || !slices.Equal(y.Data, was) {
			t.Errorf("RoPE overwrote what %s had read", name)
		}
	}
	if x := grad.Softmax(tp, in); &rope(tp, x).Data[0] == &x.Data[0] {
		t.Error("RoPE overwrote what softmax's backward pass reads")
	}
	tp.Reset()
}

func TestRotaryFromAPosition(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	angles := grad.NewRotary(7, 4, 100)
	s := rng.New(1, 1)
	x := tensor.New(7, 4)
	s.FillNormal(x.Data, 0, 1)
	whole := grad.RoPE(tp, grad.Const(x), angles, 1, 7)
	tail := grad.RoPE(tp, grad.Const(tensor.From(x.Data[12:], 4, 4)), angles.From(3), 1, 4)
	if !slices.Equal(tail.Data, whole.Data[12:]) {
		t.Errorf("positions 3 to 6: %v, want %v", tail.Data, whole.Data[12:])
	}
}

func panics(f func()) (message string) {
	defer func() { message = fmt.Sprint(recover()) }()
	f()
	return ""
}

func TestPanicsSayWhatIsWrong(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	v := func(dims ...int) *val { return grad.Leaf(tensor.New(dims...)) }
	for want, f := range map[string]func(){
		"grad: Add of [2×3] and [3×2]":                                        func() { grad.Add(tp, v(2, 3), v(3, 2)) },
		"grad: Linear of [2×3] by [4×2] (bias none, residual none)":           func() { grad.Linear(tp, v(2, 3), v(4, 2), nil) },
		"grad: MatMul of [2×3] by [2×3]":                                      func() { grad.MatMul(tp, v(2, 3), v(2, 3)) },
		"grad: SwiGLU of [2×3]: the last dimension is odd":                    func() { grad.SwiGLU(tp, v(2, 3)) },
		"grad: Embedding of id 7 at position 1, the table is [3×2]":           func() { grad.Embedding(tp, v(3, 2), []int32{0, 7}) },
		"grad: Slice of columns 1 to 4 of [2×3]":                              func() { grad.Slice(tp, v(2, 3), 1, 4) },
		"grad: [2×3] seen as [5]":                                             func() { grad.Reshape(tp, v(2, 3), 5) },
		"grad: Concat of [2×3] and [3×3]":                                     func() { grad.Concat(tp, v(2, 3), v(3, 3)) },
		"grad: CrossEntropy: target 3 at row 0, there are 3 classes":          func() { grad.CrossEntropy(tp, v(2, 3), []int32{3, 0}) },
		"grad: Backward of a value of shape [2], not a scalar":                func() { tp.Backward(v(2)) },
		"grad: Dropout with probability 1":                                    func() { grad.Dropout(tp, v(2), 1) },
		"grad: MulCol of [2×3] and [3]":                                       func() { grad.MulCol(tp, v(2, 3), v(3)) },
		"grad: AddPositions of [2×3] to [4×3], period 3":                      func() { grad.AddPositions(tp, v(4, 3), v(2, 3), 3) },
		"grad: RoPE of [4×8], 2 heads of 8, period 4 of 4 positions":          func() { grad.RoPE(tp, v(4, 8), grad.NewRotary(4, 8, 10), 2, 4) },
		"grad: RMSNorm of [2×3] with gain [2]":                                func() { grad.RMSNorm(tp, v(2, 3), v(2), 0) },
		"grad: LayerNorm of [2×3] with gain [3] and bias [1]":                 func() { grad.LayerNorm(tp, v(2, 3), v(3), v(1), 0) },
		"grad: an operation with 9 inputs, at most 8":                         func() { grad.Concat(tp, v(1), v(1), v(1), v(1), v(1), v(1), v(1), v(1), v(1)) },
		"grad: rotary embedding of heads of odd size 3":                       func() { grad.NewRotary(1, 3, 10) },
		"grad: JVP of a value [2] in a direction [3]":                         func() { grad.JVP(tp, v(2), []*val{v(2)}, []*val{v(3)}) },
		"grad: CrossEntropy of [2×3] with 1 targets":                          func() { grad.CrossEntropy(tp, v(2, 3), []int32{1}) },
		"grad: Conv of [2×3]":                                                 func() { grad.Conv(tp, v(2, 3), v(3, 3), nil, new(conv.Conv)) },
		"grad: HVP of 0 parameters and 1 vectors on a tape with 0 operations": func() { grad.HVP(tp, nil, nil, [][]float32{nil}) },
		"grad: [2×3] seen as [2×2]":                                           func() { tp.Alias(v(2, 3), tensor.Of(2, 2)) },
		"grad: grad_test.passTwice passes its gradient on twice": func() {
			y := tp.New(tensor.Of(2))
			x := grad.Scale(tp, v(2), 1)
			tp.Record(y, passTwice, x, grad.Scale(tp, x, 1))
			tp.Backward(grad.Sum(tp, y))
		},
		"grad: Transpose of [2×3×4]": func() { grad.Transpose(tp, v(2, 3, 4)) },
	} {
		if got := panics(f); got != want {
			t.Errorf("panic %q, want %q", got, want)
		}
		tp.Reset()
	}
}

func passTwice(n *grad.Node) {
	n.PassGrad(0)
	n.PassGrad(1)
}

func TestBF16PolicyErrsAsBF16Does(t *testing.T) {
	loss := func(p precision.Policy) ([][]float32, float32) {
		m := newModel(2)
		tp := grad.NewTape(m.arena)
		tp.Policy = p
		l := m.step(tp)
		return m.grads(), l
	}
	exact, l32 := loss(precision.F32{})
	rounded, l16 := loss(precision.BF16{})
	// A bf16 operand is off by at most 2⁻⁹ of itself; errors are independent,
	// so a whole gradient is off by about that, and no more than a few times it.
	for i := range exact {
		var diff, size float64
		for j, g := range exact[i] {
			d := float64(rounded[i][j] - g)
			diff += d * d
			size += float64(g) * float64(g)
		}
		if e := math.Sqrt(diff / size); e < 1.0/4096 || e > 1.0/32 {
			t.Errorf("parameter %d: relative error %.1e", i, e)
		}
	}
	if l32 == l16 || math.Abs(float64(l32-l16)) > 0.02*float64(l32) {
		t.Errorf("loss %v in bf16, %v in float32", l16, l32)
	}
}

func TestDropout(t *testing.T) {
	const n, p = 40000, 0.3
	tp := grad.NewTape(new(memory.Arena))
	tp.Rand = rng.New(1, 1)
	tp.Rand.Offset = 5 // not at a block of the generator
	x := tensor.New(n)
	for i := range x.Data {
		x.Data[i] = 1
	}
	leaf := grad.Leaf(x)
	y := grad.Dropout(tp, leaf, p)
	if tp.Rand.Offset != 8+n {
		t.Errorf("the stream stands at %d after %d draws from 8", tp.Rand.Offset, n)
	}
	z := grad.Dropout(tp, leaf, p)
	kept, both := 0, 0
	for i, v := range y.Data {
		if v != 0 && v != float32(1/(1-float32(p))) {
			t.Fatalf("element %d is %v", i, v)
		}
		if v != 0 {
			kept++
			if z.Data[i] != 0 {
				both++
			}
		}
	}
	if s := math.Sqrt(n * p * (1 - p)); math.Abs(float64(kept)-n*(1-p)) > 4*s {
		t.Errorf("%d of %d kept", kept, n)
	}
	if share := float64(both) / float64(kept); math.Abs(share-(1-p)) > 0.015 {
		t.Errorf("two dropouts keep %.3f in common", share)
	}
	want := slices.Clone(y.Data)
	tp.Backward(grad.Sum(tp, y))
	if !slices.Equal(leaf.Grad, want) {
		t.Error("the backward pass draws another mask")
	}
	tp.Reset()
	if grad.Dropout(tp, leaf, 0) != leaf {
		t.Error("probability 0 does something")
	}
}

func TestEmptyBatch(t *testing.T) {
	tp := grad.NewTape(new(memory.Arena))
	w, b := grad.NewParam(tp.Arena, "w", 3, 2), grad.NewParam(tp.Arena, "b", 3)
	x := grad.Leaf(tensor.New(0, 2))
	y := grad.LayerNorm(tp, grad.SiLU(tp, grad.Linear(tp, x, w.Var, b.Var)), b.Var, b.Var, 1e-5)
	tp.Backward(grad.Add(tp, grad.Sum(tp, y), grad.CrossEntropy(tp, y, nil)))
	tp.Reset()
	for _, p := range []*grad.Param{w, b} {
		for _, g := range p.Grad {
			if g != 0 {
				t.Errorf("%s: gradient %v", p.Name, p.Grad)
			}
		}
	}
}
