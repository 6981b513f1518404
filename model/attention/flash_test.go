package attention

import (
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/memory"
	"hasten/engine/rng"
)

// TestFlashMatchesTheWholeMatrix runs the paper's order over all problems, with
// blocks of one tile and of several.
func TestFlashMatchesTheWholeMatrix(t *testing.T) {
	for _, p := range problems() {
		o, lse, dq, dk, dv := p.naive(p.arrays())
		for _, blocks := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", p.name, blocks), func(t *testing.T) {
				f := Flash{Cache: 4 * 4 * p.e * tileK * blocks}
				if got := f.KeyBlock(p.e); got != blocks*tileK {
					t.Fatalf("blocks of %d keys", got)
				}
				x := p.arrays()
				f.Forward(x.args, x.grads.O, x.lse)
				compare(t, "o", x.grads.O, o, p.b, p.t, p.hq, p.e, 2e-6)
				for i, w := range lse {
					if got := float64(x.lse[i]); !(math.Abs(got-w) < 2e-6*(1+math.Abs(w))) && got != w {
						t.Fatalf("lse[%d] = %v, want %v", i, got, w)
					}
				}
				f.Backward(x.args, x.grads)
				compare(t, "dq", x.grads.DQ, dq, p.b, p.t, p.hq, p.e, 1e-5)
				compare(t, "dk", x.grads.DK, dk, p.b, p.s, p.hkv, p.e, 2e-5)
				compare(t, "dv", x.grads.DV, dv, p.b, p.s, p.hkv, p.e, 2e-5)
				x.checkUnwritten(t, p)
			})
		}
	}
}

// dropped is naive with dropout.
func (p problem) dropped(x *arrays) (o, dq, dk, dv []float64) {
	at := func(v View, l, b, i, h, e int) float64 { return float64(v.at(b, i, h, p.e)[e]) }
	o, dq = make([]float64, p.b*p.t*p.hq*p.e), make([]float64, p.b*p.t*p.hq*p.e)
	dk, dv = make([]float64, p.b*p.s*p.hkv*p.e), make([]float64, p.b*p.s*p.hkv*p.e)
	scale := 1 / math.Sqrt(float64(p.e))
	a, w, z, dw := &x.args, make([]float64, p.s), make([]float64, p.s), make([]float64, p.s)
	for b := range p.b {
		for h := range p.hq {
			kv := h / (p.hq / p.hkv)
			for i := range p.t {
				sum := 0.0
				for k := range w {
					w[k], dw[k], z[k] = 0, 0, 0
					if k > i {
						continue
					}
					for e := range p.e {
						w[k] += at(a.Q, p.t, b, i, h, e) * at(a.K, p.s, b, k, kv, e) * scale
					}
					w[k] = math.Exp(w[k])
					sum += w[k]
					if a.Dropout.keeps(a, b, h, i, k) {
						z[k] = 1 / (1 - a.Dropout.P)
					}
				}
				mean := 0.0
				for k := range w {
					w[k] /= sum
					for e := range p.e {
						v, do := at(a.V, p.s, b, k, kv, e), at(x.grads.DO, p.t, b, i, h, e)
						o[((b*p.t+i)*p.hq+h)*p.e+e] += w[k] * z[k] * v
						dv[((b*p.s+k)*p.hkv+kv)*p.e+e] += w[k] * z[k] * do
						dw[k] += do * v * z[k]
					}
					mean += w[k] * dw[k]
				}
				for k := range w {
					ds := w[k] * (dw[k] - mean) * scale
					for e := range p.e {
						dq[((b*p.t+i)*p.hq+h)*p.e+e] += ds * at(a.K, p.s, b, k, kv, e)
						dk[((b*p.s+k)*p.hkv+kv)*p.e+e] += ds * at(a.Q, p.t, b, i, h, e)
					}
				}
			}
		}
	}
	return o, dq, dk, dv
}

