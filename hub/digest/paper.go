package digest

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Paper is a paper of the feeds.
type Paper struct {
	ID        int64     `json:"-"`
	ArXiv     string    `json:"arxiv,omitempty"` // identifier without version: 2401.01234, or cs/0112017
	DOI       string    `json:"doi,omitempty"`   // in lower case
	Title     string    `json:"title"`
	Summary   string    `json:"summary"`
	Authors   []string  `json:"authors"`
	URL       string    `json:"url"`
	Votes     int       `json:"votes"`
	Published time.Time `json:"published"`
}

// Bounds on what a feed may say of one paper; longer texts are cut.
const (
	maxTitle   = 500   // characters
	maxSummary = 8_000 // characters
	maxAuthors = 1_000
	maxName    = 200 // characters of an author's name
)

// arxivID matches an identifier of arXiv at the end of a text, and its version.
var arxivID = regexp.MustCompile(`^(\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?:v\d+)?$`)

// arxivOf takes the identifier from an address of arXiv or from the bare
// identifier, "" if there is none.
func arxivOf(text string) string {
	text = strings.TrimSpace(text)
	if _, rest, ok := strings.Cut(text, "arxiv.org/abs/"); ok {
		text = rest
	}
	m := arxivID.FindStringSubmatch(strings.TrimPrefix(text, "arXiv:"))
	if m == nil {
		return ""
	}
	return m[1]
}

// doiOf is a DOI in its usual form, "" if the text holds none.
func doiOf(text string) string {
	text = strings.ToLower(strings.TrimSpace(text))
	for _, prefix := range []string{"https://doi.org/", "http://doi.org/", "https://dx.doi.org/", "http://dx.doi.org/", "doi:"} {
		text = strings.TrimPrefix(text, prefix)
	}
	if !strings.HasPrefix(text, "10.") || !strings.Contains(text, "/") || len(text) > 300 || strings.ContainsAny(text, " \t\n") {
		return ""
	}
	return text
}

// nameOf is what two spellings of one title have in common: letters and digits
// in lower case.
func nameOf(title string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}

// tidy is a text on one line, with nothing in it that does not show, of at most
// n characters.
func tidy(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) > n {
		text = strings.TrimSpace(string([]rune(text)[:n-1])) + "…"
	}
	return text
}

// check makes a paper of a feed fit to be kept, or says what is wrong with it.
func (p *Paper) check() error {
	p.Title, p.Summary = tidy(p.Title, maxTitle), tidy(p.Summary, maxSummary)
	var authors []string
	for _, a := range p.Authors[:min(len(p.Authors), maxAuthors)] {
		if a = tidy(a, maxName); a != "" {
			authors = append(authors, a)
		}
	}
	p.Authors = authors
	p.Votes = max(0, p.Votes)
	switch {
	case p.Title == "":
		return errors.New("it has no title")
	case nameOf(p.Title) == "":
		return errors.New("its title has no letter")
	case p.Published.IsZero() || p.Published.Year() < 1970 || p.Published.Year() > 9999:
		return errors.New("it has no date, or none that can be read")
	case p.ArXiv != "":
		p.URL = "https://arxiv.org/abs/" + p.ArXiv
	case p.DOI != "":
		p.URL = "https://doi.org/" + p.DOI
	default:
		return errors.New("it has neither an identifier of arXiv nor a DOI")
	}
	return nil
}

// Keep stores papers and returns how many are new. What is known already is
// completed: votes rise, and identifiers are added.
func (d *Digest) Keep(ctx context.Context, papers []Paper) (added int, err error) {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	for _, p := range papers {
		isNew, err := keep(ctx, tx, p)
		if err != nil {
			return 0, err
		}
		if isNew {
			added++
		}
	}
	return added, tx.Commit()
}

// keep stores one paper. The same arXiv identifier or DOI is the same paper; so
// is the same title, unless identifiers of one kind say otherwise.
func keep(ctx context.Context, tx *sql.Tx, p Paper) (isNew bool, err error) {
	name := nameOf(p.Title)
	rows, err := tx.QueryContext(ctx, `SELECT id, ifnull(arxiv, ''), ifnull(doi, ''), votes, summary FROM digest_paper
		WHERE arxiv = ?1 OR doi = ?2
		OR name = ?3 AND (arxiv IS NULL OR ?1 IS NULL) AND (doi IS NULL OR ?2 IS NULL)
		ORDER BY id`, orNull(p.ArXiv), orNull(p.DOI), name)
	if err != nil {
		return false, err
	}
	var same []Paper
	for rows.Next() {
		var q Paper
		if err := rows.Scan(&q.ID, &q.ArXiv, &q.DOI, &q.Votes, &q.Summary); err != nil {
			rows.Close()
			return false, err
		}
		same = append(same, q)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return false, err
	}
	if len(same) == 0 {
		_, err := tx.ExecContext(ctx, `INSERT INTO digest_paper (arxiv, doi, name, title, summary, authors, url, votes, published) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			orNull(p.ArXiv), orNull(p.DOI), name, p.Title, p.Summary, strings.Join(p.Authors, "\n"), p.URL, p.Votes, p.Published.Unix())
		return true, err
	}
	// The first one stays, with what the others know; who was sent one of
	// them was sent this one.
	first := same[0]
	for _, q := range append(same[1:], p) {
		first.ArXiv, first.DOI = cmp.Or(first.ArXiv, q.ArXiv), cmp.Or(first.DOI, q.DOI)
		first.Votes = max(first.Votes, q.Votes)
		first.Summary = cmp.Or(first.Summary, q.Summary)
		if q.ID == 0 {
			continue
		}
		if _, err := tx.ExecContext(ctx, `UPDATE OR IGNORE digest_item SET paper = ? WHERE paper = ?`, first.ID, q.ID); err != nil {
			return false, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM digest_paper WHERE id = ?`, q.ID); err != nil {
			return false, err
		}
	}
	_, err = tx.ExecContext(ctx, `UPDATE digest_paper SET arxiv = ?, doi = ?, votes = ?, summary = ? WHERE id = ?`, orNull(first.ArXiv), orNull(first.DOI), first.Votes, first.Summary, first.ID)
	return false, err
}

// orNull stores "" as NULL, which is unlike any other.
func orNull(text string) sql.NullString { return sql.NullString{String: text, Valid: text != ""} }

// recent lists the papers published since a time, the first stored first.
func (d *Digest) recent(ctx context.Context, since time.Time) ([]Paper, error) {
	rows, err := d.db.QueryContext(ctx, `SELECT id, ifnull(arxiv, ''), ifnull(doi, ''), title, summary, authors, url, votes, published
		FROM digest_paper WHERE published >= ? ORDER BY id DESC LIMIT ?`, since.Unix(), maxRanked)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Paper
	for rows.Next() {
		var p Paper
		var authors string
		var published int64
		if err := rows.Scan(&p.ID, &p.ArXiv, &p.DOI, &p.Title, &p.Summary, &authors, &p.URL, &p.Votes, &published); err != nil {
			return nil, err
		}
		p.Authors = splitLines(authors)
		p.Published = time.Unix(published, 0).UTC()
		all = append(all, p)
	}
	return all, rows.Err()
}

// splitLines is the lines of a text; none of an empty one.
func splitLines(text string) []string {
	if text == "" {
		return []string{}
	}
	return strings.Split(text, "\n")
}
