package main

import . "github.com/mmcloughlin/avo/reg"

// adan emits the step of Adan. It has more coefficients than AVX2 has registers
// to spare, so that level broadcasts them anew for each group of elements: the
// kernel waits for memory in any case.
func adan() {
	mapped("adan", "(p, m, v, n, last, g []float32, gradScale, mix1, mix2, look, beta3, mix3, root, eps, shrink, ofM, ofV float32)",
		[]string{"p", "m", "v", "n", "last", "g"}, []string{"p", "m", "v", "n", "last"}, func(k *kernel) func(vecs) vecs {
			gradScale, mix1, mix2, look := k.paramLate("gradScale"), k.paramLate("mix1"), k.paramLate("mix2"), k.paramLate("look")
			beta3, mix3, root, eps := k.paramLate("beta3"), k.paramLate("mix3"), k.paramLate("root"), k.paramLate("eps")
			shrink, ofM, ofV := k.paramLate("shrink"), k.paramLate("ofM"), k.paramLate("ofV")
			return func(in vecs) vecs {
				p, m, v, n, last := in[0], in[1], in[2], in[3], in[4]
				g := k.mul(in[5], gradScale())
				change := k.sub(g, last)
				k.plus(m, k.sub(g, m), mix1())
				k.plus(v, k.sub(change, v), mix2())
				ahead := k.plus(k.copy(g), change, look())
				k.mulAdd(n, beta3(), k.mul(k.mul(ahead, ahead), mix3()))
				denominator := k.mulAdd(k.sqrt(n), root(), eps())
				step := k.plus(k.mul(m, ofM()), v, ofV())
				move := k.plus(k.div(step, denominator), p, shrink())
				return vecs{k.sub(p, move), m, v, n, g}
			}
		})
}

// paramLate is param where registers are plenty; else each use broadcasts.
func (k *kernel) paramLate(name string) func() VecVirtual {
	if !k.z {
		return func() VecVirtual { return k.param(name) }
	}
	v := k.param(name)
	return func() VecVirtual { return v }
}
