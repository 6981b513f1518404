package law

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/optimize"
	"gonum.org/v1/gonum/stat"

	"hasten/engine/rng"
)

// Point is a measured loss. What a law does not ask for may be 0.
type Point struct {
	N    float64 `json:"n"`
	D    float64 `json:"tokens"`
	S    float64 `json:"steps"`
	Loss float64 `json:"loss"`
}

// FitPower fits L(x) to losses, by least squares of their logarithms.
func FitPower(x, loss []float64) (Power, error) {
	a, b, err := logLine(x, loss)
	switch {
	case err != nil:
		return Power{}, err
	case !(b < 0):
		return Power{}, errors.New("the loss does not fall")
	}
	return Power{C: math.Exp(-a / b), Alpha: -b}, nil
}

// steady is an αB with which the critical batch hardly depends on the loss.
const steady = 1e3

// FitBatch fits Bcrit(L) to noise scales, in tokens, that were measured at
// losses. Scales that are not positive, where the noise hid the gradient, are
// left out. Where the scale does not grow as the loss falls, it is taken to
// stay as it is, and αB is steady.
func FitBatch(loss, noise []float64) (Batch, error) {
	if len(loss) != len(noise) {
		return Batch{}, fmt.Errorf("%d losses, %d noise scales", len(loss), len(noise))
	}
	var x, y, logs []float64
	for i, b := range noise {
		if b > 0 && !math.IsInf(b, 0) {
			x, y = append(x, loss[i]), append(y, b)
		}
	}
	if len(x) == 0 {
		return Batch{}, errors.New("no gradient noise scale was measured")
	}
	if a, b, err := logLine(x, y); err == nil && b < -1/steady {
		return Batch{Star: math.Exp(a), AlphaB: -1 / b}, nil
	}
	for i := range x {
		logs = append(logs, math.Log(y[i])+math.Log(x[i])/steady)
	}
	return Batch{Star: math.Exp(stat.Mean(logs, nil)), AlphaB: steady}, nil
}

// logLine fits log y = a + b·log x.
func logLine(x, y []float64) (a, b float64, err error) {
	if len(x) != len(y) || len(x) < 2 {
		return 0, 0, fmt.Errorf("a power law needs two points or more: there are %d, with %d values", len(x), len(y))
	}
	lx, ly := make([]float64, len(x)), make([]float64, len(x))
	for i := range x {
		if !(x[i] > 0 && y[i] > 0) {
			return 0, 0, fmt.Errorf("point %d: (%v, %v) is not positive", i, x[i], y[i])
		}
		lx[i], ly[i] = math.Log(x[i]), math.Log(y[i])
	}
	a, b = stat.LinearRegression(lx, ly, nil, false)
	return a, b, nil
}

// FitSizeData fits L(N,D).
func FitSizeData(points []Point) (SizeData, error) {
	f, err := newFit(points, func(p Point) float64 { return p.D }, sizeDataLog)
	if err != nil {
		return SizeData{}, err
	}
	x, err := f.search([2]float64{0.02, 1}, [2]float64{0.02, 1}, 0.2)
	if err != nil {
		return SizeData{}, err
	}
	c := f.constants(x)
	return SizeData{c[0], c[1], c[2], c[3]}, nil
}

// FitSizeSteps fits L(N,S).
func FitSizeSteps(points []Point) (SizeSteps, error) {
	l, _, err := fitSizeSteps(points)
	return l, err
}

func fitSizeSteps(points []Point) (SizeSteps, *fit, error) {
	f, err := newFit(points, func(p Point) float64 { return p.S }, sizeStepsLog)
	if err != nil {
		return SizeSteps{}, nil, err
	}
	if f.at, err = f.search([2]float64{0.02, 1}, [2]float64{0.1, 2}, 2); err != nil {
		return SizeSteps{}, nil, err
	}
	return f.sizeSteps(f.at), f, nil
}

func (f *fit) sizeSteps(x []float64) SizeSteps {
	c := f.constants(x)
	return SizeSteps{c[0], c[1], c[2], c[3]}
}

