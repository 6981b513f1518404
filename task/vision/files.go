package vision

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"hasten/engine/atomicfile"
	"hasten/engine/memory"
	"hasten/engine/part"
	"hasten/model/format"
	"hasten/model/format/safetensors"
)

// configFile is in a model directory beside the weights.
const configFile = "config.json"

// fileConfig is config.json: what computing with the weights takes.
type fileConfig struct {
	ModelType string            `json:"model_type"` // the name of the model's part
	Options   map[string]string `json:"options"`    // and its options
	ImageSize [3]int            `json:"image_size"` // height, width, channels
	Classes   []string          `json:"classes"`    // names by label
	Mean      []float32         `json:"image_mean"` // of each channel, pixels being from 0 to 1
	Std       []float32         `json:"image_std"`  // an input is (pixel - mean)/std
}

// Classifier is a model from a directory.
type Classifier struct {
	Model
	H, W, C   int
	Classes   []string
	Mean, Std []float32
}

// save writes the model of a job: model.safetensors and config.json.
func save(dir string, j *Job) error {
	var entries []safetensors.Entry
	for _, p := range j.Model.Params() {
		entries = append(entries, safetensors.Entry{Name: p.Name, Shape: p.Dims(), Values: format.Of(p.Data)})
	}
	if err := atomicfile.WriteFile(filepath.Join(dir, safetensors.FileName), func(w io.Writer) error {
		return safetensors.Write(w, nil, entries)
	}); err != nil {
		return err
	}
	t := j.Data.Train
	return atomicfile.WriteFile(filepath.Join(dir, configFile), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(fileConfig{
			ModelType: j.Recipe.Get(Models.Seam), Options: part.Values(j.Settings.Model), ImageSize: [3]int{t.H, t.W, t.C},
			Classes: j.Data.Classes, Mean: j.Data.Mean, Std: j.Data.Std,
		})
	})
}

// Open reads a model directory that a run has written.
func Open(a *memory.Arena, dir string) (*Classifier, error) {
	path := filepath.Join(dir, configFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c fileConfig
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	size := c.ImageSize
	if slices.Min(size[:]) < 1 || slices.Max(size[:]) > 1<<14 || len(c.Classes) == 0 || len(c.Mean) != size[2] || len(c.Std) != size[2] {
		return nil, fmt.Errorf("%s: not the configuration of an image classifier of hasten", path)
	}
	config, err := Models.Build(c.ModelType, c.Options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m, err := config.New(a, Shape{H: size[0], W: size[1], C: size[2], Classes: len(c.Classes)}, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r, err := safetensors.Open(filepath.Join(dir, safetensors.FileName))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for _, p := range m.Params() {
		t, ok := r.Tensor(p.Name)
		if !ok || !slices.Equal(t.Shape, p.Dims()) {
			return nil, fmt.Errorf("%s: tensor %q of shape %v: want %v", filepath.Join(dir, safetensors.FileName), p.Name, t.Shape, p.Dims())
		}
		if err := r.ReadFloats(p.Name, 0, p.Data); err != nil {
			return nil, err
		}
	}
	return &Classifier{m, size[0], size[1], size[2], c.Classes, c.Mean, c.Std}, nil
}
