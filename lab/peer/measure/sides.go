package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"hasten/lab/peer"
)

// sides are the two programs that are compared.
type sides struct {
	hasten  string // the binary
	torch   *peer.Torch
	threads int
	dir     string // of temporary files
}

// newSides builds hasten, if no binary is named, and finds PyTorch.
func newSides(ctx context.Context, hasten string, threads int) (*sides, error) {
	if threads == 0 {
		threads = runtime.NumCPU()
	}
	torch, err := peer.Find(ctx)
	if err != nil {
		return nil, err
	}
	torch.Threads = threads
	dir, err := os.MkdirTemp("", "hasten-measure-")
	if err != nil {
		return nil, err
	}
	s := &sides{hasten, torch, threads, dir}
	if hasten == "" {
		s.hasten = filepath.Join(dir, "hasten")
		build := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-o", s.hasten, "hasten/cmd/hasten")
		if out, err := build.CombinedOutput(); err != nil {
			s.close()
			return nil, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	return s, nil
}

func (s *sides) close() { os.RemoveAll(s.dir) }

// run runs hasten and returns its standard output.
func (s *sides) run(ctx context.Context, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, s.hasten, args...)
	var complaint bytes.Buffer
	c.Stderr = &complaint
	out, err := c.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("hasten %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out, nil
}

// host is what results depend on.
type host struct {
	CPU      string       `json:"cpu"`
	Cores    int          `json:"cores"`
	Threads  int          `json:"threads"`  // of both sides
	Platform string       `json:"platform"` // such as linux/amd64
	Hasten   string       `json:"hasten"`   // version and kernels
	Go       string       `json:"go"`
	Peer     peer.Version `json:"peer"`
	Date     time.Time    `json:"date"`
	Load     float64      `json:"load"` // mean number of running processes in the minute before; -1: unknown
}

// host describes this machine, and warns if it is busy.
func (s *sides) host(ctx context.Context) (*host, error) {
	out, err := s.run(ctx, "version", "--json")
	if err != nil {
		return nil, err
	}
	var v struct{ Version, Revision, Go, Platform, SIMD string }
	if err := json.Unmarshal(out, &v); err != nil {
		return nil, fmt.Errorf("hasten version: %w", err)
	}
	h := &host{
		CPU: processor(), Cores: runtime.NumCPU(), Threads: s.threads, Platform: v.Platform,
		Hasten: fmt.Sprintf("%s, kernels %s", v.Version, v.SIMD), Go: v.Go, Peer: s.torch.Version,
		Date: time.Now().UTC().Truncate(time.Second), Load: load(),
	}
	h.Peer.Threads = s.threads
	if h.Load > 0.3 {
		fmt.Fprintf(os.Stderr, "Warning: the machine was busy in the last minute (load %.1f). Both sides, and PyTorch's BLAS above all, are slowed by what runs beside them.\n", h.Load)
	}
	return h, nil
}

// processor is the name of the CPU, where the system tells.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// load is the load average of the last minute, -1 where the system does not tell.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	first, _, _ := strings.Cut(string(text), " ")
	l, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return l
}
