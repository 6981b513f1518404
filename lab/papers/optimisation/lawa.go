package optimisation

import (
	"fmt"
	"math"
	"slices"
	"time"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/lab/result"
	"hasten/learn/average"
	"hasten/learn/loop"
	"hasten/learn/schedule"
	"hasten/task/vision"
)

// LAWA is paper 93.
func (Papers) LAWA() experiment.Paper {
	return experiment.Paper{
		Card: card.Card{
			Number: 93, Slug: "lawa",
			Title: "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight Averaging",
			Stage: "averaging", Tasks: []string{"vision", "lm"},
			Summary: `
Between learning-rate drops the raw weights hover around better points than they visit. This method keeps the
most recent snapshots, by default six taken at epoch ends, and evaluates and saves their uniform mean. Training
itself goes on from the raw weights, so the trajectory does not change. For runs of one pass the interval is
counted in steps. The cost is the memory of the kept copies, half of it in bf16. It should pay in the middle of
long runs or with a high constant rate; at the end of a schedule that decays to zero there is little left to
average away.`,
			Use: "--set average=lawa --set average.k=6",
			Limits: `
Most of the gain is seen mid-run and shrinks once the learning rate has decayed. Memory grows with the number
of copies, though they can be kept in bf16 (average.store=bf16). Statistics of batch normalisation are not averaged: no model
here has any.`,
			Claims: []card.Claim{
				{What: "time saved to equal loss or accuracy, ResNet50 on ImageNet, against the raw weights", Figure: "up to ~68 GPU-hours"},
				{What: "time saved to equal loss, RoBERTa-Base on WikiText-103, against the raw weights", Figure: "up to ~30 GPU-hours"},
			},
		},
		Code: []string{"learn/average/lawa.go", "learn/average/average.go", "learn/average/snapshot.go"},
		Breaks: []experiment.Break{
			{ // the mean divides by k before there are k
				File: "learn/average/lawa.go", Old: "n := min(int(w.count[0]), w.K)", New: "n := w.K",
				Test: "./learn/average -run TestMean/lawa",
			},
			{ // the mean is fed back into training
				File: "learn/average/average.go", Old: "copy(p.Data, w.raw[i])", New: "_ = p",
				Test: "./learn/average -run TestMean/lawa",
			},
		},
		Run: lawa,
	}
}

func lawa(r *experiment.Run) error {
	lawaExact(r)
	images, epochs := 20_000, 12
	if r.Quick {
		images, epochs = 4_000, 8
	}
	f, err := openFashion(images)
	if err != nil {
		return err
	}
	if err := lawaIsInvisible(r, f); err != nil {
		return err
	}
	for _, w := range []lawaRun{
		{"adamw", adamwGrid, "constant", &schedule.Constant{}},
		{"adamw", adamwGrid, "cosine", &schedule.Cosine{}},
		{"sgd", sgdGrid, "constant", &schedule.Constant{}},
		{"adamw", adamwGrid, "step", stepDecay{}},
	} {
		if r.Quick && (w.optim == "sgd" || w.name == "step") {
			continue
		}
		if err := w.measure(r, f, epochs); err != nil {
			return err
		}
	}
	if r.Quick {
		return nil
	}
	return lawaOnText(r)
}

// lawaExact pushes 100 snapshots of a random walk, and reads the memory.
func lawaExact(r *experiment.Run) {
	for _, store := range []string{"f32", "bf16"} {
		a := new(memory.Arena)
		p := grad.NewParam(a, "walk", 64, 64)
		before := a.Usage().Live[memory.Weights]
		w := average.NewLAWA()
		w.Every, w.Store = 1, store
		must(w.Init(a, []*grad.Param{p}))
		bytes := float64(a.Usage().Live[memory.Weights]-before) / float64(w.K) / float64(p.Len())
		r.Exact("bytes per weight and snapshot, "+store, bytes, experiment.Equals(map[string]float64{"f32": 4, "bf16": 2}[store]))
		if store == "bf16" {
			continue
		}
		var pushed [][]float32
		step := make([]float32, p.Len())
		for n := 1; n <= 100; n++ {
			s := rng.New(3, uint64(n))
			s.FillNormal(step, 0, 0.1)
			for i := range p.Data {
				p.Data[i] += step[i]
			}
			w.Observe(&loop.State{Step: n})
			pushed = append(pushed, slices.Clone(p.Data))
		}
		mean, most := make([]float32, p.Len()), 0.0
		w.Mean(0, mean)
		for i := range mean {
			naive := 0.0
			for _, x := range pushed[len(pushed)-w.K:] {
				naive += float64(x[i]) / float64(w.K)
			}
			most = max(most, math.Abs(float64(mean[i])-naive))
		}
		r.Exact("largest difference from the naive mean after 100 snapshots", most, experiment.AtMost(1e-6))
	}
}

