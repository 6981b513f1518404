package track

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// LogName is the name of the log in a run's directory.
const LogName = "log.jsonl"

// eventsPrefix begins the names of TensorBoard's files; the second of their
// creation and the host follow.
const eventsPrefix = "events.out.tfevents."

// Logger writes the log and the events of a run. It is for one goroutine.
type Logger struct {
	log, events tail
	record      Record // the one being logged; here it needs no allocation
}

// tail is the end of a file that grows. It keeps the length itself: what a
// failed write has left behind is written over by the next one, and does not
// become a broken line in the middle.
type tail struct {
	f   *os.File
	end int64
	buf []byte
}

func (t *tail) flush() error {
	if _, err := t.f.WriteAt(t.buf, t.end); err != nil {
		return err
	}
	t.end += int64(len(t.buf))
	return nil
}

func (t *tail) close() error { return errors.Join(t.f.Sync(), t.f.Close()) }

// Create begins the log of a new run in dir, which must exist. A log that is
// there already is replaced, and TensorBoard is told to forget earlier events.
func Create(dir string) (*Logger, error) { return open(dir, -1) }

// Resume goes on with the log of a run from a checkpoint after the given step:
// records of later steps are cut off, and so is a half-written last line. A
// log that is not there is begun.
func Resume(dir string, step int64) (*Logger, error) {
	if step < 0 {
		return nil, fmt.Errorf("%s: resumed after step %d", dir, step)
	}
	return open(dir, step)
}

// open keeps the records up to a step, -1 for none.
func open(dir string, step int64) (*Logger, error) {
	path := filepath.Join(dir, LogName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	l := &Logger{log: tail{f: f}}
	if step >= 0 {
		err = scan(f, func(r Record, end int64) bool {
			if r.Step <= step {
				l.log.end = end
			}
			return r.Step <= step
		})
	}
	if err == nil {
		err = f.Truncate(l.log.end)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := l.openEvents(dir, step+1); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// openEvents begins a file whose events supersede those from step on.
func (l *Logger) openEvents(dir string, step int64) error {
	now := time.Now()
	second := now.Unix()
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list { // TensorBoard reads files in the order of their names
		name, ok := strings.CutPrefix(e.Name(), eventsPrefix)
		digits, _, _ := strings.Cut(name, ".")
		if n, err := strconv.ParseInt(digits, 10, 64); ok && err == nil {
			second = max(second, n+1)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	path := filepath.Join(dir, fmt.Sprintf("%s%010d.%s", eventsPrefix, second, host))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	l.events = tail{f: f}
	l.events.buf = appendStart(nil, now, step)
	return l.events.flush()
}

// Log appends a record to the log and to the events. It is in the files, though
// not yet safe from a power cut, when Log returns. After its first calls it
// allocates nothing.
func (l *Logger) Log(r Record) error {
	l.record = r
	if err := l.record.check(); err != nil {
		return err
	}
	l.log.buf = l.record.appendJSON(l.log.buf[:0])
	l.events.buf = appendScalars(l.events.buf[:0], time.Now(), &l.record)
	return errors.Join(l.log.flush(), l.events.flush())
}

// Close syncs and closes the files.
func (l *Logger) Close() error { return errors.Join(l.log.close(), l.events.close()) }
