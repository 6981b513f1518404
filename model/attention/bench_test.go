package attention

import (
	"fmt"
	"testing"
)

// The figures count visible pairs only: 4·E operations each forward, 10·E
// backward, though the tiles on the diagonal compute a few more.
func BenchmarkAttention(b *testing.B) {
	for _, p := range []problem{
		{"gpt", 8, 256, 256, 6, 6, 64, 0, Causal{}, 0},
		{"gpt1", 1, 256, 256, 6, 6, 64, 0, Causal{}, 0},
		{"small", 16, 256, 256, 4, 4, 32, 0, Causal{}, 0},
		{"long", 2, 1024, 1024, 4, 4, 64, 0, Causal{}, 0},
		{"4096", 1, 4096, 4096, 1, 1, 64, 0, Causal{}, 0},
		{"4096full", 1, 4096, 4096, 1, 1, 64, 0, nil, 0},
		{"4096wide", 1, 4096, 4096, 1, 1, 128, 0, Causal{}, 0},
		{"grouped", 2, 1024, 1024, 8, 2, 64, 0, Causal{}, 0},
	} {
		x := p.padded(0)
		pairs := float64(p.b * p.hq * p.t * p.t)
		if p.mask != nil {
			pairs = float64(p.b*p.hq*p.t) * float64(p.t+1) / 2
		}
		run := func(name string, flops float64, f func()) {
			b.Run(fmt.Sprintf("%s/%s", p.name, name), func(b *testing.B) {
				f()
				for b.Loop() {
					f()
				}
				b.ReportMetric(flops*pairs*float64(p.e)*float64(b.N)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
			})
		}
		run("forward", 4, func() { Forward(x.args, x.grads.O, x.lse) })
		run("backward", 10, func() { Backward(x.args, x.grads) })
	}
}

// Decoding reads the cache once per step, which is what its time goes to.
func BenchmarkDecode(b *testing.B) {
	for _, p := range []problem{
		{"heads6", 1, 1, 1024, 6, 6, 64, 1023, Causal{}, 0},
		{"grouped", 8, 1, 4096, 8, 2, 64, 4095, Causal{}, 0},
		{"batch", 8, 1, 4096, 8, 8, 64, 4095, Causal{}, 0},
		{"span8", 1, 8, 4096, 6, 6, 64, 4088, Causal{}, 0},
	} {
		x := p.padded(0)
		cache := make([]float32, 2*p.b*p.s*p.hkv*p.e)
		random(cache, 3)
		x.args.K = View{Data: cache, Row: p.hkv * p.e}
		x.args.V = View{Data: cache[len(cache)/2:], Row: p.hkv * p.e}
		b.Run(p.name, func(b *testing.B) {
			for b.Loop() {
				Forward(x.args, x.grads.O, x.lse)
			}
			read := float64(p.b*p.s*p.hkv*p.e) * 8
			b.ReportMetric(read*float64(b.N)/1e9/b.Elapsed().Seconds(), "GB/s")
		})
	}
}
