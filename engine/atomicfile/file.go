package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// WriteFile makes write's output the content of the file at path, which it
// creates or replaces. When anything fails, a full disk included, the file
// stays as it was and nothing else is left behind.
//
// The writer that write gets is buffered and must not be used after write
// returns. Writing through a symbolic link replaces the link.
func WriteFile(path string, write func(w io.Writer) error) error {
	dir, base := filepath.Split(path)
	f, err := createTemp(dir, base)
	if err != nil {
		return explain(path, err)
	}
	err = fill(f, write)
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return explain(path, err)
	}
	return explain(path, syncDir(dir))
}

// file is what this package needs of an *os.File.
type file interface {
	io.Writer
	Name() string
	Sync() error
	Close() error
}

// create opens a new file for writing. Tests put a failing disk in its place.
var create = func(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
}

// bufferSize is large enough that small writes cost no system call each.
const bufferSize = 256 << 10

// fill writes, syncs and closes f.
func fill(f file, write func(w io.Writer) error) error {
	b := bufio.NewWriterSize(f, bufferSize)
	err := write(b)
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// tempMark is in the names of everything not yet, or no longer, in place.
const tempMark = ".hasten-tmp-"

// tempName is a random name beside base, hidden and marked as temporary.
func tempName(dir, base string) string {
	return filepath.Join(dir, "."+base+tempMark+strconv.FormatUint(rand.Uint64(), 36))
}

// createTemp opens a new temporary file. It is not os.CreateTemp because that
// one makes files which only their owner may read.
func createTemp(dir, base string) (file, error) {
	for try := 0; ; try++ {
		f, err := create(tempName(dir, base))
		if try < 100 && errors.Is(err, fs.ErrExist) {
			continue
		}
		return f, err
	}
}

// explain says what did not happen, and what to do about it where that is known.
func explain(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case diskFull(err):
		return fmt.Errorf("%s is not written, and earlier files are as they were: the disk of %s is full; free space there, or write elsewhere: %w",
			path, filepath.Dir(path), err)
	}
	return fmt.Errorf("%s is not written: %w", path, err)
}
