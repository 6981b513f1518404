//go:build !unix

package bench

// MaxRSS is 0: this system does not tell.
func MaxRSS() float64 { return 0 }
