package conv

import "hasten/engine/simd"

// window is how positions along one axis read a source: position t reads the
// source at t·stride + base + k·step for k in [0, taps), where places outside
// [0, size) read zero. step is positive.
type window struct {
	count, taps        int
	stride, base, step int
	size               int
}

// at is the source place of tap k at position t.
func (w *window) at(t, k int) int { return t*w.stride + w.base + k*w.step }

// inside is the range of positions in [lo, hi) at which taps a … b-1 all read
// inside the source. It is empty at lo when there are none.
func (w *window) inside(lo, hi, a, b int) (from, to int) {
	from, to = lo, hi
	if low := w.at(0, a); low < 0 {
		from = max(from, (-low+w.stride-1)/w.stride)
	}
	room := w.size - 1 - w.at(0, b-1)
	if room < 0 {
		return lo, lo
	}
	to = min(to, room/w.stride+1)
	if from >= to {
		return lo, lo
	}
	return from, to
}

// forwardWindow reads the input for the positions of the output.
func (a Axis) forwardWindow() window {
	return window{count: a.Out(), taps: a.Kernel, stride: a.Stride, base: -a.Before, step: a.Dilation, size: a.Size}
}

// subset is every by-th tap of a kernel, n of them from the first.
type subset struct{ first, by, n int }

// backwards is the t-th tap of the subset from its last.
func (s subset) backwards(t int) int { return s.first + (s.n-1-t)*s.by }

