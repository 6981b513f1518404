// Package memory owns the large buffers of a run.
//
// Every buffer of weights, gradients, optimiser state, activations and
// workspace comes from an Arena, which knows at any moment the live and the
// peak bytes of each kind. A buffer that is freed is kept and handed out again
// for the next request of its size, so that after its first step a training
// loop takes nothing from the Go heap.
package memory

import (
	"fmt"
	"sync"
	"unsafe"
)

// Kind says what a buffer is for.
type Kind uint8

// The kinds of buffer.
const (
	Weights Kind = iota
	Gradients
	Optimizer
	Activations
	Workspace
	Data
	kinds
)

// Kinds lists every kind, in order.
func Kinds() []Kind {
	return []Kind{Weights, Gradients, Optimizer, Activations, Workspace, Data}
}

func (k Kind) String() string {
	names := [...]string{"weights", "gradients", "optimizer", "activations", "workspace", "data"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Default is the arena of the process: kernels take their workspace from it,
// and so does everything that is not given an arena of its own.
var Default = new(Arena)

// Arena hands out buffers and counts them. The zero value is ready for use.
// Its methods may be called from several goroutines.
type Arena struct {
	mu   sync.Mutex
	use  Usage
	held int64 // bytes taken from the Go heap, live or kept for reuse
	free map[int][][]float32
}

// Usage is live and peak bytes, by kind and together. PeakTotal is the peak
// of the sum, which is at most the sum of the peaks.
type Usage struct {
	Live, Peak           [kinds]int64
	LiveTotal, PeakTotal int64
}

// granule is the step of buffer sizes, in floats: one cache line.
const granule = 16

// Floats returns n zeroed floats, aligned to 64 bytes.
func (a *Arena) Floats(k Kind, n int) []float32 {
	x := a.Dirty(k, n)
	clear(x)
	return x
}

// Dirty is Floats without clearing: what the buffer holds is unspecified.
func (a *Arena) Dirty(k Kind, n int) []float32 {
	if n < 0 {
		panic(fmt.Sprintf("memory: a buffer of %d floats", n))
	}
	size := (n + granule - 1) / granule * granule
	a.mu.Lock()
	a.count(k, int64(size)*4)
	var x []float32
	if list := a.free[size]; len(list) > 0 {
		x = list[len(list)-1]
		a.free[size] = list[:len(list)-1]
	} else {
		a.held += int64(size) * 4
	}
	a.mu.Unlock()
	if x == nil {
		x = aligned(size)
	}
	return x[:n]
}

// Free gives a buffer back; k is the kind it was asked for as. A buffer that
// did not come whole from Floats, Dirty or Bytes must not be freed.
func (a *Arena) Free(k Kind, x []float32) {
	size := cap(x)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count(k, -int64(size)*4)
	if size == 0 {
		return
	}
	if a.free == nil {
		a.free = make(map[int][][]float32)
	}
	a.free[size] = append(a.free[size], x[:size])
}

// Bytes returns n unspecified bytes, aligned to 64 bytes, for packed formats.
// FreeBytes gives them back.
func (a *Arena) Bytes(k Kind, n int) []byte {
	f := a.Dirty(k, (n+3)/4)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f))), cap(f)*4)[:n]
}

// FreeBytes gives back what Bytes returned.
func (a *Arena) FreeBytes(k Kind, b []byte) {
	a.Free(k, unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), cap(b)/4))
}

// Usage reports live and peak bytes.
func (a *Arena) Usage() Usage {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.use
}

// Held is the number of bytes the arena has from the Go heap: those live and
// those kept for reuse.
func (a *Arena) Held() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held
}

// ResetPeak sets the peaks to what is live now.
func (a *Arena) ResetPeak() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.use.Peak = a.use.Live
	a.use.PeakTotal = a.use.LiveTotal
}

// Trim returns the kept buffers to the Go heap.
func (a *Arena) Trim() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for size, list := range a.free {
		a.held -= int64(size) * 4 * int64(len(list))
	}
	a.free = nil
}

func (a *Arena) count(k Kind, bytes int64) {
	u := &a.use
	u.Live[k] += bytes
	u.LiveTotal += bytes
	if u.Live[k] < 0 {
		panic(fmt.Sprintf("memory: more %v freed than were handed out", k))
	}
	u.Peak[k] = max(u.Peak[k], u.Live[k])
	u.PeakTotal = max(u.PeakTotal, u.LiveTotal)
}

// aligned returns size floats that begin on a cache line and end their slice.
func aligned(size int) []float32 {
	if size == 0 {
		return []float32{}
	}
	x := make([]float32, size+granule)
	off := 0
	if r := uintptr(unsafe.Pointer(unsafe.SliceData(x))) % 64; r != 0 {
		off = int(64-r) / 4
	}
	return x[off : off+size : off+size]
}
