package source

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"
)

const packageList = `Package: zsh
Version: 5.9
Depends: libc6 (>= 2.34), libcap2
Pre-Depends: dpkg
Description: shell with lots of features
 A line that goes on: ignored
Section: shells

Package: nosection
Description: left out

Package: awk
Section: utils
Description: pattern scanning: and more
`

func TestPackages(t *testing.T) {
	dir := t.TempDir()
	var z strings.Builder
	w := lz4.NewWriter(&z)
	w.Write([]byte("Package: zsh\nSection: late\nDescription: another version\n\nPackage: bash\nSection: shells\nDescription: GNU\n"))
	w.Close()
	for name, text := range map[string]string{"a_Packages": packageList, "b_Packages.lz4": z.String(), "other": "Package: none\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := packagesIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Package{
		{"awk", "utils", "pattern scanning: and more", ""},
		{"bash", "shells", "GNU", ""},
		{"zsh", "shells", "shell with lots of features", "libc6 (>= 2.34), libcap2, dpkg"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "c_Packages.lz4"), []byte("not lz4 at all"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := packagesIn(dir); err == nil || !strings.Contains(err.Error(), "c_Packages.lz4") {
		t.Errorf("a damaged list: %v", err)
	}
}

// The machine's own lists, where there are any.
func TestInstalledPackages(t *testing.T) {
	d, _ := Lookup("debpkg")
	if _, err := d.Find(); err != nil && os.Getenv("HASTEN_FULL") == "1" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	all, err := Packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 1000 || !slices.IsSortedFunc(all, func(a, b Package) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d packages", len(all))
	}
}
