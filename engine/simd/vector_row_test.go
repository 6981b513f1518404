package simd

import (
	"math"
	"testing"

	"hasten/engine/rng"
)

// near fails unless |got - want| ≤ tolerance.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Fatalf("%s: %v, want %v ± %v", what, got, want, tolerance)
	}
}

// forSizes calls test with every size and a few unaligned starts.
func forSizes(t *testing.T, test func(t *testing.T, s *rng.Stream, n, shift int)) {
	eachLevel(t, func(t *testing.T) {
		s := rng.New(3, 0)
		for k, n := range testSizes {
			for shift := range 3 {
				test(t, &s, n, shift*(k%7))
			}
		}
	})
}

func draw(s *rng.Stream, n, shift int, low, high float64) guarded {
	g := newGuarded(n, shift)
	s.FillUniform(g.x, low, high)
	return g
}

func TestReductions(t *testing.T) {
	forSizes(t, func(t *testing.T, s *rng.Stream, n, shift int) {
		x, y := draw(s, n, shift, -3, 2).x, draw(s, n, (shift+1)%16, -3, 3).x
		var sum, abs, dot, absDot, sq, mx, absMax float64
		mx = math.Inf(-1)
		for i := range x {
			a, b := float64(x[i]), float64(y[i])
			sum += a
			abs += math.Abs(a)
			dot += a * b
			absDot += math.Abs(a * b)
			sq += a * a
			mx = max(mx, a)
			absMax = max(absMax, math.Abs(a))
		}
		near(t, "Sum", float64(Sum(x)), sum, 4*ulp*abs)
		near(t, "Dot", float64(Dot(x, y)), dot, 4*ulp*absDot)
		near(t, "SumSq", SumSq(x), sq, 1e-14*sq)
		if got := float64(Max(x)); got != mx {
			t.Fatalf("Max of %d: %v, want %v", n, got, mx)
		}
		if got := float64(AbsMax(x)); got != absMax {
			t.Fatalf("AbsMax of %d: %v, want %v", n, got, absMax)
		}
		if !Finite(x) {
			t.Fatalf("Finite of %d: false", n)
		}
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			if n == 0 {
				break
			}
			i := s.IntN(n)
			old := x[i]
			x[i] = float32(bad)
			if Finite(x) {
				t.Fatalf("Finite of %d with %v at %d: true", n, bad, i)
			}
			if got := float64(AbsMax(x)); got != math.Abs(bad) && !(math.IsNaN(bad) && math.IsNaN(got)) {
				t.Fatalf("AbsMax of %d with %v at %d: %v", n, bad, i, got)
			}
			x[i] = old
		}
		for i := range x { // every place counts, and the largest may be negative
			x[i] = -float32(math.Abs(float64(x[i]))) - 2
		}
		for i := range x {
			x[i]++
			if got := Max(x[:i+1]); got != x[i] && Max(x[:i]) != got {
				t.Fatalf("Max with %v at %d of %d: %v", x[i], i, n, got)
			}
			x[i]--
		}
	})
}

func TestLongSumsStayAccurate(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		x := make([]float32, 1<<20+12345)
		s := rng.New(4, 0)
		s.FillUniform(x, 0, 1)
		var sum, sq, exps float64
		for _, v := range x {
			exps += math.Exp(float64(v))
			sum += float64(v)
			sq += float64(v) * float64(v)
		}
		near(t, "Sum", float64(Sum(x)), sum, 2*ulp*sum)
		near(t, "LogSumExp", float64(LogSumExp(x)), math.Log(exps), 4*ulp*math.Log(exps))
		near(t, "Dot", float64(Dot(x, x)), sq, 2*ulp*sq)
		near(t, "SumSq", SumSq(x), sq, 1e-12*sq)
	})
}

