// Scaling laws: Kaplan, McCandlish, Henighan, Brown, Chess, Child, Gray,
// Radford, Wu, Amodei, "Scaling Laws for Neural Language Models", 2020.
//
//	L(N) = (Nc/N)^αN    L(D) = (Dc/D)^αD    L(C) = (Cc/C)^αC
//	L(N,D) = [(Nc/N)^(αN/αD) + Dc/D]^αD
//	L(N,S) = (Nc/N)^αN + (Sc/Smin)^αS
//	Bcrit = B*/L^(1/αB)    Smin = S/(1 + Bcrit/B)    Cmin = C/(1 + B/Bcrit)
//
// N counts the weights outside the embeddings, D tokens, S steps, B tokens in a
// batch, C ≈ 6·N·B·S floating-point operations; losses are in nats per token.

// Package law describes how the loss of a model falls with its size, its data,
// its steps and the arithmetic spent on it, and plans runs by that.
//
//	ladder of small runs ──Fit…──▶ law ──Plan──▶ size, steps, loss to expect
package law

import "math"

// Power is L(x) = (C/x)^Alpha.
type Power struct{ C, Alpha float64 }

// Loss is L(x).
func (p Power) Loss(x float64) float64 { return math.Pow(p.C/x, p.Alpha) }

// SizeData is L(N,D).
type SizeData struct{ Nc, AlphaN, Dc, AlphaD float64 }

// Loss is L(n,d): of a model of n weights trained to its best on d tokens.
func (l SizeData) Loss(n, d float64) float64 {
	return math.Pow(math.Pow(l.Nc/n, l.AlphaN/l.AlphaD)+l.Dc/d, l.AlphaD)
}

// DataFor is the number of tokens from which a model of n weights loses less
// than the given share of loss to the finiteness of its data: D ∝ N^(αN/αD).
func (l SizeData) DataFor(n, share float64) float64 {
	// L(n,d)/L(n,∞) = [1 + Dc/d·(n/Nc)^(αN/αD)]^αD
	return l.Dc * math.Pow(n/l.Nc, l.AlphaN/l.AlphaD) / (math.Pow(1+share, 1/l.AlphaD) - 1)
}

// SizeSteps is L(N,S).
type SizeSteps struct {
	Nc     float64 `json:"nc"`
	AlphaN float64 `json:"alpha_n"`
	Sc     float64 `json:"sc"`
	AlphaS float64 `json:"alpha_s"`
}

// Loss is L(n,s): of a model of n weights after s steps.
func (l SizeSteps) Loss(n, s float64) float64 {
	return math.Pow(l.Nc/n, l.AlphaN) + math.Pow(l.Sc/s, l.AlphaS)
}

// Converged is the loss after endless training.
func (l SizeSteps) Converged(n float64) float64 { return math.Pow(l.Nc/n, l.AlphaN) }

// Batch is the law of the critical batch.
type Batch struct {
	Star   float64 `json:"star"`
	AlphaB float64 `json:"alpha_b"`
}

// Critical is Bcrit at a loss, in tokens: the batch that takes twice the fewest
// steps and twice the least data.
// It is 0 for the zero Batch, at which every batch is large.
func (b Batch) Critical(loss float64) float64 {
	if b.Star == 0 {
		return 0
	}
	return b.Star / math.Pow(loss, 1/b.AlphaB)
}

// Smin is the fewest steps that would do, at an endless batch, what s steps did
// with batches of size tokens, at a loss.
func (b Batch) Smin(s, size, loss float64) float64 { return s / (1 + b.Critical(loss)/size) }

// Cmin is the least arithmetic that would do, at a vanishing batch, what c did.
func (b Batch) Cmin(c, size, loss float64) float64 { return c / (1 + size/b.Critical(loss)) }

// FLOPs is C ≈ 6·N·B·S.
func FLOPs(n, tokens float64) float64 { return 6 * n * tokens }

