package loop

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hasten/engine/atomicfile"
	"hasten/learn/optim"
	"hasten/model/format"
	"hasten/model/format/safetensors"
)

// Resumable is a task whose position in the data a checkpoint keeps.
type Resumable interface {
	// Position describes, as JSON, where Next goes on.
	Position() (json.RawMessage, error)
	// Seek makes Next go on from a position. It is given whatever a damaged
	// checkpoint holds, nothing at all included.
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

// piece is a named buffer that a checkpoint keeps.
type piece struct {
	name string
	dims []int
	data []float32
}

// weights and state are the pieces of the two files.
func (l *Loop) weights() []piece {
	var all []piece
	for _, p := range l.Task.Params() {
		all = append(all, piece{p.Name, p.Dims(), p.Data})
	}
	return all
}

func (l *Loop) state() []piece {
	return append(pieces(l.Optimizer.State()), pieces(l.Extra)...)
}

func pieces(buffers []optim.Buffer) []piece {
	var all []piece
	for _, b := range buffers {
		all = append(all, piece{b.Name, []int{len(b.Data)}, b.Data})
	}
	return all
}

// Save writes all that a run needs to go on exactly as if it had not stopped.
// It refuses weights that are no numbers, with a *Diverged.
func (l *Loop) Save(d *atomicfile.Dir) error {
	if err := l.checkWeights(); err != nil {
		return err
	}
	if err := writePieces(d, weightsFile, l.weights()); err != nil {
		return err
	}
	if err := writePieces(d, optimizerFile, l.state()); err != nil {
		return err
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

func writePieces(d *atomicfile.Dir, file string, pieces []piece) error {
	var entries []safetensors.Entry
	for _, p := range pieces {
		entries = append(entries, safetensors.Entry{Name: p.name, Shape: p.dims, Values: format.Of(p.data)})
	}
	return d.WriteFile(file, func(w io.Writer) error { return safetensors.Write(w, nil, entries) })
}

// Restore goes back to a checkpoint that Save wrote. It is called after Start
// and before Run, on a loop made as the saved one was; it is an error if that
// was made otherwise. After an error the loop must not be run.
func (l *Loop) Restore(dir string) error {
	s, err := readState(filepath.Join(dir, stateFile))
	if err != nil {
		return err
	}
	if s.Seed != l.Seed {
		return fmt.Errorf("%s: the run had seed %d, not %d", filepath.Join(dir, stateFile), s.Seed, l.Seed)
	}
	if err := readPieces(filepath.Join(dir, weightsFile), l.weights()); err != nil {
		return err
	}
	if err := readPieces(filepath.Join(dir, optimizerFile), l.state()); err != nil {
		return err
	}
	if t, ok := l.Task.(Resumable); ok {
		if err := t.Seek(s.Position); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
		}
	}
	l.State.Step, l.State.Epoch, l.State.Seen, l.State.Trained = s.Step, s.Epoch, s.Seen, s.Trained
	l.State.Loss, l.State.ValLoss = s.Loss, s.ValLoss
	l.saved = s.Trained
	l.locate()
	return nil
}

func readState(path string) (saved, error) {
	var s saved
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && (s.Version != 1 || s.Step < 0 || s.Epoch < 0 || s.Seen < 0 || s.Trained < 0) {
		err = fmt.Errorf("not the state of a training run (version %d, step %d)", s.Version, s.Step)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// readPieces fills every piece from the tensor of its name, of which there must
// be no others.
func readPieces(path string, pieces []piece) error {
	r, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	const advice = "was the recipe changed since the checkpoint was written?"
	known := map[string]bool{}
	for _, p := range pieces {
		known[p.name] = true
		t, ok := r.Tensor(p.name)
		if !ok {
			return fmt.Errorf("%s: there is no tensor %q; %s", path, p.name, advice)
		}
		if !slices.Equal(t.Shape, p.dims) {
			return fmt.Errorf("%s: tensor %q has the shape %v, in this run it has %v; %s", path, p.name, t.Shape, p.dims, advice)
		}
		if err := r.ReadFloats(p.name, 0, p.data); err != nil {
			return err
		}
	}
	for _, name := range r.Names() {
		if !known[name] {
			return fmt.Errorf("%s: tensor %.100q has no place in this run; %s", path, name, advice)
		}
	}
	return nil
}
