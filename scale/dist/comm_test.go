package dist

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// values are those of a rank: with fractions that make sums depend on their order.
func values(rank, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.Sin(float64(1+rank*7919+i*31))) * float32(int(1)<<(i%12))
	}
	return x
}

func toBF16(x []float32) []uint16 {
	y := make([]uint16, len(x))
	for i, v := range x {
		b := math.Float32bits(v)
		y[i] = uint16((b + 0x7fff + b>>16&1) >> 16)
	}
	return y
}

func fromBF16(x uint16) float32 { return math.Float32frombits(uint32(x) << 16) }

// ringSum is the documented order of a sum, written out: part r starts at rank
// r+1 and ends at r.
func ringSum[T any](ranks, n int, of func(rank int) []T, plus func(a, b T) T) []T {
	sum := make([]T, n)
	x := make([][]T, ranks)
	for r := range x {
		x[r] = of(r)
	}
	for r := range ranks {
		for i := r * n / ranks; i < (r+1)*n/ranks; i++ {
			s := x[(r+1)%ranks][i]
			for k := 2; k <= ranks; k++ {
				s = plus(s, x[(r+k)%ranks][i])
			}
			sum[i] = s
		}
	}
	return sum
}

// commTests are what both engines must pass. The sizes go with any number of
// ranks: some parts are empty, some uneven.
var commTests = []struct {
	name string
	run  func(c *Comm) error
}{
	{"sums of float32", func(c *Comm) error {
		n, r := c.Size(), c.Rank()
		for _, size := range []int{0, 1, 3, 17, 256, 257, 5003} {
			want := ringSum(n, size, func(r int) []float32 { return values(r, size) }, func(a, b float32) float32 { return a + b })
			all := values(r, size)
			if err := AllReduce(c, all); err != nil {
				return err
			}
			halves := values(r, size)
			mine, err := ReduceScatter(c, halves)
			if err != nil {
				return err
			}
			if !slices.Equal(mine, Part(want, r, n)) {
				return fmt.Errorf("reduce-scatter of %d: %v, want %v", size, mine, Part(want, r, n))
			}
			if err := AllGather(c, halves); err != nil {
				return err
			}
			if !slices.Equal(all, want) || !slices.Equal(halves, want) {
				return fmt.Errorf("sum of %d floats:\nall-reduce     %v\nits two halves %v\nin order       %v", size, all, halves, want)
			}
		}
		return nil
	}},
	{"sums of bfloat16", func(c *Comm) error {
		for _, size := range []int{3, 500, 2500} {
			want := ringSum(c.Size(), size, func(r int) []uint16 { return toBF16(values(r, size)) },
				func(a, b uint16) uint16 { return toBF16([]float32{fromBF16(a) + fromBF16(b)})[0] })
			got := toBF16(values(c.Rank(), size))
			if err := AllReduce(c, got); err != nil {
				return err
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("sum of %d: %v, want %v", size, got, want)
			}
		}
		return nil
	}},
	{"sums of float64", func(c *Comm) error {
		x := []float64{1, float64(c.Rank()), 1e-9}
		if err := AllReduce(c, x); err != nil {
			return err
		}
		n := float64(c.Size())
		if x[0] != n || x[1] != n*(n-1)/2 || math.Abs(x[2]-n*1e-9) > 1e-20 {
			return fmt.Errorf("sums %v", x)
		}
		return nil
	}},
	{"all to all", func(c *Comm) error {
		n, r := c.Size(), c.Rank()
		src, dst := make([]uint64, 3*n), make([]uint64, 3*n)
		for i := range src {
			src[i] = uint64(1000*r + i)
		}
		if err := AllToAll(c, dst, src); err != nil {
			return err
		}
		for i, got := range dst {
			if want := uint64(1000*(i/3) + 3*r + i%3); got != want {
				return fmt.Errorf("element %d is %d, want %d", i, got, want)
			}
		}
		return nil
	}},
	{"broadcast", func(c *Comm) error {
		for root := range c.Size() {
			x := []byte("nothing")
			if c.Rank() == root {
				x = fmt.Appendf(nil, "from %02d", root)
			}
			if err := Bcast(c, x, root); err != nil {
				return err
			}
			if want := fmt.Sprintf("from %02d", root); string(x) != want {
				return fmt.Errorf("%q, want %q", x, want)
			}
		}
		return nil
	}},
	{"messages in order, both ways at once", func(c *Comm) error {
		n, r := c.Size(), c.Rank()
		right, left := (r+1)%n, (r+n-1)%n
		var handles []Handle
		out, in := make([][]float32, 5), make([][]float32, 5)
		for i := range out {
			out[i], in[i] = values(10*r+i, 40+i), make([]float32, 40+i)
			h, err := Send(c, right, out[i])
			if err != nil {
				return err
			}
			handles = append(handles, h)
		}
		for i := range in {
			h, err := Recv(c, left, in[i])
			if err != nil {
				return err
			}
			handles = append(handles, h)
		}
		for _, h := range handles {
			if err := h.Wait(); err != nil {
				return err
			}
		}
		for i := range in {
			if !slices.Equal(in[i], values(10*left+i, 40+i)) {
				return fmt.Errorf("message %d differs", i)
			}
		}
		return nil
	}},
	{"split", func(c *Comm) error {
		n, r := c.Size(), c.Rank()
		half, err := c.Split(r%2, -r) // the other way round
		if err != nil {
			return err
		}
		var members []int
		for m := n - 1; m >= 0; m-- {
			if m%2 == r%2 {
				members = append(members, m)
			}
		}
		if half.Size() != len(members) || members[half.Rank()] != r {
			return fmt.Errorf("rank %d of %d, the members are %v", half.Rank(), half.Size(), members)
		}
		x := []float32{float32(r)}
		if err := AllReduce(half, x); err != nil {
			return err
		}
		sum := 0
		for _, m := range members {
			sum += m
		}
		if x[0] != float32(sum) {
			return fmt.Errorf("the sum over %v is %v", members, x[0])
		}
		return c.Barrier()
	}},
	{"meter", func(c *Comm) error {
		n := int64(c.Size())
		const size = 840 * 8 // divisible by up to 8 ranks
		m := c.Meter()
		m.Reset()
		m.Phase("ring")
		x := make([]float32, size)
		if err := AllReduce(c, x); err != nil {
			return err
		}
		if _, err := ReduceScatter(c, x); err != nil {
			return err
		}
		if err := AllGather(c, x); err != nil {
			return err
		}
		m.Phase("small")
		if err := AllReduce(c, x[:2]); err != nil {
			return err
		}
		m.Phase("")
		const s = 4 * size
		rounds := int64(0)
		for d := int64(1); d < n; d *= 2 {
			rounds++
		}
		for _, want := range []struct {
			op    Op
			phase string
			t     Traffic
		}{
			{OpAllReduce, "ring", Traffic{2 * s * (n - 1) / n, 1, 2 * (n - 1)}},
			{OpReduceScatter, "ring", Traffic{s * (n - 1) / n, 1, n - 1}},
			{OpAllGather, "ring", Traffic{s * (n - 1) / n, 1, n - 1}},
			{OpAllReduce, "small", Traffic{8 * (n - 1), 1, rounds}},
			{OpBcast, "ring", Traffic{}},
		} {
			if got := m.Of(want.op, want.phase); got != want.t {
				return fmt.Errorf("%v of phase %s: %+v, want %+v", want.op, want.phase, got, want.t)
			}
		}
		if got := m.In("ring", "small").Bytes; got != 4*s*(n-1)/n+8*(n-1) {
			return fmt.Errorf("%d bytes in all", got)
		}
		return nil
	}},
}

