package source

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// openDir lists a directory tree.
func openDir(dir string, opts Options) (*Source, error) {
	root, err := filepath.EvalSymlinks(dir) // WalkDir does not follow a link at the root
	if err != nil {
		return nil, err
	}
	s := &Source{name: dir, opts: opts}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == root:
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch hidden := strings.HasPrefix(d.Name(), "."); {
		case d.IsDir() && (hidden || d.Name() == "node_modules"):
			s.skip("in hidden directories and node_modules, not counted within", rel+"/")
			return fs.SkipDir
		case d.IsDir():
			return nil
		case hidden:
			s.skip("hidden", rel)
			return nil
		case !d.Type().IsRegular():
			s.skip("symbolic link or device", rel)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := newFile(filepath.Join(dir, filepath.FromSlash(rel)), rel, info)
		if f.size == 0 {
			s.skip("empty", rel)
			return nil
		}
		s.files = append(s.files, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s.files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	if err := s.choose(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(s.skipped, func(a, b Skip) int { return b.Files - a.Files })
	if len(s.files) == 0 {
		return nil, fmt.Errorf("%s: no file to read%s", dir, s.skippedNote())
	}
	s.divide()
	return s, nil
}

// choose settles the format of a directory and drops the files that do not fit it.
func (s *Source) choose() error {
	format := s.opts.Format
	if format == "" {
		format = formatText
		var total int64
		bytes := map[string]int64{}
		for _, f := range s.files {
			bytes[f.format] += f.size
			total += f.size
		}
		for _, rows := range []string{formatJSONL, formatCSV, formatTSV, formatParquet} {
			if bytes[rows] > total/2 {
				format = rows
			}
		}
	}
	kept := s.files[:0]
	for _, f := range s.files {
		if format != formatText {
			if f.format == format {
				kept = append(kept, f)
			} else {
				s.skip("not "+format, f.name)
			}
			continue
		}
		if ext := filepath.Ext(strings.TrimSuffix(f.name, "."+f.codec)); f.codec != "" && ext != ".txt" && ext != ".md" {
			s.skip("compressed, and not .txt or .md", f.name)
			continue
		}
		f.format = formatText
		why, err := f.sniff(s.opts.Replace)
		switch {
		case err != nil && os.IsPermission(err):
			s.skip("no permission to read", f.name)
		case err != nil:
			return err
		case why != "":
			s.skip(why, f.name)
		default:
			kept = append(kept, f)
		}
	}
	s.files = kept
	return nil
}

func (s *Source) skip(reason, name string) {
	for i := range s.skipped {
		if s.skipped[i].Reason == reason {
			s.skipped[i].Files++
			return
		}
	}
	s.skipped = append(s.skipped, Skip{reason, 1, name})
}

func (s *Source) skippedNote() string {
	var b strings.Builder
	for i, k := range s.skipped {
		b.WriteString([]string{" (skipped: ", "; "}[min(i, 1)])
		fmt.Fprintf(&b, "%d %s, as %s", k.Files, k.Reason, k.First)
	}
	if b.Len() > 0 {
		b.WriteString(")")
	}
	return b.String()
}
