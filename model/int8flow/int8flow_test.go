package int8flow_test

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/simd"
	"hasten/engine/tensor"
	"hasten/model/attention"
	"hasten/model/int8flow"
	"hasten/model/layer"
)

// operator is an operator and what it is, in plain float64 loops.
type operator struct {
	name   string
	values [][2]int // sizes of the inputs in tiles
	params [][]int  // shapes of those in float32
	op     func(t *grad.Tape, in []int8flow.Value, params []*grad.Var) int8flow.Value
	ref    func(in, params [][]float64) []float64
	linear bool // the first parameter is rounded to tiles before it is used
}

// The sizes cut tiles in both directions.
var operators = []operator{
	{
		name: "Linear", values: [][2]int{{40, 35}, {40, 50}}, params: [][]int{{50, 35}, {50}}, linear: true,
		op: func(t *grad.Tape, in []int8flow.Value, p []*grad.Var) int8flow.Value {
			return int8flow.Linear(t, in[0], p[0], p[1], in[1])
		},
		ref: func(in, p [][]float64) []float64 {
			y := slices.Clone(in[1])
			for r := range 40 {
				for o := range 50 {
					y[r*50+o] += p[1][o]
					for i := range 35 {
						y[r*50+o] += in[0][r*35+i] * p[0][o*35+i]
					}
				}
			}
			return y
		},
	},
	{
		name: "RMSNorm", values: [][2]int{{35, 40}}, params: [][]int{{40}},
		op: func(t *grad.Tape, in []int8flow.Value, p []*grad.Var) int8flow.Value {
			return int8flow.RMSNorm(t, in[0], p[0], 1e-5)
		},
		ref: func(in, p [][]float64) []float64 { return norms(in[0], 40, p[0], nil) },
	},
	{
		name: "LayerNorm", values: [][2]int{{35, 40}}, params: [][]int{{40}, {40}},
		op: func(t *grad.Tape, in []int8flow.Value, p []*grad.Var) int8flow.Value {
			return int8flow.LayerNorm(t, in[0], p[0], p[1], 1e-5)
		},
		ref: func(in, p [][]float64) []float64 { return norms(in[0], 40, p[0], p[1]) },
	},
	activation("SwiGLU", int8flow.SwiGLU, nil),
	activation("GELUTanh", int8flow.GELUTanh, func(x float64) float64 {
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}),
	activation("GELU", int8flow.GELU, func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }),
	activation("ReLU", int8flow.ReLU, func(x float64) float64 { return max(x, 0) }),
	{
		name: "shared input", values: [][2]int{{35, 40}}, params: [][]int{{40}},
		op: func(t *grad.Tape, in []int8flow.Value, p []*grad.Var) int8flow.Value {
			// Three gradients meet in the input: of the residual, the activation
			// and the norm.
			unit := make([]float32, 40*40)
			for i := range 40 {
				unit[i*41] = 1
			}
			w := grad.Const(tensor.From(unit, 40, 40))
			y := int8flow.Linear(t, int8flow.RMSNorm(t, in[0], p[0], 1e-5), w, nil, in[0])
			return int8flow.Linear(t, int8flow.Activate(t, in[0], int8flow.GELU), w, nil, y)
		},
		ref: func(in, p [][]float64) []float64 {
			y := norms(in[0], 40, p[0], nil)
			for i, x := range in[0] {
				y[i] += x + x/2*(1+math.Erf(x/math.Sqrt2))
			}
			return y
		},
	},
	attend("Attend", nil, attention.Causal{}, func(_, i, j int) bool { return j <= i }),
	attend("Attend, rotated", grad.NewRotary(9, 4, 100), attention.Causal{}, func(_, i, j int) bool { return j <= i }),
	attend("Attend, by sequence", nil, second{}, func(s, i, j int) bool { return s == 1 || j <= i }),
}

func activation(name string, f int8flow.Function, of func(float64) float64) operator {
	return operator{
		name: name, values: [][2]int{{35, 40}},
		op: func(t *grad.Tape, in []int8flow.Value, _ []*grad.Var) int8flow.Value {
			return int8flow.Activate(t, in[0], f)
		},
		ref: func(in, _ [][]float64) []float64 {
			var y []float64
			for i, x := range in[0] {
				switch {
				case of != nil:
					y = append(y, of(x))
				case i%40 < 20:
					y = append(y, x/(1+math.Exp(-x))*in[0][i+20])
				}
			}
			return y
		},
	}
}

