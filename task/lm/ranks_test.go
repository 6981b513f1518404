package lm

import (
	"context"
	"slices"
	"strings"
	"testing"

	"hasten/data/sample"
	"hasten/learn/loop"
	"hasten/task/recipe"
	"hasten/task/run"
)

// The rows that ranks draw are together those of the whole batch.
func TestRowsOfRanks(t *testing.T) {
	const batch, ranks, places = 6, 3, 1000
	for _, whole := range []sample.Order{sample.Sequential{}, sample.Shuffled{Seed: 1}, sample.Random{Seed: 1}} {
		for k := int64(0); k < 4*batch; k++ {
			i, row := k/batch, k%batch
			rank, local := row/(batch/ranks), row%(batch/ranks)
			j := &Job{Settings: settings(t, "gosrc", "batch=6", "dist=ddp", "dist.ranks=3"), rank: int(rank)}
			got := j.ofRank(whole).Start(i*batch/ranks+local, places, 8)
			if want := whole.Start(k, places, 8); got != want {
				t.Errorf("%v: row %d of batch %d begins at %d, want %d", whole, row, i, got, want)
			}
		}
	}
}

// Runs on ranks end with the same model in every stage; they can be interrupted
// and gone on with, in another stage too.
func TestRanks(t *testing.T) {
	text := write(t, "text.txt", strings.Repeat("all work and no play makes jack a dull boy. ", 80))
	on := func(more ...string) *Settings {
		return settings(t, text, append([]string{"batch=4", "evaluate.every=4", "sampler=shuffled"}, more...)...)
	}
	weights := func(dir string) []float32 {
		j, err := NewJob(on("from="+dir), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		var all []float32
		for _, p := range j.Model.Params() {
			all = append(all, p.Data...)
		}
		return all
	}
	var last float64
	losses := func(s *Settings) (dir string, all []float64) {
		dir = t.TempDir()
		out := finish(t, s, run.Options{Dir: dir, Watch: &watcher{step: func(s *loop.State) { all = append(all, s.Loss) }}})
		last = out.Last.ValLoss
		return dir, all
	}
	_, single := losses(on("dist=none", "precision=f32"))
	alone := last
	dir, ddp := losses(on("dist=ddp"))
	for i := range ddp {
		// The same tokens; weights and gradients are rounded to 8 bits.
		if d := ddp[i] - single[i]; d > 0.02 || d < -0.02 {
			t.Errorf("step %d: loss %v on two ranks, %v on one", i, ddp[i], single[i])
		}
	}
	if d := last - alone; d > 0.02 || d < -0.02 {
		t.Errorf("validation loss %v on two ranks, %v on one", last, alone)
	}
	want := weights(dir)
	if slices.Max(want) == 0 {
		t.Error("no weights")
	}
	for _, stage := range []string{"1", "2", "3"} {
		zero := []string{"dist=zero", "dist.stage=" + stage}
		dir := t.TempDir()
		ctx, stop := context.WithCancel(context.Background())
		out, err := Train(ctx, on(zero...), run.Options{Dir: dir, Watch: &watcher{step: func(s *loop.State) {
			if s.Step == 5 {
				stop()
			}
		}}})
		if err != nil || !out.Interrupted || out.Job.Loop.State.Step != 5 {
			t.Fatalf("stage %s: step %d, %v", stage, out.Job.Loop.State.Step, err)
		}
		if stage == "3" {
			zero[1] = "dist.stage=2"
		}
		finish(t, on(zero...), run.Options{Dir: dir, Resume: true})
		if !slices.Equal(weights(dir), want) {
			t.Errorf("stage %s: not the weights of data parallelism", stage)
		}
	}
}

// What cannot go together is refused before anything runs.
func TestRanksDisagree(t *testing.T) {
	for set, want := range map[string]string{
		"batch=3":                     "divided",
		"optim=sgd":                   "optim=adamw",
		"average=lawa":                "average",
		"sampler=infobatch loss=rows": "sampler",
	} {
		r, err := recipe.Parse("tiny", []byte(tiny))
		if err == nil {
			err = r.Set(append(strings.Fields(set), "dist=zero")...)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err = Resolve(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", set, err)
		}
	}
}
