package digest

import (
	"context"
	"fmt"

	"hasten/hub/state"
)

// mostAbstracts is the number of abstracts that words are learnt from: enough,
// and a matter of seconds.
const mostAbstracts = 2000

// Abstracts are titles and abstracts of the papers fetched last, for the page's
// search by meaning. There are none before the first fetch.
func Abstracts(ctx context.Context, db *state.DB) ([]string, error) {
	var tables int
	if err := db.SQL.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'digest_paper'").Scan(&tables); err != nil || tables == 0 {
		return nil, err
	}
	rows, err := db.SQL.QueryContext(ctx, "SELECT title, summary FROM digest_paper ORDER BY id DESC LIMIT ?", mostAbstracts)
	if err != nil {
		return nil, fmt.Errorf("reading the fetched papers: %w", err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var title, summary string
		if err := rows.Scan(&title, &summary); err != nil {
			return nil, err
		}
		all = append(all, title+"\n"+summary)
	}
	return all, rows.Err()
}
