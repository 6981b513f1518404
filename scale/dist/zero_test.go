package dist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hasten/engine/atomicfile"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/simd"
	"hasten/learn/loop"
	"hasten/learn/loss"
	"hasten/learn/optim"
	"hasten/learn/schedule"
	"hasten/model/net"
)

// toy is a small language model on random tokens: batch i of a rank is a
// function of both.
type toy struct {
	model     *net.GPT
	rank      int
	next      int
	tokens    []int32
	targets   []int32
	failAfter int // batches; 0: never
	bad       bool
}

const toyBatch, toyLength, toyEpoch = 2, 8, 7

func newToy(a *memory.Arena, rank int, change func(*net.Config)) *toy {
	c := net.Config{Arch: "llama", Layers: 2, Heads: 2, Dim: 16, Hidden: 24, Ctx: toyLength, Eps: 1e-5, Theta: 1e4, Vocab: 31}
	if change != nil {
		change(&c)
	}
	m, err := net.NewGPT(a, c)
	if err != nil {
		panic(err)
	}
	m.Init(1)
	return &toy{model: m, rank: rank, tokens: make([]int32, toyBatch*toyLength), targets: make([]int32, toyBatch*toyLength)}
}

func (t *toy) Params() []*grad.Param { return t.model.Params() }

func (t *toy) draw(i int) {
	s := rng.New(7, 7).Split(uint64(100*i + t.rank))
	for j := range t.tokens {
		t.tokens[j], t.targets[j] = int32(s.IntN(31)), int32(s.IntN(31))
	}
}

func (t *toy) Next() (int, error) {
	if t.next%(toyEpoch+1) == toyEpoch { // an epoch ends
		t.next++
		return 0, io.EOF
	}
	t.draw(t.next)
	t.next++
	if t.failAfter > 0 && t.next > t.failAfter {
		return 0, errors.New("the data is torn")
	}
	return len(t.tokens), nil
}

func (t *toy) Loss(tape *grad.Tape) (*grad.Var, []float32, error) {
	h := t.model.Hidden(tape, t.tokens, toyLength, nil)
	l := loss.HeadCrossEntropy(tape, h, t.model.Head.Var, t.targets, nil)
	if t.bad && t.next > 3 {
		l.Data[0] = float32(math.NaN())
	}
	return l, nil, nil
}

func (t *toy) Position() (json.RawMessage, error) { return json.Marshal(t.next) }
func (t *toy) Seek(p json.RawMessage) error       { return json.Unmarshal(p, &t.next) }

// toyLoop is the loop of one rank.
func toyLoop(rank, steps int, change func(*net.Config)) *loop.Loop {
	arena := new(memory.Arena)
	adam := optim.NewAdamW()
	adam.LR = 3e-3
	return &loop.Loop{Task: newToy(arena, rank, change), Optimizer: adam, Arena: arena, Seed: 3,
		Budget: loop.Budget{Steps: steps}, Schedule: &schedule.Constant{}}
}

// flat is the weights of a model, one after the other.
func flat(params []*grad.Param) []float32 {
	var all []float32
	for _, p := range params {
		all = append(all, p.Data...)
	}
	return all
}

