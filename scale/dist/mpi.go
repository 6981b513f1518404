//go:build mpi

package dist

// #cgo pkg-config: ompi-c
// #include <mpi.h>
//
// // The macros of mpi.h are out of cgo's reach.
// static MPI_Comm world(void) { return MPI_COMM_WORLD; }
// static int send(const void *b, int n, int to, MPI_Comm c, MPI_Request *r) { return MPI_Isend(b, n, MPI_BYTE, to, 0, c, r); }
// static int receive(void *b, int n, int from, MPI_Comm c, MPI_Request *r) { return MPI_Irecv(b, n, MPI_BYTE, from, 0, c, r); }
// static int await(MPI_Request *r, int *n) {
// 	MPI_Status s;
// 	int err = MPI_Wait(r, &s);
// 	return err ? err : MPI_Get_count(&s, MPI_BYTE, n);
// }
// static void errors_return(MPI_Comm c) { MPI_Comm_set_errhandler(c, MPI_ERRORS_RETURN); }
import "C"

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"unsafe"

	"hasten/engine/memory"
)

// RunMPI calls f on this process's rank of an Open MPI job: the program is
// started by mpirun -n N. It is called once in a program. When f fails, all
// processes of the job are ended.
func RunMPI(f func(c *Comm) error) error {
	var level C.int
	if err := check(C.MPI_Init_thread(nil, nil, C.MPI_THREAD_SERIALIZED, &level)); err != nil {
		return err
	}
	if level < C.MPI_THREAD_SERIALIZED {
		return fmt.Errorf("dist: this Open MPI was built without threads")
	}
	l, err := newMPI(C.world())
	if err != nil {
		return err
	}
	if err := f(newComm(l)); err != nil {
		l.abort(err)
	}
	return check(C.MPI_Finalize())
}

// mpi is the engine of Open MPI. Its calls come from one goroutine, which may
// be on one thread now and on another then; MPI_THREAD_SERIALIZED allows it.
type mpi struct {
	comm     C.MPI_Comm
	me, many C.int
}

var _ link = (*mpi)(nil)

func newMPI(comm C.MPI_Comm) (*mpi, error) {
	l := &mpi{comm: comm}
	C.errors_return(comm)
	if err := check(C.MPI_Comm_rank(comm, &l.me)); err != nil {
		return nil, err
	}
	return l, check(C.MPI_Comm_size(comm, &l.many))
}

func (l *mpi) rank() int { return int(l.me) }
func (l *mpi) size() int { return int(l.many) }

// request is a message under way. Until it has gone, its buffer is pinned, since
// MPI holds on to it between calls.
type request struct {
	r     C.MPI_Request
	pin   runtime.Pinner
	n     int
	b     []byte // to receive into
	sum   kind
	space []byte // where what is to be added arrives
}

func (l *mpi) send(to int, b []byte) (Handle, error) {
	q := &request{n: len(b)}
	p, err := q.buffer(b)
	if err != nil {
		return nil, err
	}
	return q, check(C.send(p, C.int(len(b)), C.int(to), l.comm, &q.r))
}

func (l *mpi) receive(from int, b []byte, sum kind) (Handle, error) {
	q := &request{n: len(b), b: b, sum: sum}
	if sum != none {
		q.space = memory.Default.Bytes(memory.Workspace, len(b))
		b = q.space
	}
	p, err := q.buffer(b)
	if err != nil {
		return nil, err
	}
	return q, check(C.receive(p, C.int(len(b)), C.int(from), l.comm, &q.r))
}

func (q *request) buffer(b []byte) (unsafe.Pointer, error) {
	if len(b) > math.MaxInt32 {
		return nil, fmt.Errorf("dist: a message of %d bytes; MPI takes at most %d: use smaller buckets", len(b), math.MaxInt32)
	}
	q.pin.Pin(q)
	p := unsafe.Pointer(unsafe.SliceData(b))
	if p != nil {
		q.pin.Pin(unsafe.SliceData(b))
	}
	return p, nil
}

// Wait waits for the message.
func (q *request) Wait() error {
	var n C.int
	err := check(C.await(&q.r, &n))
	q.pin.Unpin()
	if err == nil && q.b != nil && int(n) != q.n {
		err = fmt.Errorf("dist: a message of %d bytes where %d are expected", n, q.n)
	}
	if q.space != nil {
		if err == nil {
			add(q.b, q.space, q.sum)
		}
		memory.Default.FreeBytes(memory.Workspace, q.space)
	}
	return err
}

func (l *mpi) split(_, _ int, members []int) (link, error) {
	var comm C.MPI_Comm
	at := 0
	for i, m := range members {
		if m == int(l.me) {
			at = i
		}
	}
	if err := check(C.MPI_Comm_split(l.comm, C.int(members[0]), C.int(at), &comm)); err != nil {
		return nil, err
	}
	return newMPI(comm)
}

func (l *mpi) abort(err error) {
	fmt.Fprintf(os.Stderr, "rank %d: %v\n", l.me, err)
	C.MPI_Abort(l.comm, 1)
}

func check(code C.int) error {
	if code == C.MPI_SUCCESS {
		return nil
	}
	var text [C.MPI_MAX_ERROR_STRING]C.char
	var n C.int
	C.MPI_Error_string(code, &text[0], &n)
	return fmt.Errorf("Open MPI: %s", C.GoStringN(&text[0], n))
}
