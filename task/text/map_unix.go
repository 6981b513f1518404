//go:build unix

package text

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// contents is a file's bytes, mapped if it is a plain file. done gives them
// back.
func contents(path string) (data []byte, done func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case info.IsDir():
		return nil, nil, fmt.Errorf("%s: a directory; want a file of labelled texts", path)
	case !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > math.MaxInt:
		return wholeFile(path)
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return wholeFile(path)
	}
	return data, func() { unix.Munmap(data) }, nil
}
