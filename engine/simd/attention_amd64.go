package simd

func tileFor(Level) tileKernels { return portableTile }
