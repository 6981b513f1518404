package papers

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBreaks breaks every mechanism that works, as its paper's Breaks say, and
// expects the tests named there to fail: a verdict that cannot fail is worth
// nothing. The changed file takes the place of the real one in the build alone.
func TestBreaks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and tests once for every break")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range All() {
		if e.Experiment == nil {
			continue
		}
		for _, b := range e.Experiment.Breaks {
			t.Run(e.Slug, func(t *testing.T) {
				file := filepath.Join(root, filepath.FromSlash(b.File))
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if n := strings.Count(string(text), b.Old); n != 1 {
					t.Fatalf("%s holds %q %d times, not once", b.File, b.Old, n)
				}
				dir := t.TempDir()
				changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
				replaced, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(changed, []byte(strings.Replace(string(text), b.Old, b.New, 1)), 0o666); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(overlay, replaced, 0o666); err != nil {
					t.Fatal(err)
				}
				c := exec.Command("go", append([]string{"test", "-overlay=" + overlay}, strings.Fields(b.Test)...)...)
				c.Dir = root
				out, err := c.CombinedOutput()
				switch {
				case err == nil:
					t.Errorf("%s with %q in the place of %q: go test %s passes\n%s", b.File, b.New, b.Old, b.Test, out)
				case !strings.Contains(string(out), "--- FAIL") && !strings.Contains(string(out), "panic:"):
					t.Errorf("go test %s did not get as far as a failing test:\n%s", b.Test, out)
				}
			})
		}
	}
}