// lawaIsInvisible trains two epochs with the average and without, compares the
// raw weights, and times what the average adds to an epoch.
func lawaIsInvisible(r *experiment.Run, f *fashion) error {
	var weights [2][][]float32
	var share []float64
	for k, on := range []bool{false, true} {
		j, err := f.job("epochs=2", "optim.lr=0.001")
		if err != nil {
			return err
		}
		if on {
			timed := &timedAverage{LAWA: average.NewLAWA()}
			access, err := average.Attach(j.Loop, timed)
			if err != nil {
				return err
			}
			var before, trained time.Duration
			atEpochs(j.Loop, func(s *loop.State) error {
				begin := time.Now()
				err := access.With(func() error { return nil })
				spent := timed.spent - before + time.Since(begin)
				share = append(share, 100*spent.Seconds()/(s.Trained-trained).Seconds())
				before, trained = timed.spent, s.Trained
				return err
			})
		}
		if err := j.Loop.Run(r.Context); err != nil {
			return err
		}
		for _, p := range j.Model.Params() {
			weights[k] = append(weights[k], p.Data)
		}
	}
	differ := 0
	for i := range weights[0] {
		for n, x := range weights[0][i] {
			if math.Float32bits(x) != math.Float32bits(weights[1][i][n]) {
				differ++
			}
		}
	}
	r.Exact("raw weights that differ from those of the run without LAWA", float64(differ), experiment.Equals(0))
	r.Rate("snapshot and mean, share of an epoch's time", "%", share, experiment.AtMost(1))
	return nil
}

// timedAverage notes the time spent in Observe.
type timedAverage struct {
	*average.LAWA
	spent time.Duration
}

func (t *timedAverage) Observe(s *loop.State) {
	begin := time.Now()
	t.LAWA.Observe(s)
	t.spent += time.Since(begin)
}

// What is scored of one run: its raw weights, and two means of them.
const (
	rawWeights = iota
	lawaMean
	emaMean
	means
)

var meanNames = [means]string{"raw", "lawa", "ema"}

// lawaRun is an optimiser under a schedule.
type lawaRun struct {
	optim    string
	grid     []float64 // of learning rates
	name     string    // of the schedule
	schedule schedule.Schedule
}

