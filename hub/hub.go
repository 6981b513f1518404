// Package hub is the page that `hasten serve` shows: the catalogue of papers
// with what was measured of each, the scoreboard, and the training runs of this
// machine, live.
//
//	s, err := hub.New(hub.Options{Papers: hub.Papers(), Runs: "runs", State: db, Measure: hub.Reproduce})
//	err = s.Serve(ctx, listener) // until ctx is done
//
// Pages are made on the server and need no scripts; one small script makes
// search and runs live where scripts are allowed. A request passes, in order,
// the guard (guard.go: rates, host, headers, origin, password), a handler of the
// page (catalogue.go, paper.go, scoreboard.go, runs.go), and a template.
package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"sync"

	"hasten/hub/catalogue"
	"hasten/hub/job"
	"hasten/hub/runs"
	"hasten/hub/state"
	"hasten/lab/experiment"
	"hasten/lab/papers"
	"hasten/lab/reproduce"
	"hasten/lab/result"
)

// Options say what the page shows, and to whom.
type Options struct {
	Papers  []*catalogue.Entry
	Texts   []string // further texts to learn the meaning of words from, such as abstracts
	Runs    string   // folder of training runs
	State   *state.DB
	Measure job.Measure // measures a paper on this machine
	// Password is what visitors must give; "" lets everyone in, which is for
	// loopback addresses only: see Public.
	Password string
	Public   bool         // it listens beyond this machine: any name of the host is right
	Log      *slog.Logger // nil: slog.Default()
}

// Server is the page. Mount what else it shows before Serve or Handler.
type Server struct {
	papers *catalogue.Catalogue
	runs   *runs.Folder
	state  *state.DB
	jobs   *job.Runner
	views  *views
	guard  *guard
	mux    *http.ServeMux
	nav    []link
	log    *slog.Logger

	closing chan struct{} // closed by Close
	close   sync.Once
	work    sync.WaitGroup
}

// link is an entry of the navigation.
type link struct{ Path, Name string }

// New builds the page. Vectors for search by meaning are learnt in the
// background, or taken from the state. Close the server after use.
func New(o Options) (*Server, error) {
	if o.Public && o.Password == "" {
		return nil, errors.New("a page that others can reach needs a password")
	}
	kept, err := o.State.Results(context.Background())
	if err != nil {
		return nil, err
	}
	for _, e := range o.Papers {
		e.Here = kept[e.Slug]
	}
	c, err := catalogue.New(o.Papers)
	if err != nil {
		return nil, err
	}
	s := &Server{papers: c, runs: runs.Open(o.Runs), state: o.State, views: newViews(), log: o.Log, mux: http.NewServeMux(), closing: make(chan struct{})}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.jobs = job.New(func(ctx context.Context, slug string, quick bool, progress func(string)) (result.Result, error) {
		res, err := o.Measure(ctx, slug, quick, progress)
		if err != nil {
			return res, err
		}
		s.papers.Add(res)
		return res, s.state.AddResult(context.WithoutCancel(ctx), res)
	})
	s.guard = newGuard(o.Password, o.Public, s.views)
	s.nav = []link{{"/", "Catalogue"}, {"/scoreboard", "Scoreboard"}, {"/runs", "Runs"}}
	s.routes()
	s.work.Go(func() { s.learn(append(catalogue.Texts(o.Papers), o.Texts...)) })
	return s, nil
}

// Papers are the papers of this program, for Options.
func Papers() []*catalogue.Entry {
	var all []*catalogue.Entry
	for _, p := range papers.All() {
		e := &catalogue.Entry{Card: p.Card, Measured: p.Result}
		if p.Experiment != nil {
			e.Built, e.Code = true, p.Experiment.Code
		}
		all = append(all, e)
	}
	return all
}

// Reproduce measures a paper of this program in a process of its own, for
// Options.
func Reproduce(ctx context.Context, slug string, quick bool, progress func(string)) (result.Result, error) {
	p, ok := papers.Find(slug)
	if !ok || p.Experiment == nil {
		return result.Result{}, errors.New("there is no experiment for " + slug)
	}
	r := reproduce.Runner{Options: experiment.Options{Quick: quick, Watch: progress}}
	return r.Run(ctx, *p.Experiment)
}

// learn makes search by meaning possible.
func (s *Server) learn(texts []string) {
	h := sha256.New()
	for _, t := range texts {
		h.Write([]byte(t))
		h.Write([]byte{0})
	}
	key := hex.EncodeToString(h.Sum(nil))
	const name = "word vectors"
	v := new(catalogue.Vectors)
	if stored, err := s.state.Cached(context.Background(), name, key); err == nil && v.UnmarshalBinary(stored) == nil {
		s.papers.SetVectors(v)
		return
	}
	if v = catalogue.Learn(texts, s.closing); v == nil {
		return // closing
	}
	s.papers.SetVectors(v)
	text, err := v.MarshalBinary()
	if err == nil {
		err = s.state.Cache(context.Background(), name, key, text)
	}
	if err != nil {
		s.log.Warn("word vectors are not kept", "error", err)
	}
}

// Close stops the measurement that is under way, if any, and ends live pages.
func (s *Server) Close() error {
	s.close.Do(func() { close(s.closing) })
	s.jobs.Close()
	s.work.Wait()
	return s.papers.Close()
}

// Mount adds pages of another package below a path such as "/digest". They
// pass the same guard, and appear in the navigation unless name is "".
func (s *Server) Mount(path, name string, h http.Handler) {
	s.mux.Handle(path, h)
	s.mux.Handle(path+"/", h)
	if name != "" {
		s.nav = append(s.nav, link{path, name})
	}
}

// Tokened names requests, by patterns of http.ServeMux, that a token of their own
// authorises, such as those that links in mails lead to: they need neither the
// password nor the page's origin.
func (s *Server) Tokened(patterns ...string) {
	s.guard.tokened = append(s.guard.tokened, patterns...)
	for _, p := range patterns {
		s.guard.origin.AddInsecureBypassPattern(p)
	}
}

// Page answers with a page in the common layout.
func (s *Server) Page(w http.ResponseWriter, r *http.Request, status int, title string, body template.HTML) {
	s.render(w, r, status, "page", title, body)
}

// Handler is the page with its guard.
func (s *Server) Handler() http.Handler { return s.guard.wrap(s.mux) }

func (s *Server) routes() {
	s.mux.HandleFunc("GET /{$}", s.catalogue)
	s.mux.HandleFunc("GET /papers/{slug}", s.paper)
	s.mux.HandleFunc("POST /papers/{slug}/reproduce", s.reproduce)
	s.mux.HandleFunc("GET /live/reproduction/{slug}", s.reproduction)
	s.mux.HandleFunc("POST /reproduction/stop", s.stop)
	s.mux.HandleFunc("GET /scoreboard", s.scoreboard)
	s.mux.HandleFunc("GET /runs", s.runList)
	s.mux.HandleFunc("GET /live/runs", s.runListLive)
	s.mux.HandleFunc("GET /runs/{name}", s.run)
	s.mux.HandleFunc("GET /live/runs/{name}", s.runLive)
	s.mux.HandleFunc("GET /runs/{name}/log.jsonl", s.runJSONL)
	s.mux.HandleFunc("GET /runs/{name}/log.csv", s.runCSV)
	s.mux.HandleFunc("POST /theme", s.theme)
	s.mux.HandleFunc("GET /assets/{name}", s.views.asset)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusNotFound, "There is no such page.")
	})
}
