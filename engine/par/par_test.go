package par

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

type countArgs struct{ hits []atomic.Int32 }

var countLoop Loop[countArgs]

func count(c *countArgs, i int) { c.hits[i].Add(1) }

func TestEveryPieceRunsOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, width := range []int{1, 2, 3, 8} {
		runtime.GOMAXPROCS(width)
		for _, n := range []int{0, 1, 2, 3, 7, 64, 1000} {
			for range 50 {
				hits := make([]atomic.Int32, n)
				countLoop.Run(n, countArgs{hits}, count)
				for i := range hits {
					if got := hits[i].Load(); got != 1 {
						t.Fatalf("width %d, n %d: piece %d ran %d times", width, n, i, got)
					}
				}
			}
		}
	}
}

type nestArgs struct{ hits []atomic.Int32 }

var nestLoop Loop[nestArgs]

func TestNestedAndConcurrentRuns(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			hits := make([]atomic.Int32, 12)
			nestLoop.Run(4, nestArgs{hits}, func(a *nestArgs, i int) {
				countLoop.Run(3, countArgs{a.hits[3*i : 3*i+3]}, count)
			})
			for i := range hits {
				if hits[i].Load() != 1 {
					t.Errorf("piece %d ran %d times", i, hits[i].Load())
				}
			}
		}()
	}
	wg.Wait()
}

func TestPanicReachesTheCaller(t *testing.T) {
	defer func() {
		if v := recover(); v != "broken" {
			t.Fatalf("recovered %v", v)
		}
	}()
	countLoop.Run(5, countArgs{}, func(_ *countArgs, i int) {
		if i == 3 {
			panic("broken")
		}
	})
}

func TestNoAllocationAfterTheFirstRun(t *testing.T) {
	hits := make([]atomic.Int32, 64)
	run := func() { countLoop.Run(64, countArgs{hits}, count) }
	for range 100 {
		run()
	}
	if a := testing.AllocsPerRun(200, run); a > 0 {
		t.Errorf("%v allocations per run", a)
	}
}

func BenchmarkLoop(b *testing.B) {
	hits := make([]atomic.Int32, 4)
	for b.Loop() {
		countLoop.Run(4, countArgs{hits}, count)
	}
}
