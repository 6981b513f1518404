package lm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hasten/engine/rng"
	"hasten/learn/loop"
	"hasten/task/recipe"
	"hasten/task/run"
)

// kinds are runs that differ in what could make them inexact.
var kinds = map[string][]string{
	"llama":      {"model.kv=1"},
	"gpt2":       {"model=gpt2", "model.layers=1", "model.dim=16", "model.heads=2", "model.ctx=16"},
	"bf16":       {"precision=bf16"},
	"shuffled":   {"sampler=shuffled", "accumulate=2"},
	"packed sgd": {"data.packed=true", "optim=sgd", "optim.lr=0.1"},
	"recompute":  {"model.recompute=true"},
	"infobatch":  {"sampler=infobatch", "batch=90"}, // of some 250 windows
}

// TestThreads holds that the number of threads changes no bit.
func TestThreads(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 8000))
	for name, changes := range kinds {
		want := ""
		for _, threads := range []string{"1", "2", "3"} {
			// Larger than the rest of the tests have it, for the work to be shared.
			dir := train(t, settings(t, text, append(changes, "steps=4", "batch=4", "model.ctx=48", "model.dim=48", "model.hidden=80", "threads="+threads)...))
			if want == "" {
				want = dir
			}
			sameModel(t, fmt.Sprintf("%s, %s threads", name, threads), dir, want)
		}
	}
}

// TestReplay trains again by the recipe that a run has left.
func TestReplay(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	for name, changes := range kinds {
		dir := train(t, settings(t, text, append(changes, "checkpoint.every=0")...))
		r, err := recipe.Open(filepath.Join(dir, run.RecipeFile))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Resolve(r)
		if err != nil {
			t.Fatal(err)
		}
		again := train(t, s)
		sameModel(t, name, again, dir)
		if content(t, again, run.RecipeFile) != content(t, dir, run.RecipeFile) {
			t.Errorf("%s: another recipe is left", name)
		}
		if losses(t, again) != losses(t, dir) {
			t.Errorf("%s: another log is left", name)
		}
	}
}

// TestInterrupt cancels runs after each of several steps, and resumes them.
func TestInterrupt(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	for name, changes := range kinds {
		changes := append(changes, "checkpoint.every=7")
		whole := train(t, settings(t, text, changes...))
		dir := t.TempDir()
		for _, stop := range []int{0, 1, 4, 11} {
			ctx, cancel := context.WithCancel(context.Background())
			w := watcher{step: func(s *loop.State) {
				if s.Step == stop {
					cancel()
				}
			}}
			if stop == 0 {
				cancel()
			}
			out, err := Train(ctx, settings(t, text, changes...), run.Options{Dir: dir, Resume: stop > 0, Watch: &w})
			if err != nil || !out.Interrupted || out.Job.Loop.State.Step != stop {
				t.Fatalf("%s, stopped after step %d: %v, %+v", name, stop, err, out)
			}
			if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err == nil {
				t.Errorf("%s: a model that is not finished was written", name)
			}
		}
		finish(t, settings(t, text, changes...), run.Options{Dir: dir, Resume: true})
		sameModel(t, name, dir, whole)
		if losses(t, dir) != losses(t, whole) {
			t.Errorf("%s: the log differs:\n%s\nwant\n%s", name, losses(t, dir), losses(t, whole))
		}
	}
}

// TestResumeFinished resumes a run that is done, which takes no step, and then
// gives it more steps.
func TestResumeFinished(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	changes := []string{"schedule=constant", "checkpoint.every=0", "checkpoint.time=0s"}
	dir := train(t, settings(t, text, append(changes, "steps=5")...))
	before := content(t, dir, "model.safetensors")
	out := finish(t, settings(t, text, append(changes, "steps=5")...), run.Options{Dir: dir, Resume: true})
	if content(t, dir, "model.safetensors") != before || out.Last.Step != 5 || out.Last.ValLoss == 0 {
		t.Errorf("resumed when finished: last %+v", out.Last)
	}
	finish(t, settings(t, text, append(changes, "steps=8")...), run.Options{Dir: dir, Resume: true})
	sameModel(t, "five steps and three", dir, train(t, settings(t, text, append(changes, "steps=8")...)))
}