// constants are those of a law with the parameters x: a scale and an exponent
// for each of the two terms.
func (f *fit) constants(x []float64) (c [4]float64) {
	for term := range 2 {
		alpha := math.Exp(x[2*term+1])
		c[2*term], c[2*term+1] = math.Exp(x[2*term]/alpha+f.mean[term]), alpha
	}
	return c
}

// A form is the logarithm of a law's loss, with its derivatives by the four
// parameters x: for each term the logarithms of the loss it comes to by itself
// in the middle of the points, and of its exponent. a and b are the logarithms
// of N and of D or S, less those of the middle: so the parameters hardly depend
// on one another.
type form func(x []float64, a, b float64, grad []float64) float64

// sizeStepsLog is ln(e^(x0 - αN·a) + e^(x2 - αS·b)).
func sizeStepsLog(x []float64, a, b float64, grad []float64) float64 {
	alphaN, alphaS := math.Exp(x[1]), math.Exp(x[3])
	first, second := math.Exp(x[0]-alphaN*a), math.Exp(x[2]-alphaS*b)
	sum := first + second
	grad[0], grad[1] = first/sum, -first/sum*alphaN*a
	grad[2], grad[3] = second/sum, -second/sum*alphaS*b
	return math.Log(sum)
}

// sizeDataLog is αD·ln(e^((x0 - αN·a)/αD) + e^(x2/αD - b)).
func sizeDataLog(x []float64, a, b float64, grad []float64) float64 {
	alphaN, alphaD := math.Exp(x[1]), math.Exp(x[3])
	first, second := math.Exp((x[0]-alphaN*a)/alphaD), math.Exp(x[2]/alphaD-b)
	sum := first + second
	log := alphaD * math.Log(sum)
	first, second = first/sum, second/sum
	grad[0], grad[1] = first, -first*alphaN*a
	grad[2], grad[3] = second, log-first*(x[0]-alphaN*a)-second*x[2]
	return log
}

// fit is a law of four constants and the points it is fitted to.
type fit struct {
	form form
	a, b []float64  // logarithms of N and of D or S, less mean
	mean [2]float64 // of those logarithms
	loss []float64  // logarithms
	at   []float64  // the parameters found
}

func newFit(points []Point, second func(Point) float64, law form) (*fit, error) {
	if len(points) < 5 {
		return nil, fmt.Errorf("a law of four constants needs five points or more: there are %d", len(points))
	}
	f := &fit{form: law}
	for i, p := range points {
		if !(p.N > 0 && second(p) > 0 && p.Loss > 0) || math.IsInf(p.Loss, 0) {
			return nil, fmt.Errorf("point %d: %+v lacks something", i, p)
		}
		f.a, f.b, f.loss = append(f.a, math.Log(p.N)), append(f.b, math.Log(second(p))), append(f.loss, math.Log(p.Loss))
	}
	f.mean = [2]float64{stat.Mean(f.a, nil), stat.Mean(f.b, nil)}
	for i := range points {
		f.a[i] -= f.mean[0]
		f.b[i] -= f.mean[1]
	}
	return f, nil
}

// huber is the residual, of the logarithm, from which it counts linearly.
const huber = 1e-2

// Exponents outside of these bounds are penalised: points that say little of
// one would else let it grow without end.
const lowest, highest = 0.01, 2

// objective is the Huber loss of the residuals, and its gradient where that is
// not nil.
func (f *fit) objective(x, grad []float64) float64 {
	var own [4]float64
	clear(grad)
	sum := 0.0
	for i := range f.loss {
		r := f.form(x, f.a[i], f.b[i], own[:]) - f.loss[i]
		slope := min(max(r, -huber), huber)
		sum += slope * (r - slope/2)
		for k := range grad {
			grad[k] += slope * own[k]
		}
	}
	for _, k := range []int{1, 3} {
		out := x[k] - min(max(x[k], math.Log(lowest)), math.Log(highest))
		sum += out * out / 2
		if grad != nil {
			grad[k] += out
		}
	}
	if math.IsNaN(sum) {
		return math.Inf(1)
	}
	return sum
}