func TestDropout(t *testing.T) {
	for _, p := range []problem{{"", 2, 67, 67, 4, 2, 16, 0, Causal{}, 0}, {"", 1, 130, 130, 1, 1, 20, 0, Causal{}, 0}, {"", 1, 5, 5, 1, 1, 8, 0, Causal{}, 0}} {
		for name, run := range map[string]struct {
			forward  func(Args, View, []float32)
			backward func(Args, Grads)
		}{"queries outside": {Forward, Backward}, "keys outside": {Flash{1}.Forward, Flash{1}.Backward}} {
			x := p.arrays()
			x.args.Dropout = Dropout{0.25, rng.New(7, 3)}
			x.args.check()
			x.grads.DO.check("do", p.b, p.t, p.hq, p.e)
			o, dq, dk, dv := p.dropped(x)
			run.forward(x.args, x.grads.O, x.lse)
			run.backward(x.args, x.grads)
			t.Run(name, func(t *testing.T) {
				compare(t, "o", x.grads.O, o, p.b, p.t, p.hq, p.e, 2e-6)
				compare(t, "dq", x.grads.DQ, dq, p.b, p.t, p.hq, p.e, 1e-5)
				compare(t, "dk", x.grads.DK, dk, p.b, p.s, p.hkv, p.e, 2e-5)
				compare(t, "dv", x.grads.DV, dv, p.b, p.s, p.hkv, p.e, 2e-5)
			})
		}
	}
	a := Args{Heads: 2, Queries: 301}
	d := Dropout{0.25, rng.New(1, 1)}
	kept := 0
	for i := range 301 {
		for k := range 300 {
			if d.keeps(&a, 1, 1, i, k) {
				kept++
			}
		}
	}
	if share := float64(kept) / (301 * 300); math.Abs(share-0.75) > 0.01 {
		t.Errorf("keeps %v of the weights, want 0.75", share)
	}
}

func TestFlashSameBitsForAnyNumberOfThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	p := problem{"", 1, 700, 700, 2, 1, 16, 0, Causal{}, 0}
	var want [][]float32
	for _, threads := range []int{1, 2, 3} {
		runtime.GOMAXPROCS(threads)
		x := p.arrays()
		f := Flash{Cache: 32 << 10}
		f.Forward(x.args, x.grads.O, x.lse)
		f.Backward(x.args, x.grads)
		got := [][]float32{x.o, x.lse, x.dqkv}
		for i := range want {
			if !slices.Equal(got[i], want[i]) {
				t.Errorf("output %d differs with %d threads", i, threads)
			}
		}
		want = got
	}
}

func TestFlashAllocatesNothing(t *testing.T) {
	x := problem{"", 1, 300, 300, 2, 1, 16, 0, Causal{}, 0}.arrays()
	run := func() {
		Flash{}.Forward(x.args, x.grads.O, x.lse)
		Flash{}.Backward(x.args, x.grads)
	}
	run()
	if n := testing.AllocsPerRun(20, run); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestFlashTraffic holds the count of the bytes moved against the formula.
func TestFlashTraffic(t *testing.T) {
	const n, e = 1024, 16
	p := problem{"", 1, n, n, 16, 16, e, 0, Full{}, 0} // so many heads that queries are not split
	for _, keys := range []int{64, 128, 512} {
		var st Stats
		x := p.arrays()
		x.args.Stats = &st
		Flash{Cache: 4 * 4 * e * keys}.Forward(x.args, x.grads.O, x.lse)
		blocks := n / keys
		if want := int64(16 * 4 * (2*n*e + blocks*n*(3*e+4))); st.Bytes != want {
			t.Errorf("blocks of %d keys: %d bytes, want %d", keys, st.Bytes, want)
		}
	}
}

func TestFlashWorkspaceIsLinear(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	peak := func(n int) int64 {
		x := problem{"", 1, n, n, 1, 1, 16, 0, Causal{}, 0}.arrays()
		memory.Default.ResetPeak()
		before := memory.Default.Usage()
		Flash{}.Forward(x.args, x.grads.O, x.lse)
		after := memory.Default.Usage()
		return after.Peak[memory.Workspace] - before.Live[memory.Workspace]
	}
	if a, b, c := peak(1024), peak(2048), peak(3072); c-b != b-a {
		t.Errorf("peak workspace %d, %d, %d bytes for 1024, 2048, 3072 positions", a, b, c)
	}
}

// TestVisibleFrom looks for the next block that differs in at most one bit.
func TestVisibleFrom(t *testing.T) {
	for q := range 40 {
		for k := range 90 {
			want := k
			for bits.OnesCount(uint(want^q)) > 1 {
				want++
			}
			if got := visibleFrom(q, k); got != want {
				t.Fatalf("from %d, %d sees %d first, want %d", k, q, got, want)
			}
		}
	}
}

// TestButterflyFraction counts the tiles that are computed.
func TestButterflyFraction(t *testing.T) {
	var st Stats
	x := problem{"", 1, 1024, 1024, 1, 1, 8, 0, Butterfly{Tile}, 0}.arrays()
	x.args.Stats = &st
	Flash{}.Forward(x.args, x.grads.O, x.lse)
	if st.Tiles != 16*(1+4) || st.Skipped != 16*16-st.Tiles || st.Masked != 0 {
		t.Errorf("%d tiles, %d skipped, %d masked", st.Tiles, st.Skipped, st.Masked)
	}
}
