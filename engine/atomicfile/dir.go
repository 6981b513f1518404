package atomicfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ManifestName is the name of the manifest in a directory made by WriteDir.
const ManifestName = "manifest.json"

// maxManifest bounds what a damaged manifest can make a reader read.
const maxManifest = 16 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// manifest lists the files of a directory.
type manifest struct {
	Version int     `json:"version"` // 1
	Files   []entry `json:"files"`
}

type entry struct {
	Name  string `json:"name"`  // slash-separated, relative to the directory
	Bytes int64  `json:"bytes"` // size
	CRC   string `json:"crc32c"`
}

// Dir is a directory that WriteDir is filling.
type Dir struct {
	temp  string // where its files are now
	final string // where they will be, for messages
	files []entry
}

// WriteFile adds a file. name is slash-separated and may have folders.
func (d *Dir) WriteFile(name string, write func(w io.Writer) error) error {
	path := filepath.Join(d.final, filepath.FromSlash(name))
	if err := d.check(name); err != nil {
		return explain(path, err)
	}
	at := filepath.Join(d.temp, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		return explain(path, err)
	}
	f, err := create(at)
	if err != nil {
		return explain(path, err)
	}
	s := summed{file: f}
	if err := fill(&s, write); err != nil {
		return explain(path, err)
	}
	d.files = append(d.files, entry{name, s.bytes, hex(s.crc)})
	return nil
}

func (d *Dir) check(name string) error {
	if name == ManifestName || !localName(name) {
		return fmt.Errorf("%q cannot be the name of a file in a checkpoint", name)
	}
	for _, e := range d.files {
		if e.Name == name {
			return errors.New("it is written twice")
		}
	}
	return nil
}

// localName reports whether name stays inside the directory, on every system.
func localName(name string) bool {
	return fs.ValidPath(name) && name != "." && filepath.IsLocal(filepath.FromSlash(name)) && !strings.ContainsAny(name, `\:`)
}

// summed counts and sums what goes into a file.
type summed struct {
	file
	bytes int64
	crc   uint32
}

func (s *summed) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.bytes += int64(n)
	s.crc = crc32.Update(s.crc, castagnoli, p[:n])
	return n, err
}

func hex(crc uint32) string { return fmt.Sprintf("%08x", crc) }

// WriteDir makes a directory at path whose files are those that fill adds,
// and their manifest. Either all of it appears or nothing does; a directory
// that has the name already (a torn checkpoint, say) is replaced. The parent
// directory must exist.
func WriteDir(path string, fill func(d *Dir) error) error {
	path = filepath.Clean(path)
	parent, base := filepath.Split(path)
	d := Dir{temp: tempName(parent, base), final: path}
	if err := os.Mkdir(d.temp, 0o777); err != nil {
		return explain(path, err)
	}
	err := fill(&d)
	if err == nil {
		err = explain(path, d.finish())
	}
	if err == nil {
		err = explain(path, moveInto(path, d.temp))
	}
	if err != nil {
		os.RemoveAll(d.temp)
		return err
	}
	return explain(path, syncDir(parent))
}

// finish writes the manifest and syncs the folders.
func (d *Dir) finish() error {
	if len(d.files) == 0 {
		return errors.New("it would be empty")
	}
	f, err := create(filepath.Join(d.temp, ManifestName))
	if err != nil {
		return err
	}
	err = fill(f, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(manifest{1, d.files})
	})
	if err != nil {
		return err
	}
	return filepath.WalkDir(d.temp, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return syncDir(path)
	})
}

// moveInto renames temp to path. What is at path steps aside first, since a
// directory cannot be renamed onto another, and is deleted last.
func moveInto(path, temp string) error {
	parent, base := filepath.Split(path)
	old := tempName(parent, base)
	switch err := os.Rename(path, old); {
	case errors.Is(err, fs.ErrNotExist):
		return os.Rename(temp, path)
	case err != nil:
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Rename(old, path))
	}
	return os.RemoveAll(old)
}

// Verify reads every file of a directory made by WriteDir and compares it
// with the manifest. Files that the manifest does not list are ignored.
func Verify(path string) error { return verify(path, true) }

// verify with contents false looks at names and sizes only.
func verify(path string, contents bool) error {
	m, err := readManifest(filepath.Join(path, ManifestName))
	if err != nil {
		return err
	}
	for _, e := range m.Files {
		name := filepath.Join(path, filepath.FromSlash(e.Name))
		info, err := os.Lstat(name)
		switch {
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is no regular file", name)
		case info.Size() != e.Bytes:
			return fmt.Errorf("%s has %d bytes, and %d in the manifest", name, info.Size(), e.Bytes)
		case !contents:
			continue
		}
		if crc, err := sum(name); err != nil {
			return err
		} else if hex(crc) != e.CRC {
			return fmt.Errorf("%s has CRC-32C %08x, and %s in the manifest", name, crc, e.CRC)
		}
	}
	return nil
}

func sum(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := crc32.New(castagnoli)
	_, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, bufferSize))
	return h.Sum32(), err
}

func readManifest(path string) (manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return manifest{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return manifest{}, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// parseManifest is strict, so that a manifest with a damaged key is no
// manifest rather than one that lists nothing.
func parseManifest(data []byte) (manifest, error) {
	var m manifest
	if len(data) > maxManifest {
		return m, fmt.Errorf("a manifest has %d bytes at most", maxManifest)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, err
	}
	if _, err := d.Token(); err != io.EOF {
		return m, fmt.Errorf("text after the manifest, at byte %d", d.InputOffset())
	}
	if m.Version != 1 {
		return m, fmt.Errorf("version %d of manifests is not known; this program knows 1", m.Version)
	}
	if len(m.Files) == 0 {
		return m, errors.New("the manifest lists no files")
	}
	seen := make(map[string]bool, len(m.Files))
	for _, e := range m.Files {
		if e.Bytes < 0 || !localName(e.Name) || seen[e.Name] {
			return m, fmt.Errorf("%q with %d bytes cannot be in a manifest here", e.Name, e.Bytes)
		}
		seen[e.Name] = true
	}
	return m, nil
}
