// Package precision says in which number format a model computes and stores.
//
// A model is written once, in float32 terms; a Policy carries out its matrix
// products. Master weights, gradients and optimiser state stay float32 unless
// a policy says otherwise.
package precision

import (
	"hasten/engine/matmul"
	"hasten/engine/part"
)

// Pass names one of the three products of a linear layer y = x·Wᵀ.
type Pass uint8

// The products.
const (
	Forward    Pass = iota // y  = x·Wᵀ
	GradInput              // dx = dy·W
	GradWeight             // dW = dyᵀ·x
)

// Policy carries out the matrix products of a model.
type Policy interface {
	// Mul computes the product a describes, for the given pass.
	Mul(pass Pass, a matmul.Args)
}

// F32 computes everything in float32.
type F32 struct{}

// Mul multiplies in float32.
func (F32) Mul(_ Pass, a matmul.Args) { matmul.Mul(a) }

// BF16 rounds the operands of every product to bfloat16 and accumulates in
// float32. Weights, gradients and optimiser state stay float32 masters.
type BF16 struct{}

// Mul multiplies with bfloat16 operands.
func (BF16) Mul(_ Pass, a matmul.Args) {
	a.Format = matmul.BF16
	matmul.Mul(a)
}

// Parts are the precision policies a run can ask for by name.
var Parts = part.Table[Policy]{
	Seam: "precision",
	Help: "number format of the matrix products",
	Parts: []part.Part[Policy]{
		{Name: "f32", Help: "float32 throughout", New: func() Policy { return &F32{} }},
		{Name: "bf16", Help: "bfloat16 operands, float32 sums and master weights", New: func() Policy { return &BF16{} }},
		{Name: "jetfire", Paper: "jetfire", Help: "int8 between the operators of transformer blocks, a scale for each 32×32 block; float32 master weights", New: func() Policy { return &Jetfire{} }},
	},
}
