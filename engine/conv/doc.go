// Package conv is convolution and pooling over one, two or three axes, forward
// and backward, on plain slices. Start with Conv:
//
//	c := conv.Conv{
//		Batch: 32, In: 64, Out: 128,
//		H: conv.Same(56, 3, 1, 1), // 56 rows, kernel 3, stride 1, dilation 1
//		W: conv.Same(56, 3, 1, 1),
//	}
//	c.Forward(y, x, w, bias, matmul.ReLU)
//	c.InputGrad(dx, dy, w, false)
//	c.WeightGrad(dw, dy, x, false)
//	c.BiasGrad(db, dy, false)
//
// Activations are [Batch, D, H, W, Channels], channels last: the channels of a
// pixel are neighbours in memory, so a pixel of a kernel's window is one
// contiguous run to read, a 1×1 convolution is a plain matrix product, and
// normalisation and bias work along rows as everywhere else in hasten. An axis
// left out has size 1, so a 1-D signal is [Batch, W, Channels]. Weights are
// [Out, KD, KH, KW, In/Groups].
//
// # How it works
//
// A convolution is the product of a matrix that has a row for every output
// position, holding the window that position sees, and the matrix of weights.
// The first is KH·KW times as large as the input and is never formed. Each
// piece of work gathers a few hundred of its rows, a panel that stays in the
// core's cache, and multiplies it at once:
//
//	x ──gather──▶ panel [positions, window] ──· packed weights──▶ y [positions, Out]
//
// The gradient of the input is the same walk over dy, with the weights turned
// around. With strides, input positions fall into sets by their remainders, each
// of which meets its own subset of the taps; the sets are computed one after
// another, so that nothing is multiplied by the zeros between outputs. The
// gradient of the weights multiplies dyᵀ by the same panels. A depthwise
// convolution has no sum over channels and runs as vector multiply-adds.
//
// It is fastest with 32 channels and more on both sides. Groups of fewer than
// 16 channels leave most of the kernels' columns empty.
//
// Workspace comes from memory.Default. Results do not depend, to the bit, on
// the number of threads.
package conv