func norms(x []float64, cols int, w, b []float64) []float64 {
	y := make([]float64, len(x))
	for r := 0; r < len(x); r += cols {
		var mean, square float64
		for _, v := range x[r : r+cols] {
			mean += v / float64(cols)
		}
		if b == nil {
			mean = 0
		}
		for _, v := range x[r : r+cols] {
			square += (v - mean) * (v - mean) / float64(cols)
		}
		for c, v := range x[r : r+cols] {
			y[r+c] = (v - mean) / math.Sqrt(square+1e-5) * w[c]
			if b != nil {
				y[r+c] += b[c]
			}
		}
	}
	return y
}

// second is a causal mask that hides nothing in sequence 1.
type second struct{ attention.Causal }

func (s second) Tile(b, h, q0, q1, k0, k1 int) attention.Cover {
	if b == 1 {
		return attention.Whole
	}
	return s.Causal.Tile(b, h, q0, q1, k0, k1)
}

func (s second) Run(b, h, q, from int) (lo, hi int) {
	if b == 1 {
		return attention.Full{}.Run(b, h, q, from)
	}
	return s.Causal.Run(b, h, q, from)
}

// attend is attention over four sequences of nine, two heads of four over one of
// keys and values.
func attend(name string, rotary *grad.Rotary, mask attention.Mask, sees func(s, i, j int) bool) operator {
	h := layer.Heads{Query: 2, KV: 1, Size: 4}
	const length, width, out = 9, 16, 8
	return operator{
		name: name, values: [][2]int{{4 * length, width}},
		op: func(t *grad.Tape, in []int8flow.Value, _ []*grad.Var) int8flow.Value {
			return int8flow.Attend(t, in[0], int8flow.Attention{Heads: h, Length: length, Mask: mask, Rotary: rotary})
		},
		ref: func(in, _ [][]float64) []float64 {
			x := slices.Clone(in[0])
			for r := range 4 * length {
				for head := range 3 {
					for i := range 2 {
						if rotary != nil {
							a, b := &x[r*width+head*4+i], &x[r*width+head*4+i+2]
							sin, cos := math.Sincos(float64(r%length) * math.Pow(100, -float64(i)/2))
							*a, *b = *a*cos-*b*sin, *b*cos+*a*sin
						}
					}
				}
			}
			y := make([]float64, 4*length*out)
			for r := range 4 * length {
				s, i := r/length, r%length
				for head := range 2 {
					var sum float64
					o := y[r*out+head*4:][:4]
					for j := range length {
						if !sees(s, i, j) {
							continue
						}
						key := x[(s*length+j)*width:]
						var dot float64
						for c := range 4 {
							dot += x[r*width+head*4+c] * key[8+c]
						}
						p := math.Exp(dot / 2)
						sum += p
						for c := range o {
							o[c] += p * key[12+c]
						}
					}
					for c := range o {
						o[c] /= sum
					}
				}
			}
			return y
		},
	}
}

// trial is an operator at a point: its inputs as float32 leaves, and what their
// rounding makes of them.
type trial struct {
	operator
	tape       *grad.Tape
	in, params []*grad.Var
	wideIn     [][]float64
	wideParams [][]float64
	cot        matmul.Tiles // gradient of the output
	wideCot    []float64
	slots      []float32 // of cot
}

func newTrial(o operator) *trial {
	k := &trial{operator: o, tape: grad.NewTape(new(memory.Arena))}
	for i, s := range o.values {
		x := draw(uint64(i), s[0]*s[1])
		k.in = append(k.in, grad.Leaf(tensor.From(x, s[0], s[1])))
		k.wideIn = append(k.wideIn, rounded(x, s[0], s[1]))
	}
	for i, s := range o.params {
		x := draw(uint64(10+i), tensor.Of(s...).Len())
		k.params = append(k.params, grad.Leaf(tensor.From(x, s...)))
		if o.linear && i == 0 {
			k.wideParams = append(k.wideParams, rounded(x, s[0], s[1]))
			continue
		}
		var wide []float64
		for _, v := range x {
			wide = append(wide, float64(v))
		}
		k.wideParams = append(k.wideParams, wide)
	}
	return k
}

func draw(id uint64, n int) []float32 {
	s := rng.New(7, id)
	x := make([]float32, n)
	s.FillNormal(x, 0.1, 1)
	return x
}

func newTiles(rows, cols int) (matmul.Tiles, []float32) {
	slots := make([]float32, matmul.TilesLen(rows, cols))
	return matmul.TilesOf(rows, cols, slots), slots
}

// rounded is x as tiles hold it.
func rounded(x []float32, rows, cols int) []float64 {
	q, _ := newTiles(rows, cols)
	q.Quantize(x, matmul.Rounding{})
	return wide(q)
}

func wide(q matmul.Tiles) []float64 {
	y := make([]float64, q.Rows*q.Cols)
	for i := range y {
		y[i] = float64(q.At(i/q.Cols, i%q.Cols))
	}
	return y
}

