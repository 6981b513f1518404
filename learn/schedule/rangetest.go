package schedule

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Ramp is the schedule of a range test: the rate rises along a straight line,
// step by step, from nothing to Top times the optimiser's rate.
type Ramp struct {
	Top   float64
	Steps int
}

// Factor is Top at the last of the steps.
func (s *Ramp) Factor(p Progress) float64 {
	return s.Top * min(1, float64(p.Step+1)/float64(s.Steps))
}

// Curve is what a range test saw: a score, higher is better, at rates that rise
// in even steps. A score that is no number stands for a run that has diverged.
type Curve struct {
	Rates, Scores []float64
}

// Bounds are learning rates between which training goes well, and how sure it
// is that each lies within one point of the range test's grid, from 0 to 1.
type Bounds struct {
	Lo, Hi                     float64
	LoConfidence, HiConfidence float64
}

// loShare is Hi/Lo where the test shows no climb.
const loShare = 4

// ErrSteady is the error of a range test that went well at all its rates.
var ErrSteady = errors.New("the score neither falls nor turns ragged")

// FindBounds reads the bounds off a range test, as Smith (WACV 2017, section
// 3.3) does by eye: Lo is where the score begins to climb, the lowest rate
// tested if it climbs from there on; Hi is where it turns ragged or falls. A
// score that is as good at the lowest rates as anywhere shows no Lo: then it is
// a quarter of Hi.
//
// The smoothed curve tells where to look; the points themselves are then cut in
// two at each place that comes into question, and the likelihoods of all the
// cuts give the best of them and the confidence. It is an error if the score
// neither falls nor turns ragged: the test must then go higher.
func FindBounds(c Curve) (Bounds, error) {
	const least = 12
	if len(c.Rates) < least || len(c.Scores) != len(c.Rates) {
		return Bounds{}, fmt.Errorf("a range test of %d points and %d scores; at least %d are needed", len(c.Rates), len(c.Scores), least)
	}
	y, err := settled(c.Scores)
	if err != nil {
		return Bounds{}, err
	}
	smooth := smoothed(y)
	noise := noiseOf(y)
	first, top := smooth[0], slices.Max(smooth)
	climbs := top-first > 4*noise
	reaches := func(share float64) int {
		return slices.IndexFunc(smooth, func(s float64) bool { return s >= first+share*(top-first) })
	}
	begin := 0
	if climbs {
		begin = reaches(0.8)
	}
	hi, sure, ok := turn(y, begin, noise)
	// The clearest turn may be the last of several: look before it for another.
	for end, s, more := hi, sure, ok; more; {
		hi, sure = end, s
		end, s, more = turn(y[:hi+1], begin, noiseOf(y[:hi+1]))
	}
	if !ok {
		return Bounds{}, fmt.Errorf("%w up to the rate %.4g; test higher rates", ErrSteady, c.Rates[len(c.Rates)-1])
	}
	b := Bounds{Hi: c.Rates[hi], HiConfidence: sure, Lo: c.Rates[hi] / loShare}
	if climbs {
		lo, sure := foot(y, reaches(0.5))
		b.Lo, b.LoConfidence = c.Rates[lo], sure
	}
	return b, nil
}

