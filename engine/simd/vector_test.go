package simd

import (
	"fmt"
	"math"
	"testing"

	"hasten/engine/rng"
)

// Every kernel, at every level, for sizes around the widths of the registers
// and slices that start anywhere, against plain float64 loops.

var testSizes = []int{0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1000, 1023}

// eachLevel runs a test at each level the processor has.
func eachLevel(t *testing.T, test func(t *testing.T)) {
	defer Use(Current())
	for _, l := range Levels() {
		Use(l)
		t.Run(l.String(), test)
	}
}

const guard = float32(-12345.678)

// guarded is a slice of n floats, starting shift floats after its memory does,
// between values that must not change.
type guarded struct {
	all []float32
	x   []float32
}

func newGuarded(n, shift int) guarded {
	all := make([]float32, 16+shift+n+32)
	for i := range all {
		all[i] = guard
	}
	return guarded{all, all[16+shift : 16+shift+n : 16+shift+n]}
}

func (g guarded) check(t *testing.T, what string) {
	t.Helper()
	first := (cap(g.all) - 32) - len(g.x)
	for i, v := range g.all {
		if (i < first || i >= first+len(g.x)) && v != guard {
			t.Errorf("%s: wrote %g at %d, outside [0, %d)", what, v, i-first, len(g.x))
			return
		}
	}
}

// mapCase is a kernel that works element by element: outputs are computed from
// arrays of inputs; the first inplace outputs also have an old value.
type mapCase struct {
	name    string
	ins     int  // read-only arrays
	outs    int  // written arrays
	inplace bool // the outputs' old values are read
	low     float64
	high    float64 // inputs are drawn between low and high
	run     func(out, in [][]float32)
	want    func(old, in []float64) []float64
	// tolerance: |got - want| ≤ rel·|want| + abs
	rel, abs float64
}

const ulp = 1.0 / (1 << 23)

func one(v float64) []float64 { return []float64{v} }

func refSigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
func refPhi(x float64) float64     { return 0.5 * math.Erfc(-x/math.Sqrt2) }

// slope is the derivative of f at x, from values either side.
func slope(f func(float64) float64, x float64) float64 {
	const h = 1e-5
	return (f(x-2*h) - 8*f(x-h) + 8*f(x+h) - f(x+2*h)) / (12 * h)
}

func refSiLU(x float64) float64 { return x * refSigmoid(x) }
func refGELUTanh(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}
func refGELUErf(x float64) float64 { return x * refPhi(x) }

var adamCase = AdamWCoef{LR: 3e-3, Beta1: 0.9, Beta2: 0.95, Eps: 0.05, WeightDecay: 0.1,
	Bias1: 1 - math.Pow(0.9, 7), Bias2: 1 - math.Pow(0.95, 7), GradScale: 0.25}

var (
	adanCase = AdanCoef{LR: 3e-3, Beta1: 0.98, Beta2: 0.92, Beta3: 0.99, Eps: 0.05, WeightDecay: 0.1,
		Bias1: 1 - math.Pow(0.98, 7), Bias2: 1 - math.Pow(0.92, 7), Bias3: 1 - math.Pow(0.99, 7), GradScale: 0.25}
	adanFirst = AdanCoef{LR: 3e-3, Beta1: 0.98, Beta2: 0.92, Beta3: 0.99, Eps: 0.05, WeightDecay: 0.1, Decoupled: true,
		Bias1: 1 - 0.98, Bias2: 1 - 0.92, Bias3: 1 - 0.99, First: true, GradScale: 0.25}
	adanPlain = AdanCoef{LR: 0.1, Beta1: 0.9, Beta2: 0.9, Beta3: 0.99, Bias1: 1, Bias2: 1, Bias3: 1, Plain: true, GradScale: 1}
)

// refAdan has p, m, v, n and the previous gradient in old.
func refAdan(c AdanCoef, old, in []float64) []float64 {
	p, m, v, n, g := old[0], old[1], old[2], old[3], in[0]*c.GradScale
	d := g - old[4]
	if c.First {
		d = 0
	} else {
		v = c.Beta2*v + (1-c.Beta2)*d
	}
	m = c.Beta1*m + (1-c.Beta1)*g
	n = c.Beta3*n + (1-c.Beta3)*(g+c.Beta2*d)*(g+c.Beta2*d)
	denominator := math.Sqrt(n/c.Bias3) + c.Eps
	if c.Plain {
		denominator = 1
	}
	before, after := 1.0, 1+c.LR*c.WeightDecay
	if c.Decoupled {
		before, after = 1-c.LR*c.WeightDecay, 1
	}
	mean := m / c.Bias1
	if !c.First {
		mean += c.Beta2 * v / c.Bias2
	}
	return []float64{(before*p - c.LR*mean/denominator) / after, m, v, n, g}
}

