package track

import (
	"bytes"
	"errors"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Axis is what a loss is drawn against.
type Axis uint8

// The axes.
const (
	ByTokens Axis = iota
	BySeconds
	BySteps
)

func (a Axis) of(r *Record) float64 {
	switch a {
	case BySeconds:
		return r.Seconds
	case BySteps:
		return float64(r.Step)
	}
	return float64(r.Tokens)
}

// unit chooses the unit in which the largest value reads well.
func (a Axis) unit(largest float64) (label string, size float64) {
	name := "tokens"
	switch a {
	case BySeconds:
		switch {
		case largest >= 2*3600:
			return "hours", 3600
		case largest >= 2*60:
			return "minutes", 60
		}
		return "seconds", 1
	case BySteps:
		name = "steps"
	}
	switch {
	case largest >= 2e9:
		return "billion " + name, 1e9
	case largest >= 2e6:
		return "million " + name, 1e6
	case largest >= 2e3:
		return "thousand " + name, 1e3
	}
	return name, 1
}

// Curve is a named line.
type Curve struct {
	Name    string
	Records []Record
	Of      func(*Record) float64 // the value; where it is zero or not finite, there is no point
}

// LossCurves are the two lines of a run: training and validation loss.
func LossCurves(records []Record) []Curve {
	return []Curve{
		{"training", records, func(r *Record) float64 { return r.TrainLoss }},
		{"validation", records, func(r *Record) float64 { return r.ValLoss }},
	}
}

// maxPoints is more than the picture can show; of longer lines, neighbouring
// points are averaged.
const maxPoints = 800

// points are what is drawn of a curve.
func (c Curve) points(a Axis) plotter.XYs {
	var all plotter.XYs
	for i := range c.Records {
		if y := c.Of(&c.Records[i]); y != 0 && !math.IsNaN(y) && !math.IsInf(y, 0) {
			all = append(all, plotter.XY{X: a.of(&c.Records[i]), Y: y})
		}
	}
	if len(all) <= maxPoints {
		return all
	}
	thin := make(plotter.XYs, maxPoints)
	for i := range thin {
		group := all[i*len(all)/maxPoints : (i+1)*len(all)/maxPoints]
		for _, p := range group {
			thin[i].X += p.X / float64(len(group))
			thin[i].Y += p.Y / float64(len(group))
		}
	}
	return thin
}

// palette has colours that people of any colour vision tell apart (Okabe and Ito).
var palette = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff},
}

// Draw writes a picture of curves as SVG. Curves without points are left out;
// without any it is an error.
func Draw(w io.Writer, title string, a Axis, curves ...Curve) error {
	var lines []plotter.XYs
	var names []string
	largest := 0.0
	for _, c := range curves {
		points := c.points(a)
		if len(points) == 0 {
			continue
		}
		lines, names = append(lines, points), append(names, c.Name)
		for _, p := range points {
			largest = max(largest, p.X)
		}
	}
	if len(lines) == 0 {
		return errors.New("there is nothing to draw: no record has a loss")
	}
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = title, "loss"
	label, unit := a.unit(largest)
	p.X.Label.Text = label
	p.X.Min = 0
	p.Legend.Top = true
	p.Legend.ThumbnailWidth, p.Legend.Padding = vg.Points(12), vg.Points(3)
	for _, style := range []*draw.TextStyle{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle,
		&p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	p.Add(plotter.NewGrid())
	for i, points := range lines {
		for k := range points {
			points[k].X /= unit
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, line.Width = palette[i%len(palette)], vg.Points(1.2)
		dots.Color, dots.Radius, dots.Shape = line.Color, vg.Points(1.5), draw.CircleGlyph{}
		p.Add(line)
		if len(points) <= 50 { // few enough to be seen one by one
			p.Add(dots)
		}
		p.Legend.Add(names[i], line)
	}
	canvas := vgsvg.New(16*vg.Centimeter, 9*vg.Centimeter)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	// Few readers have the font that the text was measured with; the others
	// need the names of those that are as wide.
	_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("Liberation Sans"), []byte("Liberation Sans,Arial,Helvetica,sans-serif")))
	return err
}