// The constants of the paper, for text of the web in tokens of GPT-2: sizes in
// weights, data in tokens, compute in PF-days.
var (
	PaperN  = Power{C: 8.8e13, Alpha: 0.076}
	PaperD  = Power{C: 5.4e13, Alpha: 0.095}
	PaperC  = Power{C: 3.1e8, Alpha: 0.050} // of Cmin
	PaperND = SizeData{Nc: 6.4e13, AlphaN: 0.076, Dc: 1.8e13, AlphaD: 0.103}
	PaperNS = SizeSteps{Nc: 6.5e13, AlphaN: 0.077, Sc: 2.1e3, AlphaS: 0.76}
	PaperB  = Batch{Star: 2.1e8, AlphaB: 0.21}
)

// Allocation is how the parts of a growing budget C grow: N ∝ C^N, and so on.
type Allocation struct{ N, B, S float64 }

// Exponents are the best allocation of compute under L(N,S) with critical
// batches, and αC of the loss it reaches:
//
//	αC = 1/(1/αS + 1/αB + 1/αN)    N ∝ C^(αC/αN)   B ∝ C^(αC/αB)   S ∝ C^(αC/αS)
func Exponents(l SizeSteps, b Batch) (alphaC float64, a Allocation) {
	alphaC = 1 / (1/l.AlphaS + 1/b.AlphaB + 1/l.AlphaN)
	return alphaC, Allocation{alphaC / l.AlphaN, alphaC / b.AlphaB, alphaC / l.AlphaS}
}

// Laws tell the loss of a run from its size, steps and batch: L(N,S) is that of
// Smin. With the zero Batch, steps count as they are.
type Laws struct {
	Size  SizeSteps `json:"size_steps"`
	Batch Batch     `json:"batch"`
}

// Loss is that of a model of n weights after s steps on batches of so many
// tokens: where L = L(n, Smin) and Smin = s/(1 + Bcrit(L)/batch).
func (l Laws) Loss(n, s, batch float64) float64 {
	// A larger L has a smaller Bcrit, a larger Smin, and so a smaller L(n, Smin):
	// they meet once, between the loss of s perfect steps and that of a batch so
	// small that Bcrit is reached from below.
	lo := l.Size.Loss(n, s)
	if l.Batch.Critical(lo) == 0 {
		return lo
	}
	hi := l.Size.Loss(n, l.Batch.Smin(s, batch, lo))
	for range 60 {
		middle := (lo + hi) / 2
		if l.Size.Loss(n, l.Batch.Smin(s, batch, middle)) > middle {
			lo = middle
		} else {
			hi = middle
		}
	}
	return hi
}

// Choice is a planned run.
type Choice struct {
	N         float64 `json:"n"`     // weights
	Batch     float64 `json:"batch"` // tokens
	Steps     float64 `json:"steps"`
	Loss      float64 `json:"loss"`      // to expect
	Converged float64 `json:"converged"` // of this size after endless training
}

// Overhead is how far above the converged loss the choice stops: about αN/αS,
// a tenth with the paper's constants, when the budget is spent best.
func (c Choice) Overhead() float64 { return c.Loss/c.Converged - 1 }

// Plan chooses the size between lo and hi whose run ends best within a budget,
// at a batch of so many tokens. steps tells how many steps a model of n weights
// may take.
func (l Laws) Plan(lo, hi, batch float64, steps func(n float64) float64) Choice {
	at := func(logN float64) Choice {
		n := math.Exp(logN)
		s := steps(n)
		return Choice{n, batch, s, l.Loss(n, s, batch), l.Size.Converged(n)}
	}
	// The loss has one minimum over log n: golden section.
	a, b := math.Log(lo), math.Log(hi)
	const golden = 0.6180339887498949
	c, d := at(b-golden*(b-a)), at(a+golden*(b-a))
	for b-a > 1e-6 {
		if c.Loss <= d.Loss {
			b, d = math.Log(d.N), c
			c = at(b - golden*(b-a))
		} else {
			a, c = math.Log(c.N), d
			d = at(a + golden*(b-a))
		}
	}
	return at((a + b) / 2)
}

// Overfits is the paper's rule of thumb: fewer than 5e3·N^0.74 tokens, seen
// again and again, cost a model of n weights some of its loss.
func Overfits(n, tokens float64) bool { return tokens < 5e3*math.Pow(n, 0.74) }
