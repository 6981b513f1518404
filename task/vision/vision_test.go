package vision

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/precision"
	"hasten/engine/rng"
	"hasten/engine/tensor"
	"hasten/learn/loop"
	"hasten/learn/schedule"
	"hasten/learn/track"
	"hasten/task/recipe"
	"hasten/task/run"
)

// idx is an IDX file of bytes.
func idx(shape []int, data []byte) []byte {
	b := []byte{0, 0, 8, byte(len(shape))}
	for _, n := range shape {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	return append(b, data...)
}

func put(t testing.TB, path string, content []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o777)
	if err == nil {
		err = os.WriteFile(path, content, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// stripes are pictures of 6×5 in three classes: which third is bright, under
// noise.
func stripes(seed uint64, n int) (pixels, labels []byte) {
	r := rng.New(seed, 0)
	for range n {
		label := r.IntN(3)
		labels = append(labels, byte(label))
		for i := range 30 {
			v := 60 * r.Float64()
			if i/10 == label {
				v += 120 * r.Float64()
			}
			pixels = append(pixels, byte(v))
		}
	}
	return pixels, labels
}

// stripesDir is a directory of IDX files.
func stripesDir(t testing.TB, train, valid int) string {
	t.Helper()
	dir := t.TempDir()
	for name, n := range map[string]int{"train": train, "t10k": valid} {
		if n > 0 {
			pixels, labels := stripes(uint64(n), n)
			put(t, filepath.Join(dir, name+"-images-idx3-ubyte"), idx([]int{n, 6, 5}, pixels))
			put(t, filepath.Join(dir, name+"-labels-idx1-ubyte"), idx([]int{n}, labels))
		}
	}
	return dir
}

const tiny = `
task = "vision"
epochs = 8
batch = 10
seed = 3
[model]
use = "mlp"
hidden = 12
[optim]
lr = 0.01
[schedule]
warmup = 3
[evaluate]
every = 5
[checkpoint]
every = 3
keep = 99
`

func settings(t testing.TB, data string, changes ...string) *Settings {
	t.Helper()
	r, err := recipe.Parse("tiny", []byte(tiny))
	if err == nil {
		err = r.Set(append([]string{"data=" + data}, changes...)...)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// finish runs to the end.
func finish(t *testing.T, s *Settings, o run.Options) Outcome {
	t.Helper()
	out, err := Train(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	if out.Interrupted || !out.Job.Loop.Finished() {
		t.Fatalf("the run ended after step %d", out.Job.Loop.State.Step)
	}
	return out
}

func sameWeights(t *testing.T, what string, a, b Model) {
	t.Helper()
	for i, p := range a.Params() {
		if !slices.Equal(p.Data, b.Params()[i].Data) {
			t.Errorf("%s: %s differs", what, p.Name)
		}
	}
}

// TestTrain learns the stripes with both models, and reads the model back.
func TestTrain(t *testing.T) {
	data := stripesDir(t, 200, 60)
	for _, model := range []string{"mlp", "conv"} {
		for _, p := range []string{"f32", "bf16"} {
			dir := t.TempDir()
			out := finish(t, settings(t, data, "model="+model, "precision="+p), run.Options{Dir: dir})
			accuracy := out.Last.Value("accuracy")
			if accuracy < 0.95 || out.Last.ValLoss > 0.5 || out.Last.Step != 160 || out.Last.Tokens != 1600 {
				t.Errorf("%s, %s: %+v", model, p, out.Last)
			}
			m, err := Open(new(memory.Arena), dir)
			if err != nil {
				t.Fatal(err)
			}
			sameWeights(t, model, m, out.Job.Model)
			d := &Dataset{Train: out.Job.Data.Valid, Mean: m.Mean, Std: m.Std}
			tape := grad.NewTape(new(memory.Arena))
			tape.Policy = out.Job.Precision
			if s := Evaluate(tape, m, d, &out.Job.Data.Valid, 7); p == "f32" && (s.Accuracy != accuracy || math.Abs(s.Loss-out.Last.ValLoss) > 1e-6) {
				t.Errorf("%s, read back: %+v, want %v", model, s, out.Last)
			}
			records, err := track.ReadLog(filepath.Join(dir, track.LogName))
			if err != nil {
				t.Fatal(err)
			}
			if last := records[len(records)-1]; last.Value("accuracy") != accuracy || last.Value("memory/weights") == 0 {
				t.Errorf("%s: the log ends with %+v", model, last)
			}
		}
	}
}

// TestExact trains with any number of threads, and stops and resumes after any
// step, with every sampler: the weights are the same to the bit.
func TestExact(t *testing.T) {
	data := stripesDir(t, 47, 20)
	for _, changes := range [][]string{
		{"sampler=shuffled"}, {"sampler=random"}, {"sampler=infobatch", "accumulate=2"}, {"sampler=infobatch", "average=ema"}, {"model=conv", "model.width=4", "epochs=3", "sampler=infobatch"},
	} {
		name := strings.Join(changes, " ")
		dir := t.TempDir()
		whole := finish(t, settings(t, data, append(changes, "checkpoint.every=1", "threads=1")...), run.Options{Dir: dir})
		for _, threads := range []int{2, 5} {
			out := finish(t, settings(t, data, append(changes, fmt.Sprint("threads=", threads))...), run.Options{Dir: t.TempDir()})
			sameWeights(t, fmt.Sprint(name, ", threads ", threads), whole.Job.Model, out.Job.Model)
		}
		for step := whole.Job.Loop.State.Step - 1; step > 0; step-- {
			if err := os.RemoveAll(filepath.Join(dir, run.CheckpointDir, fmt.Sprintf("step-%08d", step+1))); err != nil {
				t.Fatal(err)
			}
			if step%4 != 1 && step > 8 {
				continue
			}
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			out := finish(t, settings(t, data, append(changes, "checkpoint.every=0")...), run.Options{Dir: copied, Resume: true})
			sameWeights(t, fmt.Sprint(name, ", resumed after ", step), whole.Job.Model, out.Job.Model)
			a, b := out.Job.Loop.State, whole.Job.Loop.State
			if a.Step != b.Step || a.Epoch != b.Epoch || a.Seen != b.Seen || a.Loss != b.Loss || out.Last.Value("accuracy") != whole.Last.Value("accuracy") {
				t.Errorf("%s, resumed after %d: %+v, want %+v", name, step, a, b)
			}
		}
	}
	if runtime.GOMAXPROCS(0) != runtime.NumCPU() && os.Getenv("GOMAXPROCS") == "" {
		t.Errorf("%d threads are left", runtime.GOMAXPROCS(0))
	}
	// A finished run that is resumed tells its last accuracy again.
	dir := t.TempDir()
	first := finish(t, settings(t, data), run.Options{Dir: dir})
	if again := finish(t, settings(t, data), run.Options{Dir: dir, Resume: true}); again.Last.Value("accuracy") != first.Last.Value("accuracy") {
		t.Errorf("resumed when finished: %+v, want %+v", again.Last, first.Last)
	}
}

// TestAverage saves, and evaluates with, the mean of the weights, and goes on
// from the weights themselves.
func TestAverage(t *testing.T) {
	data := stripesDir(t, 100, 30)
	plain := finish(t, settings(t, data), run.Options{Dir: t.TempDir()})
	dir := t.TempDir()
	out := finish(t, settings(t, data, "average=lawa"), run.Options{Dir: dir})
	sameWeights(t, "trained with an average", out.Job.Model, plain.Job.Model)
	m, err := Open(new(memory.Arena), dir)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(m.Params()[0].Data, out.Job.Model.Params()[0].Data) {
		t.Error("the weights that were saved are no mean")
	}
	valid := &out.Job.Data.Valid
	if s := Evaluate(grad.NewTape(new(memory.Arena)), m, &Dataset{Train: *valid, Mean: m.Mean, Std: m.Std}, valid, 30); math.Abs(s.Loss-out.Last.ValLoss) > 1e-6 {
		t.Errorf("the model that was saved has the loss %v, the run ended with %v", s.Loss, out.Last.ValLoss)
	}
}

// counting counts passes of a model.
type counting struct {
	Model
	passes, images int
}

func (c *counting) Logits(t *grad.Tape, x *grad.Var) *grad.Var {
	c.passes++
	c.images += x.Dim(0)
	return c.Model.Logits(t, x)
}

// TestInfoBatchCosts counts: a run with infobatch passes every chosen image
// through the model once, and chooses fewer of them.
func TestInfoBatchCosts(t *testing.T) {
	data := stripesDir(t, 300, 0)
	j, err := NewJob(settings(t, data, "sampler=infobatch", "data.fraction=0"))
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{Model: j.Model}
	j.Task.Model = c
	perEpoch := map[int]int{}
	j.Loop.On(loop.BatchReady, func(s *loop.State) error {
		perEpoch[s.Epoch] += s.Items
		return nil
	})
	if err := j.Loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	s := j.Loop.State
	if int64(c.images) != s.Seen || c.passes != s.Step {
		t.Errorf("%d passes of %d images in %d steps of %d", c.passes, c.images, s.Step, s.Seen)
	}
	for e := 1; e <= 8; e++ {
		if whole := e == 1 || e == 8; len(perEpoch) != 8 || whole != (perEpoch[e] == 300) {
			t.Errorf("epochs of %v images", perEpoch)
		}
	}
}

// TestWeights holds the gradient of a weighted batch against the weighted sum
// of the gradients of its images.
func TestWeights(t *testing.T) {
	d, err := Load(stripesDir(t, 9, 0), LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a := new(memory.Arena)
	m, err := (&MLPConfig{Hidden: 5, Layers: 1}).New(a, d.shape(precision.F32{}), 1)
	if err != nil {
		t.Fatal(err)
	}
	task := newTask(a, m, d, nil, 9)
	gradient := func(ids []int32, weights []float32) (all []float64, perSample []float32) {
		gather(task.x, task.labels[:len(ids)], &d.Train, ids, d.Mean, d.Std)
		task.labels, task.weights = task.labels[:len(ids)], weights
		for _, p := range m.Params() {
			p.ZeroGrad()
		}
		tape := grad.NewTape(a)
		mean, losses, err := task.Loss(tape)
		if err != nil {
			t.Fatal(err)
		}
		tape.Backward(mean)
		for _, p := range m.Params() {
			for _, g := range p.Grad {
				all = append(all, float64(g))
			}
		}
		return all, slices.Clone(losses)
	}
	ids, weights := []int32{3, 0, 7, 5}, []float32{1, 2, 0.5, 0}
	got, losses := gradient(ids, weights)
	want := make([]float64, len(got))
	for i, id := range ids {
		one, l := gradient([]int32{id}, nil)
		if math.Abs(float64(l[0]-losses[i])) > 1e-6 {
			t.Errorf("image %d: loss %v in the batch, %v alone", id, losses[i], l[0])
		}
		for k := range want {
			want[k] += float64(weights[i]) * one[k] / float64(len(ids))
		}
		task.labels = task.labels[:4]
	}
	for k := range want {
		if math.Abs(got[k]-want[k]) > 1e-6 {
			t.Fatalf("gradient %d is %v, want %v", k, got[k], want[k])
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	data := stripesDir(t, 100, 0)
	for _, model := range []string{"mlp", "conv"} {
		j, err := NewJob(settings(t, data, "model="+model, "epochs=0", "steps=100000", "data.fraction=0", "checkpoint.every=0"))
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		j.Loop.On(loop.AfterStep, func(s *loop.State) error {
			switch s.Step {
			case 40:
				runtime.ReadMemStats(&before)
			case 240:
				runtime.ReadMemStats(&after)
				return loop.ErrStop
			}
			return nil
		})
		if err := j.Loop.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := after.Mallocs - before.Mallocs; n > 40 { // ReadMemStats and the runtime's own
			t.Errorf("%s: %d allocations in 200 steps", model, n)
		}
	}
}

// TestBuffersOfOtherSizesAreGivenUp trains for many epochs that end in batches
// of other sizes: the arena must not keep buffers for each of them.
func TestBuffersOfOtherSizesAreGivenUp(t *testing.T) {
	j, err := NewJob(settings(t, stripesDir(t, 300, 0), "model=conv", "model.width=4", "sampler=infobatch", "batch=64", "epochs=40", "data.fraction=0", "checkpoint.every=0"))
	if err != nil {
		t.Fatal(err)
	}
	sizes, usual, most := map[int]bool{}, int64(0), int64(0)
	j.Loop.On(loop.BatchReady, func(s *loop.State) error {
		sizes[s.Items] = true
		most = max(most, j.Loop.Arena.Held())
		if s.Epoch == 1 {
			usual = most
		}
		return nil
	})
	if err := j.Loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if most > 7*usual/2 || len(sizes) < 10 {
		t.Errorf("%d bytes held, %d in the first epoch; %d sizes of batches", most, usual, len(sizes))
	}
}

// input is a batch of two random pictures.
func input(t *testing.T, s Shape) (*grad.Tape, *grad.Var) {
	t.Helper()
	r := rng.New(8, 0)
	x := make([]float32, 2*s.H*s.W*s.C)
	r.FillNormal(x, 0, 1)
	tape := grad.NewTape(new(memory.Arena))
	return tape, tape.Input(tensor.Tensor{Shape: tensor.Of(2, s.H, s.W, s.C), Data: x})
}

// randomise gives every parameter values that matter.
func randomise(m Model) {
	r := rng.New(9, 0)
	for _, p := range m.Params() {
		r.FillNormal(p.Data, 0.1, 0.3)
	}
}

func find(m Model, name string) *grad.Param {
	for _, p := range m.Params() {
		if p.Name == name {
			return p
		}
	}
	panic("no parameter " + name)
}

// near compares logits with a reference.
func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i, w := range want {
		if len(got) != len(want) || math.Abs(float64(got[i])-w) > 1e-4*(1+math.Abs(w)) {
			t.Fatalf("%s: logits %v, want %v", what, got, want)
		}
	}
}

// dense is relu?(W·x + b) by its definition.
func dense(m Model, name string, x []float64, relu bool) []float64 {
	w, b := find(m, name+".weight"), find(m, name+".bias")
	y := make([]float64, b.Len())
	for o := range y {
		y[o] = float64(b.Data[o])
		for i, v := range x {
			y[o] += float64(w.Data[o*len(x)+i]) * v
		}
		if relu {
			y[o] = max(y[o], 0)
		}
	}
	return y
}

func TestMLP(t *testing.T) {
	s := Shape{H: 3, W: 4, C: 2, Classes: 5}
	m, err := (&MLPConfig{Hidden: 7, Layers: 2}).New(new(memory.Arena), s, 1)
	if err != nil {
		t.Fatal(err)
	}
	randomise(m)
	tape, x := input(t, s)
	var want []float64
	for i := range 2 {
		var h []float64
		for _, v := range x.Data[i*24 : (i+1)*24] {
			h = append(h, float64(v))
		}
		h = dense(m, "layers.1", dense(m, "layers.0", h, true), true)
		want = append(want, dense(m, "head", h, false)...)
	}
	near(t, "mlp", m.Logits(tape, x).Data, want)
	if f := m.FLOPs(); f != 2*(24*7+7*7+7*5) {
		t.Errorf("%v FLOPs", f)
	}
}

// grid is a picture in float64 with its sides.
type grid struct {
	h, w, c int
	x       []float64
}

// conv3 is a 3×3 convolution with zeros around it, by its definition. An even
// side is padded below and to the right only where the stride is 2.
func (g grid) conv3(m Model, name string, stride int) grid {
	w, b := find(m, name+".weight"), find(m, name+".bias")
	y := grid{h: (g.h + stride - 1) / stride, w: (g.w + stride - 1) / stride, c: b.Len()}
	before := func(size, out int) int { return max(0, (out-1)*stride+3-size) / 2 }
	for i := range y.h {
		for j := range y.w {
			for o := range y.c {
				sum := float64(b.Data[o])
				for ki := range 3 {
					for kj := range 3 {
						r, s := i*stride+ki-before(g.h, y.h), j*stride+kj-before(g.w, y.w)
						if r < 0 || s < 0 || r >= g.h || s >= g.w {
							continue
						}
						for c := range g.c {
							sum += float64(w.Data[((o*3+ki)*3+kj)*g.c+c]) * g.x[(r*g.w+s)*g.c+c]
						}
					}
				}
				y.x = append(y.x, sum)
			}
		}
	}
	return y
}

// normRelu is LayerNorm over channels, then ReLU.
func (g grid) normRelu(m Model, name string) grid {
	gain, bias := find(m, name+".weight"), find(m, name+".bias")
	y := grid{g.h, g.w, g.c, make([]float64, len(g.x))}
	for p := 0; p < len(g.x); p += g.c {
		var mean, variance float64
		for _, v := range g.x[p : p+g.c] {
			mean += v / float64(g.c)
		}
		for _, v := range g.x[p : p+g.c] {
			variance += (v - mean) * (v - mean) / float64(g.c)
		}
		for k, v := range g.x[p : p+g.c] {
			y.x[p+k] = max(0, (v-mean)/math.Sqrt(variance+normEps)*float64(gain.Data[k])+float64(bias.Data[k]))
		}
	}
	return y
}

func TestConvNet(t *testing.T) {
	for _, s := range []Shape{{H: 7, W: 6, C: 2, Classes: 4}, {H: 4, W: 4, C: 1, Classes: 2}} {
		m, err := (&ConvConfig{Width: 3, Stages: 2, Blocks: 2}).New(new(memory.Arena), s, 1)
		if err != nil {
			t.Fatal(err)
		}
		randomise(m)
		tape, x := input(t, s)
		var want []float64
		for i := range 2 {
			g := grid{s.H, s.W, s.C, nil}
			for _, v := range x.Data[i*s.H*s.W*s.C : (i+1)*s.H*s.W*s.C] {
				g.x = append(g.x, float64(v))
			}
			g = g.conv3(m, "stem", 2)
			for stage := range 2 {
				if stage > 0 {
					g = g.conv3(m, fmt.Sprintf("stages.%d.down", stage), 2)
				}
				for k := range 2 {
					name := fmt.Sprintf("stages.%d.blocks.%d.", stage, k)
					h := g.normRelu(m, name+"norm1").conv3(m, name+"conv1", 1)
					h = h.normRelu(m, name+"norm2").conv3(m, name+"conv2", 1)
					for i := range g.x {
						g.x[i] += h.x[i]
					}
				}
			}
			g = g.normRelu(m, "norm")
			pooled := make([]float64, g.c)
			for i, v := range g.x {
				pooled[i%g.c] += v / float64(g.h*g.w)
			}
			want = append(want, dense(m, "head", pooled, false)...)
		}
		near(t, fmt.Sprint("conv ", s), m.Logits(tape, x).Data, want)
	}
	if _, err := (&ConvConfig{Width: 2, Stages: 4, Blocks: 1}).New(new(memory.Arena), Shape{H: 7, W: 7, C: 1, Classes: 2}, 1); err == nil || !strings.Contains(err.Error(), "4 stages are too many") {
		t.Errorf("error %v", err)
	}
}

// TestLoadIDX reads plain and compressed files, divides where there is no
// validation, and normalises.
func TestLoadIDX(t *testing.T) {
	dir := stripesDir(t, 100, 40)
	d, err := Load(dir, LoadOptions{Fraction: 0.2, Limit: 30})
	if err != nil {
		t.Fatal(err)
	}
	pixels, labels := stripes(100, 100)
	if d.Train.Len() != 30 || d.Valid.Len() != 40 || d.Train.H != 6 || d.Train.W != 5 || d.Train.C != 1 || !slices.Equal(d.Classes, []string{"0", "1", "2"}) {
		t.Fatalf("%d and %d images of %d×%d×%d, classes %v", d.Train.Len(), d.Valid.Len(), d.Train.H, d.Train.W, d.Train.C, d.Classes)
	}
	if !bytes.Equal(d.Train.Pixels, pixels[:30*30]) || d.Train.Labels[7] != int32(labels[7]) {
		t.Error("other pixels, or labels")
	}
	var mean, square float64
	for _, p := range d.Train.Pixels {
		mean += float64(p) / 255 / 900
		square += float64(p) / 255 * float64(p) / 255 / 900
	}
	std := math.Sqrt(square - mean*mean)
	if math.Abs(float64(d.Mean[0])-mean) > 1e-6 || math.Abs(float64(d.Std[0])-std) > 1e-6 {
		t.Errorf("mean %v, std %v; want %v, %v", d.Mean, d.Std, mean, std)
	}
	x, y := make([]float32, 60), make([]int32, 2)
	gather(x, y, &d.Train, []int32{29, 4}, d.Mean, d.Std)
	for i, id := range []int{29, 4} {
		for k := range 30 {
			want := (float64(pixels[id*30+k])/255 - mean) / std
			if math.Abs(float64(x[i*30+k])-want) > 1e-4 || y[i] != int32(labels[id]) {
				t.Fatalf("image %d, value %d: %v, want %v; label %d", id, k, x[i*30+k], want, y[i])
			}
		}
	}

	dir = stripesDir(t, 1000, 0)
	plain := filepath.Join(dir, "train-images-idx3-ubyte")
	content, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(content)
	z.Close()
	put(t, plain+".gz", b.Bytes())
	os.Remove(plain)
	d, err = Load(dir, LoadOptions{Fraction: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	if n := d.Valid.Len(); n < 150 || n > 250 || n+d.Train.Len() != 1000 {
		t.Errorf("%d of 1000 images for validation", n)
	}
	other := stripesDir(t, 50, 0)
	if d, err = Load(dir, LoadOptions{Valid: other}); err != nil || d.Valid.Len() != 50 || d.Train.Len() != 1000 {
		t.Errorf("validation from elsewhere: %v", err)
	}
}

// picture is one colour with a mark in its first pixel.
func picture(w, h int, c color.RGBA) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.SetRGBA(i%w, i/w, c)
	}
	m.SetRGBA(0, 0, color.RGBA{255, 255, 255, 255})
	return m
}

func putPicture(t *testing.T, path string, m image.Image) {
	t.Helper()
	var b bytes.Buffer
	var err error
	if strings.HasSuffix(path, ".png") {
		err = png.Encode(&b, m)
	} else {
		err = jpeg.Encode(&b, m, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	put(t, path, b.Bytes())
}

func TestLoadFolders(t *testing.T) {
	red, blue := color.RGBA{200, 10, 30, 255}, color.RGBA{0, 0, 100, 255}
	dir := t.TempDir()
	putPicture(t, filepath.Join(dir, "blue", "1.png"), picture(4, 2, blue))
	putPicture(t, filepath.Join(dir, "red", "a.PNG.png"), picture(4, 2, red))
	putPicture(t, filepath.Join(dir, "red", "b.jpg"), picture(4, 2, red))
	put(t, filepath.Join(dir, "red", "notes.txt"), nil)
	put(t, filepath.Join(dir, ".hidden", "x.png"), nil)
	d, err := Load(dir, LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Classes, []string{"blue", "red"}) || !slices.Equal(d.Train.Labels, []int32{0, 1, 1}) || d.Train.H != 2 || d.Train.W != 4 || d.Train.C != 3 {
		t.Fatalf("%v %v %d×%d×%d", d.Classes, d.Train.Labels, d.Train.H, d.Train.W, d.Train.C)
	}
	if p := d.Train.Pixels; !bytes.Equal(p[:6], []byte{255, 255, 255, 0, 0, 100}) || !bytes.Equal(p[24+3:24+6], []byte{200, 10, 30}) {
		t.Errorf("pixels %v", p)
	}

	// Folders of their own for the parts, other sizes, grey pictures.
	parts := t.TempDir()
	grey := image.NewGray(image.Rect(0, 0, 4, 4))
	for i := range grey.Pix {
		grey.Pix[i] = byte(10 * i)
	}
	putPicture(t, filepath.Join(parts, "train", "a", "1.png"), grey)
	putPicture(t, filepath.Join(parts, "train", "b", "1.png"), picture(2, 2, color.RGBA{90, 90, 90, 255}))
	putPicture(t, filepath.Join(parts, "val", "a", "1.png"), picture(1, 1, red))
	putPicture(t, filepath.Join(parts, "val", "b", "1.png"), picture(7, 5, red))
	if d, err = Load(parts, LoadOptions{Size: 2}); err != nil {
		t.Fatal(err)
	}
	// The mean of each quarter of 0, 10, … 150; and the second as it is.
	if want := []byte{25, 45, 105, 125, 255, 90, 90, 90}; d.Train.C != 1 || !bytes.Equal(d.Train.Pixels, want) || d.Valid.Len() != 2 {
		t.Errorf("pixels %v, want %v; %d for validation", d.Train.Pixels, want, d.Valid.Len())
	}
}

func TestLoadErrors(t *testing.T) {
	dir := func(files map[string][]byte) string {
		d := t.TempDir()
		for name, content := range files {
			put(t, filepath.Join(d, name), content)
		}
		return d
	}
	good := idx([]int{1, 2, 2}, make([]byte, 4))
	label := idx([]int{1}, []byte{0})
	sizes := t.TempDir()
	putPicture(t, filepath.Join(sizes, "a", "1.png"), picture(2, 2, color.RGBA{}))
	putPicture(t, filepath.Join(sizes, "a", "2.png"), picture(3, 2, color.RGBA{}))
	for _, c := range []struct {
		dir  string
		o    LoadOptions
		want string
	}{
		{"nowhere", LoadOptions{}, "nowhere"},
		{"gosrc", LoadOptions{}, "holds text, no images"},
		{t.TempDir(), LoadOptions{}, "neither IDX files"},
		{dir(map[string][]byte{"a/readme": nil}), LoadOptions{}, "neither IDX files"},
		{dir(map[string][]byte{"train-images": good}), LoadOptions{}, "no train-labels file"},
		{dir(map[string][]byte{"train-images": good, "train-labels": idx([]int{2}, []byte{0, 1})}), LoadOptions{}, "2 labels for 1 images"},
		{dir(map[string][]byte{"train-images": label, "train-labels": label}), LoadOptions{}, "want bytes (0x08) of shape [images, height, width]"},
		{dir(map[string][]byte{"train-images": good, "train-labels": good}), LoadOptions{}, "train-labels: type"},
		{dir(map[string][]byte{"train-images": good[:10], "train-labels": label}), LoadOptions{}, "train-images: "},
		{dir(map[string][]byte{"train-images": good, "train-labels": label, "t10k-images": idx([]int{1, 3, 2}, make([]byte, 6)), "t10k-labels": label}), LoadOptions{}, "images of 3×2, those for training have 2×2"},
		{dir(map[string][]byte{"a/1.png": []byte("no picture")}), LoadOptions{}, "1.png: "},
		{sizes, LoadOptions{}, "2.png: 2×3 pixels, others have 2×2; set data.size"},
		{stripesDir(t, 9, 0), LoadOptions{Valid: sizes, Size: 2}, "validation: "},
	} {
		if _, err := Load(c.dir, c.o); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestErrors(t *testing.T) {
	data := stripesDir(t, 60, 20)
	done := t.TempDir()
	finish(t, settings(t, data), run.Options{Dir: done})
	for _, c := range []struct {
		name    string
		changes []string
		o       run.Options
		want    string
	}{
		{"a run is there", nil, run.Options{Dir: done}, "already: add --resume"},
		{"another model", []string{"model.hidden=13"}, run.Options{Dir: done, Resume: true}, "has model.hidden=12, not 13"},
		{"another sampler", []string{"sampler=random", "epochs=9"}, run.Options{Dir: done, Resume: true}, "drew its samples by"},
		{"nothing to learn", []string{"data.limit=0", "data=" + t.TempDir()}, run.Options{}, "neither IDX"},
		{"no validation for a target", []string{"data.fraction=0", "target=1", "data=" + stripesDir(t, 20, 0)}, run.Options{}, "a target needs validation"},
	} {
		if c.o.Dir == "" {
			c.o.Dir = t.TempDir()
		}
		_, err := Train(context.Background(), settings(t, data, c.changes...), c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if errors.Is(err, run.ErrExists) != (c.name == "a run is there") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for text, want := range map[string]string{
		"task = \"vision\"": "would never end",
		"task = \"vision\"\nepochs = 1\n[model]\nuse = \"llama\"": "no such part",
		"task = \"lm\"\nepochs = 1":                               "task",
		"task = \"vision\"\ntokenizer = 1":                        "line 2: tokenizer: no such setting",
	} {
		r, err := recipe.Parse("r", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Resolve(r); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "recipe r: ") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	finish(t, settings(t, stripesDir(t, 30, 9)), run.Options{Dir: dir})
	config, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"", "", ""},
		{"{", "[", "config.json: "},
		{`"mlp"`, `"llama"`, "no such part"},
		{`"hidden": "12"`, `"hidden": "13"`, `tensor "layers.0.weight" of shape [12 30]: want [13 30]`},
		{`"image_size": [`, `"image_size": [-1, `, "not the configuration"},
		{`"hidden": "12"`, `"hidden": "many"`, "want a whole number"},
	} {
		if err := os.WriteFile(filepath.Join(dir, configFile), []byte(strings.Replace(string(config), c.old, c.new, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := Open(new(memory.Arena), dir)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v, want %q", c.new, c.old, err, c.want)
		}
	}
}

// TestRangeTest lets a run look for the bounds of its schedule: the recipe then
// has them, and a resumed run does not look again.
func TestRangeTest(t *testing.T) {
	s := settings(t, stripesDir(t, 200, 40), "optim=sgd", "optim.lr=3", "schedule=clr", "schedule.auto=true")
	out, err := Train(context.Background(), s, run.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	saved, err := run.OpenRecipe(out.Dir)
	if err != nil {
		t.Fatal(err)
	}
	c := s.Schedule.(*schedule.CLR)
	if c.Auto || saved.Get("schedule.auto") != "false" || saved.Get("schedule.hi") != strconv.FormatFloat(c.Hi, 'g', -1, 64) || !(c.Lo < c.Hi) || c.Hi == schedule.NewCLR().Hi {
		t.Errorf("bounds %v to %v; saved %s", c.Lo, c.Hi, saved.TOML())
	}
}
