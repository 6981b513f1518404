// Package digest sends the day's trending papers by mail: once a day, to those
// who asked for it, at the hour they chose, about what they care for.
//
//	c, err := digest.Load("digest.toml")
//	d, err := digest.Open(ctx, c, db, digest.Options{})
//	fetched, err := d.Fetch(ctx)         // feeds → papers
//	list, err := d.Rank(ctx, nil, 10)    // papers → what is trending now
//	report, err := d.Send(ctx, false)    // → mails to the readers who are due
//	err = d.Run(ctx)                     // all of it, until ctx is done
//
// Papers come from feeds (feed.go), are kept once each (paper.go), and ranked by
// votes, age and the reader's topics (rank.go). Readers come through the page
// (page.go, reader.go) and prove that the address is theirs by a signed link
// (token.go). How mails are handed over without one being sent twice is told in
// send.go.
package digest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"hasten/hub/state"
)

// Options are what tests set.
type Options struct {
	Now   func() time.Time                                 // nil: time.Now
	Pause func(ctx context.Context, d time.Duration) error // waits; nil: by the clock
	Log   *slog.Logger                                     // nil: slog.Default()
}

// Digest is the daily mail: its papers, its readers, its rules. It is safe for
// concurrent use.
type Digest struct {
	config Config
	db     *sql.DB
	now    func() time.Time
	pause  func(context.Context, time.Duration) error
	log    *slog.Logger
	client *http.Client
	key    []byte        // signs tokens
	nudge  chan struct{} // a mail waits in the outbox
	limits limits

	mu    sync.Mutex // guards index
	index *index
}

// schema is applied at every start; each statement leaves alone what is there.
// Times are Unix seconds.
const schema = `
CREATE TABLE IF NOT EXISTS digest_key (
	id  INTEGER PRIMARY KEY CHECK (id = 1),
	key BLOB NOT NULL -- signs tokens
);
CREATE TABLE IF NOT EXISTS digest_feed (
	url      TEXT PRIMARY KEY,
	etag     TEXT NOT NULL DEFAULT '',
	modified TEXT NOT NULL DEFAULT '', -- Last-Modified, as the server wrote it
	failures INTEGER NOT NULL DEFAULT 0, -- since the last success
	next     INTEGER NOT NULL DEFAULT 0  -- not to be asked before
);
CREATE TABLE IF NOT EXISTS digest_paper (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	arxiv     TEXT UNIQUE, -- without version; NULL: none
	doi       TEXT UNIQUE, -- in lower case; NULL: none
	name      TEXT NOT NULL, -- the title's letters and digits
	title     TEXT NOT NULL,
	summary   TEXT NOT NULL,
	authors   TEXT NOT NULL, -- one a line
	url       TEXT NOT NULL,
	votes     INTEGER NOT NULL,
	published INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS digest_paper_name ON digest_paper (name);
CREATE INDEX IF NOT EXISTS digest_paper_published ON digest_paper (published);
CREATE TABLE IF NOT EXISTS digest_reader (
	id      INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: old links stay dead
	address TEXT NOT NULL UNIQUE COLLATE NOCASE,
	topics  TEXT NOT NULL, -- one a line
	hour    INTEGER NOT NULL,
	zone    TEXT NOT NULL,
	since   INTEGER NOT NULL,            -- when the address was confirmed; 0: it is not
	asked   INTEGER NOT NULL,            -- when a link was last asked for
	asks    INTEGER NOT NULL DEFAULT 0   -- and how often that day
);
CREATE TABLE IF NOT EXISTS digest_delivery (
	reader INTEGER NOT NULL REFERENCES digest_reader (id) ON DELETE CASCADE,
	day    TEXT NOT NULL, -- in the reader's zone
	state  TEXT NOT NULL, -- see send.go
	note   TEXT NOT NULL DEFAULT '',
	at     INTEGER NOT NULL,
	PRIMARY KEY (reader, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS digest_item (
	reader INTEGER NOT NULL,
	day    TEXT NOT NULL,
	paper  INTEGER NOT NULL REFERENCES digest_paper (id) ON DELETE CASCADE,
	PRIMARY KEY (reader, day, paper),
	FOREIGN KEY (reader, day) REFERENCES digest_delivery (reader, day) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS digest_outbox (
	id     INTEGER PRIMARY KEY,
	reader INTEGER NOT NULL REFERENCES digest_reader (id) ON DELETE CASCADE,
	kind   TEXT NOT NULL, -- confirm or known
	tries  INTEGER NOT NULL DEFAULT 0,
	next   INTEGER NOT NULL DEFAULT 0 -- not to be tried before
);`

// Open makes a digest on the page's database. c must have been checked: it
// comes from Load or Default.
func Open(ctx context.Context, c Config, db *state.DB, o Options) (*Digest, error) {
	d := &Digest{config: c, db: db.SQL, now: o.Now, pause: o.Pause, log: o.Log, client: newClient(), nudge: make(chan struct{}, 1), limits: newLimits()}
	if d.now == nil {
		d.now = time.Now
	}
	if d.pause == nil {
		d.pause = pause
	}
	if d.log == nil {
		d.log = slog.Default()
	}
	if _, err := d.db.ExecContext(ctx, schema); err != nil {
		return nil, fmt.Errorf("the digest's tables: %w", err)
	}
	fresh := make([]byte, 32)
	rand.Read(fresh)
	if _, err := d.db.ExecContext(ctx, `INSERT OR IGNORE INTO digest_key (id, key) VALUES (1, ?)`, fresh); err != nil {
		return nil, err
	}
	if err := d.db.QueryRowContext(ctx, `SELECT key FROM digest_key`).Scan(&d.key); err != nil {
		return nil, err
	}
	return d, nil
}

// pause waits by the clock.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Close frees what the digest holds; the database stays open.
func (d *Digest) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.index == nil {
		return nil
	}
	err := d.index.search.Close()
	d.index = nil
	return err
}

// Between looks at what is due, the loop waits; longer after failures.
const (
	tick     = time.Minute
	longTick = 30 * time.Minute
)

// Run fetches, sends what is due and answers those who subscribe, until ctx is
// done; it then returns nil. What goes wrong is logged, and tried again.
func (d *Digest) Run(ctx context.Context) error {
	wait := tick
	for ctx.Err() == nil {
		if err := d.round(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("digest", "error", err, "again in", wait)
			wait = min(2*wait, longTick)
		} else {
			wait = tick
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-d.nudge:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

func (d *Digest) round(ctx context.Context) error {
	if d.config.Mail.Host != "" {
		if err := d.Answer(ctx); err != nil {
			return err
		}
	}
	fetched, err := d.Fetch(ctx)
	if err != nil {
		return err
	}
	for _, f := range fetched {
		if f.State != Waiting {
			d.log.Info("digest: feed", "feed", f.Feed, "state", f.State, "new", f.New, "error", f.Err)
		}
		for _, p := range f.Problems {
			d.log.Warn("digest: an entry is left out", "feed", p.Feed, "entry", p.Entry, "problem", p.What)
		}
	}
	if d.config.Mail.Host == "" {
		return nil
	}
	r, err := d.Send(ctx, false)
	for _, l := range r.Deliveries {
		d.log.Info("digest: mail", "reader", l.Address, "day", l.Day, "state", l.State, "note", l.Note)
	}
	return err
}
