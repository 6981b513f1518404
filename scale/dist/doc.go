// Package dist trains one model on several ranks: goroutines of one process, or
// processes under Open MPI (build tag mpi).
//
// A Comm is what a rank holds of the others. Sums go round a ring in an order
// that depends on nothing but the sizes, so both engines give the same bits, and
// a Meter counts every byte:
//
//	err := dist.Run(4, func(c *dist.Comm) error {
//		return dist.AllReduce(c, gradient) // the sum over four goroutines
//	})
//
// Above it stands Zero, which makes any loop.Loop train on all ranks: plain
// data parallelism (stage 0), or with the optimiser's states, the gradients and
// the weights spread over the ranks (stages 1 to 3). Every rank builds the same
// loop over its own replica and its own part of the data, and then:
//
//	err := dist.Train(ctx, c, loop, dist.Options{Stage: 2})
//
// Rank 0 runs the loop, with all its hooks, evaluations and checkpoints; the
// other ranks follow it. Activations splits saved activations over ranks that
// compute the same.
package dist
