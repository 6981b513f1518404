package sequence

import (
	"fmt"
	"math"
	"strings"
	"time"

	"hasten/data/sample"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/engine/tensor"
	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/lab/workload"
	"hasten/learn/loss"
	"hasten/model/net"
	"hasten/task/lm"
)

// CutCrossEntropy is paper 131.
func (Papers) CutCrossEntropy() experiment.Paper {
	return experiment.Paper{
		Card: card.Card{
			Number: 131, Slug: "cut-cross-entropy", Title: "Cut Your Losses in Large-Vocabulary Language Models", Stage: "loss", Tasks: []string{"lm"},
			Summary: `With a large vocabulary the logits of a batch take far more memory than the rest of a small language model. This
loss never holds them. It computes one tile of rows by tokens at a time, keeps a running log-sum-exp for every row, and
computes the tiles again in the backward pass. A trained model gives nearly all of its probability to few tokens, so that most
tiles of the gradient are negligible: they are recognised from what the forward pass saw and left out. Taking tokens in the
order of their mean logit gathers the unlikely ones in tiles of their own. The head's own gradient is left whole when a model is
trained from scratch.`,
			Use: "--set loss=cut, with loss.head=true to train on a trained model (auto takes the exact form from 16,384 tokens on)",
			Limits: `Below some ten thousand tokens the logits are small and computing them twice only costs time. The filter drops
gradients below 1/4096 of a row's weight: on a trained model that is nothing to speak of, from scratch it is most of the
gradient for some hundred steps and costs loss, see the figures; loss.filter=0 is exact.`,
			Headline: "N 2048, D 256, V 131072: MiB beyond E, C and gradients",
			Claims: []card.Claim{
				{What: "memory of the loss, Gemma 2 2B", Figure: "24 GB to 1 MB"},
				{What: "memory of the output layer with its loss, Gemma 2 2B", Figure: "28 GB to 1 GB", Ratio: 28},
				{What: "training speed", Figure: "not lower"},
			},
		},
		Code: []string{"learn/loss/cut.go"},
		Breaks: []experiment.Break{
			{File: "learn/loss/cut.go", Old: "p.sum[n] = p.sum[n]*float32(math.Exp(float64(was-p.max[n]))) +", New: "p.sum[n] = p.sum[n] +", Test: "./learn/loss -run TestAgainstNaive"},
			{File: "learn/loss/cut.go", Old: " || p.placeOf(p.targets[i])/p.tokens == j", New: "", Test: "./learn/loss -run TestTheTargetIsNeverSkipped"},
		},
		Run: cutCrossEntropy,
	}
}

func cutCrossEntropy(r *experiment.Run) error {
	cutExact(r)
	cutMemory(r)
	steps, seeds := 500, r.Seeds
	if r.Quick {
		steps = 12
	}
	settings := []string{"tokenizer=bpe:32768", "batch=2", fmt.Sprintf("steps=%d", steps), "precision=bf16", fmt.Sprintf("evaluate.every=%d", max(1, steps/5)), "evaluate.windows=16"}
	losses := [3][]float64{}
	var model *net.GPT
	for _, seed := range seeds {
		arms := []string{"loss=full", "loss=cut"}
		if seed == r.Seeds[0] && !r.Quick {
			arms = append(arms, "loss=cut loss.head=true")
		}
		for arm, set := range arms {
			r.Progress("%s, seed %d", set, seed)
			run, err := workload.Train(r.Context, "lm-s", seed, append(settings, strings.Fields(set)...)...)
			if err != nil {
				return err
			}
			losses[arm] = append(losses[arm], run.Loss)
			var x, y []float64
			for _, p := range run.Curve {
				x, y = append(x, float64(p.Step)), append(y, p.ValLoss)
			}
			r.Curve(set, seed, "step", "validation loss", x, y)
			model = run.Job.(*lm.Job).Model
		}
	}
	r.Outcome(fmt.Sprintf("validation loss after %d steps, V 32k", steps), "nats", losses[0], losses[1], experiment.RatioAtMost(1.005))
	if !r.Quick {
		r.Print("the same with the head's gradient filtered too, one seed", "nats", losses[0][:1], losses[2])
	}
	r.Note("From scratch the softmax of 32k tokens is about 1/32768, below the filter of 1/4096 nearly everywhere, so in the first hundreds of steps what is filtered is most of the gradient; loss.filter=0 is exact. The times on a trained head are those with both gradients filtered, the paper's form for fine-tuning.")
	return cutTimes(r, model, settings)
}

// cutExact compares loss and gradients with float64 and all logits at once.
func cutExact(r *experiment.Run) {
	const n, d, v = 65, 24, 3001
	x, w, targets := headProblem(n, d, v)
	mean, dx, dw := naiveHead(x, w, targets, d)
	c := &loss.Cut{Sort: true}
	tape := grad.NewTape(new(memory.Arena))
	vx, vw := grad.Leaf(tensor.From(x, n, d)), grad.Leaf(tensor.From(w, v, d))
	y := c.CrossEntropy(tape, vx, vw, targets, nil)
	r.Exact("loss: relative difference from float64", math.Abs(float64(y.Data[0])-mean)/mean, experiment.AtMost(1e-5))
	tape.Backward(y)
	r.Exact("unfiltered gradients: difference from float64, of the largest", max(farthest(vx.Grad, dx), farthest(vw.Grad, dw)), experiment.AtMost(1e-4))
}

