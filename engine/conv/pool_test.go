package conv

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"hasten/engine/simd"
)

var pools = []Pool{
	{Batch: 1, Channels: 1, W: ax(1, 1, 1, 1, 0, 0)},
	{Batch: 2, Channels: 3, W: ax(11, 3, 2, 1, 1, 0)}, // 1-D
	{Batch: 2, Channels: 37, H: ax(6, 2, 2, 1, 0, 0), W: ax(7, 2, 2, 1, 0, 0)},
	{Batch: 3, Channels: 16, H: ax(7, 3, 2, 1, 1, 1), W: ax(9, 3, 2, 1, 1, 1)},
	{Batch: 1, Channels: 70, H: ax(5, 3, 1, 1, 1, 1), W: ax(6, 3, 1, 2, 2, 2)}, // windows overlap
	{Batch: 1, Channels: 8, H: ax(3, 1, 1, 1, 0, 0), W: ax(3, 2, 2, 1, 3, 3)},  // windows that see no input
	{Batch: 2, Channels: 9, D: ax(4, 2, 2, 1, 0, 0), H: ax(5, 2, 3, 1, 0, 0), W: ax(4, 3, 1, 1, 1, 1)},
	{Batch: 2, Channels: 130, H: Whole(7), W: Whole(5)},
	{Batch: 0, Channels: 4, W: ax(4, 2, 2, 1, 0, 0)},
}

// windows lists, for every output, the inputs under its window in order.
func (p Pool) windows() [][]int {
	all := make([][]int, p.OutLen())
	c := Conv{Batch: p.Batch, D: p.D, H: p.H, W: p.W, In: p.Channels, Out: p.Channels, Groups: p.Channels}
	c.terms(func(yi, xi, _ int) { all[yi] = append(all[yi], xi) })
	return all
}

func TestPoolsAgainstDefinition(t *testing.T) {
	defer simd.Use(simd.Current())
	for _, level := range simd.Levels() {
		simd.Use(level)
		for _, p := range pools {
			for _, countPadding := range []bool{false, true} {
				p.CountPadding = countPadding
				checkPool(t, fmt.Sprintf("%v %+v", level, p), p)
			}
		}
	}
}

func checkPool(t *testing.T, name string, p Pool) {
	nx, ny := p.InLen(), p.OutLen()
	x, dy := values(nx, 1), values(ny, 2)
	for i := range x {
		x[i] = float32(math.Round(float64(x[i]) * 2)) // many are equal
	}
	y, arg := values(ny, 3), make([]int32, ny)
	p.Max(y, arg, x)
	image := max(p.grid().in(), 1) * p.Channels
	dx, size := make([]float64, nx), make([]float64, nx)
	mean, meanSize := make([]float64, ny), make([]float64, ny)
	dmean, dmeanSize := make([]float64, nx), make([]float64, nx)
	for yi, under := range p.windows() {
		want, from := math.Inf(-1), -1
		for _, xi := range under {
			if v := float64(x[xi]); v > want {
				want, from = v, xi
			}
			n := float64(len(under))
			if p.CountPadding {
				n = float64(p.grid().taps())
			}
			mean[yi] += float64(x[xi]) / n
			meanSize[yi] += math.Abs(float64(x[xi])) / n
			dmean[xi] += float64(dy[yi]) / n
			dmeanSize[xi] += math.Abs(float64(dy[yi])) / n
		}
		place := int32(-1)
		if from >= 0 {
			place = int32(from % image / p.Channels)
			dx[from] += float64(dy[yi])
			size[from] += math.Abs(float64(dy[yi]))
		}
		if float64(y[yi]) != want || arg[yi] != place {
			t.Fatalf("%s: output %d is %v from %d, want %v from %d", name, yi, y[yi], arg[yi], want, place)
		}
	}
	twice := func(v []float64) []float64 {
		d := slices.Clone(v)
		for i := range d {
			d[i] *= 2
		}
		return d
	}
	g := values(nx, 4)
	p.MaxGrad(g, dy, arg, false)
	near(t, name+": maximum: dx", g, dx, size, slack)
	p.MaxGrad(g, dy, arg, true)
	near(t, name+": maximum: dx added", g, twice(dx), twice(size), slack)

	p.Average(y, x)
	near(t, name+": average", y, mean, meanSize, slack)
	p.AverageGrad(g, dy, false)
	near(t, name+": average: dx", g, dmean, dmeanSize, slack)
	p.AverageGrad(g, dy, true)
	near(t, name+": average: dx added", g, twice(dmean), twice(dmeanSize), slack)
}

