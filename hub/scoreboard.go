package hub

import (
	"cmp"
	"html/template"
	"net/http"
	"slices"

	"hasten/hub/catalogue"
	"hasten/hub/chart"
)

// scoreboardData is what the scoreboard's template shows.
type scoreboardData struct {
	Tally   tally
	Columns []column
	Rows    []*catalogue.Entry
	Planned bool // the planned are listed, too
	SVG     template.HTML
	Plotted int
}

// column is a column that rows can be sorted by.
type column struct {
	Name    string
	Link    string
	Sorted  string // ascending, descending or none, as in aria-sort
	Numeric bool
}

// order is a way to sort the scoreboard.
type order struct {
	key, name  string
	numeric    bool
	descending bool // at first
	by         func(a, b *catalogue.Entry) int
}

var orders = []order{
	{"number", "No.", true, false, func(a, b *catalogue.Entry) int { return a.Number - b.Number }},
	{"paper", "Paper", false, false, func(a, b *catalogue.Entry) int { return cmp.Compare(a.Title, b.Title) }},
	{"claim", "It claims", false, true, func(a, b *catalogue.Entry) int { return cmp.Compare(a.Claim().Ratio, b.Claim().Ratio) }},
	{"measured", "Measured here", false, true, func(a, b *catalogue.Entry) int {
		return cmp.Compare(catalogue.Gain(a.Headline()), catalogue.Gain(b.Headline()))
	}},
	{"verdict", "Verdict", false, false, catalogue.ByMeasure},
}

// scoreboard shows claims against measurements.
func (s *Server) scoreboard(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	all := s.papers.All()
	d := scoreboardData{Tally: count(all), Planned: q.Has("planned")}
	if d.Tally.Measured == 0 {
		d.Planned = true
	}
	for _, e := range all {
		if d.Planned || e.Verdict() != catalogue.Planned {
			d.Rows = append(d.Rows, e)
		}
	}
	at := slices.IndexFunc(orders, func(o order) bool { return o.key == q.Get("sort") })
	if at < 0 {
		at = len(orders) - 1
	}
	descending := orders[at].descending
	if q.Has("dir") {
		descending = q.Get("dir") == "desc"
	}
	slices.SortStableFunc(d.Rows, func(a, b *catalogue.Entry) int {
		c := orders[at].by(a, b)
		if descending {
			c = -c
		}
		return cmp.Or(c, a.Number-b.Number)
	})
	for i, o := range orders {
		c := column{Name: o.name, Sorted: "none", Numeric: o.numeric}
		down := o.descending
		if i == at {
			c.Sorted, down = "ascending", !descending
			if descending {
				c.Sorted = "descending"
			}
		}
		c.Link = "?sort=" + o.key + "&dir=" + map[bool]string{true: "desc", false: "asc"}[down]
		if q.Has("planned") {
			c.Link += "&planned"
		}
		d.Columns = append(d.Columns, c)
	}
	d.SVG, d.Plotted = plot(all)
	s.render(w, r, http.StatusOK, "scoreboard", "Scoreboard", d)
}

// plot sets claimed factors against measured ones, where both are factors.
func plot(all []*catalogue.Entry) (template.HTML, int) {
	c := chart.Chart{Title: "Claimed and measured factors", X: "claimed factor", Y: "measured factor", LogX: true, LogY: true, Diagonal: true, Wide: true}
	for _, e := range all {
		claim, gain := e.Claim().Ratio, catalogue.Gain(e.Headline())
		if claim > 0 && gain > 0 {
			c.Dots = append(c.Dots, chart.Dot{Name: e.Title, Link: "/papers/" + e.Slug, Class: e.Verdict(), X: claim, Y: gain})
		}
	}
	return c.SVG(), len(c.Dots)
}
