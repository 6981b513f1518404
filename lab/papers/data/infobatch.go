package data

import (
	"fmt"
	"math"
	"slices"

	"hasten/data/sample"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/tensor"
	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/lab/workload"
	"hasten/learn/loop"
	"hasten/task/recipe"
	"hasten/task/vision"
)

// InfoBatch is paper 060.
func (Papers) InfoBatch() experiment.Paper {
	return experiment.Paper{
		Card: card.Card{
			Number: 60, Slug: "infobatch", Title: "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning",
			Stage: "data", Tasks: []string{"vision", "lm"},
			Summary: `In multi-epoch training many samples are fitted early and add little to the gradient. InfoBatch remembers each
sample's loss from its last ordinary forward pass. At every epoch it skips samples below the mean loss with
probability r (0.5) and multiplies the loss of the below-mean samples it keeps by 1/(1−r), so the expected
gradient is that of the full set; the last eighth of the epochs uses everything. No separate scoring pass is
needed. It should pay over many epochs with many easy samples; in a single epoch there are no earlier losses
to go by. The control to beat is plain training on as many samples.`,
			Use: "--set sampler=infobatch",
			Limits: `Accuracy alone proves nothing: plain training on as many samples, with its schedule refitted, and pruning
without the weights come within half a point as well. Both controls are printed beside the figures. The
training loss that a run reports is that of the weighted, harder batches: it lies above that of a plain run.`,
			Headline: "samples trained on",
			Claims: []card.Claim{
				{What: "overall cost at equal accuracy, CIFAR-10/100, ImageNet-1K and ADE20K, against full data", Figure: "40% saved", Ratio: 1.67},
				{What: "cost of pre-training MAE and of a diffusion model, against full data", Figure: "24.8% and 27% saved", Ratio: 1.33},
				{What: "cost of LLaMA instruction tuning, against full data", Figure: "20% saved", Ratio: 1.25},
			},
		},
		Code: []string{"data/sample/infobatch.go", "data/sample/select.go"},
		Breaks: []experiment.Break{
			{File: "data/sample/infobatch.go", Old: "float32(1 / (1 - s.R))", New: "1", Test: "./data/sample -run TestInfoBatchGradient"},
			{File: "data/sample/infobatch.go", Old: "done < s.Delta", New: "done < 1", Test: "./data/sample -run TestInfoBatch$"},
			{File: "data/sample/infobatch.go", Old: "if n > 0 {", New: "if n >= 0 {", Test: "./data/sample -run TestInfoBatch$"},
		},
		Run: infobatch,
	}
}

// epochs is the length of a run on full data.
const epochs = 16

// infobatchRun is the experiment under way.
type infobatchRun struct {
	*experiment.Run
	data *vision.Dataset // its Valid are the test images
	held *vision.Dataset // the same training images, less those held out to choose rates by
}

func infobatch(r *experiment.Run) error {
	d, err := vision.Load("fashion", vision.LoadOptions{})
	if err != nil {
		return err
	}
	e := &infobatchRun{r, d, nil}
	grid := []float64{5e-4, 1e-3, 2e-3}
	seeds := []uint64{1, 2, 3, 4, 5}
	if r.Quick {
		d.Train = images(&d.Train, 0, 6000)
		grid, seeds = []float64{1e-3}, seeds[:3] // one would not do for times
	}
	held := *d
	n := d.Train.Len() * 5 / 6
	held.Train, held.Valid = images(&d.Train, 0, n), images(&d.Train, n, d.Train.Len())
	e.held = &held

	if err := e.gradient(); err != nil {
		return err
	}
	rates := map[string]float64{}
	for _, arm := range []string{"shuffled", "infobatch"} {
		if rates[arm], err = r.Tune(arm, grid, func(lr float64) (float64, error) {
			run, err := e.train(e.held, 1, "sampler="+arm, fmt.Sprint("optim.lr=", lr))
			return 100 * (1 - run.Metric), err
		}); err != nil {
			return err
		}
	}
	return e.compare(seeds, rates["shuffled"], rates["infobatch"])
}

// images are those from lo to hi.
func images(m *vision.Images, lo, hi int) vision.Images {
	c := *m
	c.Pixels, c.Labels = m.Pixels[lo*m.Size():hi*m.Size()], m.Labels[lo:hi]
	return c
}