// adanStep runs a case; a first step finds no mean of changes.
func adanStep(o, in [][]float32, c AdanCoef) {
	v := o[2]
	if c.First {
		v = make([]float32, len(v))
	}
	AdanStep(o[0], o[1], v, o[3], o[4], in[0], c)
}

func refSGD(c SGDCoef, old, in []float64) []float64 {
	p, m, g := old[0], 0.0, 0.0
	if len(old) == 2 {
		m = old[1]
	}
	g = in[0]*c.GradScale + c.WeightDecay*p
	m = c.Momentum*m + g
	d := m
	if c.Nesterov {
		d = g + c.Momentum*m
	}
	return []float64{p - c.LR*d, m}[:len(old)]
}

var (
	sgdPlain    = SGDCoef{LR: 0.1, WeightDecay: 0.01, GradScale: 0.5}
	sgdHeavy    = SGDCoef{LR: 0.1, Momentum: 0.9, WeightDecay: 0.01, GradScale: 0.5}
	sgdNesterov = SGDCoef{LR: 0.1, Momentum: 0.9, Nesterov: true, GradScale: 1}
)

var mapCases = []mapCase{
	{name: "Add", ins: 2, outs: 1, run: func(o, in [][]float32) { Add(o[0], in[0], in[1]) },
		want: func(_, in []float64) []float64 { return one(in[0] + in[1]) }, rel: ulp},
	{name: "AddTo", ins: 1, outs: 1, inplace: true, run: func(o, in [][]float32) { AddTo(o[0], in[0]) },
		want: func(old, in []float64) []float64 { return one(old[0] + in[0]) }, rel: ulp},
	{name: "Sub", ins: 2, outs: 1, run: func(o, in [][]float32) { Sub(o[0], in[0], in[1]) },
		want: func(_, in []float64) []float64 { return one(in[0] - in[1]) }, rel: ulp},
	{name: "Mul", ins: 2, outs: 1, run: func(o, in [][]float32) { Mul(o[0], in[0], in[1]) },
		want: func(_, in []float64) []float64 { return one(in[0] * in[1]) }, rel: ulp},
	{name: "MulAddTo", ins: 2, outs: 1, inplace: true, run: func(o, in [][]float32) { MulAddTo(o[0], in[0], in[1]) },
		want: func(old, in []float64) []float64 { return one(old[0] + in[0]*in[1]) }, rel: ulp, abs: 1e-6},
	{name: "Scale", outs: 1, inplace: true, run: func(o, in [][]float32) { Scale(o[0], 1.7) },
		want: func(old, _ []float64) []float64 { return one(old[0] * float64(float32(1.7))) }, rel: ulp},
	{name: "Axpy", ins: 1, outs: 1, inplace: true, run: func(o, in [][]float32) { Axpy(-1.7, in[0], o[0]) },
		want: func(old, in []float64) []float64 { return one(old[0] - 1.7*in[0]) }, rel: ulp, abs: 1e-6},
	{name: "Lerp", ins: 1, outs: 1, inplace: true, run: func(o, in [][]float32) { Lerp(o[0], in[0], 0.9) },
		want: func(old, in []float64) []float64 { return one(0.9*old[0] + 0.1*in[0]) }, rel: ulp, abs: 1e-6},
	{name: "Copy", ins: 1, outs: 1, run: func(o, in [][]float32) { Copy(o[0], in[0]) },
		want: func(_, in []float64) []float64 { return one(in[0]) }},
	{name: "Triad", ins: 2, outs: 1, run: func(o, in [][]float32) { Triad(o[0], in[0], in[1], 1.7) },
		want: func(_, in []float64) []float64 { return one(in[0] + 1.7*in[1]) }, rel: ulp, abs: 1e-6},

	{name: "Exp", ins: 1, outs: 1, low: -87, high: 88.7, run: func(o, in [][]float32) { Exp(o[0], in[0]) },
		want: func(_, in []float64) []float64 { return one(math.Exp(in[0])) }, rel: ulp},
	{name: "Log", ins: 1, outs: 1, low: 0, high: 4, run: func(o, in [][]float32) { Log(o[0], in[0]) },
		want: func(_, in []float64) []float64 { return one(math.Log(in[0])) }, rel: ulp},
	{name: "Tanh", ins: 1, outs: 1, low: -10, high: 10, run: func(o, in [][]float32) { Tanh(o[0], in[0]) },
		want: func(_, in []float64) []float64 { return one(math.Tanh(in[0])) }, rel: 2 * ulp},
	{name: "Sigmoid", ins: 1, outs: 1, low: -80, high: 80, run: func(o, in [][]float32) { Sigmoid(o[0], in[0]) },
		want: func(_, in []float64) []float64 { return one(refSigmoid(in[0])) }, rel: 2 * ulp},
	{name: "ReLU", ins: 1, outs: 1, run: func(o, in [][]float32) { ReLU(o[0], in[0]) },
		want: func(_, in []float64) []float64 { return one(max(in[0], 0)) }},
	{name: "ReLUBackward", ins: 2, outs: 1, run: func(o, in [][]float32) { ReLUBackward(o[0], in[0], in[1]) },
		want: func(_, in []float64) []float64 {
			if in[0] > 0 {
				return one(in[1])
			}
			return one(0)
		}},
	{name: "SiLU", ins: 1, outs: 1, low: -30, high: 30, run: func(o, in [][]float32) { SiLU(o[0], in[0]) },
		want: func(_, in []float64) []float64 { return one(refSiLU(in[0])) }, rel: 3 * ulp},
	{name: "SiLUBackward", ins: 2, outs: 1, low: -30, high: 30, run: func(o, in [][]float32) { SiLUBackward(o[0], in[0], in[1]) },
		want: func(_, in []float64) []float64 { return one(in[1] * slope(refSiLU, in[0])) }, rel: 4 * ulp, abs: 4e-6},
	{name: "GELUTanh", ins: 1, outs: 1, low: -8, high: 8, run: func(o, in [][]float32) { GELUTanh(o[0], in[0]) },
		want: func(_, in []float64) []float64 { return one(refGELUTanh(in[0])) }, rel: 4 * ulp, abs: 1e-6},
	{name: "GELUTanhBackward", ins: 2, outs: 1, low: -8, high: 8, run: func(o, in [][]float32) { GELUTanhBackward(o[0], in[0], in[1]) },
		want: func(_, in []float64) []float64 { return one(in[1] * slope(refGELUTanh, in[0])) }, rel: 4 * ulp, abs: 4e-6},
	{name: "GELUErf", ins: 1, outs: 1, low: -8, high: 8, run: func(o, in [][]float32) { GELUErf(o[0], in[0]) },
		want: func(_, in []float64) []float64 { return one(refGELUErf(in[0])) }, rel: 4 * ulp, abs: 5e-7},
	{name: "GELUErfBackward", ins: 2, outs: 1, low: -8, high: 8, run: func(o, in [][]float32) { GELUErfBackward(o[0], in[0], in[1]) },
		want: func(_, in []float64) []float64 { return one(in[1] * slope(refGELUErf, in[0])) }, rel: 4 * ulp, abs: 4e-6},
	{name: "SwiGLU", ins: 2, outs: 1, low: -20, high: 20, run: func(o, in [][]float32) { SwiGLU(o[0], in[0], in[1]) },
		want: func(_, in []float64) []float64 { return one(refSiLU(in[0]) * in[1]) }, rel: 4 * ulp},
	{name: "SwiGLUBackward", ins: 3, outs: 2, low: -10, high: 10,
		run: func(o, in [][]float32) { SwiGLUBackward(o[0], o[1], in[0], in[1], in[2]) },
		want: func(_, in []float64) []float64 {
			g, u, dh := in[0], in[1], in[2]
			return []float64{dh * u * slope(refSiLU, g), dh * refSiLU(g)}
		}, rel: 5 * ulp, abs: 3e-5},
	{name: "AdamWStep", ins: 1, outs: 3, inplace: true, low: 0.01, high: 2,
		run: func(o, in [][]float32) { AdamWStep(o[0], o[1], o[2], in[0], adamCase) },
		want: func(old, in []float64) []float64 {
			c, p, m, v, g := adamCase, old[0], old[1], old[2], in[0]*adamCase.GradScale
			p *= 1 - c.LR*c.WeightDecay
			m = c.Beta1*m + (1-c.Beta1)*g
			v = c.Beta2*v + (1-c.Beta2)*g*g
			p -= c.LR / c.Bias1 * m / (math.Sqrt(v)/math.Sqrt(c.Bias2) + c.Eps)
			return []float64{p, m, v}
		}, rel: 3 * ulp, abs: 1e-7},
	{name: "AdanStep", ins: 1, outs: 5, inplace: true, low: 0.01, high: 2,
		run:  func(o, in [][]float32) { adanStep(o, in, adanCase) },
		want: func(old, in []float64) []float64 { return refAdan(adanCase, old, in) }, rel: 4 * ulp, abs: 2e-7},
	{name: "AdanStep first", ins: 1, outs: 5, inplace: true, low: 0.01, high: 2,
		run:  func(o, in [][]float32) { adanStep(o, in, adanFirst) },
		want: func(old, in []float64) []float64 { return refAdan(adanFirst, old, in) }, rel: 4 * ulp, abs: 2e-7},
	{name: "AdanStep plain", ins: 1, outs: 5, inplace: true, low: 0.01, high: 2,
		run:  func(o, in [][]float32) { adanStep(o, in, adanPlain) },
		want: func(old, in []float64) []float64 { return refAdan(adanPlain, old, in) }, rel: 4 * ulp, abs: 2e-7},
	{name: "SGDStep", ins: 1, outs: 1, inplace: true,
		run:  func(o, in [][]float32) { SGDStep(o[0], nil, in[0], sgdPlain) },
		want: func(old, in []float64) []float64 { return refSGD(sgdPlain, old, in) }, rel: 2 * ulp, abs: 1e-6},
	{name: "SGDStep momentum", ins: 1, outs: 2, inplace: true,
		run:  func(o, in [][]float32) { SGDStep(o[0], o[1], in[0], sgdHeavy) },
		want: func(old, in []float64) []float64 { return refSGD(sgdHeavy, old, in) }, rel: 2 * ulp, abs: 1e-6},
	{name: "SGDStep Nesterov", ins: 1, outs: 2, inplace: true,
		run:  func(o, in [][]float32) { SGDStep(o[0], o[1], in[0], sgdNesterov) },
		want: func(old, in []float64) []float64 { return refSGD(sgdNesterov, old, in) }, rel: 2 * ulp, abs: 1e-6},
}

