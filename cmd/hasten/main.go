// Command hasten trains neural networks fast on ordinary CPUs.
//
// `hasten train` with no arguments is the main job: a small GPT on the Go
// toolchain's own source.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"hasten/engine/simd"
)

// Exit statuses.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// usageError is an error in how the command was called.
type usageError struct{ error }

// errInterrupted ends a command that Ctrl-C stopped in good order.
var errInterrupted = errors.New("interrupted")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { // a second Ctrl-C ends the process at once
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string) (status int) {
	defer func() {
		if v := recover(); v != nil {
			fmt.Fprintf(os.Stderr, "hasten: internal error: %v\nThis is a defect of hasten; please report it with the command line.\n", v)
			status = exitFailure
		}
	}()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "hasten: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(os.Stderr, "hasten: %v\n", err)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	return exitFailure
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "hasten",
		Short:         "Train neural networks fast on ordinary CPUs",
		Long:          "hasten trains neural networks fast on ordinary CPUs.\n\nStart with `hasten train`: it trains a small GPT on the Go toolchain's own source.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if err := simd.Err(); err != nil {
				return usageError{err}
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		trainCommand(), sampleCommand(), evalCommand(), exportCommand(),
		textCommand(), tabularCommand(), dataCommand(), partsCommand(), planCommand(), benchCommand(), doctorCommand(),
		papersCommand(), reproduceCommand(), compareCommand(), serveCommand(), digestCommand(), versionCommand(),
	)
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	wrapArgs(root)
	return root
}

// wrapArgs makes wrong arguments of c and of its subcommands usage errors.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%w; see hasten %s --help", err, c.Name())}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}
