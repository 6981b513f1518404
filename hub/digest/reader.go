package digest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones, on machines without them
	"unicode/utf8"
)

// Reader is one who gets the digest, or has asked for it.
type Reader struct {
	ID      int64     `json:"-"`
	Address string    `json:"address"`
	Topics  []string  `json:"topics"` // none: whatever is trending
	Hour    int       `json:"hour"`   // from which the digest may come, 0 to 23, in Zone
	Zone    string    `json:"zone"`   // such as Europe/Berlin
	Since   time.Time `json:"since"`  // when the address was confirmed; zero: it is not
}

// Bounds on what a reader may ask for.
const (
	maxTopics  = 10
	maxTopic   = 80  // characters
	maxAddress = 254 // bytes
	maxPending = 10_000
)

var errHour = errors.New("the hour is from 0 to 23")

// check puts what someone wrote in order, or says what is wrong with it.
func (r *Reader) check() error {
	a, err := mail.ParseAddress(strings.TrimSpace(r.Address))
	if err != nil || a.Name != "" || len(a.Address) > maxAddress || strings.ContainsAny(a.Address, "\r\n\x00\"") {
		return errors.New("that is no e-mail address such as you@example.org")
	}
	at := strings.LastIndexByte(a.Address, '@')
	r.Address = a.Address[:at] + strings.ToLower(a.Address[at:])
	var topics []string
	for _, t := range r.Topics {
		t = tidy(strings.TrimSpace(t), maxTopic)
		if t != "" && !slices.Contains(topics, t) {
			topics = append(topics, t)
		}
	}
	if len(topics) > maxTopics {
		return fmt.Errorf("those are %d topics; give at most %d", len(topics), maxTopics)
	}
	r.Topics = topics
	if r.Hour < 0 || r.Hour > 23 {
		return errHour
	}
	if _, err := zone(r.Zone); err != nil {
		return fmt.Errorf("%q is no time zone such as Europe/Berlin", tidy(r.Zone, 60))
	}
	return nil
}

// Topics are the topics of a text, which commas, semicolons or lines divide.
func Topics(text string) []string {
	text = strings.ToValidUTF8(text, "")
	var all []string
	for t := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(",;\r\n", r) }) {
		if t = tidy(t, maxTopic); t != "" && utf8.RuneCountInString(t) > 1 {
			all = append(all, t)
		}
	}
	return all
}

func zone(name string) (*time.Location, error) {
	if name == "" || name == "Local" { // this machine's own is nobody's business
		return nil, errors.New("no time zone")
	}
	return time.LoadLocation(name)
}

// today is the reader's date, and the moment of it from which the digest is due.
func (r *Reader) today(now time.Time) (day string, from time.Time, err error) {
	loc, err := zone(r.Zone)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("reader %s: %w", r.Address, err)
	}
	local := now.In(loc)
	y, m, d := local.Date()
	return local.Format(time.DateOnly), time.Date(y, m, d, r.Hour, 0, 0, 0, loc), nil
}

const readerColumns = `id, address, topics, hour, zone, since`

func scanReader(row interface{ Scan(...any) error }) (Reader, error) {
	var r Reader
	var topics string
	var since int64
	err := row.Scan(&r.ID, &r.Address, &topics, &r.Hour, &r.Zone, &since)
	r.Topics = splitLines(topics)
	if since != 0 {
		r.Since = time.Unix(since, 0).UTC()
	}
	return r, err
}

// Readers lists all readers, also those who have not confirmed yet.
func (d *Digest) Readers(ctx context.Context) ([]Reader, error) {
	rows, err := d.db.QueryContext(ctx, `SELECT `+readerColumns+` FROM digest_reader ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []Reader{}
	for rows.Next() {
		r, err := scanReader(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

var errNoReader = errors.New("there is no such reader")

func (d *Digest) reader(ctx context.Context, id int64) (Reader, error) {
	r, err := scanReader(d.db.QueryRowContext(ctx, `SELECT `+readerColumns+` FROM digest_reader WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoReader
	}
	return r, err
}

// Add takes a reader in without a mail that asks: whoever calls it answers for
// the reader's consent.
func (d *Digest) Add(ctx context.Context, r Reader) error {
	if err := r.check(); err != nil {
		return err
	}
	now := d.now().Unix()
	res, err := d.db.ExecContext(ctx, `INSERT INTO digest_reader (address, topics, hour, zone, since, asked) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
		ON CONFLICT (address) DO UPDATE SET topics = ?2, hour = ?3, zone = ?4, since = ?5 WHERE since = 0`,
		r.Address, strings.Join(r.Topics, "\n"), r.Hour, r.Zone, now)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, fmt.Errorf("%s is a reader already", r.Address))
	}
	return nil
}

