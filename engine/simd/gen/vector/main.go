// Command vector writes the assembly of package simd's vector kernels. Every
// kernel is described once and emitted for AVX2 (eight lanes) and AVX-512
// (sixteen). Run it by go generate in package simd.
package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

type vecs = []VecVirtual

func main() {
	ConstraintExpr("amd64")
	reductions()
	arithmetic()
	activations()
	rows()
	optimizers()
	adan()
	conversions()
	Generate()
}

// mapped defines an element-wise kernel. prepare emits what comes before the
// loop, constants and parameters, and returns the body.
func mapped(name, signature string, ins, outs []string, prepare func(k *kernel) func(in vecs) vecs) {
	define(name, signature, func(k *kernel) {
		k.length(outs[0])
		k.each(ins, outs, prepare(k))
	})
}

func reductions() {
	result := func(k *kernel, v VecVirtual, combine op, lane int) {
		Store(k.across(v, combine, lane), ReturnIndex(0))
		VZEROUPPER()
	}
	define("sum", "(x []float32) float32", func(k *kernel) {
		k.length("x")
		acc := k.reduce([]string{"x"}, 4, 1, k.zero(), addps, func(in, acc vecs, _ int) {
			VADDPS(in[0], acc[0], acc[0])
		})
		result(k, acc[0], addps, 4)
	})
	define("dot", "(x, y []float32) float32", func(k *kernel) {
		k.length("x")
		acc := k.reduce([]string{"x", "y"}, 4, 1, k.zero(), addps, func(in, acc vecs, _ int) {
			k.plus(acc[0], in[0], in[1])
		})
		result(k, acc[0], addps, 4)
	})
	define("sumSq", "(x []float32) float64", func(k *kernel) {
		k.length("x")
		acc := k.reduce([]string{"x"}, 2, 2, k.zero(), addpd, func(in, acc vecs, _ int) {
			low, high := k.vec(), k.vec()
			if k.z {
				upper := YMM()
				VEXTRACTF64X4(Imm(1), in[0], upper)
				VCVTPS2PD(in[0].AsY(), low)
				VCVTPS2PD(upper, high)
			} else {
				upper := XMM()
				VEXTRACTF128(Imm(1), in[0], upper)
				VCVTPS2PD(in[0].AsX(), low)
				VCVTPS2PD(upper, high)
			}
			VFMADD231PD(low, low, acc[0])
			VFMADD231PD(high, high, acc[1])
		})
		VADDPD(acc[1], acc[0], acc[0])
		result(k, acc[0], addpd, 8)
	})
	define("maximum", "(x []float32) float32", func(k *kernel) {
		k.length("x")
		none := k.register(math.Inf(-1))
		acc := k.reduce([]string{"x"}, 4, 1, none, maxps, func(in, acc vecs, _ int) {
			VMAXPS(k.existing(in[0], none), acc[0], acc[0])
		})
		result(k, acc[0], maxps, 4)
	})
	define("absMaxBits", "(x []float32) uint32", func(k *kernel) {
		k.length("x")
		magnitude := k.constantBits(^uint32(signBit))
		acc := k.reduce([]string{"x"}, 4, 1, k.zero(), maxud, func(in, acc vecs, _ int) {
			VPMAXUD(k.and(in[0], magnitude), acc[0], acc[0])
		})
		bits := GP32()
		VMOVD(k.across(acc[0], maxud, 4), bits)
		Store(bits, ReturnIndex(0))
		VZEROUPPER()
	})
	define("sumExp", "(x []float32, shift float32) float32", func(k *kernel) {
		k.length("x")
		shift, e, zero := k.param("shift"), k.newExp(-104, 89), k.zero()
		acc := k.reduce([]string{"x"}, 2, 1, zero, addps, func(in, acc vecs, _ int) {
			v := e.full(k.sub(in[0], shift))
			VADDPS(k.existing(v, zero), acc[0], acc[0])
		})
		result(k, acc[0], addps, 4)
	})
	define("expSum", "(dst, x []float32, shift float32) float32", func(k *kernel) {
		k.length("dst")
		k.array("dst")
		shift, e, zero := k.param("shift"), k.newExp(-104, 89), k.zero()
		acc := k.reduce([]string{"x"}, 2, 1, zero, addps, func(in, acc vecs, element int) {
			v := e.full(k.sub(in[0], shift))
			k.store(v, "dst", element)
			VADDPS(k.existing(v, zero), acc[0], acc[0])
		})
		result(k, acc[0], addps, 4)
	})
	define("sumSqDev", "(x []float32, mean float32) float32", func(k *kernel) {
		k.length("x")
		mean, zero := k.param("mean"), k.zero()
		acc := k.reduce([]string{"x"}, 4, 1, zero, addps, func(in, acc vecs, _ int) {
			d := k.existing(k.sub(in[0], mean), zero)
			k.plus(acc[0], d, d)
		})
		result(k, acc[0], addps, 4)
	})
	define("normSums", "(x, w, dy []float32, mean, rstd float32) (s1, s2 float32)", func(k *kernel) {
		k.length("x")
		mean, rstd := k.param("mean"), k.param("rstd")
		acc := k.reduce([]string{"x", "w", "dy"}, 2, 2, k.zero(), addps, func(in, acc vecs, _ int) {
			g := k.mul(in[1], in[2])
			VADDPS(g, acc[0], acc[0])
			k.plus(acc[1], g, k.mul(k.sub(in[0], mean), rstd))
		})
		Store(k.across(acc[0], addps, 4), Return("s1"))
		Store(k.across(acc[1], addps, 4), Return("s2"))
		VZEROUPPER()
	})
}

