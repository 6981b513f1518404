package digest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"hasten/hub/catalogue"
	"hasten/lab/card"
)

// maxRanked bounds how many papers are ranked: the newest ones.
const maxRanked = 3000

// Ranked is a paper in its place.
type Ranked struct {
	Paper
	Score float64 `json:"score"`
	Topic string  `json:"topic,omitempty"` // the reader's topic it is nearest to
}

// Trend is what a paper is worth now by its votes: each counts, and all count
// less by the hour.
//
//	trend = (votes + 1) / (age in hours + 2)^1.5
//
// A paper without a vote counts as new papers do, and a paper with v votes is
// overtaken by a new one without any after about 2·v^⅔ hours. A date in the
// future counts as now.
func Trend(votes int, age time.Duration) float64 {
	return float64(votes+1) / math.Pow(max(0, age.Hours())+2, 1.5)
}

// nearScale is the place at which nearness has fallen to a quarter.
const nearScale = 10

// leastForMeaning is how many papers it takes to learn what words mean: with
// fewer, all of them are about everything.
const leastForMeaning = 100

// Rank lists the papers of the last days, the best first, at most n.
//
// Without topics the score is the trend. With topics it is trend × nearness,
// and papers that are near to none are left out. Nearness is 1/(1 + place/10)²,
// where place counts from 0 along the papers that search finds for the topic,
// by words and by meaning (package catalogue); of several topics the nearest
// counts. Equal scores keep the older paper first, so the order is always the
// same.
func (d *Digest) Rank(ctx context.Context, topics []string, n int) ([]Ranked, error) {
	return d.rank(ctx, topics, n, nil)
}

// rank leaves out the papers that skip holds.
func (d *Digest) rank(ctx context.Context, topics []string, n int, skip map[int64]bool) ([]Ranked, error) {
	d.mu.Lock() // an index is made once, and kept open while it is searched
	defer d.mu.Unlock()
	x, err := d.current(ctx)
	if err != nil {
		return nil, err
	}
	near := make([]float64, len(x.papers))
	about := make([]string, len(x.papers))
	for _, topic := range topics {
		hits, err := x.search.Search(ctx, topic, catalogue.Filter{})
		if err != nil {
			return nil, err
		}
		for place, h := range hits {
			if v := math.Pow(1+float64(place)/nearScale, -2); v > near[h.Number] {
				near[h.Number], about[h.Number] = v, topic
			}
		}
	}
	now := d.now()
	all := []Ranked{}
	for i, p := range x.papers {
		if skip[p.ID] || len(topics) > 0 && near[i] == 0 {
			continue
		}
		r := Ranked{Paper: p, Score: Trend(p.Votes, now.Sub(p.Published)), Topic: about[i]}
		if len(topics) > 0 {
			r.Score *= near[i]
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Ranked) int { return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID)) })
	return all[:min(n, len(all))], nil
}

// index is the papers of the last days, ready for searching.
type index struct {
	version string // of the papers
	texts   string // which papers they are
	papers  []Paper
	search  *catalogue.Catalogue
}

// current is the index of the papers as they are now. The caller holds mu.
func (d *Digest) current(ctx context.Context) (*index, error) {
	since := d.now().AddDate(0, 0, -d.config.Days)
	var version string
	err := d.db.QueryRowContext(ctx, `SELECT format('%d %d %d %d %d', count(*), min(id), max(id), sum(votes), sum(length(summary)))
		FROM digest_paper WHERE published >= ?`, since.Unix()).Scan(&version)
	if err != nil {
		return nil, err
	}
	if d.index != nil && d.index.version == version {
		return d.index, nil
	}
	papers, err := d.recent(ctx, since)
	if err != nil {
		return nil, err
	}
	var texts strings.Builder
	for _, p := range papers {
		fmt.Fprint(&texts, p.ID, ":", len(p.Summary), " ")
	}
	if d.index != nil && d.index.texts == texts.String() { // there are new votes only
		d.index.version, d.index.papers = version, papers
		return d.index, nil
	}
	entries := make([]*catalogue.Entry, len(papers))
	for i, p := range papers {
		entries[i] = &catalogue.Entry{Card: card.Card{Number: i, Slug: strconv.FormatInt(p.ID, 10), Title: p.Title, Summary: p.Summary}}
	}
	search, err := catalogue.New(entries)
	if err != nil {
		return nil, err
	}
	if len(papers) >= leastForMeaning {
		search.SetVectors(catalogue.Learn(catalogue.Texts(entries), nil))
	}
	if d.index != nil {
		if err := d.index.search.Close(); err != nil {
			return nil, err
		}
	}
	d.index = &index{version, texts.String(), papers, search}
	return d.index, nil
}
