package tabular

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"hasten/engine/rng"
	"hasten/task/recipe"
	"hasten/task/run"
)

// file writes a file and returns its path.
func file(t testing.TB, name, text string) string {
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadCSV(t *testing.T) {
	path := file(t, "a.csv", "\ufeffx,colour,n,\"a, b\"\n1.5,red,3,y\n,blue,?,n\n-2e3,,7,y\n1,red,0,\n")
	table, err := Read(path, ReadOptions{Categories: []string{"n"}})
	if err != nil {
		t.Fatal(err)
	}
	if table.Rows != 4 || len(table.Columns) != 4 || table.Columns[3].Name != "a, b" {
		t.Fatalf("%+v", table)
	}
	for i, want := range []string{"[1.5 NaN -2000 1] []", "[0 1 NaN 0] [red blue]", "[0 NaN 1 2] [3 7 0]", "[0 1 0 NaN] [y n]"} {
		c := table.Columns[i]
		if got := fmt.Sprint(c.Values, " ", c.Categories); got != want {
			t.Errorf("column %d: %s, want %s", i, got, want)
		}
	}
	if table.Columns[0].Categories != nil {
		t.Error("numbers have categories")
	}
	bare, err := Read(path, ReadOptions{NoHeader: true})
	if err != nil || bare.Rows != 5 || bare.Columns[0].Name != "c1" || bare.Columns[0].Categories == nil {
		t.Errorf("without header: %+v, %v", bare, err)
	}
}

// What is wrong with a file is told with its place and the mend.
func TestReadErrors(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		o    ReadOptions
		want string
	}{
		"empty":     {"", ReadOptions{}, "a.csv: empty; want a header line"},
		"no rows":   {"a,b\n", ReadOptions{}, "a.csv: no rows, only a header"},
		"cells":     {"a,b\n1,2\n1,2,3\n", ReadOptions{}, "a.csv:3: 3 cells, and the lines before have 2"},
		"quote":     {"a,b\n1,\"2\n", ReadOptions{}, "a.csv:2: character 6: extraneous or missing \" in quoted-field (the row begins on line 2)"},
		"same name": {"a,a\n1,2\n", ReadOptions{}, `a.csv: columns 1 and 2 are both named "a"`},
		"no name":   {"a,\n1,2\n", ReadOptions{}, "a.csv: column 2 has no name"},
		"range":     {"a,b\n1,2\n1,1e99\n", ReadOptions{}, `a.csv:3: column "b" (character 3): "1e99" is outside the range of float32`},
		"like":      {"a,b\n1,2\n1,x\n", ReadOptions{Like: []Column{{Name: "b"}}}, `a.csv:3: column "b" (character 3): "x" is not a number, and the model was trained on numbers here`},
		"missing":   {"a,b\n1,2\n", ReadOptions{Like: []Column{{Name: "c"}}}, `a.csv: no column "c"; there is "a", "b"`},
		"category":  {"a,b\n1,2\n", ReadOptions{Categories: []string{"z"}}, `a.csv: no column "z"`},
		"format":    {"a,b\n1,2\n", ReadOptions{Format: "xls"}, "not a table by its name"},
	} {
		_, err := Read(file(t, "a.csv", c.text), c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, err := Read("nothing.csv", ReadOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Read(file(t, "a.csv.gz", "no gzip"), ReadOptions{}); err == nil {
		t.Error("a .gz that is none was read")
	}
}

func TestReadParquet(t *testing.T) {
	type row struct {
		X    float64  `parquet:"x"`
		N    *int32   `parquet:"n,optional"`
		Name string   `parquet:"name"`
		Flag bool     `parquet:"flag"`
		F    *float32 `parquet:"f,optional"`
	}
	two, half := int32(2), float32(0.5)
	var b bytes.Buffer
	if err := parquet.Write(&b, []row{{1.5, &two, "a", true, nil}, {2, nil, "b", false, &half}, {3, &two, "a", true, &half}}); err != nil {
		t.Fatal(err)
	}
	path := file(t, "a.parquet", b.String())
	table, err := Read(path, ReadOptions{Like: []Column{{Name: "x"}, {Name: "n"}, {Name: "name", Categories: []string{}}, {Name: "flag"}, {Name: "f"}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"[1.5 2 3] []", "[2 NaN 2] []", "[0 1 0] [a b]", "[1 0 1] []", "[NaN 0.5 0.5] []"} {
		if got := fmt.Sprint(table.Columns[i].Values, " ", table.Columns[i].Categories); got != want {
			t.Errorf("column %d: %s, want %s", i, got, want)
		}
	}
	if _, err := Read(path, ReadOptions{Like: []Column{{Name: "name"}}}); err == nil || !strings.Contains(err.Error(), `column "name" holds text`) {
		t.Error(err)
	}
	for _, cut := range []int{0, 5, b.Len() / 2, b.Len() - 1} {
		if _, err := Read(file(t, "b.parquet", b.String()[:cut]), ReadOptions{}); err == nil {
			t.Errorf("%d of %d bytes were read", cut, b.Len())
		}
	}
}

func TestFrame(t *testing.T) {
	table, err := Read(file(t, "a.csv", "a,b,c,d\n1,x,0.5,2\n2,y,1.5,1\n3,x,2.5,2\n4,y,2.25,2\n"), ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		targets, ignore string
		kind            Kind
		want, err       string
	}{
		{"", "", "", "classification [1 2] [1 0 1 1] []", ""},
		{"b", "", "", "classification [x y] [0 1 0 1] []", ""},
		{"c", "", "", "regression [] [] [0.5 1.5 2.5 2.25]", ""},
		{"d", "", Regression, "regression [] [] [2 1 2 2]", ""},
		{"c,d", "a", "", "regression [] [] [0.5 2 1.5 1 2.5 2 2.25 2]", ""},
		{"b", "", Regression, "", `column "b" holds text ("x"), which cannot be regressed`},
		{"c,d", "", Classification, "", "classification predicts one"},
		{"z", "", "", "", `no column "z"; there is "a", "b", "c", "d"`},
		{"d", "a,b,c", "", "", "no columns are left"},
		{"a", "", Classification, "", "has 4 different values in 4 rows"},
	} {
		d, err := Frame(table, list(c.targets), list(c.ignore), c.kind)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if got := fmt.Sprint(d.Kind, " ", d.Classes, " ", d.Labels, " ", d.Y); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	holes, err := Read(file(t, "b.csv", "a,b\n1,2\n2,\n3,5.5\n"), ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Frame(holes, nil, nil, ""); err == nil || !strings.Contains(err.Error(), `b.csv:3: column "b"`) {
		t.Error(err)
	}
}

// A bin holds what lies between two limits, and limits lie between values.
func TestBinner(t *testing.T) {
	for _, n := range []int{1, 2, 100, 255, 256, 257, 5000} {
		s := rng.New(uint64(n), 1)
		c := Column{Name: "x", Values: make([]float32, n)}
		s.FillNormal(c.Values, 0, 100)
		if n == 100 {
			c.Values[3], c.Values[7], c.Values[9] = float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.Copysign(0, -1))
		}
		c.Values = append(c.Values, nan)
		b := newBinner(&c)
		if want := min(n, mostBins-1) + 1; b.bins != want || len(b.limits) != want-2 {
			t.Fatalf("%d values: %d bins, %d limits, want %d", n, b.bins, len(b.limits), want)
		}
		count := make([]int, b.bins)
		for _, v := range c.Values {
			bin := int(b.bin(v))
			count[bin]++
			if v != v {
				if bin != missingBin {
					t.Fatalf("missing in bin %d", bin)
				}
				continue
			}
			if bin == missingBin || bin > 1 && v <= b.limits[bin-2] || bin < b.bins-1 && v > b.limits[bin-1] {
				t.Fatalf("%v in bin %d", v, bin)
			}
		}
		for i, k := range count {
			if k == 0 || n > mostBins && i > 0 && k > n/100 {
				t.Errorf("%d values: bin %d has %d", n, i, k)
			}
		}
	}
}

func TestSortKeys(t *testing.T) {
	s := rng.New(1, 1)
	for _, n := range []int{0, 1, 2, 1000} {
		keys := make([]uint32, n)
		for i := range keys {
			keys[i] = s.Uint32() >> s.IntN(30)
		}
		want := slices.Sorted(slices.Values(keys))
		if got := sortKeys(keys); !slices.Equal(got, want) {
			t.Errorf("%d: %v", n, got)
		}
	}
}

func TestManyCategories(t *testing.T) {
	c := Column{Name: "x", Categories: make([]string, 400)}
	for i := range c.Categories {
		c.Categories[i] = fmt.Sprint(i)
		for range 1 + i%7 {
			c.Values = append(c.Values, float32(i))
		}
	}
	b := newBinner(&c)
	seen := map[uint8]int{}
	for i := range c.Categories {
		seen[b.bin(float32(i))]++
	}
	if len(seen) != 255 || seen[255] != 400-254 || b.bins != 256 || len(b.codes) != 254 {
		t.Errorf("%d bins, %d together", len(seen), seen[255])
	}
	if b.codes[0]%7 != 6 {
		t.Errorf("the first bin has category %d, which is not among the commonest", b.codes[0])
	}
}

// gaps is data with missing values that tell something.
func gaps(rows int) *Data {
	d := sample(rows, 3, Classification, 8)
	s := rng.New(8, 8)
	for r := range rows {
		if s.IntN(5) == 0 {
			d.Inputs.Columns[s.IntN(4)].Values[r] = nan
		}
		if d.Labels[r] == 1 && s.IntN(2) == 0 {
			d.Inputs.Columns[3].Values[r] = nan
		}
	}
	return d
}

// The model's file says the same as what training saw, for every question a
// node can ask: the scores from bins, from the fast walk, and from a walk over
// the file's nodes agree.
func TestPredictAgainstWalk(t *testing.T) {
	d, other := gaps(400), gaps(300)
	for _, p := range Boosters.Parts {
		b := p.New()
		b.common().Rounds, b.common().Subsample = 12, 0.8
		var last Round
		m, err := Fit(context.Background(), d, b, FitOptions{Valid: other, Watch: func(r Round) { last = r }})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
		if m, err = Open(dir); err != nil {
			t.Fatal(err)
		}
		p, err := m.Predict(other.Inputs)
		if err != nil {
			t.Fatal(err)
		}
		asked := map[string]bool{}
		k := m.Outputs()
		want := make([]float64, other.Inputs.Rows*k)
		for i := range want {
			want[i] = float64(m.Start[i%k])
		}
		for i := range m.Trees {
			tree := &m.Trees[i]
			for _, n := range tree.Nodes {
				asked[fmt.Sprint(n.At != nil, n.Is != nil, n.Missing)] = true
			}
			for leaf, rows := range modelLeaves(tree, other) {
				for _, r := range rows {
					if tree.Output >= 0 {
						want[r*k+tree.Output] += float64(tree.Values[leaf])
						continue
					}
					for j := range k {
						want[r*k+j] += float64(tree.Values[leaf*k+j])
					}
				}
			}
		}
		var loss float64
		for r := range other.Inputs.Rows {
			var sum float64
			for j := range k {
				sum += math.Exp(want[r*k+j])
			}
			for j := range k {
				v := math.Exp(want[r*k+j]) / sum
				if math.Abs(v-float64(p.Values[r*k+j])) > 1e-5 {
					t.Fatalf("row %d class %d: %v, want %v", r, j, p.Values[r*k+j], v)
				}
				if j == int(other.Labels[r]) {
					loss -= math.Log(v) / float64(other.Inputs.Rows)
				}
			}
		}
		if math.Abs(loss-last.Valid) > 1e-4 {
			t.Errorf("validation loss %v, of the bins %v", loss, last.Valid)
		}
		if metrics, err := m.Evaluate(other); err != nil || math.Abs(metrics.LogLoss-loss) > 1e-4 {
			t.Errorf("%+v, %v; want %v", metrics, err, loss)
		}
		if len(asked) < 4 {
			t.Errorf("only these questions were asked: %v", asked)
		}
	}
}

// Unknown categories count as missing, columns may come in another order, and
// what is not there is an error.
func TestPredictOtherTables(t *testing.T) {
	d := gaps(300)
	b := &Condensed{defaultBoosting()}
	b.Rounds = 5
	m, err := Fit(context.Background(), d, b, FitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := m.Predict(d.Inputs)
	if err != nil {
		t.Fatal(err)
	}
	other := *d.Inputs
	other.Columns = slices.Clone(other.Columns)
	colour := &other.Columns[2]
	colour.Categories = []string{"black", "white", "blue", "green", "red"}
	colour.Values = slices.Clone(colour.Values)
	for i, v := range colour.Values {
		if v == v {
			colour.Values[i] = 4 - v
		} else {
			colour.Values[i] = 0 // black, which the model has never seen
		}
	}
	slices.Reverse(other.Columns)
	got, err := m.Predict(&other)
	if err != nil || !slices.Equal(got.Values, want.Values) {
		t.Errorf("the predictions differ; %v", err)
	}
	other.Columns = other.Columns[1:]
	if _, err := m.Predict(&other); err == nil || !strings.Contains(err.Error(), `no column "more"`) {
		t.Error(err)
	}
	number, err := NewTable("t", Column{Name: "few", Values: []float32{1}}, Column{Name: "many", Values: []float32{1}}, Column{Name: "colour", Values: []float32{1}}, Column{Name: "more", Values: []float32{1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Predict(number); err == nil || !strings.Contains(err.Error(), `column "colour" holds numbers, and the model was trained on categories there`) {
		t.Error(err)
	}
}

// Patience ends a fit after its best round, and forgets what came later.
func TestPatience(t *testing.T) {
	d, valid := clouds(200, 5, 3, 3, 1), clouds(200, 5, 3, 3, 1)
	for r := range valid.Labels { // labels that cannot be learned, once a few rounds are over
		valid.Labels[r] = (d.Labels[r] + int32(r%2)) % 3
	}
	for _, name := range []string{"cgb", "gbdt"} {
		b, err := Boosters.Build(name, map[string]string{"rounds": "300", "patience": "5"})
		if err != nil {
			t.Fatal(err)
		}
		var rounds []Round
		m, err := Fit(context.Background(), d, b, FitOptions{Valid: valid, Watch: func(r Round) { rounds = append(rounds, r) }})
		if err != nil {
			t.Fatal(err)
		}
		best := slices.MinFunc(rounds, func(a, b Round) int { return int(math.Copysign(1, a.Valid-b.Valid)) })
		if len(rounds) != best.Round+5 || len(m.Trees) != best.Trees || len(rounds) == 300 {
			t.Errorf("%s: %d rounds, best %d, %d trees of %d", name, len(rounds), best.Round, len(m.Trees), best.Trees)
		}
	}
	if _, err := Fit(context.Background(), d, &Condensed{Boosting{Patience: 1, Rounds: 1}}, FitOptions{}); err == nil {
		t.Error("patience without validation data")
	}
}

// The loss of training falls, and hard data is learned.
func TestLearns(t *testing.T) {
	for _, kind := range []Kind{Classification, Regression} {
		all := sample(2500, 4, Regression, 1)
		if kind == Classification {
			all = clouds(2500, 10, 4, 0.6, 1)
		}
		var in, out []int32
		for r := range int32(2500) {
			if r%5 > 0 {
				in = append(in, r)
			} else {
				out = append(out, r)
			}
		}
		train, test := all.Take(in), all.Take(out)
		for _, p := range Boosters.Parts {
			var losses []float64
			m, err := Fit(context.Background(), train, p.New(), FitOptions{Watch: func(r Round) { losses = append(losses, r.Train) }})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.IsSortedFunc(losses, func(a, b float64) int { return int(b*1e6 - a*1e6) }) {
				t.Errorf("%s %s: the training loss rises: %v", kind, p.Name, losses)
			}
			e, err := m.Evaluate(test)
			if err != nil || kind == Classification && e.Accuracy < 0.9 || kind == Regression && e.R2 < 0.9 {
				t.Errorf("%s %s: %+v, %v", kind, p.Name, e, err)
			}
		}
	}
}

func TestTrain(t *testing.T) {
	var csv strings.Builder
	csv.WriteString("a,b,colour,kind\n")
	s := rng.New(1, 1)
	for range 300 {
		a, b, c := s.Float64(), s.Float64(), []string{"red", "blue", ""}[s.IntN(3)]
		kind := "low"
		if a+b > 1 || c == "red" {
			kind = "high"
		}
		fmt.Fprintf(&csv, "%.3f,%.3f,%s,%s\n", a, b, c, kind)
	}
	path := file(t, "t.csv", csv.String())
	r, err := recipe.Open("tabular")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(r); err == nil || !strings.Contains(err.Error(), "no data") {
		t.Error(err)
	}
	if err := r.Set("data="+path, "booster.patience=10", "seed=3"); err != nil {
		t.Fatal(err)
	}
	settings, err := Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	out, err := Train(context.Background(), settings, Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if out.Rows != 240 || out.Valid.Rows != 60 || out.Valid.Accuracy < 0.9 || out.Interrupted {
		t.Errorf("%+v, %+v", out, out.Valid)
	}
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	table, err := m.Read(path, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.Frame(table)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := m.Evaluate(d); err != nil || e.Accuracy < 0.9 || e.Rows != 300 {
		t.Errorf("%+v, %v", e, err)
	}
	again, err := run.OpenRecipe(dir)
	if err != nil || again.Get("booster.depth") != "5" || again.Get("booster.patience") != "10" {
		t.Errorf("the saved recipe: %v", err)
	}
	log, err := os.ReadFile(filepath.Join(dir, LogFile))
	if err != nil || bytes.Count(log, []byte("\n")) != len(out.Rounds) || !json.Valid(log[:bytes.IndexByte(log, '\n')]) {
		t.Errorf("the log: %s, %v", log, err)
	}
	if _, err := Train(context.Background(), settings, Options{Dir: dir}); !errors.Is(err, run.ErrExists) {
		t.Error(err)
	}
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	if out, err := Train(stopped, settings, Options{Dir: t.TempDir()}); err != nil || !out.Interrupted || len(out.Model.Trees) != 0 {
		t.Errorf("a run that is stopped at once: %+v, %v", out, err)
	}
}

func FuzzReadCSV(f *testing.F) {
	for _, text := range []string{"", "a,b\n1,2\n", "a\n\"", "a,b\n1\n", "\ufeffa\tb\n?\t-0\n", "a,a\n,\n", "a,b\n1e99,nan\n-inf,0x1p-2\n", "c\n1_0\n\"x\ny\"\n"} {
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, header bool) {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
		table, err := readCSV("f", open, ',', ReadOptions{NoHeader: !header})
		if err != nil {
			return
		}
		if _, err := NewTable("f", table.Columns...); err != nil {
			t.Fatal(err)
		}
		d, err := Frame(table, nil, nil, "")
		if err != nil {
			return
		}
		b := &Condensed{defaultBoosting()}
		b.Rounds = 2
		m, err := Fit(context.Background(), d, b, FitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Predict(table); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzModel(f *testing.F) {
	d := gaps(100)
	for _, p := range Boosters.Parts {
		b := p.New()
		b.common().Rounds, b.common().Depth = 1, 3
		m, err := Fit(context.Background(), d, b, FitOptions{})
		if err != nil {
			f.Fatal(err)
		}
		text, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"format":"hasten tabular 1","kind":"regression","targets":["y"],"start":[0],"columns":[{"name":"a"}],"trees":[{"output":0,"nodes":[{"column":0,"left":1,"right":1},{"column":0,"left":-1,"right":-1}],"values":[1]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseModel(text)
		if err != nil {
			return
		}
		table := &Table{Name: "t", Rows: 3}
		for _, c := range m.Columns {
			c.Values = []float32{0, nan, 0}
			if len(c.Categories) == 0 {
				c.Values[0], c.Values[2] = nan, nan
			}
			table.Columns = append(table.Columns, c)
		}
		if table.checkNames() == nil {
			if _, err := m.Predict(table); err != nil {
				t.Fatal(err)
			}
		}
	})
}
