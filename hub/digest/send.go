package digest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// A digest is handed to the server at most once per reader and day. SMTP cannot
// promise "exactly once" when a process dies: who gets no reply cannot know
// whether the mail was taken. So each step is written down durably (with
// synchronous=FULL, so that it survives a power cut) before it is taken:
//
//	begun    before connecting. The server has not got it: the next run sends it.
//	handed   when the server has got all but the line "." that ends the mail.
//	sent     after the server's reply 250.
//	refused  after a reply 5xx: no further try that day.
//	unknown  handed, and no reply came: never sent again.
//	empty    there was nothing new for the reader.
//
// A server delivers nothing before the ending line. Hence a process that dies
//
//   - while a delivery is begun has sent nothing: the reader gets the mail from
//     the next run;
//   - while it is handed, may have sent it: it counts as sent, is reported as
//     unknown, and its Message-ID, which follows from reader and day, finds it in
//     the server's log. Should the process die in the instant between the
//     record and the ending line, which is one write to the connection, this
//     reader misses this day.
//
// Nobody else is affected: who was not begun is begun by the next run. Papers of
// a delivery that is handed, sent or unknown are never sent to that reader again.
//
// One process sends at a time; see lock.
const (
	stateBegun   = "begun"
	stateHanded  = "handed"
	stateSent    = "sent"
	stateRefused = "refused"
	stateUnknown = "unknown"
	stateEmpty   = "empty"
)

// Delivery is what became of a reader's digest of a day.
type Delivery struct {
	Address string `json:"address"`
	Day     string `json:"day"`
	State   string `json:"state"`  // begun: put off to the next run
	Papers  int    `json:"papers"` // in the mail
	Note    string `json:"note,omitempty"`
}

// Report is what a run did.
type Report struct {
	Deliveries []Delivery `json:"deliveries"`
}

// Count is how many deliveries are in a state.
func (r *Report) Count(state string) int {
	n := 0
	for _, d := range r.Deliveries {
		if d.State == state {
			n++
		}
	}
	return n
}

// firstWait is the wait before the second try of a run; it doubles.
const firstWait = 5 * time.Second

// errStop ends a run: going on would be no use.
type errStop struct{ error }

func (e errStop) Unwrap() error { return e.error }

// Send sends the digest to the readers whose hour has come and who have none of
// that day: to all of them at once if early is set. Mails that the server puts
// off are tried again, and after some tries left to the next run; the error then
// says why.
func (d *Digest) Send(ctx context.Context, early bool) (r Report, err error) {
	r.Deliveries = []Delivery{}
	release, err := d.lock(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, release()) }()
	j, err := openJournal(ctx, d)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if r.Deliveries, err = j.recover(ctx); err != nil {
		return r, err
	}
	due, err := d.due(ctx, early)
	if err != nil || len(due) == 0 {
		return r, err
	}
	m, err := newMailer(d.config.Mail)
	if err != nil {
		return r, err
	}
	defer m.close()
	var lastErr error
	for try := range d.config.Mail.Tries {
		if try > 0 {
			if err := d.pause(ctx, firstWait<<(try-1)); err != nil {
				return r, errors.Join(lastErr, err)
			}
		}
		if due, lastErr = d.pass(ctx, m, j, due, &r); len(due) == 0 || errors.As(lastErr, new(errStop)) {
			break
		}
	}
	for _, t := range due {
		r.Deliveries = append(r.Deliveries, Delivery{Address: t.Address, Day: t.day, State: stateBegun, Note: "the next run sends it"})
	}
	if len(due) > 0 {
		return r, fmt.Errorf("left to the next run: %d of the mails: %w", len(due), lastErr)
	}
	return r, nil
}

// turn is a reader's turn.
type turn struct {
	Reader
	day string
}