// cutMemory reads from the arena what the loss takes beyond hidden values,
// head, and their gradients.
func cutMemory(r *experiment.Run) {
	n, d, v := 2048, 256, 131072
	if r.Quick {
		d = 32
	}
	x, w, targets := headProblem(n, d, v)
	extra := func(h loss.Head) float64 {
		memory.Default.ResetPeak()
		before := memory.Default.Usage().PeakTotal
		a := new(memory.Arena)
		tape := grad.NewTape(a)
		vx, vw := grad.Leaf(tensor.From(x, n, d)), grad.Leaf(tensor.From(w, v, d))
		tape.Backward(h.CrossEntropy(tape, vx, vw, targets, nil))
		return float64(a.Usage().PeakTotal+memory.Default.Usage().PeakTotal-before) / (1 << 20)
	}
	r.Exact(fmt.Sprintf("N 2048, D %d, V 131072: MiB beyond E, C and gradients", d), extra(loss.NewCut()), experiment.AtMost(16))
	r.Exact("MiB with all logits", extra(&loss.Full{}), experiment.AtLeast(1e9/(1<<20)))
	r.Note("Memory counts what the products pack their operands into.")
}

// cutTimes measures the losses on the hidden values of a trained model.
func cutTimes(r *experiment.Run, m *net.GPT, settings []string) error {
	n, repeats := 2048, 9
	if r.Quick {
		repeats = 3
	}
	j, err := workload.New("lm-s", 1, settings...)
	if err != nil {
		return err
	}
	defer j.Close()
	w, err := sample.NewWindows(j.(*lm.Job).Data.Valid, sample.Spread{}, n/m.Ctx, m.Ctx)
	if err != nil {
		return err
	}
	var b sample.Batch
	if err := w.Batch(0, &b); err != nil {
		return err
	}
	tape := grad.NewTape(new(memory.Arena))
	hidden := make([]float32, n*m.Dim)
	tape.NoGrad(func() { copy(hidden, m.Hidden(tape, b.Tokens, b.T, nil).Data) })
	tape.Reset()

	x, head := grad.Leaf(tensor.From(hidden, n, m.Dim)), grad.Leaf(tensor.From(m.Head.Data, m.Vocab, m.Dim))
	whole := func(h loss.Head) func() {
		return func() {
			tape.Backward(h.CrossEntropy(tape, x, head, b.Targets, nil))
			tape.Reset()
		}
	}
	backward := func(h loss.Head) func() time.Duration {
		return func() time.Duration {
			y := h.CrossEntropy(tape, x, head, b.Targets, nil)
			begin := time.Now()
			tape.Backward(y)
			spent := time.Since(begin)
			tape.Reset()
			return spent
		}
	}
	filtered := loss.NewCut()
	filtered.Head = true
	full, cut := r.Pair(repeats, whole(&loss.Full{}), whole(filtered))
	r.Ratio("trained head, forward and backward", "s", full, cut, experiment.RatioAtMost(1.1))
	full, cut = r.Pair(repeats, whole(&loss.Full{}), whole(loss.NewCut()))
	r.Print("trained head, the head's gradient whole", "s", full, cut)
	t := r.Timed(repeats, backward(&loss.Cut{}), backward(filtered), backward(&loss.Cut{Filter: filtered.Filter, Head: true}))
	r.Ratio("backward with filter and order, against unfiltered", "s", t[0], t[1], experiment.SpeedupAtLeast(1.2))
	r.Print("backward with the filter alone, against unfiltered", "s", t[0], t[2])
	skipped, tiles := filtered.Skipped()
	r.Outcome("tiles skipped on the trained head", "%", nil, []float64{100 * float64(skipped) / float64(tiles)}, experiment.AtLeast(30))
	return nil
}

// headProblem draws hidden values, a head and targets.
func headProblem(n, d, v int) (x, w []float32, targets []int32) {
	x, w, targets = make([]float32, n*d), make([]float32, v*d), make([]int32, n)
	s := rng.New(131, uint64(v))
	s.FillNormal(x, 0, 1)
	s.FillNormal(w, 0, 1/math.Sqrt(float64(d)))
	for i := range targets {
		targets[i] = int32(s.IntN(v))
	}
	return x, w, targets
}

// naiveHead is the mean loss and its gradients in float64.
func naiveHead(x, w []float32, targets []int32, d int) (mean float64, dx, dw []float64) {
	n, v := len(targets), len(w)/d
	dx, dw = make([]float64, len(x)), make([]float64, len(w))
	p := make([]float64, v)
	for i, target := range targets {
		sum := 0.0
		for k := range v {
			z := 0.0
			for j := range d {
				z += float64(x[i*d+j]) * float64(w[k*d+j])
			}
			p[k] = math.Exp(z)
			sum += p[k]
		}
		mean += (math.Log(sum) - math.Log(p[target])) / float64(n)
		for k := range v {
			g := p[k] / sum
			if k == int(target) {
				g--
			}
			for j := range d {
				dx[i*d+j] += g / float64(n) * float64(w[k*d+j])
				dw[k*d+j] += g / float64(n) * float64(x[i*d+j])
			}
		}
	}
	return mean, dx, dw
}

// farthest is the largest difference of two arrays over the largest value.
func farthest(got []float32, want []float64) float64 {
	most, size := 0.0, 0.0
	for i, w := range want {
		most, size = max(most, math.Abs(float64(got[i])-w)), max(size, math.Abs(w))
	}
	return most / size
}