func arithmetic() {
	const threeSlices = "(dst, a, b []float32)"
	ab, dst := []string{"a", "b"}, []string{"dst"}
	mapped("add", threeSlices, ab, dst, func(k *kernel) func(vecs) vecs {
		return func(in vecs) vecs { return vecs{k.add(in[0], in[1])} }
	})
	mapped("sub", threeSlices, ab, dst, func(k *kernel) func(vecs) vecs {
		return func(in vecs) vecs { return vecs{k.sub(in[0], in[1])} }
	})
	mapped("mul", threeSlices, ab, dst, func(k *kernel) func(vecs) vecs {
		return func(in vecs) vecs { return vecs{k.mul(in[0], in[1])} }
	})
	mapped("mulAddTo", threeSlices, []string{"dst", "a", "b"}, dst, func(k *kernel) func(vecs) vecs {
		return func(in vecs) vecs { return vecs{k.plus(in[0], in[1], in[2])} }
	})
	mapped("addTo", "(dst, x []float32)", []string{"dst", "x"}, dst, func(k *kernel) func(vecs) vecs {
		return func(in vecs) vecs { return vecs{k.add(in[0], in[1])} }
	})
	mapped("scale", "(x []float32, a float32)", []string{"x"}, []string{"x"}, func(k *kernel) func(vecs) vecs {
		a := k.param("a")
		return func(in vecs) vecs { return vecs{k.mul(in[0], a)} }
	})
	mapped("axpy", "(y, x []float32, a float32)", []string{"y", "x"}, []string{"y"}, func(k *kernel) func(vecs) vecs {
		a := k.param("a")
		return func(in vecs) vecs { return vecs{k.plus(in[0], in[1], a)} }
	})
	mapped("lerp", "(dst, x []float32, a float32)", []string{"dst", "x"}, dst, func(k *kernel) func(vecs) vecs {
		a := k.param("a")
		b := k.sub(k.register(1), a)
		return func(in vecs) vecs { return vecs{k.mulAdd(in[0], a, k.mul(in[1], b))} }
	})
	mapped("triad", "(dst, a, b []float32, s float32)", ab, dst, func(k *kernel) func(vecs) vecs {
		s := k.param("s")
		return func(in vecs) vecs { return vecs{k.plus(in[0], in[1], s)} }
	})
}

