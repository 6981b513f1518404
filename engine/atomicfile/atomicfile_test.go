package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// names lists a directory, hidden files too.
func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Name())
	}
	return all
}

func TestWriteFileReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, want := range []string{"one", "", strings.Repeat("long ", bufferSize)} {
		if err := WriteFile(path, text(want)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != want {
			t.Errorf("%d bytes, want %d", len(got), len(want))
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{"a"}) {
		t.Errorf("left %q", got)
	}
}

func TestWriteFileInTheWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := WriteFile("a", text("x")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, "a"); got != "x" {
		t.Errorf("%q", got)
	}
}

// badDisk fails after some bytes, at Sync, or at Close.
type badDisk struct {
	*os.File
	room            int
	onSync, onClose error
	onWrite         error
	full            *os.File // takes the writes beyond room, when not nil
}

func (b *badDisk) Write(p []byte) (int, error) {
	if len(p) <= b.room {
		b.room -= len(p)
		return b.File.Write(p)
	}
	if b.full != nil {
		return b.full.Write(p)
	}
	n, _ := b.File.Write(p[:b.room])
	b.room = 0
	return n, b.onWrite
}

func (b *badDisk) Sync() error  { return errors.Join(b.onSync, b.File.Sync()) }
func (b *badDisk) Close() error { return errors.Join(b.onClose, b.File.Close()) }

// useDisk has every new file pass through wrap until the test ends.
func useDisk(t *testing.T, wrap func(*os.File) file) {
	good := create
	create = func(path string) (file, error) {
		f, err := good(path)
		if err != nil {
			return nil, err
		}
		return wrap(f.(*os.File)), nil
	}
	t.Cleanup(func() { create = good })
}

func TestFailuresLeaveTheOldContent(t *testing.T) {
	const room = 1000
	disks := map[string]func(f *os.File) file{
		"full":          func(f *os.File) file { return &badDisk{File: f, room: room, onWrite: noSpace} },
		"full at sync":  func(f *os.File) file { return &badDisk{File: f, room: 1 << 30, onSync: noSpace} },
		"full at close": func(f *os.File) file { return &badDisk{File: f, room: 1 << 30, onClose: noSpace} },
		"broken":        func(f *os.File) file { return &badDisk{File: f, room: room, onWrite: io.ErrClosedPipe} },
	}
	if full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
		defer full.Close()
		disks["/dev/full"] = func(f *os.File) file { return &badDisk{File: f, room: room, full: full} }
	}
	for name, disk := range disks {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, ckpt := filepath.Join(dir, "a"), filepath.Join(dir, "step-1")
			if err := WriteFile(path, text("old")); err != nil {
				t.Fatal(err)
			}
			if err := WriteDir(ckpt, func(d *Dir) error { return d.WriteFile("w", text("old")) }); err != nil {
				t.Fatal(err)
			}
			useDisk(t, disk)
			big := text(strings.Repeat("x", room+1))
			err := WriteFile(path, big)
			errDir := WriteDir(ckpt, func(d *Dir) error { return d.WriteFile("w", big) })
			for _, err := range []error{err, errDir} {
				if err == nil {
					t.Fatal("no error")
				}
				full := name != "broken"
				if got := strings.Contains(err.Error(), "is full"); got != full || !strings.Contains(err.Error(), dir) {
					t.Errorf("error %q", err)
				}
			}
			if got := read(t, path); got != "old" {
				t.Errorf("content %q", got)
			}
			if err := Verify(ckpt); err != nil || read(t, filepath.Join(ckpt, "w")) != "old" {
				t.Errorf("checkpoint changed: %v", err)
			}
			if got := names(t, dir); !slices.Equal(got, []string{"a", "step-1"}) {
				t.Errorf("left %q", got)
			}
		})
	}
}

var noSpace error = func() error {
	if runtime.GOOS == "windows" {
		return syscall.Errno(112) // ERROR_DISK_FULL
	}
	return syscall.ENOSPC
}()

func TestWriteErrorsOfTheCallerArrive(t *testing.T) {
	dir, mine := t.TempDir(), errors.New("mine")
	bad := func(io.Writer) error { return mine }
	if err := WriteFile(filepath.Join(dir, "a"), bad); !errors.Is(err, mine) {
		t.Errorf("WriteFile: %v", err)
	}
	if err := WriteDir(filepath.Join(dir, "d"), func(d *Dir) error { return d.WriteFile("a", bad) }); !errors.Is(err, mine) {
		t.Errorf("WriteDir: %v", err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("left %q", got)
	}
}

func TestWriteDirRefusesBadNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "/x", "a/../b", ManifestName, `a\b`, "c:x", "twice"} {
		err := WriteDir(filepath.Join(t.TempDir(), "d"), func(d *Dir) error {
			if err := d.WriteFile("twice", text("1")); err != nil {
				t.Fatal(err)
			}
			return d.WriteFile(name, text("2"))
		})
		if err == nil {
			t.Errorf("%q: no error", name)
		}
	}
	if err := WriteDir(filepath.Join(t.TempDir(), "d"), func(d *Dir) error { return nil }); err == nil {
		t.Error("empty directory: no error")
	}
}

