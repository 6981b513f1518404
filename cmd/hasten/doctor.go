package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"hasten/data/source"
	"hasten/engine/simd"
	"hasten/lab/bench"
)

// diagnosis is what doctor finds.
type diagnosis struct {
	version
	Cores     int               `json:"cores"`
	Threads   int               `json:"threads"`
	Best      string            `json:"best_simd"`
	BF16      bool              `json:"bf16"`
	VNNI      bool              `json:"vnni"`
	F32       float64           `json:"f32_gflops_per_core"`
	BF16Peak  float64           `json:"bf16_gflops_per_core"`
	Int8Peak  float64           `json:"int8_gops_per_core"`
	Bandwidth float64           `json:"copy_gb_per_s"` // bytes read and written, all cores
	Data      map[string]string `json:"data"`          // where each data set is, "" if it is not there
}

func doctorCommand() *cobra.Command {
	c := &cobra.Command{Use: "doctor", Short: "Show the processor, the kernels in use, measured limits and the data found", Args: cobra.NoArgs}
	asJSON := addJSON(c)
	c.RunE = func(*cobra.Command, []string) error {
		const each = 200 * time.Millisecond
		d := diagnosis{
			version: currentVersion(), Cores: runtime.NumCPU(), Threads: runtime.GOMAXPROCS(0), Best: simd.Best().String(),
			BF16: simd.Has().BF16, VNNI: simd.Has().VNNI,
			F32: bench.Peak(each) / 1e9, BF16Peak: bench.PeakBF16(each) / 1e9, Int8Peak: bench.PeakInt8(each) / 1e9,
			Bandwidth: bench.Bandwidth(each) / 1e9, Data: map[string]string{},
		}
		for _, s := range source.Catalogue() {
			path, _ := s.Find()
			d.Data[s.Name] = path
		}
		if *asJSON {
			return printJSON(d)
		}
		fmt.Printf("processor   %d cores, %d threads in use; kernels %s (best %s), bf16 dot products %s, int8 dot products %s\n",
			d.Cores, d.Threads, d.SIMD, d.Best, yes(d.BF16), yes(d.VNNI))
		fmt.Printf("limits      one core: %.0f GFLOP/s f32, %.0f bf16, %.0f GOP/s int8; memory, all cores: %.1f GB/s copied\n",
			d.F32, d.BF16Peak, d.Int8Peak, d.Bandwidth)
		for _, s := range source.Catalogue() {
			if path := d.Data[s.Name]; path != "" {
				fmt.Printf("data        %-8s %s\n", s.Name, path)
			} else {
				fmt.Printf("data        %-8s not found; to get it: %s\n", s.Name, s.Get)
			}
		}
		return nil
	}
	return c
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
