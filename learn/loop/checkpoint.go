package loop

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"hasten/engine/atomicfile"
	"hasten/model/format"
	"hasten/model/format/safetensors"
)

// Resumable is a task whose position in the data a checkpoint keeps.
type Resumable interface {
	// Position describes where Next goes on.
	Position() (json.RawMessage, error)
	// Seek makes Next go on from a position.
	Seek(json.RawMessage) error
}

// The files of a checkpoint.
const (
	weightsFile   = "weights.safetensors"
	optimizerFile = "optimizer.safetensors"
	stateFile     = "state.json"
	maxState      = 16 << 20
)

// saved is state.json.
type saved struct {
	Version  int             `json:"version"`
	Step     int             `json:"step"`
	Epoch    int             `json:"epoch"`
	Seen     int64           `json:"seen"`
	Trained  time.Duration   `json:"trained_ns"`
	Seed     uint64          `json:"seed"`
	Loss     float64         `json:"loss"`
	ValLoss  float64         `json:"val_loss"`
	Position json.RawMessage `json:"position,omitempty"`
}

// Save writes all that a run needs to go on exactly as if it had not stopped.
func (l *Loop) Save(d *atomicfile.Dir) error {
	var weights, state []safetensors.Entry
	for _, p := range l.Task.Params() {
		weights = append(weights, tensorEntry(p.Name, p.Dims(), p.Data))
	}
	for _, b := range l.Optimizer.State() {
		state = append(state, tensorEntry(b.Name, []int{len(b.Data)}, b.Data))
	}
	for name, entries := range map[string][]safetensors.Entry{weightsFile: weights, optimizerFile: state} {
		err := d.WriteFile(name, func(w io.Writer) error { return safetensors.Write(w, nil, entries) })
		if err != nil {
			return err
		}
	}
	s := saved{
		Version: 1, Step: l.State.Step, Epoch: l.State.Epoch, Seen: l.State.Seen, Trained: l.State.Trained,
		Seed: l.Seed, Loss: l.State.Loss, ValLoss: l.State.ValLoss,
	}
	if t, ok := l.Task.(Resumable); ok {
		var err error
		if s.Position, err = t.Position(); err != nil {
			return err
		}
	}
	return d.WriteFile(stateFile, func(w io.Writer) error { return json.NewEncoder(w).Encode(s) })
}

func tensorEntry(name string, dims []int, data []float32) safetensors.Entry {
	return safetensors.Entry{Name: name, Shape: dims, Values: format.Of(data)}
}

// Restore goes back to a checkpoint that Save wrote. It is called after Start
// and before Run, on a loop made as the saved one was.
func (l *Loop) Restore(dir string) error {
	var s saved
	if err := readState(filepath.Join(dir, stateFile), &s); err != nil {
		return err
	}
	if s.Seed != l.Seed {
		return fmt.Errorf("%s: the run had seed %d, not %d", dir, s.Seed, l.Seed)
	}
	weights := map[string][]float32{}
	for _, p := range l.Task.Params() {
		weights[p.Name] = p.Data
	}
	state := map[string][]float32{}
	for _, b := range l.Optimizer.State() {
		state[b.Name] = b.Data
	}
	if err := readAll(filepath.Join(dir, weightsFile), weights); err != nil {
		return err
	}
	if err := readAll(filepath.Join(dir, optimizerFile), state); err != nil {
		return err
	}
	if t, ok := l.Task.(Resumable); ok && s.Position != nil {
		if err := t.Seek(s.Position); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
		}
	}
	l.State.Step, l.State.Epoch, l.State.Seen, l.State.Trained = s.Step, s.Epoch, s.Seen, s.Trained
	l.State.Loss, l.State.ValLoss = s.Loss, s.ValLoss
	return nil
}

func readState(path string, s *saved) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := json.Unmarshal(text, s); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if s.Version != 1 || s.Step < 0 || s.Epoch < 0 || s.Seen < 0 || s.Trained < 0 {
		return fmt.Errorf("%s: not the state of a training run (version %d, step %d)", path, s.Version, s.Step)
	}
	return nil
}

// readAll fills every buffer from the tensor of its name.
func readAll(path string, into map[string][]float32) error {
	r, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	for name, data := range into {
		t, ok := r.Tensor(name)
		if !ok {
			return fmt.Errorf("%s: no tensor %q; was the recipe changed since the checkpoint was written?", path, name)
		}
		if t.Elements() != len(data) {
			return fmt.Errorf("%s: tensor %q has %d elements, this run has %d; was the recipe changed since the checkpoint was written?",
				path, name, t.Elements(), len(data))
		}
		if err := r.ReadFloats(name, 0, data); err != nil {
			return err
		}
	}
	return nil
}