// from descends from x.
func (f *fit) from(x []float64) (at []float64, value float64) {
	problem := optimize.Problem{
		Func: func(x []float64) float64 { return f.objective(x, nil) },
		Grad: func(grad, x []float64) { f.objective(x, grad) },
	}
	settings := &optimize.Settings{
		MajorIterations: 500, GradientThreshold: 1e-12,
		Converger: &optimize.FunctionConverge{Absolute: 1e-16, Relative: 1e-12, Iterations: 20},
	}
	// Its errors say that a line search got no further: at is then as good as it gets.
	found, err := optimize.Minimize(problem, x, settings, &optimize.BFGS{})
	if found == nil || err != nil && !(found.F < f.objective(x, nil)) {
		return x, f.objective(x, nil)
	}
	return found.X, found.F
}

// search descends from several starts, with parameters 1 and 3, the exponents,
// between the given bounds, and terms below a typical loss by a share of depth
// in logarithms.
func (f *fit) search(first, second [2]float64, depth float64) ([]float64, error) {
	const starts = 12
	draw := rng.New(137, 0)
	within := func(b [2]float64) float64 {
		return math.Log(b[0]) + draw.Float64()*math.Log(b[1]/b[0])
	}
	typical := stat.Mean(f.loss, nil)
	var best []float64
	least := math.Inf(1)
	for range starts {
		x := []float64{typical - depth*draw.Float64(), within(first), typical - depth*draw.Float64(), within(second)}
		if at, value := f.from(x); value < least {
			least, best = value, slices.Clone(at)
		}
	}
	if best == nil {
		return nil, errors.New("no law fits the points")
	}
	return best, nil
}

// Interval is where nine of ten predictions lie.
type Interval struct {
	Lo float64 `json:"lo"`
	Hi float64 `json:"hi"`
}

// Bootstrap predicts a loss from n refits. The points of one size come from one
// run, and err together: so it is the residuals of whole runs that are turned
// round at random (the wild cluster bootstrap), and a prediction is off by the
// mean of one run besides.
func Bootstrap(points []Point, n int, predict func(SizeSteps) float64) (Interval, error) {
	_, f, err := fitSizeSteps(points)
	if err != nil {
		return Interval{}, err
	}
	var unused [4]float64
	residuals, fitted := make([]float64, len(points)), make([]float64, len(points))
	var sizes []float64 // of the runs
	var means []float64 // of their residuals
	for i, p := range points {
		fitted[i] = f.form(f.at, f.a[i], f.b[i], unused[:])
		// Four constants have taken their share of the deviation.
		residuals[i] = (f.loss[i] - fitted[i]) * math.Sqrt(float64(len(points))/float64(len(points)-4))
		if !slices.Contains(sizes, p.N) {
			sizes = append(sizes, p.N)
		}
	}
	for _, size := range sizes {
		var own []float64
		for i, p := range points {
			if p.N == size {
				own = append(own, residuals[i])
			}
		}
		means = append(means, stat.Mean(own, nil))
	}
	draw := rng.New(137, 1)
	sign := func() float64 { return float64(2*draw.IntN(2) - 1) }
	var all []float64
	refit := *f
	refit.loss = make([]float64, len(points))
	for range n {
		for _, size := range sizes {
			turn := sign()
			for i, p := range points {
				if p.N == size {
					refit.loss[i] = fitted[i] + turn*residuals[i]
				}
			}
		}
		x, _ := refit.from(f.at)
		all = append(all, predict(f.sizeSteps(x))*math.Exp(sign()*means[draw.IntN(len(means))]))
	}
	slices.Sort(all)
	return Interval{stat.Quantile(0.05, stat.Empirical, all, nil), stat.Quantile(0.95, stat.Empirical, all, nil)}, nil
}
