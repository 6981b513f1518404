// Package runs reads what training runs log, while they run.
//
//	f := runs.Open("runs")
//	all, err := f.List()                     // the newest first
//	log, err := f.Log("gpt-20260101-120000") // reads only what is new since the last call
//
// A run is a folder with a log.jsonl, below the runs folder at any depth up to
// three. Nothing outside that folder is read, whatever a name or a link says.
package runs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"hasten/learn/track"
)

// Folder is a folder of runs. It is safe for concurrent use.
type Folder struct {
	dir  string
	mu   sync.Mutex
	logs map[string]*tail
}

// Run is a training run.
type Run struct {
	Name    string // its path below the folder, with slashes
	State   State
	Changed time.Time // when it logged last
}

// State says whether a run is under way.
type State string

// The states.
const (
	Running  State = "running"  // it logged within the last minute, and has no model yet
	Finished State = "finished" // its model was written
	Stopped  State = "stopped"  // neither
)

// quiet is how long a run may log nothing before it counts as stopped.
const quiet = time.Minute

// model is what a run writes at its end.
const model = "model.safetensors"

// Bounds on what is looked at.
const (
	maxDepth = 3
	maxRuns  = 1000
	maxLogs  = 32 // kept in memory
	maxLine  = 1 << 20
)

// ErrNone is the error for a name that is no run.
var ErrNone = errors.New("no such run")

// Open returns the folder of that path, which need not exist yet.
func Open(dir string) *Folder { return &Folder{dir: dir, logs: map[string]*tail{}} }

// Dir is the path of the folder.
func (f *Folder) Dir() string { return f.dir }

