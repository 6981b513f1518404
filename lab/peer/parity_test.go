package peer_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hasten/data/source"
	"hasten/engine/memory"
	"hasten/engine/rng"
	"hasten/lab/peer"
	"hasten/learn/loop"
	"hasten/model/format"
	"hasten/model/format/hf"
	"hasten/model/net"
	"hasten/task/lm"
	"hasten/task/recipe"
	"hasten/task/run"
)

// torch finds PyTorch. Where it is not there the test is skipped, or fails if
// HASTEN_FULL=1 asks for everything.
func torch(t *testing.T) *peer.Torch {
	t.Helper()
	found, err := peer.Find(t.Context())
	if err == nil {
		found.Threads = 1 // so little work is done fastest by one
		return found
	}
	if os.Getenv("HASTEN_FULL") == "1" {
		t.Fatal(err)
	}
	t.Skip(err)
	return nil
}

const (
	vocab  = 97
	length = 31 // tokens in a window
	steps  = 20 // of training
	batch  = 3
	rate   = "0.01"
)

// Both sides compute in float32, in different orders.
const (
	lossTolerance  = 1e-5 // absolute, of the mean over all windows
	curveTolerance = 2e-5 // relative, of each training step
)

// models are the layouts that are compared.
var models = map[string]net.Config{
	"llama":          {Arch: "llama", Layers: 2, Heads: 4, Dim: 48, Ctx: length, Tied: true, Eps: 1e-5, Theta: 10000},
	"llama-grouped":  {Arch: "llama", Layers: 3, Heads: 6, KV: 2, Dim: 60, Hidden: 72, Ctx: length, Eps: 1e-2, Theta: 100},
	"llama-biased":   {Arch: "llama", Layers: 1, Heads: 2, KV: 1, Dim: 20, Ctx: length, Tied: true, Eps: 1e-5, Theta: 10000, AttentionBias: true},
	"gpt2":           {Arch: "gpt2", Layers: 2, Heads: 4, Dim: 48, Ctx: length, Tied: true, Eps: 1e-5},
	"gpt2-untied":    {Arch: "gpt2", Layers: 2, Heads: 3, Dim: 33, Hidden: 50, Ctx: length, Eps: 1e-2, Activation: "gelu"},
	"gpt2-rectified": {Arch: "gpt2", Layers: 1, Heads: 1, Dim: 16, Ctx: length, Tied: true, Eps: 1e-5, Activation: "relu"},
}