// job prepares a run on a data set: an MLP 784-128-128-10, which is evaluated
// some eight times.
func (e *infobatchRun) job(d *vision.Dataset, seed uint64, settings ...string) (*vision.Job, error) {
	r, err := recipe.Open("vision")
	if err != nil {
		return nil, err
	}
	every := max(1, d.Train.Len()*epochs/128/8)
	if err := r.Set(append([]string{"model.hidden=128", fmt.Sprint("epochs=", epochs), fmt.Sprint("seed=", seed), fmt.Sprint("evaluate.every=", every)}, settings...)...); err != nil {
		return nil, err
	}
	s, err := vision.Resolve(r)
	if err != nil {
		return nil, err
	}
	return vision.NewJobOn(s, d)
}

func (e *infobatchRun) train(d *vision.Dataset, seed uint64, settings ...string) (workload.Run, error) {
	j, err := e.job(d, seed, settings...)
	if err != nil {
		return workload.Run{}, err
	}
	return workload.Do(e.Context, j)
}

// compare trains the arms by turns, from the same weights for each seed.
func (e *infobatchRun) compare(seeds []uint64, lrFull, lrInfoBatch float64) error {
	arms := []string{"full data", "infobatch", "no rescale", "as many samples"}
	accuracy, samples, time := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	lr := func(x float64) string { return fmt.Sprint("optim.lr=", x) }
	var miscount, extra float64
	for _, seed := range seeds {
		steps := 0 // of as many samples as infobatch saw
		for _, arm := range arms {
			e.Progress("%s, seed %d", arm, seed)
			settings := []string{lr(lrFull)}
			switch arm {
			case "infobatch":
				settings = []string{"sampler=infobatch", lr(lrInfoBatch)}
			case "no rescale":
				settings = []string{"sampler=infobatch", "sampler.rescale=false", lr(lrInfoBatch)}
			case "as many samples":
				settings = []string{"epochs=0", fmt.Sprint("steps=", steps), lr(lrFull)}
			}
			j, err := e.job(e.data, seed, settings...)
			if err != nil {
				return err
			}
			var watch *watched
			if arm == "infobatch" && seed == seeds[0] {
				watch = watchEpochs(j)
			}
			run, err := workload.Do(e.Context, j)
			if err != nil {
				return err
			}
			if watch != nil {
				miscount, extra = watch.off(), float64(watch.images-run.Items)
			}
			if arm == "infobatch" {
				steps = int((run.Items + 64) / 128)
			}
			accuracy[arm] = append(accuracy[arm], 100*run.Metric)
			samples[arm] = append(samples[arm], float64(run.Items))
			time[arm] = append(time[arm], run.Seconds)
			var x, y []float64
			for _, p := range run.Curve {
				x, y = append(x, float64(p.Items)), append(y, 100*p.Metric)
			}
			e.Curve(arm, seed, "samples", "test accuracy, %", x, y)
		}
	}
	saved := make([]float64, len(seeds))
	for i := range saved {
		saved[i] = (1 - time["infobatch"][i]/time["full data"][i]) / (1 - samples["infobatch"][i]/samples["full data"][i])
	}
	e.Exact("largest difference of an epoch's samples from n − r·m", miscount, experiment.AtMost(0.5))
	e.Exact("images passed forward beyond those trained on", extra, experiment.Equals(0))
	e.Rate("share of time saved / share of samples saved", "", saved, experiment.AtLeast(0.9))
	full, ours := arms[0], arms[1]
	e.Outcome("samples trained on", "", samples[full], samples[ours], experiment.RatioAtMost(0.72))
	e.Outcome("test accuracy", "%", accuracy[full], accuracy[ours], experiment.DifferenceAtLeast(-0.5))
	e.Print("training time", "s", time[full], time[ours])
	e.Print("test accuracy of the control without rescaling", "%", accuracy[full], accuracy["no rescale"])
	e.Print("test accuracy of the control with as many samples, plainly", "%", accuracy[full], accuracy["as many samples"])
	e.Print("test accuracy over plain training on as many samples", "%", accuracy["as many samples"], accuracy[ours])
	e.Note("The baseline sees all %d images in each of %d epochs. The control with as many samples is plain training whose schedule ends where infobatch's samples do.", e.data.Train.Len(), epochs)
	return nil
}

// counting counts the images that pass a model.
type counting struct {
	vision.Model
	images int64
}

func (c *counting) Logits(t *grad.Tape, x *grad.Var) *grad.Var {
	c.images += int64(x.Dim(0))
	return c.Model.Logits(t, x)
}

// watched follows a run with infobatch from outside: which samples each epoch
// trained on, and what they cost.
type watched struct {
	counting
	scores []float64 // last loss of each sample
	want   []float64 // by the formula, for each epoch
	got    []float64
}

