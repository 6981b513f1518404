// Package fft is the discrete Fourier transform of float32 signals, and the
// long causal convolution built on it.
//
// A transform of one length is a plan, kept for the life of the process and
// safe for use from several goroutines:
//
//	p := fft.RealOf(1024)
//	p.Forward(spectrum, signal) // signal: [rows, 1024], spectrum: [rows, 513]
//	p.Inverse(signal, spectrum) // back, to rounding
//
// Rows are transformed in parallel. Conventions are those of NumPy: Forward is
//
//	X[k] = Σ_t x[t]·exp(-2πi·k·t/n)
//
// and Inverse divides by n. Values are float32 outside and float64 inside, so
// the error is that of rounding the result. Any length works; one whose prime
// factors are 2, 3 and 5 is fast, and FastLen finds the next of those.
//
// The transforms themselves are Gonum's (dsp/fourier).
package fft
