package optimisation

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/lab/result"
	"hasten/learn/loop"
	"hasten/learn/optim"
	"hasten/learn/optim/ref"
)

// Adan is paper 125.
func (Papers) Adan() experiment.Paper {
	return experiment.Paper{
		Card: card.Card{
			Number: 125, Slug: "adan",
			Title: "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
			Stage: "optimiser", Tasks: []string{"vision", "lm", "detect", "rl"},
			Summary: `
Nesterov momentum looks ahead, but doing so literally needs a gradient at a second point. Adan rewrites it so
that the gradient at the current weights suffices, with the difference between successive gradients standing
in for the look ahead. Three running averages are kept: of the gradient, of that difference, and of the square
of their combination, which scales the step per weight as in Adam. Weight decay is applied proximally. A step
costs one gradient and somewhat more memory traffic than AdamW. It should pay where higher learning rates
shorten training, and at large batches; a well-tuned AdamW leaves less to gain.`,
			Use: "--set optim=adan",
			Limits: `
Four buffers per weight, previous gradient included, against Adam's two. The learning rate has to be tuned
afresh, typically 3 to 10 times that of AdamW.`,
			Headline: "best test loss at equal steps, batch 128",
			Claims: []card.Claim{
				{What: "epochs to equal or better quality, against the usual optimiser, ViT, MAE and GPT-2", Figure: "0.5×", Ratio: 2},
				{What: "batch sizes tolerated", Figure: "1k–32k"},
			},
		},
		Code: []string{"learn/optim/adan.go", "engine/simd/vector_adan.go"},
		Breaks: []experiment.Break{
			{ // the factor β₂ on the mean of changes is forgotten
				File: "engine/simd/vector_adan.go", Old: "float32(lr*c.Beta2/c.Bias2)", New: "float32(lr/c.Bias2)",
				Test: "./learn/optim -run TestExact/adan",
			},
			{ // the first gradient is compared with none
				File: "learn/optim/adan.go", Old: "First: t == 1,", New: "First: false,",
				Test: "./learn/optim -run TestAdanConstantGradient",
			},
		},
		Run: adan,
	}
}

func adan(r *experiment.Run) error {
	adanExact(r)
	if err := adanStepTime(r); err != nil {
		return err
	}
	images, epochs := 20_000, 8
	batches := []int{128, 2048}
	if r.Quick {
		images, epochs, batches = 4_000, 3, batches[:1]
	}
	f, err := openFashion(images)
	if err != nil {
		return err
	}
	for _, batch := range batches {
		if err := adanOnFashion(r, f, batch, epochs); err != nil {
			return err
		}
	}
	if r.Quick {
		return nil
	}
	return adanOnText(r)
}

// adanExact holds what can be said of a step without training anything.
func adanExact(r *experiment.Run) {
	a := new(memory.Arena)
	params := []*grad.Param{grad.NewParam(a, "matrix", 64, 48), grad.NewParam(a, "vector", 48)}
	floats := 0
	for i, p := range params {
		s := rng.New(1, uint64(i))
		s.FillNormal(p.Data, 0, 0.1)
		floats += p.Len()
	}
	random := func(n int) {
		for i, p := range params {
			p.SettleGrad()
			s := rng.New(2, uint64(i)).Split(uint64(n))
			s.FillNormal(p.Grad, 0, 0.1)
		}
	}
	o := optim.NewAdan()
	must(o.Init(a, params))
	twin, want := ref.Adan(o), ref.Tensors(params)
	for n := 1; n <= 200; n++ {
		s := optim.Step{N: n, LR: o.LR, GradScale: 1 / float64(1+n%3)}
		random(n)
		ref.Gradients(want, params)
		o.Step(s)
		twin.Step(want, s)
	}
	r.Exact("largest difference from the float64 reference after 200 steps", ref.Difference(params, want), experiment.AtMost(1e-6))
	r.Exact("state floats per parameter", float64(a.Usage().Live[memory.Optimizer])/4/float64(floats), experiment.Equals(4))

	o = optim.NewAdan()
	must(o.Init(a, params))
	random(1)
	for n := 1; n <= 20; n++ {
		o.Step(optim.Step{N: n, LR: o.LR, GradScale: 1})
	}
	most := 0.0
	for _, b := range o.State() {
		for _, x := range b.Data {
			if b.Name[0] == 'v' {
				most = max(most, math.Abs(float64(x)))
			}
		}
	}
	r.Exact("largest |v| after 20 equal gradients", most, experiment.Equals(0))
	r.Exact("distance from Nesterov's look-ahead points without preconditioner, 200 steps on a quadratic", nesterovDistance(), experiment.AtMost(1e-9))
}

