package chart

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
)

// wellFormed fails unless text is XML.
func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
}

func TestChartsOfAwkwardData(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []Chart{
		{Lines: []Line{{X: []float64{0}, Y: []float64{0}}}},
		{Lines: []Line{{X: []float64{0, 1, 2}, Y: []float64{5, 5, 5}}}},
		{Lines: []Line{{X: []float64{0, 1, 2, 3}, Y: []float64{nan, inf, -inf, math.MaxFloat64}}, {X: []float64{1, 2, 3}, Y: []float64{1}}}},
		{LogX: true, LogY: true, Lines: []Line{{X: []float64{-1, 0, 1e-9, 1e9}, Y: []float64{1, 1, 1e-9, 1e9}}}},
		{LogX: true, LogY: true, Diagonal: true, Dots: []Dot{{Name: `a"<b>`, Link: "/x?a=1&b=2", X: 2, Y: 0.5}, {X: nan}}},
		{Zero: true, Lines: []Line{{X: []float64{1e9, 2e9}, Y: []float64{-3, 1e-7}}}},
		{Lines: []Line{{X: []float64{1e15, 1e15 + 1}, Y: []float64{1e-300, 2e-300}}}},
	} {
		text := string(c.SVG())
		wellFormed(t, text)
		if text == "" || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || strings.Contains(text, "style=") {
			t.Errorf("%+v: %s", c, text)
		}
	}
	for _, c := range []Chart{{}, {Lines: []Line{{X: []float64{1}, Y: []float64{nan}}}}, {LogY: true, Lines: []Line{{X: []float64{1}, Y: []float64{0}}}}} {
		if text := c.SVG(); text != "" {
			t.Errorf("nothing to draw: %s", text)
		}
	}
}

// Values lie where the axes say.
func TestScale(t *testing.T) {
	c := Chart{Zero: true, Lines: []Line{{Name: "a", X: []float64{0, 50, 100}, Y: []float64{0, 50, 100}}}}
	x, y, _ := c.axes()
	width, height := 480.0, 250.0
	for _, q := range []struct {
		a       axis
		v, want float64
	}{{x, 0, left}, {x, 100, width - right}, {x, 50, (left + width - right) / 2.0}, {y, 0, height - bottom}, {y, 105, top}} {
		if got := q.a.at(q.v); math.Abs(got-q.want) > 1e-9 {
			t.Errorf("%g is at %g, want %g", q.v, got, q.want)
		}
	}
	a := axis{lo: 1, hi: 100, from: 0, to: 2, log: true}
	if got := a.at(10); math.Abs(got-1) > 1e-9 {
		t.Errorf("10 is at %g of 1 to 100", got)
	}
}

func TestTicksAreRoundAndFew(t *testing.T) {
	for _, a := range []axis{{lo: 0, hi: 1}, {lo: -3, hi: 7e5}, {lo: 2.31, hi: 2.32}, {lo: 0.3, hi: 40, log: true}, {lo: 1e-12, hi: 1e12, log: true}, {lo: 0.9, hi: 1.4, log: true}} {
		ticks := a.ticks(5)
		if len(ticks) < 1 || len(ticks) > 8 {
			t.Errorf("%+v: %v", a, ticks)
		}
		for _, v := range ticks {
			if v < a.lo || v > a.hi || len(Number(v)) > 8 {
				t.Errorf("%+v: tick %g (%s)", a, v, Number(v))
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", 0.25: "0.25", 1234.5678: "1235", 12345: "12.35k", 2e6: "2M", -1.5e9: "-1.5G", 3e-5: "3e-05", 0.1 + 0.2: "0.3"} {
		if got := Number(v); got != want {
			t.Errorf("%g: %s, want %s", v, got, want)
		}
	}
}

func TestLongLinesAreThinned(t *testing.T) {
	l := Line{Name: "a"}
	for i := range 10 * maxPoints {
		l.X, l.Y = append(l.X, float64(i)), append(l.Y, float64(i%10))
	}
	x, y, _ := (&Chart{Lines: []Line{l}}).axes()
	xs, ys := thin(x, y, l)
	if len(xs) != maxPoints || math.Abs(ys[7]-4.5) > 1e-9 || math.Abs(xs[7]-74.5) > 1e-9 {
		t.Errorf("%d points, the eighth %g, %g", len(xs), xs[7], ys[7])
	}
}