func activations() {
	const unary, backward = "(dst, x []float32)", "(dx, x, dy []float32)"
	x, dst, xdy, dx := []string{"x"}, []string{"dst"}, []string{"x", "dy"}, []string{"dx"}
	mapped("exp", unary, x, dst, func(k *kernel) func(vecs) vecs {
		e := k.newExp(-104, 89)
		return func(in vecs) vecs { return vecs{e.full(in[0])} }
	})
	mapped("log", unary, x, dst, func(k *kernel) func(vecs) vecs {
		l := k.newLog()
		return func(in vecs) vecs { return vecs{l.of(in[0])} }
	})
	mapped("tanh", unary, x, dst, func(k *kernel) func(vecs) vecs {
		t := k.newTanh()
		return func(in vecs) vecs { return vecs{t.of(in[0])} }
	})
	mapped("sigmoid", unary, x, dst, func(k *kernel) func(vecs) vecs {
		s := k.newSigmoid()
		return func(in vecs) vecs { return vecs{s.of(in[0])} }
	})
	mapped("relu", unary, x, dst, func(k *kernel) func(vecs) vecs {
		zero := k.zero()
		return func(in vecs) vecs { return vecs{k.max(zero, in[0])} }
	})
	mapped("reluBackward", backward, xdy, dx, func(k *kernel) func(vecs) vecs {
		zero := k.zero()
		return func(in vecs) vecs {
			return vecs{k.choose(k.compare(greater, in[0], zero), in[1], zero)}
		}
	})
	mapped("silu", unary, x, dst, func(k *kernel) func(vecs) vecs {
		s := k.newSigmoid()
		return func(in vecs) vecs { return vecs{k.mul(s.of(in[0]), in[0])} }
	})
	mapped("siluBackward", backward, xdy, dx, func(k *kernel) func(vecs) vecs {
		s := k.newSigmoid()
		return func(in vecs) vecs {
			v, c := s.withComplement(in[0])
			return vecs{k.mul(s.siluSlope(in[0], v, c), in[1])}
		}
	})
	mapped("geluTanh", unary, x, dst, func(k *kernel) func(vecs) vecs {
		s, a, b := k.newSigmoid(), k.constant(geluA), k.constant(geluB)
		return func(in vecs) vecs {
			inner := k.mulAdd(k.mul(in[0], in[0]), k.copy(b), a)
			return vecs{k.mul(s.of(k.mul(inner, in[0])), in[0])}
		}
	})
	mapped("geluTanhBackward", backward, xdy, dx, func(k *kernel) func(vecs) vecs {
		s, a, b, b3 := k.newSigmoid(), k.constant(geluA), k.constant(geluB), k.constant(3*geluB)
		return func(in vecs) vecs {
			x := in[0]
			square := k.mul(x, x)
			v, c := s.withComplement(k.mul(k.mulAdd(k.copy(b), square, a), x))
			slope := k.mulAdd(k.copy(b3), square, a)
			d := k.mulAdd(k.mul(slope, x), c, s.one)
			return vecs{k.mul(k.mul(d, v), in[1])}
		}
	})
	mapped("geluErf", unary, x, dst, func(k *kernel) func(vecs) vecs {
		c := k.newNormalCDF()
		return func(in vecs) vecs {
			cdf, _ := c.of(in[0])
			return vecs{k.mul(cdf, in[0])}
		}
	})
	mapped("geluErfBackward", backward, xdy, dx, func(k *kernel) func(vecs) vecs {
		c, peak := k.newNormalCDF(), k.constant(1/math.Sqrt(2*math.Pi))
		return func(in vecs) vecs {
			cdf, density := c.of(in[0])
			return vecs{k.mul(k.plus(cdf, k.mul(density, peak), in[0]), in[1])}
		}
	})
	mapped("swiglu", "(dst, g, u []float32)", []string{"g", "u"}, dst, func(k *kernel) func(vecs) vecs {
		s := k.newSigmoid()
		return func(in vecs) vecs { return vecs{k.mul(k.mul(s.of(in[0]), in[0]), in[1])} }
	})
	mapped("swigluBackward", "(dg, du, g, u, dh []float32)", []string{"g", "u", "dh"}, []string{"dg", "du"}, func(k *kernel) func(vecs) vecs {
		s := k.newSigmoid()
		return func(in vecs) vecs {
			g, u, dh := in[0], in[1], in[2]
			v, c := s.withComplement(g)
			du := k.mul(k.mul(g, v), dh)
			return vecs{k.mul(s.siluSlope(g, v, c), k.mul(dh, u)), du}
		}
	})
}

