// Package state keeps what the page must remember in one SQLite file: results
// measured on this machine, and things that take a while to compute.
//
//	db, err := state.Open("hub.db")
//	err = db.AddResult(ctx, res)
//	all, err := db.Results(ctx)
package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"hasten/lab/result"
)

// DB is the open state. It is safe for concurrent use.
type DB struct {
	// SQL is the database itself, for packages that keep tables of their own.
	SQL *sql.DB
}

// schema is applied at every start; each statement leaves alone what is there.
const schema = `
CREATE TABLE IF NOT EXISTS result (
	id   INTEGER PRIMARY KEY,
	slug TEXT NOT NULL,
	json TEXT NOT NULL -- a result.Result
);
CREATE INDEX IF NOT EXISTS result_slug ON result (slug);
CREATE TABLE IF NOT EXISTS cache (
	name  TEXT PRIMARY KEY,
	key   TEXT NOT NULL, -- of what the value was computed from
	value BLOB NOT NULL
);`

// kept is how many results of one paper are kept: the newest.
const kept = 20

// Open opens the file, or makes it, with the folder it lies in. Others on the
// machine cannot read it.
func Open(path string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	slashed := filepath.ToSlash(abs)
	if slashed[0] != '/' {
		slashed = "/" + slashed // a drive letter
	}
	name := url.URL{Scheme: "file", Path: slashed, RawQuery: url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(ON)"},
		"_txlock": {"immediate"},
	}.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	if _, err := db.Exec(schema); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w; name another file with --state, or move this one away", path, err), db.Close())
	}
	return &DB{db}, nil
}

// Close closes the file.
func (db *DB) Close() error { return db.SQL.Close() }

// AddResult keeps a result, and of those of its paper the newest 20.
func (db *DB) AddResult(ctx context.Context, r result.Result) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tx, err := db.SQL.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `INSERT INTO result (slug, json) VALUES (?, ?)`, r.Slug, string(text)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM result WHERE slug = ? AND id NOT IN
		(SELECT id FROM result WHERE slug = ? ORDER BY id DESC LIMIT ?)`, r.Slug, r.Slug, kept); err != nil {
		return err
	}
	return tx.Commit()
}

// Results lists the results that are kept, by paper, newest first. One that
// cannot be read, such as an older version's, is left out.
func (db *DB) Results(ctx context.Context) (map[string][]result.Result, error) {
	rows, err := db.SQL.QueryContext(ctx, `SELECT json FROM result ORDER BY id DESC`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string][]result.Result{}
	for rows.Next() {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		if r, err := result.Parse(text); err == nil {
			all[r.Slug] = append(all[r.Slug], r)
		}
	}
	return all, rows.Err()
}

// Cached returns the value that was stored under a name for the same key, or
// nil if there is none.
func (db *DB) Cached(ctx context.Context, name, key string) ([]byte, error) {
	var value []byte
	err := db.SQL.QueryRowContext(ctx, `SELECT value FROM cache WHERE name = ? AND key = ?`, name, key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return value, err
}

// Cache stores a value under a name, in place of the one before.
func (db *DB) Cache(ctx context.Context, name, key string, value []byte) error {
	_, err := db.SQL.ExecContext(ctx, `INSERT INTO cache (name, key, value) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET key = excluded.key, value = excluded.value`, name, key, value)
	return err
}
