package lm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"hasten/engine/atomicfile"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/learn/loop"
	"hasten/learn/track"
	"hasten/model/net"
	"hasten/task/run"
)

// u16 is token ids as a file of them.
func u16(ids []int32) string {
	var b []byte
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint16(b, uint16(id))
	}
	return string(b)
}

func someTokens(n, vocab int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i*i*7+i*3) % int32(vocab)
	}
	return ids
}

// newModel writes a model directory with random weights and returns it, and
// the weights by name.
func newModel(t *testing.T, part string, vocab int) (string, map[string][]float32) {
	t.Helper()
	c, err := net.Parts.Build(part, map[string]string{"layers": "2", "heads": "2", "dim": "16", "hidden": "24", "ctx": "16"})
	if err != nil {
		t.Fatal(err)
	}
	c.Vocab = vocab
	m, err := net.NewGPT(new(memory.Arena), *c)
	if err != nil {
		t.Fatal(err)
	}
	m.Init(5)
	dir := t.TempDir()
	if err := Save(dir, m, nil); err != nil {
		t.Fatal(err)
	}
	weights := map[string][]float32{}
	for _, p := range m.Params() {
		weights[p.Name] = p.Data
	}
	return dir, weights
}

// TestFrom starts from models of both layouts: the weights are those of the
// file, the recipe tells the model's shape, and the run trains and resumes.
func TestFrom(t *testing.T) {
	ids := write(t, "ids.bin", u16(someTokens(400, 40)))
	for _, layout := range net.Parts.Names() {
		from, weights := newModel(t, layout, 40)
		changes := []string{"from=" + from, "data.format=u16", "data.valid=" + ids, "model.layers=7"}
		j, err := NewJob(settings(t, ids, changes...), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range j.Model.Params() {
			if !slices.Equal(p.Data, weights[p.Name]) {
				t.Errorf("%s: %s differs from the file", layout, p.Name)
			}
		}
		if r := j.Recipe; r.Get("model") != layout || r.Get("model.layers") != "2" || r.Get("model.hidden") != "24" {
			t.Errorf("%s: the recipe says %s with %s layers", layout, r.Get("model"), r.Get("model.layers"))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		dir := train(t, settings(t, ids, changes...))
		finish(t, settings(t, ids, append(changes, "steps=15")...), run.Options{Dir: dir, Resume: true})
		m, err := Open(new(memory.Arena), dir)
		if err != nil {
			t.Fatal(err)
		}
		if m.Arch != layout || m.Vocab != 40 || m.Tokenizer != nil || slices.Equal(m.Token.Data, weights["tok.weight"]) {
			t.Errorf("%s: not what was trained", layout)
		}
	}

	// With a tokenizer, and text.
	text := write(t, "text.txt", corpus(1, 4000))
	first := train(t, settings(t, text))
	out := finish(t, settings(t, text, "from="+first, "steps=1", "optim.lr=0", "evaluate.every=1"), run.Options{Dir: t.TempDir()})
	m, err := Open(new(memory.Arena), first)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range out.Job.Model.Params() {
		if !slices.Equal(p.Data, m.Params()[i].Data) {
			t.Errorf("%s moved at a rate of 0", p.Name)
		}
	}
}

// TestFileOrder reads raw tokens with the sequential order: batch i holds the
// windows i·B … of the file, one after the other, and begins again at its end.
func TestFileOrder(t *testing.T) {
	from, _ := newModel(t, "llama", 40)
	tokens := someTokens(16*7+1, 40) // seven windows
	j, err := NewJob(settings(t, write(t, "ids.bin", u16(tokens)), "from="+from, "data.format=u16", "sampler=sequential", "batch=2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	task := j.Loop.Task.(*Task)
	for batch := range 9 {
		if _, err := task.Next(); err != nil {
			if batch == 4 || batch == 7 { // an epoch has ended: 8 of 7 windows given, then 14
				_, err = task.Next()
			}
			if err != nil {
				t.Fatal(batch, err)
			}
		}
		for r := range 2 {
			at := (2*batch + r) % 7 * 16
			got := task.batch
			if !slices.Equal(got.Tokens[r*16:(r+1)*16], tokens[at:at+16]) || !slices.Equal(got.Targets[r*16:(r+1)*16], tokens[at+1:at+17]) {
				t.Fatalf("batch %d, row %d is not the window at %d", batch, r, at)
			}
		}
	}
}

// TestEpochs counts the epochs of each order, in one run and in a resumed one.
func TestEpochs(t *testing.T) {
	text := write(t, "text.txt", strings.Repeat("0123456789abcdef", 8)+"!") // eight windows of 16
	for _, sampler := range []string{"random", "shuffled", "sequential"} {
		changes := []string{"sampler=" + sampler, "batch=3", "steps=9", "data.fraction=0", "checkpoint.every=1"}
		var begun []string
		w := watcher{begin: func(j *Job) {
			j.Loop.On(loop.EpochStart, func(s *loop.State) error {
				begun = append(begun, fmt.Sprintf("%d@%d", s.Epoch, s.Step))
				return nil
			})
		}}
		dir := t.TempDir()
		finish(t, settings(t, text, changes...), run.Options{Dir: dir, Watch: &w})
		want := []string{"1@0", "2@3", "3@6", "4@8"} // before batches 0, 3, 6 (16 of 2·8 windows are in 5⅓), 8
		if !slices.Equal(begun, want) {
			t.Errorf("%s: epochs begin at %v, want %v", sampler, begun, want)
		}
		for _, stop := range []int{7, 4, 3} {
			for step := stop + 1; step <= 9; step++ {
				os.RemoveAll(filepath.Join(dir, run.CheckpointDir, fmt.Sprintf("step-%08d", step)))
			}
			begun = nil
			out := finish(t, settings(t, text, append(changes, "checkpoint.every=0")...), run.Options{Dir: dir, Resume: true, Watch: &w})
			var rest []string
			for _, e := range want {
				if _, at, _ := strings.Cut(e, "@"); at >= fmt.Sprint(stop) {
					rest = append(rest, e)
				}
			}
			if !slices.Equal(begun, rest) || out.Job.Loop.State.Epoch != 4 {
				t.Errorf("%s, resumed after step %d: epochs begin at %v, want %v", sampler, stop, begun, rest)
			}
		}
	}
}

// TestAccumulate takes one step of two batches, or of one twice as large.
func TestAccumulate(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	changes := []string{"sampler=sequential", "steps=3", "optim=sgd", "optim.lr=1", "evaluate.every=1"}
	two, err := Open(new(memory.Arena), train(t, settings(t, text, append(changes, "batch=2", "accumulate=3")...)))
	if err != nil {
		t.Fatal(err)
	}
	one, err := Open(new(memory.Arena), train(t, settings(t, text, append(changes, "batch=6")...)))
	if err != nil {
		t.Fatal(err)
	}
	start, err := NewJob(settings(t, text, changes...), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer start.Close()
	for i, p := range one.Params() {
		var off, moved float64
		for k, x := range p.Data {
			off = max(off, math.Abs(float64(x-two.Params()[i].Data[k])))
			moved = max(moved, math.Abs(float64(x-start.Model.Params()[i].Data[k])))
		}
		if off > 1e-5 || moved < 1e-4 {
			t.Errorf("%s: moved by %.1e, and is off by %.1e", p.Name, moved, off)
		}
	}
}

// TestPacked holds that the losses of a document do not depend on the one
// before it in its window, to the bit, when documents are packed, and that they
// do when they are not.
func TestPacked(t *testing.T) {
	tail := "and this is the other"
	losses := func(head, packed string) []float32 {
		line := func(text string) string { b, _ := json.Marshal(text); return `{"text":` + string(b) + "}\n" }
		path := write(t, "docs.jsonl", line(head)+line(tail)+line("one more, which ends the window"))
		j, err := NewJob(settings(t, path, "data.packed="+packed, "data.fraction=0", "sampler=sequential", "model.ctx=40", "batch=1"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		task := j.Loop.Task.(*Task)
		if _, err := task.Next(); err != nil {
			t.Fatal(err)
		}
		tape := grad.NewTape(new(memory.Arena))
		defer tape.Reset()
		if _, _, err := task.Loss(tape); err != nil {
			t.Fatal(err)
		}
		end := 1
		if j.Tokenizer.End() < 0 {
			end = 0
		}
		return slices.Clone(task.losses[len(head)+end : len(head)+end+len(tail)])
	}
	a, b := "first words", "some things"
	if !slices.Equal(losses(a, "true"), losses(b, "true")) {
		t.Error("packed: the document before shows")
	}
	if slices.Equal(losses(a, "false"), losses(b, "false")) {
		t.Error("not packed: the document before does not show; this test could not fail")
	}
}

// param is the parameter of a name.
func param(m *net.GPT, name string) *grad.Param {
	for _, p := range m.Params() {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// TestDiverged lets runs end in numbers that are none. The error names step
// and parameter, the last checkpoint is good, and the run goes on from there.
func TestDiverged(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	nan := float32(math.NaN())
	for _, c := range []struct {
		name string
		harm func(m *net.GPT)
		want loop.Diverged
		says string
	}{
		{"gradient", func(m *net.GPT) { param(m, "blocks.1.mlp.down.weight").Grad[3] = nan },
			loop.Diverged{Step: 8, What: "gradient", Param: "blocks.1.mlp.down.weight"}, "step 8: the gradient of blocks.1.mlp.down.weight is not"},
		{"weight", func(m *net.GPT) { m.Blocks[0].Norm2.Gain.Data[0] = nan },
			loop.Diverged{Step: 8, What: "validation loss", Param: "blocks.0.norm2.weight"}, "step 8: the validation loss (nor are the weights of blocks.0.norm2.weight) is not"},
	} {
		dir := t.TempDir()
		w := watcher{begin: func(j *Job) {
			j.Loop.On(loop.AfterBackward, func(s *loop.State) error {
				if s.Step == 7 {
					c.harm(j.Model)
				}
				return nil
			})
		}}
		_, err := Train(context.Background(), settings(t, text), run.Options{Dir: dir, Watch: &w})
		wantError(t, c.name, err, c.says, "(step 6 is saved in ")
		var d *loop.Diverged
		if !errors.As(err, &d) || d.LR == 0 {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.want.LR = d.LR; *d != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, *d, c.want)
		}
		finish(t, settings(t, text), run.Options{Dir: dir, Resume: true})
		sameModel(t, c.name, dir, train(t, settings(t, text)))
	}
	dir := t.TempDir()
	_, err := Train(context.Background(), settings(t, text, "optim.lr=1e38", "optim=sgd", "clip=0", "checkpoint.every=1", "schedule.warmup=0"), run.Options{Dir: dir})
	var d *loop.Diverged
	if wantError(t, "rate of 1e38", err); !errors.As(err, &d) {
		t.Errorf("%v", err)
	}
	if path, _, err := atomicfile.Newest(filepath.Join(dir, run.CheckpointDir)); err == nil {
		j, err := NewJob(settings(t, text, "optim=sgd"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		if err := errors.Join(j.Loop.Start(), j.Loop.Restore(path)); err != nil {
			t.Fatal(err)
		}
		for _, p := range j.Model.Params() {
			for _, x := range p.Data {
				if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
					t.Fatalf("%s was saved with %v in %s", path, f, p.Name)
				}
			}
		}
	}
}

// TestEvaluations holds when a run is evaluated: as often as it is told, else
// about twenty times, and at its end.
func TestEvaluations(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	steps := func(every, to int) (all []int64) {
		for s := every; s < to; s += every {
			all = append(all, int64(s))
		}
		return append(all, int64(to))
	}
	for _, c := range []struct {
		changes []string
		want    []int64
	}{
		{[]string{"steps=10", "evaluate.every=4"}, steps(4, 10)},
		{[]string{"steps=10", "evaluate.every=0"}, steps(1, 10)},
		{[]string{"steps=70", "evaluate.every=0"}, steps(3, 70)},
		{[]string{"steps=0", "time=10h", "evaluate.every=0"}, steps(4, 100)[1:]}, // once the pace is known: a little over 6 minutes a step
	} {
		var at []int64
		w := watcher{
			begin: func(j *Job) {
				j.Loop.On(loop.BeforeStep, func(s *loop.State) error { s.Trained += 6 * time.Minute; return nil })
			},
			evaluated: func(r track.Record) { at = append(at, r.Step) },
		}
		finish(t, settings(t, text, append(c.changes, "checkpoint.every=0", "checkpoint.time=0s")...), run.Options{Dir: t.TempDir(), Watch: &w})
		if !slices.Equal(at, c.want) {
			t.Errorf("%v: evaluated after steps %v, want %v", c.changes, at, c.want)
		}
	}
}

// TestTarget ends at a validation loss.
func TestTarget(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	out := finish(t, settings(t, text, "steps=0", "target=5.3", "evaluate.every=2"), run.Options{Dir: t.TempDir()})
	if s := out.Job.Loop.State; s.ValLoss > 5.3 || s.Step < 2 || s.Step%2 != 0 || out.Last.ValLoss != s.ValLoss {
		t.Errorf("ended after step %d at %v", s.Step, s.ValLoss)
	}
	_, err := Train(context.Background(), settings(t, text, "target=1", "data.fraction=0"), run.Options{Dir: t.TempDir()})
	wantError(t, "target without validation", err, "a target needs validation data")
}

// TestRefused lists what a user can get wrong about directories and data.
func TestRefused(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	done := train(t, settings(t, text))
	model, _ := newModel(t, "llama", 40)
	locked := t.TempDir()
	lock, err := atomicfile.Acquire(locked)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	damaged := func(name, text string) string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(done)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	ids := write(t, "ids.bin", u16(someTokens(400, 50)))
	for _, c := range []struct {
		name    string
		data    string
		changes []string
		o       run.Options
		want    string
	}{
		{"a run is there", text, nil, run.Options{Dir: done}, "holds a model or a training run already: add --resume"},
		{"a model is there", text, nil, run.Options{Dir: model}, "already"},
		{"in use", text, nil, run.Options{Dir: locked}, "is in use by process"},
		{"a file is there", text, nil, run.Options{Dir: text}, "text.txt"},
		{"nothing to resume", text, nil, run.Options{Resume: true}, "nothing to resume in"},
		{"another seed", text, []string{"seed=4"}, run.Options{Dir: done, Resume: true}, "seed 3, not 4"},
		{"another batch", text, []string{"batch=4"}, run.Options{Dir: done, Resume: true}, "resume with the same data and batch settings"},
		{"another optimiser", text, []string{"optim=sgd"}, run.Options{Dir: done, Resume: true}, `tensor "v.`},
		{"another number of heads", text, []string{"model.heads=4"}, run.Options{Dir: done, Resume: true}, "has model.heads=2, not 4"},
		{"another layout", text, []string{"model=gpt2", "model.layers=2", "model.heads=2", "model.dim=16", "model.hidden=24", "model.ctx=16"}, run.Options{Dir: done, Resume: true}, "has model"},
		{"another tokenizer", text, []string{"tokenizer=bpe:300"}, run.Options{Dir: done, Resume: true}, "has tokenizer=bytes, not bpe:300"},
		{"a damaged recipe", text, nil, run.Options{Dir: damaged(run.RecipeFile, "a = ["), Resume: true}, "recipe.toml: line 1"},
		{"a damaged tokenizer", text, nil, run.Options{Dir: damaged(tokenizerFile, "{"), Resume: true}, "tokenizer.json"},

		{"no such data", "nowhere.txt", nil, run.Options{}, "nowhere.txt: no such file"},
		{"too little data", write(t, "short.txt", "short"), nil, run.Options{}, "give more data or shorten the context"},
		{"too little validation", text, []string{"data.fraction=0.001"}, run.Options{}, "validation: "},
		{"not UTF-8", write(t, "latin.txt", strings.Repeat("caf\xe9 au lait\n", 300)), nil, run.Options{}, "UTF-8"},
		{"no such model", text, []string{"from=nowhere"}, run.Options{}, filepath.Join("nowhere", "config.json")},
		{"no tokenizer", text, []string{"from=" + model}, run.Options{}, "has no tokenizer.json: give token ids"},
		{"odd bytes", write(t, "odd.bin", "abc"), []string{"from=" + model, "data.format=u16"}, run.Options{}, "odd.bin: 3 bytes"},
		{"ids too large", ids, []string{"from=" + model, "data.format=u16"}, run.Options{}, "not in the vocabulary of 40"},
	} {
		if c.o.Dir == "" {
			c.o.Dir = t.TempDir()
		}
		_, err := Train(context.Background(), settings(t, c.data, c.changes...), c.o)
		wantError(t, c.name, err, c.want)
		if exists := strings.HasSuffix(c.name, "is there") && c.o.Dir != text; errors.Is(err, run.ErrExists) != exists {
			t.Errorf("%s: ErrExists is %v", c.name, !exists)
		}
	}
	sameModel(t, "after all these", done, train(t, settings(t, text)))
}

// TestUnreadableData meets, in the middle of a run, a token that is none. What
// was saved before stays, and the error tells where the token is.
func TestUnreadableData(t *testing.T) {
	from, _ := newModel(t, "llama", 40)
	tokens := someTokens(16*40+1, 40)
	tokens[16*2*7+5] = 40 // in batch 7
	path := write(t, "ids.bin", u16(tokens))
	changes := []string{"from=" + from, "data.format=u16", "sampler=sequential"}
	dir := t.TempDir()
	_, err := Train(context.Background(), settings(t, path, changes...), run.Options{Dir: dir})
	wantError(t, "bad token", err, "ids.bin: token 40 at position 229", "(step 6 is saved in")
	tokens[16*2*7+5] = 4
	if err := os.WriteFile(path, []byte(u16(tokens)), 0o666); err != nil {
		t.Fatal(err)
	}
	finish(t, settings(t, path, changes...), run.Options{Dir: dir, Resume: true})
	want := train(t, settings(t, path, changes...))
	if content(t, dir, "model.safetensors") != content(t, want, "model.safetensors") {
		t.Error("mended and resumed, the weights differ")
	}
}

// TestNothingFromTheHeap counts allocations over the steps of a whole run, with
// its loader, log and hooks, and sees that the garbage collector has nothing to
// do. It reads the memory by kind from the arena.
func TestNothingFromTheHeap(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 40_000))
	for name, changes := range kinds {
		for _, threads := range []int{1, 2} {
			var before, after runtime.MemStats
			w := watcher{step: func(s *loop.State) {
				switch s.Step {
				case 20:
					runtime.GC()
					runtime.ReadMemStats(&before)
				case 70:
					runtime.ReadMemStats(&after)
				}
			}}
			s := settings(t, text, append(changes, "steps=70", "model.ctx=32", "model.dim=32", "batch=8", "evaluate.every=200", "checkpoint.every=0", fmt.Sprint("threads=", threads))...)
			out := finish(t, s, run.Options{Dir: t.TempDir(), Watch: &w})
			// With two threads the pool keeps a record of every loop that the
			// other thread has yet to hear of; products as small as these are
			// over before.
			if n := after.Mallocs - before.Mallocs; threads == 1 && n > 3 {
				t.Errorf("%s: %d allocations in 50 steps", name, n)
			}
			if n := after.NumGC - before.NumGC; n != 0 {
				t.Errorf("%s, %d threads: %d garbage collections in 50 steps", name, threads, n)
			}
			checkMemory(t, name, out)
		}
	}
}

// checkMemory holds what is live at the end of a run to what its parameters
// need, by kind.
func checkMemory(t *testing.T, name string, out Outcome) {
	t.Helper()
	use, params := out.Job.Loop.Arena.Usage(), int64(0)
	for _, p := range out.Job.Model.Params() {
		params += int64(p.Len()+15) / 16 * 64 // whole cache lines
	}
	state := 2 * params
	if strings.HasSuffix(name, "sgd") {
		state = params
	}
	for k, want := range map[memory.Kind]int64{memory.Weights: params, memory.Gradients: params, memory.Optimizer: state, memory.Activations: 0, memory.Workspace: 0} {
		if use.Live[k] != want {
			t.Errorf("%s: %v: %d bytes live at the end, want %d", name, k, use.Live[k], want)
		}
	}
	if out.Memory.PeakTotal < use.PeakTotal || use.Peak[memory.Activations] == 0 {
		t.Errorf("%s: peaks %+v of %+v", name, use, out.Memory)
	}
}
