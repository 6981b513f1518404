//go:build !amd64

package simd

func tile8() *tile8Kernels { return &portableTile8 }
