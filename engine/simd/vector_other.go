//go:build !amd64

package simd

func vectorFor(Level) vectorKernels { return portableVector }
