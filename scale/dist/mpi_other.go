//go:build !mpi

package dist

import "errors"

// RunMPI calls f on this process's rank of an Open MPI job. This program was
// built without Open MPI, and it fails.
func RunMPI(func(c *Comm) error) error {
	return errors.New("this program was built without Open MPI: build it with -tags mpi, which needs cgo and libopenmpi-dev")
}
