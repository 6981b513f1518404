package simd

import (
	"fmt"
	"math"
	"testing"
)

// tileData is n floats of a fixed sequence in [-1, 1).
func tileData(n int, seed uint64) []float32 {
	x := make([]float32, n)
	for i := range x {
		seed = seed*6364136223846793005 + 1442695040888963407
		x[i] = float32(int32(seed>>32)) / (1 << 31)
	}
	return x
}

// matchAttention fails unless got is within tol of want; everything not in want must
// still be what it was.
func matchAttention(t *testing.T, name string, got, was []float32, want map[int]float64, tol float64) {
	t.Helper()
	for i, g := range got {
		w, ok := want[i]
		if !ok && g != was[i] {
			t.Fatalf("%s: wrote at %d", name, i)
		}
		if ok && !(math.Abs(float64(g)-w) <= tol) {
			t.Fatalf("%s: [%d] = %v, want %v", name, i, g, w)
		}
	}
}

func TestTileMul(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, m := range []int{1, 2, 3, 5, 6, 7, 13, 64} {
			for _, n := range []int{1, 4, 8, 15, 16, 20, 31, 32, 48, 64, 80, 137} {
				for _, k := range []int{1, 2, 17, 64} {
					for mode := range 3 {
						for _, across := range []bool{false, true} {
							name := fmt.Sprintf("m %d, n %d, k %d, mode %d, across %v", m, n, k, mode, across)
							am, ak := k+3, 1
							if across {
								am, ak = 1, m+2
							}
							bs, cs := n+1, n+5
							a := tileData((m-1)*am+(k-1)*ak+1, 1)
							b := tileData((k-1)*bs+n, 2)
							c := tileData((m-1)*cs+n+20, 3)
							was := append([]float32(nil), c...)
							var scale []float32
							if mode == 2 {
								scale = tileData(n, 4)
							}
							want := map[int]float64{}
							for i := range m {
								for j := range n {
									var sum float64
									if mode > 0 {
										sum = float64(c[i*cs+j])
									}
									if mode == 2 {
										sum *= float64(scale[j])
									}
									for p := range k {
										sum += float64(a[i*am+p*ak]) * float64(b[p*bs+j])
									}
									want[i*cs+j] = sum
								}
							}
							TileMul(m, n, k, a, am, ak, b, bs, c, cs, mode > 0, scale)
							matchAttention(t, name, c, was, want, 1e-5)
						}
					}
				}
			}
		}
	})
}

func TestTileDot(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, m := range []int{1, 2, 5} {
			for _, n := range []int{1, 3, 4, 7, 64} {
				for _, k := range []int{1, 7, 8, 15, 16, 20, 64, 137} {
					as, bs, cs := k+1, k+2, n+3
					a, b := tileData((m-1)*as+k, 1), tileData((n-1)*bs+k, 2)
					c := tileData(m*cs+10, 3)
					was := append([]float32(nil), c...)
					want := map[int]float64{}
					for i := range m {
						for j := range n {
							var sum float64
							for p := range k {
								sum += float64(a[i*as+p]) * float64(b[j*bs+p])
							}
							want[i*cs+j] = sum
						}
					}
					TileDot(m, n, k, a, as, b, bs, c, cs)
					matchAttention(t, fmt.Sprintf("m %d, n %d, k %d", m, n, k), c, was, want, 1e-5)
				}
			}
		}
	})
}

// spans are visible rows for each lane, some of them none and some all.
func spans(rows int) (lo, hi []float32) {
	lo, hi = make([]float32, Lanes), make([]float32, Lanes)
	for i := range Lanes {
		lo[i], hi[i] = float32(i*7%(rows+2)), float32(i*11%(rows+5)+1)
	}
	lo[3], hi[3] = 0, float32(rows)
	lo[4], hi[4] = 5, 5
	return lo, hi
}

func TestTileSoftmax(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, r := range [][2]int{{0, 1}, {0, 2}, {1, 4}, {3, 10}, {0, 64}, {16, 63}} {
			for _, masked := range []bool{false, true} {
				from, to := r[0], r[1]
				const stride = Lanes + 4
				s := tileData(70*stride, 1)
				for i := range s {
					s[i] *= 100
				}
				m, l, corr := tileData(Lanes, 2), tileData(Lanes, 3), make([]float32, Lanes)
				m[1], l[1] = Hidden, 0
				m[2] = 500
				var lo, hi []float32
				if masked {
					lo, hi = spans(to)
				}
				was := append([]float32(nil), s...)
				wantS := map[int]float64{}
				wantL, wantM, wantC := map[int]float64{}, map[int]float64{}, map[int]float64{}
				for i := range Lanes {
					at := func(j int) float64 {
						if masked && (float32(j) < lo[i] || float32(j) >= hi[i]) {
							return Hidden
						}
						return float64(s[j*stride+i])
					}
					top := float64(m[i])
					for j := from; j < to; j++ {
						top = max(top, float64(float32(at(j))))
					}
					wantM[i] = top
					wantC[i] = math.Exp2(float64(m[i]) - top)
					wantL[i] = float64(l[i]) * wantC[i]
					for j := from; j < to; j++ {
						p := math.Exp2(float64(float32(at(j))) - top)
						wantS[j*stride+i] = p
						wantL[i] += p
					}
				}
				TileSoftmax(s, stride, from, to, lo, hi, m, l, corr)
				name := fmt.Sprintf("rows %v, masked %v: ", r, masked)
				matchAttention(t, name+"m", m, m, wantM, 0)
				matchAttention(t, name+"corr", corr, corr, wantC, 1e-6)
				matchAttention(t, name+"l", l, l, wantL, 1e-5)
				matchAttention(t, name+"s", s, was, wantS, 1e-6)
			}
		}
	})
}

