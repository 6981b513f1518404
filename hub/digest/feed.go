package digest

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/mmcdole/gofeed/atom"
)

// Manners towards those who publish feeds.
const (
	userAgent   = "hasten-digest (a daily e-mail of trending papers)"
	feedTimeout = 30 * time.Second
	maxFeed     = 16 << 20        // bytes
	apart       = time.Hour       // between two visits to a feed
	between     = 3 * time.Second // between two feeds: arXiv asks for it
	firstBack   = 5 * time.Minute // after a failure; doubled by each further one
	longestBack = 12 * time.Hour  // and never longer
	maxEntries  = 5000            // of one feed
	maxProblems = 20              // reported of one feed
	redirects   = 5
)

// What became of a visit to a feed.
const (
	Got       = "got"
	Unchanged = "unchanged" // since the last visit
	Waiting   = "waiting"   // it is too early for another visit
	Failed    = "failed"
)

// Fetched is what one feed gave.
type Fetched struct {
	Feed     string    `json:"feed"`
	State    string    `json:"state"`
	Papers   int       `json:"papers"` // in the feed
	New      int       `json:"new"`    // of them
	Problems []Problem `json:"problems"`
	Next     time.Time `json:"next"` // the earliest next visit
	Err      string    `json:"error,omitempty"`
}

// Problem is an entry that was left out.
type Problem struct {
	Feed  string `json:"feed"`
	Entry string `json:"entry"` // its place in the feed, and its name if it has one
	What  string `json:"problem"`
}

func newClient() *http.Client {
	return &http.Client{Timeout: feedTimeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) >= redirects {
			return fmt.Errorf("redirected %d times", redirects)
		}
		return nil
	}}
}

// Fetch visits the feeds whose time has come and keeps their papers. A feed
// that fails does not keep the others from being read: its Err says why.
func (d *Digest) Fetch(ctx context.Context) ([]Fetched, error) {
	var all []Fetched
	visited := false
	for _, f := range d.config.Feeds {
		v, err := d.visitOf(ctx, f)
		if err != nil {
			return all, err
		}
		if d.now().Before(v.next) {
			all = append(all, Fetched{Feed: f.Name, State: Waiting, Problems: []Problem{}, Next: v.next})
			continue
		}
		if visited {
			if err := d.pause(ctx, between); err != nil {
				return all, err
			}
		}
		visited = true
		got, err := d.fetch(ctx, f, v)
		if err != nil {
			return all, err
		}
		all = append(all, got)
	}
	return all, nil
}

// visit is what is remembered of a feed.
type visit struct {
	etag, modified string
	failures       int
	next           time.Time
}

func (d *Digest) visitOf(ctx context.Context, f Feed) (visit, error) {
	if _, err := d.db.ExecContext(ctx, `INSERT OR IGNORE INTO digest_feed (url) VALUES (?)`, f.URL); err != nil {
		return visit{}, err
	}
	var v visit
	var next int64
	err := d.db.QueryRowContext(ctx, `SELECT etag, modified, failures, next FROM digest_feed WHERE url = ?`, f.URL).Scan(&v.etag, &v.modified, &v.failures, &next)
	v.next = time.Unix(next, 0).UTC()
	return v, err
}

func (d *Digest) setVisit(ctx context.Context, f Feed, v visit) error {
	_, err := d.db.ExecContext(ctx, `UPDATE digest_feed SET etag = ?, modified = ?, failures = ?, next = ? WHERE url = ?`, v.etag, v.modified, v.failures, v.next.Unix(), f.URL)
	return err
}

// fetch visits one feed. The error is of this machine; what is wrong with the
// feed is in the answer.
func (d *Digest) fetch(ctx context.Context, f Feed, v visit) (Fetched, error) {
	got := Fetched{Feed: f.Name, State: Got, Problems: []Problem{}}
	a, err := d.get(ctx, f, v)
	var papers []Paper
	if err == nil && a.body != nil {
		papers, got.Problems, err = Parse(f, a.body)
	}
	if err != nil {
		if ctx.Err() != nil {
			return got, ctx.Err() // that is not the feed's failure
		}
		got.State, got.Err = Failed, err.Error()
		back := min(longestBack, firstBack<<min(v.failures, 10))
		v.failures++
		v.next = d.now().Add(max(back, a.retryAfter))
		got.Next = v.next
		return got, d.setVisit(ctx, f, v)
	}
	if a.body == nil {
		got.State = Unchanged
	} else {
		got.Papers = len(papers)
		if got.New, err = d.Keep(ctx, papers); err != nil {
			return got, err
		}
		v.etag, v.modified = a.etag, a.modified
	}
	v.failures, v.next = 0, d.now().Add(apart)
	got.Next = v.next
	return got, d.setVisit(ctx, f, v)
}

// answer is what a feed's server said.
type answer struct {
	body           []byte // nil: nothing has changed
	etag, modified string
	retryAfter     time.Duration
}