func (k *trial) run() int8flow.Value {
	var in []int8flow.Value
	for _, x := range k.in {
		in = append(in, int8flow.Quantize(k.tape, x))
	}
	return k.op(k.tape, in, k.params)
}

// gradients runs both passes, with draws of the given stream.
func (k *trial) gradients(stream uint64) (in, params [][]float32) {
	k.tape.Rand = rng.New(3, stream)
	y := k.run()
	if k.slots == nil {
		k.cot, k.slots = newTiles(y.Rows, y.Cols)
		k.cot.Quantize(draw(99, y.Rows*y.Cols), matmul.Rounding{})
		k.wideCot = wide(k.cot)
	}
	k.tape.SetGrad(y.Var, k.slots)
	k.tape.BackwardFrom()
	k.tape.Reset()
	take := func(from []*grad.Var) (g [][]float32) {
		for _, x := range from {
			g = append(g, slices.Clone(x.Grad))
			clear(x.Grad)
		}
		return g
	}
	return take(k.in), take(k.params)
}

// loss is Σ cot·y by the reference.
func (k *trial) loss() (sum float64) {
	for i, y := range k.ref(k.wideIn, k.wideParams) {
		sum += k.wideCot[i] * y
	}
	return sum
}

// differences is the gradient of loss, to fourth order, in some elements of x.
func (k *trial) differences(x []float64, check func(i int, slope float64)) {
	const h = 1e-3
	for i := 0; i < len(x); i += 1 + len(x)/150 {
		old := x[i]
		at := func(d float64) float64 { x[i] = old + d; return k.loss() }
		slope := (8*(at(h)-at(-h)) - at(2*h) + at(-2*h)) / (12 * h)
		x[i] = old
		check(i, slope)
	}
}

func eachLevel(t *testing.T, f func(t *testing.T)) {
	defer simd.Use(simd.Current())
	for _, l := range simd.Levels() {
		simd.Use(l)
		t.Run(l.String(), f)
	}
}

// TestForward: what an operator gives is the reference rounded to tiles.
func TestForward(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, o := range operators {
			k := newTrial(o)
			y := k.run()
			got, want := wide(y.Tiles()), k.ref(k.wideIn, k.wideParams)
			for i, w := range want {
				step := largest(want, y.Cols, i) / 127
				limit := 0.51*step + 1e-5
				if o.name == "shared input" { // three roundings in a row
					limit *= 4
				}
				if d := math.Abs(got[i] - w); d > limit {
					t.Fatalf("%s: element %d is %v, want %v to within half of %v", o.name, i, got[i], w, step)
				}
			}
			k.tape.Reset()
			if live := k.tape.Arena.Usage().LiveTotal; live != 0 {
				t.Errorf("%s: %d bytes live after Reset", o.name, live)
			}
		}
	})
}

// largest is the largest magnitude in the tile of element i.
func largest(x []float64, cols, i int) (m float64) {
	r0, c0 := i/cols/32*32, i%cols/32*32
	for r := r0; r < min(r0+32, len(x)/cols); r++ {
		for c := c0; c < min(c0+32, cols); c++ {
			m = max(m, math.Abs(x[r*cols+c]))
		}
	}
	return m
}

// TestGradients holds gradients against differences of the reference: those of
// parameters must be equal but for float32's own rounding, those of inputs within
// a step, and without bias over many draws.
func TestGradients(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		draws := 300
		if simd.Current() != simd.Best() {
			draws = 20
		}
		for _, o := range operators {
			k := newTrial(o)
			_, params := k.gradients(0)
			for i, g := range params {
				k.differences(k.wideParams[i], func(j int, slope float64) {
					if d := math.Abs(float64(g[j]) - slope); d > 2e-4*(1+math.Abs(slope)) && o.name != "shared input" {
						t.Fatalf("%s: gradient of parameter %d at %d is %v, want %v", o.name, i, j, g[j], slope)
					}
				})
			}
			mean := make([][]float64, len(k.in))
			for d := range draws {
				in, _ := k.gradients(uint64(d))
				for i, g := range in {
					mean[i] = append(mean[i], make([]float64, len(g)-len(mean[i]))...)
					for j, v := range g {
						mean[i][j] += float64(v) / float64(draws)
					}
				}
			}
			for i := range mean {
				k.differences(k.wideIn[i], func(j int, slope float64) {
					step := largest(mean[i], o.values[i][1], j) / 127
					limit := 5*0.5*step/math.Sqrt(float64(draws)) + 2e-4*(1+math.Abs(slope))
					switch {
					case o.name == "ReLU" && k.wideIn[i][j] == 0:
						return // its kink
					case o.name == "shared input":
						limit *= 3
					case o.values[i][1] == 16: // the backward pass of attention reads its rounded output
						limit += 0.02 * largest(mean[i], 16, j)
					}
					if diff := math.Abs(mean[i][j] - slope); diff > limit {
						t.Fatalf("%s: mean gradient of input %d at %d is %v, want %v within %v; a step is %v", o.name, i, j, mean[i][j], slope, limit, step)
					}
				})
			}
		}
	})
}

