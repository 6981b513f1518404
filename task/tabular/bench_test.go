package tabular

import (
	"context"
	"fmt"
	"math"
	"testing"

	"hasten/engine/rng"
)

// clouds is a table of classes that lie around centres.
func clouds(rows, columns, classes int, spread float64, seed uint64) *Data {
	s := rng.New(seed, 1)
	centres := make([]float32, classes*columns)
	s.FillNormal(centres, 0, 1)
	d := &Data{Kind: Classification, Targets: []string{"class"}, Inputs: &Table{Name: "clouds", Rows: rows}}
	for k := range classes {
		d.Classes = append(d.Classes, fmt.Sprint(k))
	}
	for range rows {
		d.Labels = append(d.Labels, int32(s.IntN(classes)))
	}
	for c := range columns {
		values := make([]float32, rows)
		s.FillNormal(values, 0, spread)
		for r := range values {
			values[r] += centres[int(d.Labels[r])*columns+c]
		}
		d.Inputs.Columns = append(d.Inputs.Columns, Column{Name: fmt.Sprint("x", c), Values: values})
	}
	return d
}

func BenchmarkFit(b *testing.B) {
	for _, classes := range []int{10, 60} {
		d := clouds(10000, 48, classes, 1.5, 1)
		for _, p := range Boosters.Parts {
			b.Run(fmt.Sprintf("classes=%d/%s", classes, p.Name), func(b *testing.B) {
				for range b.N {
					booster := p.New()
					booster.common().Rounds = 50
					if _, err := Fit(context.Background(), d, booster, FitOptions{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkPredict(b *testing.B) {
	for _, classes := range []int{10, 60} {
		d := clouds(10000, 48, classes, 1.5, 1)
		for _, p := range Boosters.Parts {
			booster := p.New()
			booster.common().Rounds = 50
			m, err := Fit(context.Background(), d, booster, FitOptions{})
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("classes=%d/%s", classes, p.Name), func(b *testing.B) {
				for range b.N {
					p, _ := m.Predict(d.Inputs)
					if math.IsNaN(float64(p.Values[0])) {
						b.Fatal("NaN")
					}
				}
			})
		}
	}
}