// due lists whose turn it is.
func (d *Digest) due(ctx context.Context, early bool) ([]turn, error) {
	readers, err := d.Readers(ctx)
	if err != nil {
		return nil, err
	}
	now := d.now()
	var all []turn
	for _, r := range readers {
		if r.Since.IsZero() {
			continue
		}
		day, from, err := r.today(now)
		if err != nil {
			return nil, err
		}
		// Who subscribed after today's hour starts tomorrow.
		if !early && (now.Before(from) || r.Since.After(from)) {
			continue
		}
		var state string
		err = d.db.QueryRowContext(ctx, `SELECT state FROM digest_delivery WHERE reader = ? AND day = ?`, r.ID, day).Scan(&state)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		if state == "" || state == stateBegun || state == stateEmpty && early {
			all = append(all, turn{r, day})
		}
	}
	return all, nil
}

// pass tries each turn once and returns those that can be tried again, with the
// last reason.
func (d *Digest) pass(ctx context.Context, m *mailer, j *journal, turns []turn, r *Report) (again []turn, reason error) {
	for i, t := range turns {
		if err := ctx.Err(); err != nil {
			return append(again, turns[i:]...), errStop{err}
		}
		result, out, err := d.one(ctx, m, j, t)
		switch {
		case err != nil && (out == down || out == barred):
			if again = append(again, turns[i:]...); out == barred {
				err = errStop{err}
			}
			return again, err
		case result == nil: // later
			again = append(again, t)
			reason = fmt.Errorf("%s: %w", t.Address, err)
			if errors.As(err, new(errStop)) {
				return append(again, turns[i+1:]...), err
			}
		default:
			r.Deliveries = append(r.Deliveries, *result)
		}
	}
	return again, reason
}

// one takes one turn. Without a result it can be tried again.
func (d *Digest) one(ctx context.Context, m *mailer, j *journal, t turn) (*Delivery, outcome, error) {
	seen, err := d.seen(ctx, t.ID)
	if err != nil {
		return nil, later, errStop{err}
	}
	papers, err := d.rank(ctx, t.Topics, d.config.Papers, seen)
	if err != nil {
		return nil, later, errStop{err}
	}
	result := &Delivery{Address: t.Address, Day: t.day, Papers: len(papers)}
	gone := &Delivery{Address: t.Address, Day: t.day, State: stateRefused, Note: "unsubscribed meanwhile"}
	if len(papers) == 0 {
		result.State = stateEmpty
		if err := j.begin(ctx, t, stateEmpty, nil); errors.Is(err, errGone) {
			return gone, refused, nil
		} else if err != nil {
			return nil, later, errStop{err}
		}
		return result, accepted, nil
	}
	msg, err := d.compose(kindDigest, fmt.Sprint(t.ID, " ", t.day), t.Reader, papers)
	if err != nil {
		return nil, later, errStop{err}
	}
	if err := j.begin(ctx, t, stateBegun, papers); errors.Is(err, errGone) {
		return gone, refused, nil
	} else if err != nil {
		return nil, later, errStop{err}
	}
	// What has begun is brought to its end and written down, also when the run
	// is stopped meanwhile.
	ctx = context.WithoutCancel(ctx)
	out, err := m.deliver(ctx, msg, func() error { return j.set(ctx, t, stateBegun, stateHanded, "") })
	if errors.Is(err, errGone) {
		return gone, refused, nil
	}
	if err != nil {
		result.Note = err.Error()
	}
	switch out {
	case accepted:
		result.State = stateSent
	case refused:
		result.State = stateRefused
	case unknown:
		result.State = stateUnknown
	default:
		// A handed mail that the server put off is begun again.
		if jErr := j.set(ctx, t, "", stateBegun, result.Note); jErr != nil && !errors.Is(jErr, errGone) {
			return nil, later, errStop{errors.Join(err, jErr)}
		}
		return nil, out, err
	}
	// A reader who has unsubscribed by now has no delivery to be kept.
	if err := j.set(ctx, t, "", result.State, result.Note); err != nil && !errors.Is(err, errGone) {
		return nil, later, errStop{err}
	}
	return result, out, nil
}

