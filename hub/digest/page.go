package digest

import (
	"bytes"
	"errors"
	"html/template"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

// Show answers with a page in the layout of those around it.
type Show func(w http.ResponseWriter, r *http.Request, status int, title string, body template.HTML)

// Path is where the pages of the digest are.
const Path = "/digest"

// Tokened are the patterns of the requests that a token authorises. They come
// from mails: neither a session nor an origin can be asked of them.
var Tokened = []string{
	"GET /digest/style.css",
	"GET /digest/confirm", "POST /digest/confirm",
	"GET /digest/preferences", "POST /digest/preferences",
	"GET /digest/unsubscribe", "POST /digest/unsubscribe",
}

var pages = template.Must(template.New("").Funcs(funcs).ParseFS(files, "templates/page_*.html"))

// Handler serves the pages below Path: what is trending and how to subscribe,
// and what the links of mails lead to. Links change nothing by being followed,
// since mail scanners follow them; the button on their page does.
func (d *Digest) Handler(show Show) http.Handler {
	p := &site{d, show}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /digest", p.front)
	mux.HandleFunc("POST /digest", p.subscribe)
	mux.HandleFunc("GET /digest/confirm", p.confirmForm)
	mux.HandleFunc("POST /digest/confirm", p.confirm)
	mux.HandleFunc("GET /digest/preferences", p.preferencesForm)
	mux.HandleFunc("POST /digest/preferences", p.preferences)
	mux.HandleFunc("GET /digest/unsubscribe", p.unsubscribeForm)
	mux.HandleFunc("POST /digest/unsubscribe", p.unsubscribe)
	mux.HandleFunc("GET /digest/style.css", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		http.ServeFileFS(w, r, files, "templates/style.css")
	})
	mux.HandleFunc("/digest/", func(w http.ResponseWriter, r *http.Request) {
		p.say(w, r, http.StatusNotFound, "There is no such page.")
	})
	return mux
}

type site struct {
	*Digest
	show Show
}

// view is what a template shows.
type view struct {
	Form    form
	Papers  []Ranked
	Asked   bool   // papers for topics are shown
	Open    bool   // there is a mail server: people can subscribe
	Problem string // with what was sent
	Done    string // what has been done
	Text    string
	Token   string
	Stop    string // token to unsubscribe
}

// form is what someone has filled in, or is to.
type form struct {
	Address, Topics, Zone string
	Hour                  int
	Hours                 [24]struct{}
	Zones                 []string
}

func newForm() form { return form{Zone: "UTC", Hour: 7, Zones: zones} }

// zones are offered; others can be written.
var zones = []string{
	"UTC", "Africa/Cairo", "Africa/Johannesburg", "Africa/Lagos", "Africa/Nairobi", "America/Bogota", "America/Chicago", "America/Denver",
	"America/Los_Angeles", "America/Mexico_City", "America/New_York", "America/Sao_Paulo", "America/Toronto", "Asia/Dhaka", "Asia/Dubai",
	"Asia/Ho_Chi_Minh", "Asia/Hong_Kong", "Asia/Jakarta", "Asia/Jerusalem", "Asia/Karachi", "Asia/Kolkata", "Asia/Manila", "Asia/Seoul", "Asia/Shanghai",
	"Asia/Singapore", "Asia/Taipei", "Asia/Tehran", "Asia/Tokyo", "Australia/Melbourne", "Australia/Sydney", "Europe/Amsterdam", "Europe/Berlin",
	"Europe/Istanbul", "Europe/Kyiv", "Europe/London", "Europe/Madrid", "Europe/Paris", "Europe/Rome", "Europe/Stockholm", "Europe/Warsaw",
	"Europe/Zurich", "Pacific/Auckland",
}

// reader is what a posted form says.
func (p *site) reader(r *http.Request) (Reader, form, error) {
	f := newForm()
	f.Address, f.Topics, f.Zone = r.PostFormValue("address"), r.PostFormValue("topics"), r.PostFormValue("zone")
	hour, err := strconv.Atoi(r.PostFormValue("hour"))
	if err != nil {
		return Reader{}, f, refusal{errHour}
	}
	f.Hour = hour
	return Reader{Address: f.Address, Topics: Topics(f.Topics), Hour: hour, Zone: f.Zone}, f, nil
}

func (p *site) page(w http.ResponseWriter, r *http.Request, status int, name, title string, v view) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, "page_"+name+".html", v); err != nil {
		p.broken(w, r, err)
		return
	}
	w.Header().Set("Referrer-Policy", "no-referrer") // addresses carry tokens
	p.show(w, r, status, title, template.HTML(b.String()))
}

func (p *site) say(w http.ResponseWriter, r *http.Request, status int, text string) {
	p.page(w, r, status, "say", "Daily papers", view{Text: text})
}

func (p *site) broken(w http.ResponseWriter, r *http.Request, err error) {
	p.log.Error("digest: a page", "path", r.URL.Path, "error", err)
	p.show(w, r, http.StatusInternalServerError, "Daily papers", "<p>Something went wrong here; the log says what.</p>")
}

// sentence is an error as a page says it.
func sentence(err error) string {
	text := err.Error()
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:] + "."
}

// previewed is how many papers the page shows.
const previewed = 10

func (p *site) front(w http.ResponseWriter, r *http.Request) {
	f := newForm()
	f.Topics = tidy(r.FormValue("topics"), maxTopics*maxTopic)
	p.frontWith(w, r, http.StatusOK, f, "")
}