// Remove forgets a reader, and everything about them.
func (d *Digest) Remove(ctx context.Context, address string) error {
	res, err := d.db.ExecContext(ctx, `DELETE FROM digest_reader WHERE address = ?`, strings.TrimSpace(address))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, fmt.Errorf("%s is no reader; hasten digest subscribers list shows them", address))
	}
	return nil
}

// How often one mailbox can be sent a link: nobody can use this page to fill
// someone's mailbox.
const (
	askApart = 10 * time.Minute
	asksADay = 3
)

// refusal is an error that the page shows to the one who asked.
type refusal struct{ error }

// Subscribe notes that someone wants the digest at an address, and puts the mail
// that asks for a confirmation into the outbox. Whether the address is known
// cannot be told from the answer: one that is gets a mail with a link to its
// preferences, and one that was sent a link just now gets none.
func (d *Digest) Subscribe(ctx context.Context, r Reader) error {
	if err := r.check(); err != nil {
		return refusal{err}
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	now := d.now()
	if _, err := tx.ExecContext(ctx, `DELETE FROM digest_reader WHERE since = 0 AND asked < ?`, now.Add(-confirmLasts).Unix()); err != nil {
		return err
	}
	var pending int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM digest_reader WHERE since = 0`).Scan(&pending); err != nil {
		return err
	}
	if pending >= maxPending {
		return refusal{errors.New("too many people are subscribing; try again tomorrow")}
	}
	// A mailbox whose day of asking is over starts a new one.
	_, err = tx.ExecContext(ctx, `INSERT INTO digest_reader (address, topics, hour, zone, since, asked) VALUES (?1, ?2, ?3, ?4, 0, 0)
		ON CONFLICT (address) DO UPDATE SET topics = ?2, hour = ?3, zone = ?4 WHERE since = 0`,
		r.Address, strings.Join(r.Topics, "\n"), r.Hour, r.Zone)
	if err != nil {
		return err
	}
	var id, since, asked int64
	var asks int
	if err := tx.QueryRowContext(ctx, `SELECT id, since, asked, asks FROM digest_reader WHERE address = ?`, r.Address).Scan(&id, &since, &asked, &asks); err != nil {
		return err
	}
	last := time.Unix(asked, 0)
	if now.Sub(last) > 24*time.Hour {
		asks = 0
	}
	if now.Sub(last) >= askApart && asks < asksADay {
		kind := kindConfirm
		if since != 0 {
			kind = kindKnown
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO digest_outbox (reader, kind) VALUES (?, ?)`, id, kind); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE digest_reader SET asked = ?, asks = ? WHERE id = ?`, now.Unix(), asks+1, id); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	select {
	case d.nudge <- struct{}{}:
	default: // Run knows already
	}
	return nil
}

// Confirm makes a reader of the one whom a token was sent to.
func (d *Digest) Confirm(ctx context.Context, token string) (Reader, error) {
	id, err := d.readToken(confirm, token)
	if err != nil {
		return Reader{}, err
	}
	if _, err := d.db.ExecContext(ctx, `UPDATE digest_reader SET since = ? WHERE id = ? AND since = 0`, d.now().Unix(), id); err != nil {
		return Reader{}, err
	}
	return d.reader(ctx, id)
}

// Change sets what the reader of a token wants.
func (d *Digest) Change(ctx context.Context, token string, want Reader) (Reader, error) {
	id, err := d.readToken(preferences, token)
	if err != nil {
		return Reader{}, err
	}
	r, err := d.reader(ctx, id)
	if err != nil {
		return Reader{}, err
	}
	r.Topics, r.Hour, r.Zone = want.Topics, want.Hour, want.Zone
	if err := r.check(); err != nil {
		return r, refusal{err}
	}
	_, err = d.db.ExecContext(ctx, `UPDATE digest_reader SET topics = ?, hour = ?, zone = ? WHERE id = ?`, strings.Join(r.Topics, "\n"), r.Hour, r.Zone, id)
	return r, err
}

// Unsubscribe forgets the reader of a token. One who is gone already is gone.
func (d *Digest) Unsubscribe(ctx context.Context, token string) error {
	id, err := d.readToken(unsubscribe, token)
	if err != nil {
		return err
	}
	_, err = d.db.ExecContext(ctx, `DELETE FROM digest_reader WHERE id = ?`, id)
	return err
}
