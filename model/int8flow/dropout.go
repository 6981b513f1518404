package int8flow

import (
	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/rng"
)

// Dropout sets each element to 0 with probability p in [0, 1), and divides the
// others by 1-p. Codes are kept or cleared and scales divided, so nothing is
// rounded. With p = 0 it returns x.
func Dropout(t *grad.Tape, x Value, p float64) Value {
	if p < 0 || p >= 1 {
		mismatch("Dropout", x, "probability", p)
	}
	if p == 0 {
		return x
	}
	y := newValue(t, x.Rows, x.Cols)
	tiles := tilesIn(x.Rows, x.Cols)
	s := size{rows: x.Rows, in: x.Cols, out: x.Cols, more: tiles}
	s.draws = reserve(t, tiles*(tileBlocks+1)) // for the elements, then for rounding
	if n := t.Record(y.Var, dropoutBack, x.Var); n != nil {
		s.keep(n)
		n.Floats[0] = float32(p)
	}
	drop(y.Tiles(), x.Tiles(), s.draws, float32(p))
	return y
}

// tileBlocks is the number of blocks of draws that the elements of a tile take.
const tileBlocks = side * side / 4

func dropoutBack(n *grad.Node) {
	s := sizeOf(n)
	dx, fresh := s.dx(n)
	switch {
	case dx.Codes == nil:
	case fresh:
		drop(dx, s.dy(n), s.draws, n.Floats[0])
	default:
		slots := n.Tape.Arena.Dirty(memory.Workspace, n.In[0].Len())
		d := matmul.TilesOf(s.rows, s.in, slots)
		drop(d, s.dy(n), s.draws, n.Floats[0])
		s.draws.Offset += uint64(4 * tileBlocks * s.more)
		addTo(dx, d, s.rounding())
		n.Tape.Arena.Free(memory.Workspace, slots)
	}
}

type dropArgs struct {
	to, from matmul.Tiles
	draws    rng.Stream
	p        float32
}

var dropLoop par.Loop[dropArgs]

// drop sets to to the elements of from that the draws let through, over 1-p.
func drop(to, from matmul.Tiles, draws rng.Stream, p float32) {
	dropLoop.Run(len(to.Scales), dropArgs{to, from, draws, p}, func(a *dropArgs, i int) {
		limit := uint64(float64(a.p) * (1 << 32))
		a.to.Scales[i] = a.from.Scales[i] / (1 - a.p)
		block := a.draws.Offset/4 + uint64(i)*tileBlocks
		const area = side * side
		to, from := a.to.Codes[i*area:][:area], a.from.Codes[i*area:][:area]
		for j := 0; j < area; j += 4 {
			for k, draw := range a.draws.Block(block + uint64(j/4)) {
				to[j+k] = 0
				if uint64(draw) >= limit {
					to[j+k] = from[j+k]
				}
			}
		}
	})
}