// naive is data-parallel mixed-precision Adam, written out: every rank computes
// its gradient with ordinary parameters, one after the other; the rounded
// gradients are summed in the order of the ring, bucket by bucket.
func naive(ranks, steps, bucket int) []float32 {
	var toys []*toy
	for r := range ranks {
		toys = append(toys, newToy(new(memory.Arena), r, nil))
	}
	adam := optim.NewAdamW()
	type state struct{ master, m, v []float32 }
	var states []state
	for _, p := range toys[0].Params() {
		states = append(states, state{slices.Clone(p.Data), make([]float32, p.Len()), make([]float32, p.Len())})
	}
	rounded := func(x []float32) []float32 {
		y := make([]float32, len(x))
		for i, b := range toBF16(x) {
			y[i] = fromBF16(b)
		}
		return y
	}
	unit := 16 * ranks
	bucket = (bucket + unit - 1) / unit * unit
	for step := 1; step <= steps; step++ {
		grads := make([][][]uint16, ranks) // of each parameter
		for r, t := range toys {
			for i, p := range t.Params() {
				copy(p.Data, rounded(states[i].master))
				p.ZeroGrad()
			}
			if _, err := t.Next(); err == io.EOF {
				t.Next()
			}
			tape := grad.NewTape(new(memory.Arena))
			l, _, _ := t.Loss(tape)
			tape.Backward(l)
			for _, p := range t.Params() {
				p.SettleGrad()
				grads[r] = append(grads[r], toBF16(p.Grad))
			}
		}
		mean := make([][]float32, len(states))
		params := toys[0].Params()
		for first := 0; first < len(params); {
			last := first
			for last < len(params) && LayerOf(params[last].Name) == LayerOf(params[first].Name) {
				last++
			}
			layer := make([][]uint16, ranks)
			for r := range ranks {
				layer[r] = slices.Concat(grads[r][first:last]...)
				for len(layer[r])%unit != 0 {
					layer[r] = append(layer[r], 0)
				}
			}
			var sum []uint16
			for lo := 0; lo < len(layer[0]); lo += bucket {
				hi := min(lo+bucket, len(layer[0]))
				sum = append(sum, ringSum(ranks, hi-lo, func(r int) []uint16 { return layer[r][lo:hi] },
					func(a, b uint16) uint16 { return toBF16([]float32{fromBF16(a) + fromBF16(b)})[0] })...)
			}
			for i := first; i < last; i++ {
				for _, b := range sum[:params[i].Len()] {
					mean[i] = append(mean[i], fromBF16(b))
				}
				sum = sum[params[i].Len():]
			}
			first = last
		}
		for i, p := range params {
			c := simd.AdamWCoef{LR: 3e-3, Beta1: adam.Beta1, Beta2: adam.Beta2, Eps: adam.Eps, GradScale: 1 / float64(ranks),
				Bias1: 1 - math.Pow(adam.Beta1, float64(step)), Bias2: 1 - math.Pow(adam.Beta2, float64(step))}
			if p.Decay {
				c.WeightDecay = adam.WeightDecay
			}
			simd.AdamWStep(states[i].master, states[i].m, states[i].v, mean[i], c)
		}
	}
	var all []float32
	for _, s := range states {
		all = append(all, rounded(s.master)...)
	}
	return all
}

// train trains a toy on some ranks and returns the weights. prepare may change
// a rank's loop and options.
func train(ranks, steps int, o Options, change func(*net.Config), prepare func(c *Comm, l *loop.Loop, z *Zero)) ([]float32, error) {
	var weights []float32
	err := Run(ranks, func(c *Comm) error {
		l := toyLoop(c.Rank(), steps, change)
		params := l.Task.Params()
		o := o
		o.States = new(memory.Arena)
		z, err := New(c, l, o)
		if err != nil {
			return err
		}
		if prepare != nil {
			prepare(c, l, z)
		}
		if c.Rank() > 0 {
			return z.Follow()
		}
		err = z.Stop(l.Run(context.Background()))
		if err == nil {
			weights = flat(params)
		}
		return err
	})
	return weights, err
}

// Every stage ends with the weights of plain data parallelism, to the bit.
func TestStagesEqualDataParallel(t *testing.T) {
	const steps, bucket = 50, 500
	for _, ranks := range []int{1, 2, 3, 4, 8} {
		want := naive(ranks, steps, bucket)
		for stage := range 4 {
			got, err := train(ranks, steps, Options{Stage: stage, Bucket: bucket}, nil, nil)
			if err != nil {
				t.Fatalf("%d ranks, stage %d: %v", ranks, stage, err)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%d ranks, stage %d: weight %d of %d is %v, want %v", ranks, stage, i, len(want), got[i], want[i])
				}
			}
		}
	}
}