func (d *Digest) get(ctx context.Context, f Feed, v visit) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("User-Agent", userAgent)
	r.Header.Set("Accept", map[string]string{ArXiv: "application/atom+xml", HuggingFace: "application/json"}[f.Kind])
	if v.etag != "" {
		r.Header.Set("If-None-Match", v.etag)
	}
	if v.modified != "" {
		r.Header.Set("If-Modified-Since", v.modified)
	}
	resp, err := d.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{etag: resp.Header.Get("ETag"), modified: resp.Header.Get("Last-Modified"), retryAfter: d.retryAfter(resp.Header.Get("Retry-After"))}
	switch {
	case resp.StatusCode == http.StatusNotModified:
		return a, nil
	case resp.StatusCode != http.StatusOK:
		return a, fmt.Errorf("%s answers %s", f.URL, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxFeed+1))
	if err != nil {
		return a, err
	}
	if len(body) > maxFeed {
		return a, fmt.Errorf("%s answers with more than %d MiB", f.URL, maxFeed>>20)
	}
	a.body = body
	return a, nil
}

// retryAfter is how long a server asks us to stay away, at most a day.
func (d *Digest) retryAfter(header string) time.Duration {
	var wait time.Duration
	if s, err := strconv.Atoi(header); err == nil {
		wait = time.Duration(min(s, 86400)) * time.Second
	} else if t, err := http.ParseTime(header); err == nil {
		wait = t.Sub(d.now())
	}
	return max(0, min(wait, 24*time.Hour))
}

// Parse reads the papers of a feed. Entries that cannot be used are left out
// and reported; the error is for a text that is no such feed.
func Parse(f Feed, text []byte) ([]Paper, []Problem, error) {
	entries := map[string]func([]byte) ([]entry, error){ArXiv: parseAtom, HuggingFace: parseDaily}
	all, err := entries[f.Kind](text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	problems := []Problem{}
	var papers []Paper
	for i, e := range all[:min(len(all), maxEntries)] {
		if e.err == nil {
			e.err = e.paper.check()
		}
		if e.err == nil {
			papers = append(papers, e.paper)
			continue
		}
		if len(problems) < maxProblems {
			place := fmt.Sprintf("entry %d", i+1)
			if name := tidy(e.name, 100); name != "" {
				place += " (" + name + ")"
			}
			problems = append(problems, Problem{f.Name, place, e.err.Error()})
		}
	}
	return papers, problems, nil
}

// entry is an entry of a feed: a paper, or why it is none.
type entry struct {
	name  string
	paper Paper
	err   error
}

// maxDepth bounds how deep elements lie in each other; arXiv's lie four deep.
const maxDepth = 64

// shallow refuses a text with elements so deep that reading them, which recurses,
// takes memory and time out of all proportion.
func shallow(text []byte) error {
	x := xml.NewDecoder(bytes.NewReader(text))
	x.Strict = false
	depth := 0
	for {
		t, err := x.RawToken()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch t.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
		if depth > maxDepth {
			return fmt.Errorf("elements lie more than %d deep", maxDepth)
		}
	}
}

// parseAtom reads a feed as arXiv writes it.
func parseAtom(text []byte) ([]entry, error) {
	if err := shallow(text); err != nil {
		return nil, fmt.Errorf("this is no Atom feed: %w", err)
	}
	feed, err := new(atom.Parser).Parse(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("this is no Atom feed: %w", err)
	}
	var all []entry
	for _, e := range feed.Entries {
		if e == nil {
			continue
		}
		p := Paper{ArXiv: arxivOf(e.ID), Title: e.Title, Summary: e.Summary}
		for _, x := range e.Extensions["arxiv"]["doi"] {
			p.DOI = doiOf(x.Value)
		}
		for _, a := range e.Authors {
			if a != nil {
				p.Authors = append(p.Authors, a.Name)
			}
		}
		if e.PublishedParsed != nil {
			p.Published = e.PublishedParsed.UTC()
		} else if e.UpdatedParsed != nil {
			p.Published = e.UpdatedParsed.UTC()
		}
		all = append(all, entry{name: e.ID, paper: p})
	}
	return all, nil
}

// dailyPaper is an entry of Hugging Face's daily papers.
type dailyPaper struct {
	Paper struct {
		ID          string    `json:"id"`
		Title       string    `json:"title"`
		Summary     string    `json:"summary"`
		Upvotes     int       `json:"upvotes"`
		PublishedAt time.Time `json:"publishedAt"`
		Authors     []struct {
			Name string `json:"name"`
		} `json:"authors"`
	} `json:"paper"`
}

// parseDaily reads daily papers. Each entry is read by itself, so that a bad
// one does not take the others with it.
func parseDaily(text []byte) ([]entry, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("this is no list of daily papers: %w", err)
	}
	all := make([]entry, 0, len(raw))
	for _, r := range raw {
		var e dailyPaper
		err := json.Unmarshal(r, &e)
		q := &e.Paper
		p := Paper{ArXiv: arxivOf(q.ID), Title: q.Title, Summary: q.Summary, Votes: q.Upvotes, Published: q.PublishedAt.UTC()}
		for _, a := range q.Authors {
			p.Authors = append(p.Authors, a.Name)
		}
		if err == nil && p.ArXiv == "" && q.ID != "" {
			err = errors.New("its id is no identifier of arXiv")
		}
		all = append(all, entry{name: q.ID, paper: p, err: err})
	}
	return all, nil
}
