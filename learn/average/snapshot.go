package average

import (
	"fmt"
	"unsafe"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/simd"
)

// snapshot is a copy of a parameter, in float32 or in bf16.
type snapshot struct {
	param  *grad.Param
	buffer []float32 // from the arena
	half   []uint16  // the same memory, for bf16; else nil
}

func newSnapshot(a *memory.Arena, p *grad.Param, bf16 bool) snapshot {
	if !bf16 {
		return snapshot{param: p, buffer: a.Floats(memory.Weights, p.Len())}
	}
	b := a.Floats(memory.Weights, (p.Len()+1)/2)
	return snapshot{p, b, unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), p.Len())}
}

// slotName is what the checkpoint calls slot k of a parameter.
func slotName(k int, p *grad.Param) string { return fmt.Sprintf("lawa.%d.%s", k, p.Name) }

// take copies the parameter as it is now.
func (s *snapshot) take() {
	if s.half == nil {
		copy(s.buffer, s.param.Data)
		return
	}
	simd.ToBF16(s.half, s.param.Data)
}

// workFloats is how many numbers leave bf16 at a time.
const workFloats = 4096

// addTo adds the copy to dst. For bf16, work has room for workFloats.
func (s *snapshot) addTo(dst, work []float32) {
	if s.half == nil {
		simd.AddTo(dst, s.buffer)
		return
	}
	for lo := 0; lo < len(dst); lo += workFloats {
		d := dst[lo:min(lo+workFloats, len(dst))]
		w := work[:len(d)]
		simd.FromBF16(w, s.half[lo:])
		simd.AddTo(d, w)
	}
}