// model makes a model of a config whose every weight has a part in the loss.
func model(t *testing.T, c net.Config) *net.GPT {
	t.Helper()
	c.Vocab = vocab
	m, err := net.NewGPT(new(memory.Arena), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range m.Params() {
		s := rng.New(7, uint64(i))
		switch {
		case p.Rank() > 1:
			s.FillNormal(p.Data, 0, 1/math.Sqrt(float64(c.Dim)))
		case strings.HasSuffix(p.Name, ".bias"):
			s.FillNormal(p.Data, 0, 0.2)
		default:
			s.FillNormal(p.Data, 1, 0.2)
		}
	}
	return m
}

// save writes a model directory in a number format.
func save(t *testing.T, dir string, m *net.GPT, f format.Float) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := lm.Save(dir, m, nil); err != nil {
		t.Fatal(err)
	}
	if f == format.F32 {
		return
	}
	c, err := hf.ReadConfig(filepath.Join(dir, hf.ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	weights := map[string][]float32{}
	for _, p := range m.Params() {
		weights[p.Name] = p.Data
	}
	if err := hf.Save(dir, c, f, func(name string) []float32 { return weights[name] }); err != nil {
		t.Fatal(err)
	}
}

// tokens writes a file of random ids that are not all equally likely.
func tokens(t *testing.T) string {
	t.Helper()
	r := rng.New(3, 0)
	ids := make([]byte, 0, 2*batch*length*steps+2)
	for range cap(ids) / 2 {
		ids = binary.LittleEndian.AppendUint16(ids, uint16(r.IntN(1+r.IntN(vocab))))
	}
	path := filepath.Join(t.TempDir(), "tokens.bin")
	if err := os.WriteFile(path, ids, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// evaluate is hasten's loss of a model directory.
func evaluate(t *testing.T, dir, data string) lm.Evaluated {
	t.Helper()
	m, err := lm.Open(new(memory.Arena), dir)
	if err != nil {
		t.Fatal(err)
	}
	e, err := lm.Evaluate(t.Context(), m, lm.EvalOptions{Data: data, Options: source.Options{Format: "u16"}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// curve is the losses of hasten's training steps from a model directory.
func curve(t *testing.T, dir, data string) []float64 {
	t.Helper()
	r, err := recipe.Parse("parity", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Set("from="+dir, "data="+data, "data.format=u16", "sampler=sequential", "schedule=constant", "schedule.warmup=0",
		fmt.Sprintf("batch=%d", batch), fmt.Sprintf("steps=%d", steps), "optim.lr="+rate)
	if err != nil {
		t.Fatal(err)
	}
	s, err := lm.Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	var w watcher
	if _, err := lm.Train(context.Background(), s, run.Options{Dir: t.TempDir(), Watch: &w}); err != nil {
		t.Fatal(err)
	}
	return w.losses
}

// watcher collects the losses of a run.
type watcher struct {
	run.Silent
	losses []float64
}

func (w *watcher) Step(s *loop.State) { w.losses = append(w.losses, s.Loss) }

// session collects commands for PyTorch, which are carried out in one process,
// and what is to be done with their answers.
type session struct {
	commands [][]string
	then     []func(answer json.RawMessage)
}

func (s *session) add(then func(json.RawMessage), args ...string) {
	s.commands = append(s.commands, args)
	s.then = append(s.then, then)
}

// run carries out the commands.
func (s *session) run(t *testing.T, torch *peer.Torch) {
	t.Helper()
	answers, err := torch.RunAll(t.Context(), s.commands)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		if len(a) != 1 {
			t.Fatalf("%q: %d answers", s.commands[i], len(a))
		}
		s.then[i](a[0])
	}
}

// compareLoss asks PyTorch for the loss of a model directory; hasten's is taken
// when the answer is there.
func (s *session) compareLoss(t *testing.T, name, dir, data string) {
	s.add(func(answer json.RawMessage) {
		t.Run(name, func(t *testing.T) {
			var want struct {
				Loss    float64
				Windows int64
			}
			if err := json.Unmarshal(answer, &want); err != nil {
				t.Fatal(err)
			}
			got := evaluate(t, dir, data)
			if math.Abs(got.Loss-want.Loss) > lossTolerance || got.Tokens != want.Windows*length {
				t.Errorf("loss %.7f over %d tokens; in PyTorch %.7f over %d", got.Loss, got.Tokens, want.Loss, want.Windows*length)
			}
		})
	}, "loss", "--model", dir, "--tokens", data, "--dtype", "u16", "--ctx", fmt.Sprint(length))
}

// compareCurve asks PyTorch for the losses of training from a model directory.
func (s *session) compareCurve(t *testing.T, name, dir, data string) {
	s.add(func(answer json.RawMessage) {
		t.Run(name, func(t *testing.T) {
			var want struct{ Losses []float64 }
			if err := json.Unmarshal(answer, &want); err != nil {
				t.Fatal(err)
			}
			got := curve(t, dir, data)
			if len(got) != steps || len(want.Losses) != steps {
				t.Fatalf("%d steps; in PyTorch %d", len(got), len(want.Losses))
			}
			for i, w := range want.Losses {
				if math.Abs(got[i]-w) > curveTolerance*w {
					t.Errorf("step %d: loss %.7f; in PyTorch %.7f", i+1, got[i], w)
				}
			}
			if want.Losses[steps-1] > want.Losses[0]-0.1 {
				t.Errorf("nothing was learned: from %.4f to %.4f", want.Losses[0], want.Losses[steps-1])
			}
		})
	}, "curve", "--model", dir, "--tokens", data, "--dtype", "u16", "--ctx", fmt.Sprint(length),
		"--batch", fmt.Sprint(batch), "--steps", fmt.Sprint(steps), "--lr", rate)
}

// TestParity holds hasten and PyTorch together: models of either side have the
// same loss on the other, and training steps from them go the same way.
func TestParity(t *testing.T) {
	torch, data, root := torch(t), tokens(t), t.TempDir()
	var s session
	for name, config := range models {
		m := model(t, config)
		for _, f := range []format.Float{format.F32, format.F16, format.BF16} {
			dir := filepath.Join(root, name+"-"+f.String())
			save(t, dir, m, f)
			s.compareLoss(t, fmt.Sprintf("written here/%s/%v", name, f), dir, data)
		}
		s.compareCurve(t, "training/"+name, filepath.Join(root, name+"-"+format.F32.String()), data)
	}
	for name, args := range map[string]string{
		"llama":         "--arch llama --layers 2 --heads 4 --dim 48",
		"llama-bare":    "--arch llama --layers 2 --heads 4 --dim 48 --bare",
		"llama-grouped": "--arch llama --layers 3 --heads 6 --kv 3 --dim 60 --hidden 70 --untied --eps 0.01 --theta 300 --store F16",
		"llama-biased":  "--arch llama --layers 1 --heads 2 --dim 20 --biased --bare --untied --store BF16",
		"gpt2":          "--arch gpt2 --layers 2 --heads 4 --dim 48",
		"gpt2-bare":     "--arch gpt2 --layers 2 --heads 3 --dim 33 --hidden 50 --bare --activation gelu --store BF16",
		"gpt2-untied":   "--arch gpt2 --layers 1 --heads 1 --dim 16 --untied --bare --activation relu --store F16",
	} {
		dir := filepath.Join(root, "torch-"+name)
		command := append([]string{"write", "--model", dir, "--ctx", fmt.Sprint(length), "--vocab", fmt.Sprint(vocab)}, strings.Fields(args)...)
		s.add(func(json.RawMessage) {}, command...)
		s.compareLoss(t, "written by PyTorch/"+name, dir, data)
	}
	s.run(t, torch)
}

// The errors of a peer that is not there say what to do.
func TestFindSaysHowToGetIt(t *testing.T) {
	t.Setenv(peer.PythonVariable, filepath.Join(t.TempDir(), "python3"))
	begin := time.Now()
	_, err := peer.Find(t.Context())
	if err == nil || !strings.Contains(err.Error(), "apt install python3-torch") || !strings.Contains(err.Error(), os.Getenv(peer.PythonVariable)) {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}