func rows() {
	mapped("softmaxBackward", "(dx, y, dy []float32, dot float32)", []string{"y", "dy"}, []string{"dx"}, func(k *kernel) func(vecs) vecs {
		dot := k.param("dot")
		return func(in vecs) vecs { return vecs{k.mul(k.sub(in[1], dot), in[0])} }
	})
	mapped("scaleMul", "(y, x, w []float32, a float32)", []string{"x", "w"}, []string{"y"}, func(k *kernel) func(vecs) vecs {
		a := k.param("a")
		return func(in vecs) vecs { return vecs{k.mul(k.mul(in[0], a), in[1])} }
	})
	mapped("normalize", "(y, x, w, b []float32, mean, rstd float32)", []string{"x", "w", "b"}, []string{"y"}, func(k *kernel) func(vecs) vecs {
		mean, rstd := k.param("mean"), k.param("rstd")
		return func(in vecs) vecs {
			z := k.mul(k.sub(in[0], mean), rstd)
			return vecs{k.mulAdd(z, in[1], in[2])}
		}
	})
	mapped("rmsNormBackward", "(dx, dw, x, w, dy []float32, rstd, c float32)", []string{"dx", "dw", "x", "w", "dy"}, []string{"dx", "dw"}, func(k *kernel) func(vecs) vecs {
		rstd, c := k.param("rstd"), k.param("c")
		return func(in vecs) vecs {
			dx, dw, x, w, dy := in[0], in[1], in[2], in[3], in[4]
			z := k.mul(x, rstd)
			d := k.minus(k.mul(w, dy), z, c)
			return vecs{k.plus(dx, d, rstd), k.plus(dw, dy, z)}
		}
	})
	mapped("layerNormBackward", "(dx, dw, db, x, w, dy []float32, mean, rstd, c1, c2 float32)", []string{"dx", "dw", "db", "x", "w", "dy"}, []string{"dx", "dw", "db"}, func(k *kernel) func(vecs) vecs {
		mean, rstd, c1, c2 := k.param("mean"), k.param("rstd"), k.param("c1"), k.param("c2")
		return func(in vecs) vecs {
			dx, dw, db, x, w, dy := in[0], in[1], in[2], in[3], in[4], in[5]
			z := k.mul(k.sub(x, mean), rstd)
			d := k.minus(k.sub(k.mul(w, dy), c1), z, c2)
			return vecs{k.plus(dx, d, rstd), k.plus(dw, dy, z), k.add(db, dy)}
		}
	})
	define("rope", "(x []float32, heads int, cos, sin []float32, sign float32)", func(k *kernel) {
		k.length("cos")
		sign := k.param("sign")
		heads := Load(Param("heads"), GP64())
		k.array("x")
		second := GP64()
		LEAQ(Mem{Base: k.ptr["x"], Index: k.n, Scale: 4}, second)
		k.ptr["second"] = second
		k.array("cos", "sin")
		Label("head")
		SUBQ(Imm(1), heads)
		JL(LabelRef("finished"))
		k.loop(1, func(int) {
			a, b, cos := k.load("x", 0), k.load("second", 0), k.load("cos", 0)
			sin := k.mul(k.load("sin", 0), sign)
			k.store(k.minus(k.mul(a, cos), b, sin), "x", 0)
			k.store(k.plus(k.mul(b, cos), a, sin), "second", 0)
		})
		for _, half := range []string{"x", "second"} {
			LEAQ(Mem{Base: k.ptr[half], Index: k.n, Scale: 8}, k.ptr[half])
		}
		JMP(LabelRef("head"))
		Label("finished")
		VZEROUPPER()
	})
}

