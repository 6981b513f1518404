//go:build unix

package lm

import (
	"os/signal"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// childLimit names the environment variable that makes a child unable, once it
// has written a checkpoint, to write files above so many bytes: to the writer,
// as if the disk were full.
const childLimit = "HASTEN_TEST_LIMIT"

func limitFiles(limit string) {
	n, err := strconv.ParseUint(limit, 10, 64)
	if err != nil {
		panic(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
		panic(err)
	}
}

// TestDiskFull lets the second checkpoint fail. The error must say what was
// not written and what is saved, and the run must go on from there.
func TestDiskFull(t *testing.T) {
	text := write(t, "text.txt", corpus(1, 4000))
	whole := train(t, settings(t, text))
	dir := t.TempDir()
	childRecipe(t, dir, settings(t, text))
	c, steps, complaints := start(t, dir, childLimit+"=20000")
	last := ""
	for steps.Scan() {
		last = steps.Text()
	}
	if err := c.Wait(); err == nil || last != "6" {
		t.Fatalf("ended after step %s: %v", last, err)
	}
	said := strings.TrimSpace(complaints.String())
	for _, want := range []string{"the checkpoint of step 6 was not saved", "weights.safetensors is not written", "(step 3 is saved in", "--resume)"} {
		if !strings.Contains(said, want) || strings.Contains(said, "\n") {
			t.Errorf("error %q does not say %q", said, want)
		}
	}
	c, steps, complaints = start(t, dir)
	for steps.Scan() {
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, complaints)
	}
	sameModel(t, "resumed on a disk with room", dir, whole)
}
