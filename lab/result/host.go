package result

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/klauspost/cpuid/v2"

	"hasten/engine/simd"
)

// ThisHost describes the machine at hand.
func ThisHost() Host {
	return Host{
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: strings.Join(strings.Fields(cpuid.CPU.BrandName), " "),
		Threads: runtime.GOMAXPROCS(0), SIMD: simd.Current().String(), Go: runtime.Version(), Load: load(),
	}
}

// load is the average number of running processes over the last minute, where
// the system tells it.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	first, _, _ := strings.Cut(string(text), " ")
	x, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return x
}