// What a rank holds between steps is what Layout.States says, and never more
// than that, a layer at work and a bucket.
func TestMemory(t *testing.T) {
	const ranks, bucket = 4, 512
	for stage := range 4 {
		look := func(z *Zero) error {
			want, u := z.States(stage), z.Arena().Usage()
			for _, k := range []struct {
				kind memory.Kind
				want int64
			}{{memory.Weights, want.Weights}, {memory.Gradients, want.Gradients}, {memory.Optimizer, want.Optimizer}} {
				if got := u.Live[k.kind]; got < k.want || got > k.want+3*64 {
					return fmt.Errorf("%v: %d bytes live, want %d", k.kind, got, k.want)
				}
			}
			layer, bytes := int64(8*z.Largest), int64(2*bucket)
			if most := want.Total() + 5*64 + layer + bytes; u.PeakTotal > most || u.PeakTotal < want.Total()+layer/2 {
				return fmt.Errorf("peak %d, want at most %d", u.PeakTotal, most)
			}
			if z.loop.Arena.Usage().Live[memory.Weights] != 0 {
				return errors.New("the replica is still there")
			}
			return nil
		}
		if _, err := train(ranks, 3, Options{Stage: stage, Bucket: bucket, EachStep: look}, nil, nil); err != nil {
			t.Errorf("stage %d: %v", stage, err)
		}
	}
}

// After its first steps training takes next to nothing from the Go heap.
func TestTrainingMakesNoGarbage(t *testing.T) {
	for stage := range 4 {
		var before, after runtime.MemStats
		_, err := train(2, 40, Options{Stage: stage, Bucket: 512}, nil, func(c *Comm, l *loop.Loop, z *Zero) {
			l.On(loop.AfterStep, func(s *loop.State) error {
				switch s.Step {
				case 20:
					runtime.ReadMemStats(&before)
				case 40:
					runtime.ReadMemStats(&after)
				}
				return nil
			})
		})
		if n := float64(after.Mallocs-before.Mallocs) / 20; err != nil || n > 4 {
			t.Errorf("stage %d: %v allocations a step, %v", stage, n, err)
		}
	}
}

// The published formula, with no padding to blur it.
func TestStatesFormula(t *testing.T) {
	const ranks, psi = 8, 8 * 16 * 1000
	y := NewLayout([]int{psi / 2, psi / 2}, []string{"a", "b"}, ranks, 1<<20)
	for stage, want := range []float64{16, 4 + 12.0/ranks, 2 + 14.0/ranks, 16.0 / ranks} {
		if got := float64(y.States(stage).Total()) / psi; got != want {
			t.Errorf("stage %d: %v bytes for a parameter, want %v", stage, got, want)
		}
	}
}

// What a step sends is 2Ψ, 2Ψ, 2Ψ and 3Ψ elements times (N-1)/N, on every rank.
func TestTraffic(t *testing.T) {
	const ranks = 4
	for stage, volume := range []int{2, 2, 2, 3} {
		steps := make([]int, ranks)
		count := func(z *Zero) error {
			steps[z.Comm().Rank()]++
			got := z.Comm().Meter().In(PhaseGradients, PhaseWeights).Bytes
			if want := int64(steps[z.Comm().Rank()] * volume * 2 * z.Padded * (ranks - 1) / ranks); got != want {
				return fmt.Errorf("%d bytes sent, want %d", got, want)
			}
			return nil
		}
		if _, err := train(ranks, 5, Options{Stage: stage, Bucket: 512, EachStep: count}, nil, nil); err != nil {
			t.Errorf("stage %d: %v", stage, err)
		}
		if slices.Min(steps) != 5 {
			t.Errorf("stage %d: steps of the ranks %v", stage, steps)
		}
	}
}

