//go:build unix

package bench

import (
	"runtime"
	"syscall"
)

// MaxRSS is the largest resident memory of this process so far, in bytes; 0
// where the system does not tell.
func MaxRSS() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return float64(u.Maxrss)
	}
	return float64(u.Maxrss) * 1024
}
