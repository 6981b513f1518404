package matmul

import (
	"fmt"
	"math"
	"unsafe"

	"hasten/engine/memory"
	"hasten/engine/par"
	"hasten/engine/rng"
	"hasten/engine/simd"
)

// Tiles is a matrix in int8 with one float32 scale for each tile of 32×32. An
// element is its code times the scale of its tile; codes are within ±127. What
// tiles hold beyond the edges of the matrix is 0.
//
// Tiles is a view, like a slice: copies share their elements.
type Tiles struct {
	Rows, Cols int
	Codes      []int8    // tile after tile, row of tiles after row of tiles
	Scales     []float32 // of the tiles, in that order
}

const tile = simd.Tile8Side

// TilesLen is the number of float32 slots that Tiles of a size take.
func TilesLen(rows, cols int) int {
	return par.Pieces(rows, tile) * par.Pieces(cols, tile) * (simd.Tile8Area/4 + 1)
}

// TilesOf returns Tiles that lie in a buffer of TilesLen(rows, cols) slots,
// whatever it holds.
func TilesOf(rows, cols int, buffer []float32) Tiles {
	n := par.Pieces(rows, tile) * par.Pieces(cols, tile)
	if len(buffer) != TilesLen(rows, cols) {
		panic(fmt.Sprintf("matmul: [%d,%d] in tiles does not take %d floats", rows, cols, len(buffer)))
	}
	codes := unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(buffer))), n*simd.Tile8Area)
	return Tiles{Rows: rows, Cols: cols, Codes: codes, Scales: buffer[n*simd.Tile8Area/4:]}
}

// high and wide are the tiles in a column and in a row of tiles.
func (t Tiles) high() int { return par.Pieces(t.Rows, tile) }
func (t Tiles) wide() int { return par.Pieces(t.Cols, tile) }

// at is tile j of row i of tiles.
func (t Tiles) at(i, j int) (codes []int8, scale *float32) {
	n := i*t.wide() + j
	return t.Codes[n*simd.Tile8Area:][:simd.Tile8Area], &t.Scales[n]
}

// At returns the element at row r and column c.
func (t Tiles) At(r, c int) float32 {
	codes, scale := t.at(r/tile, c/tile)
	return float32(codes[r%tile*tile+c%tile]) * *scale
}

// Rounding says how values become codes: to the nearest, ties to even, as its
// zero value does; or by chance, up with the probability of the fraction, so
// that the mean over draws is the value.
type Rounding struct {
	Stochastic bool
	Draws      rng.Stream // of a rounding: each tile takes one block of it
}

// smallest is the magnitude below which a whole tile counts as 0: its inverse
// would overflow.
const smallest = 0x1p-100

// quantize sets tile n = (i, j) to the block x[32,32], rows ld apart. If an
// element is not finite, the scale is NaN and with it the tile.
func (t Tiles) quantize(i, j int, x []float32, ld int, how *Rounding) {
	codes, scale := t.at(i, j)
	bits := simd.Tile8AbsMaxBits(x, ld)
	largest := math.Float32frombits(bits)
	switch {
	case !(largest <= math.MaxFloat32):
		clear(codes)
		*scale = float32(math.NaN())
		return
	case largest < smallest:
		clear(codes)
		*scale = 0
		return
	}
	*scale = largest / 127
	if !how.Stochastic {
		simd.Tile8Quantize(codes, x, ld, 127/largest)
		return
	}
	b := how.Draws.Block(how.Draws.Offset/4 + uint64(i*t.wide()+j))
	simd.Tile8QuantizeStochastic(codes, x, ld, 127/largest, [2]uint32{b[0], b[1]})
}

// StripWidth is the distance of rows in a strip: Cols, filled up to whole tiles.
func (t Tiles) StripWidth() int { return t.wide() * tile }

// Strips is the number of strips: of rows of tiles.
func (t Tiles) Strips() int { return t.high() }

