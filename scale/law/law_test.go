package law

import (
	"math"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

func within(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if !(math.Abs(got/want-1) <= share) {
		t.Errorf("%s: %v, want %v within %v%%", what, got, want, 100*share)
	}
}

func TestFitPowerRecoversWhatWasPlanted(t *testing.T) {
	s := rng.New(1, 1)
	var x, loss []float64
	for n := 1e4; n < 1e7; n *= 2 {
		x, loss = append(x, n), append(loss, PaperN.Loss(n)*(1+0.001*s.Normal()))
	}
	p, err := FitPower(x, loss)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "αN", p.Alpha, PaperN.Alpha, 0.02)
}

func TestFitSizeStepsRecoversWhatWasPlanted(t *testing.T) {
	for _, planted := range []SizeSteps{{6.5e13, 0.077, 2.1e3, 0.76}, {1e9, 0.15, 30, 0.5}, {1e8, 0.25, 500, 0.9}} {
		s := rng.New(1, 2)
		var points []Point
		for _, n := range []float64{2e4, 5e4, 1e5, 2e5, 4e5} {
			for steps := 50.0; steps <= 3200; steps *= 2 {
				points = append(points, Point{N: n, S: steps, Loss: planted.Loss(n, steps) * (1 + 0.0005*s.Normal())})
			}
		}
		l, err := FitSizeSteps(points)
		if err != nil {
			t.Fatal(err)
		}
		within(t, "αN", l.AlphaN, planted.AlphaN, 0.02)
		within(t, "αS", l.AlphaS, planted.AlphaS, 0.02)
		within(t, "a prediction", l.Loss(1.6e6, 800), planted.Loss(1.6e6, 800), 0.005)
	}
}

func TestFitSizeDataRecoversWhatWasPlanted(t *testing.T) {
	planted := SizeData{1e9, 0.08, 1e8, 0.11}
	var points []Point
	for _, n := range []float64{2e4, 1e5, 5e5, 2e6} {
		for d := 1e5; d < 1e10; d *= 4 {
			points = append(points, Point{N: n, D: d, Loss: planted.Loss(n, d)})
		}
	}
	l, err := FitSizeData(points)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "αN", l.AlphaN, planted.AlphaN, 0.02)
	within(t, "αD", l.AlphaD, planted.AlphaD, 0.02)
}

// TestPaper holds the formulas against the constants that the paper derives
// from others.
func TestPaper(t *testing.T) {
	alphaC, a := Exponents(PaperNS, PaperB)
	if math.Abs(alphaC-PaperC.Alpha) > 0.005 {
		t.Errorf("αC = %v, the paper has 0.050", alphaC)
	}
	if math.Abs(a.N+a.B+a.S-1) > 1e-12 {
		t.Errorf("the shares add up to %v", a.N+a.B+a.S)
	}
	if math.Abs(a.N-0.73) > 0.05 || math.Abs(a.B-0.24) > 0.02 {
		t.Errorf("N ∝ C^%v, B ∝ C^%v; the paper finds 0.73, 0.24", a.N, a.B)
	}
	if r := PaperND.AlphaN / PaperND.AlphaD; math.Abs(r-0.74) > 0.005 {
		t.Errorf("D ∝ N^%v, want 0.74", r)
	}
	// 5e3·N^0.74 is where the loss of overfitting reaches about 2%.
	within(t, "tokens for a million weights", PaperND.DataFor(1e6, 0.02), 5e3*math.Pow(1e6, 0.74), 0.5)
	if !Overfits(1e6, 1e8) || Overfits(1e6, 2e8) {
		t.Error("the rule of thumb")
	}
	b := PaperB.Critical(3)
	within(t, "Smin at the critical batch", PaperB.Smin(100, b, 3), 50, 1e-12)
	within(t, "Cmin at the critical batch", PaperB.Cmin(100, b, 3), 50, 1e-12)
	within(t, "L(N,D) with endless data", PaperND.Loss(1e6, 1e30), math.Pow(6.4e13/1e6, 0.076), 1e-9)
	within(t, "L(D)", PaperD.Loss(5.4e13), 1, 1e-12)
}

func TestPlan(t *testing.T) {
	l := SizeSteps{1e9, 0.15, 100, 0.6}
	const budget, batch = 1e13, 2048
	steps := func(n float64) float64 { return budget / FLOPs(n, batch) }
	for _, laws := range []Laws{{Size: l}, {l, Batch{1e6, 0.25}}} {
		c := laws.Plan(1e3, 1e8, batch, steps)
		for n := 1e3; n < 1e8; n *= 1.01 {
			if laws.Loss(n, steps(n), batch) < c.Loss-1e-9 {
				t.Fatalf("%v weights do better than the planned %v", n, c.N)
			}
		}
		if laws.Batch.Star == 0 { // theory: at the best size the losses are in the ratio αN/αS
			within(t, "distance from convergence", c.Overhead(), l.AlphaN/l.AlphaS, 0.01)
		}
	}
}

// TestLawsLoss holds that the loss of a run with batches solves its equations.
func TestLawsLoss(t *testing.T) {
	l := Laws{SizeSteps{1e9, 0.15, 100, 0.6}, Batch{1e6, 0.25}}
	last := math.Inf(1)
	for _, batch := range []float64{128, 1024, 8192, 65536, 1e12} {
		loss := l.Loss(1e5, 1000, batch)
		within(t, "L(N,Smin(L))", l.Size.Loss(1e5, 1000/(1+1e6*math.Pow(loss, -4)/batch)), loss, 1e-9)
		if !(loss < last) {
			t.Errorf("batch %v: %v, not below %v", batch, loss, last)
		}
		last = loss
	}
	within(t, "at an endless batch", last, l.Size.Loss(1e5, 1000), 1e-6)
}

