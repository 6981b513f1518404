package hub

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"hasten/hub/chart"
	"hasten/hub/runs"
)

// Values that can be drawn, and what they can be drawn against; a run's log
// may have more.
var (
	quantities = []option{{"val_loss", "validation loss"}, {"train_loss", "training loss"}, {"bits_per_byte", "bits per byte"},
		{"tokens_per_s", "tokens per second"}, {"peak_share", "share of peak"}, {"lr", "learning rate"}, {"grad_norm", "gradient norm"}}
	axes = []option{{"step", "steps"}, {"tokens", "tokens"}, {"seconds", "seconds of training"}}
)

type option struct{ Key, Name string }

func nameOf(all []option, key string) string {
	if i := slices.IndexFunc(all, func(o option) bool { return o.Key == key }); i >= 0 {
		return all[i].Name
	}
	return strings.ReplaceAll(key, "_", " ")
}

// memoryPrefix begins the names of bytes in use, by kind.
const memoryPrefix = "memory/"

// maxCompared is how many runs one plot takes.
const maxCompared = chart.Hues

// runListData is what the template of all runs shows.
type runListData struct {
	Dir        string
	Rows       []runRow
	Chosen     []string
	Quantities []option
	Axes       []option
	Y, X       string
	Picture    picture
	Live       string // address of the live part, "" if nothing is running
}

type runRow struct {
	runs.Run
	Link      string
	Chosen    bool
	Step      float64
	Loss, Val float64
	Rate      float64
	Problem   string
}

// maxRows bounds the list: the newest.
const maxRows = 100

// runList lists the runs, and compares those that ?run= names.
func (s *Server) runList(w http.ResponseWriter, r *http.Request) {
	d, err := s.listRuns(r.URL.Query())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "runs", "Runs", d)
}

func (s *Server) runListLive(w http.ResponseWriter, r *http.Request) {
	s.live(w, r, func() (news, error) {
		d, err := s.listRuns(r.URL.Query())
		if err != nil {
			return news{}, err
		}
		version := d.Dir
		for _, row := range d.Rows {
			version += fmt.Sprint(row.Name, row.State, row.Step, row.Val)
		}
		return news{version: version, name: "runlist", data: d}, nil
	})
}

func (s *Server) listRuns(q url.Values) (runListData, error) {
	d := runListData{Dir: s.runs.Dir(), Y: cmp.Or(q.Get("y"), "train_loss"), X: cmp.Or(q.Get("x"), "step"), Quantities: quantities, Axes: axes}
	all, err := s.runs.List()
	if err != nil {
		return d, err
	}
	if len(all) > maxRows {
		all = all[:maxRows]
	}
	d.Chosen = q["run"]
	c := chart.Chart{Title: "Runs compared", X: nameOf(axes, d.X), Y: nameOf(quantities, d.Y), Wide: true}
	for _, run := range all {
		row := runRow{Run: run, Link: "/runs/" + url.PathEscape(run.Name), Step: math.NaN(), Loss: math.NaN(), Val: math.NaN(), Rate: math.NaN()}
		if run.State == runs.Running {
			d.Live = livePath + "runs?" + q.Encode()
		}
		log, err := s.runs.Log(run.Name)
		if err != nil {
			row.Problem = err.Error()
			d.Rows = append(d.Rows, row)
			continue
		}
		row.Step, row.Loss, row.Val, row.Rate = log.Last("step"), log.Last("train_loss"), log.Last("val_loss"), log.Last("tokens_per_s")
		if slices.Contains(d.Chosen, run.Name) && len(c.Lines) < maxCompared {
			row.Chosen = true
			line := chart.Line{Name: run.Name, X: log.Columns[d.X], Y: log.Columns[d.Y], Hue: len(c.Lines)}
			c.Lines = append(c.Lines, line)
			d.Picture.Legend = append(d.Picture.Legend, legend{Name: run.Name, Hue: line.Hue})
		}
		d.Rows = append(d.Rows, row)
	}
	d.Picture.Title, d.Picture.SVG = c.Title, c.SVG()
	return d, nil
}

// runData is what the template of a run shows.
type runData struct {
	runs.Run
	Link     string
	Broken   string
	Now      []now
	Pictures []picture
	Memory   []kind
	Total    float64 // bytes
	Axes     []option
	X        string
	Live     string
}

// now is the newest value of a quantity.
type now struct{ Name, Value string }

// kind is the memory of one kind of buffer.
type kind struct {
	Name        string
	Bytes       float64
	Hue         int
	From, Width float64 // of the bar, which is 100 long
}

// run shows a run.
func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	d, _, err := s.runOf(r)
	if errors.Is(err, runs.ErrNone) {
		s.fail(w, r, http.StatusNotFound, "There is no such run in "+s.runs.Dir()+".")
		return
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "run", d.Name, d)
}

func (s *Server) runLive(w http.ResponseWriter, r *http.Request) {
	s.live(w, r, func() (news, error) {
		d, version, err := s.runOf(r)
		if err != nil {
			return news{}, err
		}
		return news{version: fmt.Sprint(version, d.State), name: "rundata", data: d, last: d.State != runs.Running}, nil
	})
}