// measure trains at the rate of the grid that is best for the raw weights and
// scores, after each epoch, the weights as they are, their latest mean, and
// their exponential mean.
func (w lawaRun) measure(r *experiment.Run, f *fashion, epochs int) error {
	at := fmt.Sprintf(", %s rate, %s", w.name, w.optim)
	run := func(lr float64, seed uint64, test bool) ([means]history, error) {
		var h [means]history
		j, err := f.job(set("epochs", epochs), "optim="+w.optim, set("optim.lr", lr), set("seed", seed))
		if err != nil {
			return h, err
		}
		j.Loop.Schedule = w.schedule
		var access [means]*average.Weights
		for k, a := range [means]average.Average{new(average.None), average.NewLAWA(), average.NewEMA()} {
			if access[k], err = average.Attach(j.Loop, a); err != nil {
				return h, err
			}
		}
		score := f.scorer(j)
		atEpochs(j.Loop, func(*loop.State) error {
			for k := range means {
				if !test && k != rawWeights {
					break
				}
				err := access[k].With(func() error {
					e := epochScore{held: score.held()}
					if test {
						e.test = score.tested()
					}
					h[k] = append(h[k], e)
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		diverged, err := train(r, j.Loop)
		if diverged {
			h = [means]history{}
		}
		return h, err
	}
	lr, err := r.Tune(w.optim+", "+w.name, w.grid, func(lr float64) (float64, error) {
		h, err := run(lr, tuningSeed, false)
		return h[rawWeights].best().held.Loss, err
	})
	if err != nil {
		return err
	}
	var toLoss, toAccuracy, final, mid [means][]float64
	seeds := r.Seeds
	if w.name == "step" { // printed only
		seeds = seeds[:1]
	}
	for _, seed := range seeds {
		r.Progress("%s, %s, learning rate %g, seed %d", w.optim, w.name, lr, seed)
		h, err := run(lr, seed, true)
		if err != nil {
			return err
		}
		lowest, highest := math.Inf(1), 0.0 // what the raw run reaches at best
		for _, e := range h[rawWeights] {
			lowest, highest = min(lowest, e.test.Loss), max(highest, e.test.Accuracy)
		}
		for k := range means {
			h[k].curve(r, meanNames[k]+at, seed)
			toLoss[k] = append(toLoss[k], h[k].first(func(s vision.Score) bool { return s.Loss <= lowest }))
			toAccuracy[k] = append(toAccuracy[k], h[k].first(func(s vision.Score) bool { return s.Accuracy >= highest }))
			final[k] = append(final[k], 100*h[k][epochs-1].test.Accuracy)
			mid[k] = append(mid[k], h[k][epochs/2-1].test.Loss)
		}
	}
	switch w.name {
	case "constant":
		if result.Median(toLoss[lawaMean]) > 0.7*result.Median(toLoss[rawWeights]) {
			r.Note("%s, constant rate: at the rate that is best for the raw weights they overfit after about %g epochs. A mean of six epochs is two and a half epochs old on average, which in so short a run costs what it gains; the exponential mean is younger.",
				w.optim, result.Median(toLoss[rawWeights]))
		}
		r.Outcome("epochs to the raw run's best test loss"+at, "", toLoss[rawWeights], toLoss[lawaMean], experiment.RatioAtMost(0.7))
		r.Outcome("epochs to the raw run's best test accuracy"+at, "", toAccuracy[rawWeights], toAccuracy[lawaMean], experiment.RatioAtMost(0.7))
		r.Print("epochs to the raw run's best test loss, EMA"+at, "", toLoss[rawWeights], toLoss[emaMean])
		r.Print("epochs to the raw run's best test accuracy, EMA"+at, "", toAccuracy[rawWeights], toAccuracy[emaMean])
		r.Print("test accuracy at the end"+at, "%", final[rawWeights], final[lawaMean])
	case "cosine":
		r.Outcome("test accuracy at the end"+at, "%", final[rawWeights], final[lawaMean], experiment.DifferenceAtLeast(-0.3))
		r.Outcome("test loss in the middle"+at, "nats", mid[rawWeights], mid[lawaMean], experiment.RatioAtMost(1))
	default:
		r.Print("test accuracy at the end"+at, "%", final[rawWeights], final[lawaMean])
		r.Print("test loss in the middle"+at, "nats", mid[rawWeights], mid[lawaMean])
	}
	return nil
}

// first is the first epoch whose test score is good enough; where none is, one
// more than there are.
func (h history) first(enough func(vision.Score) bool) float64 {
	for i, e := range h {
		if enough(e.test) {
			return float64(i + 1)
		}
	}
	return float64(len(h) + 1)
}

// lawaOnText averages the byte-level language model every few steps, within
// its one epoch, at a constant rate.
func lawaOnText(r *experiment.Run) error {
	const steps, every = 240, 20
	j, err := gosrc(set("steps", steps), "optim.lr=0.003", "schedule=constant")
	if err != nil {
		return err
	}
	defer j.Close()
	plain := j.Loop.Evaluate
	w := average.NewLAWA()
	w.Every = every
	access, err := average.Attach(j.Loop, w)
	if err != nil {
		return err
	}
	var x, rawLoss, mean []float64
	j.Loop.On(loop.AfterStep, func(s *loop.State) error {
		if s.Step%(2*every) != 0 {
			return nil
		}
		a, err := plain(s)
		if err != nil {
			return err
		}
		x, rawLoss = append(x, float64(s.Step)), append(rawLoss, a/math.Ln2)
		return access.With(func() error {
			b, err := plain(s)
			mean = append(mean, b/math.Ln2)
			return err
		})
	})
	if err := j.Loop.Run(r.Context); err != nil {
		return err
	}
	r.Curve("text, raw", 0, "step", "bits per byte", x, rawLoss)
	r.Curve("text, lawa", 0, "step", "bits per byte", x, mean)
	last := len(x) - 1
	r.Print(fmt.Sprintf("Go source after %d steps, a snapshot every %d", steps, every), "bits per byte", rawLoss[last:], mean[last:])
	return nil
}
