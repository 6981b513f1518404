// Package peer is the other side of comparisons: PyTorch, run as a program of
// its own.
//
// torch_gpt.py, which is part of this package, has a GPT in plain PyTorch, in
// the layouts that hasten has. It times training steps and matrix products,
// trains on the same tokens, and reads and writes the same model directories:
//
//	torch, err := peer.Find(ctx)                            // a python3 that has torch
//	out, err := torch.Run(ctx, "bench", "--arch", "llama")  // JSON lines
//
// The program in measure compares the two; the tests here make sure that they
// compute the same.
package peer

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

//go:embed torch_gpt.py
var script string

// Torch is a Python that has PyTorch.
type Torch struct {
	Python  string // the interpreter
	Threads int    // of PyTorch and its BLAS; 0: one for each core
	Version Version
}

// Version says what PyTorch runs on.
type Version struct {
	Python  string `json:"python"`
	Torch   string `json:"torch"`
	NumPy   string `json:"numpy"`
	BLAS    string `json:"blas"` // files of the BLAS that is loaded
	Threads int    `json:"threads"`
}

// PythonVariable names the environment variable that says which Python to use.
const PythonVariable = "HASTEN_PYTHON"

// Find finds a Python that can import torch and numpy: the one that
// HASTEN_PYTHON names, or else python3, or else the system's. It takes the
// seconds that importing torch takes.
func Find(ctx context.Context) (*Torch, error) {
	candidates := []string{"python3", "/usr/bin/python3"}
	if named := os.Getenv(PythonVariable); named != "" {
		candidates = []string{named}
	}
	var tried []string
	for _, python := range candidates {
		t := &Torch{Python: python}
		out, err := t.Run(ctx, "version")
		if err == nil {
			err = json.Unmarshal(out, &t.Version)
		}
		if err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		tried = append(tried, err.Error())
	}
	return nil, fmt.Errorf("no PyTorch was found: %s. To get it: apt install python3-torch libopenblas0-pthread on Debian, or pip install torch numpy; %s names the Python to use",
		strings.Join(tried, "; "), PythonVariable)
}

// Run runs torch_gpt.py with arguments and returns what it prints: JSON
// objects, one a line. An error carries the last line of its complaint.
func (t *Torch) Run(ctx context.Context, args ...string) ([]byte, error) {
	return t.run(ctx, nil, t.withThreads(args))
}

// RunAll runs commands one after the other in one process, which saves
// importing torch for each, and returns for each the objects it printed.
func (t *Torch) RunAll(ctx context.Context, commands [][]string) ([][]json.RawMessage, error) {
	var stdin bytes.Buffer
	for _, c := range commands {
		line, err := json.Marshal(t.withThreads(c))
		if err != nil {
			return nil, err
		}
		stdin.Write(append(line, '\n'))
	}
	out, err := t.run(ctx, stdin.Bytes(), t.withThreads([]string{"many"}))
	if err != nil {
		return nil, err
	}
	var all [][]json.RawMessage
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var answers []json.RawMessage
		if err := d.Decode(&answers); err != nil {
			return nil, fmt.Errorf("torch_gpt.py many: %w", err)
		}
		all = append(all, answers)
	}
	if len(all) != len(commands) {
		return nil, fmt.Errorf("torch_gpt.py many: %d answers to %d commands", len(all), len(commands))
	}
	return all, nil
}

func (t *Torch) withThreads(args []string) []string {
	if t.Threads == 0 {
		return args
	}
	return append(args[:len(args):len(args)], "--threads", strconv.Itoa(t.Threads))
}

func (t *Torch) run(ctx context.Context, stdin []byte, args []string) ([]byte, error) {
	c := exec.CommandContext(ctx, t.Python, append([]string{"-c", script}, args...)...)
	var complaint bytes.Buffer
	c.Stdin, c.Stderr = bytes.NewReader(stdin), &complaint
	out, err := c.Output()
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	lines := strings.Split(strings.TrimSpace(complaint.String()), "\n")
	if last := lines[len(lines)-1]; last != "" {
		err = errors.New(last)
	}
	return nil, fmt.Errorf("%s torch_gpt.py %s: %w", t.Python, strings.Join(args, " "), err)
}