// step writes checkpoint n of dir.
func step(t *testing.T, dir string, n int) string {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("step-%06d", n))
	err := WriteDir(path, func(d *Dir) error {
		return errors.Join(
			d.WriteFile("model.safetensors", text(strings.Repeat(fmt.Sprint("weights", n), 100))),
			d.WriteFile("state/optim.safetensors", text(fmt.Sprint("state", n))))
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNewestSkipsEveryKindOfDamage(t *testing.T) {
	model := func(c string) string { return filepath.Join(c, "model.safetensors") }
	damage := map[string]func(c string) error{
		"file cut":        func(c string) error { return os.Truncate(model(c), 10) },
		"file grown":      func(c string) error { return os.Truncate(model(c), 5000) },
		"file gone":       func(c string) error { return os.Remove(filepath.Join(c, "state", "optim.safetensors")) },
		"file a folder":   func(c string) error { return errors.Join(os.Remove(model(c)), os.Mkdir(model(c), 0o777)) },
		"manifest gone":   func(c string) error { return os.Remove(filepath.Join(c, ManifestName)) },
		"manifest empty":  func(c string) error { return os.Truncate(filepath.Join(c, ManifestName), 0) },
		"manifest halved": func(c string) error { return os.Truncate(filepath.Join(c, ManifestName), 100) },
		"bit flipped": func(c string) error {
			b, err := os.ReadFile(model(c))
			if err != nil {
				return err
			}
			b[len(b)-1] ^= 4
			return os.WriteFile(model(c), b, 0o666)
		},
	}
	for name, f := range damage {
		dir := t.TempDir()
		good := step(t, dir, 9)
		bad := step(t, dir, 10) // greater than 9 as a number, smaller as a word
		if got, skipped, err := Newest(dir); got != bad || len(skipped) > 0 || err != nil {
			t.Fatalf("undamaged: %q, %v, %v", got, skipped, err)
		}
		if err := f(bad); err != nil {
			t.Fatal(err)
		}
		got, skipped, err := Newest(dir)
		if got != good || err != nil || len(skipped) != 1 || skipped[0].Path != bad || skipped[0].Err == nil {
			t.Errorf("%s: %q, %v, %v", name, got, skipped, err)
		}
		// The trainer comes back to step 10 and writes it again.
		step(t, dir, 10)
		if got, skipped, err := Newest(dir); got != bad || len(skipped) > 0 || err != nil {
			t.Errorf("%s, written again: %q, %v, %v", name, got, skipped, err)
		}
		if got := names(t, dir); len(got) != 2 {
			t.Errorf("%s: left %q", name, got)
		}
	}
}

// A damaged manifest must never pass for a good one that says something else.
func TestEveryBitOfTheManifestCounts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(step(t, dir, 1), ManifestName)
	good := []byte(read(t, path))
	want, err := parseManifest(good)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(good) {
		bad := slices.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, bad, 0o666); err != nil {
			t.Fatal(err)
		}
		if got, _ := parseManifest(bad); Verify(filepath.Dir(path)) == nil && !slices.Equal(got.Files, want.Files) {
			t.Fatalf("bit %d flipped: accepted %+v", bit, got)
		}
	}
}

func TestNewestOfNothing(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"notes", "step", "step-x", "12", ".step-3" + tempMark + "1"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{dir, filepath.Join(dir, "absent")} {
		if got, skipped, err := Newest(d); got != "" || len(skipped) > 0 || !errors.Is(err, ErrNone) {
			t.Errorf("%s: %q, %v, %v", d, got, skipped, err)
		}
	}
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	var all []string
	for n := range 6 {
		all = append(all, filepath.Base(step(t, dir, n)))
	}
	if err := os.Truncate(filepath.Join(dir, all[4], "model.safetensors"), 3); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, ".step-000009"+tempMark+"abc")
	if err := os.MkdirAll(filepath.Join(left, "x"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "notes-1"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		n    int
		want []string
	}{
		{9, append([]string{"notes-1"}, all...)},
		{3, append([]string{"notes-1"}, all[2:]...)}, // 5, 3, 2; the damaged 4 does not count
		{1, []string{"notes-1", all[5]}},
		{1, []string{"notes-1", all[5]}},
	} {
		if err := Keep(dir, c.n); err != nil {
			t.Fatal(err)
		}
		if got := names(t, dir); !slices.Equal(got, c.want) {
			t.Errorf("Keep %d left %q, want %q", c.n, got, c.want)
		}
	}
	if Keep(dir, 0) == nil {
		t.Error("Keep 0: no error")
	}
	if err := Keep(filepath.Join(dir, "absent"), 1); err != nil {
		t.Error(err)
	}
}

func TestOneLockPerDirectory(t *testing.T) {
	dir := t.TempDir()
	l, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(dir)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d on ", os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second lock: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	l, err = Acquire(dir)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	l.Release()
	if _, err := Acquire(filepath.Join(dir, "absent")); err == nil {
		t.Error("lock of an absent directory: no error")
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"files":[{"name":"a","bytes":1,"crc32c":"00000000"}]}`))
	f.Add([]byte(`{"version":1,"files":[{"name":"../a","bytes":1,"crc32c":"00000000"}]}`))
	f.Add([]byte(`{"version":1,"files":[]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"files":[{"name":"a","bytes":-1}]} x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		for _, e := range m.Files {
			if e.Bytes < 0 || !filepath.IsLocal(filepath.FromSlash(e.Name)) {
				t.Errorf("accepted %+v", e)
			}
		}
	})
}
