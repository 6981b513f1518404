package dist

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// Element is what messages are made of. uint16 stands for bfloat16.
type Element interface {
	byte | uint16 | uint64 | float32 | float64
}

// Number is an Element that can be summed. uint16 is bfloat16: two numbers are
// added in float32 and the sum is rounded to the nearest, ties to even.
type Number interface {
	uint16 | float32 | float64
}

// Handle is a message under way.
type Handle interface {
	// Wait returns when the message has been sent or received. Its buffer must
	// be left alone until then. Wait is called once.
	Wait() error
}

// Comm is one rank's end of a group of ranks 0 … Size-1. It is for one
// goroutine. All ranks must call the collective operations in the same order,
// with the same sizes.
//
// An error means that another rank has failed or left; the group is then of no
// further use.
type Comm struct {
	link   link
	meter  *Meter
	splits int    // calls of Split so far
	space  []byte // of small sums
}

// link is an engine: messages between the ranks of a group, which arrive in the
// order they were sent.
type link interface {
	rank() int
	size() int
	send(to int, b []byte) (Handle, error)
	// receive takes b bytes; with a sum other than none it adds them to b.
	receive(from int, b []byte, sum kind) (Handle, error)
	// split returns the group of the given members, of which this rank is one:
	// the number-th split, the part of the given color.
	split(number, color int, members []int) (link, error)
	// abort makes all ranks fail with the error.
	abort(err error)
}

func newComm(l link) *Comm { return &Comm{link: l, meter: newMeter()} }

// Rank is the number of this rank.
func (c *Comm) Rank() int { return c.link.rank() }

// Size is the number of ranks.
func (c *Comm) Size() int { return c.link.size() }

// Meter counts what this rank sends, also through the groups split from c.
func (c *Comm) Meter() *Meter { return c.meter }

// Abort makes every operation of all ranks fail with an error; under MPI it
// ends the processes.
func (c *Comm) Abort(err error) { c.link.abort(err) }

// Split makes groups of the ranks that give the same color, ordered by key and
// then by rank. All ranks must call it.
func (c *Comm) Split(color, key int) (*Comm, error) {
	type member struct{ color, key, rank int }
	all := make([]uint64, 2*c.Size())
	all[2*c.Rank()], all[2*c.Rank()+1] = uint64(color), uint64(key)
	if err := AllGather(c, all); err != nil {
		return nil, err
	}
	var same []member
	for r := range c.Size() {
		if m := (member{int(all[2*r]), int(all[2*r+1]), r}); m.color == color {
			same = append(same, m)
		}
	}
	slices.SortStableFunc(same, func(a, b member) int { return cmp.Compare(a.key, b.key) })
	ranks := make([]int, len(same))
	for i, m := range same {
		ranks[i] = m.rank
	}
	c.splits++
	l, err := c.link.split(c.splits, color, ranks)
	if err != nil {
		return nil, err
	}
	return &Comm{link: l, meter: c.meter}, nil
}

// Send begins to send x to a rank, and Recv to receive from one what it sends,
// of the same length. Messages between two ranks arrive in order.
func Send[T Element](c *Comm, to int, x []T) (Handle, error) {
	c.meter.begin(OpSend)
	return c.send(to, raw(x).b)
}

// Recv begins to receive into x what a rank sends: see Send.
func Recv[T Element](c *Comm, from int, x []T) (Handle, error) {
	return c.link.receive(from, raw(x).b, none)
}

// Part is the part of x that a rank has in ReduceScatter and AllGather: elements
// ⌊rank·n/ranks⌋ up to ⌊(rank+1)·n/ranks⌋.
func Part[T any](x []T, rank, ranks int) []T {
	return x[rank*len(x)/ranks : (rank+1)*len(x)/ranks]
}

// AllReduce replaces x on every rank by the sum over the ranks. It gives, to the
// bit, what ReduceScatter and AllGather give. A rank sends 2S(N-1)/N bytes in
// 2(N-1) messages, or for x of at most SmallMessage bytes S(N-1) in ⌈log₂N⌉.
func AllReduce[T Number](c *Comm, x []T) error {
	c.meter.begin(OpAllReduce)
	return c.allReduce(raw(x))
}

// ReduceScatter returns this rank's Part of the sum of x over the ranks. It lies
// in x, of which the rest is overwritten. A rank sends S(N-1)/N bytes.
//
// The sum is formed on its way round a ring: part r is
// (((x of rank r+1) + x of r+2) + …) + x of r.
func ReduceScatter[T Number](c *Comm, x []T) ([]T, error) {
	c.meter.begin(OpReduceScatter)
	return Part(x, c.Rank(), c.Size()), c.reduceScatter(raw(x))
}

// AllGather fills x on every rank with the Parts of all ranks, of which it has
// its own in place. A rank sends S(N-1)/N bytes.
func AllGather[T Element](c *Comm, x []T) error {
	c.meter.begin(OpAllGather)
	return c.allGather(raw(x))
}

// AllToAll sends block r of src to rank r and sets block r of dst to what rank r
// sends, for blocks of equal length. dst and src must not overlap.
func AllToAll[T Element](c *Comm, dst, src []T) error {
	if len(dst) != len(src) || len(src)%c.Size() != 0 {
		panic(fmt.Sprintf("dist: AllToAll of %d elements into %d on %d ranks", len(src), len(dst), c.Size()))
	}
	c.meter.begin(OpAllToAll)
	return c.allToAll(raw(dst), raw(src))
}

// Bcast copies x of the root to all ranks, along a binomial tree.
func Bcast[T Element](c *Comm, x []T, root int) error {
	c.meter.begin(OpBcast)
	return c.broadcast(raw(x).b, root)
}

// Barrier returns when all ranks have called it.
func (c *Comm) Barrier() error {
	c.meter.begin(OpBarrier)
	return c.barrier()
}

// kind says how bytes are summed.
type kind uint8

const (
	none kind = iota
	bf16
	f32
	f64
)

// data is elements as bytes.
type data struct {
	b    []byte
	size int // bytes of an element
	sum  kind
}

func raw[T Element](x []T) data {
	var e T
	d := data{size: int(unsafe.Sizeof(e))}
	switch any(e).(type) {
	case uint16:
		d.sum = bf16
	case float32:
		d.sum = f32
	case float64:
		d.sum = f64
	}
	d.b = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*d.size)
	return d
}

// typed is bytes as elements, where raw has been before.
func typed[T Element](b []byte) []T {
	var e T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(e)))
}

// part is Part in bytes.
func (d data) part(rank, ranks int) []byte {
	n := len(d.b) / d.size
	return d.b[rank*n/ranks*d.size : (rank+1)*n/ranks*d.size]
}

// send begins a message that counts.
func (c *Comm) send(to int, b []byte) (Handle, error) {
	if to < 0 || to >= c.Size() {
		panic(fmt.Sprintf("dist: a message to rank %d of %d", to, c.Size()))
	}
	c.meter.message(len(b))
	return c.link.send(to, b)
}

// exchange sends to one rank while it receives from another.
func (c *Comm) exchange(to int, out []byte, from int, in []byte, sum kind) error {
	s, err := c.send(to, out)
	if err != nil {
		return err
	}
	r, err := c.link.receive(from, in, sum)
	if err != nil {
		return err
	}
	return errors.Join(s.Wait(), r.Wait())
}
