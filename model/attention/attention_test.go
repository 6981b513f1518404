package attention

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/simd"
)

// atLevels runs a test at every level this processor has.
func atLevels(t *testing.T, f func(t *testing.T)) {
	defer simd.Use(simd.Current())
	for _, l := range simd.Levels() {
		simd.Use(l)
		t.Run(l.String(), f)
	}
}

// random fills x with fixed pseudo-random numbers in [-1, 1).
func random(x []float32, seed uint64) {
	for i := range x {
		seed = seed*6364136223846793005 + 1442695040888963407
		x[i] = float32(int32(seed>>32)) / (1 << 31)
	}
}

// problem is one case: shapes, a mask, and how its arrays lie.
type problem struct {
	name             string
	b, t, s, hq, hkv int
	e, offset        int
	mask             Mask
	scale            float32
}

// arrays are the buffers of a problem. Queries, keys and values lie in one
// fused buffer with spare room around them; gradients lie likewise.
type arrays struct {
	args            Args
	qkv, dqkv       []float32
	o, do           []float32
	lse             []float32
	grads           Grads
	l, row, padding int
}

// canary stands where nothing may be written.
const canary = 12345

func (p problem) arrays() *arrays { return p.padded(3) }

// padded is arrays with so many floats between the rows.
func (p problem) padded(padding int) *arrays {
	l := max(p.t, p.s)
	row := (p.hq+2*p.hkv)*p.e + padding
	oRow := p.hq*p.e + padding
	x := &arrays{
		qkv: make([]float32, p.b*l*row), dqkv: make([]float32, p.b*l*row),
		o: make([]float32, p.b*p.t*oRow), do: make([]float32, p.b*p.t*oRow),
		lse: make([]float32, p.b*p.hq*p.t), l: l, row: row, padding: padding,
	}
	random(x.qkv, 1)
	random(x.do, 2)
	fill(x.dqkv, canary)
	fill(x.o, canary)
	part := func(buf []float32, from int) View { return View{buf[from:], row, l * row} }
	k, v := p.hq*p.e, (p.hq+p.hkv)*p.e
	x.args = Args{
		Batch: p.b, Queries: p.t, Keys: p.s, Heads: p.hq, KVHeads: p.hkv, Dim: p.e,
		Q: part(x.qkv, 0), K: part(x.qkv, k), V: part(x.qkv, v),
		Mask: p.mask, Offset: p.offset, Scale: p.scale,
	}
	x.grads = Grads{
		O: View{Data: x.o, Row: oRow}, LSE: x.lse, DO: View{Data: x.do, Row: oRow},
		DQ: part(x.dqkv, 0), DK: part(x.dqkv, k), DV: part(x.dqkv, v),
	}
	return x
}

// naive is attention with the whole matrix of weights, in float64. Its results
// are dense: o, dq [B,T,Hq,E]; dk, dv [B,S,Hkv,E]; lse [B,Hq,T].
func (p problem) naive(x *arrays) (o, lse, dq, dk, dv []float64) {
	scale := float64(p.scale)
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(p.e))
	}
	mask := p.mask
	if mask == nil {
		mask = Full{}
	}
	get := func(v View, l, b, i, h, e int) float64 {
		stride := v.Batch
		if stride == 0 {
			stride = l * v.Row
		}
		return float64(v.Data[b*stride+i*v.Row+h*p.e+e])
	}
	o, lse = make([]float64, p.b*p.t*p.hq*p.e), make([]float64, p.b*p.hq*p.t)
	dq, dk, dv = make([]float64, len(o)), make([]float64, p.b*p.s*p.hkv*p.e), make([]float64, p.b*p.s*p.hkv*p.e)
	w, dw := make([]float64, p.s), make([]float64, p.s)
	for b := range p.b {
		for h := range p.hq {
			kv := h / (p.hq / p.hkv)
			for i := range p.t {
				see := make([]bool, p.s)
				for at := 0; at < p.s; {
					lo, hi := mask.Run(b, h, p.offset+i, at)
					if lo >= hi {
						break
					}
					for k := lo; k < min(hi, p.s); k++ {
						see[k] = true
					}
					at = hi
				}
				top := math.Inf(-1)
				for k := range p.s {
					w[k] = 0
					for e := range p.e {
						w[k] += get(x.args.Q, p.t, b, i, h, e) * get(x.args.K, p.s, b, k, kv, e)
					}
					w[k] *= scale
					if see[k] {
						top = max(top, w[k])
					}
				}
				var sum float64
				for k := range w {
					if see[k] {
						w[k] = math.Exp(w[k] - top)
						sum += w[k]
					} else {
						w[k] = 0
					}
				}
				lse[(b*p.hq+h)*p.t+i] = top + math.Log(sum)
				if sum == 0 {
					lse[(b*p.hq+h)*p.t+i] = math.Inf(-1)
					continue
				}
				var mean float64
				for k := range w {
					w[k] /= sum
					dw[k] = 0
					for e := range p.e {
						v, do := get(x.args.V, p.s, b, k, kv, e), get(x.grads.DO, p.t, b, i, h, e)
						o[((b*p.t+i)*p.hq+h)*p.e+e] += w[k] * v
						dv[((b*p.s+k)*p.hkv+kv)*p.e+e] += w[k] * do
						dw[k] += do * v
					}
					mean += w[k] * dw[k]
				}
				for k := range w {
					ds := w[k] * (dw[k] - mean) * scale
					for e := range p.e {
						dq[((b*p.t+i)*p.hq+h)*p.e+e] += ds * get(x.args.K, p.s, b, k, kv, e)
						dk[((b*p.s+k)*p.hkv+kv)*p.e+e] += ds * get(x.args.Q, p.t, b, i, h, e)
					}
				}
			}
		}
	}
	return o, lse, dq, dk, dv
}