// runCommTests runs the table on one rank.
func runCommTests(c *Comm) error {
	for _, test := range commTests {
		if err := test.run(c); err != nil {
			return fmt.Errorf("%s: %w", test.name, err)
		}
	}
	return nil
}

func TestLocal(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 8} {
		if err := Run(n, runCommTests); err != nil {
			t.Errorf("%d ranks: %v", n, err)
		}
	}
	if err := Run(0, runCommTests); err == nil {
		t.Error("no ranks, and no error")
	}
}

// A failure on one rank reaches the others wherever they wait, also in groups
// split off, and so does a rank that leaves.
func TestFailure(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		last func(c *Comm) error
		want string
	}{
		{"error", func(*Comm) error { return broken }, "rank 2: broken"},
		{"leaves", func(*Comm) error { return nil }, "has left"},
		{"abort", func(c *Comm) error { c.Abort(broken); return nil }, "broken"},
		{"length", func(c *Comm) error { return AllReduce(c, make([]float32, 900)) }, "bytes where"},
	} {
		err := Run(3, func(comm *Comm) error {
			sub, err := comm.Split(0, 0)
			if err != nil {
				return err
			}
			if comm.Rank() == 2 {
				return c.last(sub)
			}
			return AllReduce(sub, make([]float32, 1000))
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestNoGarbage(t *testing.T) {
	err := Run(2, func(c *Comm) error {
		x, y := make([]float32, 4000), make([]uint16, 4000)
		var failed error
		round := func() {
			_, err := ReduceScatter(c, y)
			failed = errors.Join(failed, err, AllReduce(c, x), AllReduce(c, x[:3]), AllGather(c, y), c.Barrier())
		}
		round()
		if c.Rank() == 1 {
			for range 21 { // AllocsPerRun calls it once more
				round()
			}
			return failed
		}
		if n := testing.AllocsPerRun(20, round); n > 0 {
			return fmt.Errorf("%v allocations", n)
		}
		return failed
	})
	if err != nil {
		t.Error(err)
	}
}

// TestMPI runs the table of both engines under mpirun.
func TestMPI(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a test program with cgo")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "dist.test")
	lack := func(what string, out []byte, err error) {
		if os.Getenv("HASTEN_FULL") == "1" {
			t.Fatalf("%s: %v\n%s", what, err, out)
		}
		t.Skipf("%s: %v", what, err)
	}
	mpirun, err := exec.LookPath("mpirun")
	if err != nil {
		lack("no Open MPI", nil, err)
	}
	build := exec.Command("go", "test", "-c", "-tags", "mpi", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		lack("building with -tags mpi", out, err)
	}
	for _, n := range []string{"2", "3"} {
		run := exec.Command(mpirun, "--allow-run-as-root", "--oversubscribe", "-n", n, program, "-test.run", "^TestUnderMPI$", "-test.v")
		run.Env = append(os.Environ(), underMPI+"=1", "OMPI_MCA_mpi_yield_when_idle=1")
		out, err := run.CombinedOutput()
		if err != nil || strings.Count(string(out), "--- PASS: TestUnderMPI") != int(n[0]-'0') {
			t.Errorf("%s ranks: %v\n%s", n, err, out)
		}
	}
}

// underMPI names the variable that tells TestUnderMPI that mpirun has started it.
const underMPI = "HASTEN_TEST_UNDER_MPI"

func TestUnderMPI(t *testing.T) {
	if os.Getenv(underMPI) == "" {
		t.Skip("TestMPI runs it")
	}
	if err := RunMPI(runCommTests); err != nil {
		t.Error(err)
	}
}
