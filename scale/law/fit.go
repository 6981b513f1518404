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
type Point struct{ N, D, S, Loss float64 }

// FitPower fits L(x) to losses, by least squares of their logarithms.
func FitPower(x, loss []float64) (Power, error) {
	if len(x) != len(loss) || len(x) < 2 {
		return Power{}, fmt.Errorf("a power law needs two points or more, with a loss each: there are %d and %d", len(x), len(loss))
	}
	lx, ll := make([]float64, len(x)), make([]float64, len(x))
	for i := range x {
		if !(x[i] > 0 && loss[i] > 0) {
			return Power{}, fmt.Errorf("point %d: (%v, %v) is not positive", i, x[i], loss[i])
		}
		lx[i], ll[i] = math.Log(x[i]), math.Log(loss[i])
	}
	a, b := stat.LinearRegression(lx, ll, nil, false)
	if !(b < 0) {
		return Power{}, errors.New("the loss does not fall")
	}
	return Power{C: math.Exp(-a / b), Alpha: -b}, nil
}

// FitSizeData fits L(N,D).
func FitSizeData(points []Point) (SizeData, error) {
	x, err := fit(points, []float64{1e-2, 1, 1e-2, 1}, func(x []float64, p Point) float64 {
		return sizeData(x).Loss(p.N, p.D)
	}, func(p Point) bool { return p.N > 0 && p.D > 0 })
	return sizeData(x), err
}

// FitSizeSteps fits L(N,S).
func FitSizeSteps(points []Point) (SizeSteps, error) {
	x, err := fit(points, []float64{1e-2, 1, 0.1, 2}, func(x []float64, p Point) float64 {
		return sizeSteps(x).Loss(p.N, p.S)
	}, func(p Point) bool { return p.N > 0 && p.S > 0 })
	return sizeSteps(x), err
}

// The parameters of a fit are, for each of the two terms, the logarithms of its
// exponent and of its scale to that exponent: of α and (Xc)^α.
func terms(x []float64) (c1, a1, c2, a2 float64) {
	if x == nil {
		return 0, 0, 0, 0
	}
	a1, a2 = math.Exp(x[0]), math.Exp(x[2])
	return math.Exp(x[1] / a1), a1, math.Exp(x[3] / a2), a2
}

func sizeSteps(x []float64) SizeSteps {
	nc, an, sc, as := terms(x)
	return SizeSteps{nc, an, sc, as}
}

func sizeData(x []float64) SizeData {
	nc, an, dc, ad := terms(x)
	return SizeData{nc, an, dc, ad}
}

// starts is the number of places from which a fit begins.
const starts = 24

// huber is the residual, of the logarithm, from which it counts linearly.
const huber = 1e-2

// fit minimises the Huber loss of the residuals of log L, from several starts
// around a middle of exponents between lo and hi, as bounds gives for each of
// the two terms.
func fit(points []Point, bounds []float64, loss func(x []float64, p Point) float64, whole func(Point) bool) ([]float64, error) {
	if len(points) < 5 {
		return nil, fmt.Errorf("a law of four constants needs five points or more: there are %d", len(points))
	}
	for i, p := range points {
		if !whole(p) || !(p.Loss > 0) || math.IsInf(p.Loss, 0) {
			return nil, fmt.Errorf("point %d: %+v lacks something", i, p)
		}
	}
	problem := optimize.Problem{Func: func(x []float64) float64 {
		sum := 0.0
		for _, p := range points {
			r := math.Abs(math.Log(loss(x, p)) - math.Log(p.Loss))
			if math.IsNaN(r) {
				return math.Inf(1)
			}
			if r <= huber {
				sum += r * r / 2
			} else {
				sum += huber * (r - huber/2)
			}
		}
		return sum
	}}
	settings := &optimize.Settings{FuncEvaluations: 8000, Converger: &optimize.FunctionConverge{Absolute: 1e-15, Iterations: 400}}
	draw := rng.New(137, 0)
	var best []float64
	least := math.Inf(1)
	for range starts {
		x := make([]float64, 4)
		for term := range 2 {
			lo, hi := math.Log(bounds[2*term]), math.Log(bounds[2*term+1])
			x[2*term] = lo + (hi-lo)*draw.Float64()
			// The scale that gives this term some share of a typical loss.
			p := points[int(draw.Float64()*float64(len(points)))]
			at := p.N
			if term == 1 {
				at = max(p.S, p.D)
			}
			x[2*term+1] = math.Exp(x[2*term])*math.Log(at) + math.Log(p.Loss*(0.1+0.9*draw.Float64()))
		}
		for range 3 { // again from where it stopped: the simplex may have collapsed
			found, err := optimize.Minimize(problem, x, settings, &optimize.NelderMead{})
			if err != nil && found == nil {
				return nil, fmt.Errorf("fitting: %w", err)
			}
			x = found.X
			if found.F < least {
				least, best = found.F, slices.Clone(found.X)
			}
		}
	}
	if best == nil {
		return nil, errors.New("no law fits the points")
	}
	return best, nil
}

// Interval is where a prediction lies in nine of ten resamplings of the data.
type Interval struct{ Lo, Hi float64 }

// Bootstrap predicts a loss from fits to n resamplings of the points.
func Bootstrap(points []Point, n int, predict func(SizeSteps) float64) (Interval, error) {
	draw := rng.New(137, 1)
	var all []float64
	for range n {
		some := make([]Point, len(points))
		for i := range some {
			some[i] = points[draw.IntN(len(points))]
		}
		l, err := FitSizeSteps(some)
		if err != nil {
			return Interval{}, err
		}
		all = append(all, predict(l))
	}
	slices.Sort(all)
	return Interval{stat.Quantile(0.05, stat.Empirical, all, nil), stat.Quantile(0.95, stat.Empirical, all, nil)}, nil
}
