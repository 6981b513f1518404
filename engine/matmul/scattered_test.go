package matmul

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/rng"
)

// scene is rows in groups, some of them empty, strewn over matrices.
type scene struct {
	tokens, k, groups, n, depth int // k rows of groups for each of tokens rows
}

var scenes = []scene{
	{1, 1, 1, 1, 1}, {5, 1, 3, 7, 33}, {40, 2, 4, 65, 16}, {50, 3, 5, 130, 39},
	{1100, 1, 2, 9, 5}, {9, 2, 3, 17, 1030}, {37, 4, 32, 16, 24}, {4, 2, 3, 300, 270},
}

// order gives the rows of each group: tokens and places (token·k + j), ascending
// within a group. The last group is empty where there is more than one.
func (s scene) order(r *rng.Stream) (starts, token, place []int32) {
	members := make([][]int32, s.groups)
	for t := range s.tokens {
		free := r.Permutation(max(1, s.groups-1))
		for j := range s.k {
			g := free[j%len(free)]
			members[g] = append(members[g], int32(t*s.k+j))
		}
	}
	starts = []int32{0}
	for _, m := range members {
		slices.Sort(m)
		for _, p := range m {
			place = append(place, p)
			token = append(token, p/int32(s.k))
		}
		starts = append(starts, int32(len(place)))
	}
	return starts, token, place
}

// rounded is x as a format sees it.
func rounded(x float32, f Format) float64 {
	if f == BF16 {
		b := math.Float32bits(x)
		b += 0x7fff + b>>16&1
		x = math.Float32frombits(b &^ 0xffff)
	}
	return float64(x)
}

func close64(t *testing.T, name string, got []float32, want, size []float64) {
	t.Helper()
	for i := range want {
		if diff := math.Abs(float64(got[i]) - want[i]); !(diff <= 3e-6*(size[i]+1)) {
			t.Fatalf("%s: element %d is %g, want %g", name, i, got[i], want[i])
		}
	}
}

func TestScatteredMatchesPlainLoops(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for id, s := range scenes {
			for form := range 16 {
				f, trans, gather, sum := Format(form&1), form&2 != 0, form&4 != 0, form&8 != 0
				name := fmt.Sprintf("%+v %v trans=%v gather=%v sum=%v", s, f, trans, gather, sum)
				r := stream(uint64(100 + id))
				starts, token, place := s.order(r)
				rows := s.tokens * s.k
				b := random(r, s.groups*s.n*s.depth)
				p := Scattered{Starts: starts, N: s.n, K: s.depth, B: b, TransB: trans, Format: f}
				p.A = Rows{Data: random(r, rows*(s.depth+3)), LD: s.depth + 3}
				if gather {
					p.A.Index = token
				}
				y := random(r, rows*s.n)
				p.C = Rows{Data: y, LD: s.n}
				residual, weights := random(r, s.tokens*s.n), random(r, rows)
				want, size := make([]float64, rows*s.n), make([]float64, rows*s.n)
				var add bool
				if sum {
					p.C.Index, p.Weights, p.Weight = token, weights, place
					if add = id%2 == 0; add {
						residual = y
					}
					for i, v := range residual[:s.tokens*s.n] {
						want[i], size[i] = float64(v), math.Abs(float64(v))
					}
				} else if !gather { // scattered to places of its own
					p.C.Index = place
				}
				for g := range s.groups {
					for i := int(starts[g]); i < int(starts[g+1]); i++ {
						a, c, w := p.A.at(i), i, 1.0
						switch {
						case sum:
							c, w = int(token[i]), float64(weights[place[i]])
						case !gather:
							c = int(place[i])
						}
						for n := range s.n {
							for k := range s.depth {
								at := k*s.n + n
								if trans {
									at = n*s.depth + k
								}
								v := w * rounded(a[k], f) * rounded(b[g*s.n*s.depth+at], f)
								want[c*s.n+n] += v
								size[c*s.n+n] += math.Abs(v)
							}
						}
					}
				}
				if sum {
					SumScattered(p, s.tokens, residual, add)
					want = want[:s.tokens*s.n]
				} else {
					MulScattered(p)
				}
				close64(t, name, y, want, size)
			}
		}
	})
}

func TestGradScatteredMatchesPlainLoops(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for id, s := range scenes {
			for form := range 8 {
				f, gather, weighted := Format(form&1), form&2 != 0, form&4 != 0
				name := fmt.Sprintf("%+v %v gather=%v weighted=%v", s, f, gather, weighted)
				r := stream(uint64(200 + id))
				starts, token, place := s.order(r)
				rows := s.tokens * s.k
				p := ScatteredGrad{Starts: starts, M: s.depth, N: s.n, Format: f, Add: id%2 == 1}
				p.A = Rows{Data: random(r, rows*s.depth), LD: s.depth}
				p.B = Rows{Data: random(r, rows*s.n), LD: s.n}
				if gather {
					p.A.Index, p.B.Index = token, place
				}
				if weighted {
					p.Weights, p.Weight = random(r, rows), place
				}
				p.C = random(r, s.groups*s.n*s.depth)
				want, size := make([]float64, len(p.C)), make([]float64, len(p.C))
				for i, v := range p.C {
					if p.Add {
						want[i], size[i] = float64(v), math.Abs(float64(v))
					}
				}
				for g := range s.groups {
					for i := int(starts[g]); i < int(starts[g+1]); i++ {
						a, b, w := p.A.at(i), p.B.at(i), float32(1)
						if weighted {
							w = p.Weights[place[i]]
						}
						for m := range s.depth {
							for n := range s.n {
								v := rounded(w*a[m], f) * rounded(b[n], f)
								want[(g*s.depth+m)*s.n+n] += v
								size[(g*s.depth+m)*s.n+n] += math.Abs(v)
							}
						}
					}
				}
				GradScattered(p)
				close64(t, name, p.C, want, size)
			}
		}
	})
}

// TestScatteredIsDeterministic holds that the bits do not depend on the number
// of threads, and that nothing is taken from the Go heap.
func TestScatteredIsDeterministic(t *testing.T) {
	s := scene{2100, 2, 5, 130, 70}
	r := stream(7)
	starts, token, place := s.order(r)
	x, w, gates := random(r, s.tokens*s.depth), random(r, s.groups*s.n*s.depth), random(r, len(place))
	h, y, dw := make([]float32, len(place)*s.n), make([]float32, s.tokens*s.depth), make([]float32, len(w))
	run := func() {
		MulScattered(Scattered{Starts: starts, N: s.n, K: s.depth, A: Rows{x, s.depth, token}, B: w, TransB: true, C: Rows{h, s.n, nil}})
		SumScattered(Scattered{Starts: starts, N: s.depth, K: s.n, A: Rows{h, s.n, nil}, B: w, C: Rows{y, s.depth, token},
			Weights: gates, Weight: place}, s.tokens, x, false)
		GradScattered(ScatteredGrad{Starts: starts, M: s.n, N: s.depth, A: Rows{h, s.n, nil}, B: Rows{x, s.depth, token}, C: dw})
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	run()
	all := slices.Concat(h, y, dw)
	for _, width := range []int{2, 3, 8} {
		runtime.GOMAXPROCS(width)
		run()
		for i, v := range slices.Concat(h, y, dw) {
			if v != all[i] {
				t.Fatalf("%d threads: element %d is %g, with one %g", width, i, v, all[i])
			}
		}
	}
	runtime.GOMAXPROCS(2)
	if got := testing.AllocsPerRun(20, run); got > 0 {
		t.Errorf("%.1f allocations in a run", got)
	}
}
