package atomicfile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// LockName is the name of the lock file in a locked directory.
const LockName = ".lock"

// Lock is the right to write in a directory. The system takes it back when
// the process ends, however it ends.
type Lock struct{ f *os.File }

// Acquire locks dir, which must exist, against every other caller of Acquire
// in this and other processes. It does not wait: when another process has the
// lock, the error names that process and what to do.
//
// The lock file stays in the directory after Release: deleting it would let a
// waiting process lock a file that a third one no longer sees.
func Acquire(dir string) (*Lock, error) {
	path := filepath.Join(dir, LockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	free, err := tryLock(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w (does its file system support locks?)", path, err)
	}
	if !free {
		owner, _ := io.ReadAll(io.LimitReader(f, 256))
		f.Close()
		return nil, fmt.Errorf("%s is in use by %s; stop it or choose another directory", dir, describe(owner))
	}
	host, _ := os.Hostname() // only for the message
	content := fmt.Sprintf("process %d on %s\n", os.Getpid(), host)
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(content), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f}, nil
}

// describe is the owner as the lock file names it.
func describe(content []byte) string {
	if line := bytes.TrimSpace(content); len(line) > 0 {
		return string(line)
	}
	return "another process" // which has locked the file and not yet written to it
}

// Release gives the directory free.
func (l *Lock) Release() error { return l.f.Close() }
