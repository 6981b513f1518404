// Package reproduce runs experiments, each in a process of its own, so that one
// which is cut off, runs out of memory or breaks costs only itself.
//
//	Runner.Run ──"hasten reproduce SLUG --here --json"──▶ result ──▶ DIR/SLUG.json
//
// A result that is there already and belongs to the same code and settings is
// not measured again, so a run over many papers that was stopped goes on where
// it stopped.
package reproduce

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"hasten/engine/atomicfile"
	"hasten/lab/experiment"
	"hasten/lab/result"
)

// Here is the flag of the command that makes it run an experiment in its own
// process.
const Here = "--here"

// Runner runs experiments as child processes and keeps their results.
type Runner struct {
	Command []string // of the child, before its arguments; nil: this program
	Dir     string   // where results are kept; "": nowhere
	Options experiment.Options
	Limit   time.Duration // after which an experiment is stopped; 0: twelve minutes, or two when quick
}

// limit is the time an experiment may take.
func (r *Runner) limit() time.Duration {
	switch {
	case r.Limit > 0:
		return r.Limit
	case r.Options.Quick:
		return 2 * time.Minute
	}
	return 12 * time.Minute
}

// Path is the file of a paper's result.
func (r *Runner) Path(slug string) string {
	name := slug + ".json"
	if r.Options.Quick {
		name = slug + ".quick.json"
	}
	return filepath.Join(r.Dir, name)
}

// Current returns the kept result of a paper if it belongs to the code and
// settings of today.
func (r *Runner) Current(p experiment.Paper) (result.Result, bool) {
	if r.Dir == "" {
		return result.Result{}, false
	}
	key, err := experiment.Key(p, r.Options)
	if err != nil {
		return result.Result{}, false
	}
	text, err := os.ReadFile(r.Path(p.Slug))
	if err != nil {
		return result.Result{}, false
	}
	res, err := result.Parse(text)
	return res, err == nil && res.Key == key && res.Slug == p.Slug
}

// Run runs the experiment of a paper and keeps its result. Cancelling the
// context stops the child in good order.
func (r *Runner) Run(ctx context.Context, p experiment.Paper) (result.Result, error) {
	limited, cancel := context.WithTimeout(ctx, r.limit())
	defer cancel()
	out, err := r.child(limited, p.Slug)
	switch {
	case ctx.Err() != nil:
		return result.Result{}, ctx.Err()
	case limited.Err() != nil:
		return result.Result{}, fmt.Errorf("%s: stopped after %v", p.Slug, r.limit())
	case err != nil:
		return result.Result{}, err
	}
	res, err := result.Parse(out)
	if err != nil {
		return res, fmt.Errorf("%s: %w", p.Slug, err)
	}
	if r.Dir != "" {
		err = Keep(r.Path(p.Slug), res)
	}
	return res, err
}

// child runs the command for one paper and returns what it prints.
func (r *Runner) child(ctx context.Context, slug string) ([]byte, error) {
	command := r.Command
	if command == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		command = []string{self}
	}
	args := append(command[1:len(command):len(command)], "reproduce", slug, Here, "--json")
	if r.Options.Quick {
		args = append(args, "--quick")
	}
	if r.Options.Seeds > 0 {
		args = append(args, fmt.Sprintf("--seeds=%d", r.Options.Seeds))
	}
	c := exec.CommandContext(ctx, command[0], args...)
	c.Cancel = func() error {
		if c.Process.Signal(os.Interrupt) != nil { // there is no such signal on Windows
			return c.Process.Kill()
		}
		return nil
	}
	c.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	c.Stdout = &out
	stderr, err := c.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	last := r.watch(stderr)
	if err := c.Wait(); err != nil {
		return nil, broken(slug, err, last)
	}
	return out.Bytes(), nil
}

// watch hands on the lines a child prints and returns the last that was an
// error.
func (r *Runner) watch(stderr io.Reader) (last string) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "hasten: "); ok {
			last = text
		} else if r.Options.Watch != nil {
			r.Options.Watch(line)
		}
	}
	io.Copy(io.Discard, stderr)
	return last
}

// broken says why a child failed; its last words name the paper.
func broken(slug string, err error, last string) error {
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == -1:
		return fmt.Errorf("%s: the experiment was ended from outside (%v); did it run out of memory?", slug, exit)
	case last != "":
		return errors.New(last)
	}
	return fmt.Errorf("%s: the experiment failed: %w", slug, err)
}

// Keep writes a result to a file, whole or not at all.
func Keep(path string, res result.Result) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		e.SetEscapeHTML(false)
		return e.Encode(res)
	})
}