// TestGradients compares the derivatives of the laws with differences.
func TestGradients(t *testing.T) {
	for name, f := range map[string]form{"steps": sizeStepsLog, "data": sizeDataLog} {
		x := []float64{0.3, -2, 0.1, -0.7}
		var grad, unused [4]float64
		f(x, 0.7, -1.1, grad[:])
		for i := range x {
			const h = 1e-5
			up, down := append([]float64{}, x...), append([]float64{}, x...)
			up[i], down[i] = x[i]+h, x[i]-h
			want := (f(up, 0.7, -1.1, unused[:]) - f(down, 0.7, -1.1, unused[:])) / (2 * h)
			if math.Abs(grad[i]-want) > 1e-8 {
				t.Errorf("%s, parameter %d: %v, want %v", name, i, grad[i], want)
			}
		}
	}
}

func TestFitBatch(t *testing.T) {
	planted := Batch{Star: 3e6, AlphaB: 0.3}
	loss := []float64{4, 3.5, 0.1, 3, 2.5, 2}
	var noise []float64
	for _, l := range loss {
		noise = append(noise, planted.Critical(l))
	}
	noise[2] = -5 // hidden by noise
	b, err := FitBatch(loss, noise)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "B*", b.Star, planted.Star, 1e-9)
	within(t, "αB", b.AlphaB, planted.AlphaB, 1e-9)
	// One that falls with the loss tells the size alone.
	b, err = FitBatch([]float64{3, 2}, []float64{2000, 1000})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "a steady B", b.Critical(3), math.Sqrt(2000*1000), 0.001)
	within(t, "a steady B", b.Critical(2), math.Sqrt(2000*1000), 0.001)
	if _, err := FitBatch([]float64{3}, []float64{-1}); err == nil {
		t.Error("nothing to fit")
	}
}

func TestFitsRefuse(t *testing.T) {
	if _, err := FitPower([]float64{1}, []float64{1}); err == nil {
		t.Error("one point")
	}
	if _, err := FitPower([]float64{1, 2}, []float64{1, 2}); err == nil {
		t.Error("a loss that rises")
	}
	if _, err := FitSizeSteps(make([]Point, 4)); err == nil {
		t.Error("too few points")
	}
	if _, err := FitSizeSteps(make([]Point, 9)); err == nil {
		t.Error("points of zeros")
	}
}

func TestBootstrap(t *testing.T) {
	planted := SizeSteps{1e9, 0.15, 30, 0.5}
	s := rng.New(3, 2)
	var points []Point
	for _, n := range []float64{2e4, 1e5, 4e5} {
		for _, steps := range []float64{100, 300, 900} {
			points = append(points, Point{N: n, S: steps, Loss: planted.Loss(n, steps) * (1 + 0.003*s.Normal())})
		}
	}
	i, err := Bootstrap(points, 10, func(l SizeSteps) float64 { return l.Loss(2e5, 900) })
	if err != nil || !(i.Lo <= i.Hi) || i.Hi/i.Lo > 1.2 || math.Abs(i.Lo/planted.Loss(2e5, 900)-1) > 0.05 {
		t.Errorf("%+v, %v; planted %v", i, err, planted.Loss(2e5, 900))
	}
}

// TestBootstrapOfLittle holds that an interval stays sensible where noise hides
// an exponent.
func TestBootstrapOfLittle(t *testing.T) {
	planted := SizeSteps{1e9, 0.15, 30, 0.5}
	s := rng.New(5, 2)
	var points []Point
	for _, n := range []float64{2e4, 3e4, 4e4} {
		for _, steps := range []float64{100, 130, 160} {
			points = append(points, Point{N: n, S: steps, Loss: planted.Loss(n, steps) * (1 + 0.03*s.Normal())})
		}
	}
	i, err := Bootstrap(points, 200, func(l SizeSteps) float64 { return l.Loss(1e4, 400) })
	if err != nil || !(i.Lo > 0.5*planted.Loss(1e4, 400) && i.Hi < 6*planted.Loss(1e4, 400)) {
		t.Errorf("%+v, %v; planted %v", i, err, planted.Loss(1e4, 400))
	}
}

// line is a task whose gradient is known: the loss of a batch is the mean of
// (w·a - b)²/2 with a and b drawn anew.
type line struct {
	w    *grad.Param
	s    rng.Stream
	a, b []float32
}

func (l *line) Params() []*grad.Param { return []*grad.Param{l.w} }
func (l *line) Next() (int, error) {
	l.s.FillNormal(l.a, 0, 1)
	for i := range l.b {
		l.b[i] = l.a[i]*2 + float32(3*l.s.Normal())
	}
	return len(l.a), nil
}
func (l *line) Loss(t *grad.Tape) (*grad.Var, []float32, error) {
	y := grad.Linear(t, t.Input(tensor.From(l.a, len(l.a), 1)), l.w.Var, nil)
	d := grad.Sub(t, y, t.Input(tensor.From(l.b, len(l.b), 1)))
	return grad.Scale(t, grad.Mean(t, grad.Square(t, d)), 0.5), nil, nil
}

// TestNoise has a gradient of mean -(2-w) and a variance that is known: with
// w = 0, of a·b = 2a² + 3an, that is 4·2 + 9 = 17.
func TestNoise(t *testing.T) {
	a := new(memory.Arena)
	task := &line{w: grad.NewParam(a, "w", 1, 1), s: rng.New(1, 9), a: make([]float32, 16), b: make([]float32, 16)}
	got, err := Noise(task, grad.NewTape(a), 4000)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "noise scale", got, 17.0/4, 0.1)
}