func optimizers() {
	mapped("adamW", "(p, m, v, g []float32, gradScale, decay, mix1, beta2, mix2, root, eps, step float32)",
		[]string{"p", "m", "v", "g"}, []string{"p", "m", "v"}, func(k *kernel) func(vecs) vecs {
			gradScale, decay, mix1, beta2 := k.param("gradScale"), k.param("decay"), k.param("mix1"), k.param("beta2")
			mix2, root, eps, step := k.param("mix2"), k.param("root"), k.param("eps"), k.param("step")
			return func(in vecs) vecs {
				p, m, v := in[0], in[1], in[2]
				g := k.mul(in[3], gradScale)
				k.plus(m, k.sub(g, m), mix1)
				k.mulAdd(v, beta2, k.mul(k.mul(g, g), mix2))
				denominator := k.mulAdd(k.sqrt(v), root, eps)
				p = k.minus(k.mul(p, decay), k.div(m, denominator), step)
				return vecs{p, m, v}
			}
		})
	mapped("sgd", "(p, g []float32, gradScale, weightDecay, lr float32)",
		[]string{"p", "g"}, []string{"p"}, func(k *kernel) func(vecs) vecs {
			gradScale, weightDecay, lr := k.param("gradScale"), k.param("weightDecay"), k.param("lr")
			return func(in vecs) vecs {
				g := k.plus(k.mul(in[1], gradScale), in[0], weightDecay)
				return vecs{k.minus(in[0], g, lr)}
			}
		})
	mapped("sgdMomentum", "(p, m, g []float32, gradScale, weightDecay, momentum, ofGrad, ofBuffer, lr float32)",
		[]string{"p", "m", "g"}, []string{"p", "m"}, func(k *kernel) func(vecs) vecs {
			gradScale, weightDecay, momentum := k.param("gradScale"), k.param("weightDecay"), k.param("momentum")
			ofGrad, ofBuffer, lr := k.param("ofGrad"), k.param("ofBuffer"), k.param("lr")
			return func(in vecs) vecs {
				p, m := in[0], in[1]
				g := k.plus(k.mul(in[2], gradScale), p, weightDecay)
				k.mulAdd(m, momentum, g)
				d := k.plus(k.mul(g, ofGrad), m, ofBuffer)
				return vecs{k.minus(p, d, lr), m}
			}
		})
}

// groups runs body over groups of 16 elements, the only lengths that the
// conversions between sizes get.
func (k *kernel) groups(body func()) {
	k.i = GP64()
	XORQ(k.i, k.i)
	JMP(LabelRef("test"))
	Label("group")
	body()
	ADDQ(Imm(16), k.i)
	Label("test")
	CMPQ(k.i, k.n)
	JL(LabelRef("group"))
	VZEROUPPER()
}

// sized addresses an array with elements of 1 or 2 bytes.
func (k *kernel) sized(name string, bytes uint8, element int) Mem {
	return Mem{Base: k.ptr[name], Index: k.i, Scale: bytes, Disp: int(bytes) * element}
}

// bf16Rounder rounds the bits of float32 lanes to a multiple of 2¹⁶, to
// nearest, ties to even; NaNs are made quiet.
func (k *kernel) bf16Rounder() func(v VecVirtual) VecVirtual {
	one, below, quiet := k.constantBits(1), k.constantBits(0x7fff), k.constantBits(1<<22)
	return func(v VecVirtual) VecVirtual {
		odd := k.and(k.shiftRight(v, 16), one)
		up := k.addInt(k.addInt(v, below), odd)
		return k.choose(k.compare(unordered, v, v), k.or(v, quiet), up)
	}
}

