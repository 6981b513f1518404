package text

import (
	"errors"
	"fmt"
	"runtime"

	"hasten/engine/part"
	"hasten/task/recipe"
	"hasten/task/run"
)

// Run are the plain settings of a run.
type Run struct {
	Task    string  `set:"task" choices:"text" help:"the job"`
	Data    string  `set:"data" help:"file of labelled texts"`
	Epochs  int     `set:"epochs" range:"[1,1000000]" help:"times to go through the data"`
	Rate    float64 `set:"lr" range:"(0,inf)" help:"learning rate at the start; it falls linearly to 0"`
	Seed    int     `set:"seed" range:"[0,inf)" help:"seed of all random numbers"`
	Threads int     `set:"threads" range:"[0,4096]" help:"threads; 0: one for each core. With one thread a run repeats bit for bit, with several nearly"`
}

// Features is the bag-of-features model: what of a text has an embedding.
type Features struct {
	Dim      int    `set:"dim" range:"[1,4096]" help:"size of the embeddings"`
	NGrams   int    `set:"ngrams" range:"[1,16]" help:"longest sequence of words that has an embedding"`
	Buckets  int    `set:"buckets" range:"[0,2000000000]" help:"different n-grams that can be told apart; more of them share embeddings"`
	MinCount int    `set:"mincount" range:"[1,inf)" help:"words that occur less often have no embedding"`
	MinChars int    `set:"minchars" range:"[1,32]" help:"shortest sequence of characters in a word that has an embedding"`
	MaxChars int    `set:"maxchars" range:"[0,32]" help:"longest such sequence; 0: none has"`
	Words    string `set:"words" choices:"letters,space" help:"letters: words in small letters, apart from punctuation; space: what stands between white space, as it is"`
}

// Validate checks settings that bear on each other.
func (f *Features) Validate() error {
	if f.MaxChars > 0 && f.MinChars > f.MaxChars {
		return fmt.Errorf("minchars is %d and maxchars %d: the first must not be larger", f.MinChars, f.MaxChars)
	}
	if f.MaxChars > 0 && f.Buckets == 0 {
		return errors.New("maxchars needs buckets")
	}
	return nil
}

// Models are the classifiers of texts.
var Models = part.Table[*Features]{
	Seam: "model",
	Help: "the model",
	Parts: []part.Part[*Features]{
		{Name: "fasttext", Paper: "fasttext", Help: "a linear layer over the average embedding of words and word n-grams",
			New: func() *Features {
				return &Features{Dim: 10, NGrams: 2, Buckets: 10_000_000, MinCount: 1, MinChars: 3, Words: "letters"}
			}},
	},
}

// Settings is a recipe made definite.
type Settings struct {
	Run
	DataOptions DataOptions
	Model       *Features
	Loss        Loss

	Recipe *recipe.Recipe // with every setting written out
}

// Parts describes the parts of all seams.
func Parts() []part.Info { return append(Models.Info(), Losses.Info()...) }

// RunOptions describes the settings of a run that belong to no seam.
func RunOptions() []part.Option {
	s := defaults()
	return run.OptionsOf(&s.Run, s.groups())
}

func defaults() *Settings {
	return &Settings{
		Run:         Run{Task: "text", Epochs: 5, Rate: 0.5},
		DataOptions: DataOptions{Prefix: "__label__", Label: "label", Text: "text", Fraction: 0.05},
	}
}

func (s *Settings) groups() []run.Group { return []run.Group{{Name: "data", Options: &s.DataOptions}} }

// Resolve makes a recipe definite: it fills in defaults and checks every
// setting before anything runs.
func Resolve(r *recipe.Recipe) (*Settings, error) {
	s := defaults()
	s.Recipe = r.Clone()
	if err := s.resolve(); err != nil {
		return nil, fmt.Errorf("recipe %s: %w", r.Name, err)
	}
	return s, nil
}

func (s *Settings) resolve() error {
	err := run.Resolve(s.Recipe, &s.Run, s.groups(), []string{Models.Seam, Losses.Seam})
	if err != nil {
		return err
	}
	if s.Model, err = run.Build(s.Recipe, &Models); err != nil {
		return err
	}
	if s.Loss, err = run.Build(s.Recipe, &Losses); err != nil {
		return err
	}
	switch {
	case s.Data == "":
		return errors.New("no data: name a file of labelled texts with --data; its lines are label, tab, text (.tsv), or words with __label__x among them (.txt)")
	case s.DataOptions.Prefix == "":
		return errors.New("data.prefix is empty: want what labels begin with, such as __label__")
	}
	return nil
}

// width is the number of threads a run uses.
func (r *Run) width() int {
	if r.Threads > 0 {
		return r.Threads
	}
	return runtime.GOMAXPROCS(0)
}
