// Command fasttext compares hasten's classifier of texts with Debian's fasttext
// program (apt-get install fasttext) on this machine.
//
//	go run ./lab/peer/fasttext            all comparisons, interleaved
//	go run ./lab/peer/fasttext -rounds 1  a quick look
//
// Both read the same file with the same settings, each in a process of its own,
// in turns, and both are measured on the same held-out texts. Words a second
// are counted as fasttext counts them: words, ends of lines and labels over all
// epochs, divided by the seconds of training alone. Whole time is that of the
// process: reading, training and writing the model. It is run from the root of
// the repository, on a machine that does nothing else.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"hasten/lab/result"
	"hasten/task/recipe"
	"hasten/task/text"
)

// resultFile is where results are kept, from the root of the repository.
const resultFile = "lab/peer/results/fasttext.json"

// childVariable makes the program train once and print a run: the side of
// hasten, as a process of its own.
const childVariable = "HASTEN_PEER_FASTTEXT"

// comparison is one job for both.
type comparison struct {
	Data    string  `json:"data"` // name of a data set of sets
	Loss    string  `json:"loss"` // softmax or tree
	Dim     int     `json:"dim"`
	NGrams  int     `json:"ngrams"`
	Buckets int     `json:"buckets"`
	Rate    float64 `json:"lr"`
	Epochs  int     `json:"epochs"`
	Threads int     `json:"threads"`
}

// comparisons are made on one thread and on two.
func comparisons() []comparison {
	var all []comparison
	for _, threads := range []int{1, 2} {
		all = append(all,
			comparison{"sections", "softmax", 10, 2, 10_000_000, 0.5, 10, threads},
			comparison{"sections", "softmax", 10, 2, 2_000_000, 0.5, 10, threads},
			comparison{"sections", "softmax", 100, 2, 2_000_000, 0.5, 10, threads},
			comparison{"gosrc", "softmax", 10, 2, 10_000_000, 0.5, 5, threads},
			comparison{"names", "tree", 10, 2, 10_000_000, 1, 25, threads},
		)
	}
	return all
}

// run is one training of one side.
type run struct {
	WordsPerSecond float64 `json:"words_per_second"` // all threads together
	Seconds        float64 `json:"seconds"`          // of the whole process
	Accuracy       float64 `json:"accuracy"`         // percent of held-out texts
	ModelMB        float64 `json:"model_mb"`         // size of what was written
}

// row is the result of a comparison.
type row struct {
	comparison
	Texts    int    `json:"texts"`  // trained on
	Labels   int    `json:"labels"` // of them
	Fasttext run    `json:"fasttext"`
	Hasten   run    `json:"hasten"`
	Rounds   [2]all `json:"rounds"` // fasttext's and hasten's, of which the above are the medians
}

type all []run