// seen is the papers that a reader was sent, or may have been.
func (d *Digest) seen(ctx context.Context, reader int64) (map[int64]bool, error) {
	rows, err := d.db.QueryContext(ctx, `SELECT i.paper FROM digest_item i JOIN digest_delivery v USING (reader, day)
		WHERE i.reader = ? AND v.state IN (?, ?, ?)`, reader, stateHanded, stateSent, stateUnknown)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	seen := map[int64]bool{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		seen[id] = true
	}
	return seen, rows.Err()
}

// journal writes deliveries down. It has a connection of its own, on which what
// was committed is on the disk.
type journal struct {
	conn *sql.Conn
	now  func() time.Time
}

func openJournal(ctx context.Context, d *Digest) (*journal, error) {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, `PRAGMA synchronous = FULL`); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &journal{conn, d.now}, nil
}

func (j *journal) close() error {
	_, err := j.conn.ExecContext(context.Background(), `PRAGMA synchronous = NORMAL`) // as package state has it
	return errors.Join(err, j.conn.Close())
}

// recover settles what a process that died has left: see the top of this file.
func (j *journal) recover(ctx context.Context) ([]Delivery, error) {
	rows, err := j.conn.QueryContext(ctx, `UPDATE digest_delivery SET state = ?, note = ?, at = ? WHERE state = ?
		RETURNING (SELECT address FROM digest_reader WHERE id = reader), day, state, note`,
		stateUnknown, "the process died before the server's answer; it is not sent again", j.now().Unix(), stateHanded)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []Delivery{}
	for rows.Next() {
		var d Delivery
		if err := rows.Scan(&d.Address, &d.Day, &d.State, &d.Note); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, rows.Err()
}

// begin writes down that a delivery begins, with its papers.
func (j *journal) begin(ctx context.Context, t turn, state string, papers []Ranked) error {
	tx, err := j.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	res, err := tx.ExecContext(ctx, `INSERT INTO digest_delivery (reader, day, state, at) SELECT id, ?2, ?3, ?4 FROM digest_reader WHERE id = ?1
		ON CONFLICT (reader, day) DO UPDATE SET state = ?3, at = ?4, note = '' WHERE state IN (?5, ?6)`,
		t.ID, t.day, state, j.now().Unix(), stateBegun, stateEmpty)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, errGone)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM digest_item WHERE reader = ? AND day = ?`, t.ID, t.day); err != nil {
		return err
	}
	for _, p := range papers {
		if _, err := tx.ExecContext(ctx, `INSERT INTO digest_item (reader, day, paper) SELECT ?, ?, id FROM digest_paper WHERE id = ?`, t.ID, t.day, p.ID); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// errGone says that a reader has unsubscribed.
var errGone = errors.New("the reader is gone")

// set moves a delivery to a state, from one if it is not "".
func (j *journal) set(ctx context.Context, t turn, from, to, note string) error {
	res, err := j.conn.ExecContext(ctx, `UPDATE digest_delivery SET state = ?, note = ?, at = ? WHERE reader = ? AND day = ? AND (state = ? OR ? = '')`,
		to, note, j.now().Unix(), t.ID, t.day, from, from)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, errGone)
	}
	return nil
}

// ErrBusy says that another process is sending.
var ErrBusy = errors.New("another process is sending the digest")

// lock makes sure that one process sends at a time. The lock is one of the
// operating system's, on a file beside the database: it ends with the process,
// however that ends.
func (d *Digest) lock(ctx context.Context) (release func() error, err error) {
	var path string
	if err := d.db.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&path); err != nil {
		return nil, err
	}
	path = filepath.ToSlash(path + ".sending")
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive letter
	}
	name := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(0)"}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // which holds the lock
	if _, err := db.ExecContext(ctx, `BEGIN EXCLUSIVE`); err != nil {
		if strings.Contains(err.Error(), "SQLITE_BUSY") || strings.Contains(err.Error(), "locked") {
			err = ErrBusy
		}
		return nil, errors.Join(err, db.Close())
	}
	return db.Close, nil
}
