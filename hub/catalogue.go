package hub

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"hasten/hub/catalogue"
	"hasten/lab/result"
)

// shown is how many papers a page lists before "show more".
const shown = 60

// maxQuery bounds the length of a search, in bytes.
const maxQuery = 300

// catalogueData is what the catalogue's template shows.
type catalogueData struct {
	Query  string
	Filter catalogue.Filter
	Facets catalogue.Facets
	Tally  tally
	Found  found
}

// found is what a search found.
type found struct {
	Searched bool // there was a query
	Narrowed bool // there was a query or a filter
	Total    int
	Hits     []catalogue.Hit
	More     string // address of a longer list, "" if this is all
}

// tally counts papers by verdict.
type tally struct {
	Papers, Measured, Holds, Direction, No, Planned int
}

func count(entries []*catalogue.Entry) tally {
	t := tally{Papers: len(entries)}
	for _, e := range entries {
		switch result.Verdict(e.Verdict()) {
		case result.Holds:
			t.Holds++
		case result.Direction:
			t.Direction++
		case result.No:
			t.No++
		default:
			t.Planned++
		}
	}
	t.Measured = t.Papers - t.Planned
	return t
}

// catalogue is the first page: what was measured to help, and how much.
func (s *Server) catalogue(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	query := strings.TrimSpace(q.Get("q"))
	query = strings.ToValidUTF8(query[:min(len(query), maxQuery)], "")
	f := catalogue.Filter{Family: q.Get("family"), Stage: q.Get("stage"), Task: q.Get("task"), Verdict: q.Get("verdict")}
	hits, err := s.papers.Search(r.Context(), query, f)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	n := shown
	if asked, err := strconv.Atoi(q.Get("n")); err == nil {
		n = min(max(asked, shown), 1000)
	}
	d := catalogueData{Query: query, Filter: f, Facets: s.papers.Facets(), Tally: count(s.papers.All()),
		Found: found{Searched: query != "", Narrowed: query != "" || f != catalogue.Filter{}, Total: len(hits), Hits: hits[:min(n, len(hits))]}}
	if len(hits) > n {
		more := url.Values{"n": {strconv.Itoa(max(4*n, 240))}}
		for name, value := range map[string]string{"q": query, "family": f.Family, "stage": f.Stage, "task": f.Task, "verdict": f.Verdict} {
			if value != "" {
				more.Set(name, value)
			}
		}
		d.Found.More = "/?" + more.Encode()
	}
	if q.Get("part") == "found" {
		s.part(w, r, "found", d.Found)
		return
	}
	s.render(w, r, http.StatusOK, "catalogue", "Training speed-ups, measured", d)
}

// part answers with a part of a page, for the script.
func (s *Server) part(w http.ResponseWriter, r *http.Request, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := s.views.part(w, name, data); err != nil {
		s.log.Error("a part", "path", r.URL.Path, "error", err)
	}
}
