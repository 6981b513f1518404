package loop_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hasten/engine/atomicfile"
	"hasten/engine/grad"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/engine/rng"
	"hasten/learn/loop"
	"hasten/learn/optim"
)

func save(t *testing.T, l *loop.Loop) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "step-1")
	if err := atomicfile.WriteDir(dir, l.Save); err != nil {
		t.Fatal(err)
	}
	return dir
}

// restored is a loop of so many steps that goes on from a checkpoint.
func restored(dir string, steps int, o optim.Optimizer) (*loop.Loop, *fit, error) {
	l, f := newLoop(steps)
	l.Optimizer = o
	if err := l.Start(); err != nil {
		return nil, nil, err
	}
	return l, f, l.Restore(dir)
}

// TestRestoreIsExact stops runs of every optimiser after every step, and goes
// on from the checkpoint: weights, state, counts and random numbers must be
// those of the unbroken run.
func TestRestoreIsExact(t *testing.T) {
	const steps = 7
	plain := part.Part[optim.Optimizer]{Name: "plain sgd", New: func() optim.Optimizer { return &optim.SGD{LR: 0.1} }} // has no state
	for _, p := range append(slices.Clone(optim.Parts.Parts), plain) {
		whole, want := newLoop(steps)
		whole.Optimizer = p.New()
		run(t, whole)
		for stop := range steps {
			first, _ := newLoop(steps)
			first.Optimizer = p.New()
			ctx, cancel := context.WithCancel(context.Background())
			first.On(loop.AfterStep, func(s *loop.State) error {
				if s.Step == stop {
					cancel()
				}
				return nil
			})
			if stop == 0 {
				cancel()
			}
			if err := first.Run(ctx); err != nil {
				t.Fatal(err)
			}
			l, got, err := restored(save(t, first), steps, p.New())
			if err != nil {
				t.Fatal(err)
			}
			if s := l.State; s.Step != stop || s.Trained != first.State.Trained || s.Loss != first.State.Loss || s.Progress != float64(stop)/steps {
				t.Errorf("%s: restored %+v", p.Name, s)
			}
			run(t, l)
			if !slices.Equal(got.w.Data, want.w.Data) || !slices.Equal(got.b.Data, want.b.Data) {
				t.Errorf("%s: weights differ when stopped after step %d", p.Name, stop)
			}
			for i, b := range whole.Optimizer.State() {
				if !slices.Equal(b.Data, l.Optimizer.State()[i].Data) {
					t.Errorf("%s: %s differs when stopped after step %d", p.Name, b.Name, stop)
				}
			}
			if a, b := l.State, whole.State; a.Step != b.Step || a.Epoch != b.Epoch || a.Seen != b.Seen || a.Loss != b.Loss {
				t.Errorf("%s: stopped after step %d: %+v, want %+v", p.Name, stop, a, b)
			}
		}
	}
}

// TestRestoreTime goes on with what is left of the time, and takes no step when
// nothing is.
func TestRestoreTime(t *testing.T) {
	l, _ := newLoop(0)
	l.Budget = loop.Budget{Time: time.Hour}
	l.On(loop.BeforeStep, func(s *loop.State) error { s.Trained += 30 * time.Minute; return nil })
	run(t, l)
	if l.State.Step != 2 {
		t.Fatalf("%d steps", l.State.Step)
	}
	again, f, err := restored(save(t, l), 0, optim.NewAdamW())
	if err != nil {
		t.Fatal(err)
	}
	again.Budget = loop.Budget{Time: time.Hour}
	run(t, again)
	if again.State.Step != 2 || f.next != 2 || again.State.Progress != 1 {
		t.Errorf("a run whose time is up went on to step %d", again.State.Step)
	}
	again.Budget.Time = again.State.Trained + 1
	run(t, again)
	if again.State.Step != 3 {
		t.Errorf("%d steps after one more was given", again.State.Step)
	}
}

// TestBadWeightsAreNotSaved keeps the last good checkpoint the last.
func TestBadWeightsAreNotSaved(t *testing.T) {
	l, f := newLoop(1)
	run(t, l)
	f.b.Data[2] = float32(math.Inf(1))
	dir := filepath.Join(t.TempDir(), "step-1")
	err := atomicfile.WriteDir(dir, l.Save)
	var d *loop.Diverged
	if !errors.As(err, &d) || *d != (loop.Diverged{Step: 1, What: "weight", Param: "b", LR: l.State.LR}) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}

