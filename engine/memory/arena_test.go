package memory

import (
	"testing"
	"unsafe"
)

func TestArenaCountsExactly(t *testing.T) {
	var a Arena
	w := a.Floats(Weights, 1000) // 63 lines
	x := a.Dirty(Activations, 16)
	b := a.Bytes(Workspace, 65) // 17 floats: 2 lines
	u := a.Usage()
	if u.Live[Weights] != 63*64 || u.Live[Activations] != 64 || u.Live[Workspace] != 128 || u.LiveTotal != 66*64 {
		t.Fatalf("live %+v", u)
	}
	a.Free(Activations, x)
	a.FreeBytes(Workspace, b)
	a.Free(Weights, w)
	u = a.Usage()
	if u.LiveTotal != 0 || u.PeakTotal != 66*64 || u.Peak[Workspace] != 128 {
		t.Fatalf("after free %+v", u)
	}
	if a.Held() != 66*64 {
		t.Fatalf("held %d", a.Held())
	}
	a.Trim()
	a.ResetPeak()
	if a.Held() != 0 || a.Usage().PeakTotal != 0 {
		t.Fatalf("after Trim: held %d, %+v", a.Held(), a.Usage())
	}
}

func TestBuffersAreAlignedZeroedAndReused(t *testing.T) {
	var a Arena
	for _, n := range []int{0, 1, 15, 16, 17, 1000, 1 << 16} {
		x := a.Floats(Data, n)
		if len(x) != n {
			t.Fatalf("%d floats for %d", len(x), n)
		}
		if uintptr(unsafe.Pointer(unsafe.SliceData(x)))%64 != 0 && n > 0 {
			t.Errorf("%d floats: not aligned", n)
		}
		for i := range x {
			x[i] = 1
		}
		a.Free(Data, x)
		y := a.Floats(Data, n)
		for i := range y {
			if y[i] != 0 {
				t.Fatalf("%d floats: index %d not cleared", n, i)
			}
		}
		if n > 0 && unsafe.SliceData(x) != unsafe.SliceData(y) {
			t.Errorf("%d floats: not reused", n)
		}
		a.Free(Data, y)
	}
}

func TestFreeingTooMuchPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	var a Arena
	a.Free(Weights, make([]float32, 16))
}
