package hub

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"math"
	"net/http"
	"path"
	"strings"
	"time"

	"hasten/hub/catalogue"
	"hasten/hub/chart"
	"hasten/lab/reproduce"
	"hasten/lab/result"
)

//go:embed templates/*.html assets/*
var files embed.FS

// views are the templates and assets.
type views struct {
	pages  map[string]*template.Template // by name, each with the layout
	assets map[string]assetFile
}

type assetFile struct {
	text []byte
	tag  string // of its content
}

// page is what the layout shows.
type page struct {
	Title string
	Theme string // light, dark, or "" for the visitor's own
	Bare  bool   // without navigation
	Nav   []navLink
	Back  string // the page's own address, for forms that return to it
	Busy  string // slug of the paper that is being measured
	Exit  bool   // there is a session to end
	Data  any
}

type navLink struct {
	link
	Current bool
}

func newViews() *views {
	v := &views{pages: map[string]*template.Template{}, assets: map[string]assetFile{}}
	names, err := fs.Glob(files, "assets/*")
	must(err)
	for _, name := range names {
		text, err := files.ReadFile(name)
		must(err)
		sum := sha256.Sum256(text)
		v.assets[path.Base(name)] = assetFile{text, hex.EncodeToString(sum[:6])}
	}
	shared := template.Must(template.New("").Funcs(v.funcs()).ParseFS(files, "templates/layout.html", "templates/parts.html"))
	names, err = fs.Glob(files, "templates/*.html")
	must(err)
	for _, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".html")
		if base == "layout" {
			continue
		}
		v.pages[base] = template.Must(template.Must(shared.Clone()).ParseFS(files, name))
	}
	return v
}

// must is for what is embedded, and held by the tests.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// contentType is that of the assets, whatever the machine's own tables say.
var contentType = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// asset serves an embedded file; its address carries a hash of its content.
func (v *views) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := v.assets[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", contentType[path.Ext(r.PathValue("name"))])
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	if r.URL.Query().Get("v") != a.tag {
		w.Header().Set("Cache-Control", "no-cache")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.text))
}

func (v *views) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":   func(name string) string { return "/assets/" + name + "?v=" + v.assets[name].tag },
		"number":  result.Number,
		"short":   chart.Number,
		"spread":  func(s result.Spread, unit string) string { return reproduce.Spread(s, unit) },
		"date":    func(t time.Time) string { return t.Local().Format("2 January 2006") },
		"ago":     ago,
		"amount":  amount,
		"meaning": meaning,
		"gain":    catalogue.Gain,
		"gainbar": gainBar,
		"times":   func(x float64) string { return result.Number(math.Round(x*100)/100) + "×" },
		"bytes":   byteSize,
		"known":   func(x float64) bool { return !math.IsNaN(x) },
		"seconds": func(s float64) string { return time.Duration(s * float64(time.Second)).Round(time.Second).String() },
		"word":    word,
		"join":    strings.Join,
		"reason":  reason,
	}
}

// part writes a template that is not a whole page.
func (v *views) part(w io.Writer, name string, data any) error {
	return v.pages["parts"].ExecuteTemplate(w, name, data)
}

// write answers with a page.
func (v *views) write(w http.ResponseWriter, status int, name string, p page) error {
	var b bytes.Buffer
	if err := v.pages[name].ExecuteTemplate(&b, "layout", p); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err := w.Write(b.Bytes())
	return err
}

// render answers with a page in the layout.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name, title string, data any) {
	p := page{Title: title, Theme: themeOf(r), Back: r.URL.RequestURI(), Exit: s.guard.sessions != nil, Data: data}
	if j := s.jobs.State(); j.Active() {
		p.Busy = j.Slug
	}
	for _, l := range s.nav {
		current := r.URL.Path == l.Path || l.Path != "/" && strings.HasPrefix(r.URL.Path, l.Path+"/") || l.Path == "/" && strings.HasPrefix(r.URL.Path, "/papers/")
		p.Nav = append(p.Nav, navLink{l, current})
	}
	if err := s.views.write(w, status, name, p); err != nil {
		s.log.Error("a page", "path", r.URL.Path, "error", err)
	}
}

// fail answers with a page that says what is wrong.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, status int, text string) {
	s.render(w, r, status, "error", http.StatusText(status), text)
}

// broken answers that something on this side went wrong.
func (s *Server) broken(w http.ResponseWriter, r *http.Request, err error) {
	s.log.Error("a page", "path", r.URL.Path, "error", err)
	s.fail(w, r, http.StatusInternalServerError, "Something went wrong here: "+err.Error())
}

// themeCookie remembers whether a visitor wants light or dark.
const themeCookie = "hasten-theme"

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

// theme sets it.
func (s *Server) theme(w http.ResponseWriter, r *http.Request) {
	c := &http.Cookie{Name: themeCookie, Value: r.PostFormValue("theme"), Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
	if c.Value != "light" && c.Value != "dark" {
		c.Value, c.MaxAge = "", -1
	}
	http.SetCookie(w, c)
	http.Redirect(w, r, back(r), http.StatusSeeOther)
}

// back is where a form came from: a path of this page and nothing else.
func back(r *http.Request) string {
	to := r.PostFormValue("back")
	if !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") {
		return "/"
	}
	return to
}

// amount is the measured value of a figure, to be shown large.
func amount(f *result.Figure) string {
	if f.Bar != nil && (f.Bar.Of == result.OfSpeedup || f.Bar.Of == result.OfRatio) && math.Abs(f.Value) < result.Diverged {
		return fmt.Sprintf("%.3g×", f.Value)
	}
	return f.Measured()
}

// meaning says what an amount is of: for factors, in words that are true above
// 1 and below.
func meaning(f *result.Figure) string {
	if f.Bar == nil {
		return f.Name
	}
	switch f.Bar.Of {
	case result.OfSpeedup:
		if f.Unit == "s" || f.Unit == "ms" {
			return "as fast: " + f.Name
		}
		return "better: " + f.Name
	case result.OfRatio:
		return "the baseline’s " + f.Name
	case result.OfDifference:
		return "against the baseline: " + f.Name
	}
	return f.Name
}

// reason is why a result does not hold, where its headline does not say it.
func reason(e *catalogue.Entry, r *result.Result) string {
	if f := r.Headline(e.Card.Headline); f != nil && strings.HasPrefix(r.Reason, f.Name+": ") {
		return ""
	}
	return r.Reason
}

// gainBar is a bar as long as a gain, on a logarithmic scale up to 16×; a loss
// has none.
func gainBar(gain float64) template.HTML {
	if gain <= 1 {
		return ""
	}
	const length = 88
	filled := min(1, math.Log2(gain)/4) * length
	return template.HTML(fmt.Sprintf(`<svg class="gainbar" viewBox="0 0 %d 4" width="%d" height="4" aria-hidden="true"><rect class="rail" width="%d" height="4" rx="2"/><rect class="fill" width="%.1f" height="4" rx="2"/></svg>`,
		length, length, length, max(4, filled)))
}

// word is a verdict, or that there is none yet, in words.
func word(verdict any) string {
	text := fmt.Sprint(verdict)
	switch result.Verdict(text) {
	case result.Holds:
		return "holds"
	case result.Direction:
		return "right direction"
	case result.No:
		return "not shown here"
	}
	return text
}

func byteSize(n float64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", n/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", n/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", n/(1<<10))
	}
	return fmt.Sprintf("%.0f B", n)
}

func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < 5*time.Second:
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f seconds ago", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f minutes ago", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f hours ago", d.Hours())
	}
	return t.Local().Format("2 January 2006")
}
