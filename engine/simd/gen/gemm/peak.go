package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// peakChains is the number of independent sums of a peak loop: enough to hide
// the latency of one multiply-add in either width.
const peakChains = 12

// peaks writes loops of independent multiply-adds on registers: the machine's
// arithmetic limit.
func peaks() {
	peak("peakF32AVX512", zmm, func(i int) { VFMADD231PS(zmm[14], zmm[15], zmm[i]) })
	peak("peakBF16AVX512", zmm, func(i int) { evex(prefixF3, 0x52, 14, 15, i) })
	peak("peakU8S8AVX512", zmm, func(i int) { raw("VPDPBUSD", zmm[14], zmm[15], zmm[i]) })
	peak("peakF32AVX2", ymm, func(i int) { VFMADD231PS(ymm[14], ymm[15], ymm[i]) })
}

func peak(name string, regs []reg.VecPhysical, mac func(i int)) {
	TEXT(name, attr.NOSPLIT, "func(n int)")
	Doc(label("%s does n rounds of %d multiply-adds on registers.", name, peakChains))
	load("n", reg.RCX)
	for i := range regs[:16] {
		tile{regs: regs}.zero(i)
	}
	align()
	Label("round")
	for i := range peakChains {
		mac(i)
	}
	DECQ(reg.RCX)
	JG(LabelRef("round"))
	VZEROUPPER()
	RET()
}