// compare checks a view [b, l, h, e] against dense values.
func compare(t *testing.T, name string, v View, want []float64, b, l, h, e int, tol float64) {
	t.Helper()
	if v.Batch == 0 {
		v.Batch = l * v.Row
	}
	worst, where := 0.0, ""
	for i, w := range want {
		ie, ih, il, ib := i%e, i/e%h, i/e/h%l, i/e/h/l
		got := float64(v.Data[ib*v.Batch+il*v.Row+ih*e+ie])
		if d := math.Abs(got - w); !(d <= worst) {
			worst, where = d, fmt.Sprintf("[%d,%d,%d,%d]: %v, want %v", ib, il, ih, ie, got, w)
		}
	}
	if !(worst <= tol) {
		t.Errorf("%s%s, off by %.2g", name, where, worst)
	}
}

// window is a mask with holes: the first keys, and the last few before a query.
type window struct{ sink, width int }

func (w window) Tile(_, _, q0, q1, k0, k1 int) Cover { return Partial }
func (w window) Run(_, _, q, from int) (lo, hi int) {
	if near := max(0, q+1-w.width); from < w.sink && w.sink < near {
		return from, w.sink
	} else if from < w.sink {
		return from, q + 1
	} else {
		return max(from, near), q + 1
	}
}

// speckled hides a fixed third of the keys from each query, by head, and
// everything from every seventh query: its rows rise and fall.
type speckled struct{}

func (speckled) Tile(_, _, _, _, _, _ int) Cover { return Partial }
func (speckled) Run(b, h, q, from int) (lo, hi int) {
	if q%7 == 3 {
		return 0, 0
	}
	for k := from; k < 1000; k++ {
		if (k*k+5*q+h+b)%3 != 0 && (k+q*37)%101 < 60 {
			return k, k + 1
		}
	}
	return end, end
}

func documents(length int, lens ...int) *Documents {
	ids := make([]int32, 0, length)
	for i, n := range lens {
		for range n {
			ids = append(ids, int32(i))
		}
	}
	d, err := NewDocuments(length, ids)
	if err != nil {
		panic(err)
	}
	return d
}

