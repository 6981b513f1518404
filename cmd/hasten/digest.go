package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hasten/hub/digest"
	"hasten/hub/state"
)

type digestFlags struct {
	config, state string
}

func digestCommand() *cobra.Command {
	var f digestFlags
	c := &cobra.Command{
		Use:   "digest",
		Short: "Trending papers by mail, once a day",
		Long: `Trending papers by mail, once a day: new papers from arXiv and Hugging Face, ranked by votes, age and each reader's topics.

fetch and preview work without a configuration. To send, give a TOML file with --config:

  page = "https://hasten.example.org"   # where readers reach hasten serve
  [mail]
  host = "smtp.example.org"             # port 587, STARTTLS
  user = "digest"                       # the password is in HASTEN_SMTP_PASSWORD
  from = "hasten <digest@example.org>"

All settings are in the documentation of package hub/digest, type Config. Readers subscribe on the page: hasten serve --digest CONFIG
shows it and also sends; hasten digest run sends without the page.`,
		Args: cobra.NoArgs,
	}
	c.PersistentFlags().StringVar(&f.config, "config", "", "TOML file with feeds and mail server")
	c.PersistentFlags().StringVar(&f.state, "state", "", "file for what is remembered (default: hasten/hub.db in the user's configuration)")
	c.AddCommand(f.fetch(), f.preview(), f.send(), f.run(), f.subscribers())
	return c
}

// with opens the digest for a command.
func (f *digestFlags) with(ctx context.Context, do func(*digest.Digest) error) (err error) {
	config := digest.Default()
	if f.config != "" {
		if config, err = digest.Load(f.config); err != nil {
			return usageError{err}
		}
	}
	path, err := stateFile(f.state)
	if err != nil {
		return err
	}
	db, err := state.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	d, err := digest.Open(ctx, config, db, digest.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return do(d)
}

// stateFile is where the page and the digest keep what they must remember.
func stateFile(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("%w; name a file with --state", err)
	}
	return filepath.Join(config, "hasten", "hub.db"), nil
}

func (f *digestFlags) fetch() *cobra.Command {
	c := &cobra.Command{Use: "fetch", Short: "Fetch new papers from the feeds whose time has come", Args: cobra.NoArgs}
	asJSON := addJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return f.with(c.Context(), func(d *digest.Digest) error {
			fetched, err := d.Fetch(c.Context())
			if err != nil {
				return err
			}
			failed := 0
			for _, g := range fetched {
				if g.State == digest.Failed {
					failed++
				}
			}
			if *asJSON {
				err = printJSON(fetched)
			} else {
				printFetched(fetched)
			}
			if err == nil && failed > 0 && failed == len(fetched) {
				err = errors.New("no feed could be read")
			}
			return err
		})
	}
	return c
}

func printFetched(fetched []digest.Fetched) {
	for _, g := range fetched {
		next := g.Next.Local().Format("15:04")
		switch g.State {
		case digest.Got:
			fmt.Printf("%s: %d papers, %d new\n", g.Feed, g.Papers, g.New)
		case digest.Unchanged:
			fmt.Printf("%s: nothing new\n", g.Feed)
		case digest.Waiting:
			fmt.Printf("%s: visited a little while ago; next from %s\n", g.Feed, next)
		case digest.Failed:
			fmt.Fprintf(os.Stderr, "%s: %s; next from %s\n", g.Feed, g.Err, next)
		}
		for _, p := range g.Problems {
			fmt.Fprintf(os.Stderr, "%s: %s: left out: %s\n", p.Feed, p.Entry, p.What)
		}
	}
}