// QuantizeStrip sets row i of tiles to x [32, Cols], rows ld ≥ StripWidth
// apart. What x holds beyond the matrix is set to 0.
func (t Tiles) QuantizeStrip(i int, x []float32, ld int, how Rounding) {
	rows := min(tile, t.Rows-i*tile)
	for r := range tile {
		switch {
		case r >= rows:
			clear(x[r*ld:][:t.StripWidth()])
		case t.Cols%tile != 0:
			clear(x[r*ld+t.Cols : r*ld+t.StripWidth()])
		}
	}
	for j := range t.wide() {
		t.quantize(i, j, x[j*tile:], ld, &how)
	}
}

// DequantizeStrip sets x [32, StripWidth], rows ld apart, to row i of tiles.
func (t Tiles) DequantizeStrip(x []float32, ld, i int) {
	for j := range t.wide() {
		codes, scale := t.at(i, j)
		simd.Tile8Dequantize(x[j*tile:], ld, codes, *scale)
	}
}

// AddStrip adds row i of tiles to x [32, StripWidth], rows ld apart.
func (t Tiles) AddStrip(x []float32, ld, i int) {
	for j := range t.wide() {
		codes, scale := t.at(i, j)
		simd.Tile8AddTo(x[j*tile:], ld, codes, *scale)
	}
}

type convertArgs struct {
	t   Tiles
	x   []float32
	how Rounding
	add bool
}

var convertLoop par.Loop[convertArgs]

// Quantize sets t to x [Rows, Cols].
func (t Tiles) Quantize(x []float32, how Rounding) {
	t.checkFloats(x)
	convertLoop.Run(t.Strips(), convertArgs{t: t, x: x, how: how}, func(a *convertArgs, i int) {
		t, ld := a.t, a.t.StripWidth()
		if ld == t.Cols && (i+1)*tile <= t.Rows {
			t.QuantizeStrip(i, a.x[i*tile*ld:], ld, a.how)
			return
		}
		strip := memory.Default.Dirty(memory.Workspace, tile*ld)
		for r := range min(tile, t.Rows-i*tile) {
			copy(strip[r*ld:], a.x[(i*tile+r)*t.Cols:][:t.Cols])
		}
		t.QuantizeStrip(i, strip, ld, a.how)
		memory.Default.Free(memory.Workspace, strip)
	})
}

// Dequantize sets x [Rows, Cols] to t, or with add adds t to it.
func (t Tiles) Dequantize(x []float32, add bool) {
	t.checkFloats(x)
	convertLoop.Run(t.Strips(), convertArgs{t: t, x: x, add: add}, func(a *convertArgs, i int) {
		t, ld := a.t, a.t.StripWidth()
		strip := memory.Default.Dirty(memory.Workspace, tile*ld)
		t.DequantizeStrip(strip, ld, i)
		for r := range min(tile, t.Rows-i*tile) {
			to, from := a.x[(i*tile+r)*t.Cols:][:t.Cols], strip[r*ld:][:t.Cols]
			if a.add {
				simd.AddTo(to, from)
			} else {
				copy(to, from)
			}
		}
		memory.Default.Free(memory.Workspace, strip)
	})
}

func (t Tiles) checkFloats(x []float32) {
	if len(x) != t.Rows*t.Cols {
		panic(fmt.Sprintf("matmul: %d floats for tiles of [%d,%d]", len(x), t.Rows, t.Cols))
	}
}

// SumRows adds the sum of the rows of t to dst [Cols], or with fresh sets it.
func (t Tiles) SumRows(dst []float32, fresh bool) {
	if len(dst) != t.Cols {
		panic(fmt.Sprintf("matmul: the rows of [%d,%d] summed into %d floats", t.Rows, t.Cols, len(dst)))
	}
	convertLoop.Run(t.wide(), convertArgs{t: t, x: dst, add: !fresh}, func(a *convertArgs, j int) {
		block := memory.Default.Floats(memory.Workspace, simd.Tile8Area)
		for i := range a.t.high() {
			codes, scale := a.t.at(i, j)
			simd.Tile8AddTo(block, tile, codes, *scale)
		}
		for r := 1; r < tile; r++ {
			simd.AddTo(block[:tile], block[r*tile:][:tile])
		}
		lo, hi := par.Bounds(j, tile, a.t.Cols)
		if a.add {
			simd.AddTo(a.x[lo:hi], block[:hi-lo])
		} else {
			copy(a.x[lo:hi], block)
		}
		memory.Default.Free(memory.Workspace, block)
	})
}

// TileArgs describes a product of tiles and where it goes: either to tiles,
//
//	Out = round(op(A)·op(B) + Bias + Residual)
//
// or to float32, Wide = op(A)·op(B) + Beta·Wide. op(A) is [M,K], op(B) [K,N].
// Out may be Residual.
type TileArgs struct {
	A, B           Tiles
	TransA, TransB bool

	Out      Tiles     // [M,N]
	Bias     []float32 // [N], or nil
	Residual Tiles     // [M,N], or its zero value
	Rounding Rounding

	Wide []float32 // [M,N]; nil: Out
	Beta float32
}

// MulTiles computes one product on all cores. With tiles of op(A) and op(B)
// numbered along the depth by k, each tile of the product is
//
//	C = Σ_k s(A_k)·s(B_k)·(A_k·B_k)
//
// where A_k·B_k, 32 deep, is exact in int32, and the sum over k is in float32,
// in order. It panics when shapes do not agree.
func MulTiles(a TileArgs) {
	p := tileProduct{TileArgs: a}
	p.m, p.k, p.n = a.A.Rows, a.A.Cols, a.B.Cols
	if a.TransA {
		p.m, p.k = p.k, p.m
	}
	depth := a.B.Rows
	if a.TransB {
		p.n, depth = depth, p.n
	}
	out := a.Wide == nil && (a.Out.Rows != p.m || a.Out.Cols != p.n)
	if depth != p.k || out || a.Wide != nil && len(a.Wide) != p.m*p.n || a.Bias != nil && len(a.Bias) != p.n ||
		a.Residual.Codes != nil && (a.Residual.Rows != p.m || a.Residual.Cols != p.n) {
		panic(fmt.Sprintf("matmul: tiles of [%d,%d] transA=%t by [%d,%d] transB=%t into [%d,%d] and %d floats, bias of %d, residual [%d,%d]",
			a.A.Rows, a.A.Cols, a.TransA, a.B.Rows, a.B.Cols, a.TransB, a.Out.Rows, a.Out.Cols, len(a.Wide), len(a.Bias), a.Residual.Rows, a.Residual.Cols))
	}
	p.run()
}

// tileProduct is a product under way. B is laid out for the kernel, a slab of
// columns at a time. A task lays out one row of tiles of op(A) and multiplies
// it with a few columns of the slab. How the work is cut depends on the sizes
// only, and no sum is cut.
type tileProduct struct {
	TileArgs
	m, n, k int

	deep   int // tiles along the depth
	forms  [2]simd.Tile8Form
	sizes  [2]int // bytes of a tile of A and of B, laid out
	lo, hi int    // columns of tiles in the slab
	laid   []byte
	pieces int // tasks side by side in the slab
}

const (
	taskTiles = 16      // columns of tiles in a task: laying out A costs little beside
	slabTiles = 1 << 11 // tiles in a slab, about 2 MiB, if a task's columns do not take more
)

var (
	tileLayLoop  par.Loop[tileProduct]
	tileTaskLoop par.Loop[tileProduct]
)

func (p *tileProduct) run() {
	p.deep = par.Pieces(p.k, tile)
	columns := par.Pieces(p.n, tile)
	width := min(columns, max(1, slabTiles/max(1, p.deep)/taskTiles)*taskTiles)
	p.forms, p.sizes = [2]simd.Tile8Form{simd.Tile8Rows, simd.Tile8Columns}, [2]int{simd.Tile8SizeA(), simd.Tile8SizeB()}
	if p.TransA {
		p.forms[0] = simd.Tile8Columns
	}
	if p.TransB {
		p.forms[1] = simd.Tile8Rows
	}
	p.laid = memory.Default.Bytes(memory.Workspace, width*p.deep*p.sizes[1])
	for p.lo = 0; p.lo < columns; p.lo = p.hi {
		p.hi = min(p.lo+width, columns)
		p.pieces = par.Pieces(p.hi-p.lo, taskTiles)
		tileLayLoop.Run(p.hi-p.lo, *p, layColumn)
		tileTaskLoop.Run(par.Pieces(p.m, tile)*p.pieces, *p, tileTask)
	}
	memory.Default.FreeBytes(memory.Workspace, p.laid)
}

// column is column j of the slab, laid out.
func (p *tileProduct) column(j int) []byte {
	size := p.deep * p.sizes[1]
	return p.laid[j*size:][:size]
}

func layColumn(p *tileProduct, j int) {
	column := p.column(j)
	for k := range p.deep {
		i, j := k, p.lo+j
		if p.TransB {
			i, j = j, i
		}
		codes, _ := p.B.at(i, j)
		simd.Tile8LayB(column[k*p.sizes[1]:], codes, p.forms[1])
	}
}

// tileTask computes up to taskTiles tiles of one row of tiles.
func tileTask(p *tileProduct, task int) {
	i := task / p.pieces
	j0, j1 := par.Bounds(task%p.pieces, taskTiles, p.hi-p.lo)
	row := memory.Default.Bytes(memory.Workspace, p.deep*p.sizes[0])
	factors := memory.Default.Dirty(memory.Workspace, p.deep)
	for k := range p.deep {
		i, j := i, k
		if p.TransA {
			i, j = j, i
		}
		codes, _ := p.A.at(i, j)
		simd.Tile8LayA(row[k*p.sizes[0]:], codes, p.forms[0])
	}
	sum := memory.Default.Dirty(memory.Workspace, simd.Tile8Area)
	for j := j0; j < j1; j++ {
		p.factors(factors, i, p.lo+j)
		clear(sum)
		simd.Tile8Mul(sum, p.forms[0], row, p.column(j), factors)
		p.finish(sum, i, p.lo+j)
	}
	memory.Default.Free(memory.Workspace, sum)
	memory.Default.Free(memory.Workspace, factors)
	memory.Default.FreeBytes(memory.Workspace, row)
}

// factors sets f to the products of scales along the depth for tile (i, j).
func (p *tileProduct) factors(f []float32, i, j int) {
	a, stepA := i*p.A.wide(), 1
	if p.TransA {
		a, stepA = i, p.A.wide()
	}
	b, stepB := j, p.B.wide()
	if p.TransB {
		b, stepB = j*p.B.wide(), 1
	}
	for k := range f {
		f[k] = p.A.Scales[a] * p.B.Scales[b]
		a, b = a+stepA, b+stepB
	}
}

// finish stores tile (i, j) of the product, sum [32, 32].
func (p *tileProduct) finish(sum []float32, i, j int) {
	rows, cols := min(tile, p.m-i*tile), min(tile, p.n-j*tile)
	if p.Wide != nil {
		for r := range rows {
			to, from := p.Wide[(i*tile+r)*p.n+j*tile:][:cols], sum[r*tile:][:cols]
			switch p.Beta {
			case 0:
				copy(to, from)
				continue
			case 1:
			default:
				simd.Scale(to, p.Beta)
			}
			simd.AddTo(to, from)
		}
		return
	}
	if p.Bias != nil {
		simd.Finish(rows, cols, sum, tile, p.Bias[j*tile:][:cols], nil, 0)
	}
	if p.Residual.Codes != nil {
		codes, scale := p.Residual.at(i, j)
		simd.Tile8AddTo(sum, tile, codes, *scale)
	}
	p.Out.quantize(i, j, sum, tile, &p.Rounding)
}
