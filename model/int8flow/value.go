package int8flow

import (
	"fmt"

	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/rng"
	"hasten/engine/tensor"
)

// Value is a matrix in tiles of int8 on a tape. Its Var is opaque: Data, and in
// the backward pass Grad, are the slots that the tiles lie in. Only operations of
// this package may read it; Tape.Forget and Tape.Checkpoint work as ever.
type Value struct {
	Var        *grad.Var
	Rows, Cols int
}

// Tiles is what the value holds.
func (v Value) Tiles() matmul.Tiles { return matmul.TilesOf(v.Rows, v.Cols, v.Var.Data) }

func newValue(t *grad.Tape, rows, cols int) Value {
	return Value{t.New(tensor.Of(matmul.TilesLen(rows, cols))), rows, cols}
}

// side is that of a tile: the rows of a strip.
const side = 32

// size is the sizes and the random stream that an operation keeps in the Ints
// of its node: rows, two numbers of columns, a number of its own, the stream.
type size struct {
	rows, in, out, more int
	draws               rng.Stream
}

// reserve takes draws for rounding n tiles from the tape's stream.
func reserve(t *grad.Tape, n int) rng.Stream {
	t.Rand.Offset = (t.Rand.Offset + 3) &^ 3 // a tile takes a block of four
	s := t.Rand
	t.Rand.Offset += 4 * uint64(n)
	return s
}

func tilesIn(rows, cols int) int { return par.Pieces(rows, side) * par.Pieces(cols, side) }

func (s *size) keep(n *grad.Node) {
	n.Ints = [8]int{s.rows, s.in, s.out, s.more, int(s.draws.Seed), int(s.draws.ID), int(s.draws.Offset)}
}

func sizeOf(n *grad.Node) size {
	i := &n.Ints
	return size{i[0], i[1], i[2], i[3], rng.Stream{Seed: uint64(i[4]), ID: uint64(i[5]), Offset: uint64(i[6])}}
}

func (s *size) rounding() matmul.Rounding {
	return matmul.Rounding{Stochastic: true, Draws: s.draws}
}

// x is the input of a row-wise operation, y its output, as tiles; dx and dy are
// their gradients. dx is nil where it is not wanted, and to be added to unless
// fresh.
func (s *size) x(n *grad.Node) matmul.Tiles { return matmul.TilesOf(s.rows, s.in, n.In[0].Data) }
func (s *size) y(n *grad.Node) matmul.Tiles { return matmul.TilesOf(s.rows, s.out, n.Out.Data) }
func (s *size) dy(n *grad.Node) matmul.Tiles {
	return matmul.TilesOf(s.rows, s.out, n.Out.Grad)
}

func (s *size) dx(n *grad.Node) (dx matmul.Tiles, fresh bool) {
	g, fresh := n.GradInto(0)
	if g == nil {
		return matmul.Tiles{}, false
	}
	return matmul.TilesOf(s.rows, s.in, g), fresh
}

// Quantize rounds float32 values to tiles. x: [..., Cols]. Its gradient is
// float32.
func Quantize(t *grad.Tape, x *grad.Var) Value {
	y := newValue(t, x.Rows(), x.Cols())
	if n := t.Record(y.Var, quantizeBack, x); n != nil {
		(&size{rows: y.Rows, in: y.Cols, out: y.Cols}).keep(n)
	}
	y.Tiles().Quantize(x.Data, matmul.Rounding{})
	return y
}

func quantizeBack(n *grad.Node) {
	s := sizeOf(n)
	if dx, fresh := n.GradInto(0); dx != nil {
		s.dy(n).Dequantize(dx, !fresh)
	}
}

// Dequantize returns x in float32, [Rows, Cols]. Its gradient is rounded to
// tiles.
func Dequantize(t *grad.Tape, x Value) *grad.Var {
	y := t.New(tensor.Of(x.Rows, x.Cols))
	s := size{rows: x.Rows, in: x.Cols, out: x.Cols, draws: reserve(t, tilesIn(x.Rows, x.Cols))}
	if n := t.Record(y, dequantizeBack, x.Var).Again(dequantizeAgain); n != nil {
		s.keep(n)
	}
	x.Tiles().Dequantize(y.Data, false)
	return y
}

func dequantizeAgain(n *grad.Node) {
	s := sizeOf(n)
	s.x(n).Dequantize(n.Out.Data, false)
}

func dequantizeBack(n *grad.Node) {
	s := sizeOf(n)
	dx, fresh := s.dx(n)
	if dx.Codes == nil {
		return
	}
	dy := n.Out.Grad
	if !fresh {
		dx.Dequantize(dy, true)
	}
	dx.Quantize(dy, s.rounding())
}

// strip is workspace for 32 rows of tiles, in float32.
func strip(t matmul.Tiles) []float32 {
	return memory.Default.Dirty(memory.Workspace, side*t.StripWidth())
}

func free(x []float32) { memory.Default.Free(memory.Workspace, x) }

type sumArgs struct {
	to, from matmul.Tiles
	how      matmul.Rounding
}

var sumLoop par.Loop[sumArgs]

// addTo adds from to to.
func addTo(to, from matmul.Tiles, how matmul.Rounding) {
	sumLoop.Run(to.Strips(), sumArgs{to, from, how}, func(a *sumArgs, i int) {
		x, ld := strip(a.to), a.to.StripWidth()
		a.to.DequantizeStrip(x, ld, i)
		a.from.AddStrip(x, ld, i)
		a.to.QuantizeStrip(i, x, ld, a.how)
		free(x)
	})
}

// pass adds the gradient of the output to that of input i, of the same size, by
// handing it over where it can. It must be the last use of the output's.
func pass(n *grad.Node, i int, s *size) {
	x := n.In[i]
	if !x.Wanted() {
		return
	}
	if x.Grad == nil {
		n.PassGrad(i)
		return
	}
	addTo(matmul.TilesOf(s.rows, s.out, x.Grad), s.dy(n), s.rounding())
}

func mismatch(op string, x Value, what ...any) {
	panic(fmt.Sprintf("int8flow: %s of [%d, %d]: %s", op, x.Rows, x.Cols, fmt.Sprintln(what...)))
}
