package int8flow

import (
	"hasten/engine/grad"
	"hasten/engine/matmul"
	"hasten/engine/par"
	"hasten/engine/simd"
)

// Function is an activation function.
type Function uint8

// The functions. SwiGLU is silu(gate)·up for rows of gates, then as many ups; it
// halves the columns. The others keep them.
const (
	SwiGLU Function = iota
	GELUTanh
	GELU
	ReLU
)

// functions are those of one variable; backward gives dy·f'(x) and may write to
// either.
var functions = [...]struct {
	forward  func(dst, x []float32)
	backward func(dx, x, dy []float32)
}{
	GELUTanh: {simd.GELUTanh, simd.GELUTanhBackward},
	GELU:     {simd.GELUErf, simd.GELUErfBackward},
	ReLU:     {simd.ReLU, simd.ReLUBackward},
}

// Activate computes f of every element, or SwiGLU of every row.
func Activate(t *grad.Tape, x Value, f Function) Value {
	s := size{rows: x.Rows, in: x.Cols, out: x.Cols, more: int(f)}
	if f == SwiGLU {
		if s.out = x.Cols / 2; x.Cols%2 != 0 {
			mismatch("SwiGLU", x, "the number of columns is odd")
		}
	}
	y := newValue(t, s.rows, s.out)
	s.draws = reserve(t, tilesIn(s.rows, s.in))
	if n := t.Record(y.Var, activateBack, x.Var).Again(activateAgain); n != nil {
		s.keep(n)
	}
	activateLoop.Run(y.Tiles().Strips(), activateArgs{f: f, x: x.Tiles(), y: y.Tiles()}, activateStrip)
	return y
}

func activateAgain(n *grad.Node) {
	s := sizeOf(n)
	a := activateArgs{f: Function(s.more), x: s.x(n), y: s.y(n)}
	activateLoop.Run(a.y.Strips(), a, activateStrip)
}

type activateArgs struct {
	f            Function
	x, y, dx, dy matmul.Tiles
	fresh        bool
	how          matmul.Rounding
}

var activateLoop par.Loop[activateArgs]

func activateStrip(a *activateArgs, i int) {
	x, ld := strip(a.x), a.x.StripWidth()
	a.x.DequantizeStrip(x, ld, i)
	if a.f != SwiGLU {
		functions[a.f].forward(x, x)
	} else {
		h := a.y.Cols
		for r := range side {
			gate, up := x[r*ld:][:h], x[r*ld+h:][:h]
			simd.SwiGLU(gate, gate, up)
		}
	}
	a.y.QuantizeStrip(i, x, ld, matmul.Rounding{})
	free(x)
}

func activateBack(n *grad.Node) {
	s := sizeOf(n)
	a := activateArgs{f: Function(s.more), x: s.x(n), dy: s.dy(n), how: s.rounding()}
	a.dx, a.fresh = s.dx(n)
	activateLoop.Run(a.x.Strips(), a, activateBackStrip)
}

func activateBackStrip(a *activateArgs, i int) {
	x, ld := strip(a.x), a.x.StripWidth()
	dy, ldy := strip(a.dy), a.dy.StripWidth()
	a.x.DequantizeStrip(x, ld, i)
	a.dy.DequantizeStrip(dy, ldy, i)
	if a.f != SwiGLU {
		functions[a.f].backward(x, x, dy)
	} else {
		h := a.dy.Cols
		for r := range side {
			gate, up := x[r*ld:][:h], x[r*ld+h:][:h]
			simd.SwiGLUBackward(gate, up, gate, up, dy[r*ldy:][:h])
		}
	}
	if !a.fresh {
		a.dx.AddStrip(x, ld, i)
	}
	a.dx.QuantizeStrip(i, x, ld, a.how)
	free(x)
	free(dy)
}
