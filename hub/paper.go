package hub

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"hasten/hub/catalogue"
	"hasten/hub/chart"
	"hasten/hub/job"
	"hasten/lab/result"
)

// paperData is what the template of a paper shows.
type paperData struct {
	*catalogue.Entry
	Commands []string // how it is switched on
	Job      jobData
	Curves   []picture
}

// picture is a chart with its legend.
type picture struct {
	Title  string
	SVG    template.HTML
	Legend []legend
}

type legend struct {
	Name string
	Hue  int
	Dash bool
}

// jobData is the measurement under way, or the last one, seen from a paper.
type jobData struct {
	job.State
	Mine bool // it is of this paper
	Can  bool // this paper can be measured now
	Slug string
	Live string // address of the live part
}

func (s *Server) jobOf(e *catalogue.Entry) jobData {
	j := s.jobs.State()
	return jobData{State: j, Mine: j.Slug == e.Slug, Can: e.Built && !j.Active(), Slug: e.Slug, Live: livePath + "reproduction/" + e.Slug}
}

// entry is the paper of a request; where there is none, it has answered.
func (s *Server) entry(w http.ResponseWriter, r *http.Request) *catalogue.Entry {
	e := s.papers.Find(r.PathValue("slug"))
	if e == nil {
		s.fail(w, r, http.StatusNotFound, "There is no such paper. Search the catalogue for it.")
	}
	return e
}

// paper shows a paper: what it claims beside what was measured.
func (s *Server) paper(w http.ResponseWriter, r *http.Request) {
	e := s.entry(w, r)
	if e == nil {
		return
	}
	d := paperData{Entry: e, Commands: strings.Split(e.Use, "\n"), Job: s.jobOf(e)}
	if res := e.Result(); res != nil {
		d.Curves = curves(res.Curves)
	}
	s.render(w, r, http.StatusOK, "paper", e.Title, d)
}

// curves draws curves of the same quantities together, an arm in one colour.
func curves(all []result.Curve) []picture {
	var pictures []picture
	for len(all) > 0 {
		first := all[0]
		var others []result.Curve
		p := picture{Title: first.YName}
		c := chart.Chart{Title: first.YName, X: first.XName, Y: first.YName}
		for _, curve := range all {
			if curve.XName != first.XName || curve.YName != first.YName {
				others = append(others, curve)
				continue
			}
			i := slices.IndexFunc(p.Legend, func(l legend) bool { return l.Name == curve.Arm })
			if i < 0 {
				i = len(p.Legend)
				p.Legend = append(p.Legend, legend{Name: curve.Arm, Hue: i % chart.Hues, Dash: i >= chart.Hues})
			}
			c.Lines = append(c.Lines, chart.Line{Name: fmt.Sprintf("%s, seed %d", curve.Arm, curve.Seed), X: curve.X, Y: curve.Y, Hue: p.Legend[i].Hue, Dash: p.Legend[i].Dash})
		}
		if p.SVG = c.SVG(); p.SVG != "" {
			pictures = append(pictures, p)
		}
		all = others
	}
	return pictures
}

// reproduce begins to measure a paper on this machine.
func (s *Server) reproduce(w http.ResponseWriter, r *http.Request) {
	e := s.entry(w, r)
	if e == nil {
		return
	}
	if !e.Built {
		s.fail(w, r, http.StatusConflict, "This paper is planned: there is no experiment to run yet.")
		return
	}
	err := s.jobs.Start(e.Slug, r.PostFormValue("how") != "full")
	if errors.Is(err, job.ErrBusy) {
		s.fail(w, r, http.StatusConflict, "Another paper is being measured. Two at once would spoil each other’s timings; wait for it, or stop it.")
		return
	}
	http.Redirect(w, r, "/papers/"+e.Slug+"#run", http.StatusSeeOther)
}

// stop ends the measurement under way.
func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	s.jobs.Stop()
	to := "/"
	if slug := s.jobs.State().Slug; slug != "" {
		to = "/papers/" + slug + "#run"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// reproduction is the live part of a paper's page.
func (s *Server) reproduction(w http.ResponseWriter, r *http.Request) {
	e := s.papers.Find(r.PathValue("slug"))
	if e == nil {
		http.NotFound(w, r)
		return
	}
	s.live(w, r, func() (news, error) {
		j := s.jobOf(e)
		// The seconds go on while it runs.
		return news{version: fmt.Sprint(j.Version, int(j.Seconds)), name: "job", data: j, last: !j.Active()}, nil
	})
}
