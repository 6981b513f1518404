package conv

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/simd"
)

func values(n int, seed uint64) []float32 {
	x := make([]float32, n)
	r := rng.New(seed, 0)
	r.FillNormal(x, 0, 1)
	return x
}

// terms calls f for every product w[wi]·x[xi] that y[yi] is a sum of: the
// definition of a convolution, written out.
func (c Conv) terms(f func(yi, xi, wi int)) {
	c = c.defaults()
	g := c.grid()
	in, out := c.In/c.Groups, c.Out/c.Groups
	for b := range c.Batch {
		for od := range g[0].Out() {
			for oh := range g[1].Out() {
				for ow := range g[2].Out() {
					for o := range c.Out {
						yi := (((b*g[0].Out()+od)*g[1].Out()+oh)*g[2].Out()+ow)*c.Out + o
						for kd := range g[0].Kernel {
							for kh := range g[1].Kernel {
								for kw := range g[2].Kernel {
									d := od*g[0].Stride + kd*g[0].Dilation - g[0].Before
									h := oh*g[1].Stride + kh*g[1].Dilation - g[1].Before
									w := ow*g[2].Stride + kw*g[2].Dilation - g[2].Before
									if d < 0 || h < 0 || w < 0 || d >= g[0].Size || h >= g[1].Size || w >= g[2].Size {
										continue
									}
									for ci := range in {
										f(yi, (((b*g[0].Size+d)*g[1].Size+h)*g[2].Size+w)*c.In+o/out*in+ci,
											(((o*g[0].Kernel+kd)*g[1].Kernel+kh)*g[2].Kernel+kw)*in+ci)
									}
								}
							}
						}
					}
				}
			}
		}
	}
}

func ax(size, kernel, stride, dilation, before, after int) Axis {
	return Axis{size, kernel, stride, dilation, before, after}
}

