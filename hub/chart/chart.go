// Package chart draws lines and points as SVG for the page: small, without
// scripts or inline styles, coloured by the page's style sheet so that it
// follows light and dark, and with a description for those who cannot see it.
//
//	c := chart.Chart{Title: "Loss", X: "step", Y: "loss", Lines: []chart.Line{{Name: "adamw", X: xs, Y: ys}}}
//	svg := c.SVG() // template.HTML
package chart

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Line is a named curve. Points that are not finite, and on a logarithmic axis
// those that are not positive, are left out.
type Line struct {
	Name string
	X, Y []float64
	Hue  int // of the palette, from 0
	Dash bool
}

// Dot is a point with a name, and a link if it has one.
type Dot struct {
	Name, Link string
	Class      string // for the style sheet
	X, Y       float64
}

// Chart is a plot.
type Chart struct {
	Title      string
	X, Y       string // names of the axes
	LogX, LogY bool
	Diagonal   bool // draw y = x
	Zero       bool // the y axis begins at 0
	Wide       bool // for the width of a page, not half of it
	Lines      []Line
	Dots       []Dot
}

// The picture, in its own units.
const (
	left, right, top, bottom = 66, 14, 12, 42
	maxPoints                = 600 // more than can be seen; neighbours are averaged
)

func (c *Chart) size() (width, height int) {
	if c.Wide {
		return 720, 320
	}
	return 480, 250
}

// Hues is the number of colours of the palette.
const Hues = 6

