package atomicfile

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// diskFull reports whether err means that no space is left.
func diskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// syncDir does nothing: Windows has no sync of a directory.
func syncDir(string) error { return nil }

// tryLock takes the exclusive lock of an open file, if it is free. It locks
// one byte far behind the end, so that others can still read the content.
func tryLock(f *os.File) (bool, error) {
	far := windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &far)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}
