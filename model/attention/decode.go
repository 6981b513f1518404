package attention

import (
	"math"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// Decoding asks few queries about many keys. Queries are then too few to be
// vector lanes, and what counts is to read each key and value once: all query
// heads of a group run together over a range of keys, ranges run in parallel,
// and their results are combined at the end.

const (
	decodeQueries = 8   // up to so many queries, this path is the faster one
	decodeKeys    = 512 // keys in a range
)

type decodeArgs struct {
	forwardArgs
	ranges int
	part   []float32 // [B, Hkv, ranges, rows, E+2]: output, maximum and sum of each query in each range
}

// rows is the number of queries that share a key-value head.
func (f *decodeArgs) rows() int { return f.group() * f.Queries }

var (
	decodeLoop  par.Loop[decodeArgs]
	combineLoop par.Loop[decodeArgs]
)

func decode(a forwardArgs) {
	f := decodeArgs{forwardArgs: a, ranges: par.Pieces(a.Keys, decodeKeys)}
	heads := f.Batch * f.KVHeads
	f.part = memory.Default.Dirty(memory.Workspace, heads*f.ranges*f.rows()*(f.Dim+2))
	defer memory.Default.Free(memory.Workspace, f.part)
	decodeLoop.Run(heads*f.ranges, f, decodeRange)
	combineLoop.Run(heads, f, decodeCombine)
}

// decodeRange attends to one range of keys of one key-value head.
func decodeRange(f *decodeArgs, i int) {
	e, rows, t := f.Dim, f.rows(), f.Queries
	b, kv, c := i/f.ranges/f.KVHeads, i/f.ranges%f.KVHeads, i%f.ranges
	k0, k1 := c*decodeKeys, min((c+1)*decodeKeys, f.Keys)
	out := f.part[i*rows*(e+2):][:rows*(e+2)]

	buf := memory.Default.Dirty(memory.Workspace, rows*(e+decodeKeys))
	defer memory.Default.Free(memory.Workspace, buf)
	q, s := buf[:rows*e], buf[rows*e:] // [rows][E], queries times scale; [rows][decodeKeys]
	for r := range rows {
		x := q[r*e:][:e]
		copy(x, f.Q.at(b, r%t, kv*f.group()+r/t, e))
		simd.Scale(x, f.Scale)
	}

	var st Stats
	var seen [decodeKeys / tileK]bool
	for n := range seen {
		lo, hi := k0+n*tileK, min(k0+(n+1)*tileK, k1)
		if lo >= hi {
			break
		}
		if seen[n] = f.decodeScores(s[n*tileK:], q, b, kv, lo, hi); seen[n] {
			st.Tiles++
			st.MatmulFLOPs += int64(4 * rows * e * (hi - lo))
			st.OtherFLOPs += int64(4 * rows * (hi - lo))
			st.Bytes += 4 * int64(2*e*(hi-lo))
		} else {
			st.Skipped++
		}
	}
	for r := range rows {
		x := s[r*decodeKeys:][:k1-k0]
		m := simd.Max(x)
		out[rows*e+r] = m
		out[rows*(e+1)+r] = simd.ExpSum(x, x, m)
	}
	clear(out[:rows*e])
	for n := 0; n < len(seen); { // runs of blocks that somebody sees
		if !seen[n] {
			n++
			continue
		}
		from := n
		for n < len(seen) && seen[n] {
			n++
		}
		lo, hi := from*tileK, min(n*tileK, k1-k0)
		simd.TileMul(rows, e, hi-lo, s[lo:], decodeKeys, 1, f.V.at(b, k0+lo, kv, e), f.V.Row, out, e, true, nil)
	}
	if f.Stats != nil {
		st.Bytes += 4 * int64(rows*e)
		f.Stats.add(&st)
	}
}

// decodeScores sets s [rows][decodeKeys] to the scores of keys [lo, hi) and
// reports whether any query sees any of them.
func (f *decodeArgs) decodeScores(s, q []float32, b, kv, lo, hi int) bool {
	t, rows, e := f.Queries, f.rows(), f.Dim
	first := kv * f.group()
	any := false
	for g := range f.group() {
		any = any || f.Mask.Tile(b, first+g, f.Offset, f.Offset+t, lo, hi) != Skip
	}
	if !any {
		for r := range rows {
			fill(s[r*decodeKeys:][:hi-lo], simd.Hidden)
		}
		return false
	}
	simd.TileDot(rows, hi-lo, e, q, e, f.K.at(b, lo, kv, e), f.K.Row, s, decodeKeys)
	for g := range f.group() {
		if f.Mask.Tile(b, first+g, f.Offset, f.Offset+t, lo, hi) == Whole {
			continue
		}
		for i := range t {
			row := s[(g*t+i)*decodeKeys:][:hi-lo]
			for at := lo; at < hi; {
				from, to := f.Mask.Run(b, first+g, f.Offset+i, at)
				if from >= to {
					from, to = hi, hi
				}
				fill(row[at-lo:max(at, min(from, hi))-lo], simd.Hidden)
				at = to
			}
		}
	}
	return true
}

// decodeCombine puts the ranges of one key-value head together.
func decodeCombine(f *decodeArgs, i int) {
	e, rows, t := f.Dim, f.rows(), f.Queries
	b, kv := i/f.KVHeads, i%f.KVHeads
	size := rows * (e + 2)
	part := f.part[i*f.ranges*size:][:f.ranges*size]
	for r := range rows {
		h, at := kv*f.group()+r/t, r%t
		o := f.o.at(b, at, h, e)[:e]
		clear(o)
		m, l := float32(simd.Hidden), 0.0
		for c := range f.ranges {
			m = max(m, part[c*size+rows*e+r])
		}
		lse := float32(math.Inf(-1))
		if m > simd.Hidden/2 {
			for c := range f.ranges {
				w := math.Exp(float64(part[c*size+rows*e+r] - m))
				l += w * float64(part[c*size+rows*(e+1)+r])
				simd.Axpy(float32(w), part[c*size+r*e:][:e], o)
			}
			simd.Scale(o, float32(1/l))
			lse = m + float32(math.Log(l))
		}
		if f.lse != nil {
			f.lse[(b*f.Heads+h)*t+at] = lse
		}
	}
}