func (c *mapCase) fill(s *rng.Stream, x []float32) {
	low, high := c.low, c.high
	if low == high {
		low, high = -3, 3
	}
	s.FillUniform(x, low, high)
}

func TestElementwise(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for i := range mapCases {
			c := &mapCases[i]
			s := rng.New(1, uint64(i))
			for k, n := range testSizes {
				for shift := range 4 {
					c.check(t, &s, n, shift*(k%5))
				}
			}
		}
	})
}

func (c *mapCase) check(t *testing.T, s *rng.Stream, n, shift int) {
	t.Helper()
	in := make([][]float32, c.ins)
	for j := range in {
		g := newGuarded(n, (shift+j)%16)
		in[j] = g.x
		c.fill(s, g.x)
	}
	outs, out, old := make([]guarded, c.outs), make([][]float32, c.outs), make([][]float32, c.outs)
	for j := range outs {
		outs[j] = newGuarded(n, (shift+2*j)%16)
		out[j] = outs[j].x
		c.fill(s, out[j])
		old[j] = append([]float32(nil), out[j]...)
	}
	c.run(out, in)
	a, b := make([]float64, c.outs), make([]float64, c.ins)
	for i := range n {
		for j := range a {
			a[j] = float64(old[j][i])
		}
		for j := range b {
			b[j] = float64(in[j][i])
		}
		for j, want := range c.want(a, b) {
			if got := float64(out[j][i]); !(math.Abs(got-want) <= c.rel*math.Abs(want)+c.abs) {
				t.Fatalf("%s, n %d, shift %d, output %d at %d: %v for %v, %v: want %v", c.name, n, shift, j, i, got, a, b, want)
			}
		}
	}
	for j := range outs {
		outs[j].check(t, fmt.Sprintf("%s, n %d, output %d", c.name, n, j))
	}
}

