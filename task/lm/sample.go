package lm

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"hasten/engine/rng"
	"hasten/model/net"
)

// Sampling says how the next token is drawn from the logits: by the softmax of
// logits/Temperature, cut to the TopK most likely tokens, of these to those that
// MinP leaves, and of these to those that TopP needs.
type Sampling struct {
	Tokens      int     // how many to draw, at most
	Temperature float64 // divides the logits; 0: always the most likely token
	TopK        int     // draw among the K most likely; 0: among all
	MinP        float64 // leave out tokens less likely than MinP times the most likely
	TopP        float64 // draw among the fewest tokens whose probabilities sum to P; 0 or 1: among all
	Seed        uint64
	Stop        int32 // token that ends the text and is not part of it; below 0: none
}

// Validate checks the ranges.
func (s *Sampling) Validate() error {
	switch {
	case s.Tokens < 0:
		return fmt.Errorf("tokens=%d is below 0", s.Tokens)
	case !(s.Temperature >= 0):
		return fmt.Errorf("temperature=%g is below 0", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("top-k=%d is below 0", s.TopK)
	case !(s.TopP >= 0 && s.TopP <= 1):
		return fmt.Errorf("top-p=%g is outside 0 … 1", s.TopP)
	case !(s.MinP >= 0 && s.MinP <= 1):
		return fmt.Errorf("min-p=%g is outside 0 … 1", s.MinP)
	}
	return nil
}

// Generate continues a prompt, of at least one token, and hands every token to
// emit as it is drawn.
func Generate(ctx context.Context, m *net.GPT, prompt []int32, s Sampling, emit func(id int32) error) error {
	if err := s.Validate(); err != nil {
		return err
	}
	d := m.NewDecoder()
	defer d.Close()
	p := newPicker(m.Vocab, s)
	next := prompt
	for range s.Tokens {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := d.Feed(next...)
		if err != nil {
			return err
		}
		id := p.pick(logits)
		if id == s.Stop {
			return nil
		}
		if err := emit(id); err != nil {
			return err
		}
		next = []int32{id}
	}
	return nil
}

// picker draws tokens.
type picker struct {
	Sampling
	rand       rng.Stream
	candidates []candidate
}

type candidate struct {
	id int32
	p  float64
}

// sampleStream is the random stream that tokens are drawn from.
const sampleStream = 0x73616d70

func newPicker(vocab int, s Sampling) *picker {
	return &picker{s, rng.New(s.Seed, sampleStream), make([]candidate, vocab)}
}

// pick draws a token. Ties in likelihood fall to the smaller id.
func (p *picker) pick(logits []float32) int32 {
	top := 0
	for i, x := range logits {
		if x > logits[top] {
			top = i
		}
	}
	if p.Temperature == 0 {
		return int32(top)
	}
	c := p.candidates[:len(logits)]
	for i, x := range logits {
		c[i] = candidate{int32(i), math.Exp(float64(x-logits[top]) / p.Temperature)}
	}
	if p.TopK > 0 || p.TopP > 0 && p.TopP < 1 || p.MinP > 0 {
		slices.SortFunc(c, func(a, b candidate) int { return cmp.Or(cmp.Compare(b.p, a.p), cmp.Compare(a.id, b.id)) })
		c = p.cut(c)
	}
	var sum float64
	for _, x := range c {
		sum += x.p
	}
	u := p.rand.Float64() * sum
	for _, x := range c {
		if u -= x.p; u < 0 {
			return x.id
		}
	}
	return c[len(c)-1].id
}

// cut keeps the candidates, most likely first, that may be drawn.
func (p *picker) cut(c []candidate) []candidate {
	if p.TopK > 0 && p.TopK < len(c) {
		c = c[:p.TopK]
	}
	for i := range c {
		if c[i].p < p.MinP*c[0].p {
			c = c[:i]
			break
		}
	}
	if p.TopP > 0 && p.TopP < 1 {
		var sum, part float64
		for _, x := range c {
			sum += x.p
		}
		for i, x := range c {
			if part += x.p; part >= p.TopP*sum {
				return c[:i+1]
			}
		}
	}
	return c
}
