package attention

import "hasten/engine/rng"

// Dropout sets each weight to 0 with probability P and divides the others by
// 1-P. Nothing of it is stored: the backward pass draws the same numbers again,
// each a function of the stream and of where the weight is.
type Dropout struct {
	P      float64 // in [0, 1); 0: none
	Stream rng.Stream
}

// apply drops from a tile x [tileK][tileQ] of weights, or of their gradients.
func (d *Dropout) apply(a *Args, x []float32, b, h, t0, nq, k0, nk int) {
	if d.P == 0 {
		return
	}
	s := d.Stream.Split(uint64(b*a.Heads + h))
	drop := uint32(d.P * (1 << 32))
	scale := float32(1 / (1 - d.P))
	for k := range nk {
		row := x[k*tileQ : k*tileQ+nq]
		at := uint64(k0+k)*a.blocksPerKey() + uint64(t0/4)
		for i := 0; i < nq; i += 4 {
			for j, u := range s.Block(at + uint64(i/4)) {
				if i+j == nq {
					break
				}
				if row[i+j] *= scale; u < drop {
					row[i+j] = 0
				}
			}
		}
	}
}

// blocksPerKey is the number of blocks of four random numbers for a key.
func (a *Args) blocksPerKey() uint64 { return uint64(a.Queries+3) / 4 }

// keeps tells whether the weight of query t for key k is kept.
func (d *Dropout) keeps(a *Args, b, h, t, k int) bool {
	s := d.Stream.Split(uint64(b*a.Heads + h))
	return d.P == 0 || s.At(4*uint64(k)*a.blocksPerKey()+uint64(t)) >= uint32(d.P*(1<<32))
}