// With tied weights, recomputed segments, several batches to a step, clipping
// and evaluations between, the stages still agree.
func TestStagesAgree(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*net.Config)
		loop   func(l *loop.Loop)
		stages []int
	}{
		{"tied", func(c *net.Config) { c.Tied = true }, nil, []int{0, 1, 2, 3}},
		{"gpt2, recomputed, clipped", func(c *net.Config) { c.Arch, c.Recompute, c.AttentionBias, c.MLPBias = "gpt2", true, true, true },
			func(l *loop.Loop) { l.Clip = 0.1 }, []int{0, 1, 2, 3}},
		{"two batches, replicated gradients", nil, func(l *loop.Loop) { l.Accumulate = 2 }, []int{0, 1}},
		{"two batches, spread gradients", nil, func(l *loop.Loop) { l.Accumulate = 2 }, []int{2, 3}},
		{"tied, evaluated", func(c *net.Config) { c.Tied = true }, func(l *loop.Loop) {
			z := l.Task.(*Zero)
			task := z.task.(*toy)
			tape := grad.NewTape(l.Arena)
			l.EvaluateEvery = 2
			l.Evaluate = func(*loop.State) (v float64, err error) {
				task.draw(1000)
				tape.NoGrad(func() {
					l, _, _ := task.Loss(tape)
					v = float64(l.Data[0])
				})
				tape.Reset()
				return v, nil
			}
		}, []int{0, 3}},
	} {
		var want []float32
		var losses []float64
		for k, stage := range c.stages {
			var seen []float64
			got, err := train(3, 9, Options{Stage: stage, Bucket: 700}, c.change, func(comm *Comm, l *loop.Loop, _ *Zero) {
				if comm.Rank() > 0 {
					return
				}
				if c.loop != nil {
					c.loop(l)
				}
				l.On(loop.AfterStep, func(s *loop.State) error { seen = append(seen, s.Loss, s.GradNorm); return nil })
				l.On(loop.AfterEvaluate, func(s *loop.State) error { seen = append(seen, s.ValLoss); return nil })
			})
			if err != nil {
				t.Fatalf("%s, stage %d: %v", c.name, stage, err)
			}
			if k == 0 {
				want, losses = got, seen
			} else if !slices.Equal(got, want) || !slices.Equal(seen, losses) {
				t.Errorf("%s: stage %d and stage %d differ", c.name, stage, c.stages[0])
			}
		}
	}
}

// A checkpoint can be gone on from, in any stage, to the bit.
func TestResume(t *testing.T) {
	const ranks, bucket = 3, 500
	for stage := range 4 {
		want, err := train(ranks, 12, Options{Stage: stage, Bucket: bucket}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir() + "/checkpoint"
		if _, err := train(ranks, 5, Options{Stage: stage, Bucket: bucket}, nil, func(c *Comm, l *loop.Loop, z *Zero) {
			if c.Rank() == 0 {
				l.CheckpointEvery = 4
				l.On(loop.SaveCheckpoint, func(*loop.State) error { return atomicfile.WriteDir(dir, l.Save) })
			}
		}); err != nil {
			t.Fatal(err)
		}
		for _, other := range []int{stage, (stage + 1) % 4} {
			got, err := train(ranks, 12, Options{Stage: other, Bucket: bucket}, nil, func(c *Comm, l *loop.Loop, z *Zero) {
				if c.Rank() == 0 {
					if err := errors.Join(l.Start(), l.Restore(dir)); err != nil {
						t.Error(err)
					}
					if l.State.Step != 4 {
						t.Errorf("resumed at step %d", l.State.Step)
					}
				}
			})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("saved in stage %d, resumed in stage %d: not the weights of the unbroken run (%v)", stage, other, err)
			}
		}
	}
}

// What fails on one rank ends all, and is told with the rank.
func TestTrainingFails(t *testing.T) {
	for _, c := range []struct {
		name string
		task func(rank int, t *toy)
		want string
	}{
		{"a follower's data", func(rank int, t *toy) { t.failAfter = rank * 3 }, "rank 1: the data is torn"},
		{"the loss on one rank", func(rank int, t *toy) { t.bad = rank == 1 }, "the loss"},
	} {
		for stage := range 4 {
			_, err := train(2, 9, Options{Stage: stage, Bucket: 500}, nil, func(comm *Comm, l *loop.Loop, z *Zero) {
				c.task(comm.Rank(), z.task.(*toy))
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, stage %d: %v, want %q", c.name, stage, err, c.want)
			}
		}
	}
	err := Run(2, func(c *Comm) error {
		l := toyLoop(c.Rank(), 1, nil)
		l.Optimizer = optim.NewSGD()
		return Train(context.Background(), c, l, Options{})
	})
	if err == nil || !strings.Contains(err.Error(), "AdamW") {
		t.Errorf("another optimiser: %v", err)
	}
}

func TestLayerOf(t *testing.T) {
	for name, want := range map[string]string{
		"tok.weight": "tok", "blocks.12.attn.qkv.weight": "blocks.12", "norm.bias": "norm", "w": "w", "": "",
	} {
		if got := LayerOf(name); got != want {
			t.Errorf("%q is in layer %q, want %q", name, got, want)
		}
	}
}
