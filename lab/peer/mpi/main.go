// Command mpi times all-reduces of two goroutine ranks and, beside them, of two
// processes under Open MPI, and makes sure that both give the same bits:
//
//	go run ./lab/peer/mpi > lab/peer/results/mpi.json
//
// It builds itself once more with -tags mpi, which needs cgo, libopenmpi-dev and
// mpirun.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
	"unsafe"

	"hasten/lab/result"
	"hasten/scale/dist"
)

// ranks is two: as many as the smallest machine has cores for.
const ranks = 2

// sizes are of the summed vector, in bytes of float32.
var sizes = []int{64, 1 << 10, 32 << 10, 1 << 20, 16 << 20}

// rounds is how often each size is measured; a round is several all-reduces.
const rounds = 15

// Timing is what an engine takes for one all-reduce.
type Timing struct {
	Bytes  int     `json:"bytes"`
	Median float64 `json:"median_seconds"`
	Best   float64 `json:"best_seconds"`
	Hash   string  `json:"hash"` // of the sum
}

// Report is the file of results.
type Report struct {
	Host   result.Host `json:"host"`
	Date   time.Time   `json:"date"`
	MPI    string      `json:"mpi"`
	Ranks  int         `json:"ranks"`
	Local  []Timing    `json:"goroutines"`
	Remote []Timing    `json:"open_mpi"`
}

func main() {
	under := flag.Bool("under-mpirun", false, "be one rank of a job that mpirun has started")
	flag.Parse()
	run := compare
	if *under {
		run = func() error { return dist.RunMPI(print) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mpi:", err)
		os.Exit(1)
	}
}

// print measures this rank's engine; rank 0 writes what it found.
func print(c *dist.Comm) error {
	all, err := measure(c)
	if err != nil || c.Rank() > 0 {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

// measure times all-reduces of every size.
func measure(c *dist.Comm) ([]Timing, error) {
	var all []Timing
	for _, size := range sizes {
		x := make([]float32, size/4)
		fill := func() {
			for i := range x {
				x[i] = float32(math.Sin(float64(i*31 + c.Rank()*7919)))
			}
		}
		fill()
		if err := dist.AllReduce(c, x); err != nil {
			return nil, err
		}
		h := fnv.New64a()
		h.Write(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), size))
		fill()
		repeat := min(200, max(2, (8<<20)/size))
		var seconds []float64
		for range rounds {
			if err := c.Barrier(); err != nil {
				return nil, err
			}
			begin := time.Now()
			for range repeat {
				if err := dist.AllReduce(c, x); err != nil {
					return nil, err
				}
			}
			seconds = append(seconds, time.Since(begin).Seconds()/float64(repeat))
			fill() // else the sums grow without end
		}
		slices.Sort(seconds)
		all = append(all, Timing{size, seconds[len(seconds)/2], seconds[0], fmt.Sprintf("%016x", h.Sum64())})
	}
	return all, nil
}

// compare measures both engines.
func compare() error {
	r := Report{Host: result.ThisHost(), Date: time.Now().UTC().Truncate(time.Second), Ranks: ranks}
	err := dist.Run(ranks, func(c *dist.Comm) error {
		all, err := measure(c)
		if c.Rank() == 0 {
			r.Local = all
		}
		return err
	})
	if err != nil {
		return err
	}
	version, err := exec.Command("mpirun", "--version").Output()
	if err != nil {
		return fmt.Errorf("no Open MPI (apt install libopenmpi-dev): %w", err)
	}
	fmt.Sscanf(string(version), "mpirun (Open MPI) %s", &r.MPI)
	if r.Remote, err = underMPI(); err != nil {
		return err
	}
	for i := range r.Local {
		if r.Local[i].Hash != r.Remote[i].Hash {
			return fmt.Errorf("the sums of %d bytes differ: %s and %s", r.Local[i].Bytes, r.Local[i].Hash, r.Remote[i].Hash)
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(r)
}

// underMPI builds this program for Open MPI and runs it.
func underMPI() (all []Timing, err error) {
	dir, err := os.MkdirTemp("", "hasten-mpi")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "mpi")
	build := exec.Command("go", "build", "-tags", "mpi", "-o", program, "hasten/lab/peer/mpi")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=1"), os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building with -tags mpi: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	job := exec.CommandContext(ctx, "mpirun", "--allow-run-as-root", "--oversubscribe", "-n", fmt.Sprint(ranks), program, "-under-mpirun")
	job.Stderr = os.Stderr
	out, err := job.Output()
	if err != nil {
		return nil, fmt.Errorf("mpirun: %w", err)
	}
	return all, json.Unmarshal(out, &all)
}