// nesterovDistance runs Adan without its preconditioner beside Nesterov's
// method, from the end of the first step on, which is a plain one.
func nesterovDistance() float64 {
	const mu, lr, steps = 0.9, 0.02, 200
	curvature := []float64{1, 3, 10, 20}
	gradient := func(i int, x float64) float64 { return curvature[i] * (x - 1) }
	twin := ref.Adan(&optim.Adan{Beta1: mu, Beta2: mu, Plain: true})
	theta := []ref.Tensor{{Data: make([]float64, 4), Grad: make([]float64, 4)}}
	x, velocity := make([]float64, 4), make([]float64, 4)
	most := 0.0
	for n := 1; n <= steps; n++ {
		for i, at := range theta[0].Data {
			ahead := x[i] - lr*mu*velocity[i]
			most = max(most, math.Abs(at-ahead))
			g := gradient(i, ahead)
			if n > 1 {
				velocity[i] = mu*velocity[i] + g
				g = velocity[i]
			}
			x[i] -= lr * g
			theta[0].Grad[i] = gradient(i, at)
		}
		twin.Step(theta, optim.Step{N: n, LR: lr / (1 - mu), GradScale: 1})
	}
	return most
}

// adanStepTime times the update of a language model's weights where it stands in
// training, after a backward pass has filled the caches with other things, and
// counts the gradients a step takes.
func adanStepTime(r *experiment.Run) error {
	rounds, steps := 15, 8
	if r.Quick {
		rounds, steps = 7, 3
	}
	updates, whole := make([][]float64, 2), make([][]float64, 2)
	var arms []*updateTimer
	for _, o := range []optim.Optimizer{optim.NewAdamW(), optim.NewAdan()} {
		j, err := gosrc("steps=1")
		if err != nil {
			return err
		}
		defer j.Close()
		j.Loop.Optimizer, j.Loop.Evaluate = o, nil
		arms = append(arms, timeUpdates(j.Loop))
	}
	for round := range rounds {
		for k := range arms {
			k = (k + round) % 2
			update, step, err := arms[k].run(r, steps)
			if err != nil {
				return err
			}
			if round > 0 { // the first warms up
				updates[k], whole[k] = append(updates[k], 1e3*update), append(whole[k], 1e3*step)
			}
		}
	}
	r.Ratio("time of an update in training, 4 layers of 128", "ms", updates[0], updates[1], experiment.RatioAtMost(1.7))
	r.Print("time of a whole training step, 4 layers of 128", "ms", whole[0], whole[1])
	r.Exact("gradients per step", float64(arms[1].gradients)/float64(arms[1].loop.State.Step), experiment.Equals(1))
	return nil
}

// updateTimer measures what of a loop's steps goes into moving the weights.
type updateTimer struct {
	loop      *loop.Loop
	begin     time.Time
	spent     time.Duration
	gradients int
}

func timeUpdates(l *loop.Loop) *updateTimer {
	t := &updateTimer{loop: l}
	l.On(loop.AfterBackward, func(*loop.State) error { t.gradients++; return nil })
	l.On(loop.BeforeStep, func(*loop.State) error { t.begin = time.Now(); return nil })
	l.On(loop.AfterStep, func(*loop.State) error { t.spent += time.Since(t.begin); return nil })
	return t
}

// run takes so many steps, and returns the mean seconds of an update and of a
// step.
func (t *updateTimer) run(r *experiment.Run, steps int) (update, step float64, err error) {
	t.loop.Budget.Steps = t.loop.State.Step + steps
	before, trained := t.spent, t.loop.State.Trained
	err = t.loop.Run(r.Context)
	n := float64(steps)
	return (t.spent - before).Seconds() / n, (t.loop.State.Trained - trained).Seconds() / n, err
}

// Grids of learning rates for batches of 128. Larger ones are tried at larger
// rates.
var (
	sgdGrid   = []float64{0.01, 0.03, 0.1, 0.3}
	adamwGrid = []float64{3e-4, 1e-3, 3e-3, 1e-2}
	adanGrid  = []float64{5e-4, 1.5e-3, 5e-3, 1.5e-2}
)

// times is a grid at a multiple.
func times(grid []float64, factor float64) []float64 {
	g := slices.Clone(grid)
	for i := range g {
		g[i] *= factor
	}
	return g
}