// backwardWindow reads the output's gradient for the input positions r, r+Stride,
// r+2·Stride, …. Tap k of the kernel takes input i to the output at
// (i + Before - k·Dilation)/Stride where that is whole, which for these
// positions is so for one subset of the taps. The window's taps are that
// subset from its last to its first.
func (a Axis) backwardWindow(r int) (window, subset) {
	w := window{count: (a.Size - r + a.Stride - 1) / a.Stride, stride: 1, size: a.Out()}
	s := subset{by: a.Stride / gcd(a.Stride, a.Dilation)}
	for s.first < a.Kernel && (r+a.Before-s.first*a.Dilation)%a.Stride != 0 {
		if s.first++; s.first == s.by {
			s.first = a.Kernel // no tap meets these positions
		}
	}
	s.n = (a.Kernel - s.first + s.by - 1) / s.by
	w.taps = s.n
	w.step = s.by * a.Dilation / a.Stride
	w.base = (r + a.Before - s.backwards(0)*a.Dilation) / a.Stride
	return w, s
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// walk visits the positions of a batch of grids, and gathers what each reads.
type walk struct {
	batch    int
	axes     [3]window
	src      []float32 // [batch, sizes, channels]
	channels int
	group    int // channels of one group
}

func (w *walk) positions() int {
	return w.batch * w.axes[0].count * w.axes[1].count * w.axes[2].count
}

func (w *walk) taps() int { return w.axes[0].taps * w.axes[1].taps * w.axes[2].taps }

// row is a run of positions that differ only along the last axis.
type row struct {
	b, d, h  int
	from, to int // along the last axis
}

// rowAt is the row that begins at position p and ends before position end.
func (w *walk) rowAt(p, end int) row {
	d, h, x := w.axes[0].count, w.axes[1].count, w.axes[2].count
	line := p / x
	from := p - line*x
	return row{b: line / h / d, d: line / h % d, h: line % h, from: from, to: min(x, from+end-p)}
}

// line is the source offset of what tap line l, one of the taps along the
// first two axes, reads for a row; false if that is all padding.
func (w *walk) line(r row, l int) (offset int, ok bool) {
	D, H := &w.axes[0], &w.axes[1]
	d, h := D.at(r.d, l/H.taps), H.at(r.h, l%H.taps)
	if d < 0 || d >= D.size || h < 0 || h >= H.size {
		return 0, false
	}
	return ((r.b*D.size+d)*H.size + h) * w.axes[2].size * w.channels, true
}

// phase is a walk over all places of a result, or, going backward through a
// strided convolution, over those of one residue, and where they lie.
type phase struct {
	walk
	backward bool
	kernel   [3]int    // all taps of the weights
	subsets  [3]subset // the walk's taps among them, when backward
	places   [3]place
	spread   bool // places are not simply the positions, in order
}

// place puts position t of an axis at t·stride + first of size.
type place struct{ first, stride, size int }

func (a place) of(t int) int { return t*a.stride + a.first }

// forwardPhase walks over y and reads x.
func (c Conv) forwardPhase(x []float32) phase {
	p := phase{walk: walk{batch: c.Batch, src: x, channels: c.In, group: c.In / c.Groups}}
	for i, a := range c.grid() {
		p.axes[i] = a.forwardWindow()
		p.places[i] = place{0, 1, a.Out()}
	}
	return p
}

// backwardPhases is the number of sets of places of x that each meet their own
// subset of the taps: those with the same remainders by the strides.
func (c Conv) backwardPhases() int {
	n := 1
	for _, a := range c.grid() {
		n *= min(a.Stride, a.Size)
	}
	return n
}

// backwardPhase walks over set i of the places of x and reads dy.
func (c Conv) backwardPhase(dy []float32, i int) phase {
	p := phase{walk: walk{batch: c.Batch, src: dy, channels: c.Out, group: c.Out / c.Groups}, backward: true}
	for k, a := range c.grid() {
		n := min(a.Stride, a.Size)
		p.axes[k], p.subsets[k] = a.backwardWindow(i % n)
		p.places[k] = place{i % n, a.Stride, a.Size}
		p.kernel[k] = a.Kernel
		p.spread = p.spread || a.Stride > 1
		i /= n
	}
	return p
}

// tapOf is the tap of the weights that tap t of the walk stands for.
func (p *phase) tapOf(t int) int {
	if !p.backward {
		return t
	}
	h, w := p.axes[1].taps, p.axes[2].taps
	d := p.subsets[0].backwards(t / w / h)
	return (d*p.kernel[1]+p.subsets[1].backwards(t/w%h))*p.kernel[2] + p.subsets[2].backwards(t%w)
}

// placeOf is the place of position t of a row.
func (p *phase) placeOf(r row, t int) int {
	D, H, W := &p.places[0], &p.places[1], &p.places[2]
	return ((r.b*D.size+D.of(r.d))*H.size+H.of(r.h))*W.size + W.of(t)
}

// gather writes what positions lo … hi-1 read through taps t0 … t1-1 in the
// group whose channels begin at first: row i of the panel, ld long, is
// [t1-t0, group] for position lo+i.
func (w *walk) gather(panel []float32, ld, lo, hi, t0, t1, first int) {
	wide := w.axes[2].taps
	for p := lo; p < hi; {
		r := w.rowAt(p, hi)
		for l := t0 / wide; l*wide < t1; l++ {
			a, b := max(t0-l*wide, 0), min(t1-l*wide, wide)
			dst := panel[(p-lo)*ld+(l*wide+a-t0)*w.group:]
			if line, ok := w.line(r, l); ok {
				w.gatherLine(dst, ld, r, line+first, a, b)
			} else {
				clearRows(dst, ld, r.to-r.from, (b-a)*w.group)
			}
		}
		p += r.to - r.from
	}
}

// gatherLine does one row and taps a … b-1 of one tap line. Where taps are
// neighbours in the source they are copied together, save at the borders.
func (w *walk) gatherLine(dst []float32, ld int, r row, line, a, b int) {
	x := &w.axes[2]
	if x.step != 1 || w.group != w.channels || b-a == 1 {
		w.gatherTaps(dst, ld, r.from, r.from, r.to, line, a, b)
		return
	}
	from, to := x.inside(r.from, r.to, a, b)
	w.gatherTaps(dst, ld, r.from, r.from, from, line, a, b)
	if from < to {
		copyRows(dst[(from-r.from)*ld:], ld, w.src[line+x.at(from, a)*w.channels:], x.stride*w.channels, to-from, (b-a)*w.group)
	}
	w.gatherTaps(dst, ld, r.from, to, r.to, line, a, b)
}

// gatherTaps does positions lo … hi-1 tap by tap; dst belongs to position origin.
func (w *walk) gatherTaps(dst []float32, ld, origin, lo, hi, line, a, b int) {
	if lo >= hi {
		return
	}
	x := &w.axes[2]
	for t := a; t < b; t++ {
		from, to := x.inside(lo, hi, t, t+1)
		col := dst[(lo-origin)*ld+(t-a)*w.group:]
		clearRows(col, ld, from-lo, w.group)
		if from < to {
			copyRows(col[(from-lo)*ld:], ld, w.src[line+x.at(from, t)*w.channels:], x.stride*w.channels, to-from, w.group)
		}
		if to < hi {
			clearRows(col[(to-lo)*ld:], ld, hi-to, w.group)
		}
	}
}

// gatherAcross is gather with the panel turned: it has a row, ld long, for
// every tap and channel, and a column for every position. With few
// channels this has the longer runs.
func (w *walk) gatherAcross(panel []float32, ld, lo, hi, t0, t1, first int) {
	x := &w.axes[2]
	step := x.stride * w.channels
	for p := lo; p < hi; {
		r := w.rowAt(p, hi)
		for t := t0; t < t1; t++ {
			line, ok := w.line(r, t/x.taps)
			from, to := r.from, r.from
			if ok {
				from, to = x.inside(r.from, r.to, t%x.taps, t%x.taps+1)
			}
			for c := range w.group {
				dst := panel[((t-t0)*w.group+c)*ld+p-lo:][:r.to-r.from]
				clear(dst[:from-r.from])
				clear(dst[to-r.from:])
				dst = dst[from-r.from : to-r.from]
				if len(dst) == 0 {
					continue
				}
				src := w.src[line+first+x.at(from, t%x.taps)*w.channels+c:]
				if step == 1 {
					copy(dst, src)
					continue
				}
				for i := range dst {
					dst[i] = src[i*step]
				}
			}
		}
		p += r.to - r.from
	}
}

// copyRows copies n rows of width values.
func copyRows(dst []float32, ldd int, src []float32, lds, n, width int) {
	if width%16 == 0 { // the kernel fills rows up to this
		simd.GemmF32.Along(n, width, src, lds, dst, ldd)
		return
	}
	for i := range n {
		copy(dst[i*ldd:][:width], src[i*lds:])
	}
}

// clearRows clears n rows of width values.
func clearRows(dst []float32, ld, n, width int) {
	for i := range n {
		clear(dst[i*ld:][:width])
	}
}