// results is the file.
type results struct {
	Date     time.Time   `json:"date"`
	Host     result.Host `json:"host"`
	Fasttext string      `json:"fasttext"` // version of the package
	Rows     []row       `json:"rows"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := error(nil)
	if job := os.Getenv(childVariable); job != "" {
		err = child(ctx, job)
	} else {
		err = measure(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fasttext:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context) error {
	rounds := flag.Int("rounds", 5, "runs of each side of each comparison")
	only := flag.String("only", "", "regular expression: make the comparisons whose name, such as sections/softmax/2, it matches")
	out := flag.String("out", resultFile, "file for the results")
	flag.Parse()
	chosen, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	version, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", "fasttext").Output()
	if err != nil {
		return fmt.Errorf("fasttext is not installed (apt-get install fasttext): %w", err)
	}
	dir, err := os.MkdirTemp("", "hasten-fasttext-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := results{Date: time.Now().UTC().Truncate(time.Second), Host: result.ThisHost(), Fasttext: string(version)}
	files := map[string]set{}
	for _, c := range comparisons() {
		if !chosen.MatchString(fmt.Sprintf("%s/%s/%d", c.Data, c.Loss, c.Threads)) {
			continue
		}
		s, ok := files[c.Data]
		if !ok {
			if s, err = sets[c.Data](filepath.Join(dir, c.Data)); err != nil {
				return err
			}
			files[c.Data] = s
		}
		line, err := c.measure(ctx, s, dir, *rounds)
		if err != nil {
			return err
		}
		fmt.Printf("%-9s %-8s dim %3d, %8d buckets, %d threads: %5.2f → %6.2f M words/s (%.1f×), %6.2f → %5.2f s (%.1f×), accuracy %.2f → %.2f %%, model %.1f → %.1f MB\n",
			c.Data, c.Loss, c.Dim, c.Buckets, c.Threads, line.Fasttext.WordsPerSecond/1e6, line.Hasten.WordsPerSecond/1e6, line.Hasten.WordsPerSecond/line.Fasttext.WordsPerSecond,
			line.Fasttext.Seconds, line.Hasten.Seconds, line.Fasttext.Seconds/line.Hasten.Seconds, line.Fasttext.Accuracy, line.Hasten.Accuracy, line.Fasttext.ModelMB, line.Hasten.ModelMB)
		r.Rows = append(r.Rows, line)
		text, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(*out, append(text, '\n'), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// measure runs both sides in turns.
func (c comparison) measure(ctx context.Context, s set, dir string, rounds int) (row, error) {
	line := row{comparison: c, Texts: s.texts, Labels: s.labels}
	sides := [2]func(context.Context, set, string) (run, error){c.fasttext, c.hasten}
	for i := range rounds {
		for k := range sides {
			k = (k + i) % len(sides)
			model := filepath.Join(dir, "model")
			r, err := sides[k](ctx, s, model)
			if err != nil {
				return line, err
			}
			line.Rounds[k] = append(line.Rounds[k], r)
			os.RemoveAll(model)
			os.Remove(model + ".bin")
		}
	}
	line.Fasttext, line.Hasten = line.Rounds[0].median(), line.Rounds[1].median()
	return line, nil
}

// median takes the median of each figure.
func (a all) median() run {
	of := func(figure func(run) float64) float64 {
		var x []float64
		for _, r := range a {
			x = append(x, figure(r))
		}
		return result.Median(x)
	}
	return run{
		of(func(r run) float64 { return r.WordsPerSecond }), of(func(r run) float64 { return r.Seconds }),
		of(func(r run) float64 { return r.Accuracy }), of(func(r run) float64 { return r.ModelMB }),
	}
}

var (
	speed     = regexp.MustCompile(`words/sec/thread: *([0-9]+)`)
	precision = regexp.MustCompile(`P@1\s+([0-9.]+)`)
)

// fasttext trains and tests with Debian's program.
func (c comparison) fasttext(ctx context.Context, s set, model string) (run, error) {
	loss := map[string]string{"softmax": "softmax", "tree": "hs"}[c.Loss]
	begin := time.Now()
	out, err := exec.CommandContext(ctx, "fasttext", "supervised", "-input", s.train, "-output", model, "-loss", loss,
		"-dim", strconv.Itoa(c.Dim), "-wordNgrams", strconv.Itoa(c.NGrams), "-bucket", strconv.Itoa(c.Buckets),
		"-lr", fmt.Sprint(c.Rate), "-epoch", strconv.Itoa(c.Epochs), "-thread", strconv.Itoa(c.Threads)).CombinedOutput()
	r := run{Seconds: time.Since(begin).Seconds()}
	if err != nil {
		return r, fmt.Errorf("fasttext supervised: %w: %s", err, out)
	}
	speeds := speed.FindAllSubmatch(out, -1)
	if len(speeds) == 0 {
		return r, fmt.Errorf("fasttext tells no words/sec/thread: %s", out)
	}
	perThread, err := strconv.ParseFloat(string(speeds[len(speeds)-1][1]), 64)
	if err != nil {
		return r, err
	}
	r.WordsPerSecond = perThread * float64(c.Threads)
	out, err = exec.CommandContext(ctx, "fasttext", "test", model+".bin", s.test).CombinedOutput()
	found := precision.FindSubmatch(out)
	if err != nil || found == nil {
		return r, fmt.Errorf("fasttext test: %w: %s", errors.Join(err, errors.New("no P@1")), out)
	}
	p, err := strconv.ParseFloat(string(found[1]), 64)
	r.Accuracy = 100 * p
	if info, e := os.Stat(model + ".bin"); e == nil {
		r.ModelMB = float64(info.Size()) / 1e6
	}
	return r, err
}

// job is what the process of hasten's side is told.
type job struct {
	comparison
	Train, Test, Model string
}

// hasten trains and tests with this program as a process of its own.
func (c comparison) hasten(ctx context.Context, s set, model string) (run, error) {
	self, err := os.Executable()
	if err != nil {
		return run{}, err
	}
	text, err := json.Marshal(job{c, s.train, s.test, model})
	if err != nil {
		return run{}, err
	}
	command := exec.CommandContext(ctx, self)
	command.Env = append(os.Environ(), childVariable+"="+string(text))
	command.Stderr = os.Stderr
	begin := time.Now()
	out, err := command.Output()
	seconds := time.Since(begin).Seconds()
	if err != nil {
		return run{}, fmt.Errorf("hasten: %w", err)
	}
	var r run
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("hasten: %w: %s", err, out)
	}
	r.Seconds = seconds
	return r, r.finish(ctx, model, s.test)
}

// finish measures the model that was written.
func (r *run) finish(ctx context.Context, dir, test string) error {
	m, err := text.Open(dir)
	if err != nil {
		return err
	}
	score, err := m.Evaluate(ctx, test, text.DataOptions{})
	r.Accuracy = 100 * score.Accuracy
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			r.ModelMB += float64(info.Size()) / 1e6
		}
	}
	return err
}

// child trains one model, as `hasten train text` does, and prints its speed.
func child(ctx context.Context, task string) error {
	var j job
	if err := json.Unmarshal([]byte(task), &j); err != nil {
		return err
	}
	r, err := recipe.Open("text")
	if err != nil {
		return err
	}
	set := func(key string, v any) { r.Put(key, fmt.Sprint(v)) }
	set("data", j.Train)
	set("data.fraction", 0)
	set("loss", j.Loss)
	set("epochs", j.Epochs)
	set("lr", j.Rate)
	set("threads", j.Threads)
	set("model.dim", j.Dim)
	set("model.ngrams", j.NGrams)
	set("model.buckets", j.Buckets)
	set("model.words", "space") // as fasttext divides them
	s, err := text.Resolve(r)
	if err != nil {
		return err
	}
	out, err := text.Train(ctx, s, text.Options{Dir: j.Model})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(run{WordsPerSecond: float64(out.Tokens) / out.Training})
}
