package conv

import (
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// depthwise computes every channel from the same channel of what it reads. It
// runs along rows of pixels: vectors of all channels of several pixels at once,
// where these are neighbours on both sides.
type depthwise struct {
	phase
	taps   int       // of the weights
	w      []float32 // [channels, taps]
	repeat int       // copies of a tap's weights in wide
	wide   []float32 // [taps of the walk, repeat·channels]
	y      []float32
	add    bool
	bias   []float32
	act    matmul.Activation
	grain  int // rows of a piece
}

const (
	// wideFloats is the length of vector at which calling a kernel costs little.
	wideFloats = 512

	// rowFloats is about how many results make a piece of work.
	rowFloats = 1 << 14
)

var depthwiseLoop par.Loop[depthwise]

func (c Conv) depthwiseForward(y, x, w, bias []float32, act matmul.Activation) {
	d := depthwise{taps: c.grid().taps(), w: w, y: y, bias: bias, act: act, phase: c.forwardPhase(x)}
	d.run()
}

func (c Conv) depthwiseInput(dx, dy, w, bias []float32, act matmul.Activation, add bool) {
	d := depthwise{taps: c.grid().taps(), w: w, y: dx, add: add, bias: bias, act: act}
	for i := range c.backwardPhases() {
		d.phase = c.backwardPhase(dy, i)
		d.run()
	}
}

func (d depthwise) run() {
	n, taps := d.channels, d.walk.taps()
	long := d.axes[2].count
	d.repeat = min(max(wideFloats/n, 1), long)
	d.grain = max(rowFloats/(long*n), 1)
	d.wide = memory.Default.Dirty(memory.Workspace, taps*d.repeat*n)
	for t := range taps {
		k := d.tapOf(t)
		wide := d.wide[t*d.repeat*n:][:d.repeat*n]
		for c := range n {
			wide[c] = d.w[c*d.taps+k]
		}
		for at := n; at < len(wide); at += n {
			copy(wide[at:], wide[:n])
		}
	}
	depthwiseLoop.Run(par.Pieces(d.positions()/long, d.grain), d, (*depthwise).piece)
	memory.Default.Free(memory.Workspace, d.wide)
}

func (d *depthwise) piece(i int) {
	n, W := d.channels, &d.axes[2]
	lo, hi := par.Bounds(i, d.grain, d.positions()/W.count)
	ldy := d.places[2].stride * n
	for line := lo; line < hi; line++ {
		r := d.rowAt(line*W.count, (line+1)*W.count)
		y := d.y[d.placeOf(r, 0)*n:]
		if !d.add {
			clearRows(y, ldy, W.count, n)
		}
		for t := range d.walk.taps() {
			src, ok := d.line(r, t/W.taps)
			from, to := W.inside(0, W.count, t%W.taps, t%W.taps+1)
			if !ok || from == to {
				continue
			}
			x := d.src[src+W.at(from, t%W.taps)*n:]
			mulAddRows(y[from*ldy:], ldy, x, W.stride*n, d.wide[t*d.repeat*n:][:d.repeat*n], to-from, n)
		}
		finish(y, W.count, n, ldy, d.bias, d.act)
	}
}

// mulAddRows adds to each of count rows of n values the product of a row of x
// and w, which holds a row several times over.
func mulAddRows(y []float32, ldy int, x []float32, ldx int, w []float32, count, n int) {
	if ldy == n && ldx == n {
		for at := 0; at < count*n; at += len(w) {
			simd.MulAddTo(y[at:min(at+len(w), count*n)], x[at:], w)
		}
		return
	}
	for i := range count {
		simd.MulAddTo(y[i*ldy:][:n], x[i*ldx:], w)
	}
}

// depthwiseSum computes the gradient of depthwise weights. Parts of the rows
// have sums of their own, which are added in order.
type depthwiseSum struct {
	walk
	dy     []float32
	repeat int       // sums of a tap side by side, one for each of some pixels
	sums   []float32 // [parts, taps, repeat·channels]
	grain  int       // rows of a part
}

var depthwiseSumLoop par.Loop[depthwiseSum]

func (c Conv) depthwiseWeight(dw, dy, x []float32, add bool) {
	s := depthwiseSum{walk: c.forwardPhase(x).walk, dy: dy}
	long := s.axes[2].count
	lines := s.positions() / long
	n, taps := s.channels, s.taps()
	s.repeat = min(max(wideFloats/n, 1), long)
	s.grain = max(par.Pieces(lines, pieceGoal), rowFloats/(long*n), 1)
	parts := par.Pieces(lines, s.grain)
	s.sums = memory.Default.Floats(memory.Workspace, parts*taps*s.repeat*n)
	depthwiseSumLoop.Run(parts, s, (*depthwiseSum).part)

	sum := s.sums[:taps*s.repeat*n]
	addParts(sum, s.sums[len(sum):])
	for t := range taps {
		wide := sum[t*s.repeat*n:][:s.repeat*n]
		for at := n; at < len(wide); at += n {
			simd.AddTo(wide[:n], wide[at:])
		}
		for c := range n {
			v := wide[c]
			if add {
				v += dw[c*taps+t]
			}
			dw[c*taps+t] = v
		}
	}
	memory.Default.Free(memory.Workspace, s.sums)
}

func (s *depthwiseSum) part(i int) {
	n, W, taps := s.channels, &s.axes[2], s.taps()
	lo, hi := par.Bounds(i, s.grain, s.positions()/W.count)
	for line := lo; line < hi; line++ {
		r := s.rowAt(line*W.count, (line+1)*W.count)
		dy := s.dy[line*W.count*n:][:W.count*n]
		for t := range taps {
			src, ok := s.line(r, t/W.taps)
			from, to := W.inside(0, W.count, t%W.taps, t%W.taps+1)
			if !ok || from == to {
				continue
			}
			sum := s.sums[(i*taps+t)*s.repeat*n:][:s.repeat*n]
			x, dy := s.src[src+W.at(from, t%W.taps)*n:], dy[from*n:to*n]
			if W.stride == 1 {
				for at := 0; at < len(dy); at += len(sum) {
					part := dy[at:min(at+len(sum), len(dy))]
					simd.MulAddTo(sum[:len(part)], part, x[at:])
				}
				continue
			}
			for p := range to - from {
				simd.MulAddTo(sum[:n], dy[p*n:], x[p*W.stride*n:])
			}
		}
	}
}