func TestMaximumKeepsNaN(t *testing.T) {
	defer simd.Use(simd.Current())
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, level := range simd.Levels() {
		simd.Use(level)
		const channels = 21
		p := Pool{Batch: 1, Channels: channels, W: ax(4, 4, 1, 1, 0, 0)}
		x := make([]float32, 4*channels)
		for c := range channels {
			x[c], x[channels+c], x[2*channels+c], x[3*channels+c] = 1, nan, inf, nan
		}
		y, arg := make([]float32, channels), make([]int32, channels)
		p.Max(y, arg, x)
		for c := range y {
			if y[c] == y[c] || arg[c] != 1 {
				t.Fatalf("%v: channel %d: %v from %d, want the NaN from 1", level, c, y[c], arg[c])
			}
		}
	}
}

func TestPoolsAreSteady(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	p := Pool{Batch: 3, Channels: 80, H: ax(20, 3, 2, 1, 1, 1), W: ax(20, 3, 2, 1, 1, 1)}
	x, dy := values(p.InLen(), 1), values(p.OutLen(), 2)
	arg := make([]int32, len(dy))
	out := make([]float32, 2*(len(x)+len(dy)))
	run := func() {
		p.Max(out[:len(dy)], arg, x)
		p.Average(out[len(dy):2*len(dy)], x)
		p.MaxGrad(out[2*len(dy):][:len(x)], dy, arg, false)
		p.AverageGrad(out[2*len(dy)+len(x):], dy, false)
	}
	runtime.GOMAXPROCS(1)
	run()
	want := slices.Clone(out)
	for _, width := range []int{2, 3} {
		runtime.GOMAXPROCS(width)
		run()
		if !slices.Equal(out, want) {
			t.Errorf("%d threads give other bits than one", width)
		}
	}
	for range 20 {
		run()
	}
	if a := testing.AllocsPerRun(20, run); a >= 1 {
		t.Errorf("%v allocations per run", a)
	}
}

func TestPoolMismatchPanics(t *testing.T) {
	p := Pool{Batch: 1, Channels: 1, W: ax(4, 2, 2, 1, 0, 0)}
	for name, f := range map[string]func(){
		"output":  func() { p.Average(make([]float32, 3), make([]float32, 4)) },
		"places":  func() { p.Max(make([]float32, 2), nil, make([]float32, 4)) },
		"shape":   func() { Pool{Batch: 1, W: p.W}.Average(nil, nil) },
		"places'": func() { p.MaxGrad(make([]float32, 4), make([]float32, 2), make([]int32, 1), false) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func ExamplePool() {
	p := Pool{Batch: 1, Channels: 1, W: Axis{Size: 6, Kernel: 2, Stride: 2}}
	x := []float32{3, 1, 4, 1, 5, 9}
	y, arg := make([]float32, p.OutLen()), make([]int32, p.OutLen())
	p.Max(y, arg, x)
	fmt.Println(y, arg)
	p.Average(y, x)
	fmt.Println(y)
	// Output:
	// [3 4 9] [0 2 5]
	// [2 2.5 7]
}

func BenchmarkPool(b *testing.B) {
	p := Pool{Batch: 64, Channels: 32, H: ax(28, 2, 2, 1, 0, 0), W: ax(28, 2, 2, 1, 0, 0)}
	x, y := values(p.InLen(), 1), make([]float32, p.OutLen())
	arg := make([]int32, len(y))
	for name, run := range map[string]func(){
		"max":         func() { p.Max(y, arg, x) },
		"maxgrad":     func() { p.MaxGrad(x, y, arg, false) },
		"average":     func() { p.Average(y, x) },
		"averagegrad": func() { p.AverageGrad(x, y, false) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				run()
			}
			b.ReportMetric(float64(len(x))*float64(b.N)/b.Elapsed().Seconds()/1e9, "Ginputs/s")
		})
	}
}
