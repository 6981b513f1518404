//go:build !amd64

package simd

func tileFor(Level) tileKernels { return portableTile }
