package tensor

import (
	"fmt"
	"slices"
	"testing"
)

func TestShape(t *testing.T) {
	for _, c := range []struct {
		dims            []int
		len, rows, cols int
		text            string
	}{
		{nil, 1, 1, 1, "[]"},
		{[]int{5}, 5, 1, 5, "[5]"},
		{[]int{2, 3}, 6, 2, 3, "[2×3]"},
		{[]int{2, 3, 4}, 24, 6, 4, "[2×3×4]"},
		{[]int{2, 0, 4}, 0, 0, 4, "[2×0×4]"},
		{[]int{1, 2, 1, 2, 1, 2}, 8, 4, 2, "[1×2×1×2×1×2]"},
	} {
		s := Of(c.dims...)
		if s.Rank() != len(c.dims) || s.Len() != c.len || s.Rows() != c.rows || s.Cols() != c.cols || s.String() != c.text {
			t.Errorf("%v: rank %d, len %d, rows %d, cols %d, %q", c.dims, s.Rank(), s.Len(), s.Rows(), s.Cols(), s)
		}
		if !slices.Equal(s.Dims(), c.dims) || Of(s.Dims()...) != s {
			t.Errorf("%v: dims %v", c.dims, s.Dims())
		}
	}
	s := Of(2, 3, 4)
	for what, got := range map[string]Shape{
		"[2×3×7]": s.WithLast(7), "[7×3×4]": s.WithFirst(7), "[2×3]": s.WithoutLast(), "[2×3×4]": s,
		"[7]": Of().WithLast(7), "[8]": Of().WithFirst(8), "[]": Of().WithoutLast(),
	} {
		if got.String() != what {
			t.Errorf("got %v, want %s", got, what)
		}
	}
	if Of(2, 3, 4).WithoutLast() != Of(2, 3) {
		t.Error("equal shapes differ")
	}
	if s.Dim(-1) != 4 || s.Dim(0) != 2 {
		t.Error("Dim")
	}
}

func TestTensor(t *testing.T) {
	x := New(2, 3)
	copy(x.Row(1), []float32{1, 2, 3, 4})
	if y := From(x.Data, 3, 2); !slices.Equal(y.Row(2), []float32{2, 3}) || cap(y.Row(0)) != 2 {
		t.Errorf("rows %v, capacity %d", y.Row(2), cap(y.Row(0)))
	}
}

func TestPanics(t *testing.T) {
	for want, f := range map[string]func(){
		"tensor: 7 dimensions, at most 6":             func() { Of(1, 1, 1, 1, 1, 1, 1) },
		"tensor: dimension 1 is -2":                   func() { Of(1, -2) },
		"tensor: dimension 2 of shape [2×3]":          func() { Of(2, 3).Dim(2) },
		"tensor: dimension -3 of shape [2×3]":         func() { Of(2, 3).Dim(-3) },
		"tensor: 5 values for shape [2×3]":            func() { From(make([]float32, 5), 2, 3) },
		"tensor: 1 values for a packed [2]":           func() { pack(Int8, 0, 1, 2).Pack([]float32{1}) },
		"tensor: packing as Format(9) in blocks of 0": func() { NewPacked(nil, 0, 9, Of(1), 0) },
		"tensor: packing as int4 in blocks of -1":     func() { NewPacked(nil, 0, Int4, Of(1), -1) },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != want {
					t.Errorf("panic %q, want %q", got, want)
				}
			}()
			f()
		}()
	}
}
