package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// interpolate returns the coefficients, lowest first, of the polynomial of a
// degree that meets f at the Chebyshev nodes of [low, high]: its largest error
// is within a small factor of the best possible.
func interpolate(f func(float64) float64, low, high float64, degree int) []float64 {
	n := degree + 1
	x, d := make([]float64, n), make([]float64, n)
	for i := range x {
		x[i] = (low+high)/2 + (high-low)/2*math.Cos(math.Pi*(float64(i)+0.5)/float64(n))
		d[i] = f(x[i])
	}
	for j := 1; j < n; j++ { // Newton's divided differences
		for i := n - 1; i >= j; i-- {
			d[i] = (d[i] - d[i-1]) / (x[i] - x[i-j])
		}
	}
	c := make([]float64, n)
	for i := n - 1; i >= 0; i-- { // c = c·(x - x[i]) + d[i]
		for j := n - 1; j > 0; j-- {
			c[j] = c[j-1] - x[i]*c[j]
		}
		c[0] = d[i] - x[i]*c[0]
	}
	return c
}

// polynomial holds coefficients ready for use in a loop.
type polynomial []Op

func (k *kernel) polynomial(c []float64) polynomial {
	p := make(polynomial, len(c))
	for i, v := range c {
		p[i] = k.constant(v)
	}
	return p
}

func (k *kernel) evaluate(p polynomial, x Op) VecVirtual {
	v := k.copy(p[len(p)-1])
	for i := len(p) - 2; i >= 0; i-- {
		v = k.mulAdd(v, x, p[i])
	}
	return v
}

// exponential holds the constants of eˣ = 2ⁿ·eʳ, x = n·ln2 + r, |r| ≤ ln2/2.
// ln2 comes in two parts; the first has few enough bits for n·ln2 to be exact.
// eʳ - 1 = r + r²·q(r); with q of degree 4 the error is below 4e-9.
type exponential struct {
	k                   *kernel
	log2e, ln2hi, ln2lo Op
	q                   polynomial
	low, high           VecVirtual
	one                 Op
	bias                Op // AVX2: 127 in the exponent's place, as an integer
}

// expRest is (eʳ-1-r)/r² = 1/2! + r/3! + r²/4! + …, for small r.
func expRest(r float64) float64 {
	sum := 0.0
	for i := 20; i >= 2; i-- {
		sum = (1 + sum*r) / float64(i)
	}
	return sum
}

// newExp prepares for arguments that are held to [low, high].
func (k *kernel) newExp(low, high float64) *exponential {
	const hi = 0x1.62ep-1
	return &exponential{
		k: k, log2e: k.constant(math.Log2E), ln2hi: k.constant(hi), ln2lo: k.constant(math.Ln2 - hi),
		q:   k.polynomial(interpolate(expRest, -math.Ln2/2, math.Ln2/2, 4)),
		low: k.register(low), high: k.register(high), one: k.constant(1), bias: k.constantBits(127),
	}
}

// reduce returns n and eʳ - 1.
func (e *exponential) reduce(x VecVirtual) (n, p VecVirtual) {
	k := e.k
	n = k.round(k.mul(x, e.log2e))
	r := k.copy(x)
	k.minus(r, n, e.ln2hi)
	k.minus(r, n, e.ln2lo)
	q := k.evaluate(e.q, r)
	return n, k.mulAdd(q, k.mul(r, r), r)
}

func (e *exponential) hold(x VecVirtual) VecVirtual {
	return e.k.max(e.low, e.k.min(e.high, x))
}

// full is eˣ over the whole range: results may be infinite, subnormal or 0.
// The limits must be within -110 and 110.
func (e *exponential) full(x VecVirtual) VecVirtual {
	k := e.k
	n, p := e.reduce(e.hold(x))
	p = k.add(p, e.one)
	if k.z {
		VSCALEFPS(n, p, p)
		return p
	}
	whole := k.toInt(n) // 2ⁿ may not be a normal number, its two factors are
	half := k.shiftSigned(whole, 1)
	p = k.mul(p, e.power(half))
	return k.mul(p, e.power(k.subInt(whole, half)))
}

// normal is eˣ where the limits keep 2ⁿ a normal number.
func (e *exponential) normal(x VecVirtual) VecVirtual {
	k := e.k
	n, p := e.reduce(e.hold(x))
	p = k.add(p, e.one)
	if k.z {
		VSCALEFPS(n, p, p)
		return p
	}
	return k.mul(p, e.power(k.toInt(n)))
}

// power is 2ⁿ for integer lanes n in [-126, 127].
func (e *exponential) power(n VecVirtual) VecVirtual {
	return e.k.shiftLeft(e.k.addInt(n, e.bias), 23)
}

// minusOne is eˣ - 1 without cancellation, for 0 ≤ x ≤ 80: 2ⁿ·(eʳ-1) + (2ⁿ-1).
func (e *exponential) minusOne(x VecVirtual) VecVirtual {
	k := e.k
	n, p := e.reduce(x)
	var s VecVirtual
	if k.z {
		s = k.vec()
		VSCALEFPS(n, e.one, s)
	} else {
		s = e.power(k.toInt(n))
	}
	return k.mulAdd(p, s, k.sub(s, e.one))
}

// sigmoid is eˣ/(1+eˣ). Above 30 it is 1 to the last bit; below -87 it stays
// at 1.6e-38.
type sigmoid struct{ *exponential }

func (k *kernel) newSigmoid() sigmoid { return sigmoid{k.newExp(-87, 30)} }

func (s sigmoid) of(x VecVirtual) VecVirtual {
	e := s.normal(x)
	return s.k.div(e, s.k.add(e, s.one))
}