// TestDamagedCheckpoints damages the newest ones, in each of their files: the
// run goes on from the newest good one and ends as it would have. When none is
// good, it does not begin anew unasked.
func TestDamagedCheckpoints(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	whole := train(t, settings(t, text))
	for _, file := range []string{"weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"} {
		for how, damage := range map[string]func(b []byte) []byte{
			"truncated": func(b []byte) []byte { return b[:len(b)/2] },
			"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
			"noise":     func(b []byte) []byte { return []byte(strings.Repeat("\x93noise", 1<<18)) },
		} {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			harm := func(step string) {
				path := filepath.Join(dir, run.CheckpointDir, step, file)
				b, err := os.ReadFile(path)
				if err == nil {
					err = os.WriteFile(path, damage(b), 0o666)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			harm("step-00000012")
			harm("step-00000009")
			os.Remove(filepath.Join(dir, "model.safetensors"))
			w := new(watcher)
			out := finish(t, settings(t, text), run.Options{Dir: dir, Resume: true, Watch: w})
			sameModel(t, file+" "+how, dir, whole)
			if n := strings.Count(strings.Join(w.notes, "\n"), "skipped: "); n != 2 || out.Job.Loop.State.Step != 12 {
				t.Errorf("%s %s: notes %q", file, how, w.notes)
			}
			for _, step := range []string{"step-00000003", "step-00000006", "step-00000009", "step-00000012"} {
				harm(step)
			}
			_, err := Train(context.Background(), settings(t, text), run.Options{Dir: dir, Resume: true})
			wantError(t, file+" "+how, err, "no complete checkpoint")
		}
	}
}

// TestTime ends by the clock, of which the test adds hours, and resumes with
// what is left of the time; the schedule follows.
func TestTime(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	changes := []string{"steps=0", "time=10h", "schedule=linear", "schedule.warmup=0", "optim.lr=1", "clip=1e-9", "checkpoint.every=0", "checkpoint.time=150m"}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	var rates []float64
	var saved []int
	w := watcher{
		begin: func(j *Job) {
			j.Loop.On(loop.BeforeStep, func(s *loop.State) error {
				rates = append(rates, s.LR)
				s.Trained += time.Hour
				return nil
			})
		},
		step: func(s *loop.State) {
			if s.Step == 4 {
				cancel()
			}
		},
		checkpoint: func(s *loop.State) { saved = append(saved, s.Step) },
	}
	if out, err := Train(ctx, settings(t, text, changes...), run.Options{Dir: dir, Watch: &w}); err != nil || !out.Interrupted {
		t.Fatal(err, out.Interrupted)
	}
	out := finish(t, settings(t, text, changes...), run.Options{Dir: dir, Resume: true, Watch: &w})
	if s := out.Job.Loop.State; s.Step != 10 || s.Trained < 10*time.Hour || s.Trained > 11*time.Hour {
		t.Errorf("%d steps in %v", s.Step, s.Trained)
	}
	for i, lr := range rates {
		if want := 1 - float64(i)/10; lr > want || lr < want-0.01 {
			t.Errorf("step %d: rate %v, want about %v", i, lr, want)
		}
	}
	if want := fmt.Sprint([]int{3, 4, 7, 10}); fmt.Sprint(saved) != want {
		t.Errorf("saved after steps %v, want %s", saved, want)
	}
}

// childDir names the environment variable that makes the test program train in
// a directory, by the recipe there.
const childDir = "HASTEN_TEST_TRAIN"

// child trains, and prints every step.
func child(dir string) {
	r, err := recipe.Open(filepath.Join(dir, "child.toml"))
	if err == nil {
		var s *Settings
		if s, err = Resolve(r); err == nil {
			w := &watcher{step: func(s *loop.State) {
				fmt.Println(s.Step)
				time.Sleep(500 * time.Microsecond) // however fast the machine, kills come before the end
			}}
			if limit := os.Getenv(childLimit); limit != "" {
				w.checkpoint = func(*loop.State) { limitFiles(limit) }
			}
			_, err = os.Stat(filepath.Join(dir, run.RecipeFile))
			_, err = Train(context.Background(), s, run.Options{Dir: dir, Resume: err == nil, Watch: w})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// childRecipe writes the recipe of a child.
func childRecipe(t *testing.T, dir string, s *Settings) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "child.toml"), s.Recipe.TOML(), 0o666); err != nil {
		t.Fatal(err)
	}
}

// start starts a child.
func start(t *testing.T, dir string, env ...string) (c *exec.Cmd, steps *bufio.Scanner, complaints *strings.Builder) {
	t.Helper()
	c = exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), childDir+"="+dir), env...)
	complaints = new(strings.Builder)
	c.Stderr = complaints
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewScanner(out), complaints
}

// TestKill kills a run twenty times: after a number of steps drawn at random,
// none included, and then a moment, so that kills fall into steps, evaluations
// and checkpoints. It must end with the weights of the unbroken run.
func TestKill(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	kills := 20
	if testing.Short() {
		kills = 5
	}
	changes := []string{"checkpoint.every=2", "checkpoint.keep=2", "evaluate.every=5", fmt.Sprint("steps=", 25*kills), "sampler=shuffled"}
	whole := train(t, settings(t, text, append(changes, "checkpoint.every=0")...))
	dir := t.TempDir()
	childRecipe(t, dir, settings(t, text, changes...))
	s := rng.New(uint64(time.Now().UnixNano()), 0) // other moments every time
	last := 0
	for range kills {
		c, steps, complaints := start(t, dir)
		for range s.IntN(12) {
			if !steps.Scan() {
				break
			}
			last, _ = strconv.Atoi(steps.Text())
		}
		time.Sleep(time.Duration(s.IntN(8000)) * time.Microsecond)
		c.Process.Kill()
		var exit *exec.ExitError
		if err := c.Wait(); !errors.As(err, &exit) || exit.Exited() {
			t.Fatalf("after step %d the run ended by itself: %v\n%s", last, err, complaints)
		}
	}
	c, steps, complaints := start(t, dir)
	first := 0
	for steps.Scan() {
		if first == 0 {
			first, _ = strconv.Atoi(steps.Text())
		}
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, complaints)
	}
	t.Logf("killed %d times; went on from step %d of %d at the end", kills, first-1, 25*kills)
	if first < 2 {
		t.Error("no checkpoint was gone on from")
	}
	sameModel(t, "killed", dir, whole)
	if losses(t, dir) != losses(t, whole) {
		t.Error("the log differs")
	}
	for _, folder := range []string{dir, filepath.Join(dir, run.CheckpointDir)} {
		left, err := filepath.Glob(filepath.Join(folder, ".*hasten-tmp*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%v left behind (%v)", left, err)
		}
	}
}
