package digest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// answerTries is how often a mail of the outbox is tried.
const answerTries = 8

// Answer sends the mails of the outbox: links that people asked for. Unlike a
// digest, one of these may come twice when a process dies, with the same
// Message-ID.
func (d *Digest) Answer(ctx context.Context) error {
	rows, err := d.db.QueryContext(ctx, `SELECT id, reader, kind, tries FROM digest_outbox WHERE next <= ? ORDER BY id LIMIT 1000`, d.now().Unix())
	if err != nil {
		return err
	}
	type waiting struct {
		id, reader int64
		kind       string
		tries      int
	}
	var all []waiting
	for rows.Next() {
		var w waiting
		if err := rows.Scan(&w.id, &w.reader, &w.kind, &w.tries); err != nil {
			return errors.Join(err, rows.Close())
		}
		all = append(all, w)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(all) == 0 {
		return err
	}
	m, err := newMailer(d.config.Mail)
	if err != nil {
		return err
	}
	defer m.close()
	for _, w := range all {
		r, err := d.reader(ctx, w.reader)
		if errors.Is(err, errNoReader) {
			continue // and so is the mail
		}
		if err != nil {
			return err
		}
		msg, err := d.compose(w.kind, fmt.Sprint(w.id), r, nil)
		if err != nil {
			return err
		}
		out, err := m.deliver(ctx, msg, func() error { return nil })
		switch {
		case out == down || out == barred:
			return err
		case out == accepted || out == refused || w.tries+1 >= answerTries:
			if _, err := d.db.ExecContext(ctx, `DELETE FROM digest_outbox WHERE id = ?`, w.id); err != nil {
				return err
			}
		default:
			next := d.now().Add(time.Minute << w.tries)
			if _, err := d.db.ExecContext(ctx, `UPDATE digest_outbox SET tries = tries + 1, next = ? WHERE id = ?`, next.Unix(), w.id); err != nil {
				return err
			}
		}
		if err != nil {
			d.log.Warn("digest: a link that was asked for", "reader", r.Address, "error", err)
		}
	}
	return nil
}
