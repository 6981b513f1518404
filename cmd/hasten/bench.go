package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"hasten/lab/bench"
	"hasten/model/net"
)

func benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput, and the share of this machine's peak",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("which benchmark? gemm, attention or gpt; see hasten bench --help")}
		},
	}
	c.AddCommand(benchGPT(), benchGEMM(), benchAttention())
	return c
}

func benchGPT() *cobra.Command {
	c := &cobra.Command{Use: "gpt", Short: "Time whole training steps of a GPT", Args: cobra.NoArgs}
	f := c.Flags()
	arch := f.String("arch", "llama", "llama or gpt2")
	layers := f.Int("layers", 6, "transformer blocks")
	heads := f.Int("heads", 6, "query heads")
	kv := f.Int("kv", 0, "key and value heads; 0: as many as heads")
	dim := f.Int("dim", 384, "width of the residual stream")
	hidden := f.Int("hidden", 0, "width of the feed-forward layer; 0: the usual for dim")
	ctx := f.Int("ctx", 256, "tokens in a sequence")
	batch := f.Int("batch", 8, "sequences in a step")
	vocab := f.Int("vocab", 4096, "size of the vocabulary")
	steps := f.Int("steps", 8, "steps that count; two more come first")
	threads := f.Int("threads", 0, "threads; 0: one for each core")
	precision := f.String("precision", "f32", "f32 or bf16")
	recompute := f.Bool("recompute", false, "keep no activations inside a block")
	f.Bool("json", true, "print JSON on standard output; this command always does")
	c.RunE = func(*cobra.Command, []string) error {
		config, err := net.Parts.Build(*arch, nil)
		if err != nil {
			return usageError{err}
		}
		config.Layers, config.Heads, config.KV, config.Dim, config.Hidden = *layers, *heads, *kv, *dim, *hidden
		config.Ctx, config.Vocab, config.Recompute = *ctx, *vocab, *recompute
		for name, n := range map[string]int{"layers": *layers, "heads": *heads, "dim": *dim, "ctx": *ctx, "batch": *batch, "vocab": *vocab, "steps": *steps} {
			if n < 1 {
				return usageError{fmt.Errorf("--%s %d: want at least 1", name, n)}
			}
		}
		r, err := bench.GPT(bench.GPTOptions{Config: *config, Batch: *batch, Steps: *steps, Threads: *threads, Precision: *precision})
		if err != nil {
			return usageError{err}
		}
		fmt.Fprintf(os.Stderr, "%.0f tokens/s, %.1f ms a step (median of %d), %.0f %% of the f32 peak of %d threads\n", r.TokensPerS, r.StepMS, *steps, 100*r.PeakShare, r.Threads)
		fmt.Fprintf(os.Stderr, "%d parameters, %.0f MiB of buffers at most, %.0f MiB of process memory\n", r.Params, r.ArenaPeakMiB, r.RSSMiB)
		return printJSON(r)
	}
	return c
}

func benchGEMM() *cobra.Command {
	c := &cobra.Command{Use: "gemm", Short: "Time matrix products", Args: cobra.NoArgs}
	f := c.Flags()
	n := f.Int("n", 1024, "size of the square matrices")
	form := f.String("form", "nn", "nn, nt or tn: which operand is stored transposed")
	precision := f.String("precision", "f32", "f32, bf16 or int8")
	threads := f.Int("threads", 0, "threads; 0: one for each core")
	asJSON := addJSON(c)
	c.RunE = func(*cobra.Command, []string) error {
		r, err := bench.GEMM(*n, *form, *precision, *threads)
		if err != nil {
			return usageError{err}
		}
		if *asJSON {
			return printJSON(r)
		}
		fmt.Printf("%.1f GFLOP/s, %.0f %% of the %s peak of %d threads\n", r.GFLOPS, 100*r.PeakShare, *precision, r.Threads)
		return nil
	}
	return c
}

func benchAttention() *cobra.Command {
	c := &cobra.Command{Use: "attention", Short: "Time causal attention, forward and backward", Args: cobra.NoArgs}
	f := c.Flags()
	var o bench.AttentionOptions
	f.IntVar(&o.Batch, "batch", 2, "sequences")
	f.IntVar(&o.Heads, "heads", 4, "query heads")
	f.IntVar(&o.KV, "kv", 0, "key and value heads; 0: as many as heads")
	f.IntVar(&o.Size, "size", 64, "floats in a head")
	f.IntVar(&o.Length, "ctx", 1024, "tokens in a sequence")
	f.IntVar(&o.Threads, "threads", 0, "threads; 0: one for each core")
	asJSON := addJSON(c)
	c.RunE = func(*cobra.Command, []string) error {
		r, err := bench.Attention(o)
		if err != nil {
			return usageError{err}
		}
		if *asJSON {
			return printJSON(r)
		}
		fmt.Printf("forward  %8.2f ms, %6.1f GFLOP/s, %.0f %% of the f32 peak\n", r.ForwardMS, r.ForwardGFLOPS, 100*r.ForwardShare)
		fmt.Printf("backward %8.2f ms, %6.1f GFLOP/s, %.0f %% of the f32 peak\n", r.BackwardMS, r.BackwardGFLOPS, 100*r.BackwardShare)
		return nil
	}
	return c
}
