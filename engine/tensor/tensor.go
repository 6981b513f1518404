// Package tensor is a shape and the contiguous float32 values that fill it,
// row-major: the last dimension is next to itself in memory. Packed stores them
// in fewer bits.
package tensor

import (
	"fmt"
	"strings"
)

// MaxRank is the largest number of dimensions of a Shape.
const MaxRank = 6

// Shape is the size of each dimension. It is a comparable value and allocates
// nothing. The zero Shape is that of a scalar.
type Shape struct {
	rank int
	dims [MaxRank]int
}

// Of returns the shape with the given dimensions. It panics when one is
// negative or there are more than MaxRank.
func Of(dims ...int) Shape {
	if len(dims) > MaxRank {
		panic(fmt.Sprintf("tensor: %d dimensions, at most %d", len(dims), MaxRank))
	}
	s := Shape{rank: len(dims)}
	for i, d := range dims {
		if d < 0 {
			panic(fmt.Sprintf("tensor: dimension %d is %d", i, d))
		}
		s.dims[i] = d
	}
	return s
}

// Rank is the number of dimensions.
func (s Shape) Rank() int { return s.rank }

// Dim is the size of dimension i; negative i counts from the end.
func (s Shape) Dim(i int) int {
	j := i
	if i < 0 {
		j += s.rank
	}
	if j < 0 || j >= s.rank {
		panic(fmt.Sprintf("tensor: dimension %d of shape %v", i, s))
	}
	return s.dims[j]
}

// Len is the number of elements: 1 for a scalar.
func (s Shape) Len() int {
	n := 1
	for _, d := range s.dims[:s.rank] {
		n *= d
	}
	return n
}

// Cols is the last dimension, 1 for a scalar.
func (s Shape) Cols() int {
	if s.rank == 0 {
		return 1
	}
	return s.dims[s.rank-1]
}

// Rows is the product of all dimensions but the last: an [A, B, C] value is
// A·B rows of C.
func (s Shape) Rows() int {
	n := 1
	for i := range s.rank - 1 {
		n *= s.dims[i]
	}
	return n
}

// WithLast is s with its last dimension replaced.
func (s Shape) WithLast(cols int) Shape {
	if s.rank == 0 {
		return Of(cols)
	}
	s.dims[s.rank-1] = cols
	return s
}

// WithoutLast is s without its last dimension.
func (s Shape) WithoutLast() Shape {
	if s.rank > 0 {
		s.rank--
		s.dims[s.rank] = 0
	}
	return s
}

// WithFirst is s with its first dimension replaced.
func (s Shape) WithFirst(n int) Shape {
	if s.rank == 0 {
		return Of(n)
	}
	s.dims[0] = n
	return s
}

// Dims returns the dimensions in a new slice.
func (s Shape) Dims() []int { return append([]int(nil), s.dims[:s.rank]...) }

func (s Shape) String() string {
	parts := make([]string, s.rank)
	for i := range parts {
		parts[i] = fmt.Sprint(s.dims[i])
	}
	return "[" + strings.Join(parts, "×") + "]"
}

// Tensor is values and their shape; len(Data) == Shape.Len().
type Tensor struct {
	Shape
	Data []float32
}

// New returns a tensor of zeros on the Go heap. Large buffers of a run come
// from a memory.Arena instead.
func New(dims ...int) Tensor {
	s := Of(dims...)
	return Tensor{s, make([]float32, s.Len())}
}

// From returns a tensor over data, which it does not copy.
func From(data []float32, dims ...int) Tensor {
	s := Of(dims...)
	if s.Len() != len(data) {
		panic(fmt.Sprintf("tensor: %d values for shape %v", len(data), s))
	}
	return Tensor{s, data}
}

// Row is row i of the value seen as Rows × Cols.
func (t Tensor) Row(i int) []float32 {
	c := t.Cols()
	return t.Data[i*c : (i+1)*c : (i+1)*c]
}