// shapes has every combination of kernel, stride, dilation and uneven padding
// that meets a path of its own, channels around the kernels' widths, and groups.
func shapes() []Conv {
	all := []Conv{
		{Batch: 1, In: 1, Out: 1, W: ax(1, 1, 1, 1, 0, 0)},
		{Batch: 2, In: 3, Out: 5}, // a Linear layer
		{Batch: 2, In: 17, Out: 33, H: ax(5, 1, 1, 1, 0, 0), W: ax(7, 1, 1, 1, 0, 0)},
		{Batch: 3, In: 1, Out: 6, H: ax(9, 5, 1, 1, 0, 0), W: ax(8, 5, 1, 1, 0, 0)},
		{Batch: 2, In: 3, Out: 8, H: ax(11, 7, 2, 1, 3, 3), W: ax(9, 7, 2, 1, 3, 3)},
		{Batch: 2, In: 16, Out: 40, H: ax(7, 3, 1, 1, 1, 1), W: ax(10, 3, 1, 1, 1, 1)},
		{Batch: 1, In: 32, Out: 31, H: ax(6, 3, 2, 1, 1, 0), W: ax(13, 3, 2, 1, 0, 1)},
		{Batch: 2, In: 10, Out: 12, H: ax(12, 3, 1, 2, 2, 2), W: ax(5, 3, 1, 3, 4, 3)},
		{Batch: 2, In: 9, Out: 4, H: ax(11, 3, 2, 2, 1, 2), W: ax(12, 4, 3, 2, 3, 1)},
		{Batch: 1, In: 8, Out: 8, H: ax(9, 2, 4, 1, 0, 0), W: ax(9, 1, 2, 1, 0, 0)}, // places that no window sees
		{Batch: 1, In: 8, Out: 8, H: ax(5, 3, 1, 1, 2, 2), W: ax(3, 5, 1, 1, 4, 4)}, // windows that see no input
		{Batch: 2, In: 12, Out: 18, Groups: 3, H: ax(6, 3, 1, 1, 1, 1), W: ax(7, 3, 2, 1, 1, 1)},
		{Batch: 1, In: 64, Out: 32, Groups: 2, H: ax(6, 3, 1, 1, 1, 1), W: ax(7, 1, 1, 1, 0, 0)},
		{Batch: 2, In: 6, Out: 12, Groups: 6, H: ax(6, 3, 1, 1, 1, 1), W: ax(7, 3, 1, 1, 1, 1)}, // two filters for each channel
		{Batch: 2, In: 6, Out: 6, Groups: 6, H: ax(6, 3, 1, 1, 1, 1), W: ax(7, 3, 1, 1, 1, 1)},  // depthwise
		{Batch: 2, In: 17, Out: 17, Groups: 17, H: ax(9, 5, 2, 1, 2, 2), W: ax(8, 3, 2, 1, 1, 0)},
		{Batch: 1, In: 5, Out: 5, Groups: 5, H: ax(9, 3, 1, 2, 1, 2), W: ax(50, 3, 3, 2, 1, 0)},
		{Batch: 3, In: 4, Out: 7, W: ax(23, 4, 1, 1, 3, 0)}, // 1-D, causal
		{Batch: 2, In: 24, Out: 16, W: ax(31, 3, 2, 4, 8, 0)},
		{Batch: 2, In: 20, Out: 20, Groups: 20, W: Causal(100, 4, 1)},
		{Batch: 1, In: 3, Out: 4, D: ax(5, 3, 1, 1, 1, 1), H: ax(4, 3, 2, 1, 1, 1), W: ax(6, 2, 1, 2, 0, 1)}, // 3-D
		{Batch: 1, In: 4, Out: 4, Groups: 4, D: ax(4, 2, 2, 1, 1, 0), H: ax(4, 3, 1, 1, 1, 1), W: ax(3, 3, 1, 1, 1, 1)},
		{Batch: 1, In: 400, Out: 36, H: ax(4, 3, 1, 1, 1, 1), W: ax(4, 3, 1, 1, 1, 1)}, // several chunks of taps
		{Batch: 1, In: 1030, Out: 8, W: ax(9, 3, 2, 1, 1, 1)},
		{Batch: 1, In: 8, Out: 7, H: ax(80, 1, 1, 1, 0, 0), W: ax(80, 3, 1, 1, 1, 1)}, // several panels in each part of the sum
		{Batch: 0, In: 4, Out: 4, W: ax(8, 3, 1, 1, 1, 1)},
	}
	return all
}

// slack is the error allowed for a float32 sum: relative to the sum of the
// terms' magnitudes.
const slack = 2e-6

