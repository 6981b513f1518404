package conv

import (
	"fmt"
	"math"

	"hasten/engine/par"
	"hasten/engine/simd"
)

// Pool is the shape of a pooling: every output is the maximum or the average of
// a window of one channel.
//
//	x, dx:       [Batch, D, H, W, Channels]
//	y, dy, arg:  [Batch, D.Out(), H.Out(), W.Out(), Channels]
//
// The kernel of an axis is the window's size and its stride the distance
// between windows, 1 where left 0. What lies outside the input takes no part;
// see CountPadding. Methods panic when the shape is impossible or a slice does
// not have the length that follows from it; Check finds the former as an error.
type Pool struct {
	Batch    int
	D, H, W  Axis
	Channels int

	// CountPadding makes an average divide by the size of the window, as if
	// the input were extended by zeros, rather than by the number of inputs it
	// covers.
	CountPadding bool
}

// Whole is the axis whose one window is all of it, as a global average needs.
func Whole(size int) Axis { return Axis{Size: size, Kernel: size} }

// Check tells what is impossible about the shape, if anything.
func (p Pool) Check() error {
	if p.Batch < 0 || p.Channels < 1 {
		return fmt.Errorf("conv: a pool of batch %d and %d channels", p.Batch, p.Channels)
	}
	return p.grid().check()
}

// InLen is the number of elements of x.
func (p Pool) InLen() int { return p.Batch * p.grid().in() * p.Channels }

// OutLen is the number of elements of y.
func (p Pool) OutLen() int { return p.Batch * p.grid().out() * p.Channels }

func (p Pool) grid() grid { return gridOf(p.D, p.H, p.W) }

func (p Pool) must(name string, x, y []float32) {
	if err := p.Check(); err != nil {
		panic(err.Error())
	}
	if len(x) != p.InLen() || len(y) != p.OutLen() {
		panic(fmt.Sprintf("conv: %s of %+v: input %d, want %d; output %d, want %d", name, p, len(x), p.InLen(), len(y), p.OutLen()))
	}
}

// Max computes the maximum of every window. arg receives the place of each in
// its image, (d·H+h)·W+w: the first where several are equal, and -1 where the
// window covers no input above −∞. A NaN under the window is its maximum.
func (p Pool) Max(y []float32, arg []int32, x []float32) {
	p.must("Max", x, y)
	if len(arg) != len(y) {
		panic(fmt.Sprintf("conv: Max: %d places for %d outputs", len(arg), len(y)))
	}
	g := p.pooling(x, y)
	g.arg = arg
	maxLoop.Run(par.Pieces(g.rows(), g.grain), g, func(g *pooling, i int) {
		lo, hi := par.Bounds(i, g.grain, g.rows())
		for ; lo < hi; lo++ {
			g.maxRow(lo)
		}
	})
}

// MaxGrad gives the gradient of every maximum to the input it came from; arg is
// as Max left it. What dx holds is replaced, or added to.
func (p Pool) MaxGrad(dx, dy []float32, arg []int32, add bool) {
	p.must("MaxGrad", dx, dy)
	if len(arg) != len(dy) {
		panic(fmt.Sprintf("conv: MaxGrad: %d places for %d outputs", len(arg), len(dy)))
	}
	g := p.pooling(dx, dy)
	g.arg, g.add = arg, add
	maxGradLoop.Run(g.blocks(), g, (*pooling).maxGrad)
}

// Average computes the mean of every window; 0 if it covers no input.
func (p Pool) Average(y, x []float32) {
	p.must("Average", x, y)
	g := p.pooling(x, y)
	averageLoop.Run(par.Pieces(g.rows(), g.grain), g, func(g *pooling, i int) {
		lo, hi := par.Bounds(i, g.grain, g.rows())
		for ; lo < hi; lo++ {
			g.averageRow(lo)
		}
	})
}

// AverageGrad gives the gradient of every mean to the inputs it covers. What dx
// holds is replaced, or added to.
func (p Pool) AverageGrad(dx, dy []float32, add bool) {
	p.must("AverageGrad", dx, dy)
	g := p.pooling(dx, dy)
	g.add = add
	averageGradLoop.Run(g.blocks(), g, (*pooling).averageGrad)
}

// pooling is a pool under way. Forward, its pieces are some rows of outputs.
// Backward, where windows of neighbouring rows add to the same inputs, they are
// some channels of an image.
type pooling struct {
	walk
	x, y    []float32 // or dx and dy
	arg     []int32
	add     bool
	grain   int // rows of a piece
	divisor int // of an average; 0 for the number of inputs covered
}

var maxLoop, maxGradLoop, averageLoop, averageGradLoop par.Loop[pooling]

// blockChannels is how many channels make a piece of a gradient.
const blockChannels = 64

