package grad

import (
	"fmt"

	"hasten/engine/par"
	"hasten/engine/rng"
)

// Dropout sets each element to 0 with probability p in [0, 1), and divides the
// others by 1-p. The draws come from t.Rand; the backward pass draws them
// again, so nothing is kept. Leave it out, or give p = 0, for evaluation.
// Source: Srivastava et al., "Dropout", JMLR 2014.
func Dropout(t *Tape, x *Var, p float64) *Var {
	if p < 0 || p >= 1 {
		panic(fmt.Sprintf("grad: Dropout with probability %g", p))
	}
	if p == 0 {
		return x
	}
	t.Rand.Offset = (t.Rand.Offset + 3) &^ 3 // to whole blocks of four draws
	s := t.Rand
	t.Rand.Offset += uint64(x.Len())
	return dropout(t, x, s, float32(p))
}

func dropout(t *Tape, x *Var, s rng.Stream, p float32) *Var {
	y := t.New(x.Shape)
	clear(y.Data)
	addKept(y.Data, x.Data, s, p)
	if n := t.Record(y, dropoutBack, x).Tangent(dropoutTangent); n != nil {
		n.Ints = [8]int{int(s.Seed), int(s.ID), int(s.Offset)}
		n.Floats[0] = p
	}
	return y
}

func (n *Node) stream() rng.Stream {
	return rng.Stream{Seed: uint64(n.Ints[0]), ID: uint64(n.Ints[1]), Offset: uint64(n.Ints[2])}
}

func dropoutBack(n *Node) { addKept(n.GradOf(0), n.Out.Grad, n.stream(), n.Floats[0]) }

func dropoutTangent(n *Node) *Var { return dropout(n.Tape, n.Tan(0), n.stream(), n.Floats[0]) }

type dropArgs struct {
	dst, x []float32
	s      rng.Stream
	p      float32
}

var dropLoop par.Loop[dropArgs]

// addKept adds to dst the elements of x that s lets through, over 1-p.
func addKept(dst, x []float32, s rng.Stream, p float32) {
	dropLoop.Run(par.Pieces(len(x), flatGrain), dropArgs{dst, x, s, p}, func(a *dropArgs, i int) {
		lo, hi := par.Bounds(i, flatGrain, len(a.x))
		limit, c := uint64(float64(a.p)*(1<<32)), 1/(1-a.p)
		for ; lo < hi; lo += 4 {
			draws := a.s.Block((a.s.Offset + uint64(lo)) / 4)
			for j := range min(4, hi-lo) {
				if uint64(draws[j]) >= limit {
					a.dst[lo+j] += a.x[lo+j] * c
				}
			}
		}
	})
}