// SVG draws the chart. Without anything to draw it is empty.
func (c *Chart) SVG() template.HTML {
	x, y, ok := c.axes()
	if !ok {
		return ""
	}
	width, height := c.size()
	class := "chart"
	if c.Wide {
		class += " wide"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="%s" viewBox="0 0 %d %d" role="img" aria-label="%s">`, class, width, height, escape(c.describe()))
	for _, t := range y.ticks(5) {
		at := y.at(t)
		fmt.Fprintf(&b, `<path class="grid" d="M%d %sH%d"/><text class="tick y" x="%d" y="%s">%s</text>`,
			left, coordinate(at), width-right, left-8, coordinate(at+4), Number(t))
	}
	for _, t := range x.ticks(6) {
		at := x.at(t)
		fmt.Fprintf(&b, `<path class="grid" d="M%s %dV%d"/><text class="tick x" x="%s" y="%d">%s</text>`,
			coordinate(at), top, height-bottom, coordinate(at), height-bottom+18, Number(t))
	}
	fmt.Fprintf(&b, `<path class="axis" d="M%d %dH%d"/>`, left, height-bottom, width-right)
	fmt.Fprintf(&b, `<text class="name x" x="%d" y="%d">%s</text>`, (left+width-right)/2, height-6, escape(c.X))
	fmt.Fprintf(&b, `<text class="name y" transform="translate(12 %d) rotate(-90)">%s</text>`, (top+height-bottom)/2, escape(c.Y))
	if c.Diagonal {
		lo, hi := max(x.lo, y.lo), min(x.hi, y.hi)
		fmt.Fprintf(&b, `<path class="diagonal" d="M%s %sL%s %s"/>`, coordinate(x.at(lo)), coordinate(y.at(lo)), coordinate(x.at(hi)), coordinate(y.at(hi)))
	}
	for _, l := range c.Lines {
		c.line(&b, l, x, y)
	}
	for _, d := range c.Dots {
		if !x.takes(d.X) || !y.takes(d.Y) {
			continue
		}
		circle := fmt.Sprintf(`<circle class="dot %s" cx="%s" cy="%s" r="5"><title>%s</title></circle>`,
			escape(d.Class), coordinate(x.at(d.X)), coordinate(y.at(d.Y)), escape(fmt.Sprintf("%s: %s, %s", d.Name, Number(d.X), Number(d.Y))))
		if d.Link != "" {
			circle = fmt.Sprintf(`<a href="%s">%s</a>`, escape(d.Link), circle)
		}
		b.WriteString(circle)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // every text in it was escaped
}

func (c *Chart) line(b *strings.Builder, l Line, x, y axis) {
	xs, ys := thin(x, y, l)
	if len(xs) == 0 {
		return
	}
	class := "line hue" + strconv.Itoa(l.Hue%Hues)
	if l.Dash {
		class += " dash"
	}
	fmt.Fprintf(b, `<path class="%s" d="`, class)
	for i := range xs {
		command := 'L'
		if i == 0 {
			command = 'M'
		}
		fmt.Fprintf(b, "%c%s %s", command, coordinate(x.at(xs[i])), coordinate(y.at(ys[i])))
	}
	if len(xs) == 1 {
		b.WriteString("h.01") // with round ends, a dot
	}
	b.WriteString(`"/>`)
}

// thin is what is drawn of a line.
func thin(x, y axis, l Line) (xs, ys []float64) {
	for i := range min(len(l.X), len(l.Y)) {
		if x.takes(l.X[i]) && y.takes(l.Y[i]) {
			xs, ys = append(xs, l.X[i]), append(ys, l.Y[i])
		}
	}
	if len(xs) <= maxPoints {
		return xs, ys
	}
	mean := func(v []float64, i int) float64 {
		group := v[i*len(v)/maxPoints : (i+1)*len(v)/maxPoints]
		sum := 0.0
		for _, e := range group {
			sum += e / float64(len(group))
		}
		return sum
	}
	thinX, thinY := make([]float64, maxPoints), make([]float64, maxPoints)
	for i := range maxPoints {
		thinX[i], thinY[i] = mean(xs, i), mean(ys, i)
	}
	return thinX, thinY
}

// describe says in words what the picture shows.
func (c *Chart) describe() string {
	text := c.Title + ". " + c.Y + " against " + c.X + "."
	for _, l := range c.Lines {
		for i := min(len(l.X), len(l.Y)) - 1; i >= 0; i-- {
			if finite(l.X[i]) && finite(l.Y[i]) {
				text += fmt.Sprintf(" %s: %s at the end.", l.Name, Number(l.Y[i]))
				break
			}
		}
	}
	if len(c.Dots) > 0 {
		text += fmt.Sprintf(" %d points.", len(c.Dots))
	}
	return text
}

// axis maps values to the picture.
type axis struct {
	lo, hi   float64
	from, to float64
	log      bool
}

func finite(v float64) bool { return !math.IsNaN(v) && math.Abs(v) < 1e300 }

func (a axis) takes(v float64) bool { return finite(v) && (!a.log || v > 0) }

func (a axis) at(v float64) float64 {
	lo, hi := a.lo, a.hi
	if a.log {
		v, lo, hi = math.Log(v), math.Log(lo), math.Log(hi)
	}
	return a.from + (a.to-a.from)*(v-lo)/(hi-lo)
}

// axes fit all points; ok is false if there are none.
func (c *Chart) axes() (x, y axis, ok bool) {
	width, height := c.size()
	x = axis{lo: math.Inf(1), hi: math.Inf(-1), from: left, to: float64(width - right), log: c.LogX}
	y = axis{lo: math.Inf(1), hi: math.Inf(-1), from: float64(height - bottom), to: top, log: c.LogY}
	see := func(px, py float64) {
		if x.takes(px) && y.takes(py) {
			x.lo, x.hi = min(x.lo, px), max(x.hi, px)
			y.lo, y.hi = min(y.lo, py), max(y.hi, py)
		}
	}
	for _, l := range c.Lines {
		for i := range min(len(l.X), len(l.Y)) {
			see(l.X[i], l.Y[i])
		}
	}
	for _, d := range c.Dots {
		see(d.X, d.Y)
	}
	if x.lo > x.hi {
		return x, y, false
	}
	if c.Zero {
		y.lo = min(y.lo, 0)
	}
	if c.Diagonal { // both axes alike, with room around the points
		x.lo, x.hi = min(x.lo, 1), max(x.hi, 1)
		y.lo, y.hi = min(y.lo, 1), max(y.hi, 1)
	}
	x.widen(len(c.Dots) > 0)
	y.widen(true)
	return x, y, true
}

// widen gives an axis some length, and room at its ends.
func (a *axis) widen(room bool) {
	if a.log {
		if a.hi < 1.5*a.lo {
			a.lo, a.hi = a.lo/1.5, a.hi*1.5
		}
		if room {
			margin := math.Pow(a.hi/a.lo, 0.06)
			a.lo, a.hi = a.lo/margin, a.hi*margin
		}
		return
	}
	if a.hi-a.lo <= 1e-9*max(math.Abs(a.lo), math.Abs(a.hi)) {
		pad := max(math.Abs(a.hi)/10, 1e-9)
		a.lo, a.hi = a.lo-pad, a.hi+pad
		return
	}
	if room {
		margin := 0.05 * (a.hi - a.lo)
		if a.lo != 0 {
			a.lo -= margin
		}
		a.hi += margin
	}
}

// ticks are round values, about n of them.
func (a axis) ticks(n int) []float64 {
	if a.log {
		return a.logTicks(n)
	}
	step := math.Pow(10, math.Floor(math.Log10((a.hi-a.lo)/float64(n))))
	for _, f := range []float64{1, 2, 5, 10} {
		if (a.hi-a.lo)/(step*f) <= float64(n)+0.5 {
			step *= f
			break
		}
	}
	var all []float64
	for k := math.Ceil(a.lo / step); k*step <= a.hi; k++ {
		all = append(all, k*step)
	}
	return all
}

// logTicks are powers of ten, with 2 and 5 between them where there is room.
func (a axis) logTicks(n int) []float64 {
	for _, between := range [][]float64{{1, 2, 5}, {1, 3}, {1}} {
		var all []float64
		for p := math.Floor(math.Log10(a.lo)); math.Pow(10, p) <= a.hi; p++ {
			for _, f := range between {
				if v := f * math.Pow(10, p); v >= a.lo && v <= a.hi {
					all = append(all, v)
				}
			}
		}
		if len(all) <= n+2 || len(between) == 1 {
			stride := max(1, (len(all)+n)/(n+1))
			return slices.Collect(func(yield func(float64) bool) {
				for i := 0; i < len(all) && yield(all[i]); i += stride {
				}
			})
		}
	}
	return nil
}

// Number prints a value in few characters: 1200000 as 1.2M.
func Number(v float64) string {
	a := math.Abs(v)
	if a == 0 {
		return "0" // and never -0
	}
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}} {
		if a >= u.size {
			if u.name == "k" {
				u.size = 1e3
			}
			return trim(strconv.FormatFloat(v/u.size, 'f', 2, 64)) + u.name
		}
	}
	if a < 1e-3 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strconv.FormatFloat(round(v), 'g', -1, 64)
}

// round keeps four digits.
func round(v float64) float64 {
	s, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	if err != nil {
		return v
	}
	return s
}

func trim(s string) string { return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") }

func coordinate(v float64) string { return trim(strconv.FormatFloat(v, 'f', 1, 64)) }

func escape(s string) string { return template.HTMLEscapeString(s) }
