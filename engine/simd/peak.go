package simd

// Loops of n rounds of multiply-adds on registers, for the level in use; nil
// where there is none.
var peakF32, peakBF16, peakU8S8 func(n int)

// peakRound is the number of vector instructions in a round, as generated.
const peakRound = 12

// PeakF32 runs a loop of independent multiply-adds on registers only, rounds
// times, on the calling goroutine, and returns the floating-point operations
// done (a multiply-add is two). Divided by the time taken, it is the limit of
// this core for float32 products. It returns 0 where the level in use has no
// such loop, as do PeakBF16 and PeakU8S8.
func PeakF32(rounds int) (flops float64) {
	perVector := 2 * 8.0
	if level == AVX512 {
		perVector = 2 * 16
	}
	return peak(peakF32, rounds, perVector)
}

// PeakBF16 is PeakF32 for dot products of bf16 pairs.
func PeakBF16(rounds int) (flops float64) { return peak(peakBF16, rounds, 2*32) }

// PeakU8S8 is PeakF32 for products of uint8 with int8, four to a unit.
func PeakU8S8(rounds int) (ops float64) { return peak(peakU8S8, rounds, 2*64) }

func peak(loop func(int), rounds int, perVector float64) float64 {
	if loop == nil || rounds <= 0 {
		return 0
	}
	loop(rounds)
	return float64(rounds) * peakRound * perVector
}
