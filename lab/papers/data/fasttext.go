package data

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"hasten/data/source"
	"hasten/engine/rng"
	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/task/recipe"
	"hasten/task/text"
)

// FastText is paper 106.
func (Papers) FastText() experiment.Paper {
	return experiment.Paper{
		Card: card.Card{
			Number: 106, Slug: "fasttext", Title: "Bag of Tricks for Efficient Text Classification",
			Stage: "model", Tasks: []string{"text"},
			Summary: `
For topic or sentiment much of the label shows in single words and short phrases, and a deep network is more
than is needed. fastText averages the embeddings of a document's words and of its word n-grams, the latter
hashed into a table of fixed size, and applies one linear layer. With many classes a Huffman-tree hierarchical
softmax replaces the full one, so the cost follows the logarithm of the class count, and best-first search
finds the top labels. Plain SGD with a linearly falling rate runs on shared rows without locks. It should be
the first model tried; labels that turn on long context or word order need more.`,
			Use: "hasten train text --data FILE; --set loss=tree for many labels",
			Limits: `
Order beyond the n-gram is lost and hashed n-grams collide. Runs on several threads do not repeat bit for bit;
on one they do. What the texts become, about 8 bytes a word with bigrams, must fit in memory.`,
			Headline: "time to train, reading included",
			Claims: []card.Claim{
				{What: "training on a billion words, standard multicore CPU", Figure: "under 10 min"},
				{What: "classifying half a million sentences over 312K classes", Figure: "under 1 min"},
				{What: "accuracy, against deep classifiers", Figure: "often on par"},
			},
		},
		Code: []string{"task/text/fasttext.go", "task/text/output.go", "task/text/tree.go", "task/text/replica.go", "task/text/dictionary.go", "engine/simd/rows.go"},
		Breaks: []experiment.Break{
			{ // the gradient is not divided among the words
				File: "task/text/fasttext.go", Old: "simd.Scale(w.g, share)", New: "",
				Test: "./task/text -run TestReference",
			},
			{ // the learning rate rises within a block of texts
				File: "task/text/fasttext.go", Old: "total-before-(at.tokens-begin)", New: "total-before+(at.tokens-begin)",
				Test: "./task/text -run TestReference",
			},
			{ // labels are left out of the search too early
				File: "task/text/tree.go", Old: "if logp < bound.least() {", New: "if logp < bound.least()+1 {",
				Test: "./task/text -run TestTree",
			},
			{ // what other threads did to the common rows is overwritten
				File: "task/text/replica.go", Old: "simd.AddTo(table, own)", New: "copy(table, own)",
				Test: "./task/text -run TestExchange",
			},
		},
		Run: fastText,
	}
}

// labelled is one text.
type labelled struct {
	text  string
	name  string // of its label
	label int    // its number
}

// textRun is the experiment under way.
type textRun struct {
	*experiment.Run
	dir                string
	train, valid, test []labelled // descriptions of packages and their sections
	labels             int
	files              map[string]string // where each part is written
}