// watchEpochs replays the paper's rule, in float64, beside a run.
func watchEpochs(j *vision.Job) *watched {
	n := j.Data.Train.Len()
	w := &watched{counting: counting{Model: j.Model}, scores: slices.Repeat([]float64{1}, n)}
	j.Task.Model = &w.counting
	b := j.Selector.(*sample.InfoBatch)
	spy := &spy{InfoBatch: b, w: w}
	j.Task.Stream = sample.NewStream(spy, j.Batch, func() float64 { return j.Task.Epochs() / float64(j.Epochs) })
	j.Loop.On(loop.EpochStart, func(s *loop.State) error {
		mean := 0.0
		for _, h := range w.scores {
			mean += h
		}
		mean /= float64(n)
		low := 0
		for _, h := range w.scores {
			if h < mean && float64(s.Epoch-1) < b.Delta*float64(j.Epochs) {
				low++
			}
		}
		w.want, w.got = append(w.want, float64(n)-b.R*float64(low)), append(w.got, 0)
		return nil
	})
	return w
}

// spy lets a selector's losses be seen.
type spy struct {
	*sample.InfoBatch
	w *watched
}

func (s *spy) Observe(ids []int32, losses []float32) {
	for i, id := range ids {
		s.w.scores[id] = float64(losses[i])
	}
	s.w.got[len(s.w.got)-1] += float64(len(ids))
	s.InfoBatch.Observe(ids, losses)
}

// off is the largest difference between an epoch's samples and the formula.
func (w *watched) off() float64 {
	most := 0.0
	for i := range w.want {
		most = max(most, math.Abs(w.got[i]-w.want[i]))
	}
	return most
}

// gradient holds, at frozen weights, the mean gradient of 10,000 planned epochs
// against the gradient of all samples. The gradient is linear in the samples'
// factors, so their mean over the plans gives it in one pass.
func (e *infobatchRun) gradient() error {
	const n, plans = 512, 10000
	part := *e.data
	part.Train, part.Valid = images(&e.data.Train, 0, n), images(&e.data.Train, 0, n)
	j, err := e.job(&part, 1, "epochs=3")
	if err != nil {
		return err
	}
	if _, err := workload.Do(e.Context, j); err != nil { // so that losses differ
		return err
	}
	x := make([]float32, len(part.Train.Pixels))
	for i, p := range part.Train.Pixels {
		x[i] = (float32(p)/255 - part.Mean[0]) / part.Std[0]
	}
	tape := grad.NewTape(new(memory.Arena))
	// of computes the gradient of the samples' losses times factors, and the losses.
	of := func(factors []float32) (gradient []float64, losses []float32) {
		for _, p := range j.Model.Params() {
			p.ZeroGrad()
		}
		in := tape.Input(tensor.Tensor{Shape: tensor.Of(n, part.Train.H, part.Train.W, part.Train.C), Data: x})
		rows := grad.CrossEntropyRows(tape, j.Model.Logits(tape, in), part.Train.Labels)
		losses = slices.Clone(rows.Data)
		weighted := grad.Mul(tape, rows, tape.Input(tensor.Tensor{Shape: tensor.Of(n), Data: factors}))
		tape.Backward(grad.Scale(tape, grad.Sum(tape, weighted), 1.0/n))
		tape.Reset()
		for _, p := range j.Model.Params() {
			for _, g := range p.Grad {
				gradient = append(gradient, float64(g))
			}
		}
		return gradient, losses
	}
	full, losses := of(slices.Repeat([]float32{1}, n))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i)
	}
	off := func(rescale bool) (float64, error) {
		s := sample.NewInfoBatch()
		s.Rescale = rescale
		if err := s.Init(new(memory.Arena), n, 1); err != nil {
			return 0, err
		}
		s.Observe(ids, losses)
		if err := s.EndEpoch(); err != nil {
			return 0, err
		}
		sums := make([]float64, n)
		for k := range plans {
			p := s.Plan(k, 0)
			for i, id := range p.IDs {
				sums[id] += float64(p.Weights[i])
			}
		}
		factors := make([]float32, n)
		for i, f := range sums {
			factors[i] = float32(f / plans)
		}
		got, _ := of(factors)
		var d, f float64
		for i := range full {
			d += (got[i] - full[i]) * (got[i] - full[i])
			f += full[i] * full[i]
		}
		return math.Sqrt(d / f), nil
	}
	ours, err := off(true)
	if err != nil {
		return err
	}
	bare, err := off(false)
	if err != nil {
		return err
	}
	e.Exact("mean gradient of 10,000 plans, relative difference from the full gradient", ours, experiment.AtMost(0.01))
	e.Print("the same without rescaling", "", nil, []float64{bare})
	return nil
}
