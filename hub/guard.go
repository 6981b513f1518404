package hub

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits on what one visitor may ask for.
const (
	maxBody      = 64 << 10 // bytes of a form
	maxHeader    = 16 << 10
	perSecond    = 30 // requests of one address, on average
	burst        = 120
	maxAddresses = 4096 // whose rates are kept
	maxLive      = 64   // live connections at once
	answerWithin = 10 * time.Second
)

// policy lets a page load what the server itself serves, and nothing else:
// whatever a log, a paper or a name holds, it cannot run.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard stands before all pages.
type guard struct {
	public   bool
	sessions *sessions // nil: no password is asked for
	origin   *http.CrossOriginProtection
	tokened  []string      // patterns of requests that carry a token of their own
	live     chan struct{} // a place for each live connection

	mu    sync.Mutex
	rates map[netip.Addr]*visitor
}

// visitor is an address, and how much it asks for.
type visitor struct {
	limit *rate.Limiter
	seen  time.Time
}

func newGuard(password string, public bool, v *views) *guard {
	g := &guard{public: public, origin: http.NewCrossOriginProtection(), live: make(chan struct{}, maxLive), rates: map[netip.Addr]*visitor{}}
	if password != "" {
		g.sessions = newSessions(password, v)
	}
	return g
}

// wrap lets through to next what may pass.
func (g *guard) wrap(next http.Handler) http.Handler {
	if g.sessions != nil {
		next = g.sessions.wrap(next, g.tokened)
	}
	// Forms from other sites are refused by Sec-Fetch-Site or Origin, which
	// every browser sends with a POST; a request with neither comes from no
	// browser and carries nobody's cookie.
	next = g.origin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
		switch {
		case !g.allow(r.RemoteAddr):
			h.Set("Retry-After", "1")
			http.Error(w, "too many requests; wait a second", http.StatusTooManyRequests)
			return
		case !g.public && !local(r.Host):
			// A name that someone else made point here: without this check
			// their page could read ours.
			http.Error(w, "this page answers to localhost only", http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if !strings.HasPrefix(r.URL.Path, livePath) {
			ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
			defer cancel()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

// local reports whether the host of a request names this machine.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// allow counts a request of an address.
func (g *guard) allow(remote string) bool {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	addr := ap.Addr().Unmap()
	if addr.Is6() { // one household has 2⁶⁴ of them
		p, err := addr.WithZone("").Prefix(64)
		if err != nil {
			return false
		}
		addr = p.Addr()
	}
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.rates[addr]
	if v == nil {
		if len(g.rates) >= maxAddresses {
			g.forget(now)
		}
		v = &visitor{limit: rate.NewLimiter(perSecond, burst)}
		g.rates[addr] = v
	}
	v.seen = now
	return v.limit.AllowN(now, 1)
}

// forget drops the addresses whose limits have filled up again, or, when all
// are busy, any half of them.
func (g *guard) forget(now time.Time) {
	for a, v := range g.rates {
		if now.Sub(v.seen) > burst/perSecond*time.Second {
			delete(g.rates, a)
		}
	}
	for a := range g.rates {
		if len(g.rates) < maxAddresses/2 {
			break
		}
		delete(g.rates, a)
	}
}