func TestSoftmaxRow(t *testing.T) {
	forSizes(t, func(t *testing.T, s *rng.Stream, n, shift int) {
		x := draw(s, n, shift, 60, 120).x // exp(x) would overflow
		if n > 2 {
			x[s.IntN(n-1)] = float32(math.Inf(-1))
		}
		y, e := newGuarded(n, (shift+3)%16), newGuarded(n, (shift+5)%16)
		m, sum := math.Inf(-1), 0.0
		for _, v := range x {
			m = max(m, float64(v))
		}
		for _, v := range x {
			sum += math.Exp(float64(v) - m)
		}
		want := m + math.Log(sum)
		lse := SoftmaxRow(y.x, x)
		if n == 0 {
			if !math.IsInf(float64(lse), -1) || !math.IsInf(float64(LogSumExp(x)), -1) {
				t.Fatalf("log-sum-exp of nothing: %v, %v", lse, LogSumExp(x))
			}
			return
		}
		near(t, "SoftmaxRow's log-sum-exp", float64(lse), want, 1e-5)
		near(t, "LogSumExp", float64(LogSumExp(x)), want, 1e-5)
		near(t, "ExpSum", float64(ExpSum(e.x, x, float32(m))), sum, 4*ulp*sum)
		for i, v := range x {
			p := math.Exp(float64(v) - m)
			near(t, "ExpSum's exp", float64(e.x[i]), p, 2*ulp*p)
			near(t, "softmax", float64(y.x[i]), p/sum, 5*ulp*p/sum)
		}
		y.check(t, "SoftmaxRow")
		e.check(t, "ExpSum")

		dy, dx := draw(s, n, shift, -1, 1).x, newGuarded(n, shift)
		dot := 0.0
		for i := range dy {
			dot += float64(y.x[i]) * float64(dy[i])
		}
		SoftmaxRowBackward(dx.x, y.x, dy)
		for i := range dy {
			near(t, "SoftmaxRowBackward", float64(dx.x[i]), float64(y.x[i])*(float64(dy[i])-dot), 1e-6*float64(y.x[i])+1e-37)
		}
		dx.check(t, "SoftmaxRowBackward")
		SoftmaxRow(x, x)
		for i := range x {
			if x[i] != y.x[i] {
				t.Fatalf("SoftmaxRow in place: %v, want %v", x[i], y.x[i])
			}
		}
	})
}

func TestSoftmaxRowOfNaN(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for i := range 40 {
			x := make([]float32, 40)
			x[i] = nan32
			SoftmaxRow(x, x)
			for j, v := range x {
				if v == v {
					t.Fatalf("NaN at %d, but %v at %d", i, v, j)
				}
			}
		}
	})
}

func TestRMSNormRow(t *testing.T) {
	forSizes(t, func(t *testing.T, s *rng.Stream, n, shift int) {
		if n == 0 {
			return
		}
		const eps = 1e-5
		x, w, dy := draw(s, n, shift, -2, 3).x, draw(s, n, shift, 0.5, 1.5).x, draw(s, n, 1, -1, 1).x
		dx, dw := draw(s, n, 2, -1, 1), draw(s, n, 3, -1, 1)
		oldX, oldW := append([]float32(nil), dx.x...), append([]float32(nil), dw.x...)
		y := newGuarded(n, shift)
		var sq, c float64
		for _, v := range x {
			sq += float64(v) * float64(v)
		}
		r := 1 / math.Sqrt(sq/float64(n)+eps)
		for i := range x {
			c += float64(w[i]) * float64(dy[i]) * float64(x[i]) * r / float64(n)
		}
		rstd := RMSNormRow(y.x, x, w, eps)
		near(t, "rstd", float64(rstd), r, 2*ulp*r)
		RMSNormRowBackward(dx.x, dw.x, x, w, dy, rstd)
		for i := range x {
			z := float64(x[i]) * r
			near(t, "RMSNormRow", float64(y.x[i]), z*float64(w[i]), 1e-6)
			near(t, "dx", float64(dx.x[i]), float64(oldX[i])+r*(float64(w[i])*float64(dy[i])-z*c), 1e-6*(1+r))
			near(t, "dw", float64(dw.x[i]), float64(oldW[i])+float64(dy[i])*z, 1e-6)
		}
		for _, g := range []guarded{y, dx, dw} {
			g.check(t, "RMSNormRow")
		}
	})
}

