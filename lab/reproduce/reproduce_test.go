package reproduce

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hasten/lab/card"
	"hasten/lab/experiment"
	"hasten/lab/papers"
	"hasten/lab/result"
)

// The test's own binary plays the command: TestMain does what the experiment's
// name says.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "reproduce" {
		os.Exit(child(os.Args[2]))
	}
	os.Exit(m.Run())
}

func child(slug string) int {
	fmt.Fprintln(os.Stderr, "getting on")
	switch slug {
	case "good":
		json.NewEncoder(os.Stdout).Encode(measured(good))
	case "fails":
		fmt.Fprintln(os.Stderr, "hasten: fails: the data is not there")
		return 1
	case "garbled":
		fmt.Println("{")
	case "killed":
		p, _ := os.FindProcess(os.Getpid())
		p.Kill()
		time.Sleep(time.Minute)
	case "hangs":
		time.Sleep(time.Minute)
	}
	return 0
}

var good = experiment.Paper{Card: card.Card{Number: 3, Slug: "good", Title: "Good | paper", Claims: []card.Claim{{What: "time", Figure: "2×"}}}, Run: run}

func run(r *experiment.Run) error {
	r.Exact("count", 4, experiment.Equals(4))
	r.Ratio("time", "s", []float64{2}, []float64{1.5}, experiment.SpeedupAtLeast(2))
	r.Note("a note")
	return nil
}

func measured(p experiment.Paper) result.Result {
	res, err := experiment.Do(context.Background(), p, experiment.Options{})
	if err != nil {
		panic(err)
	}
	return res
}

func paper(slug string) experiment.Paper {
	return experiment.Paper{Card: card.Card{Slug: slug}, Run: run}
}

func runner(t *testing.T) *Runner {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{Command: []string{self}, Dir: t.TempDir()}
}

func TestRunKeepsTheResult(t *testing.T) {
	r := runner(t)
	var lines []string
	r.Options.Watch = func(l string) { lines = append(lines, l) }
	if _, ok := r.Current(good); ok {
		t.Error("a result before there is one")
	}
	res, err := r.Run(context.Background(), good)
	if err != nil || res.Verdict != result.Direction || len(lines) != 1 || lines[0] != "getting on" {
		t.Fatalf("%+v, %v, %q", res, err, lines)
	}
	if again, ok := r.Current(good); !ok || again.Key != res.Key {
		t.Error("the result is not up to date at once")
	}
	r.Options.Seeds = 5
	if _, ok := r.Current(good); ok {
		t.Error("the result of three seeds is up to date for five")
	}
	r.Options.Seeds = 0
	for name, text := range map[string]string{"torn": "{\"slug\":", "another paper's": strings.Replace(read(t, r.Path("good")), `"slug": "good"`, `"slug": "bad"`, 1)} {
		if err := os.WriteFile(r.Path("good"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.Current(good); ok {
			t.Errorf("a result that is %s is taken", name)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Whatever becomes of an experiment, its runner says so and goes on.
func TestRunSurvives(t *testing.T) {
	r := runner(t)
	r.Limit = 30 * time.Second
	for slug, want := range map[string]string{"fails": "the data is not there", "garbled": "not a result", "killed": "from outside"} {
		if _, err := r.Run(context.Background(), paper(slug)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", slug, err)
		}
	}
	r.Limit = 300 * time.Millisecond
	if _, err := r.Run(context.Background(), paper("hangs")); err == nil || !strings.Contains(err.Error(), "stopped after") {
		t.Errorf("hangs: %v", err)
	}
	r.Limit = 30 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	r.Options.Watch = func(string) { cancel() }
	if _, err := r.Run(ctx, paper("hangs")); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	if files, _ := os.ReadDir(r.Dir); len(files) != 0 {
		t.Errorf("kept %v", files)
	}
	if _, err := r.Run(context.Background(), good); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestScoreboard(t *testing.T) {
	res := measured(good)
	entries := []papers.Entry{
		{Card: good.Card, Experiment: &good, Result: &res},
		{Card: card.Card{Number: 4, Slug: "planned"}},
	}
	text := Scoreboard(entries)
	for _, want := range []string{"1 of 2 papers work: 0 hold every bar, 1 point", "| 3 | [good](#good) | time: 2× | time: 1.333× | ≥ 2× | **direction** |", "## good", "- a note", "| count | exact |  | 4 | 4 | = 4 | holds |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the scoreboard lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "planned](#") {
		t.Error("a planned paper is in the scoreboard")
	}
}

// The committed scoreboard is that of the committed results.
func TestCommittedScoreboard(t *testing.T) {
	text := read(t, filepath.Join("..", "..", "docs", "scoreboard.md"))
	if want := Scoreboard(papers.All()); text != want {
		t.Error("docs/scoreboard.md is not what the results in lab/result/measured say; write it with: go run ./cmd/hasten papers scoreboard > docs/scoreboard.md")
	}
}