// withComplement returns s = sigmoid(x) and 1-s, without cancellation.
func (s sigmoid) withComplement(x VecVirtual) (value, complement VecVirtual) {
	k := s.k
	e := s.normal(x)
	r := k.div(k.copy(s.one), k.add(e, s.one))
	return k.mul(e, r), r
}

// siluSlope is the derivative of x·sigmoid(x), given s and 1-s: s·(1+x·(1-s)).
func (s sigmoid) siluSlope(x, value, complement VecVirtual) VecVirtual {
	k := s.k
	d := k.mulAdd(k.copy(complement), x, s.one)
	return k.mul(d, value)
}

const signBit = 1 << 31

// tanh is t/(t+2), t = exp(2|x|)-1, with the sign of x. From 10 on it is 1.
type tanh struct {
	*exponential
	sign, magnitude, two Op
}

func (k *kernel) newTanh() tanh {
	return tanh{k.newExp(0, 10), k.constantBits(signBit), k.constantBits(^uint32(signBit)), k.constant(2)}
}

func (t tanh) of(x VecVirtual) VecVirtual {
	k := t.k
	y := k.min(t.high, k.and(x, t.magnitude))
	e := t.minusOne(k.add(y, y))
	return k.or(k.div(e, k.add(e, t.two)), k.and(x, t.sign))
}

// x·(geluA + geluB·x²) is twice the argument of tanh in GELU, so that
// 1+tanh(…) is 2·sigmoid of it.
const (
	geluA = 2 * 0.79788456080286535588 // 2√(2/π)
	geluB = geluA * 0.044715
)

// normalCDF is the standard normal distribution Φ. With y = |x|, the tail is
// exp(-y²/2)·h(y), h(y) = erfc(y/√2)·exp(y²/2)/2, and h is a polynomial in
// (y-c)/(y+c), which maps [0, ∞) to [-1, 1).
type normalCDF struct {
	*exponential
	h                        polynomial
	magnitude, center, mhalf Op
	most, zero               VecVirtual
}

func (k *kernel) newNormalCDF() normalCDF {
	const center, most, degree = 4, 14, 10
	inner := func(u float64) float64 {
		y := center * (1 + u) / (1 - u)
		return math.Erfc(y/math.Sqrt2) * math.Exp(y*y/2) / 2
	}
	return normalCDF{
		k.newExp(-87, 0), k.polynomial(interpolate(inner, -1, (most-center)/(most+center), degree)),
		k.constantBits(^uint32(signBit)), k.constant(center), k.constant(-0.5), k.register(most), k.zero(),
	}
}

// of returns Φ(x) and exp(-x²/2).
func (c normalCDF) of(x VecVirtual) (cdf, density VecVirtual) {
	k := c.k
	y := k.min(c.most, k.and(x, c.magnitude))
	e := c.normal(k.mul(k.mul(y, c.mhalf), y))
	u := k.div(k.sub(y, c.center), k.add(y, c.center))
	tail := k.mul(k.evaluate(c.h, u), e)
	return k.choose(k.compare(less, x, c.zero), tail, k.sub(k.copy(c.one), tail)), e
}

// logarithm holds the constants of ln x = e·ln2 + ln(1+f), x = 2ᵉ·(1+f) with
// 1+f between √½ and √2, and ln(1+f) = f - f²/2 + f³·p(f).
type logarithm struct {
	k                        *kernel
	p                        polynomial
	ln2hi, ln2lo, mhalf, one Op
	rootHalf, mantissa       Op
	smallest, up, upBits     Op
	infinity, minusInf, none Op
	zero                     VecVirtual
}

func (k *kernel) newLog() *logarithm {
	const hi = 0x1.62ep-1
	return &logarithm{
		k: k,
		p: k.polynomial(interpolate(func(f float64) float64 {
			return (math.Log1p(f) - f + f*f/2) / (f * f * f)
		}, math.Sqrt2/2-1, math.Sqrt2-1, 8)),
		ln2hi: k.constant(hi), ln2lo: k.constant(math.Ln2 - hi), mhalf: k.constant(-0.5), one: k.constant(1),
		rootHalf: k.constantBits(math.Float32bits(math.Sqrt2 / 2)), mantissa: k.constantBits(1<<23 - 1),
		smallest: k.constant(0x1p-126), up: k.constant(1 << 23), upBits: k.constant(23),
		infinity: k.constant(math.Inf(1)), minusInf: k.constant(math.Inf(-1)), none: k.constant(math.NaN()),
		zero: k.zero(),
	}
}

func (l *logarithm) of(x VecVirtual) VecVirtual {
	k := l.k
	// A subnormal number is scaled up first.
	subnormal := k.compare(less, x, l.smallest)
	scaled := k.choose(subnormal, k.mul(x, l.up), x)
	lift := k.choose(subnormal, l.upBits, l.zero)
	// Counted from the bits of √½, the exponent field is e.
	b := k.subInt(scaled, l.rootHalf)
	e := k.sub(k.toFloat(k.shiftSigned(b, 23)), lift)
	f := k.sub(k.addInt(k.and(b, l.mantissa), l.rootHalf), l.one)

	square := k.mul(f, f)
	r := k.mul(k.evaluate(l.p, f), k.mul(f, square))
	k.plus(r, square, l.mhalf)
	k.plus(r, e, l.ln2lo)
	r = k.add(r, f)
	k.plus(r, e, l.ln2hi)

	r = k.choose(k.compare(less, x, l.zero), l.none, r)
	r = k.choose(k.compare(equal, x, l.zero), l.minusInf, r)
	r = k.choose(k.compare(equal, x, l.infinity), l.infinity, r)
	return k.choose(k.compare(unordered, x, x), x, r)
}