func TestTileGrad(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, r := range [][2]int{{0, 1}, {0, 2}, {1, 4}, {3, 10}, {0, 64}, {16, 63}} {
			for _, masked := range []bool{false, true} {
				from, to := r[0], r[1]
				const stride = Lanes + 4
				s, dp := tileData(70*stride, 1), tileData(70*stride, 5)
				lse, delta := tileData(Lanes, 2), tileData(Lanes, 3)
				lse[1] = -Hidden
				s[from*stride+2] = -300
				var lo, hi []float32
				if masked {
					lo, hi = spans(to)
				}
				wasS, wasD := append([]float32(nil), s...), append([]float32(nil), dp...)
				wantS, wantD := map[int]float64{}, map[int]float64{}
				for i := range Lanes {
					for j := from; j < to; j++ {
						at := j*stride + i
						p := math.Exp2(float64(s[at]) - float64(lse[i]))
						if masked && (float32(j) < lo[i] || float32(j) >= hi[i]) {
							p = 0
						}
						wantS[at] = p
						wantD[at] = p * (float64(dp[at]) - float64(delta[i]))
					}
				}
				TileGrad(s, dp, stride, from, to, lo, hi, lse, delta)
				name := fmt.Sprintf("rows %v, masked %v: ", r, masked)
				matchAttention(t, name+"s", s, wasS, wantS, 2e-6)
				matchAttention(t, name+"dp", dp, wasD, wantD, 2e-6)
			}
		}
	})
}

// A NaN among the scores must reach the result at every level.
func TestTileKernelsKeepNaN(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		nan := float32(math.NaN())
		s, dp := make([]float32, 8*Lanes), make([]float32, 8*Lanes)
		s[5*Lanes+3] = nan
		TileGrad(s, dp, Lanes, 0, 8, nil, nil, make([]float32, Lanes), make([]float32, Lanes))
		if s[5*Lanes+3] == s[5*Lanes+3] || s[4*Lanes+3] != 1 {
			t.Errorf("TileGrad: %v and %v", s[5*Lanes+3], s[4*Lanes+3])
		}
		m, l, corr := make([]float32, Lanes), make([]float32, Lanes), make([]float32, Lanes)
		clear(s)
		s[5*Lanes+3] = nan
		TileSoftmax(s, Lanes, 0, 8, nil, nil, m, l, corr)
		if l[3] == l[3] || l[2] != 8 {
			t.Errorf("TileSoftmax: sums %v and %v", l[3], l[2])
		}
	})
}

func TestTileTranspose(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, rows := range []int{1, 7, 8, 9, 24, 64} {
			for _, cols := range []int{1, 5, 8, 16, 21, 64} {
				for _, add := range []bool{false, true} {
					ss, ds := cols+3, rows+2
					src, dst, f := tileData(rows*ss, 1), tileData(cols*ds+9, 2), tileData(cols, 3)
					was := append([]float32(nil), dst...)
					want := map[int]float64{}
					for r := range rows {
						for c := range cols {
							v := float64(f[c]) * float64(src[r*ss+c])
							if add {
								v += float64(was[c*ds+r])
							}
							want[c*ds+r] = v
						}
					}
					TileTranspose(dst, ds, src, ss, rows, cols, f, add)
					matchAttention(t, fmt.Sprintf("%d by %d, add %v", rows, cols, add), dst, was, want, 1e-6)
				}
			}
		}
	})
}

func BenchmarkTile(b *testing.B) {
	for _, e := range []int{32, 64} {
		x, y, z := tileData(64*320, 1), tileData(64*320, 2), tileData(64*320, 3)
		m, l := tileData(64, 4), tileData(64, 5)
		run := func(name string, flops int, f func()) {
			b.Run(fmt.Sprintf("%s/E%d", name, e), func(b *testing.B) {
				for b.Loop() {
					f()
				}
				b.ReportMetric(float64(flops)*float64(b.N)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
			})
		}
		run("scores", 2*64*64*e, func() { TileMul(64, 64, e, x, 320, 1, y, 64, z, 64, false, nil) })
		run("gather", 2*64*64*e, func() { TileMul(e, 64, 64, x, 1, 320, y, 64, z, 64, true, m) })
		run("scatter", 2*64*64*e, func() { TileMul(64, e, 64, x, 64, 1, y, 320, z, 320, true, nil) })
		run("transpose", 64*e, func() { TileTranspose(z, 64, x, 320, 64, e, y, false) })
		run("softmax", 64*16, func() { TileSoftmax(z, 64, 0, 64, nil, nil, m, l, y) })
		run("grad", 64*16, func() { TileGrad(z, x, 64, 0, 64, nil, nil, m, l) })
		run("dot", 64*e*2, func() { TileDot(1, 64, e, y, e, x, 320, z, 64) })
	}
}
