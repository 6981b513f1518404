// Jetfire: Xi, Chen, Zhao, Teh, Chen, Zhu, "Jetfire: Efficient and Accurate
// Transformer Pretraining with INT8 Data Flow and Per-Block Quantization", ICML
// 2024.
//
// A matrix is stored in int8, with one float32 scale for each block of 32×32:
//
//	s_ij = max|X_ij| / 127        X̂_ij = round(X_ij / s_ij)        X ≈ s·X̂
//
// A product multiplies blocks in integers, 32 deep, and sums them up in float32;
// its result is rounded to blocks before it leaves the innermost cache:
//
//	C_ij = Σ_k s^A_ik·s^B_kj·(Â_ik·B̂_kj)
//	Y = Q(X·Wᵀ)        dX = Qₛ(dY·W)        dW = dYᵀ·X
//
// Norms, activations, dropout and residual additions read and write blocks, too,
// so that between operators there is nothing but int8: a quarter of the memory
// and of its traffic. Q rounds to the nearest; Qₛ, for gradients, rounds up with
// the probability of the fraction, so that E[Qₛ(x)] = x. Weights are rounded
// once in a forward pass, from float32 masters; their gradients, optimiser state,
// and the softmax of attention are float32.
//
// The blocks and their products are matmul.Tiles and matmul.MulTiles, the
// operators those of package int8flow.

package precision

import "hasten/engine/matmul"

// Jetfire keeps the values between the operators of transformer blocks, and
// their gradients, in int8 with a scale for each block of 32×32. What lies
// outside the blocks (embedding, last norm, output layer), and any layer
// without int8 operators, computes in float32.
type Jetfire struct{}

// Mul multiplies in float32: it serves what lies outside the int8 data flow.
func (*Jetfire) Mul(_ Pass, a matmul.Args) { matmul.Mul(a) }

// FlowsInt8 tells whether a policy asks for int8 between operators.
func FlowsInt8(p Policy) bool {
	_, ok := p.(*Jetfire)
	return ok
}
