package dist

import "hasten/engine/part"

// Plan says over how many ranks a run is spread, and how.
type Plan interface {
	Ranks() int
	Options() Options // for New; its arena is left open
}

// Single is a run on one rank, without any of this.
type Single struct{}

// Ranks is 1.
func (*Single) Ranks() int { return 1 }

// Options are the defaults.
func (*Single) Options() Options { return Options{} }

// DataParallel keeps whole model states on every rank.
type DataParallel struct {
	N      int     `set:"ranks" range:"[1,1024]" help:"ranks; each computes its part of every batch"`
	Bucket float64 `set:"bucket" range:"(0,1024]" help:"MiB of bfloat16 gradient that are summed together"`
}

// Ranks is N.
func (p *DataParallel) Ranks() int { return p.N }

// Options are those of stage 0.
func (p *DataParallel) Options() Options { return Options{Bucket: bucketOf(p.Bucket)} }

// Sharded spreads model states over the ranks, by a stage of ZeRO.
type Sharded struct {
	Stage int `set:"stage" range:"[1,3]" help:"what is spread: 1 the optimiser's states, 2 gradients too, 3 weights too"`
	DataParallel
}

// Options are those of the stage.
func (p *Sharded) Options() Options { return Options{Stage: p.Stage, Bucket: bucketOf(p.Bucket)} }

// bucketOf is the number of bfloat16 elements in so many MiB.
func bucketOf(mib float64) int { return max(1, int(mib*(1<<20)/2)) }

// Parts are the ways to spread a run over ranks, the default first.
var Parts = part.Table[Plan]{
	Seam: "dist",
	Help: "ranks that train one model together",
	Parts: []part.Part[Plan]{
		{Name: "none", Help: "one rank", New: func() Plan { return &Single{} }},
		{Name: "ddp", Help: "data-parallel mixed-precision Adam: every rank holds all weights, gradients and states",
			New: func() Plan { return &DataParallel{N: 2, Bucket: 4} }},
		{Name: "zero", Paper: "zero", Help: "data-parallel, with states, gradients and weights spread over the ranks",
			New: func() Plan { return &Sharded{Stage: 2, DataParallel: DataParallel{N: 2, Bucket: 4}} }},
	},
}