// runOf is the run of a request, and the version of its log.
func (s *Server) runOf(r *http.Request) (runData, int, error) {
	run, err := s.runs.Find(r.PathValue("name"))
	if err != nil {
		return runData{}, 0, err
	}
	log, err := s.runs.Log(run.Name)
	if err != nil {
		return runData{}, 0, err
	}
	d := runData{Run: run, Link: "/runs/" + url.PathEscape(run.Name), Broken: log.Broken, Axes: axes, X: cmp.Or(r.URL.Query().Get("x"), "step")}
	if run.State == runs.Running {
		d.Live = livePath + "runs/" + url.PathEscape(run.Name) + "?x=" + url.QueryEscape(d.X)
	}
	d.Now = newest(&log)
	d.draw(&log)
	d.memory(&log)
	return d, log.Version, nil
}

// newest are the values that the page shows large.
func newest(l *runs.Log) []now {
	var all []now
	add := func(key, name string, format func(float64) string) {
		if v := l.Last(key); !math.IsNaN(v) {
			all = append(all, now{name, format(v)})
		}
	}
	four := func(v float64) string { return strconv.FormatFloat(v, 'f', 4, 64) }
	add("train_loss", "training loss", four)
	add("val_loss", "validation loss", four)
	add("bits_per_byte", "bits per byte", four)
	add("tokens_per_s", "tokens per second", chart.Number)
	add("peak_share", "of the machine’s peak", func(v float64) string { return fmt.Sprintf("%.0f%%", 100*v) })
	add("step", "steps", chart.Number)
	add("tokens", "tokens", chart.Number)
	add("seconds", "training", func(v float64) string { return time.Duration(v * float64(time.Second)).Round(time.Second).String() })
	return all
}

// draw adds the pictures of a log.
func (d *runData) draw(l *runs.Log) {
	for _, p := range []struct {
		title, y string
		keys     []string
		zero     bool
	}{
		{"Loss", "loss", []string{"train_loss", "val_loss"}, false},
		{"Throughput", "tokens per second", []string{"tokens_per_s"}, true},
		{"Share of peak", "share", []string{"peak_share"}, true},
		{"Bits per byte", "bits per byte", []string{"bits_per_byte"}, false},
		{"Learning rate", "learning rate", []string{"lr"}, true},
		{"Gradient norm", "norm", []string{"grad_norm"}, true},
	} {
		c := chart.Chart{Title: p.title, X: nameOf(axes, d.X), Y: p.y, Zero: p.zero}
		shown := picture{Title: p.title}
		for i, key := range p.keys {
			if math.IsNaN(l.Last(key)) {
				continue
			}
			c.Lines = append(c.Lines, chart.Line{Name: nameOf(quantities, key), X: l.Columns[d.X], Y: l.Columns[key], Hue: i})
			shown.Legend = append(shown.Legend, legend{Name: nameOf(quantities, key), Hue: i})
		}
		if len(shown.Legend) < 2 {
			shown.Legend = nil // the title says it
		}
		if shown.SVG = c.SVG(); shown.SVG != "" {
			d.Pictures = append(d.Pictures, shown)
		}
	}
}

// memory adds the bytes in use, by kind.
func (d *runData) memory(l *runs.Log) {
	for name := range l.Columns {
		if k, ok := strings.CutPrefix(name, memoryPrefix); ok {
			if b := l.Last(name); b > 0 {
				d.Memory = append(d.Memory, kind{Name: k, Bytes: b})
				d.Total += b
			}
		}
	}
	slices.SortFunc(d.Memory, func(a, b kind) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Name, b.Name)) })
	from := 0.0
	for i := range d.Memory {
		k := &d.Memory[i]
		k.Hue, k.From, k.Width = i%chart.Hues, from, 100*k.Bytes/d.Total
		from += k.Width
	}
}

// runJSONL is the log of a run as it is.
func (s *Server) runJSONL(w http.ResponseWriter, r *http.Request) {
	file, err := s.runs.Raw(r.PathValue("name"))
	if err != nil {
		s.fail(w, r, http.StatusNotFound, "There is no such run.")
		return
	}
	defer file.Close()
	download(w, "application/jsonl", r.PathValue("name")+".jsonl")
	io.Copy(w, file) // what fails here is the visitor's connection
}

// runCSV is the log of a run as a table.
func (s *Server) runCSV(w http.ResponseWriter, r *http.Request) {
	log, err := s.runs.Log(r.PathValue("name"))
	if err != nil {
		s.fail(w, r, http.StatusNotFound, "There is no such run.")
		return
	}
	download(w, "text/csv; charset=utf-8", r.PathValue("name")+".csv")
	var names []string
	for name := range log.Columns {
		names = append(names, name)
	}
	rank := func(name string) int {
		if i := slices.IndexFunc(axes, func(o option) bool { return o.Key == name }); i >= 0 {
			return i
		}
		return len(axes)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(rank(a)-rank(b), strings.Compare(a, b)) })
	c := csv.NewWriter(w)
	c.Write(names)
	line := make([]string, len(names))
	for i := range log.Records {
		for k, name := range names {
			line[k] = ""
			if v := log.Columns[name][i]; !math.IsNaN(v) {
				line[k] = strconv.FormatFloat(v, 'g', -1, 64)
			}
		}
		c.Write(line)
	}
	c.Flush() // what fails here is the visitor's connection
}

func download(w http.ResponseWriter, kind, name string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename*=UTF-8''`+url.PathEscape(strings.ReplaceAll(name, "/", "-")))
}

// Bar draws the memory of all kinds as one bar.
func (d runData) Bar() template.HTML {
	var b strings.Builder
	b.WriteString(`<svg class="memory" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">`)
	for _, k := range d.Memory {
		fmt.Fprintf(&b, `<rect class="fill hue%d" x="%.2f" width="%.2f" height="6"/>`, k.Hue, k.From, max(0.1, k.Width-0.2))
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}
