package catalogue

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Hit is an entry that was found.
type Hit struct {
	*Entry
	Words   bool // it holds words of the query
	Meaning bool // it is about the same thing
}

// fuseK damps the weight of the first ranks. Source: Cormack, Clarke, Büttcher,
// "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
// Methods", SIGIR 2009.
const fuseK = 60

// Search lists what a query finds, the best first: Σ 1/(60+rank) over the
// ranking by words and the one by meaning. Without a query it lists all that
// pass the filter, ByMeasure.
func (c *Catalogue) Search(ctx context.Context, query string, f Filter) ([]Hit, error) {
	entries := c.All()
	words := split(query)
	if len(words) == 0 {
		var all []Hit
		for _, e := range entries {
			if f.passes(e) {
				all = append(all, Hit{Entry: e})
			}
		}
		slices.SortStableFunc(all, func(a, b Hit) int { return ByMeasure(a.Entry, b.Entry) })
		return all, nil
	}
	byWords, err := c.matchWords(ctx, words)
	if err != nil {
		return nil, err
	}
	score := make([]float64, len(entries))
	hits := map[int]Hit{}
	rank := func(ids []int, mark func(*Hit)) {
		n := 0
		for _, id := range ids {
			if !f.passes(entries[id]) {
				continue
			}
			n++
			score[id] += 1 / float64(fuseK+n)
			h := hits[id]
			h.Entry = entries[id]
			mark(&h)
			hits[id] = h
		}
	}
	rank(byWords, func(h *Hit) { h.Words = true })
	if m := c.meaning.Load(); m != nil {
		rank(m.nearest(c.lexicon, words), func(h *Hit) { h.Meaning = true })
	}
	ids := make([]int, 0, len(hits))
	for id := range hits {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b int) int {
		if score[a] == score[b] && hits[a].Words != hits[b].Words {
			return map[bool]int{true: -1, false: 1}[hits[a].Words] // what holds the words comes before what is like them
		}
		return cmp.Or(cmp.Compare(score[b], score[a]), a-b)
	})
	found := make([]Hit, len(ids))
	for i, id := range ids {
		found[i] = hits[id]
	}
	return found, nil
}

// databases numbers the indices of this process: each needs its own name.
var databases atomic.Int64

// index fills a full-text index in memory.
func index(entries []*Entry) (*sql.DB, error) {
	// memdb shares one database among connections, so searches run side by side.
	db, err := sql.Open("sqlite", fmt.Sprintf("file:/hasten-catalogue-%d?vfs=memdb", databases.Add(1)))
	if err != nil {
		return nil, err
	}
	// The database lives as long as a connection to it.
	db.SetMaxIdleConns(4)
	db.SetMaxOpenConns(4)
	if err := fill(db, entries); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func fill(db *sql.DB, entries []*Entry) error {
	if _, err := db.Exec(`CREATE VIRTUAL TABLE paper USING fts5(name, summary, rest, content='', tokenize='porter unicode61 remove_diacritics 2')`); err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	insert, err := tx.Prepare(`INSERT INTO paper (rowid, name, summary, rest) VALUES (?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for i, e := range entries {
		if _, err := insert.Exec(i+1, e.Slug+" "+e.Title, e.Summary, rest(e)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// rest is the text of an entry besides its title and summary.
func rest(e *Entry) string {
	parts := append([]string{e.Limits, e.Use, e.Family, e.Stage}, e.Tasks...)
	for _, claim := range e.Claims {
		parts = append(parts, claim.What)
	}
	return strings.Join(parts, " ")
}

// most bounds how many entries one ranking takes part with.
const most = 500

// matchWords ranks the entries that hold words of a query by BM25; a match in
// slug or title counts most. The last word may be the beginning of a longer
// one: people search while they type.
func (c *Catalogue) matchWords(ctx context.Context, words []string) ([]int, error) {
	var terms []string
	for i, w := range c.lexicon.telling(words) {
		terms = append(terms, `"`+w+`"`)
		if i == len(words)-1 && len(w) >= 3 {
			terms = append(terms, `"`+w+`"*`) // besides the word itself, which is stemmed
		}
	}
	rows, err := c.words.QueryContext(ctx, `SELECT rowid FROM paper WHERE paper MATCH ? AND rank MATCH 'bm25(10, 3, 1)' ORDER BY rank LIMIT ?`,
		strings.Join(terms, " OR "), most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id-1)
	}
	return ids, rows.Err()
}

// maxWords bounds the work of one query.
const maxWords = 32

// split is the words of a query: its first 32.
func split(query string) []string {
	words := fields(query)
	return words[:min(len(words), maxWords)]
}

// fields is the words of a text, in lower case.
func fields(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}
