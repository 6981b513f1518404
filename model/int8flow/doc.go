// Package int8flow holds the operators of a transformer for values that stay in
// int8 between them, with one scale for each tile of 32×32 (matmul.Tiles), and
// whose gradients do, too:
//
//	x := int8flow.Quantize(t, embedding)               // float32 on the tape → Value
//	n := int8flow.RMSNorm(t, x, gain, 1e-5)
//	h := int8flow.Linear(t, n, weight, bias, int8flow.Value{})
//	h = int8flow.Activate(t, h, int8flow.SwiGLU)
//	x = int8flow.Linear(t, h, down, nil, x)            // … + x
//	y := int8flow.Dequantize(t, x)                     // back to float32
//
// This is the data flow of Jetfire; package precision has the formulas and the
// policy that switches it on. Products read codes as they are. Row-wise
// operators widen 32 rows at a time in workspace, and round what they give to
// tiles again. Forward, rounding is to the nearest; gradients are rounded by
// chance, with draws of the tape's random stream, so that their mean is right.
// Parameters and their gradients are float32.
//
// There are no second derivatives and no gradients per sample.
package int8flow