func (p *site) frontWith(w http.ResponseWriter, r *http.Request, status int, f form, problem string) {
	topics := Topics(f.Topics)
	papers, err := p.Rank(r.Context(), topics[:min(len(topics), maxTopics)], previewed)
	if err != nil {
		p.broken(w, r, err)
		return
	}
	p.page(w, r, status, "front", "Daily papers", view{Form: f, Papers: papers, Asked: len(topics) > 0, Open: p.config.Mail.Host != "", Problem: problem})
}

// closed is what is said where the digest has no mail server.
const closed = "Nobody can subscribe here: the configuration of this page names no mail server."

func (p *site) subscribe(w http.ResponseWriter, r *http.Request) {
	if p.config.Mail.Host == "" {
		p.say(w, r, http.StatusServiceUnavailable, closed)
		return
	}
	reader, f, err := p.reader(r)
	if err == nil && !p.limits.allow(r.RemoteAddr) {
		w.Header().Set("Retry-After", "60")
		p.frontWith(w, r, http.StatusTooManyRequests, f, "Too many are subscribing from where you are. Try again in a minute.")
		return
	}
	if err == nil {
		err = p.Subscribe(r.Context(), reader)
	}
	switch {
	case errors.As(err, new(refusal)):
		p.frontWith(w, r, http.StatusUnprocessableEntity, f, sentence(err))
	case err != nil:
		p.broken(w, r, err)
	default:
		p.say(w, r, http.StatusOK, "Look into your mailbox: a mail with a link is on its way. The digest starts once you have followed it. If none comes, look among unwanted mail, or try again in ten minutes.")
	}
}

// expired answers a token that is no good.
func (p *site) expired(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errToken) || errors.Is(err, errNoReader) {
		p.page(w, r, http.StatusForbidden, "expired", "Daily papers", view{})
		return
	}
	p.broken(w, r, err)
}

func (p *site) confirmForm(w http.ResponseWriter, r *http.Request) {
	token := r.FormValue("t")
	id, err := p.readToken(confirm, token)
	if err == nil {
		_, err = p.Digest.reader(r.Context(), id)
	}
	if err != nil {
		p.expired(w, r, err)
		return
	}
	p.page(w, r, http.StatusOK, "confirm", "Confirm", view{Token: token})
}

func (p *site) confirm(w http.ResponseWriter, r *http.Request) {
	reader, err := p.Confirm(r.Context(), r.FormValue("t"))
	if err != nil {
		p.expired(w, r, err)
		return
	}
	p.showPreferences(w, r, reader, "You are subscribed. This is what you get; change it as you like.")
}

func (p *site) showPreferences(w http.ResponseWriter, r *http.Request, reader Reader, done string) {
	f := newForm()
	f.Address, f.Hour, f.Zone = reader.Address, reader.Hour, reader.Zone
	for i, t := range reader.Topics {
		if i > 0 {
			f.Topics += ", "
		}
		f.Topics += t
	}
	p.page(w, r, http.StatusOK, "preferences", "Your daily papers", view{Form: f, Done: done, Token: p.token(preferences, reader.ID), Stop: p.token(unsubscribe, reader.ID)})
}

func (p *site) preferencesForm(w http.ResponseWriter, r *http.Request) {
	id, err := p.readToken(preferences, r.FormValue("t"))
	var reader Reader
	if err == nil {
		reader, err = p.Digest.reader(r.Context(), id)
	}
	if err != nil {
		p.expired(w, r, err)
		return
	}
	p.showPreferences(w, r, reader, "")
}

func (p *site) preferences(w http.ResponseWriter, r *http.Request) {
	token := r.FormValue("t")
	want, f, err := p.reader(r)
	var now Reader
	if err == nil {
		now, err = p.Change(r.Context(), token, want)
	}
	switch {
	case errors.As(err, new(refusal)):
		p.page(w, r, http.StatusUnprocessableEntity, "preferences", "Your daily papers", view{Form: f, Problem: sentence(err), Token: token})
	case err != nil:
		p.expired(w, r, err)
	default:
		p.showPreferences(w, r, now, "That is noted.")
	}
}

func (p *site) unsubscribeForm(w http.ResponseWriter, r *http.Request) {
	token := r.FormValue("t")
	if _, err := p.readToken(unsubscribe, token); err != nil {
		p.expired(w, r, err)
		return
	}
	p.page(w, r, http.StatusOK, "unsubscribe", "Unsubscribe", view{Token: token})
}

// unsubscribe also answers the one click of RFC 8058, which mail providers post.
func (p *site) unsubscribe(w http.ResponseWriter, r *http.Request) {
	if err := p.Unsubscribe(r.Context(), r.FormValue("t")); err != nil {
		p.expired(w, r, err)
		return
	}
	p.say(w, r, http.StatusOK, "You are unsubscribed, and your address is deleted. No further mail will come.")
}

// limits bound how fast people subscribe: all together, and from one address.
type limits struct {
	all *rate.Limiter

	mu   *sync.Mutex
	from map[string]*rate.Limiter
}

const (
	allBurst   = 100 // and one a second
	eachBurst  = 10  // and one a minute
	maxRemotes = 4096
)

func newLimits() limits {
	return limits{rate.NewLimiter(rate.Every(time.Second), allBurst), new(sync.Mutex), map[string]*rate.Limiter{}}
}

func (l *limits) allow(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	each := l.from[host]
	if each == nil {
		if len(l.from) >= maxRemotes {
			clear(l.from)
		}
		each = rate.NewLimiter(rate.Every(time.Minute), eachBurst)
		l.from[host] = each
	}
	return each.Allow() && l.all.Allow()
}
