package compare

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"hasten/lab/result"
	"hasten/learn/track"
)

// median is the median of a quantity over the runs of an arm.
func (a *Arm) median(of func(*Run) float64) float64 {
	var all []float64
	for i := range a.Runs {
		all = append(all, of(&a.Runs[i]))
	}
	return result.Median(all)
}

// reached is the number of runs that reached the target.
func (a *Arm) reached() (n int) {
	for _, r := range a.Runs {
		if r.Reached {
			n++
		}
	}
	return n
}

// toTarget is the median of a quantity until the target; a run that did not
// reach it counts as endless.
func (a *Arm) toTarget(of func(*At) float64) float64 {
	return a.median(func(r *Run) float64 {
		if !r.Reached {
			return result.Diverged
		}
		return of(&r.At)
	})
}

// Write prints the report as a table: medians over seeds.
func (p *Report) Write(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s: target %.4f, the plain recipe's median validation loss at its end\n", p.Recipe, p.Target)
	fmt.Fprintf(w, "arm\treached\tsteps\t%s\tseconds\tspeed-up\tpeak MiB\tfinal loss\tlearning rate\n", p.Unit)
	seconds := func(at *At) float64 { return at.Seconds }
	plain := p.Arms[0].toTarget(seconds)
	for i := range p.Arms {
		a := &p.Arms[i]
		rate := "as given"
		if a.Tuning != nil {
			rate = fmt.Sprintf("%.3g of %d tried", a.Tuning.Best, len(a.Tuning.Grid))
			if a.Tuning.Edge {
				rate += ", at the edge"
			}
		}
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, r := range a.Runs {
			lo, hi = min(lo, r.Final), max(hi, r.Final)
		}
		fmt.Fprintf(w, "%s\t%d of %d\t%s\t%s\t%s\t%s\t%.0f\t%s (%s–%s)\t%s\n", a.Name, a.reached(), len(a.Runs),
			until(a.toTarget(func(at *At) float64 { return float64(at.Steps) }), "%.0f"),
			until(a.toTarget(func(at *At) float64 { return float64(at.Samples) }), "%.0f"),
			until(a.toTarget(seconds), "%.1f"), speedUp(plain, a.toTarget(seconds)),
			a.median(func(r *Run) float64 { return float64(r.Peak) })/(1<<20),
			result.Number(a.median(func(r *Run) float64 { return r.Final })), result.Number(lo), result.Number(hi), rate)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(to, "%d seeds, %d trials an arm; %s, %d threads, %s kernels, load %.1f before\n",
		len(p.Arms[0].Runs), p.Trials, p.Host.CPU, p.Host.Threads, p.Host.SIMD, p.Host.Load)
	return err
}

// until prints a quantity that has no value when the target was not reached.
func until(x float64, format string) string {
	if x >= result.Diverged/4 {
		return "not reached"
	}
	return fmt.Sprintf(format, x)
}

func speedUp(plain, arm float64) string {
	if plain >= result.Diverged/4 || arm >= result.Diverged/4 {
		return "–"
	}
	return fmt.Sprintf("%.2f×", plain/arm)
}

// Draw writes the validation losses of all arms, first seed, against training
// time, as SVG.
func (p *Report) Draw(to io.Writer) error {
	var curves []track.Curve
	for _, a := range p.Arms {
		if len(a.Runs) > 0 {
			curves = append(curves, track.Curve{Name: a.Name, Records: a.Runs[0].Records, Of: func(r *track.Record) float64 { return r.ValLoss }})
		}
	}
	return track.Draw(to, p.Recipe, track.BySeconds, curves...)
}
