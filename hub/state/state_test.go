package state

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hasten/lab/result"
)

func measured(slug string, value float64) result.Result {
	r := result.Result{Slug: slug, Figures: []result.Figure{{Name: "a", Kind: result.Exact, Method: result.Of(value),
		Bar: &result.Bar{Of: result.OfValue, Op: result.AtMost, Bound: 10}}}}
	r.Figures[0].Settle()
	r.Judge()
	return r
}

func TestResultsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "hub #1?.db")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range kept + 5 {
		if err := db.AddResult(t.Context(), measured("x", float64(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.AddResult(t.Context(), measured("y", 1)); err != nil {
		t.Fatal(err)
	}
	// What an older version left, and damage, must not hide the rest.
	if _, err := db.SQL.Exec(`INSERT INTO result (slug, json) VALUES ('y', '{"old":1}'), ('y', 'x')`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if db, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all, err := db.Results(t.Context())
	if err != nil || len(all["x"]) != kept || len(all["y"]) != 1 {
		t.Fatalf("%d and %d results, %v", len(all["x"]), len(all["y"]), err)
	}
	for i, r := range all["x"] {
		if want := float64(kept + 4 - i); r.Figures[0].Value != want {
			t.Errorf("result %d has %g, want %g", i, r.Figures[0].Value, want)
		}
	}
}

func TestCacheGoesByKey(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, key := range []string{"a", "b"} {
		if err := db.Cache(t.Context(), "n", key, []byte("of "+key)); err != nil {
			t.Fatal(err)
		}
	}
	for key, want := range map[string]string{"a": "", "b": "of b"} {
		if v, err := db.Cached(t.Context(), "n", key); err != nil || string(v) != want {
			t.Errorf("key %s: %q, %v", key, v, err)
		}
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "--state") {
		t.Errorf("%v", err)
	}
}