func (f *digestFlags) preview() *cobra.Command {
	var topics []string
	n := 12
	c := &cobra.Command{Use: "preview", Short: "Show what a reader would get now", Args: cobra.NoArgs,
		Example: "  hasten digest preview\n  hasten digest preview --topics 'efficient training, quantisation'"}
	c.Flags().StringSliceVar(&topics, "topics", nil, "topics, with commas between them; none for whatever is trending")
	c.Flags().IntVarP(&n, "number", "n", n, "papers to show")
	asJSON := addJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if n < 1 {
			return usageError{fmt.Errorf("--number %d: give 1 or more", n)}
		}
		return f.with(c.Context(), func(d *digest.Digest) error {
			list, err := d.Rank(c.Context(), digest.Topics(strings.Join(topics, ",")), n)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(list)
			}
			if len(list) == 0 {
				fmt.Fprintln(os.Stderr, "No paper fits; hasten digest fetch gets new ones.")
				return nil
			}
			text, err := d.Text(list)
			fmt.Print(text)
			return err
		})
	}
	return c
}

func (f *digestFlags) send() *cobra.Command {
	var now bool
	c := &cobra.Command{Use: "send", Short: "Send the digest to the readers whose hour has come", Args: cobra.NoArgs,
		Long: `Send the digest to the readers whose hour has come in their time zone and who have none of that day. No reader gets two of one
day, also if this process is killed and started again.`}
	c.Flags().BoolVar(&now, "now", false, "do not wait for the readers' hours")
	asJSON := addJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return f.with(c.Context(), func(d *digest.Digest) error {
			r, err := d.Send(c.Context(), now)
			if *asJSON {
				return errors.Join(err, printJSON(r))
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			for _, l := range r.Deliveries {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d papers\t%s\n", l.Address, l.Day, l.State, l.Papers, l.Note)
			}
			if err == nil && len(r.Deliveries) == 0 {
				fmt.Fprintln(os.Stderr, "Nobody is due.")
			}
			return errors.Join(err, w.Flush())
		})
	}
	return c
}

func (f *digestFlags) run() *cobra.Command {
	c := &cobra.Command{Use: "run", Short: "Fetch and send, day after day, until stopped", Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error {
		return f.with(c.Context(), func(d *digest.Digest) error { return d.Run(c.Context()) })
	}
	return c
}

func (f *digestFlags) subscribers() *cobra.Command {
	c := &cobra.Command{Use: "subscribers", Short: "Show and change who gets the digest", Args: cobra.NoArgs}
	list := &cobra.Command{Use: "list", Short: "List the readers", Args: cobra.NoArgs}
	asJSON := addJSON(list)
	list.RunE = func(c *cobra.Command, _ []string) error {
		return f.with(c.Context(), func(d *digest.Digest) error {
			readers, err := d.Readers(c.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(readers)
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			for _, r := range readers {
				since := "not confirmed"
				if !r.Since.IsZero() {
					since = "since " + r.Since.Format(time.DateOnly)
				}
				fmt.Fprintf(w, "%s\t%02d:00\t%s\t%s\t%s\n", r.Address, r.Hour, r.Zone, since, strings.Join(r.Topics, ", "))
			}
			return w.Flush()
		})
	}
	var topics []string
	r := digest.Reader{}
	add := &cobra.Command{Use: "add ADDRESS", Short: "Add a reader who has agreed to it: no mail asks", Args: cobra.ExactArgs(1)}
	add.Flags().StringSliceVar(&topics, "topics", nil, "topics, with commas between them; none for whatever is trending")
	add.Flags().IntVar(&r.Hour, "hour", 7, "hour from which the digest comes, 0 to 23")
	add.Flags().StringVar(&r.Zone, "zone", "UTC", "time zone, such as Europe/Berlin")
	add.RunE = func(c *cobra.Command, args []string) error {
		return f.with(c.Context(), func(d *digest.Digest) error {
			r.Address, r.Topics = args[0], digest.Topics(strings.Join(topics, ","))
			return d.Add(c.Context(), r)
		})
	}
	remove := &cobra.Command{Use: "remove ADDRESS", Short: "Forget a reader", Args: cobra.ExactArgs(1)}
	remove.RunE = func(c *cobra.Command, args []string) error {
		return f.with(c.Context(), func(d *digest.Digest) error { return d.Remove(c.Context(), args[0]) })
	}
	c.AddCommand(list, add, remove)
	c.RunE = list.RunE
	c.Flags().AddFlag(list.Flags().Lookup("json"))
	return c
}
