package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hasten/hub"
	"hasten/hub/digest"
	"hasten/hub/state"
)

// passwordEnv names the environment variable that may hold the page's password.
const passwordEnv = "HASTEN_PASSWORD"

// shortestPassword is the fewest characters of a password: others can try.
const shortestPassword = 12

type serveFlags struct {
	addr, runs, state, passwordFile, digest string
}

func serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the page: the catalogue, what was measured, and training runs, live",
		Long: `Serve the page: search the catalogue of speed-ups, see what was measured of each beside what it claims, measure it on
this machine, and watch training runs while they run.

On an address that others can reach it asks for a password, from --password-file or ` + passwordEnv + `. It speaks HTTP: put a
server that speaks HTTPS before it where the network is not trusted.`,
		Example: `  hasten serve
  hasten serve --addr 127.0.0.1:9000 --runs ~/models
  hasten serve --addr :8080 --password-file ~/.hasten-password`,
		Args: cobra.NoArgs,
	}
	fl := c.Flags()
	fl.StringVar(&f.addr, "addr", "127.0.0.1:8080", "address to listen on")
	fl.StringVar(&f.runs, "runs", runsDir, "directory of training runs")
	fl.StringVar(&f.state, "state", "", "file for what is remembered (default: hasten/hub.db in the user's configuration)")
	fl.StringVar(&f.passwordFile, "password-file", "", "file whose first line is the password that visitors must give")
	fl.StringVar(&f.digest, "digest", "", "configuration of the daily mail: fetch papers, take subscriptions and send (see hasten digest)")
	c.RunE = func(c *cobra.Command, _ []string) error { return serve(c, &f) }
	return c
}

func serve(c *cobra.Command, f *serveFlags) error {
	password, err := f.password()
	if err != nil {
		return usageError{err}
	}
	public := !hub.Loopback(f.addr)
	if public && password == "" {
		return usageError{fmt.Errorf("others can reach %s, so visitors need a password: give one with --password-file or %s, or listen on 127.0.0.1", f.addr, passwordEnv)}
	}
	var daily digest.Config
	if f.digest != "" {
		if daily, err = digest.Load(f.digest); err != nil {
			return usageError{err}
		}
	}
	if f.state, err = stateFile(f.state); err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --addr", err)
	}
	defer l.Close()
	db, err := state.Open(f.state)
	if err != nil {
		return err
	}
	abstracts, err := digest.Abstracts(c.Context(), db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	s, err := hub.New(hub.Options{Papers: hub.Papers(), Texts: abstracts, Runs: f.runs, State: db, Measure: hub.Reproduce, Password: password, Public: public})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	end := func() error { return nil }
	if f.digest != "" {
		if end, err = mountDigest(c.Context(), s, daily, db); err != nil {
			return errors.Join(err, s.Close(), db.Close())
		}
	}
	fmt.Fprintf(os.Stderr, "The page is at http://%s/\nCtrl-C ends it.\n", l.Addr())
	return errors.Join(s.Serve(c.Context(), l), end(), db.Close())
}

// mountDigest adds the daily mail to the page and starts to send it. end stops
// it: a mail that is on its way is brought to its end.
func mountDigest(ctx context.Context, s *hub.Server, config digest.Config, db *state.DB) (end func() error, err error) {
	d, err := digest.Open(ctx, config, db, digest.Options{})
	if err != nil {
		return nil, err
	}
	s.Mount(digest.Path, "Daily papers", d.Handler(s.Page))
	s.Tokened(digest.Tokened...)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() error {
		cancel()
		return errors.Join(<-done, d.Close())
	}, nil
}

// password is the one visitors must give, "" for none.
func (f *serveFlags) password() (string, error) {
	password, from := os.Getenv(passwordEnv), passwordEnv
	if f.passwordFile != "" {
		text, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return "", err
		}
		password, _, _ = strings.Cut(string(text), "\n")
		password, from = strings.TrimSuffix(password, "\r"), f.passwordFile
		if password == "" {
			return "", fmt.Errorf("%s: the first line is empty", from)
		}
	}
	if n := len([]rune(password)); password != "" && n < shortestPassword {
		return "", fmt.Errorf("the password in %s has %d characters; it needs %d", from, n, shortestPassword)
	}
	return password, nil
}