// settled gives scores that are no numbers the worst of the others.
func settled(scores []float64) ([]float64, error) {
	worst := math.Inf(1)
	for _, s := range scores {
		if finite(s) {
			worst = min(worst, s)
		}
	}
	if math.IsInf(worst, 1) {
		return nil, fmt.Errorf("a range test without a finite score; begin with lower rates")
	}
	y := slices.Clone(scores)
	for i, s := range y {
		if !finite(s) {
			y[i] = worst
		}
	}
	return y, nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// smoothed is the mean of each point and its neighbours, two on either side.
func smoothed(y []float64) []float64 {
	s := make([]float64, len(y))
	for i := range y {
		near := y[max(0, i-2):min(len(y), i+3)]
		for _, v := range near {
			s[i] += v / float64(len(near))
		}
	}
	return s
}

// noiseOf is the standard deviation of the scores about a smooth curve: from
// the median of second differences, which a few jumps do not move. What is below
// a thousandth of the scores' range is of no interest, and counts as noise.
func noiseOf(y []float64) float64 {
	var d []float64
	for i := 2; i < len(y); i++ {
		d = append(d, math.Abs(y[i]-2*y[i-1]+y[i-2]))
	}
	slices.Sort(d)
	return max(d[len(d)/2]/0.6745/math.Sqrt(6), (slices.Max(y)-slices.Min(y))/1000)
}

// foot is the last point of the flat beginning: of the points up to end, a
// level and then a line that rises from it.
func foot(y []float64, end int) (at int, sure float64) {
	y = y[:min(end+2, len(y))]
	n := float64(len(y))
	var likelihood []float64
	for j := range len(y) - 2 {
		// Least squares for a + b·h, h the distance past j.
		var sh, shh, sy, shy, syy float64
		for i, v := range y {
			h := float64(max(0, i-j))
			sh, shh, sy, shy, syy = sh+h, shh+h*h, sy+v, shy+h*v, syy+v*v
		}
		b := (n*shy - sh*sy) / (n*shh - sh*sh)
		rest := syy - sy*sy/n - b*(shy-sh*sy/n)
		likelihood = append(likelihood, -n/2*math.Log(max(rest, 1e-12*syy)))
	}
	if len(likelihood) == 0 {
		return 0, 0
	}
	return best(likelihood, math.Inf(-1))
}

// turn is the last point before the curve falls or turns ragged, looked for
// from point begin on: a parabola with its scatter up to there, another after.
// There must be more to it than to one parabola throughout.
func turn(y []float64, begin int, noise float64) (at int, sure float64, ok bool) {
	const least = 4 // points of a parabola, and one
	whole := fit(y[begin:], noise)
	likelihood := make([]float64, max(0, len(y)-begin-2*least+1))
	for j := range likelihood {
		a, b := fit(y[begin:begin+least+j], noise), fit(y[begin+least+j:], noise)
		falls := b.mean < a.mean-2*noise && b.last < a.last-2*noise
		ragged := b.scatter > 3*a.scatter
		likelihood[j] = math.Inf(-1)
		if falls || ragged {
			likelihood[j] = a.likelihood() + b.likelihood()
		}
	}
	// Five more parameters, by the criterion of Schwarz.
	none := whole.likelihood() + 2.5*math.Log(float64(whole.n))
	if len(likelihood) == 0 || slices.Max(likelihood) <= none {
		return 0, 0, false
	}
	at, sure = best(likelihood, none)
	return begin + least + at - 1, sure, true
}

// parabola is a fit to n points one apart.
type parabola struct {
	n                   int
	mean, last, scatter float64 // of the points; at the last of them; standard deviation of what the fit leaves
}

// fit fits a parabola by least squares. The scatter is drawn towards the noise,
// as if two more points had shown it: few points may fit well by chance.
func fit(y []float64, noise float64) parabola {
	n := float64(len(y))
	basis := func(i int) [3]float64 { // orthogonal over the points
		x := float64(i) - (n-1)/2
		return [3]float64{1, x, x*x - (n*n-1)/12}
	}
	var dot, norm [3]float64
	for i, v := range y {
		for k, b := range basis(i) {
			dot[k], norm[k] = dot[k]+b*v, norm[k]+b*b
		}
	}
	at := func(i int) (v float64) {
		for k, b := range basis(i) {
			v += dot[k] / norm[k] * b
		}
		return v
	}
	const extra = 2
	rest := extra * noise * noise
	for i, v := range y {
		rest += (v - at(i)) * (v - at(i))
	}
	return parabola{len(y), dot[0] / n, at(len(y) - 1), math.Sqrt(rest / (n + extra))}
}

func (p parabola) likelihood() float64 { return -float64(p.n) * math.Log(max(p.scatter, 1e-12)) }

// best is the largest of log-likelihoods, and the share that it and its two
// neighbours have in the sum of the likelihoods, and of another.
func best(likelihood []float64, other float64) (at int, sure float64) {
	for i, l := range likelihood {
		if l > likelihood[at] {
			at = i
		}
	}
	total := math.Exp(other - likelihood[at])
	for i, l := range likelihood {
		p := math.Exp(l - likelihood[at])
		total += p
		if i >= at-1 && i <= at+1 {
			sure += p
		}
	}
	return at, sure / total
}
