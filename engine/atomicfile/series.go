package atomicfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Torn is a checkpoint that does not verify.
type Torn struct {
	Path string
	Err  error // what is wrong with it
}

func (t Torn) String() string { return fmt.Sprintf("%s is damaged: %v", t.Path, t.Err) }

// ErrNone is the error of Newest when there is no checkpoint to take.
var ErrNone = errors.New("no complete checkpoint")

// Newest returns the newest checkpoint of dir that verifies, and those newer
// ones that do not, which it skipped. Checkpoints are the folders whose name
// ends in a hyphen and a decimal number, such as step-001200; the newest has
// the greatest number. Dates of files do not count: copying changes them.
//
// When none verifies, or dir does not exist, the error is ErrNone.
func Newest(dir string) (path string, skipped []Torn, err error) {
	all, err := series(dir)
	if err != nil {
		return "", nil, err
	}
	for _, c := range slices.Backward(all) {
		err := Verify(c.path)
		if err == nil {
			return c.path, skipped, nil
		}
		skipped = append(skipped, Torn{c.path, err})
	}
	return "", skipped, fmt.Errorf("%s: %w", dir, ErrNone)
}

// Keep deletes the checkpoints of dir that are older than the n-th newest
// complete one, n ≥ 1, and sweeps. Damaged
// checkpoints do not count towards n (for speed, only sizes are compared),
// so the last good one is never deleted. The caller must be the only writer
// in dir; see Acquire.
func Keep(dir string, n int) error {
	if n < 1 {
		return fmt.Errorf("keep %d checkpoints: want at least 1", n)
	}
	all, err := series(dir)
	if err != nil {
		return err
	}
	if err := Sweep(dir); err != nil || len(all) == 0 {
		return err
	}
	for _, c := range slices.Backward(all) {
		switch {
		case n == 0:
			if err := remove(c.path); err != nil {
				return err
			}
		case verify(c.path, false) == nil:
			n--
		}
	}
	return syncDir(dir)
}

// remove takes the name away first, so that an interrupted deletion does not
// leave a damaged checkpoint.
func remove(path string) error {
	aside := tempName(filepath.Dir(path), filepath.Base(path))
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	return os.RemoveAll(aside)
}

// Sweep deletes the temporary files and folders that killed writers have left
// in dir. The caller must be the only writer there; see Acquire.
func Sweep(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), tempMark) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

type checkpoint struct {
	path   string
	number uint64
}

// series lists the checkpoints of dir, oldest first.
func series(dir string) ([]checkpoint, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []checkpoint
	for _, e := range list {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		digits := e.Name()[strings.LastIndexByte(e.Name(), '-')+1:]
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil && len(digits) < len(e.Name()) {
			all = append(all, checkpoint{filepath.Join(dir, e.Name()), n})
		}
	}
	slices.SortFunc(all, func(a, b checkpoint) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.path, b.path))
	})
	return all, err
}