func problems() []problem {
	docs := documents(150, 40, 1, 64, 45, 3, 100, 47)
	ps := []problem{
		{"one", 1, 1, 1, 1, 1, 8, 0, Full{}, 0},
		{"full", 2, 67, 67, 3, 3, 16, 0, nil, 0},
		{"causal", 2, 130, 130, 2, 2, 32, 0, Causal{}, 0},
		{"causal257", 1, 257, 257, 1, 1, 64, 0, Causal{}, 0.3},
		{"cached", 2, 37, 165, 2, 1, 48, 128, Causal{}, 0},
		{"keysShort", 1, 130, 61, 2, 2, 32, 0, Causal{}, 0},
		{"grouped", 2, 70, 70, 6, 2, 20, 0, Causal{}, 0},
		{"decode1", 3, 1, 700, 4, 2, 64, 699, Causal{}, 0},
		{"decode5", 2, 5, 1100, 6, 3, 40, 1095, Causal{}, 0},
		{"decodeHoles", 2, 3, 800, 2, 1, 32, 790, window{5, 100}, 0},
		{"decodeSpeckled", 1, 8, 300, 2, 2, 12, 100, speckled{}, 0},
		{"documents", 2, 150, 150, 2, 1, 32, 0, docs, 0},
		{"causalDocuments", 2, 150, 150, 2, 2, 64, 0, And(Causal{}, docs), 0},
		{"window", 1, 200, 200, 2, 2, 32, 0, window{0, 33}, 0},
		{"sink", 1, 200, 200, 1, 1, 32, 0, window{4, 40}, 0},
		{"speckled", 2, 140, 190, 2, 1, 16, 0, speckled{}, 0},
		{"causalSpeckled", 1, 140, 140, 2, 2, 16, 0, And(speckled{}, Causal{}), 0},
		{"blindStart", 1, 80, 80, 1, 1, 16, 0, window{0, 0}, 0},
		{"long", 1, 600, 1100, 2, 1, 16, 500, Causal{}, 0},
		{"butterfly", 1, 600, 600, 1, 1, 16, 0, Butterfly{64}, 0},
		{"causalButterfly", 1, 530, 530, 2, 1, 16, 0, And(Causal{}, Butterfly{40}), 0},
	}
	for _, e := range []int{4, 16, 20, 32, 64, 80, 96, 128, 137} {
		ps = append(ps, problem{fmt.Sprintf("dim%d", e), 1, 75, 75, 2, 2, e, 0, Causal{}, 0})
	}
	return ps
}

func TestForwardAndBackwardMatchTheWholeMatrix(t *testing.T) {
	for _, p := range problems() {
		o, lse, dq, dk, dv := p.naive(p.arrays())
		t.Run(p.name, func(t *testing.T) {
			atLevels(t, func(t *testing.T) {
				x := p.arrays()
				Forward(x.args, x.grads.O, x.lse)
				compare(t, "o", x.grads.O, o, p.b, p.t, p.hq, p.e, 2e-6)
				for i, w := range lse {
					if got := float64(x.lse[i]); !(math.Abs(got-w) < 2e-6*(1+math.Abs(w))) && got != w {
						t.Fatalf("lse[%d] = %v, want %v", i, got, w)
					}
				}
				Backward(x.args, x.grads)
				compare(t, "dq", x.grads.DQ, dq, p.b, p.t, p.hq, p.e, 1e-5)
				compare(t, "dk", x.grads.DK, dk, p.b, p.s, p.hkv, p.e, 2e-5)
				compare(t, "dv", x.grads.DV, dv, p.b, p.s, p.hkv, p.e, 2e-5)
				x.checkUnwritten(t, p)

				once := slices.Clone(x.dqkv)
				x.grads.Add = true
				Backward(x.args, x.grads)
				for i, g := range once {
					if g != canary && math.Abs(float64(x.dqkv[i]-2*g)) > 1e-5 {
						t.Fatalf("added twice, gradient %d is %v, once %v", i, x.dqkv[i], g)
					}
				}
			})
		})
	}
}

// checkUnwritten checks that the room around the outputs is untouched.
func (x *arrays) checkUnwritten(t *testing.T, p problem) {
	t.Helper()
	for i, v := range x.o {
		if i%(p.hq*p.e+x.padding) >= p.hq*p.e && v != canary {
			t.Fatalf("o: wrote beyond a row, at %d", i)
		}
	}
	for i, v := range x.dqkv {
		col, l := i%x.row, i/x.row%x.l
		inside := col < p.hq*p.e && l < p.t || col >= p.hq*p.e && col < x.row-x.padding && l < p.s
		if !inside && v != canary {
			t.Fatalf("gradients: wrote outside, at position %d, column %d", l, col)
		}
	}
}

func TestGradientsByDifferences(t *testing.T) {
	p := problem{"", 1, 9, 9, 2, 1, 4, 0, Causal{}, 0}
	x := p.arrays()
	Forward(x.args, x.grads.O, x.lse)
	Backward(x.args, x.grads)
	loss := func() (sum float64) {
		o, _, _, _, _ := p.naive(x)
		for i, v := range o {
			sum += v * float64(x.do[i/(p.hq*p.e)*(p.hq*p.e+x.padding)+i%(p.hq*p.e)])
		}
		return sum
	}
	for i := range x.qkv {
		if i%x.row >= x.row-x.padding {
			continue
		}
		const step = 1.0 / 256
		at := x.qkv[i]
		x.qkv[i] = at + step
		up := loss()
		x.qkv[i] = at - step
		want := (up - loss()) / (float64(at+step) - float64(at-step))
		x.qkv[i] = at
		if got := float64(x.dqkv[i]); math.Abs(got-want) > 1e-4 {
			t.Fatalf("gradient of input %d is %v, by differences %v", i, got, want)
		}
	}
}

func TestSameBitsForAnyNumberOfThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, p := range []problem{
		{"heads", 2, 200, 200, 4, 2, 32, 0, Causal{}, 0},
		{"one head", 1, 1100, 1100, 1, 1, 16, 0, Causal{}, 0},
		{"decode", 1, 2, 2000, 2, 1, 16, 1998, Causal{}, 0},
	} {
		var first *arrays
		for _, n := range []int{1, 2, 3} {
			runtime.GOMAXPROCS(n)
			x := p.arrays()
			Forward(x.args, x.grads.O, x.lse)
			Backward(x.args, x.grads)
			if first == nil {
				first = x
				continue
			}
			if !slices.Equal(x.o, first.o) || !slices.Equal(x.lse, first.lse) || !slices.Equal(x.dqkv, first.dqkv) {
				t.Errorf("%s: %d threads differ from 1", p.name, n)
			}
		}
	}
}

func TestLaterInputsDoNotMatter(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		p := problem{"", 1, 150, 150, 2, 1, 32, 0, Causal{}, 0}
		x := p.arrays()
		Forward(x.args, x.grads.O, x.lse)
		before := slices.Clone(x.o)
		const from = 77
		random(x.qkv[from*x.row:], 3)
		for i := range x.qkv[from*x.row:] {
			x.qkv[from*x.row+i] *= 50
		}
		Forward(x.args, x.grads.O, x.lse)
		n := from * x.grads.O.Row
		if !slices.Equal(x.o[:n], before[:n]) {
			t.Error("an earlier output changed")
		}
		if slices.Equal(x.o[n:], before[n:]) {
			t.Error("no later output changed")
		}
	})
}

func TestNothingToDo(t *testing.T) {
	for _, p := range []problem{
		{"no keys", 1, 20, 0, 2, 1, 8, 0, nil, 0},
		{"no keys, decoding", 1, 2, 0, 2, 1, 8, 0, nil, 0},
		{"no queries", 1, 0, 20, 2, 1, 8, 0, nil, 0},
	} {
		x := p.arrays()
		Forward(x.args, x.grads.O, x.lse)
		Backward(x.args, x.grads)
		zero := make([]float64, 1000)
		compare(t, p.name+": o", x.grads.O, zero[:p.b*p.t*p.hq*p.e], p.b, p.t, p.hq, p.e, 0)
		compare(t, p.name+": dq", x.grads.DQ, zero[:p.b*p.t*p.hq*p.e], p.b, p.t, p.hq, p.e, 0)
		compare(t, p.name+": dv", x.grads.DV, zero[:p.b*p.s*p.hkv*p.e], p.b, p.s, p.hkv, p.e, 0)
		for _, l := range x.lse {
			if !math.IsInf(float64(l), -1) {
				t.Errorf("%s: lse %v", p.name, l)
			}
		}
	}
}

// Large scores must neither overflow nor lose the winner.
func TestLargeScores(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		p := problem{"", 1, 100, 100, 1, 1, 32, 0, Causal{}, 40}
		x := p.arrays()
		o, _, dq, dk, _ := p.naive(x)
		Forward(x.args, x.grads.O, x.lse)
		Backward(x.args, x.grads)
		compare(t, "o", x.grads.O, o, p.b, p.t, p.hq, p.e, 1e-4)
		compare(t, "dq", x.grads.DQ, dq, p.b, p.t, p.hq, p.e, 1e-2)
		compare(t, "dk", x.grads.DK, dk, p.b, p.s, p.hkv, p.e, 1e-2)
	})
}

func TestNoAllocation(t *testing.T) {
	docs := documents(200, 120, 80)
	for _, p := range []problem{
		{"causal", 1, 200, 200, 2, 2, 32, 0, Causal{}, 0},
		{"documents", 1, 200, 200, 2, 1, 32, 0, And(Causal{}, docs), 0},
		{"one head", 1, 600, 600, 1, 1, 16, 0, Causal{}, 0},
		{"decode", 1, 1, 600, 2, 1, 32, 599, Causal{}, 0},
	} {
		x := p.arrays()
		var st Stats
		x.args.Stats = &st
		run := func() {
			Forward(x.args, x.grads.O, x.lse)
			Backward(x.args, x.grads)
		}
		for range 30 {
			run()
		}
		if n := testing.AllocsPerRun(20, run); n > 0 {
			t.Errorf("%s: %v allocations", p.name, n)
		}
	}
}