func conversions() {
	mapped("roundBF16", "(dst, src []float32)", []string{"src"}, []string{"dst"}, func(k *kernel) func(vecs) vecs {
		round, upper := k.bf16Rounder(), k.constantBits(0xffff0000)
		return func(in vecs) vecs { return vecs{k.and(round(in[0]), upper)} }
	})
	define("toBF16", "(dst []uint16, src []float32)", func(k *kernel) {
		k.length("dst")
		k.array("dst", "src")
		round := k.bf16Rounder()
		k.groups(func() {
			a := k.shiftRight(round(k.load("src", 0)), 16)
			if k.z {
				VPMOVDW(a, k.sized("dst", 2, 0))
				return
			}
			b := k.shiftRight(round(k.load("src", 8)), 16)
			VPACKUSDW(b, a, a) // by 128-bit halves
			VPERMQ(Imm(0xd8), a, a)
			VMOVDQU(a, k.sized("dst", 2, 0))
		})
	})
	// widened is the common form of the conversions to float32.
	widened := func(name, signature string, bytes uint8, prepare func(k *kernel) func(from Mem) VecVirtual) {
		define(name, signature, func(k *kernel) {
			k.length("dst")
			k.array("dst", "src")
			convert := prepare(k)
			k.groups(func() {
				for element := 0; element < 16; element += k.width {
					k.store(convert(k.sized("src", bytes, element)), "dst", element)
				}
			})
		})
	}
	widened("fromBF16", "(dst []float32, src []uint16)", 2, func(k *kernel) func(Mem) VecVirtual {
		return func(from Mem) VecVirtual {
			v := k.vec()
			VPMOVZXWD(from, v)
			return k.shiftLeft(v, 16)
		}
	})
	widened("fromF16", "(dst []float32, src []uint16)", 2, func(k *kernel) func(Mem) VecVirtual {
		return func(from Mem) VecVirtual {
			v := k.vec()
			VCVTPH2PS(from, v)
			return v
		}
	})
	widened("dequantizeS8", "(dst []float32, src []int8, scale float32)", 1, func(k *kernel) func(Mem) VecVirtual {
		scale := k.param("scale")
		return func(from Mem) VecVirtual {
			v := k.vec()
			VPMOVSXBD(from, v)
			return k.mul(k.toFloat(v), scale)
		}
	})
	define("toF16", "(dst []uint16, src []float32)", func(k *kernel) {
		k.length("dst")
		k.array("dst", "src")
		k.groups(func() {
			for element := 0; element < 16; element += k.width {
				VCVTPS2PH(Imm(0), k.load("src", element), k.sized("dst", 2, element))
			}
		})
	})
	define("quantizeS8", "(dst []int8, src []float32, scale float32)", func(k *kernel) {
		k.length("dst")
		k.array("dst", "src")
		scale, low, high := k.param("scale"), k.register(-128), k.register(127)
		whole := func(element int) VecVirtual {
			q := k.div(k.load("src", element), scale)
			return k.toInt(k.min(k.max(q, low), high)) // NaN becomes low
		}
		k.groups(func() {
			a := whole(0)
			if k.z {
				VPMOVSDB(a, k.sized("dst", 1, 0))
				return
			}
			b, high := whole(8), XMM()
			VPACKSSDW(b, a, a) // by 128-bit halves
			VPERMQ(Imm(0xd8), a, a)
			VEXTRACTI128(Imm(1), a, high)
			VPACKSSWB(high, a.AsX(), a.AsX())
			VMOVDQU(a.AsX(), k.sized("dst", 1, 0))
		})
	})
	define("copyStream", "(dst, src []float32)", func(k *kernel) {
		k.length("dst")
		k.array("dst", "src")
		k.groups(func() {
			for element := 0; element < 16; element += k.width {
				VMOVNTPS(k.load("src", element), k.at("dst", element))
			}
		})
		SFENCE()
	})
}
