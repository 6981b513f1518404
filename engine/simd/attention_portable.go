package simd

import "unsafe"

var portableTile = tileKernels{
	mul:       tileMulGo,
	dot:       tileDotGo,
	softmax:   tileSoftmaxGo,
	grad:      tileGradGo,
	transpose: tileTransposeGo,
}

func tileMulGo(m, n, k int, a *float32, am, ak int, b *float32, bs int, c *float32, cs, add int, scale *float32) {
	av := unsafe.Slice(a, (m-1)*am+(k-1)*ak+1)
	bv := unsafe.Slice(b, (k-1)*bs+n)
	cv := unsafe.Slice(c, (m-1)*cs+n)
	for i := range m {
		row := cv[i*cs:][:n]
		switch {
		case add == 0:
			clear(row)
		case scale != nil:
			for j, f := range unsafe.Slice(scale, n) {
				row[j] *= f
			}
		}
		for p := range k {
			x := av[i*am+p*ak]
			for j, y := range bv[p*bs:][:n] {
				row[j] += x * y
			}
		}
	}
}

func tileDotGo(m, n, k int, a *float32, as int, b *float32, bs int, c *float32, cs int) {
	av := unsafe.Slice(a, (m-1)*as+k)
	bv := unsafe.Slice(b, (n-1)*bs+k)
	cv := unsafe.Slice(c, (m-1)*cs+n)
	for i := range m {
		x := av[i*as:][:k]
		for j := range n {
			var sum float32
			for p, y := range bv[j*bs:][:k] {
				sum += x[p] * y
			}
			cv[i*cs+j] = sum
		}
	}
}

type laneVec = [Lanes]float32

func laneOf(p *float32) *laneVec { return (*laneVec)(unsafe.Pointer(p)) }

func tileSoftmaxGo(s *float32, stride, from, to int, lo, hi, m, l, corr *float32) {
	sv := unsafe.Slice(s, (to-1)*stride+Lanes)
	mv, lv, cv := laneOf(m), laneOf(l), laneOf(corr)
	if lo != nil {
		hide(sv, stride, from, to, laneOf(lo), laneOf(hi), Hidden)
	}
	top := *mv
	for j := from; j < to; j++ {
		for i, x := range sv[j*stride:][:Lanes] {
			top[i] = max(top[i], x)
		}
	}
	for i := range top {
		cv[i] = exp2(mv[i] - top[i])
		lv[i] *= cv[i]
	}
	*mv = top
	for j := from; j < to; j++ {
		row := sv[j*stride:][:Lanes]
		for i, x := range row {
			row[i] = exp2(x - top[i])
			lv[i] += row[i]
		}
	}
}

func tileGradGo(s, dp *float32, stride, from, to int, lo, hi, lse, delta *float32) {
	n := (to-1)*stride + Lanes
	sv, dv := unsafe.Slice(s, n), unsafe.Slice(dp, n)
	ev, av := laneOf(lse), laneOf(delta)
	for j := from; j < to; j++ {
		p, d := sv[j*stride:][:Lanes], dv[j*stride:][:Lanes]
		for i := range Lanes {
			p[i] = exp2(p[i] - ev[i])
			d[i] = p[i] * (d[i] - av[i])
		}
	}
	if lo != nil {
		hide(sv, stride, from, to, laneOf(lo), laneOf(hi), 0)
		hide(dv, stride, from, to, laneOf(lo), laneOf(hi), 0)
	}
}

// hide sets the rows outside [lo, hi) of each lane to v.
func hide(s []float32, stride, from, to int, lo, hi *laneVec, v float32) {
	for j := from; j < to; j++ {
		row := s[j*stride:][:Lanes]
		for i := range row {
			if float32(j) < lo[i] || float32(j) >= hi[i] {
				row[i] = v
			}
		}
	}
}

func tileTransposeGo(dst *float32, ds int, src *float32, ss, rows, cols int, f *float32, add int) {
	dv := unsafe.Slice(dst, (cols-1)*ds+rows)
	sv := unsafe.Slice(src, (rows-1)*ss+cols)
	for c, g := range unsafe.Slice(f, cols) {
		out := dv[c*ds:][:rows]
		for r := range out {
			x := g * sv[r*ss+c]
			if add != 0 {
				x += out[r]
			}
			out[r] = x
		}
	}
}
