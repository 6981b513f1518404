package conv

import (
	"hasten/engine/memory"
	"hasten/engine/simd"
)

// panels gathers the panels of a forward or backward product, one at a time, in
// the form its kernel reads as matrix A.
type panels struct {
	*walk
	gemm        *simd.Gemm
	round       bool
	chunk, rows int
	across      bool      // gather columns, which suits few channels
	values      []float32 // the panel in float32, [rows, ld], or [ld, rows] with across
	units       []float32 // [rows, ldu], where the kernel's units are pairs
	ld, ldu     int
}

func newPanels(w *walk, g *simd.Gemm, round bool, chunk, rows int) panels {
	p := panels{walk: w, gemm: g, round: round, chunk: chunk, rows: rows, across: w.group < fewChannels && g.Per == 1}
	p.ld = oddLines(chunk * w.group)
	p.values = memory.Default.Dirty(memory.Workspace, rows*p.ld)
	if g.Per > 1 {
		p.ldu = oddLines(chunk * w.group / g.Per)
		p.units = memory.Default.Dirty(memory.Workspace, rows*p.ldu)
	}
	return p
}

func (p *panels) free() {
	memory.Default.Free(memory.Workspace, p.values)
	if p.units != nil {
		memory.Default.Free(memory.Workspace, p.units)
	}
}

// get gathers what positions lo … hi-1 read through chunk k of the taps in
// group g. Unit j of position lo+i is a[i·rsa+j·csa], j < depth.
func (p *panels) get(lo, hi, k, g int) (a []float32, rsa, csa, depth int) {
	t0, t1 := k*p.chunk, min((k+1)*p.chunk, p.taps())
	n := (t1 - t0) * p.group
	if p.across {
		p.gatherAcross(p.values, p.rows, lo, hi, t0, t1, g*p.group)
		p.roundTo(n * p.rows)
		return p.values, 1, p.rows, n
	}
	p.gather(p.values, p.ld, lo, hi, t0, t1, g*p.group)
	if p.gemm.Per == 1 {
		p.roundTo(p.ld * (hi - lo))
		return p.values, p.ld, 1, n
	}
	p.gemm.Along(hi-lo, n, p.values, p.ld, p.units, p.ldu)
	return p.units, p.ldu, 1, n / p.gemm.Per
}

func (p *panels) roundTo(n int) {
	if p.round {
		simd.RoundBF16(p.values[:n], p.values[:n])
	}
}

// oddLines is n rounded up to an odd number of cache lines: rows a power of two
// apart would drive each other out of the cache.
func oddLines(n int) int { return roundUp(n, 16) | 16 }

func roundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }
