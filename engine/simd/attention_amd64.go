package simd

import "unsafe"

//go:generate go run ./gen/attention -out attention_amd64.s -stubs attention_stubs_amd64.go -pkg simd

func tileFor(l Level) tileKernels {
	switch l {
	case AVX512:
		return tileKernels{tileMulAVX512, tileDotAVX512, tileSoftmaxAVX512, tileGradAVX512, tileTransposeBlocks}
	case AVX2:
		return tileKernels{tileMulAVX2, tileDotAVX2, tileSoftmaxAVX2, tileGradAVX2, tileTransposeBlocks}
	}
	return portableTile
}

// tileTransposeBlocks leaves blocks of 8 by 8 to the assembly.
func tileTransposeBlocks(dst *float32, ds int, src *float32, ss, rows, cols int, f *float32, add int) {
	r, c := rows&^7, cols&^7
	switch {
	case r == 0 || c == 0:
	case ds > ss: // write whole rows, eight at a time
		for i := 0; i < c; i += 8 {
			tileTransposeAVX2(skip(dst, i*ds), ds, skip(src, i), ss, r, 8, skip(f, i), add)
		}
	default: // read whole rows, eight at a time
		tileTransposeAVX2(dst, ds, src, ss, r, c, f, add)
	}
	if r > 0 && c < cols { // the last columns
		tileTransposeGo(skip(dst, c*ds), ds, skip(src, c), ss, r, cols-c, skip(f, c), add)
	}
	if r < rows { // the last rows
		tileTransposeGo(skip(dst, r), ds, skip(src, r*ss), ss, rows-r, cols, f, add)
	}
}

// skip is n floats after p.
func skip(p *float32, n int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(p), 4*n))
}
