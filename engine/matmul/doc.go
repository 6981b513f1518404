// Package matmul multiplies matrices; nearly all the time of a training step
// is spent here. Start with Mul:
//
//	// y[M,N] = act(x[M,K]·Wᵀ + bias), W stored [N,K] as a Linear layer keeps it
//	matmul.Mul(matmul.Args{M: m, N: n, K: k, A: x, B: w, TransB: true, C: y, Bias: b, Act: matmul.GELUTanh})
//	// dx[M,K] = dy[M,N]·W
//	matmul.Mul(matmul.Args{M: m, N: k, K: n, A: dy, B: w, C: dx})
//	// dW[N,K] += dyᵀ·x
//	matmul.Mul(matmul.Args{M: n, N: k, K: m, A: dy, TransA: true, B: x, C: dw, Beta: 1})
//
// MulBatch does many products of one shape, MulGrouped products whose row
// counts differ (mixture of experts), MulU8S8 multiplies integers.
//
// All matrices are row-major. A result does not depend, to the bit, on the
// number of threads.
package matmul
