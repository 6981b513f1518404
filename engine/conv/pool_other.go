//go:build !amd64

package conv

// maxKernel leaves everything to maxTo.
func maxKernel([]float32, []int32, []float32, int32) int { return 0 }