// List lists the runs, the one that changed last first. A folder that is not
// there has none.
func (f *Folder) List() ([]Run, error) {
	root, err := os.OpenRoot(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var all []Run
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || !d.IsDir():
			return nil // what cannot be read is no run
		case len(all) == maxRuns:
			return fs.SkipAll
		}
		if run, err := stat(root, p); err == nil {
			all = append(all, run)
			return fs.SkipDir
		}
		if p != "." && strings.Count(p, "/")+1 >= maxDepth {
			return fs.SkipDir
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Run) int {
		if c := b.Changed.Compare(a.Changed); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all, err
}

// stat is the run in a folder below root.
func stat(root *os.Root, name string) (Run, error) {
	info, err := root.Stat(path.Join(name, track.LogName))
	if err != nil || !info.Mode().IsRegular() {
		return Run{}, ErrNone
	}
	r := Run{Name: name, Changed: info.ModTime(), State: Stopped}
	m, err := root.Stat(path.Join(name, model))
	switch {
	case err == nil && !m.ModTime().Before(info.ModTime().Add(-quiet)):
		r.State = Finished
	case time.Since(info.ModTime()) < quiet:
		r.State = Running
	}
	return r, nil
}

// Find returns the run of a name, or ErrNone.
func (f *Folder) Find(name string) (Run, error) {
	root, err := f.root(name)
	if err != nil {
		return Run{}, err
	}
	defer root.Close()
	return stat(root, name)
}

// root opens the folder if name can be that of a run.
func (f *Folder) root(name string) (*os.Root, error) {
	if !fs.ValidPath(name) || strings.Contains(name, `\`) {
		return nil, ErrNone
	}
	root, err := os.OpenRoot(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	return root, err
}

// Raw opens the log of a run, to be copied as it is.
func (f *Folder) Raw(name string) (*os.File, error) {
	root, err := f.root(name)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if _, err := stat(root, name); err != nil {
		return nil, err
	}
	return root.Open(path.Join(name, track.LogName))
}

// Log is what a run logged: columns by name, with a value for each record, NaN
// where it has none. It is not changed any more.
type Log struct {
	Columns map[string][]float64
	Records int
	Broken  string // says where a line is no record; "": nowhere
	Version int    // grows whenever there is something new
}

// Last is the newest value of a column, NaN if there is none.
func (l *Log) Last(name string) float64 {
	for _, v := range slices.Backward(l.Columns[name]) {
		if !math.IsNaN(v) {
			return v
		}
	}
	return math.NaN()
}

// tail is a log as far as it has been read.
type tail struct {
	mu   sync.Mutex
	used time.Time
	info fs.FileInfo
	end  int64  // behind the last whole line
	line []byte // the last whole line: a log that was cut off and grew again has another one
	n    int    // lines
	log  Log
}

// Log reads the log of a run.
func (f *Folder) Log(name string) (Log, error) {
	file, err := f.Raw(name)
	if err != nil {
		return Log{}, err
	}
	defer file.Close()
	t := f.tail(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.read(file); err != nil {
		return Log{}, fmt.Errorf("%s: %w", name, err)
	}
	shown := t.log
	shown.Columns = map[string][]float64{}
	for k, v := range t.log.Columns {
		shown.Columns[k] = v[:len(v):len(v)] // what is there is never written again
	}
	return shown, nil
}

// tail is that of a name; the one that was not used for longest makes room.
func (f *Folder) tail(name string) *tail {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.logs[name]
	if t == nil {
		for len(f.logs) >= maxLogs {
			oldest := ""
			for n, t := range f.logs {
				if oldest == "" || t.used.Before(f.logs[oldest].used) {
					oldest = n
				}
			}
			delete(f.logs, oldest)
		}
		t = &tail{}
		f.logs[name] = t
	}
	t.used = time.Now()
	return t
}

// read takes in the whole lines that are new, or begins anew where the file is
// another one or was cut off, as a resumed run's is.
func (t *tail) read(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if t.info != nil && !t.same(file, info) {
		t.end, t.n, t.log = 0, 0, Log{Version: t.log.Version + 1}
	}
	t.info = info
	if info.Size() <= t.end {
		return nil
	}
	if _, err := file.Seek(t.end, io.SeekStart); err != nil {
		return err
	}
	chunk := make([]byte, 0, 64<<10)
	for {
		chunk = slices.Grow(chunk, 64<<10)
		n, err := file.Read(chunk[len(chunk):cap(chunk)])
		chunk = chunk[:len(chunk)+n]
		chunk = chunk[:copy(chunk, t.lines(chunk))]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(chunk) > maxLine {
			return fmt.Errorf("line %d is longer than %d bytes", t.n+1, maxLine)
		}
	}
}

// same reports whether the file still begins with what was read of it.
func (t *tail) same(file *os.File, info fs.FileInfo) bool {
	if !os.SameFile(t.info, info) || info.Size() < t.end {
		return false
	}
	now := make([]byte, len(t.line))
	_, err := file.ReadAt(now, t.end-int64(len(now)))
	return err == nil && bytes.Equal(now, t.line)
}

// lines takes in the whole lines of a chunk and returns the rest.
func (t *tail) lines(chunk []byte) []byte {
	for {
		i := bytes.IndexByte(chunk, '\n')
		if i < 0 {
			return chunk
		}
		t.add(chunk[:i+1])
		chunk = chunk[i+1:]
	}
}

func (t *tail) add(line []byte) {
	t.end += int64(len(line))
	t.line = append(t.line[:0], line...)
	t.n++
	t.log.Version++
	var fields map[string]*float64
	if err := json.Unmarshal(line, &fields); err != nil || fields == nil {
		if t.log.Broken == "" {
			t.log.Broken = fmt.Sprintf("line %d is no record and was passed over", t.n)
		}
		return
	}
	if t.log.Columns == nil {
		t.log.Columns = map[string][]float64{}
	}
	for name, v := range fields {
		column := t.log.Columns[name]
		for len(column) < t.log.Records {
			column = append(column, math.NaN())
		}
		if v != nil {
			column = append(column, *v)
		}
		t.log.Columns[name] = column
	}
	t.log.Records++
	for name, column := range t.log.Columns {
		if len(column) < t.log.Records {
			t.log.Columns[name] = append(column, math.NaN())
		}
	}
}