// other is a task with the parameters it is given.
type other struct {
	*fit
	params []*grad.Param
}

func (o other) Params() []*grad.Param { return o.params }

// TestRestoreElsewhere goes on in a run that was made otherwise.
func TestRestoreElsewhere(t *testing.T) {
	l, _ := newLoop(2)
	run(t, l)
	dir := save(t, l)
	a := new(memory.Arena)
	f := newFit(a)
	param := func(name string, dims ...int) *grad.Param { return grad.NewParam(a, name, dims...) }
	for _, c := range []struct {
		name string
		l    loop.Loop
		want string
	}{
		{"another seed", loop.Loop{Task: f, Optimizer: optim.NewAdamW(), Seed: 8}, "seed 7, not 8"},
		{"another optimiser", loop.Loop{Task: f, Optimizer: optim.NewSGD(), Seed: 7}, `tensor "v.b" has no place`},
		{"another shape", loop.Loop{Task: other{f, []*grad.Param{param("w", fitIn, fitOut), f.b}}, Optimizer: optim.NewAdamW(), Seed: 7}, `tensor "w" has the shape [3 6], in this run it has [6 3]`},
		{"one parameter more", loop.Loop{Task: other{f, []*grad.Param{f.w, f.b, param("c", 2)}}, Optimizer: optim.NewAdamW(), Seed: 7}, `there is no tensor "c"`},
		{"one parameter less", loop.Loop{Task: other{f, []*grad.Param{f.w}}, Optimizer: optim.NewAdamW(), Seed: 7}, `tensor "b" has no place`},
	} {
		if err := c.l.Start(); err != nil {
			t.Fatal(err)
		}
		if err := c.l.Restore(dir); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestDamagedFiles restores from files of which each in turn is damaged, as if
// its checksum had not told. Nothing may panic or hang; what can be seen to be
// wrong must be an error of one line that names the file.
func TestDamagedFiles(t *testing.T) {
	l, _ := newLoop(2)
	run(t, l)
	good := save(t, l)
	noise := make([]byte, 1<<20)
	s := rng.New(3, 3)
	for i := range noise {
		noise[i] = byte(s.Uint32())
	}
	dir := t.TempDir() // a copy to damage
	if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
		t.Fatal(err)
	}
	try := func(file, name string, damaged []byte, mustFail bool) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), damaged, 0o666); err != nil {
			t.Fatal(err)
		}
		_, _, err := restored(dir, 4, optim.NewAdamW())
		if mustFail && err == nil {
			t.Errorf("%s, %s: no error", file, name)
		}
		if err != nil && (!strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000) {
			t.Errorf("%s, %s: error %q", file, name, err)
		}
	}
	for _, file := range []string{"weights.safetensors", "optimizer.safetensors", "state.json"} {
		content, err := os.ReadFile(filepath.Join(good, file))
		if err != nil {
			t.Fatal(err)
		}
		try(file, "empty", nil, true)
		try(file, "noise", noise, true)
		try(file, "noise behind", slices.Concat(content, noise), true)
		try(file, "a brace and noise", slices.Concat([]byte("{"), noise), true)
		try(file, "deeply nested", bytes.Repeat([]byte(`{"position":[`), 1<<16), true)
		for cut := 1; cut < len(content)-1; cut += 1 + len(content)/40 {
			try(file, "truncated", content[:cut], true)
		}
		for bit := 0; bit < 8*len(content); bit += 1 + len(content)/10 {
			flipped := slices.Clone(content)
			flipped[bit/8] ^= 1 << (bit % 8)
			try(file, "a bit flipped", flipped, false)
		}
		os.Remove(filepath.Join(dir, file))
		if _, _, err := restored(dir, 4, optim.NewAdamW()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("without %s: %v", file, err)
		}
		try(file, "whole again", content, false)
	}
	for name, text := range map[string]string{
		"no version":    `{"step":1,"seed":7}`,
		"version":       `{"version":2,"step":1,"seed":7}`,
		"step below 0":  `{"version":1,"step":-1,"seed":7,"position":[1,1]}`,
		"time below 0":  `{"version":1,"trained_ns":-1,"seed":7,"position":[1,1]}`,
		"no position":   `{"version":1,"step":1,"seed":7}`,
		"bad position":  `{"version":1,"step":1,"seed":7,"position":{"a":1}}`,
		"step too long": `{"version":1,"step":1e400,"seed":7,"position":[1,1]}`,
		"no object":     `[1,2,3]`,
	} {
		try("state.json", name, []byte(text), true)
	}
}