// TestForgotten: what is computed again has the same bits.
func TestForgotten(t *testing.T) {
	gradients := func(forget bool) []float32 {
		tape := grad.NewTape(new(memory.Arena))
		x := grad.Leaf(tensor.From(draw(1, 40*64), 40, 64))
		w, gain := grad.Leaf(tensor.From(draw(2, 50*32), 50, 32)), grad.Const(tensor.From(draw(3, 64), 64))
		n := int8flow.RMSNorm(tape, int8flow.Quantize(tape, x), gain, 1e-5)
		a := int8flow.Activate(tape, n, int8flow.SwiGLU)
		y := int8flow.Linear(tape, a, w, nil, int8flow.Value{})
		if forget {
			tape.Forget(a.Var)
			tape.Forget(n.Var)
		}
		tape.SetGrad(y.Var, y.Var.Data)
		tape.BackwardFrom()
		tape.Reset()
		return append(x.Grad, w.Grad...)
	}
	if !slices.Equal(gradients(false), gradients(true)) {
		t.Error("gradients differ")
	}
}

// TestGradientsForAnyWidth: rounding by chance draws by place, not by turn.
func TestGradientsForAnyWidth(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, o := range operators {
		k := newTrial(o)
		runtime.GOMAXPROCS(1)
		in, params := k.gradients(1)
		runtime.GOMAXPROCS(3)
		in3, params3 := k.gradients(1)
		for i := range in {
			if !slices.Equal(in[i], in3[i]) {
				t.Errorf("%s: gradient of input %d", o.name, i)
			}
		}
		for i := range params {
			if !slices.Equal(params[i], params3[i]) {
				t.Errorf("%s: gradient of parameter %d", o.name, i)
			}
		}
	}
}

// TestDropout: elements are kept with probability 1-p, over 1-p and unrounded;
// the backward pass keeps the same ones, also where a gradient is there already.
func TestDropout(t *testing.T) {
	const rows, cols, p = 70, 90, 0.25
	tape := grad.NewTape(new(memory.Arena))
	tape.Rand = rng.New(5, 5)
	leaf := grad.Leaf(tensor.From(draw(1, rows*cols), rows, cols))
	x := int8flow.Quantize(tape, leaf)
	y := int8flow.Dropout(tape, x, p)
	got, from := wide(y.Tiles()), wide(x.Tiles())
	kept, total := 0, 0
	for i, v := range from {
		if v == 0 {
			continue
		}
		total++
		if got[i] != 0 {
			kept++
			if math.Abs(got[i]-v/(1-p)) > 1e-6*math.Abs(v) {
				t.Fatalf("element %d: %v becomes %v", i, v, got[i])
			}
		}
	}
	if d := math.Abs(float64(kept) - (1-p)*float64(total)); d > 4*math.Sqrt(p*(1-p)*float64(total)) {
		t.Errorf("%d of %d elements kept", kept, total)
	}
	tape.SetGrad(y.Var, x.Var.Data)
	tape.SetGrad(x.Var, make([]float32, len(x.Var.Data))) // zeros, to be added to
	tape.BackwardFrom()
	for i, d := range leaf.Grad {
		if math.Abs(float64(d)-got[i]) > 0.05 { // rounded once more
			t.Fatalf("gradient %v where the output is %v", d, got[i])
		}
	}
	tape.Reset()
	x = int8flow.Quantize(tape, leaf)
	if int8flow.Dropout(tape, x, 0) != x {
		t.Error("probability 0 does something")
	}
	tape.Reset()
}

func TestShapesThatDoNotAgreePanic(t *testing.T) {
	tape := grad.NewTape(new(memory.Arena))
	x := int8flow.Quantize(tape, grad.Leaf(tensor.New(4, 5)))
	w := grad.Leaf(tensor.New(3, 4))
	for name, f := range map[string]func(){
		"Linear":  func() { int8flow.Linear(tape, x, w, nil, int8flow.Value{}) },
		"norm":    func() { int8flow.RMSNorm(tape, x, w, 1e-5) },
		"SwiGLU":  func() { int8flow.Activate(tape, x, int8flow.SwiGLU) },
		"Dropout": func() { int8flow.Dropout(tape, x, 1) },
		"Attend": func() {
			int8flow.Attend(tape, x, int8flow.Attention{Heads: layer.Heads{Query: 1, KV: 1, Size: 2}, Length: 4})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