// An output may be one of the inputs, and an element's result does not depend
// on its place.
func TestElementwiseAliasAndPlace(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for i := range mapCases {
			c := &mapCases[i]
			if c.inplace || c.name == "Copy" {
				continue
			}
			s := rng.New(2, uint64(i))
			const n = 83
			in, alias, place, apart := make([][]float32, c.ins), make([][]float32, c.ins), make([][]float32, c.ins), make([][]float32, c.outs)
			for j := range in {
				in[j] = make([]float32, n)
				c.fill(&s, in[j])
				alias[j] = append([]float32(nil), in[j]...)
			}
			for j := range apart {
				apart[j] = make([]float32, n)
			}
			c.run(apart, in)
			c.run(alias[:c.outs], alias)
			single := make([][]float32, c.outs)
			for j := range single {
				single[j] = make([]float32, 1)
			}
			for i := range n {
				for j := range place {
					place[j] = in[j][i : i+1]
				}
				c.run(single, place)
				for j := range apart {
					if apart[j][i] != alias[j][i] {
						t.Fatalf("%s: %v at %d, %v in place", c.name, apart[j][i], i, alias[j][i])
					}
					if apart[j][i] != single[j][0] {
						t.Fatalf("%s: %v at %d, %v alone", c.name, apart[j][i], i, single[j][0])
					}
				}
			}
		}
	})
}