func fastText(r *experiment.Run) error {
	dir, err := os.MkdirTemp("", "hasten-fasttext-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	packages, err := source.Packages()
	if err != nil {
		return err
	}
	e := &textRun{Run: r, dir: dir, files: map[string]string{}}
	if err := e.divide(packages); err != nil {
		return err
	}
	for _, step := range []func() error{e.exact, func() error { return e.tree(packages) }, e.throughput, e.againstCNN} {
		if err := step(); err != nil {
			return err
		}
	}
	r.Note("Texts are Debian's one-line package descriptions; labels their sections (%d), or for the tree the packages themselves. Time to train includes reading and hashing the text.", e.labels)
	return nil
}

// divide splits the packages: a tenth to measure on, a tenth to choose settings
// by, and writes the parts into files.
func (e *textRun) divide(packages []source.Package) error {
	random := rng.New(1, 0)
	order := random.Permutation(len(packages))
	if e.Quick {
		order = order[:12_000]
	}
	number := map[string]int{}
	for i, k := range order {
		p := packages[k]
		if _, ok := number[p.Section]; !ok {
			number[p.Section] = len(number)
		}
		x := labelled{p.Description, p.Section, number[p.Section]}
		switch i % 10 {
		case 0:
			e.test = append(e.test, x)
		case 1:
			e.valid = append(e.valid, x)
		default:
			e.train = append(e.train, x)
		}
	}
	e.labels = len(number)
	for name, texts := range map[string][]labelled{"train": e.train, "valid": e.valid, "test": e.test, "some": e.train[:400]} {
		if err := e.write(name, texts); err != nil {
			return err
		}
	}
	return nil
}

// write writes texts into a file, label, tab, text.
func (e *textRun) write(name string, texts []labelled) error {
	e.files[name] = filepath.Join(e.dir, name+".tsv")
	f, err := os.Create(e.files[name])
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for _, x := range texts {
		fmt.Fprintf(w, "%s\t%s\n", x.name, x.text)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// settings are those of the built-in recipe with changes, on one of the files.
func (e *textRun) settings(file string, changes ...string) (*text.Settings, error) {
	r, err := recipe.Open("text")
	if err != nil {
		return nil, err
	}
	if err := r.Set(append([]string{"data=" + e.files[file], "data.fraction=0"}, changes...)...); err != nil {
		return nil, err
	}
	return text.Resolve(r)
}

// fit trains a model; it stops early when a positive number of seconds of
// training is over.
func (e *textRun) fit(seconds float64, file string, changes ...string) (text.Outcome, error) {
	s, err := e.settings(file, changes...)
	if err != nil {
		return text.Outcome{}, err
	}
	ctx, cancel := context.WithCancel(e.Context)
	defer cancel()
	out, err := text.Fit(ctx, s, text.Options{Progress: func(p text.Progress) {
		if seconds > 0 && p.Seconds >= seconds {
			cancel()
		}
	}})
	if err == nil {
		err = e.Context.Err()
	}
	return out, err
}

// exact compares with plain loops in float64.
func (e *textRun) exact() error {
	for _, loss := range text.Losses.Names() {
		s, err := e.settings("some", "loss="+loss, "threads=1", "epochs=5")
		if err != nil {
			return err
		}
		largest, _, err := text.Difference(s)
		if err != nil {
			return err
		}
		e.Exact("one thread, "+loss+": largest difference from the float64 reference", largest, experiment.AtMost(1e-5))
	}
	return nil
}

// tree measures the softmax along a tree against the full one, with a label
// for every package.
func (e *textRun) tree(packages []source.Package) error {
	var names []labelled
	for _, p := range packages {
		names = append(names, labelled{text: p.Description, name: p.Name})
	}
	pairs, seconds := 3, 2.0
	if e.Quick {
		pairs, seconds = 1, 0.5
	}
	if err := e.write("names", names); err != nil {
		return err
	}
	var rates [2][]float64 // full, hierarchical
	for range pairs {
		for i, loss := range []string{"softmax", "tree"} {
			out, err := e.fit(seconds, "names", "loss="+loss, "epochs=50")
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], float64(out.Tokens)/out.Training)
		}
	}
	e.Ratio(fmt.Sprintf("full and hierarchical softmax over %d labels", len(names)), "words/s", rates[0], rates[1], experiment.RatioAtLeast(20))

	out, err := e.fit(0, "names", "loss=tree", "epochs=5")
	if err != nil {
		return err
	}
	reader := out.Model.Reader()
	worstSum, wrong, texts := 0.0, 0, 20
	if e.Quick {
		texts = 5
	}
	all := make([]float64, len(out.Model.Labels()))
	for i := range texts {
		x := []byte(names[i*len(names)/texts].text)
		sum := 0.0
		for l := range all {
			all[l] = reader.Probability(x, l)
			sum += all[l]
		}
		worstSum = max(worstSum, math.Abs(sum-1))
		found := reader.Predict(x, 10)
		slices.SortFunc(all, func(a, b float64) int { return int(math.Copysign(1, b-a)) })
		for j, f := range found {
			if p := reader.Probability(x, f.Label); math.Abs(f.Probability-all[j]) > 1e-9 || p != f.Probability && math.Abs(p/f.Probability-1) > 1e-9 {
				wrong++
			}
		}
	}
	e.Exact("tree probabilities of all labels: largest distance of their sum from 1", worstSum, experiment.AtMost(1e-6))
	e.Exact(fmt.Sprintf("labels among the ten best of %d texts that an exhaustive search does not confirm", texts), float64(wrong), experiment.Equals(0))
	return nil
}

// throughput measures words a second, with bigrams, on one thread and on two.
func (e *textRun) throughput() error {
	rounds := 5
	if e.Quick {
		rounds = 3
	}
	var rates [2][]float64
	for i := range rounds {
		for k := range 2 {
			threads := 1 + (i+k)%2
			out, err := e.fit(0, "train", fmt.Sprint("threads=", threads), fmt.Sprint("epochs=", 5_000_000/len(e.train)))
			if err != nil {
				return err
			}
			rates[threads-1] = append(rates[threads-1], float64(out.Tokens)/out.Training)
		}
	}
	e.Rate("words a second on two threads, with bigrams", "words/s", rates[1], experiment.AtLeast(1e6))
	e.Ratio("words a second on one and on two threads", "words/s", rates[0], rates[1], experiment.RatioAtLeast(1.6))
	return nil
}

// againstCNN compares accuracy and time with the character network.
func (e *textRun) againstCNN() error {
	epochs, tuning, rates := 10, 2, []float64{1e-3, 2e-3, 4e-3, 8e-3, 16e-3}
	if e.Quick {
		epochs, tuning, rates = 2, 1, rates[1:3]
	}
	cnnRate, err := e.Tune("character CNN", rates, func(lr float64) (float64, error) {
		n := newCharCNN(e.labels, 1)
		if _, err := n.train(e.Context, e.train, tuning, lr, 1); err != nil {
			return 0, err
		}
		return 100 - n.accuracy(e.valid), nil
	})
	if err != nil {
		return err
	}
	accuracy := func(m *text.Model, file string) (float64, error) {
		score, err := m.Evaluate(e.Context, e.files[file], text.DataOptions{})
		return 100 * score.Accuracy, err
	}
	ourRate, err := e.Tune("fastText", []float64{0.25, 0.5, 1, 2, 4}, func(lr float64) (float64, error) {
		out, err := e.fit(0, "train", fmt.Sprint("lr=", lr))
		switch {
		case errors.Is(err, text.ErrDiverged):
			return math.Inf(1), nil
		case err != nil:
			return 0, err
		}
		a, err := accuracy(out.Model, "valid")
		return 100 - a, err
	})
	if err != nil {
		return err
	}
	var cnnAccuracy, ourAccuracy, cnnSeconds, ourSeconds []float64
	for _, seed := range e.Seeds {
		e.Progress("character CNN, seed %d", seed)
		n := newCharCNN(e.labels, seed)
		seconds, err := n.train(e.Context, e.train, epochs, cnnRate, seed)
		if err != nil {
			return err
		}
		cnnSeconds, cnnAccuracy = append(cnnSeconds, seconds), append(cnnAccuracy, n.accuracy(e.test))
		out, err := e.fit(0, "train", fmt.Sprint("lr=", ourRate), fmt.Sprint("seed=", seed))
		if err != nil {
			return err
		}
		a, err := accuracy(out.Model, "test")
		if err != nil {
			return err
		}
		ourSeconds, ourAccuracy = append(ourSeconds, out.Reading+out.Training), append(ourAccuracy, a)
	}
	e.Outcome("accuracy on packages held out, character CNN and fastText", "%", cnnAccuracy, ourAccuracy, experiment.DifferenceAtLeast(-1))
	e.Ratio("time to train, reading included", "s", cnnSeconds, ourSeconds, experiment.SpeedupAtLeast(20))
	return nil
}
