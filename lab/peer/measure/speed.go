package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"hasten/engine/atomicfile"
)

// comparison is the same work for both sides.
type comparison struct {
	Name         string
	Unit         string // of the rate
	hasten, peer []string
}

// comparisons lists all of them. Names read kind/what/size/format.
func comparisons() []comparison {
	var all []comparison
	for i, s := range []struct{ layers, heads, dim, ctx, batch, vocab int }{
		{6, 6, 384, 256, 8, 4096}, {4, 4, 128, 256, 16, 256}, {4, 4, 256, 1024, 2, 256},
	} {
		formats := []string{"f32"}
		if i == 0 {
			formats = append(formats, "bf16")
		}
		for _, arch := range []string{"llama", "gpt2"} {
			for _, format := range formats {
				args := []string{"--arch", arch, "--precision", format}
				for _, n := range []struct {
					flag  string
					value int
				}{
					{"layers", s.layers}, {"heads", s.heads}, {"dim", s.dim}, {"ctx", s.ctx}, {"batch", s.batch}, {"vocab", s.vocab}, {"steps", 8},
				} {
					args = append(args, "--"+n.flag, strconv.Itoa(n.value))
				}
				all = append(all, comparison{
					Name: fmt.Sprintf("gpt/%s/%dx%d,ctx=%d,batch=%d,vocab=%d/%s", arch, s.layers, s.dim, s.ctx, s.batch, s.vocab, format),
					Unit: "tokens/s", hasten: append([]string{"bench", "gpt", "--json"}, args...), peer: append([]string{"bench"}, args...),
				})
			}
		}
	}
	product := func(n int, form, format string) {
		args := []string{"--n", strconv.Itoa(n), "--form", form, "--precision", format}
		all = append(all, comparison{
			Name: fmt.Sprintf("gemm/%s/%d/%s", form, n, format),
			Unit: "GFLOP/s", hasten: append([]string{"bench", "gemm", "--json"}, args...), peer: append([]string{"matmul"}, args...),
		})
	}
	forms := []string{"nn", "nt", "tn"}
	for _, n := range []int{384, 512, 1024} {
		for _, form := range forms {
			product(n, form, "f32")
		}
	}
	for _, form := range forms {
		product(1024, form, "bf16")
	}
	product(1024, "nt", "int8")
	return all
}

// cost is what one run of a side cost.
type cost struct {
	Rate   float64 `json:"rate"`
	Memory float64 `json:"memory_mib,omitempty"` // largest resident memory of the process
}

// parseCost reads what either side prints.
func parseCost(out []byte) (cost, error) {
	var r struct {
		Tokens float64 `json:"tokens_per_s"`
		FLOPs  float64 `json:"gflops"`
		RSS    float64 `json:"rss_mib"`
	}
	err := json.Unmarshal(out, &r)
	if err == nil && r.Tokens+r.FLOPs <= 0 {
		err = fmt.Errorf("no rate in %s", out)
	}
	return cost{r.Tokens + r.FLOPs, r.RSS}, err
}

// pair is a run of each side, one right after the other.
type pair struct {
	Hasten cost `json:"hasten"`
	Peer   cost `json:"peer"`
}

// outcome is a comparison and its pairs.
type outcome struct {
	Name   string `json:"name"`
	Unit   string `json:"unit"`
	Pairs  []pair `json:"pairs"`
	Failed string `json:"failed,omitempty"` // why a side cannot do it
}

// speedReport is the file of results.
type speedReport struct {
	Host     *host     `json:"host"`
	Outcomes []outcome `json:"outcomes"`
}

// measureSpeed runs rounds of all comparisons and keeps what is there after
// each round in a file.
func measureSpeed(ctx context.Context, s *sides, chosen []comparison, rounds int, out string) (*speedReport, error) {
	h, err := s.host(ctx)
	if err != nil {
		return nil, err
	}
	r := &speedReport{Host: h}
	for _, c := range chosen {
		r.Outcomes = append(r.Outcomes, outcome{Name: c.Name, Unit: c.Unit})
	}
	for round := range rounds {
		for i, c := range chosen {
			o := &r.Outcomes[i]
			if o.Failed != "" {
				continue
			}
			p, err := s.pair(ctx, c, round%2 == 1)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				o.Failed = err.Error()
				fmt.Fprintf(os.Stderr, "round %d of %d: %s: %v\n", round+1, rounds, c.Name, err)
				continue
			}
			o.Pairs = append(o.Pairs, p)
			fmt.Fprintf(os.Stderr, "round %d of %d: %s: hasten %.4g, PyTorch %.4g %s, ratio %.2f\n",
				round+1, rounds, c.Name, p.Hasten.Rate, p.Peer.Rate, c.Unit, p.Hasten.Rate/p.Peer.Rate)
		}
		if err := writeJSON(out, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// pair runs both sides. Which comes first alternates from round to round, so
// that neither always finds the machine as the other left it.
func (s *sides) pair(ctx context.Context, c comparison, peerFirst bool) (p pair, err error) {
	runs := []func() error{
		func() error {
			out, err := s.run(ctx, append(c.hasten, "--threads", strconv.Itoa(s.threads))...)
			if err == nil {
				p.Hasten, err = parseCost(out)
			}
			return err
		},
		func() error {
			out, err := s.torch.Run(ctx, c.peer...)
			if err == nil {
				p.Peer, err = parseCost(out)
			}
			return err
		},
	}
	if peerFirst {
		slices.Reverse(runs)
	}
	for _, run := range runs {
		if err := run(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// writeJSON writes a file as a whole.
func writeJSON(path string, v any) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "\t")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	})
}
