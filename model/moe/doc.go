// Package moe computes mixtures of experts: layers of which each token passes
// only a few of many matrices, chosen by a router.
//
// The way through has three stations:
//
//	Route      logits [n, E] → a Plan: which experts, with which weight, in which order
//	dispatch   how rows get to their experts and back: scatter, dropless or padded
//	experts    products of rows with the matrix of their expert
//
// FFN is the part of the seam "ffn", Attention that of the seam "mixer". The
// primitive is ParallelLinear, the expert-wise product of the scatter dispatch;
// the other dispatches copy rows and use it on the copies.
package moe