func TestWorkspaceIsLinear(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // threads have a buffer each
	peak := func(n int) int64 {
		p := problem{"", 1, n, n, 1, 1, 16, 0, Causal{}, 0}
		x := p.arrays()
		memory.Default.ResetPeak()
		before := memory.Default.Usage()
		Forward(x.args, x.grads.O, x.lse)
		Backward(x.args, x.grads)
		after := memory.Default.Usage()
		if after.Live != before.Live {
			t.Errorf("%d bytes left live", after.LiveTotal-before.LiveTotal)
		}
		return after.Peak[memory.Workspace] - before.Live[memory.Workspace]
	}
	a, b, c := peak(1024), peak(2048), peak(3072)
	if c-b != b-a || b-a > 1024*16*4*3 {
		t.Errorf("peak workspace %d, %d, %d bytes for 1024, 2048, 3072 positions", a, b, c)
	}
}

func TestStats(t *testing.T) {
	const n, e = 10, 32
	var st, back Stats
	p := problem{"", 1, n * tileQ, n * tileQ, 1, 1, e, 0, Causal{}, 0}
	x := p.arrays()
	x.args.Stats = &st
	Forward(x.args, x.grads.O, x.lse)
	x.args.Stats = &back
	Backward(x.args, x.grads)
	tiles, skipped := int64(n*(n+1)/2), int64(n*(n-1)/2)
	for name, s := range map[string]Stats{"forward": st, "backward": back} {
		if s.Tiles != tiles || s.Skipped != skipped || s.Masked != n {
			t.Errorf("%s: %d tiles, %d masked, %d skipped; want %d, %d, %d", name, s.Tiles, s.Masked, s.Skipped, tiles, n, skipped)
		}
	}
	// Whole tiles in full; of a masked tile the blocks of 16 on and below the diagonal.
	scores := int64(n*(n-1)/2*64*64 + n*10*16*16)
	if st.MatmulFLOPs != scores*4*e || back.MatmulFLOPs != scores*10*e {
		t.Errorf("matmul FLOPs %d and %d, want %d and %d", st.MatmulFLOPs, back.MatmulFLOPs, scores*4*e, scores*10*e)
	}
	if st.OtherFLOPs < 4*scores || st.Bytes < tiles*64*e*2*4 {
		t.Errorf("other FLOPs %d, bytes %d", st.OtherFLOPs, st.Bytes)
	}
}

// A mask's Tile must agree with its Run.
func TestMasksAgreeWithThemselves(t *testing.T) {
	docs := documents(90, 30, 7, 53)
	for name, m := range map[string]Mask{
		"full": Full{}, "causal": Causal{}, "documents": docs,
		"butterfly": Butterfly{5}, "butterfly of ones": Butterfly{1}, "causal butterfly": And(Causal{}, Butterfly{7}), "causal documents": And(Causal{}, docs), "windowed documents": And(window{3, 20}, docs),
	} {
		see := func(q, k int) bool {
			lo, hi := m.Run(0, 0, q, k)
			return lo <= k && k < hi
		}
		for q0 := 0; q0 < 90; q0 += 6 {
			for k0 := 0; k0 < 90; k0 += 5 {
				some, all := false, true
				for q := q0; q < q0+6; q++ {
					for k := k0; k < k0+5; k++ {
						some, all = some || see(q, k), all && see(q, k)
					}
				}
				switch c := m.Tile(0, 0, q0, q0+6, k0, k0+5); {
				case c == Skip && some, c == Whole && !all:
					t.Fatalf("%s: queries from %d, keys from %d: Tile says %d, Run some %v, all %v", name, q0, k0, c, some, all)
				case name == "causal" && (c == Partial) != (some && !all):
					t.Fatalf("causal: queries from %d, keys from %d: Tile is not exact", q0, k0)
				}
			}
		}
	}
}

func TestShapesArePanics(t *testing.T) {
	p := problem{"", 1, 20, 20, 2, 1, 8, 0, nil, 0}
	for name, breakIt := range map[string]func(*arrays){
		"heads":   func(x *arrays) { x.args.Heads = 3; x.args.KVHeads = 2 },
		"short k": func(x *arrays) { x.args.K.Data = x.args.K.Data[:100] },
		"row":     func(x *arrays) { x.args.Q.Row = 5 },
		"lse":     func(x *arrays) { x.lse = x.lse[1:] },
	} {
		x := p.arrays()
		breakIt(x)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			Forward(x.args, x.grads.O, x.lse)
		}()
	}
	if _, err := NewDocuments(7, make([]int32, 13)); err == nil {
		t.Error("no error for 13 ids in sequences of 7")
	}
}
