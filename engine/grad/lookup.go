package grad

import (
	"fmt"
	"math"

	"hasten/engine/par"
	"hasten/engine/simd"
	"hasten/engine/tensor"
)

type lookupArgs struct {
	y, w    []float32
	ids     []int32
	columns int
}

var lookupLoop par.Loop[lookupArgs]

// Embedding looks up a row of w for every id. ids: any number of integers in
// [0, V), which must not change until the backward pass is done; w: [V, D];
// y: [len(ids), D].
func Embedding(t *Tape, w *Var, ids []int32) *Var {
	v, d := w.Rows(), w.Cols()
	for i, id := range ids {
		if id < 0 || int(id) >= v {
			panic(fmt.Sprintf("grad: Embedding of id %d at position %d, the table is %v", id, i, w.Shape))
		}
	}
	y := t.New(tensor.Of(len(ids), d))
	if n := t.Record(y, embeddingBack, w).Tangent(embeddingTangent).PerSample(0).Squares(embeddingSquares); n != nil {
		n.Index = ids
	}
	lookupLoop.Run(par.Pieces(len(ids), rowGrain), lookupArgs{y.Data, w.Data, ids, d}, func(a *lookupArgs, i int) {
		lo, hi := par.Bounds(i, rowGrain, len(a.ids))
		for r := lo; r < hi; r++ {
			id := int(a.ids[r])
			copy(a.y[r*a.columns:(r+1)*a.columns], a.w[id*a.columns:(id+1)*a.columns])
		}
	})
	return y
}

// embeddingGrain is the number of columns whose gradients one piece adds up:
// each piece goes over all ids, so that no two write one place.
const embeddingGrain = 64

func embeddingBack(n *Node) {
	d := n.Out.Cols()
	lookupLoop.Run(par.Pieces(d, embeddingGrain), lookupArgs{n.Out.Grad, n.GradOf(0), n.Index, d}, func(a *lookupArgs, i int) {
		lo, hi := par.Bounds(i, embeddingGrain, a.columns)
		for r, id := range a.ids {
			simd.AddTo(a.w[int(id)*a.columns+lo:int(id)*a.columns+hi], a.y[r*a.columns+lo:r*a.columns+hi])
		}
	})
}

func embeddingTangent(n *Node) *Var { return Embedding(n.Tape, n.Tan(0), n.Index) }

// AddPositions adds row i mod T of w to row i of x. x: [N, D] with N a
// multiple of T, w: [at least T, D].
func AddPositions(t *Tape, x, w *Var, period int) *Var {
	rows, d := x.Rows(), x.Cols()
	if w.Cols() != d || period < 1 || period > w.Rows() || rows%period != 0 {
		panic(fmt.Sprintf("grad: AddPositions of %v to %v, period %d", w.Shape, x.Shape, period))
	}
	y := t.New(x.Shape)
	if n := t.Record(y, positionsBack, x, w).Tangent(positionsTangent).PerSample(1); n != nil {
		n.Ints[0] = period
	}
	for i := 0; i < rows; i += period {
		simd.Add(y.Data[i*d:(i+period)*d], x.Data[i*d:(i+period)*d], w.Data[:period*d])
	}
	return y
}

func positionsBack(n *Node) {
	size := n.Ints[0] * n.Out.Cols()
	if g := n.GradOf(1); g != nil {
		for i := 0; i < len(n.Out.Grad); i += size {
			simd.AddTo(g[:size], n.Out.Grad[i:i+size])
		}
	}
	n.PassGrad(0)
}

func positionsTangent(n *Node) *Var {
	t, y := n.Tape, n.Tan(0)
	if n.Tan(1) == nil {
		return y
	}
	if y == nil {
		y = zeros(t, n.Out.Shape)
	}
	return AddPositions(t, y, n.Tan(1), n.Ints[0])
}

// Rotary is the angles of rotary position embedding for heads of one size.
type Rotary struct {
	HeadSize int
	Cos, Sin []float32 // [positions, HeadSize/2]
}

// NewRotary returns the angles p·theta^(-2i/E) for positions p in
// [0, positions) and i in [0, E/2), E the even head size.
func NewRotary(positions, headSize int, theta float64) *Rotary {
	if headSize%2 != 0 {
		panic(fmt.Sprintf("grad: rotary embedding of heads of odd size %d", headSize))
	}
	half := headSize / 2
	r := &Rotary{headSize, make([]float32, positions*half), make([]float32, positions*half)}
	for i := range half {
		// The frequency is rounded to float32, as the models from elsewhere do.
		f := float64(float32(1 / math.Pow(theta, float64(2*i)/float64(headSize))))
		for p := range positions {
			sin, cos := math.Sincos(float64(float32(float64(p) * f)))
			r.Cos[p*half+i], r.Sin[p*half+i] = float32(cos), float32(sin)
		}
	}
	return r
}

type ropeArgs struct {
	x                         []float32
	r                         *Rotary
	rows, cols, heads, period int
	sign                      float32
}

var ropeLoop par.Loop[ropeArgs]

// RoPE rotates the first heads of every row by its position, pairing element i
// with element i+E/2 of a head as the Hugging Face models do. It works in
// place where the tape owns x and nothing has read it yet.
// x: [N, C] with heads·E ≤ C; row i is at position i mod period.
// Source: Su et al., "RoFormer", 2021.
func RoPE(t *Tape, x *Var, r *Rotary, heads, period int) *Var {
	if heads*r.HeadSize > x.Cols() || x.Rows()%period != 0 || period*r.HeadSize/2 > len(r.Cos) {
		panic(fmt.Sprintf("grad: RoPE of %v, %d heads of %d, period %d of %d positions",
			x.Shape, heads, r.HeadSize, period, 2*len(r.Cos)/r.HeadSize))
	}
	y := t.Own(x)
	rotate(y.Data, x.Shape, r, heads, period, 1)
	if n := t.Record(y, ropeBack, x).Tangent(ropeTangent); n != nil {
		n.State, n.Ints[0], n.Ints[1] = r, heads, period
	}
	return y
}

func ropeBack(n *Node) {
	rotate(n.Out.Grad, n.Out.Shape, n.State.(*Rotary), n.Ints[0], n.Ints[1], -1)
	n.PassGrad(0)
}

func ropeTangent(n *Node) *Var {
	return RoPE(n.Tape, n.Tan(0), n.State.(*Rotary), n.Ints[0], n.Ints[1])
}

func rotate(x []float32, s tensor.Shape, r *Rotary, heads, period int, sign float32) {
	a := ropeArgs{x, r, s.Rows(), s.Cols(), heads, period, sign}
	ropeLoop.Run(par.Pieces(a.rows, rowGrain), a, func(a *ropeArgs, i int) {
		e := a.r.HeadSize
		lo, hi := par.Bounds(i, rowGrain, a.rows)
		for row := lo; row < hi; row++ {
			p := row % a.period * e / 2
			simd.RoPERow(a.x[row*a.cols:(row+1)*a.cols], a.heads, e, a.r.Cos[p:p+e/2], a.r.Sin[p:p+e/2], a.sign)
		}
	})
}

// From is the angles of positions start, start+1, …
func (r *Rotary) From(start int) *Rotary {
	half := r.HeadSize / 2
	return &Rotary{r.HeadSize, r.Cos[start*half:], r.Sin[start*half:]}
}