func TestLayerNormRow(t *testing.T) {
	forSizes(t, func(t *testing.T, s *rng.Stream, n, shift int) {
		if n == 0 {
			return
		}
		const eps = 1e-3
		x, w, b, dy := draw(s, n, shift, -2, 3).x, draw(s, n, 1, 0.5, 1.5).x, draw(s, n, 5, -1, 1).x, draw(s, n, shift, -1, 1).x
		dx, dw, db := draw(s, n, 2, -1, 1), draw(s, n, 3, -1, 1), draw(s, n, 4, -1, 1)
		oldX, oldW, oldB := append([]float32(nil), dx.x...), append([]float32(nil), dw.x...), append([]float32(nil), db.x...)
		y := newGuarded(n, shift)
		var m, v, c1, c2 float64
		for _, a := range x {
			m += float64(a) / float64(n)
		}
		for _, a := range x {
			v += (float64(a) - m) * (float64(a) - m) / float64(n)
		}
		r := 1 / math.Sqrt(v+eps)
		for i := range x {
			g := float64(w[i]) * float64(dy[i]) / float64(n)
			c1 += g
			c2 += g * (float64(x[i]) - m) * r
		}
		mean, rstd := LayerNormRow(y.x, x, w, b, eps)
		near(t, "mean", float64(mean), m, 1e-6)
		near(t, "rstd", float64(rstd), r, 2e-6*r)
		LayerNormRowBackward(dx.x, dw.x, db.x, x, w, dy, mean, rstd)
		for i := range x {
			z := (float64(x[i]) - m) * r
			near(t, "LayerNormRow", float64(y.x[i]), z*float64(w[i])+float64(b[i]), 2e-6*(1+r))
			near(t, "dx", float64(dx.x[i]), float64(oldX[i])+r*(float64(w[i])*float64(dy[i])-c1-z*c2), 2e-6*(1+r))
			near(t, "dw", float64(dw.x[i]), float64(oldW[i])+float64(dy[i])*z, 2e-6*(1+r))
			near(t, "db", float64(db.x[i]), float64(oldB[i])+float64(dy[i]), 1e-6)
		}
		for _, g := range []guarded{y, dx, dw, db} {
			g.check(t, "LayerNormRow")
		}
	})
}

func TestRoPE(t *testing.T) {
	forSizes(t, func(t *testing.T, s *rng.Stream, h, shift int) {
		if h > 130 {
			return
		}
		for _, heads := range []int{0, 1, 3} {
			x := draw(s, heads*2*h, shift, -1, 1)
			old := append([]float32(nil), x.x...)
			cos, sin := make([]float32, h), make([]float32, h)
			for i := range cos {
				a := 7 * s.Float64()
				cos[i], sin[i] = float32(math.Cos(a)), float32(math.Sin(a))
			}
			RoPERow(x.x, heads, 2*h, cos, sin, 1)
			for head := range heads {
				for i := range h {
					at := head*2*h + i
					a, b, c, d := float64(old[at]), float64(old[at+h]), float64(cos[i]), float64(sin[i])
					near(t, "first half", float64(x.x[at]), a*c-b*d, 2*ulp)
					near(t, "second half", float64(x.x[at+h]), b*c+a*d, 2*ulp)
				}
			}
			for head := range heads {
				RoPE(x.x[head*2*h:(head+1)*2*h], cos, sin, -1)
			}
			for i := range old {
				near(t, "turned back", float64(x.x[i]), float64(old[i]), 4*ulp)
			}
			x.check(t, "RoPE")
		}
	})
}