func near(t *testing.T, what string, got []float32, want, size []float64, slack float64) {
	t.Helper()
	for i := range want {
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= slack*(size[i]+0.1)) {
			t.Fatalf("%s: index %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// bf16 is x rounded to nearest, ties to even.
func bf16(x float32) float64 {
	b := math.Float32bits(x)
	b += 0x7fff + b>>16&1
	return float64(math.Float32frombits(b &^ 0xffff))
}

func exact(x float32) float64 { return float64(x) }

func TestAgainstDefinition(t *testing.T) {
	defer simd.Use(simd.Current())
	for _, level := range simd.Levels() {
		simd.Use(level)
		for _, format := range []matmul.Format{matmul.F32, matmul.BF16} {
			for _, c := range shapes() {
				c.Format = format
				checkAll(t, fmt.Sprintf("%v %v %+v", level, format, c), c)
				if t.Failed() {
					return
				}
			}
		}
	}
}

func checkAll(t *testing.T, name string, c Conv) {
	read := exact
	if c.Format == matmul.BF16 && !c.defaults().depthwise() {
		read = bf16
	}
	nx, ny, nw := c.InLen(), c.OutLen(), c.WeightLen()
	x, w, bias, dy := values(nx, 1), values(nw, 2), values(c.Out, 3), values(ny, 4)
	y, ySize := make([]float64, ny), make([]float64, ny)
	dx, dxSize := make([]float64, nx), make([]float64, nx)
	dw, dwSize := make([]float64, nw), make([]float64, nw)
	db, dbSize := make([]float64, c.Out), make([]float64, c.Out)
	c.terms(func(yi, xi, wi int) {
		a, b, g := read(x[xi]), read(w[wi]), read(dy[yi])
		y[yi] += a * b
		dx[xi] += g * b
		dw[wi] += g * a
		ySize[yi] += math.Abs(a * b)
		dxSize[xi] += math.Abs(g * b)
		dwSize[wi] += math.Abs(g * a)
	})
	for i, g := range dy {
		db[i%c.Out] += float64(g)
		dbSize[i%c.Out] += math.Abs(float64(g))
	}
	twice := func(v []float64) []float64 {
		d := slices.Clone(v)
		for i := range d {
			d[i] *= 2
		}
		return d
	}

	got := values(ny, 9)
	c.Forward(got, x, w, nil, matmul.Identity)
	near(t, name+": y", got, y, ySize, slack)

	gx := values(nx, 9) // what it held must not matter
	c.InputGrad(gx, dy, w, false)
	near(t, name+": dx", gx, dx, dxSize, slack)
	c.InputGrad(gx, dy, w, true)
	near(t, name+": dx added", gx, twice(dx), twice(dxSize), slack)

	gw := values(nw, 9)
	c.WeightGrad(gw, dy, x, false)
	near(t, name+": dw", gw, dw, dwSize, slack)
	c.WeightGrad(gw, dy, x, true)
	near(t, name+": dw added", gw, twice(dw), twice(dwSize), slack)

	gb := values(c.Out, 9)
	c.BiasGrad(gb, dy, false)
	near(t, name+": db", gb, db, dbSize, slack)
	c.BiasGrad(gb, dy, true)
	near(t, name+": db added", gb, twice(db), twice(dbSize), slack)

	biasT := values(c.In, 5)
	for _, a := range activations {
		want, wantT := make([]float64, ny), make([]float64, nx)
		for i := range y {
			want[i] = a.f(y[i] + float64(bias[i%c.Out]))
		}
		for i := range dx {
			wantT[i] = a.f(dx[i] + float64(biasT[i%c.In]))
		}
		c.Forward(got, x, w, bias, a.act)
		near(t, fmt.Sprintf("%s: activation %d", name, a.act), got, want, ySize, 2*slack)
		c.Transposed(gx, dy, w, biasT, a.act)
		near(t, fmt.Sprintf("%s: transposed, activation %d", name, a.act), gx, wantT, dxSize, 2*slack)
	}
}

var activations = []struct {
	act matmul.Activation
	f   func(x float64) float64
}{
	{matmul.Identity, func(x float64) float64 { return x }},
	{matmul.ReLU, func(x float64) float64 { return max(x, 0) }},
	{matmul.SiLU, func(x float64) float64 { return x / (1 + math.Exp(-x)) }},
	{matmul.GELUTanh, func(x float64) float64 {
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}},
	{matmul.GELUErf, func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }},
}

// big are shapes that are cut into many pieces of every kind.
var big = []Conv{
	{Batch: 3, In: 20, Out: 36, H: Same(24, 3, 1, 1), W: Same(24, 3, 1, 1)},
	{Batch: 3, In: 3, Out: 8, H: Same(48, 5, 2, 1), W: Same(48, 5, 2, 1)},
	{Batch: 2, In: 40, Out: 40, Groups: 40, H: Same(30, 3, 1, 1), W: Same(30, 3, 1, 1)},
	{Batch: 2, In: 300, Out: 300, H: Same(7, 3, 1, 1), W: Same(7, 3, 1, 1)},
	{Batch: 3, In: 32, Out: 64, Groups: 4, Format: matmul.BF16, H: Same(20, 3, 2, 1), W: Same(20, 3, 2, 1)},
	{Batch: 3, In: 32, Out: 64, H: Same(20, 1, 1, 1), W: Same(20, 1, 1, 1)},
}

// trained is everything a training step computes of c.
func trained(c Conv) func() []float32 {
	x, w, bias, dy := values(c.InLen(), 1), values(c.WeightLen(), 2), values(c.Out, 3), values(c.OutLen(), 4)
	all := make([]float32, len(dy)+len(x)+len(w)+c.Out)
	y, rest := all[:len(dy)], all[len(dy):]
	dx, rest := rest[:len(x)], rest[len(x):]
	dw, db := rest[:len(w)], rest[len(w):]
	return func() []float32 {
		c.Forward(y, x, w, bias, matmul.ReLU)
		c.InputGrad(dx, dy, w, false)
		c.WeightGrad(dw, dy, x, false)
		c.BiasGrad(db, dy, false)
		return all
	}
}

func TestSameBitsForAnyWidth(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range big {
		run := trained(c)
		runtime.GOMAXPROCS(1)
		want := slices.Clone(run())
		for _, width := range []int{2, 3} {
			runtime.GOMAXPROCS(width)
			if !slices.Equal(run(), want) {
				t.Errorf("%+v: %d threads give other bits than one", c, width)
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	for _, c := range big {
		run := trained(c)
		for range 20 { // free lists grow to what the threads' timing asks for
			run()
		}
		if a := testing.AllocsPerRun(10, func() { run() }); a >= 1 {
			t.Errorf("%+v: %v allocations per step", c, a)
		}
	}
}

// TestWorkspace holds what replaces the matrix of windows to a panel and a tile
// of results for each thread, and the weights laid out.
func TestWorkspace(t *testing.T) {
	c := Conv{Batch: 8, In: 32, Out: 64, H: Same(32, 3, 1, 1), W: Same(32, 3, 1, 1)}
	x, w, y := values(c.InLen(), 1), values(c.WeightLen(), 2), values(c.OutLen(), 4)
	perThread := int64(4 * (panelFloats + panelFloats/8))
	weights := int64(4 * len(w))
	bound := weights + int64(runtime.GOMAXPROCS(0))*perThread
	windows := int64(4*len(x)) * 9
	if bound > windows/4 {
		t.Fatalf("the bound %d proves little beside the matrix of windows, %d", bound, windows)
	}
	for name, run := range map[string]func(){
		"forward": func() { c.Forward(y, x, w, nil, matmul.Identity) },
		"input":   func() { c.InputGrad(x, y, w, false) },
	} {
		memory.Default.ResetPeak()
		before := memory.Default.Usage().Live[memory.Workspace]
		run()
		u := memory.Default.Usage()
		if used := u.Peak[memory.Workspace] - before; used > bound || used < weights {
			t.Errorf("%s: %d bytes of workspace, at most %d expected", name, used, bound)
		}
		if u.Live[memory.Workspace] != before {
			t.Errorf("%s: %d bytes of workspace kept", name, u.Live[memory.Workspace]-before)
		}
	}

	memory.Default.ResetPeak()
	before := memory.Default.Usage().Live[memory.Workspace]
	c.WeightGrad(w, y, x, false)
	u := memory.Default.Usage()
	if used, most := u.Peak[memory.Workspace]-before, bound+int64(pieceGoal)*weights; used > most || u.Live[memory.Workspace] != before {
		t.Errorf("weights: %d bytes of workspace, at most %d expected; %d kept", used, most, u.Live[memory.Workspace]-before)
	}
}

// TestGradients compares gradients with differences of a scalar loss, without
// the help of terms.
func TestGradients(t *testing.T) {
	c := Conv{Batch: 2, In: 4, Out: 6, Groups: 2, H: ax(5, 3, 2, 1, 1, 0), W: ax(6, 2, 1, 2, 1, 1)}
	x, w, dy := values(c.InLen(), 1), values(c.WeightLen(), 2), values(c.OutLen(), 3)
	y := make([]float32, c.OutLen())
	loss := func() (s float64) {
		c.Forward(y, x, w, nil, matmul.Identity)
		for i := range y {
			s += float64(y[i]) * float64(dy[i])
		}
		return s
	}
	dx, dw := make([]float32, len(x)), make([]float32, len(w))
	c.InputGrad(dx, dy, w, false)
	c.WeightGrad(dw, dy, x, false)
	for _, v := range []struct {
		name string
		x, g []float32
	}{{"x", x, dx}, {"w", w, dw}} {
		for i := range v.x {
			old := v.x[i]
			v.x[i] = old + 0.5 // the loss is linear in x and in w: any distance is exact
			up := loss()
			v.x[i] = old - 0.5
			down := loss()
			v.x[i] = old
			if d := math.Abs(up - down - float64(v.g[i])); d > 1e-4 {
				t.Fatalf("d%s[%d] is %v, differences give %v", v.name, i, v.g[i], up-down)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		a    Axis
		out  int
		back int // TransposedSize of out, with nothing extra
	}{
		{Axis{}, 1, 1},
		{ax(7, 3, 1, 1, 0, 0), 5, 7},
		{ax(7, 3, 2, 1, 1, 1), 4, 7},
		{ax(8, 3, 2, 1, 1, 1), 4, 7},
		{ax(8, 3, 1, 4, 0, 0), 0, 8},
		{Same(56, 3, 1, 1), 56, 56},
		{Same(7, 4, 3, 2), 3, 7},
		{Same(5, 2, 1, 1), 5, 5},
		{Causal(10, 3, 2), 10, 10},
	} {
		if got := c.a.Out(); got != c.out {
			t.Errorf("%+v: %d positions, want %d", c.a, got, c.out)
		}
		if got := TransposedSize(c.out, c.a, 0); got != c.back {
			t.Errorf("%+v: transposed size %d, want %d", c.a, got, c.back)
		}
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	good := Conv{Batch: 1, In: 4, Out: 4, W: ax(8, 3, 1, 1, 1, 1)}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Conv){
		"channels": func(c *Conv) { c.In = 0 },
		"groups":   func(c *Conv) { c.Groups = 3 },
		"kernel":   func(c *Conv) { c.W.Kernel = 11 },
		"stride":   func(c *Conv) { c.W.Stride = -1 },
		"size":     func(c *Conv) { c.W.Size = 0 },
		"padding":  func(c *Conv) { c.W.After = -1 },
	} {
		c := good
		change(&c)
		if c.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("slices of a wrong length: no panic")
		}
	}()
	good.Forward(make([]float32, 31), make([]float32, 32), make([]float32, 48), nil, matmul.Identity)
}

func ExampleConv_Transposed() {
	// Twice as many positions, each of two a copy: what a decoder does to grow.
	a := Axis{Kernel: 2, Stride: 2}
	a.Size = TransposedSize(3, a, 0)
	c := Conv{Batch: 1, In: 1, Out: 1, W: a}
	y := make([]float32, c.InLen())
	c.Transposed(y, []float32{5, 6, 7}, []float32{1, 1}, nil, matmul.Identity)
	fmt.Println(y)
	// Output: [5 5 6 6 7 7]
}

func ExampleConv() {
	// The difference of neighbours in a signal of one channel.
	c := Conv{Batch: 1, In: 1, Out: 1, W: Axis{Size: 5, Kernel: 2}}
	x := []float32{1, 4, 9, 16, 25}
	w := []float32{-1, 1}
	y := make([]float32, c.OutLen())
	c.Forward(y, x, w, nil, matmul.Identity)
	fmt.Println(y)

	dw := make([]float32, len(w))
	c.WeightGrad(dw, []float32{1, 0, 0, 0}, x, false) // of y[0]
	fmt.Println(dw)
	// Output:
	// [3 5 7 9]
	// [1 4]
}
