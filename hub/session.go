package hub

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	sessionCookie = "hasten-session"
	sessionLasts  = 12 * time.Hour
	maxSessions   = 1000
	hashRounds    = 200_000
)

// sessions lets in those who know the password.
type sessions struct {
	salt, hash []byte
	tries      *rate.Limiter // of all visitors together: guessing must be slow
	views      *views

	mu   sync.Mutex
	open map[[32]byte]time.Time // end of each session, by the hash of its token
}

func newSessions(password string, v *views) *sessions {
	s := &sessions{salt: []byte(rand.Text()), tries: rate.NewLimiter(rate.Every(2*time.Second), 5), views: v, open: map[[32]byte]time.Time{}}
	s.hash = s.digest(password)
	return s
}

func (s *sessions) digest(password string) []byte {
	key, err := pbkdf2.Key(sha256.New, password, s.salt, hashRounds, 32)
	if err != nil {
		panic(err) // sizes that a policy of the build does not allow
	}
	return key
}

// wrap asks for the password unless the session is open, or the request matches
// a pattern of those that carry a token.
func (s *sessions) wrap(next http.Handler, tokened []string) http.Handler {
	mux := http.NewServeMux()
	for _, pattern := range tokened {
		mux.Handle(pattern, next)
	}
	mux.HandleFunc("GET /assets/{name}", s.views.asset) // the login page's own
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) { s.form(w, r, http.StatusOK, "") })
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.valid(r):
			next.ServeHTTP(w, r)
		case r.Method == http.MethodGet && !strings.HasPrefix(r.URL.Path, livePath):
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		default:
			http.Error(w, "log in first", http.StatusUnauthorized)
		}
	})
	return mux
}

func (s *sessions) form(w http.ResponseWriter, r *http.Request, status int, problem string) {
	s.views.write(w, status, "login", page{Title: "Log in", Theme: themeOf(r), Bare: true, Data: problem})
}

func (s *sessions) login(w http.ResponseWriter, r *http.Request) {
	if !s.tries.Allow() {
		w.Header().Set("Retry-After", "2")
		s.form(w, r, http.StatusTooManyRequests, "Too many tries. Wait a few seconds.")
		return
	}
	if subtle.ConstantTimeCompare(s.digest(r.PostFormValue("password")), s.hash) != 1 {
		s.form(w, r, http.StatusUnauthorized, "That is not the password.")
		return
	}
	token := rand.Text()
	s.mu.Lock()
	now := time.Now()
	for h, end := range s.open {
		if now.After(end) || len(s.open) >= maxSessions {
			delete(s.open, h)
		}
	}
	s.open[sha256.Sum256([]byte(token))] = now.Add(sessionLasts)
	s.mu.Unlock()
	http.SetCookie(w, s.cookie(r, token, int(sessionLasts.Seconds())))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *sessions) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		s.mu.Lock()
		delete(s.open, sha256.Sum256([]byte(c.Value)))
		s.mu.Unlock()
	}
	http.SetCookie(w, s.cookie(r, "", -1))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (s *sessions) cookie(r *http.Request, value string, seconds int) *http.Cookie {
	return &http.Cookie{Name: sessionCookie, Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
}

// valid reports whether a request belongs to an open session.
func (s *sessions) valid(r *http.Request) bool {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	end, ok := s.open[sha256.Sum256([]byte(c.Value))]
	return ok && time.Now().Before(end)
}