func (p Pool) pooling(x, y []float32) pooling {
	g := pooling{walk: walk{batch: p.Batch, src: x, channels: p.Channels}, x: x, y: y}
	for i, a := range p.grid() {
		g.axes[i] = a.forwardWindow()
	}
	g.grain = max(1, rowFloats/(g.axes[2].count*g.taps()*p.Channels))
	if p.CountPadding {
		g.divisor = g.taps()
	}
	return g
}

// rows is the number of rows of outputs, those of one line along the last axis.
func (g *pooling) rows() int { return g.positions() / g.axes[2].count }

// row is row i.
func (g *pooling) row(i int) row {
	n := g.axes[2].count
	return g.rowAt(i*n, (i+1)*n)
}

// image is the number of places of an image of the input.
func (g *pooling) image() int { return g.axes[0].size * g.axes[1].size * g.axes[2].size }

func (g *pooling) maxRow(i int) {
	n, W := g.channels, &g.axes[2]
	y, arg := g.y[i*W.count*n:][:W.count*n], g.arg[i*W.count*n:][:W.count*n]
	for j := range y {
		y[j], arg[j] = float32(math.Inf(-1)), -1
	}
	r := g.row(i)
	for t := range g.taps() {
		line, ok := g.line(r, t/W.taps)
		if !ok {
			continue
		}
		from, to := W.inside(0, W.count, t%W.taps, t%W.taps+1)
		for p := from; p < to; p++ {
			at := line + W.at(p, t%W.taps)*n
			maxTo(y[p*n:][:n], arg[p*n:][:n], g.x[at:][:n], int32(at/n-r.b*g.image()))
		}
	}
}

// maxTo takes each element of x that is above that of y to y, and place to arg.
func maxTo(y []float32, arg []int32, x []float32, place int32) {
	for i := maxKernel(y, arg, x, place); i < len(y); i++ {
		if v := x[i]; v > y[i] || v != v && y[i] == y[i] {
			y[i], arg[i] = v, place
		}
	}
}

// blocks is the number of pieces of a gradient.
func (g *pooling) blocks() int { return g.batch * par.Pieces(g.channels, blockChannels) }

// block is the image and the channels of piece i of a gradient, whose dx it
// clears unless it is to be added to.
func (g *pooling) block(i int) (b, lo, hi int) {
	per := par.Pieces(g.channels, blockChannels)
	b = i / per
	lo, hi = par.Bounds(i%per, blockChannels, g.channels)
	if !g.add {
		clearRows(g.x[b*g.image()*g.channels+lo:], g.channels, g.image(), hi-lo)
	}
	return b, lo, hi
}

func (g *pooling) maxGrad(i int) {
	b, lo, hi := g.block(i)
	n := g.channels
	dx := g.x[b*g.image()*n:][:g.image()*n]
	out := g.positions() / g.batch * n
	for at := b * out; at < (b+1)*out; at += n {
		for c := lo; c < hi; c++ {
			if place := g.arg[at+c]; place >= 0 {
				dx[int(place)*n+c] += g.y[at+c]
			}
		}
	}
}

func (g *pooling) averageRow(i int) {
	n, W := g.channels, &g.axes[2]
	y := g.y[i*W.count*n:][:W.count*n]
	clear(y)
	r := g.row(i)
	for t := range g.taps() {
		line, ok := g.line(r, t/W.taps)
		if !ok {
			continue
		}
		from, to := W.inside(0, W.count, t%W.taps, t%W.taps+1)
		for p := from; p < to; p++ {
			simd.AddTo(y[p*n:][:n], g.x[line+W.at(p, t%W.taps)*n:])
		}
	}
	for p := range W.count {
		simd.Scale(y[p*n:][:n], g.share(r, p))
	}
}

func (g *pooling) averageGrad(i int) {
	b, lo, hi := g.block(i)
	n, W := g.channels, &g.axes[2]
	rows := g.rows() / g.batch
	for i := b * rows; i < (b+1)*rows; i++ {
		r := g.row(i)
		for t := range g.taps() {
			line, ok := g.line(r, t/W.taps)
			if !ok {
				continue
			}
			from, to := W.inside(0, W.count, t%W.taps, t%W.taps+1)
			for p := from; p < to; p++ {
				dx := g.x[line+W.at(p, t%W.taps)*n:]
				simd.Axpy(g.share(r, p), g.y[(i*W.count+p)*n+lo:], dx[lo:hi])
			}
		}
	}
}

// share is the part that an input has in the mean at position p of row r.
func (g *pooling) share(r row, p int) float32 {
	n := g.divisor
	if n == 0 {
		n = g.axes[0].covered(r.d) * g.axes[1].covered(r.h) * g.axes[2].covered(p)
	}
	return 1 / float32(max(n, 1))
}

// covered is the number of taps that read inside the source at position t.
func (w *window) covered(t int) (n int) {
	for k := range w.taps {
		if at := w.at(t, k); at >= 0 && at < w.size {
			n++
		}
	}
	return n
}