// adanOnFashion compares tuned optimisers at one batch size, for equal steps.
func adanOnFashion(r *experiment.Run, f *fashion, batch, epochs int) error {
	common := []string{set("batch", batch), set("epochs", epochs), "schedule=cosine", "schedule.warmup=10", "schedule.floor=0"}
	with := func(o string, lr float64, seed uint64, more ...string) []string {
		return slices.Concat(common, []string{"optim=" + o, set("optim.lr", lr), set("seed", seed)}, more)
	}
	at := fmt.Sprintf(", batch %d", batch)
	larger := 1.0
	if batch > 1000 {
		larger = 10. / 3
	}
	losses, accuracies := map[string][]float64{}, map[string][]float64{}
	for _, arm := range []struct {
		optim string
		grid  []float64
	}{{"sgd", sgdGrid}, {"adamw", adamwGrid}, {"adan", adanGrid}} {
		tried := map[float64]float64{}
		lr, err := r.Tune(arm.optim+at, times(arm.grid, larger), func(lr float64) (float64, error) {
			h, err := f.run(r, false, with(arm.optim, lr, tuningSeed)...)
			tried[lr] = h.best().held.Loss
			return tried[lr], err
		})
		if err != nil {
			return err
		}
		r.Print("usable learning rates, highest/lowest within 10% of the best: "+arm.optim+at, "×", nil, []float64{usable(tried)})
		for _, seed := range r.Seeds {
			r.Progress("%s%s, learning rate %g, seed %d", arm.optim, at, lr, seed)
			h, err := f.run(r, true, with(arm.optim, lr, seed)...)
			if err != nil {
				return err
			}
			losses[arm.optim] = append(losses[arm.optim], h.best().test.Loss)
			accuracies[arm.optim] = append(accuracies[arm.optim], 100*h.best().test.Accuracy)
			h.curve(r, arm.optim+at, seed)
			if arm.optim != "adan" {
				continue
			}
			if h, err = f.run(r, true, with(arm.optim, lr, seed, set("epochs", max(1, epochs/2)))...); err != nil {
				return err
			}
			losses["half"] = append(losses["half"], h.best().test.Loss)
		}
	}
	r.Outcome("best test loss at equal steps"+at, "nats", losses["adamw"], losses["adan"], experiment.RatioAtMost(1.05))
	if result.Median(losses["half"]) > result.Median(losses["adamw"]) {
		r.Note("At batch %d, Adan with half the steps does not reach AdamW with all of them: on a net and data this small the paper's halving is not seen.", batch)
	}
	r.Print("best test loss, SGD beside Adan"+at, "nats", losses["sgd"], losses["adan"])
	r.Print("test accuracy at the best epoch"+at, "%", accuracies["adamw"], accuracies["adan"])
	r.Print("best test loss, Adan with half the steps"+at, "nats", losses["adamw"], losses["half"])
	return nil
}

// usable is the ratio of the highest to the lowest rate whose loss is within
// 10% of the best.
func usable(losses map[float64]float64) float64 {
	best := slices.Min(slices.Collect(maps.Values(losses)))
	lo, hi := math.Inf(1), 0.0
	for lr, l := range losses {
		if l <= 1.1*best {
			lo, hi = min(lo, lr), max(hi, lr)
		}
	}
	return hi / lo
}

// adanOnText trains the byte-level language model with both optimisers, each at
// the best of three rates.
func adanOnText(r *experiment.Run) error {
	const steps = 150
	run := func(o string, lr float64, seed uint64) (float64, error) {
		j, err := gosrc(set("steps", steps), "optim="+o, set("optim.lr", lr), set("seed", seed))
		if err != nil {
			return 0, err
		}
		defer j.Close()
		diverged, err := train(r, j.Loop)
		if diverged {
			return math.Inf(1), nil
		}
		return j.Loop.State.ValLoss, err
	}
	bits := map[string][]float64{}
	for _, arm := range []struct {
		optim string
		grid  []float64
	}{{"adamw", adamwGrid[1:]}, {"adan", times(adanGrid[1:], 3)}} {
		lr, err := r.Tune(arm.optim+", text", arm.grid, func(lr float64) (float64, error) { return run(arm.optim, lr, tuningSeed) })
		if err != nil {
			return err
		}
		l, err := run(arm.optim, lr, r.Seeds[0])
		if err != nil {
			return err
		}
		bits[arm.optim] = []float64{l / math.Ln2}
	}
	r.Print(fmt.Sprintf("Go source after %d steps", steps), "bits per byte", bits["adamw"], bits["adan"])
	return nil
}
