package tables

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"hasten/task/tabular"
)

// load skips where a data set is not installed, unless HASTEN_FULL=1 demands it.
func load(t *testing.T, open func() (*tabular.Data, error)) *tabular.Data {
	d, err := open()
	missing := err != nil && (strings.Contains(err.Error(), "to get") || strings.Contains(err.Error(), "apt-get"))
	if missing && os.Getenv("HASTEN_FULL") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTables(t *testing.T) {
	for name, c := range map[string]struct {
		open                   func() (*tabular.Data, error)
		rows, columns, outputs int
	}{
		"digits": {Digits, 1797, 64, 10},
		"wine":   {Wine, 178, 13, 3},
		"mnist":  {func() (*tabular.Data, error) { return MNIST(50) }, 50, 784, 10},
		"design": {func() (*tabular.Data, error) { return Design(30) }, 30, 6, 8},
	} {
		t.Run(name, func(t *testing.T) {
			d := load(t, c.open)
			if d.Inputs.Rows != c.rows || len(d.Inputs.Columns) != c.columns || d.Outputs() != c.outputs {
				t.Errorf("%d rows, %d columns, %d outputs", d.Inputs.Rows, len(d.Inputs.Columns), d.Outputs())
			}
		})
	}
}

func TestSections(t *testing.T) {
	d := load(t, func() (*tabular.Data, error) { return Sections(3000) })
	if d.Inputs.Rows != 3000 || len(d.Inputs.Columns) != 4+commonWords || d.Outputs() < 30 {
		t.Errorf("%d rows, %d columns, %d sections", d.Inputs.Rows, len(d.Inputs.Columns), d.Outputs())
	}
	again := load(t, func() (*tabular.Data, error) { return Sections(3000) })
	if !slices.Equal(again.Labels, d.Labels) {
		t.Error("the table is another the second time")
	}
}

// A beam of twice the width bends half as much; one without leeway has none.
func TestBeam(t *testing.T) {
	a, b := beam(0.5, 4, 8, 0.5, 6000, 14), beam(0.5, 4, 8, 1, 6000, 14)
	if math.Abs(math.Exp(a[1]-b[1])-2) > 1e-9 || math.Abs(math.Exp(a[2]-b[2])-2) > 1e-9 {
		t.Errorf("%v, %v", a, b)
	}
	// τ' = P/(√2 h l), as in the source.
	if want := 6000 / (math.Sqrt2 * 0.5 * 4); math.Abs(math.Exp(a[5])-want) > 1e-6 {
		t.Errorf("primary shear %v, want %v", math.Exp(a[5]), want)
	}
}

func TestFold(t *testing.T) {
	d := load(t, func() (*tabular.Data, error) { return Design(52) })
	seen := map[float32]int{}
	for f := range 5 {
		train, test := Fold(d, f, 5, 3)
		if train.Inputs.Rows+test.Inputs.Rows != 52 || test.Inputs.Rows < 10 {
			t.Errorf("fold %d: %d and %d rows", f, train.Inputs.Rows, test.Inputs.Rows)
		}
		for _, v := range test.Inputs.Columns[0].Values {
			seen[v]++
		}
	}
	for v, n := range seen {
		if n != 1 {
			t.Errorf("%v is tested %d times", v, n)
		}
	}
}
