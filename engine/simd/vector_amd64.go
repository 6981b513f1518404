package simd

func vectorFor(Level) vectorKernels { return portableVector }
