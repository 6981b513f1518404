package sample

import (
	"fmt"
	"math"

	"hasten/engine/memory"
	"hasten/engine/rng"
)

// InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning.
// Qin, Wang, Zheng, Gu, Peng, Xu, Zhou, Shang, Sun, Xie, You. ICLR 2024.
//
// With H_t(z) the loss of sample z when it was last trained on, and H̄_t the
// mean over all samples, epoch t skips z with the probability
//
//	P_t(z) = r where H_t(z) < H̄_t, else 0
//
// and multiplies the loss of z by
//
//	γ_t(z) = 1/(1-P_t(z))
//
// so that the expected gradient of the epoch is that of all samples. The epochs
// after the share δ of the run see everything, at weight 1.
//
// H_0 is the same for all samples: the first epoch is whole. Of m samples below
// the mean, (1-r)·m stay, rounded up or down at random: each stays with the
// probability 1-r exactly, and their number varies no more than it must.
type InfoBatch struct {
	R     float64 `set:"r" range:"[0,1)" help:"share of the samples below the mean loss that an epoch skips"`
	Delta float64 `set:"delta" range:"[0,1]" help:"share of the run after which every epoch is whole"`
	// Rescale can be switched off to see what the weights are worth; the
	// gradient is then biased towards samples of high loss.
	Rescale bool `set:"rescale" help:"weigh the samples below the mean that stay by 1/(1-r)"`

	// Sum adds x over the ranks of a distributed run, element by element and in
	// place: each rank observes the samples it trains on, and all must plan
	// alike. nil: there is one rank.
	Sum func(x []float32) error

	seed   uint64
	scores []float32 // [n] H
	fresh  []float32 // [n] sum of the losses observed in the epoch under way
	counts []float32 // [n] and their number
	low    []int32   // [n] room for the samples below the mean
	plan   Plan      // with room for n
}

// NewInfoBatch returns the sampler with the paper's r = 0.5 and δ = 0.875.
func NewInfoBatch() *InfoBatch { return &InfoBatch{R: 0.5, Delta: 0.875, Rescale: true} }

// Init takes buffers for the scores of n samples.
func (s *InfoBatch) Init(a *memory.Arena, n int, seed uint64) error {
	s.seed = seed
	s.scores, s.fresh, s.counts = a.Floats(memory.Data, n), a.Floats(memory.Data, n), a.Floats(memory.Data, n)
	for i := range s.scores {
		s.scores[i] = 1
	}
	s.low = make([]int32, 0, n)
	s.plan = Plan{IDs: make([]int32, 0, n), Weights: a.Floats(memory.Data, n)}
	return nil
}

// Plan drops some of the samples below the mean score and weighs the rest.
func (s *InfoBatch) Plan(e int, done float64) Plan {
	threshold := math.Inf(-1) // every sample is above
	if done < s.Delta {
		threshold = mean(s.scores)
	}
	r := rng.New(s.seed, pruneStream).Split(uint64(e))
	ids, low := s.plan.IDs[:0], s.low[:0]
	for i, h := range s.scores {
		if float64(h) < threshold {
			low = append(low, int32(i))
		} else {
			ids = append(ids, int32(i))
		}
	}
	shuffle(low, r.Split(0))
	stay := min(int((1-s.R)*float64(len(low))+r.Float64()), len(low))
	ids = append(ids, low[:stay]...)
	shuffle(ids, r.Split(1))

	weights := s.plan.Weights[:len(ids)]
	for i, id := range ids {
		weights[i] = 1
		if s.Rescale && float64(s.scores[id]) < threshold {
			weights[i] = float32(1 / (1 - s.R))
		}
	}
	return Plan{IDs: ids, Weights: weights}
}

func mean(x []float32) float64 {
	var sum float64
	for _, v := range x {
		sum += float64(v)
	}
	return sum / float64(len(x))
}

// Observe remembers the losses for the next epoch.
func (s *InfoBatch) Observe(ids []int32, losses []float32) {
	for i, id := range ids {
		s.fresh[id] += losses[i]
		s.counts[id]++
	}
}

// EndEpoch makes the observed losses the scores of their samples; those that
// were skipped keep theirs.
func (s *InfoBatch) EndEpoch() error {
	if s.Sum != nil {
		for _, x := range [][]float32{s.fresh, s.counts} {
			if err := s.Sum(x); err != nil {
				return fmt.Errorf("infobatch: gathering the scores: %w", err)
			}
		}
	}
	for i, n := range s.counts {
		if n > 0 {
			s.scores[i] = s.fresh[i] / n
		}
	}
	clear(s.fresh)
	clear(s.counts)
	return nil
}

// State is the scores and what has been observed in the epoch under way.
func (s *InfoBatch) State() map[string][]float32 {
	return map[string][]float32{"infobatch.scores": s.scores, "infobatch.observed": s.fresh, "infobatch.counts": s.counts}
}

func (s *InfoBatch) String() string {
	return fmt.Sprintf("infobatch r %v delta %v rescale %v, %d samples, seed %d", s.R, s.Delta, s.Rescale, len(s.scores), s.seed)
}
