package digest

import (
	"path/filepath"
	"slices"
	"testing"

	"hasten/hub/state"
)

func TestAbstracts(t *testing.T) {
	empty, err := state.Open(filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	if texts, err := Abstracts(t.Context(), empty); err != nil || len(texts) != 0 {
		t.Errorf("before any digest: %q, %v", texts, err)
	}
	k := open(t, "")
	k.keep(t, papers()...)
	texts, err := Abstracts(t.Context(), k.db)
	if err != nil || len(texts) != 3 || !slices.Contains(texts, "Images from noise in four steps\nA diffusion model takes few steps.") {
		t.Errorf("%q, %v", texts, err)
	}
}
